//! A tall matrix, cut into chunks of rows, and these into blocks.

use std::ops::Range;

use crate::simd::{apply, vectorised};
use ndarray::{ArrayView2, s};
use rayon::prelude::*;

use crate::error::Result;
use crate::num::lanes::{Aligned, LANES, Lanes};
use crate::num::real::Element;

/// Numbers of a parallel task.
const CHUNK: usize = 1 << 17;
/// Numbers of a block: it fits in the caches of a core.
const BLOCK: usize = 1 << 13;
/// Columns are padded with zeros to a multiple of it.
pub const STRIP: usize = 2 * LANES;
/// Columns that are worked on at once.
pub const WIDTH: usize = 4;

/// Changes some rows. The arguments are the rows, column after column, and the distance between columns.
pub type Change = fn(&mut [f64], usize);

/// A matrix with at least as many rows as columns, the change of its rows, and the scale of the result.
pub struct Tall<'a, E> {
    pub a: ArrayView2<'a, E>,
    pub change: Option<Change>,
    pub scale: f64,
}

impl<E: Element> Tall<'_, E> {
    /// Rows of a block. Its columns lie one after the other, [`STRIP`] by [`STRIP`].
    pub fn block_rows(&self) -> usize {
        (BLOCK / self.a.ncols() / STRIP * STRIP).clamp(4 * STRIP, 64 * STRIP)
    }

    /// Rows of a chunk: so many that the triangular factors of all are small beside the matrix.
    pub fn chunk_rows(&self) -> usize {
        let n = self.a.ncols();
        (CHUNK / n).max(4 * n).next_multiple_of(self.block_rows())
    }

    /// The first rows of the chunks.
    pub fn chunks(&self) -> impl IndexedParallelIterator<Item = Range<usize>> {
        let (m, chunk_rows) = (self.a.nrows(), self.chunk_rows());
        (0..m.div_ceil(chunk_rows))
            .into_par_iter()
            .map(move |chunk| chunk * chunk_rows..m.min((chunk + 1) * chunk_rows))
    }

    /// The blocks of a chunk.
    pub fn blocks(&self, chunk: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<E> {
        let block_rows = self.block_rows();
        chunk.clone().step_by(block_rows).map(move |first| first..chunk.end.min(first + block_rows))
    }

    /// Room for a block.
    pub fn empty_block(&self) -> Result<Block> {
        let len = self.a.ncols() * self.block_rows();
        Ok(Block { columns: Aligned::zeros(len)?, rows: Aligned::zeros(len)? })
    }

    /// Copies rows into a block, changed and scaled, in float64, with zeros below.
    pub fn gather(&self, rows: Range<usize>, block: &mut Block) {
        let (rows, n, stride) = (self.a.slice(s![rows, ..]), self.a.ncols(), self.block_rows());
        let len = rows.nrows();
        let is_row_major = rows.row(0).as_slice().is_some();
        // The rows that are transposed.
        let whole = if is_row_major { len / LANES * LANES } else { 0 };
        if let Some(values) = rows.slice(s![..whole, ..]).as_slice() {
            widen(values, &mut block.rows[..whole * n]);
        } else {
            for (row, numbers) in rows.rows().into_iter().zip(block.rows[..whole * n].chunks_exact_mut(n)) {
                widen(row.to_slice().expect("contiguous"), numbers);
            }
        }
        for (i, rows) in block.rows[..whole * n].chunks_exact(LANES * n).enumerate() {
            transpose(rows, stride, &mut block.columns[i * LANES..]);
        }
        for (c, column) in block.columns.chunks_exact_mut(stride).enumerate() {
            let (values, numbers) = (rows.slice(s![whole.., c]), &mut column[whole..len]);
            if let Some(values) = values.as_slice() {
                widen(values, numbers);
            } else {
                numbers.iter_mut().zip(values).for_each(|(number, value)| *number = value.widen().into());
            }
            column[len..].fill(0.0);
        }
        if let Some(change) = self.change {
            change(&mut block.columns, stride);
        }
        if self.scale != 1.0 {
            for number in &mut *block.columns {
                *number *= self.scale;
            }
        }
    }
}

/// Some rows of a matrix, column by column, and room for them row by row. They are copied before they are transposed, because
/// a large copy reads memory twice as fast.
pub struct Block {
    pub columns: Aligned,
    rows: Aligned,
}

/// Copies numbers, in float64.
#[apply(vectorised!)]
fn widen<E: Element>(values: &[E], numbers: &mut [f64]) {
    numbers.iter_mut().zip(values).for_each(|(number, value)| *number = value.widen().into());
}

/// Writes as many rows as there are lanes to the beginnings of columns.
#[apply(vectorised!)]
fn transpose(rows: &[f64], stride: usize, columns: &mut [f64]) {
    let n = rows.len() / LANES;
    let rows: [&[f64]; LANES] = std::array::from_fn(|i| &rows[i * n..][..n]);
    for (c, column) in (0..n).zip(columns.chunks_mut(stride)) {
        let column: &mut Lanes = column.first_chunk_mut().expect("whole lanes");
        *column = rows.map(|row| row[c]);
    }
}
