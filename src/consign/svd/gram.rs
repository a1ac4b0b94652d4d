//! Gram matrices.

use multiversion::multiversion;
use multiversion::target::target_cfg_f;

use super::blocks::WIDTH;
use super::lanes::{LANES, Lanes, Lines, add_product, lanes, totals};
use crate::error::Result;

/// Lanes of the products of each two of two times [`WIDTH`] columns.
type Tile = Lines<[[Lanes; WIDTH]; WIDTH]>;

/// The sums of the products of each two columns.
pub struct Gram {
    n: usize,
    /// Of a group of columns with itself and those after it, then of the next.
    tiles: Vec<Tile>,
}

impl Gram {
    /// Of no rows.
    pub fn zeros(n: usize) -> Self {
        let n_groups = n.div_ceil(WIDTH);
        let tiles = (0..n_groups * (n_groups + 1) / 2).map(|_| Lines(Default::default())).collect();
        Self { n, tiles }
    }

    /// Adds the products of the columns of a block.
    pub fn add(&mut self, block: &[f64], stride: usize) {
        add_products(&mut self.tiles, self.n, block, stride);
    }

    /// The matrix, row by row.
    pub fn total(&self) -> Vec<f64> {
        let n = self.n;
        let mut matrix = vec![0.0; n * n];
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
        matrix
    }
}

/// Adds the products of each two columns of a block to the lanes of their sum.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2+fma"))]
fn add_products(tiles: &mut [Tile], n: usize, block: &[f64], stride: usize) {
    let fused = target_cfg_f!(target_feature = "fma");
    // Where there are no more columns the last one stands in.
    let column = |c: usize| &block[c.min(n - 1) * stride..][..stride];
    let group = |g: usize| -> [&[f64]; WIDTH] { std::array::from_fn(|i| column(g * WIDTH + i)) };
    let n_groups = n.div_ceil(WIDTH);
    let mut tiles = tiles.iter_mut();
    for g in 0..n_groups {
        let xs = group(g);
        for (h, tile) in (g..n_groups).zip(&mut tiles) {
            let ys = group(h);
            let mut sums = tile.0;
            for first in (0..stride).step_by(LANES) {
                let ys = ys.map(|y| lanes(&y[first..]));
                for (sums, x) in sums.iter_mut().zip(xs) {
                    let x = lanes(&x[first..]);
                    for (sum, y) in sums.iter_mut().zip(ys) {
                        *sum = add_product(fused, *sum, x, y);
                    }
                }
            }
            tile.0 = sums;
        }
    }
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

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn products_of_each_two_columns() {
        let stride = 2 * LANES;
        for n in 1..=2 * WIDTH + 1 {
            let columns = Array2::from_shape_fn((n, stride), |(c, i)| ((c + 1) * (i + 3) % 7) as f64);
            let mut gram = Gram::zeros(n);
            for _ in 0..2 {
                gram.add(columns.as_slice().unwrap(), stride);
            }
            let expected = columns.dot(&columns.t()) * 2.0;
            assert_eq!(gram.total(), expected.into_raw_vec_and_offset().0);
        }
    }
}
