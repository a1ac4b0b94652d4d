//! Matrices of any rank, grading and size, and their singular values by Jacobi's rotations.

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, ArrayD, ArrayView1, ArrayView2};

use crate::Numbers;
use crate::maps::Number;

/// Numbers of a matrix: of low rank, graded, with equal rows, with zeros, very large or small, or any bits.
pub fn numbers<E: Number>(u: &mut Unstructured<'_>, shape: [usize; 2]) -> Result<ArrayD<E>> {
    let kind: u8 = u.arbitrary()?;
    let exponent = *u.choose(&[0, 0, 0, 0, 4, -12, 100, -140, 300, -320, 1000, -1030])?;
    let mut numbers = Numbers::new(u)?;
    let n_terms = numbers.pick(&[1, 2, 3]);
    let factors: Vec<f64> = (0..n_terms * (shape[0] + shape[1])).map(|_| numbers.unit() - 0.5).collect();
    let (left, right) = factors.split_at(n_terms * shape[0]);
    let mut a = Array2::from_shape_fn(shape, |(i, j)| match kind % 5 {
        0 => f64::from(numbers.byte() % 5) - 2.0,
        1 => (0..n_terms).map(|t| left[i * n_terms + t] * right[j * n_terms + t]).sum(),
        _ => 2.0 * numbers.unit() - 1.0,
    });
    let digits = if kind & 0x18 == 0x18 { numbers.pick(&[0.5, 1.0, 4.0]) } else { 0.0 };
    for (j, mut column) in a.columns_mut().into_iter().enumerate() {
        let is_zero = kind & 0x60 == 0x20 && numbers.byte() & 3 == 0;
        let factor = if is_zero { 0.0 } else { 10_f64.powf(-digits * j.min(9) as f64) };
        column.mapv_inplace(|x| x * factor);
    }
    if kind & 0x60 == 0x40 {
        let first = a.row(0).to_owned();
        let keep = |row: &ArrayView1<'_, f64>| row[0] > 0.5;
        a.rows_mut().into_iter().filter(|row| !keep(&row.view())).for_each(|mut row| row.assign(&first));
    }
    // In two steps: the product of a power of two below all floats and one above 1 may be a float.
    let scale = |x: f64| x * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2);
    let mut made = a.mapv(|x| E::of(scale(x))).into_dyn();
    if kind & 0x60 == 0x60 {
        for x in &mut made {
            let (byte, word) = (numbers.byte(), numbers.word());
            *x = if byte == 0 { E::of_bits(word) } else { *x };
        }
    }
    Ok(made)
}

/// The power of two with which the largest number is from 1 to 2, or as near to it as floats allow.
pub fn scale_of(a: &Array2<f64>) -> f64 {
    let largest = a.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    2_f64.powi(-(largest.log2().floor().clamp(-1000.0, 1000.0) as i32))
}

/// All singular values, largest first: pairs of columns are rotated until all are orthogonal.
pub fn singular_values(a: &Array2<f64>) -> Vec<f64> {
    let tall = if a.nrows() < a.ncols() { a.t() } else { a.view() };
    let mut columns: Vec<Vec<f64>> = tall.columns().into_iter().map(|column| column.to_vec()).collect();
    for _ in 0..30 {
        let mut turned = false;
        for q in 1..columns.len() {
            let (before, rest) = columns.split_at_mut(q);
            let second = &mut rest[0];
            for first in before {
                let (alpha, beta, gamma) = (dot(first, first), dot(second, second), dot(first, second));
                if gamma.abs() <= 1e-16 * (alpha * beta).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                for (x, y) in first.iter_mut().zip(second.iter_mut()) {
                    (*x, *y) = (cosine * (*x - tangent * *y), cosine * (tangent * *x + *y));
                }
            }
        }
        if !turned {
            break;
        }
    }
    let mut values: Vec<f64> = columns.iter().map(|column| dot(column, column).sqrt()).collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values
}

/// A sum of products in pairs of halves, so that equal numbers do not all round the same way.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    if x.len() <= 16 {
        return x.iter().zip(y).map(|(x, y)| x * y).sum();
    }
    let ((first, second), (others, rest)) = (x.split_at(x.len() / 2), y.split_at(y.len() / 2));
    dot(first, others) + dot(second, rest)
}

/// The scalar products of rows with other rows.
pub fn products(rows: &ArrayView2<'_, f64>, others: &ArrayView2<'_, f64>) -> Array2<f64> {
    let (rows, others) = (rows.as_standard_layout(), others.as_standard_layout());
    Array2::from_shape_fn((rows.nrows(), others.nrows()), |(i, j)| {
        dot(rows.row(i).to_slice().expect("row by row"), others.row(j).to_slice().expect("row by row"))
    })
}

/// How far rows are from being orthonormal.
pub fn skew(rows: &Array2<f64>) -> f64 {
    let products = products(&rows.view(), &rows.view());
    (products - Array2::<f64>::eye(rows.nrows())).iter().fold(0.0, |most, x| most.max(x.abs()))
}
