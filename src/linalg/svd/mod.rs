//! Truncated singular value decomposition of a tall matrix, without a copy of it.
//!
//! Rows come in blocks that stay in cache. The right singular vectors are those of a small square matrix, which LAPACK
//! decomposes. If the wanted singular values are of one order of magnitude, this is the Gram matrix `A' A`: it loses no digits
//! that matter, and nothing is faster. Otherwise it would lose up to half of the digits. Then Householder reflections work
//! each block into the triangular factor of its chunk, and the factors of the chunks into one, R, pair by pair (TSQR). This is
//! several times the work of the Gram matrix, which is then wasted.
//!
//! The left singular vectors are `A v / s`. If singular values are far apart, these are orthogonal to a few digits only. They
//! are then made orthonormal by the Cholesky factor of their Gram matrix, which is near the identity. This goes in order, the
//! vectors of large singular values first, so that each vector loses only its rounding errors.
//!
//! Blocks and chunks depend only on the shape, and sums run in eight interleaved parts. So the bits are the same for any
//! number of threads and any memory layout. The last bits depend on the processor: some processors add a product in one
//! instruction, and OpenBLAS has kernels for each kind.
//!
//! Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and sequential QR and LU factorizations", SIAM J. Sci.
//! Comput. 34(1), 2012.

mod blocks;
mod gram;
mod left;
mod tsqr;

use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

pub use self::blocks::Change;
use self::blocks::Tall;
use self::left::{distance_from_one, orthonormaliser};
use self::tsqr::largest_magnitude;
use crate::error::{Error, Result};
use crate::linalg::dense::svd_of_square;
use crate::num::real::Element;
use crate::threads::Cancel;

/// If the largest number, or a sum of squares, lies between 2 to this power and its reciprocal, no square that matters
/// overflows or vanishes.
const SAFE_EXPONENT: i32 = 300;
const SAFE: f64 = f64::from_bits((1023 + SAFE_EXPONENT as u64) << 52);
/// Columns and rows whose square is below this (2^-900) count as 0. Repeated rows leave such remainders: every block reduces
/// the remainder of the block before by the rounding unit, until reciprocals overflow.
const NOTHING: f64 = f64::from_bits((1023 - 900) << 52);
/// Numbers between two checks for cancellation.
const RUN: usize = 1 << 16;
/// What errors call the memory that grows with the square of the smaller side.
const SQUARE: &str = "the square of the smaller side of the matrix";
/// Left vectors whose Gram matrix is this near to 1 stay as they are.
const ORTHOGONAL: f64 = 1e-14;

/// The largest singular values and their vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Svd {
    /// Left singular vectors, one per row. The entry of largest magnitude, the first if there are several, is positive.
    pub left: Array2<f64>,
    /// Singular values, largest first.
    pub values: Vec<f64>,
    /// Right singular vectors, one per row.
    pub right: Array2<f64>,
}

/// The `k` largest singular values of a matrix `(m, n)` and their vectors. There are fewer if fewer are above
/// `eps * s_1 * max(m, n)`: smaller ones cannot be distinguished from 0.
pub fn truncated_svd<E: Element>(a: &ArrayView2<'_, E>, k: usize, cancel: &Cancel) -> Result<Svd> {
    let is_wide = a.nrows() < a.ncols();
    let tall = if is_wide { a.t() } else { a.view() };
    let Some(mut svd) = decompose(Tall { a: tall, change: None, scale: 1.0 }, k, cancel)? else {
        return Err(not_finite(a, cancel)?);
    };
    if is_wide {
        std::mem::swap(&mut svd.left, &mut svd.right);
    }
    fix_signs(&mut svd);
    Ok(svd)
}

/// The same for a matrix with at least as many rows as columns that is made from `a` block by block: `change` changes some
/// rows, and must leave rows of zeros as they are. `None` if not all numbers are finite.
pub fn truncated_svd_of<E: Element>(
    a: &ArrayView2<'_, E>,
    change: Change,
    k: usize,
    cancel: &Cancel,
) -> Result<Option<Svd>> {
    let mut svd = decompose(Tall { a: a.view(), change: Some(change), scale: 1.0 }, k, cancel)?;
    svd.iter_mut().for_each(fix_signs);
    Ok(svd)
}

/// The first number, in row-major order, that is not finite.
fn not_finite<E: Element>(a: &ArrayView2<'_, E>, cancel: &Cancel) -> Result<Error> {
    for (row, numbers) in a.rows().into_iter().enumerate() {
        for (chunk, numbers) in numbers.axis_chunks_iter(Axis(0), RUN).enumerate() {
            cancel.check()?;
            let mut values = numbers.iter().map(|value| value.widen().into());
            if let Some((i, value)) =
                values.by_ref().enumerate().find(|(_, value): &(_, f64)| !value.is_finite())
            {
                return Ok(Error::MatrixNotFinite { row, column: chunk * RUN + i, value });
            }
        }
    }
    unreachable!("one is not finite")
}

/// `None` if not all is finite.
fn decompose<E: Element>(mut tall: Tall<'_, E>, k: usize, cancel: &Cancel) -> Result<Option<Svd>> {
    let (m, n) = tall.a.dim();
    let (mut values, right) = if let Some(found) = tall.decompose_gram(k, cancel)? {
        found
    } else {
        let (mut r, largest) = tall.triangle(cancel)?;
        if !largest.is_finite() {
            return Ok(None);
        }
        // The limits keep the scale and its reciprocal finite. The logarithm of 0 is far below them.
        let exponent = largest.log2().clamp(-1000.0, 1000.0) as i32;
        if largest > 0.0 && exponent.abs() > SAFE_EXPONENT {
            tall.scale = 2.0_f64.powi(-exponent);
            r = tall.triangle(cancel)?.0;
        }
        let r = ArrayView2::from_shape((n, n), &r).expect("as many elements");
        let (values, mut right) = svd_of_square(&r)?;
        clear_zero_columns(&r, &mut right);
        (values, right)
    };
    let limit = f64::EPSILON * values.first().copied().unwrap_or(0.0) * m.max(n) as f64;
    let mut rank = values.iter().take(k).take_while(|&&value| value > limit).count();

    let (mut left, gram) = tall.times(&right.slice(s![..rank, ..]), &values[..rank], cancel)?;
    if distance_from_one(&gram) > ORTHOGONAL {
        let coefficients = orthonormaliser(&gram)?;
        rank = coefficients.nrows();
        left = left.slice_move(s![..rank, ..]);
        tall.transform(&mut left, &coefficients, cancel)?;
    }
    values.truncate(rank);
    for value in &mut values {
        *value /= tall.scale;
        if value.is_infinite() {
            return Err(Error::MatrixTooLarge);
        }
    }
    Ok(Some(Svd { left, values, right: right.slice_move(s![..rank, ..]) }))
}

/// Clears the entries of right singular vectors at columns of zeros (of the matrix, hence of the small matrix). Rounding
/// leaves `eps` there.
fn clear_zero_columns(square: &ArrayView2<'_, f64>, right: &mut Array2<f64>) {
    for (column, mut entries) in square.columns().into_iter().zip(right.columns_mut()) {
        if column.iter().all(|&number| number == 0.0) {
            entries.fill(0.0);
        }
    }
}

/// Chooses the signs of the pairs of vectors so that the largest entry of the left one is positive.
fn fix_signs(svd: &mut Svd) {
    let pairs = svd.left.axis_iter_mut(Axis(0)).into_par_iter().zip(svd.right.axis_iter_mut(Axis(0)));
    pairs.for_each(|(mut left, mut right)| {
        let entries = left.as_slice_mut().expect("rows are contiguous");
        let largest = f64::from_bits(largest_magnitude(entries));
        if entries.iter().find(|entry| entry.abs() == largest).is_some_and(|&entry| entry < 0.0) {
            // Not `-entry`: 0 stays 0.
            left.mapv_inplace(|entry| 0.0 - entry);
            right.mapv_inplace(|entry| 0.0 - entry);
        }
    });
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array};

    use super::*;

    fn svd(a: &Array2<f64>, k: usize) -> Svd {
        truncated_svd(&a.view(), k, &Cancel::default()).unwrap()
    }

    fn assert_near(found: &Array2<f64>, expected: &Array2<f64>, tolerance: f64) {
        assert_eq!(found.dim(), expected.dim());
        let error = (found - expected).iter().fold(0.0_f64, |max, error| max.max(error.abs()));
        assert!(error <= tolerance, "off by {error:e}");
    }

    #[test]
    fn a_matrix_of_one_column() {
        let found = svd(&array![[-3.0], [0.0], [4.0]], 1);
        assert_near(&found.left, &array![[-0.6, 0.0, 0.8]], 1e-15);
        assert_eq!((found.values, found.right), (vec![5.0], array![[1.0]]));
    }

    #[test]
    fn many_equal_rows_do_not_round_one_way() {
        let m = 1 << 17;
        let root = f64::from(m).sqrt();
        for number in [0.3, 0.55, 0.7] {
            let found = svd(&Array2::from_elem((m as usize, 1), number), 1);
            let share = found.values[0] / (number * root);
            assert!((share - 1.0).abs() <= 3e-14, "off by {:e}", share - 1.0);
            let entry = found.left[[0, 0]] * root;
            assert!((entry - 1.0).abs() <= 3e-14, "off by {:e}", entry - 1.0);
        }
    }

    #[test]
    fn three_samples_of_two_pixels() {
        // The centred samples of a worked example: singular values 0.2 and twice 0.
        let d = array![[0.1, 0.0, -0.1], [0.0, 0.0, 0.0], [-0.1, 0.0, 0.1], [0.0, 0.0, 0.0]];
        let found = svd(&d, 3);
        assert_eq!(found.values.len(), 1);
        assert!((found.values[0] - 0.2).abs() < 1e-16);
        let half = 0.5_f64.sqrt();
        assert_near(&found.left, &array![[half, 0.0, -half, 0.0]], 1e-15);
        assert_near(&found.right, &array![[half, 0.0, -half]], 1e-15);
    }

    #[test]
    fn the_zero_matrix_has_no_singular_values() {
        let found = svd(&Array2::zeros((7, 3)), 2);
        assert_eq!((found.left.dim(), found.values.len(), found.right.dim()), ((0, 7), 0, (0, 3)));
    }

    #[test]
    fn numbers_of_any_size() {
        let a = array![[3.0, 0.0], [0.0, 2.0], [4.0, 0.0]];
        for exponent in [-1022, -600, -301, -299, 0, 299, 301, 600, 1020] {
            let scale = 2.0_f64.powi(exponent);
            let found = svd(&(&a * scale), 2);
            assert_eq!(found.values, [5.0 * scale, 2.0 * scale]);
            assert_near(&found.left, &array![[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], 1e-15);
        }
        let found = truncated_svd(&Array2::from_elem((9, 2), f64::MAX).view(), 1, &Cancel::default());
        assert_eq!(found, Err(Error::MatrixTooLarge));
    }

    #[test]
    fn the_first_number_that_is_not_finite_is_named() {
        let mut a = Array2::<f64>::zeros((4000, 50));
        a[[3999, 0]] = f64::INFINITY;
        a[[3998, 7]] = f64::NEG_INFINITY;
        let error = Error::MatrixNotFinite { row: 3998, column: 7, value: f64::NEG_INFINITY };
        assert_eq!(truncated_svd(&a.view(), 1, &Cancel::default()), Err(error));
        let error = Error::MatrixNotFinite { row: 0, column: 3999, value: f64::INFINITY };
        assert_eq!(truncated_svd(&a.t(), 1, &Cancel::default()), Err(error));
    }

    #[test]
    fn the_largest_entry_is_positive_the_first_of_several() {
        let mut svd = Svd {
            left: array![[0.1, -0.7, 0.7], [-0.6, 0.0, 0.8]],
            values: vec![2.0, 1.0],
            right: array![[1.0, 0.0], [0.0, 1.0]],
        };
        fix_signs(&mut svd);
        assert_eq!(svd.left, array![[-0.1, 0.7, -0.7], [-0.6, 0.0, 0.8]]);
        assert_eq!(svd.right, array![[-1.0, 0.0], [0.0, 1.0]]);
    }

    #[test]
    fn many_equal_rows() {
        let found = svd(&Array2::from_shape_fn((6000, 50), |(_, j)| j as f64), 50);
        assert_eq!(found.values.len(), 1);
        assert!((found.values[0] / (6000.0 * 40425.0_f64).sqrt() - 1.0).abs() < 1e-14);
    }

    #[test]
    fn vectors_that_are_not_distinct_end_the_cholesky_factor() {
        let gram = array![[1.0, 0.0, 0.0], [0.6, 1.0, 0.0], [1.0, 0.6, 1.0]];
        let found = orthonormaliser(&gram).unwrap();
        assert_near(&found, &array![[1.0, 0.0], [-0.75, 1.25]], 1e-15);
    }

    #[test]
    fn columns_of_very_different_size_have_orthogonal_vectors() {
        let mixing = array![[1.0, 1.0, 1.0], [1.0, -1.0, 2.0], [1.0, 0.0, -3.0]];
        let a = Array2::from_shape_fn((500, 3), |(i, j)| {
            (i as f64 * (j + 1) as f64).sin() * 1e-6_f64.powi(j as i32)
        });
        let found = svd(&a.dot(&mixing), 3);
        assert!(found.values[0] > 1e10 * found.values[2]);
        assert_near(&found.left.dot(&found.left.t()), &Array2::eye(3), 1e-14);
        assert_near(&found.right.dot(&found.right.t()), &Array2::eye(3), 1e-14);
    }

    #[test]
    fn chunks_join_to_the_whole() {
        // Several chunks, the last one short, and an odd number of them.
        let a = Array2::from_shape_fn((7 * 2800 + 3, 50), |(i, j)| {
            let hash = (i * 50 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (hash >> 40) as f64 / f64::from(1 << 24) - 0.5
        });
        let found = svd(&a, 50);
        let scaled = &found.left.t() * &Array1::from(found.values.clone());
        assert_near(&scaled.dot(&found.right), &a, 1e-13);
        assert_near(&found.left.dot(&found.left.t()), &Array2::eye(50), 1e-14);
        assert_near(&found.right.dot(&found.right.t()), &Array2::eye(50), 1e-14);
    }
}
