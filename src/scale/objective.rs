//! The negative log-likelihood of a linear map of features, its gradient and the products of its Hessian.
//!
//! With features `u` (K numbers a pixel), `z = W u + b` and `p = softmax(z)`, the loss of a pixel of label `y` and weight `w`
//! is `w (log sum_k e^(z_k) - z_y)`. `W` is a diagonal or a matrix. Its gradient by `z` is `r = w (p - e_y)`; along a
//! direction `(W', b')`, with `z' = W' u + b'`, the gradient changes by `w (p z' - p <p, z'>)`. Both go back to the parameters
//! by the same sums: `r u` or `r u^T`, and `r`.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use crate::error::Result;
use crate::memory;
use crate::num::exp::double;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Numbers of a block of pixels that stay in cache.
const CACHED: usize = 1 << 12;

/// `z = W u + b`.
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `W`: K or K x K numbers, row by row.
    pub weight: &'a [f64],
    /// `b`: K numbers.
    pub bias: &'a [f64],
}

impl Linear<'_> {
    fn n_parameters(&self) -> usize {
        self.weight.len() + self.bias.len()
    }

    /// Writes `z` (K, m).
    fn apply(&self, features: &ArrayView2<'_, f64>, z: &mut ArrayViewMut2<'_, f64>) {
        let n_classes = features.nrows();
        if self.weight.len() == n_classes {
            for (k, (mut z, u)) in z.rows_mut().into_iter().zip(features.rows()).enumerate() {
                let (z, u) = (z.as_slice_mut().expect("rows"), u.to_slice().expect("rows"));
                scale_and_shift(u, self.weight[k], self.bias[k], z);
            }
            return;
        }
        let weight = ArrayView2::from_shape((n_classes, n_classes), self.weight).expect("K x K numbers");
        general_mat_mul(1.0, &weight, features, 0.0, z);
        for (mut z, b) in z.rows_mut().into_iter().zip(self.bias) {
            z.iter_mut().for_each(|z| *z += b);
        }
    }

    /// Adds what `r` (K, m) sums to, by parameter.
    fn add_back(&self, r: &ArrayView2<'_, f64>, features: &ArrayView2<'_, f64>, sums: &mut [f64]) {
        let n_classes = features.nrows();
        let (weight, bias) = sums.split_at_mut(self.weight.len());
        if self.weight.len() == n_classes {
            for ((weight, r), u) in weight.iter_mut().zip(r.rows()).zip(features.rows()) {
                *weight += dot(r.as_slice().expect("rows"), u.as_slice().expect("rows"));
            }
        } else {
            let mut weight =
                ArrayViewMut2::from_shape((n_classes, n_classes), weight).expect("K x K numbers");
            general_mat_mul(1.0, r, &features.t(), 1.0, &mut weight);
        }
        for (sum, r) in bias.iter_mut().zip(r.rows()) {
            *sum += total(r.as_slice().expect("rows"));
        }
    }
}

/// Pixels that a map is fitted to.
#[derive(Clone, Copy)]
pub struct Pixels<'a> {
    /// `u`, (K, N), row by row.
    pub features: ArrayView2<'a, f64>,
    /// Below K, (N,).
    pub labels: &'a [u16],
    /// (N,).
    pub weights: &'a [f64],
}

/// For each of some runs of pixels that follow each other: the loss, then its gradient by the parameters of the map.
pub fn gradients(
    pixels: &Pixels<'_>,
    ends: &[usize],
    map: &Linear<'_>,
    cancel: &Cancel,
) -> Result<Array2<f64>> {
    fold_runs(pixels, ends, 1 + map.n_parameters(), pixels.features.nrows(), cancel, |block, work, sums| {
        map.apply(&block.features, &mut work.z.view_mut());
        sums[0] += softmax(&mut work.z, block, &mut work.largest, &mut work.totals);
        for (j, (&label, &weight)) in block.labels.iter().zip(block.weights).enumerate() {
            work.z[[usize::from(label), j]] -= weight;
        }
        map.add_back(&work.z.view(), &block.features, &mut sums[1..]);
    })
}

/// For each of some runs of pixels: the product of the Hessian with a direction.
pub fn hessian_products(
    pixels: &Pixels<'_>,
    ends: &[usize],
    map: &Linear<'_>,
    direction: &Linear<'_>,
    cancel: &Cancel,
) -> Result<Array2<f64>> {
    fold_runs(pixels, ends, map.n_parameters(), pixels.features.nrows(), cancel, |block, work, sums| {
        map.apply(&block.features, &mut work.z.view_mut());
        softmax(&mut work.z, block, &mut work.largest, &mut work.totals);
        direction.apply(&block.features, &mut work.slopes.view_mut());
        curve(&mut work.z, &work.slopes, block, &mut work.totals);
        map.add_back(&work.z.view(), &block.features, sums);
    })
}

/// For each of some runs of pixels: the Hessian by the parameters of a map with K weights and K biases, `(G, 2 K, 2 K)`.
///
/// With `r = w p` it is a diagonal, of the sums of `r u^2`, `r u` and `r`, less the products of the rows `p u` and `p`.
pub fn hessians(
    pixels: &Pixels<'_>,
    ends: &[usize],
    map: &Linear<'_>,
    cancel: &Cancel,
) -> Result<Array3<f64>> {
    let (n_classes, n) = (pixels.features.nrows(), map.n_parameters());
    let cells = fold_runs(pixels, ends, n * n, 2 * n_classes, cancel, |block, work, sums| {
        map.apply(&block.features, &mut work.z.view_mut());
        softmax(&mut work.z, block, &mut work.largest, &mut work.totals);
        for (factor, &weight) in work.totals.iter_mut().zip(block.weights) {
            *factor = if weight > 0.0 { 1.0 / weight.sqrt() } else { 0.0 };
        }
        for (k, (r, u)) in work.z.rows().into_iter().zip(block.features.rows()).enumerate() {
            let (r, u) = (r.to_slice().expect("rows"), u.to_slice().expect("rows"));
            let (mut first, mut second) = work.slopes.multi_slice_mut((s![k, ..], s![n_classes + k, ..]));
            let (first, second) = (first.as_slice_mut().expect("rows"), second.as_slice_mut().expect("rows"));
            roots(r, u, &work.totals, first, second);
            let (square, product) = moments(r, u);
            let shift = n_classes + k;
            sums[k * n + k] += square;
            sums[k * n + shift] += product;
            sums[shift * n + k] += product;
            sums[shift * n + shift] += total(r);
        }
        let mut sums = ArrayViewMut2::from_shape((n, n), sums).expect("as many cells");
        general_mat_mul(-1.0, &work.slopes, &work.slopes.t(), 1.0, &mut sums);
    })?;
    Ok(cells.into_shape_with_order((ends.len(), n, n)).expect("as many cells"))
}

/// Buffers of a block.
struct Work {
    z: Array2<f64>,
    slopes: Array2<f64>,
    largest: Vec<f64>,
    totals: Vec<f64>,
}

impl Work {
    fn new(n_classes: usize, n_slopes: usize, len: usize) -> Self {
        let (z, slopes) = (Array2::zeros((n_classes, len)), Array2::zeros((n_slopes, len)));
        Self { z, slopes, largest: vec![0.0; len], totals: vec![0.0; len] }
    }
}

/// Sums `width` numbers over the blocks of each run, in their order, with a buffer of `n_slopes` rows.
fn fold_runs(
    pixels: &Pixels<'_>,
    ends: &[usize],
    width: usize,
    n_slopes: usize,
    cancel: &Cancel,
    add: impl Fn(&Pixels<'_>, &mut Work, &mut [f64]) + Sync,
) -> Result<Array2<f64>> {
    let n_classes = pixels.features.nrows();
    let len = (CACHED / n_classes).max(16);
    let n_cells = ends.len().saturating_mul(width);
    let mut cells = memory::filled(0.0, n_cells, "the gradients of runs of pixels", cancel)?;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let runs: Vec<Range<usize>> = starts.zip(ends).map(|(start, &end)| start..end).collect();
    cells.par_chunks_exact_mut(width).zip(runs).try_for_each(|(sums, run)| -> Result<()> {
        let mut work = Work::new(n_classes, n_slopes, len);
        for first in run.clone().step_by(len) {
            cancel.check()?;
            let at = first..run.end.min(first + len);
            if at.len() != work.z.ncols() {
                work = Work::new(n_classes, n_slopes, at.len());
            }
            let block = Pixels {
                features: pixels.features.slice(s![.., at.clone()]),
                labels: &pixels.labels[at.clone()],
                weights: &pixels.weights[at],
            };
            add(&block, &mut work, sums);
        }
        Ok(())
    })?;
    Ok(Array2::from_shape_vec((ends.len(), width), cells).expect("as many cells"))
}

/// Makes weighted probabilities of `z` (K, m) in its place, and gives the loss.
fn softmax(z: &mut Array2<f64>, block: &Pixels<'_>, largest: &mut [f64], totals: &mut [f64]) -> f64 {
    let n_pixels = block.labels.len();
    let mut loss = 0.0;
    for (j, (&label, &weight)) in block.labels.iter().zip(block.weights).enumerate() {
        loss -= weight * z[[usize::from(label), j]];
    }
    largest.fill(f64::NEG_INFINITY);
    totals.fill(0.0);
    let planes = z.as_slice_mut().expect("row by row");
    planes.chunks_exact(n_pixels).for_each(|plane| maximum(plane, largest));
    planes.chunks_exact_mut(n_pixels).for_each(|plane| exponentials(plane, largest, totals));
    for ((total, &largest), &weight) in totals.iter_mut().zip(&*largest).zip(block.weights) {
        loss += weight * (largest + total.ln());
        *total = weight / *total;
    }
    planes.chunks_exact_mut(n_pixels).for_each(|plane| multiply(plane, totals));
    loss
}

/// Makes `w (p z' - p <p, z'>)` of `w p`.
fn curve(z: &mut Array2<f64>, slopes: &Array2<f64>, block: &Pixels<'_>, means: &mut [f64]) {
    let n_pixels = block.labels.len();
    means.fill(0.0);
    let (planes, slopes) = (z.as_slice_mut().expect("row by row"), slopes.as_slice().expect("row by row"));
    for (plane, slopes) in planes.chunks_exact(n_pixels).zip(slopes.chunks_exact(n_pixels)) {
        add_products(plane, slopes, means);
    }
    // Of weighted sums the mean; a pixel of no weight has none, and counts for nothing.
    for (mean, &weight) in means.iter_mut().zip(block.weights) {
        *mean = if weight > 0.0 { *mean / weight } else { 0.0 };
    }
    for (plane, slopes) in planes.chunks_exact_mut(n_pixels).zip(slopes.chunks_exact(n_pixels)) {
        bend(plane, slopes, means);
    }
}

#[apply(vectorised!)]
fn scale_and_shift(u: &[f64], weight: f64, bias: f64, z: &mut [f64]) {
    for (&u, z) in u.iter().zip(z) {
        *z = weight * u + bias;
    }
}

/// `p u` and `p` times the root of a pixel's weight, from `r`.
#[apply(vectorised!)]
fn roots(r: &[f64], u: &[f64], factors: &[f64], first: &mut [f64], second: &mut [f64]) {
    for ((((&r, &u), &factor), first), second) in r.iter().zip(u).zip(factors).zip(first).zip(second) {
        *second = r * factor;
        *first = *second * u;
    }
}

#[apply(vectorised!)]
fn maximum(plane: &[f64], largest: &mut [f64]) {
    for (&z, largest) in plane.iter().zip(largest) {
        *largest = if z > *largest { z } else { *largest };
    }
}

#[apply(vectorised!)]
fn exponentials(plane: &mut [f64], largest: &[f64], totals: &mut [f64]) {
    for ((z, &largest), total) in plane.iter_mut().zip(largest).zip(totals) {
        *z = double(*z - largest);
        *total += *z;
    }
}

#[apply(vectorised!)]
fn multiply(plane: &mut [f64], factors: &[f64]) {
    for (z, &factor) in plane.iter_mut().zip(factors) {
        *z *= factor;
    }
}

#[apply(vectorised!)]
fn add_products(plane: &[f64], slopes: &[f64], sums: &mut [f64]) {
    for ((&p, &slope), sum) in plane.iter().zip(slopes).zip(sums) {
        *sum += p * slope;
    }
}

#[apply(vectorised!)]
fn bend(plane: &mut [f64], slopes: &[f64], means: &[f64]) {
    for ((p, &slope), &mean) in plane.iter_mut().zip(slopes).zip(means) {
        *p *= slope - mean;
    }
}

/// Sums in eight lanes, in a fixed order.
#[apply(vectorised!)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut lanes, (a, rest_a), (b, rest_b)) = ([0.0; 8], a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// Sums of `r u^2` and `r u`, likewise.
#[apply(vectorised!)]
fn moments(r: &[f64], u: &[f64]) -> (f64, f64) {
    let (mut squares, mut products) = ([0.0; 8], [0.0; 8]);
    let ((r, rest_r), (u, rest_u)) = (r.as_chunks::<8>(), u.as_chunks::<8>());
    for (r, u) in r.iter().zip(u) {
        for lane in 0..8 {
            products[lane] += r[lane] * u[lane];
            squares[lane] += r[lane] * u[lane] * u[lane];
        }
    }
    let rest = rest_r.iter().zip(rest_u);
    (
        squares.iter().sum::<f64>() + rest.clone().map(|(r, u)| r * u * u).sum::<f64>(),
        products.iter().sum::<f64>() + rest.map(|(r, u)| r * u).sum::<f64>(),
    )
}

#[apply(vectorised!)]
fn total(a: &[f64]) -> f64 {
    let (mut lanes, (a, rest)) = ([0.0; 8], a.as_chunks::<8>());
    for a in a {
        for lane in 0..8 {
            lanes[lane] += a[lane];
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().sum::<f64>()
}
