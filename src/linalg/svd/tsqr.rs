//! The triangular factor of a tall matrix by Householder reflections (TSQR).

use crate::simd::{apply, fused, vectorised};
use multiversion::target::target_cfg_f;
use rayon::prelude::*;

use super::blocks::{Tall, WIDTH};
use super::{NOTHING, SQUARE};
use crate::error::Result;
use crate::memory;
use crate::num::lanes::{Aligned, LANES, add_product, lanes, products, totals};
use crate::num::real::Element;
use crate::threads::Cancel;

impl<E: Element> Tall<'_, E> {
    /// R of the QR decomposition, row by row, and the largest magnitude. If some number is not finite, neither is this, and
    /// there is no R.
    pub fn triangle(&self, cancel: &Cancel) -> Result<(Vec<f64>, f64)> {
        let (n, stride) = (self.a.ncols(), self.block_rows());
        let chunks: Vec<Result<(Vec<f64>, u64)>> = self
            .chunks()
            .map_init(
                || self.empty_block(),
                |block, chunk| {
                    let block = block.as_mut().map_err(|error| error.clone())?;
                    let (mut r, mut largest) = (memory::filled(0.0, n * n, SQUARE, cancel)?, 0);
                    for rows in self.blocks(chunk) {
                        cancel.check()?;
                        self.gather(rows, block);
                        largest = largest_magnitude(&block.columns).max(largest);
                        absorb(&mut r, n, &mut block.columns, stride, false, cancel)?;
                    }
                    Ok((r, largest))
                },
            )
            .collect();
        let (mut triangles, mut largest) = (Vec::with_capacity(chunks.len()), 0);
        for chunk in chunks {
            let (r, magnitude) = chunk?;
            triangles.push(r);
            largest = magnitude.max(largest);
        }
        while triangles.len() > 1 {
            triangles.par_chunks_mut(2).try_for_each(|pair| match pair {
                [first, second] => merge(first, second, n, cancel),
                _ => Ok(()),
            })?;
            triangles = triangles.into_iter().step_by(2).collect();
        }
        Ok((triangles.pop().unwrap_or_default(), f64::from_bits(largest)))
    }
}

/// The bits of the largest magnitude. Infinity and NaN are larger than any number.
#[apply(vectorised!)]
pub fn largest_magnitude(numbers: &[f64]) -> u64 {
    numbers.iter().map(|number| number.to_bits() & !(1 << 63)).fold(0, u64::max)
}

/// Joins rows to a triangular factor: R becomes the factor of R stacked on the block. Column `c` of a triangular block ends
/// with element `c`.
///
/// Some columns at a time become reflections, which are then applied to the other columns together, so that these are read
/// only once.
#[apply(fused!)]
fn absorb(
    r: &mut [f64],
    n: usize,
    block: &mut [f64],
    stride: usize,
    is_triangular: bool,
    cancel: &Cancel,
) -> Result<()> {
    let fused = target_cfg_f!(target_feature = "fma");
    for first in (0..n).step_by(WIDTH) {
        cancel.check()?;
        let width = WIDTH.min(n - first);
        let end = first + width;
        let (head, rest) = block.split_at_mut(end * stride);
        let len = if is_triangular { end.next_multiple_of(LANES) } else { stride };
        let mut reflections = Reflections { fused, ..Reflections::default() };
        for i in 0..width {
            let (done, others) = head[first * stride..].split_at_mut((i + 1) * stride);
            let xs = done.chunks_exact(stride).map(|x| &x[..len]);
            let row = &mut r[(first + i) * n..][first + i..end];
            reflections.push(i, &mut row[0], xs);
            let x = &done[i * stride..][..len];
            for (entry, column) in row[1..].iter_mut().zip(others.chunks_exact_mut(stride)) {
                reflections.apply_one(i, x, entry, &mut column[..len]);
            }
        }
        // Missing reflections change nothing.
        let xs = std::array::from_fn(|i| &head[(first + i.min(width - 1)) * stride..][..len]);
        let rows = &mut r[first * n..end * n];
        let mut pairs = rest.chunks_exact_mut(2 * stride);
        let mut c = end;
        for pair in &mut pairs {
            let (one, other) = pair.split_at_mut(stride);
            reflections.apply(xs, rows, n, c, [&mut one[..len], &mut other[..len]]);
            c += 2;
        }
        for column in pairs.into_remainder().chunks_exact_mut(stride) {
            reflections.apply(xs, rows, n, c, [&mut column[..len]]);
        }
    }
    Ok(())
}

/// Householder reflections, one after another. The reflection for a column x of the block and the entry `alpha` of R above it
/// has the vector `(v, x)` with `v = alpha + norm`, and takes `(alpha, x)` to `(-norm, 0)`. Here `norm` is the norm of
/// `(alpha, x)`, with the sign of alpha.
#[derive(Default)]
struct Reflections {
    fused: bool,
    v: [f64; WIDTH],
    /// 2 over the square of `(v, x)`; 0 reflects nothing.
    factors: [f64; WIDTH],
    /// Scalar products of each x with those before it.
    cross: [[f64; WIDTH]; WIDTH],
}

impl Reflections {
    /// The reflection of the last of some columns, which has the index `i`.
    #[inline(always)]
    fn push<'x>(&mut self, i: usize, alpha: &mut f64, xs: impl ExactSizeIterator<Item = &'x [f64]> + Clone) {
        let x = xs.clone().last().expect("one at least");
        for (product, before) in self.cross[i].iter_mut().zip(xs.take(i)) {
            *product = products(self.fused, x, [before])[0];
        }
        let [square] = products(self.fused, x, [x]);
        if square < NOTHING {
            return;
        }
        let norm = (*alpha * *alpha + square).sqrt().copysign(*alpha);
        self.v[i] = *alpha + norm;
        self.factors[i] = 1.0 / (norm * self.v[i]);
        *alpha = -norm;
    }

    /// Reflects one column by one reflection.
    #[inline(always)]
    fn apply_one(&self, i: usize, x: &[f64], entry: &mut f64, column: &mut [f64]) {
        let [product] = products(self.fused, x, [column]);
        let weight = (self.v[i] * *entry + product) * self.factors[i];
        *entry -= weight * self.v[i];
        for (numbers, x) in column.as_chunks_mut().0.iter_mut().zip(x.as_chunks().0) {
            *numbers = add_product(self.fused, *numbers, [-weight; LANES], *x);
        }
    }

    /// Applies all reflections to N columns, whose entries in R are those from `c` on in the rows. The effect of an earlier
    /// reflection on a later one follows from their scalar product.
    #[inline(always)]
    fn apply<const N: usize>(
        &self,
        xs: [&[f64]; WIDTH],
        rows: &mut [f64],
        n: usize,
        c: usize,
        mut columns: [&mut [f64]; N],
    ) {
        let mut sums = [[[0.0; LANES]; N]; WIDTH];
        for first in (0..columns[0].len()).step_by(LANES) {
            let numbers = columns.each_ref().map(|column| lanes(&column[first..]));
            for (sums, x) in sums.iter_mut().zip(xs) {
                let x = lanes(&x[first..]);
                for (sum, numbers) in sums.iter_mut().zip(numbers) {
                    *sum = add_product(self.fused, *sum, x, numbers);
                }
            }
        }
        let sums = totals(sums);
        let mut weights = [[0.0; N]; WIDTH];
        for (i, row) in rows.chunks_exact_mut(n).enumerate() {
            for (k, entry) in row[c..][..N].iter_mut().enumerate() {
                let mut product = self.v[i] * *entry + sums[i][k];
                for (cross, weights) in self.cross[i].iter().zip(&weights[..i]) {
                    product -= cross * weights[k];
                }
                weights[i][k] = product * self.factors[i];
                *entry -= weights[i][k] * self.v[i];
            }
        }
        for first in (0..columns[0].len()).step_by(LANES) {
            let xs = xs.map(|x| lanes(&x[first..]));
            for (k, column) in columns.iter_mut().enumerate() {
                let mut numbers = lanes(&column[first..]);
                for (x, weights) in xs.into_iter().zip(weights) {
                    numbers = add_product(self.fused, numbers, [-weights[k]; LANES], x);
                }
                column[first..][..LANES].copy_from_slice(&numbers);
            }
        }
    }
}

/// Joins a second triangular factor to the first.
fn merge(first: &mut [f64], second: &[f64], n: usize, cancel: &Cancel) -> Result<()> {
    let stride = n.next_multiple_of(LANES);
    let mut block = Aligned::zeros(n * stride)?;
    for (c, column) in block.chunks_exact_mut(stride).enumerate() {
        for (row, number) in column[..=c].iter_mut().enumerate() {
            *number = second[row * n + c];
        }
    }
    absorb(first, n, &mut block, stride, true, cancel)
}
