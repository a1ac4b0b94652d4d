//! One-sided Jacobi rotations.

use std::cmp::Ordering;

use multiversion::multiversion;
use multiversion::target::target_cfg_f;
use ndarray::Array2;

use super::NOTHING;
use super::lanes::{Aligned, LANES, products};
use crate::error::Result;
use crate::threads::Cancel;

/// Some ten sweeps do; this is for what nobody has thought of.
const MAX_SWEEPS: usize = 60;

/// Singular values of a matrix `(n, n)`, row by row, largest first, and its right singular vectors, one per row.
pub fn decompose_square(matrix: &[f64], n: usize, cancel: &Cancel) -> Result<(Vec<f64>, Array2<f64>)> {
    let stride = n.next_multiple_of(LANES);
    let mut rows = Aligned::zeros(n * stride);
    for (row, numbers) in rows.chunks_exact_mut(stride).zip(matrix.chunks_exact(n)) {
        row[..n].copy_from_slice(numbers);
    }
    // Once all rows are orthogonal to one another they are s v.
    for _ in 0..MAX_SWEEPS {
        let mut done = true;
        for i in 0..n {
            cancel.check()?;
            done &= rotate(&mut rows[i * stride..], stride, n);
        }
        if done {
            break;
        }
    }
    let rows: Vec<&[f64]> = rows.chunks_exact(stride).collect();
    let values: Vec<f64> = rows.iter().map(|row| products(false, row, [row])[0].sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[j].partial_cmp(&values[i]).unwrap_or(Ordering::Equal));
    let right = Array2::from_shape_fn((n, n), |(t, c)| rows[order[t]][c] / values[order[t]]);
    Ok((order.iter().map(|&i| values[i]).collect(), right))
}

/// Rotates the first row against each that follows, so that the two are orthogonal. Whether all were so already.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn rotate(rows: &mut [f64], stride: usize, n: usize) -> bool {
    let fused = target_cfg_f!(target_feature = "fma");
    let tolerance = f64::EPSILON * (n as f64).sqrt();
    let (first, others) = rows.split_at_mut(stride);
    let mut done = true;
    for other in others.chunks_exact_mut(stride) {
        let [a, c] = products(fused, first, [first, other]);
        let [b] = products(fused, other, [other]);
        if c.abs() <= tolerance * a.sqrt() * b.sqrt() || a.min(b) < NOTHING {
            continue;
        }
        done = false;
        let zeta = (b - a) / (2.0 * c);
        let tangent = 1.0_f64.copysign(zeta) / (zeta.abs() + zeta.hypot(1.0));
        let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
        let sine = cosine * tangent;
        for (x, y) in first.iter_mut().zip(other) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
    done
}
