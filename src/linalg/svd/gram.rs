//! Gram matrices, and the decomposition of a matrix by its Gram matrix, if that loses no digits that matter.

use crate::simd::{apply, fused};
use multiversion::target::target_cfg_f;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use super::blocks::{Tall, WIDTH};
use super::{SAFE, SQUARE, clear_zero_columns};
use crate::error::Result;
use crate::linalg::dense::eigh;
use crate::memory;
use crate::num::lanes::{LANES, Lanes, Lines, add_product, lanes, totals};
use crate::num::real::Element;
use crate::threads::Cancel;

/// The least ratio of rows to columns. With fewer rows, most time goes into the decomposition of the small matrix, which a
/// matrix that is refused needs twice.
const TALL: usize = 64;
/// Columns that a matrix may have. The sums of more would leave the caches.
const MOST_COLUMNS: usize = 512;
/// No singular value below this share of the largest one is taken from the Gram matrix.
///
/// Rounding changes that matrix by a few `e = eps s_1^2`, and in effect so does LAPACK: a small eigenvalue has the same error
/// as a large one. This changes a singular value `s` by `e / 2s`, and moves `A' u` away from `s v` by `e / s`. That is at most
/// 32 `eps s_1`, compared with a few for R. Vectors lose at most five of 53 bits.
const SHARE: f64 = 1.0 / 32.0;

/// Lanes of the products of each of [`WIDTH`] columns with each of [`WIDTH`] columns.
type Tile = Lines<[[Lanes; WIDTH]; WIDTH]>;

/// The sums of the products of each two columns.
pub struct Gram {
    n: usize,
    /// The tiles of a group of columns with itself and the groups after it, then those of the next group.
    tiles: Vec<Tile>,
}

impl Gram {
    /// The Gram matrix of no rows.
    pub fn zeros(n: usize) -> Result<Self> {
        let n_groups = n.div_ceil(WIDTH);
        let tiles = (0..n_groups * (n_groups + 1) / 2).into_par_iter().map(|_| Lines(Default::default()));
        Ok(Self { n, tiles: memory::gathered(tiles, SQUARE)? })
    }

    /// Adds the products of the columns of a block.
    pub fn add(&mut self, block: &[f64], stride: usize, cancel: &Cancel) -> Result<()> {
        add_products(&mut self.tiles, self.n, block, stride, cancel)
    }

    /// The matrix, row by row.
    pub fn total(&self, cancel: &Cancel) -> Result<Vec<f64>> {
        let n = self.n;
        let mut matrix = memory::filled(0.0, n * n, SQUARE, cancel)?;
        let n_groups = n.div_ceil(WIDTH);
        let pairs = (0..n_groups).flat_map(|g| (g..n_groups).map(move |h| (g, h)));
        for ((g, h), tile) in pairs.zip(&self.tiles) {
            let sums = totals(tile.0);
            for (i, row) in (g * WIDTH..n).zip(sums) {
                for (j, sum) in (h * WIDTH..n).zip(row) {
                    matrix[i * n + j] = sum;
                    matrix[j * n + i] = sum;
                }
            }
        }
        Ok(matrix)
    }
}

/// Adds the products of each two columns of a block to the lanes of their sum. The products are first summed over the block:
/// equal rows round the same way at each addition, and the error grows with the length of the sum.
#[apply(fused!)]
fn add_products(tiles: &mut [Tile], n: usize, block: &[f64], stride: usize, cancel: &Cancel) -> Result<()> {
    let fused = target_cfg_f!(target_feature = "fma");
    // The last column stands in for missing columns.
    let column = |c: usize| &block[c.min(n - 1) * stride..][..stride];
    let group = |g: usize| -> [&[f64]; WIDTH] { std::array::from_fn(|i| column(g * WIDTH + i)) };
    let n_groups = n.div_ceil(WIDTH);
    let mut tiles = tiles.iter_mut();
    for g in 0..n_groups {
        cancel.check()?;
        let xs = group(g);
        for (h, tile) in (g..n_groups).zip(&mut tiles) {
            let ys = group(h);
            let mut sums = [[[0.0; LANES]; WIDTH]; WIDTH];
            for first in (0..stride).step_by(LANES) {
                let ys = ys.map(|y| lanes(&y[first..]));
                for (sums, x) in sums.iter_mut().zip(xs) {
                    let x = lanes(&x[first..]);
                    for (sum, y) in sums.iter_mut().zip(ys) {
                        *sum = add_product(fused, *sum, x, y);
                    }
                }
            }
            for (total, sum) in tile.0.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
                for lane in 0..LANES {
                    total[lane] += sum[lane];
                }
            }
        }
    }
    Ok(())
}

/// Adds up matrices.
pub fn sum(matrices: Vec<Result<Vec<f64>>>) -> Result<Vec<f64>> {
    let mut total = vec![];
    for matrix in matrices {
        let matrix = matrix?;
        total.resize(matrix.len(), 0.0);
        total.iter_mut().zip(matrix).for_each(|(sum, entry)| *sum += entry);
    }
    Ok(total)
}

impl<E: Element> Tall<'_, E> {
    /// The singular values, largest first, and the right singular vectors, one per row; `None` if the `k` largest cannot be
    /// found in this way, also because some number is not finite.
    pub fn decompose_gram(&self, k: usize, cancel: &Cancel) -> Result<Option<(Vec<f64>, Array2<f64>)>> {
        let (m, n) = self.a.dim();
        if m < TALL * n || n > MOST_COLUMNS {
            return Ok(None);
        }
        let gram = self.gram(cancel)?;
        let trace: f64 = gram.iter().step_by(n + 1).sum();
        if !(SAFE.recip()..=SAFE).contains(&trace) {
            return Ok(None);
        }
        let gram = ArrayView2::from_shape((n, n), &gram).expect("as many elements");
        let (mut values, mut right) = eigh(&gram)?;
        clear_zero_columns(&gram, &mut right);
        for value in &mut values {
            // Rounding may make a 0 negative.
            *value = value.max(0.0).sqrt();
        }
        let harmless = values.iter().take(k).all(|&value| value >= SHARE * values[0]);
        Ok(harmless.then_some((values, right)))
    }

    fn gram(&self, cancel: &Cancel) -> Result<Vec<f64>> {
        let (n, stride) = (self.a.ncols(), self.block_rows());
        let chunks: Vec<Result<Vec<f64>>> = self
            .chunks()
            .map_init(
                || self.empty_block(),
                |block, chunk| {
                    let block = block.as_mut().map_err(|error| error.clone())?;
                    let mut gram = Gram::zeros(n)?;
                    for rows in self.blocks(chunk) {
                        cancel.check()?;
                        self.gather(rows, block);
                        gram.add(&block.columns, stride, cancel)?;
                    }
                    gram.total(cancel)
                },
            )
            .collect();
        sum(chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_each_two_columns() {
        let stride = 2 * LANES;
        for n in 1..=2 * WIDTH + 1 {
            let columns = Array2::from_shape_fn((n, stride), |(c, i)| ((c + 1) * (i + 3) % 7) as f64);
            let mut gram = Gram::zeros(n).unwrap();
            for _ in 0..2 {
                gram.add(columns.as_slice().unwrap(), stride, &Cancel::default()).unwrap();
            }
            let expected = columns.dot(&columns.t()) * 2.0;
            assert_eq!(gram.total(&Cancel::default()).unwrap(), expected.into_raw_vec_and_offset().0);
        }
    }

    /// Whether the two largest singular values are taken from the Gram matrix.
    fn is_taken(a: &ArrayView2<'_, f64>) -> bool {
        Tall { a: a.view(), change: None, scale: 1.0 }
            .decompose_gram(2, &Cancel::default())
            .unwrap()
            .is_some()
    }

    #[test]
    fn where_the_gram_matrix_is_taken() {
        // Singular values 1, `second` and 0.001.
        let matrix = |second: f64| {
            let mut a = Array2::zeros((3 * TALL, 3));
            (a[[5, 0]], a[[100, 1]], a[[101, 2]]) = (second, 1.0, 1e-3);
            a
        };
        assert!(is_taken(&matrix(1.0).view()));
        assert!(is_taken(&matrix(SHARE * (1.0 + 1e-12)).view()));
        assert!(!is_taken(&matrix(SHARE * (1.0 - 1e-12)).view()));
        assert!(!is_taken(&matrix(0.0).view()));

        assert!(!is_taken(&matrix(1.0).slice(ndarray::s![1.., ..])), "not tall");
        assert!(!is_taken(&(matrix(1.0) * 1e150).view()));
        assert!(!is_taken(&(matrix(1.0) * 1e-150).view()));
        assert!(!is_taken(&(matrix(1.0) * 0.0).view()));
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(!is_taken(&matrix(value).view()));
        }
    }
}
