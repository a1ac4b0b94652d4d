//! The negative log-likelihood of a linear map of features, its gradient and the products of its Hessian.
//!
//! With features `u` (K numbers a pixel), `z = W u + b` and `p = softmax(z)`, the loss of a pixel of label `y` and weight `w`
//! is `w (log sum_k e^(z_k) - z_y)`. `W` is a diagonal or a matrix. Its gradient by `z` is `r = w (p - e_y)`; along a
//! direction `(W', b')`, with `z' = W' u + b'`, the gradient changes by `w (p z' - p <p, z'>)`. Both go back to the parameters
//! by the same sums: `r u` or `r u^T`, and `r`.

use std::ops::Range;

use multiversion::target::target_cfg_f;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use crate::error::Result;
use crate::memory;
use crate::num::exp::odds;
use crate::num::lanes::{LANES, add_product, totals};
use crate::simd::{apply, fused, vectorised};
use crate::threads::Cancel;

/// Numbers of a block of pixels, which fits the second-level cache: memory is read faster in long runs of each class.
pub(super) const CACHED: usize = 1 << 14;

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

    /// Whether `W` is a diagonal.
    fn is_diagonal(&self) -> bool {
        self.weight.len() == self.bias.len()
    }

    /// Writes `z` (K, m), and the largest of each pixel.
    fn apply(&self, features: &ArrayView2<'_, f64>, z: &mut ArrayViewMut2<'_, f64>, largest: &mut [f64]) {
        let n_classes = features.nrows();
        largest.fill(f64::NEG_INFINITY);
        if self.is_diagonal() {
            for (k, (mut z, u)) in z.rows_mut().into_iter().zip(features.rows()).enumerate() {
                let (z, u) = (z.as_slice_mut().expect("rows"), u.to_slice().expect("rows"));
                scale_and_shift(u, self.weight[k], self.bias[k], z, largest);
            }
            return;
        }
        let weight = ArrayView2::from_shape((n_classes, n_classes), self.weight).expect("K x K numbers");
        general_mat_mul(1.0, &weight, features, 0.0, z);
        for (mut z, &b) in z.rows_mut().into_iter().zip(self.bias) {
            shift(z.as_slice_mut().expect("rows"), b, largest);
        }
    }

    /// Adds the sums of `r` (K, m) for each parameter.
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
    fold_runs(
        pixels,
        ends,
        1 + map.n_parameters(),
        || Work::new(0),
        cancel,
        |block, work, sums| {
            let (loss, sums) = sums.split_first_mut().expect("the loss comes first");
            let labels = block.labels.iter().map(|&label| usize::from(label)).zip(block.weights);
            work.apply(map, block);
            if map.is_diagonal() {
                let (weight, bias) = sums.split_at_mut(map.weight.len());
                let rows: Vec<&[f64]> =
                    block.features.outer_iter().map(|row| row.to_slice().expect("rows")).collect();
                for (j, (k, &w)) in labels.enumerate() {
                    let wu = w * rows[k][j];
                    *loss -= map.weight[k] * wu + map.bias[k] * w;
                    weight[k] -= wu;
                    bias[k] -= w;
                }
                *loss += work.odds(block);
                let sums = weight.iter_mut().zip(bias);
                for ((weight, bias), (r, u)) in sums.zip(work.z.rows().into_iter().zip(rows)) {
                    let (product, sum) = moments(r.to_slice().expect("rows"), &work.totals, u);
                    *weight += product;
                    *bias += sum;
                }
            } else {
                for (j, (k, &w)) in labels.clone().enumerate() {
                    *loss -= w * work.z[[k, j]];
                }
                *loss += work.odds(block);
                work.scale();
                for (j, (k, &w)) in labels.enumerate() {
                    work.z[[k, j]] -= w;
                }
                map.add_back(&work.z.view(), &block.features, sums);
            }
        },
    )
}

/// For each of some runs of pixels: the product of the Hessian with a direction.
pub fn hessian_products(
    pixels: &Pixels<'_>,
    ends: &[usize],
    map: &Linear<'_>,
    direction: &Linear<'_>,
    cancel: &Cancel,
) -> Result<Array2<f64>> {
    fold_runs(
        pixels,
        ends,
        map.n_parameters(),
        || Work::new(pixels.features.nrows()),
        cancel,
        |block, work, sums| {
            work.apply(map, block);
            work.odds(block);
            work.scale();
            direction.apply(&block.features, &mut work.slopes.view_mut(), &mut work.largest);
            curve(&mut work.z, &work.slopes, block, &mut work.totals);
            map.add_back(&work.z.view(), &block.features, sums);
        },
    )
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
    let cells = fold_runs(
        pixels,
        ends,
        n * n,
        || Work::new(2 * n_classes),
        cancel,
        |block, work, sums| {
            work.apply(map, block);
            work.odds(block);
            work.scale();
            for (factor, &weight) in work.totals.iter_mut().zip(block.weights) {
                *factor = if weight > 0.0 { 1.0 / weight.sqrt() } else { 0.0 };
            }
            for (k, (r, u)) in work.z.rows().into_iter().zip(block.features.rows()).enumerate() {
                let (r, u) = (r.to_slice().expect("rows"), u.to_slice().expect("rows"));
                let (mut first, mut second) = work.slopes.multi_slice_mut((s![k, ..], s![n_classes + k, ..]));
                let (first, second) =
                    (first.as_slice_mut().expect("rows"), second.as_slice_mut().expect("rows"));
                roots(r, u, &work.totals, first, second);
                let (square, product) = moments(r, u, u);
                let shift = n_classes + k;
                sums[k * n + k] += square;
                sums[k * n + shift] += product;
                sums[shift * n + k] += product;
                sums[shift * n + shift] += total(r);
            }
            let mut sums = ArrayViewMut2::from_shape((n, n), sums).expect("as many cells");
            general_mat_mul(-1.0, &work.slopes, &work.slopes.t(), 1.0, &mut sums);
        },
    )?;
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
    /// For blocks to come, with so many rows of slopes.
    fn new(n_slopes: usize) -> Self {
        let (z, slopes) = (Array2::zeros((0, 0)), Array2::zeros((n_slopes, 0)));
        Self { z, slopes, largest: Vec::new(), totals: Vec::new() }
    }

    /// Makes `z` of a block, and the largest of each pixel.
    fn apply(&mut self, map: &Linear<'_>, block: &Pixels<'_>) {
        let len = block.labels.len();
        if self.z.ncols() != len {
            self.z = Array2::zeros((block.features.nrows(), len));
            self.slopes = Array2::zeros((self.slopes.nrows(), len));
            self.largest.resize(len, 0.0);
            self.totals.resize(len, 0.0);
        }
        map.apply(&block.features, &mut self.z.view_mut(), &mut self.largest);
    }

    /// Turns them into `e^(z - max z)`, and computes each pixel's weight over their sum; returns `sum_j w_j log sum_k e^(z_kj)`.
    fn odds(&mut self, block: &Pixels<'_>) -> f64 {
        self.totals.fill(0.0);
        let planes = self.z.as_slice_mut().expect("row by row");
        for plane in planes.chunks_exact_mut(block.labels.len()) {
            exponentials(plane, &self.largest, &mut self.totals);
        }
        let mut sum = 0.0;
        for ((total, &largest), &weight) in self.totals.iter_mut().zip(&self.largest).zip(block.weights) {
            sum += weight * (largest + total.ln());
            *total = weight / *total;
        }
        sum
    }

    /// Turns them into weighted probabilities.
    fn scale(&mut self) {
        let planes = self.z.as_slice_mut().expect("row by row");
        planes.chunks_exact_mut(self.totals.len()).for_each(|plane| multiply(plane, &self.totals));
    }
}

/// Sums `width` numbers over the blocks of each run, in their order, each run with a buffer of its own.
pub(super) fn fold_runs<W>(
    pixels: &Pixels<'_>,
    ends: &[usize],
    width: usize,
    buffer: impl Fn() -> W + Sync,
    cancel: &Cancel,
    add: impl Fn(&Pixels<'_>, &mut W, &mut [f64]) + Sync,
) -> Result<Array2<f64>> {
    let len = (CACHED / pixels.features.nrows()).max(16);
    let n_cells = ends.len().saturating_mul(width);
    let mut cells = memory::filled(0.0, n_cells, "the gradients of runs of pixels", cancel)?;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let runs: Vec<Range<usize>> = starts.zip(ends).map(|(start, &end)| start..end).collect();
    cells.par_chunks_exact_mut(width).zip(runs).try_for_each(|(sums, run)| -> Result<()> {
        let mut buffer = buffer();
        for first in run.clone().step_by(len) {
            cancel.check()?;
            let at = first..run.end.min(first + len);
            let block = Pixels {
                features: pixels.features.slice(s![.., at.clone()]),
                labels: &pixels.labels[at.clone()],
                weights: &pixels.weights[at],
            };
            add(&block, &mut buffer, sums);
        }
        Ok(())
    })?;
    Ok(Array2::from_shape_vec((ends.len(), width), cells).expect("as many cells"))
}

/// Turns `w p` into `w (p z' - p <p, z'>)`.
fn curve(z: &mut Array2<f64>, slopes: &Array2<f64>, block: &Pixels<'_>, means: &mut [f64]) {
    let n_pixels = block.labels.len();
    means.fill(0.0);
    let (planes, slopes) = (z.as_slice_mut().expect("row by row"), slopes.as_slice().expect("row by row"));
    for (plane, slopes) in planes.chunks_exact(n_pixels).zip(slopes.chunks_exact(n_pixels)) {
        add_products(plane, slopes, means);
    }
    // The mean from weighted sums. A pixel without weight has no mean, and does not count.
    for (mean, &weight) in means.iter_mut().zip(block.weights) {
        *mean = if weight > 0.0 { *mean / weight } else { 0.0 };
    }
    for (plane, slopes) in planes.chunks_exact_mut(n_pixels).zip(slopes.chunks_exact(n_pixels)) {
        bend(plane, slopes, means);
    }
}

#[apply(vectorised!)]
fn scale_and_shift(u: &[f64], weight: f64, bias: f64, z: &mut [f64], largest: &mut [f64]) {
    for ((&u, z), largest) in u.iter().zip(z).zip(largest) {
        *z = weight * u + bias;
        *largest = largest.max(*z);
    }
}

#[apply(vectorised!)]
fn shift(z: &mut [f64], bias: f64, largest: &mut [f64]) {
    for (z, largest) in z.iter_mut().zip(largest) {
        *z += bias;
        *largest = largest.max(*z);
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

#[apply(fused!)]
fn exponentials(plane: &mut [f64], largest: &[f64], totals: &mut [f64]) {
    let fused = target_cfg_f!(target_feature = "fma");
    for ((z, &largest), total) in plane.iter_mut().zip(largest).zip(totals) {
        *z = odds(fused, *z - largest);
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

/// `sum a b`.
#[apply(fused!)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (mut sums, fused) = ([[0.0; LANES]], target_cfg_f!(target_feature = "fma"));
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (&a, &b) in a.iter().zip(b) {
        sums[0] = add_product(fused, sums[0], a, b);
    }
    let [[sum]] = totals([sums]);
    sum + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// `sum a b c` and `sum a b`.
#[apply(fused!)]
fn moments(a: &[f64], b: &[f64], c: &[f64]) -> (f64, f64) {
    let (mut sums, fused) = ([[0.0; LANES]; 2], target_cfg_f!(target_feature = "fma"));
    let ((a, rest_a), (b, rest_b), (c, rest_c)) =
        (a.as_chunks::<LANES>(), b.as_chunks::<LANES>(), c.as_chunks::<LANES>());
    for ((&a, &b), &c) in a.iter().zip(b).zip(c) {
        let products = add_product(false, [0.0; LANES], a, b);
        sums[0] = add_product(fused, sums[0], products, c);
        for lane in 0..LANES {
            sums[1][lane] += products[lane];
        }
    }
    let [[mut triples, mut pairs]] = totals([sums]);
    for ((a, b), c) in rest_a.iter().zip(rest_b).zip(rest_c) {
        triples += a * b * c;
        pairs += a * b;
    }
    (triples, pairs)
}

/// `sum a`.
#[apply(vectorised!)]
fn total(a: &[f64]) -> f64 {
    let (mut sums, (a, rest)) = ([[0.0; LANES]], a.as_chunks::<LANES>());
    for a in a {
        for lane in 0..LANES {
            sums[0][lane] += a[lane];
        }
    }
    let [[sum]] = totals([sums]);
    sum + rest.iter().sum::<f64>()
}
