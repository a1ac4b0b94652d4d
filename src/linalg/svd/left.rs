//! The left singular vectors.

use crate::simd::{apply, fused};
use multiversion::target::target_cfg_f;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use super::blocks::{STRIP, Tall, WIDTH};
use super::gram::{self, Gram};
use crate::error::{Error, Result};
use crate::linalg::dense::{cholesky, inverse_of_lower};
use crate::memory;
use crate::num::lanes::{Aligned, LANES, add_product, lanes};
use crate::num::real::Element;
use crate::threads::Cancel;

/// The left vector of a singular value that is nearly 0 may point anywhere. It counts if at least this share of its square is
/// left after the components along the vectors before it are removed.
const DISTINCT: f64 = 0.1;

impl<E: Element> Tall<'_, E> {
    /// `A v / s` for the rows `v` of `right`, one per row, and the Gram matrix of the results.
    pub fn times(
        &self,
        right: &ArrayView2<'_, f64>,
        values: &[f64],
        cancel: &Cancel,
    ) -> Result<(Array2<f64>, Array2<f64>)> {
        let rank = right.nrows();
        let stride = self.block_rows();
        memory::probe::<f64>(right.len(), "the coefficients of left singular vectors")?;
        let coefficients = right / &ArrayView2::from_shape((rank, 1), values).expect("one per row");
        let coefficients = coefficients.as_standard_layout();
        let coefficients = coefficients.as_slice().expect("standard layout");
        let n_numbers = rank.saturating_mul(self.a.nrows());
        let left = memory::filled(0.0, n_numbers, "the left singular vectors", cancel)?;
        let mut left = Array2::from_shape_vec((rank, self.a.nrows()), left).expect("as many numbers");
        if rank == 0 {
            return Ok((left, Array2::zeros((0, 0))));
        }
        let chunks: Vec<Result<Vec<f64>>> = self
            .chunks()
            .zip(left.axis_chunks_iter_mut(Axis(1), self.chunk_rows()))
            .map_init(
                || Ok((self.empty_block()?, Aligned::zeros(rank * stride)?)),
                |buffers: &mut Result<_>, (chunk, mut left)| {
                    let (block, vectors) = buffers.as_mut().map_err(|error| error.clone())?;
                    let mut gram = Gram::zeros(rank)?;
                    for (index, rows) in self.blocks(chunk).enumerate() {
                        cancel.check()?;
                        self.gather(rows.clone(), block);
                        combine(&block.columns, stride, coefficients, vectors, cancel)?;
                        gram.add(vectors, stride, cancel)?;
                        write(vectors, stride, &mut left, index * stride, rows.len());
                    }
                    gram.total(cancel)
                },
            )
            .collect();
        let gram = Array2::from_shape_vec((rank, rank), gram::sum(chunks)?).expect("as many elements");
        Ok((left, gram))
    }

    /// Replaces vectors, the rows, by their combinations: row `t` of the result has the coefficients in row `t`.
    pub fn transform(
        &self,
        left: &mut Array2<f64>,
        coefficients: &Array2<f64>,
        cancel: &Cancel,
    ) -> Result<()> {
        let (rank, stride) = (left.nrows(), self.block_rows());
        let coefficients = coefficients.as_slice().expect("standard layout");
        if rank == 0 {
            return Ok(());
        }
        left.axis_chunks_iter_mut(Axis(1), self.chunk_rows()).into_par_iter().try_for_each_init(
            || Ok((Aligned::zeros(rank * stride)?, Aligned::zeros(rank * stride)?)),
            |buffers: &mut Result<_>, mut left| {
                let (block, vectors) = buffers.as_mut().map_err(|error| error.clone())?;
                for rows in self.blocks(0..left.ncols()) {
                    cancel.check()?;
                    for (column, row) in block.chunks_exact_mut(stride).zip(left.rows()) {
                        let row = &row.to_slice().expect("rows are contiguous")[rows.clone()];
                        column[..row.len()].copy_from_slice(row);
                        column[row.len()..].fill(0.0);
                    }
                    combine(block, stride, coefficients, vectors, cancel)?;
                    write(vectors, stride, &mut left, rows.start, rows.len());
                }
                Ok(())
            },
        )
    }
}

/// Copies the columns of a block to the places from `first` on.
fn write(block: &[f64], stride: usize, left: &mut ArrayViewMut2<'_, f64>, first: usize, len: usize) {
    for (column, mut row) in block.chunks_exact(stride).zip(left.rows_mut()) {
        let row = row.as_slice_mut().expect("rows are contiguous");
        row[first..][..len].copy_from_slice(&column[..len]);
    }
}

/// For each column of `out`, the sum of the block's columns times one row of coefficients.
#[apply(fused!)]
fn combine(
    block: &[f64],
    stride: usize,
    coefficients: &[f64],
    out: &mut [f64],
    cancel: &Cancel,
) -> Result<()> {
    let fused = target_cfg_f!(target_feature = "fma");
    let n = block.len() / stride;
    let outs = out.chunks_mut(WIDTH * stride).zip(coefficients.chunks(WIDTH * n));
    for (out, coefficients) in outs {
        cancel.check()?;
        if let Ok(rows) = <[&[f64]; WIDTH]>::try_from(coefficients.chunks_exact(n).collect::<Vec<_>>()) {
            combine_rows(fused, block, stride, rows, out);
        } else {
            for (out, row) in out.chunks_exact_mut(stride).zip(coefficients.chunks_exact(n)) {
                combine_rows(fused, block, stride, [row], out);
            }
        }
    }
    Ok(())
}

#[inline(always)]
fn combine_rows<const N: usize>(
    fused: bool,
    block: &[f64],
    stride: usize,
    rows: [&[f64]; N],
    out: &mut [f64],
) {
    for first in (0..stride).step_by(STRIP) {
        let mut sums = [[[0.0; LANES]; 2]; N];
        for (c, column) in block.chunks_exact(stride).enumerate() {
            let numbers = [lanes(&column[first..]), lanes(&column[first + LANES..])];
            for (sums, row) in sums.iter_mut().zip(rows) {
                let coefficient = [row[c]; LANES];
                for (sum, numbers) in sums.iter_mut().zip(numbers) {
                    *sum = add_product(fused, *sum, coefficient, numbers);
                }
            }
        }
        for (out, sums) in out.chunks_exact_mut(stride).zip(&sums) {
            out[first..][..STRIP].copy_from_slice(sums.as_flattened());
        }
    }
}

/// The largest entry in the lower triangle of a matrix minus the identity.
pub fn distance_from_one(gram: &Array2<f64>) -> f64 {
    let entries = gram.indexed_iter().filter(|((t, u), _)| u <= t);
    entries.map(|((t, u), &entry)| if t == u { (entry - 1.0).abs() } else { entry.abs() }).fold(0.0, f64::max)
}

/// The matrix that makes vectors with this Gram matrix orthonormal, as many of the first ones as are distinct: the inverse of
/// its lower Cholesky factor.
pub fn orthonormaliser(gram: &Array2<f64>) -> Result<Array2<f64>> {
    let mut rank = gram.nrows();
    let factor = loop {
        match cholesky(&gram.slice(s![..rank, ..rank])) {
            Err(Error::NotPositiveDefinite { order }) => rank = order - 1,
            found => break found?,
        }
    };
    let squares = factor.diag().into_iter().map(|pivot| pivot * pivot).zip(gram.diag());
    let rank = squares.take_while(|(left, square)| *left > DISTINCT * *square).count();
    inverse_of_lower(&factor.slice(s![..rank, ..rank]))
}
