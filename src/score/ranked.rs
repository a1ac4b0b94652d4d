//! The sets of pixels at one lambda, for scores by which a set is the first labels of a pixel's ranking.
//!
//! If labels are ranked by their probabilities, a set is determined by its size and its smallest probability: labels with
//! larger probabilities are in, and so are the lowest classes of those with an equal one. Both follow from the sorted
//! probabilities, which are added up until the first label is out. No critical value of a single label is computed.

use ndarray::ArrayViewMut2;

use super::aps::{Before, grain};
use super::compare::include_each;
use super::network::{self, LANES, Row};
use super::restart;
use crate::maps::Tile;
use crate::num::lanes::Lines;
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// The sets of the pixels of a tile.
#[derive(Default)]
pub struct Ranked<R> {
    /// The smallest probability in each.
    smallest: Vec<R>,
    rows: Vec<Row<R>>,
    n_least: Vec<i32>,
    limits: Limits,
}

impl<R: Real> Ranked<R> {
    /// Finds the labels whose critical value is at most `lambda`, and their number. `critical` computes the critical value from
    /// the mass and the number of the labels before, and must not fall with either.
    pub fn cut(
        &mut self,
        tile: &Tile<'_, R>,
        critical: impl Fn(Before) -> f64,
        lambda: f64,
        sizes: &mut Vec<i32>,
    ) {
        let (n_classes, Self { smallest, rows, limits, .. }) = (tile.n_classes(), self);
        let limits = limits.at(lambda, n_classes, critical);
        restart(smallest, tile.len(), R::zero());
        restart(sizes, tile.len(), 0);
        rows.resize(network::n_rows(n_classes), Lines([R::zero(); LANES]));
        let runs = smallest.chunks_mut(LANES).zip(sizes.chunks_mut(LANES));
        for (first, (smallest, sizes)) in (0..).step_by(LANES).zip(runs) {
            let (own, padding) = rows.split_at_mut(n_classes);
            for (k, row) in own.iter_mut().enumerate() {
                let run = &tile.plane(k)[first..][..sizes.len()];
                match run.first_chunk() {
                    Some(run) => row.0 = *run,
                    None => row.0[..run.len()].copy_from_slice(run),
                }
            }
            padding.fill(Lines([R::zero(); LANES]));
            network::sort(rows);
            let (found, n_in) = count(&rows[..n_classes], limits);
            smallest.copy_from_slice(&found[..smallest.len()]);
            sizes.copy_from_slice(&n_in[..sizes.len()]);
        }
    }

    /// Writes the sets that [`Ranked::cut`] found.
    pub fn masks(&mut self, tile: &Tile<'_, R>, sizes: &[i32], out: &mut ArrayViewMut2<'_, u8>) {
        let Self { smallest, n_least, .. } = self;
        restart(n_least, tile.len(), 0);
        for (k, row) in out.outer_iter_mut().enumerate() {
            include_each(tile.plane(k), smallest, row.into_slice().expect(CONTIGUOUS), n_least);
        }
        if n_least == sizes {
            return;
        }
        // Somewhere lambda separates equally probable labels: the highest classes are out.
        for (k, row) in out.outer_iter_mut().enumerate().rev() {
            let row = row.into_slice().expect(CONTIGUOUS);
            exclude_equals(tile.plane(k), smallest, sizes, row, n_least);
        }
    }
}

const CONTIGUOUS: &str = "the pixels of a class are contiguous";

/// For one score and each rank: the largest mass before a label of this rank at which the label is in.
#[derive(Default)]
struct Limits {
    lambda: Option<f64>,
    of_ranks: Vec<f64>,
}

impl Limits {
    /// The limits at a lambda, which are kept until another lambda comes.
    fn at(&mut self, lambda: f64, n_classes: usize, critical: impl Fn(Before) -> f64) -> &[f64] {
        if self.lambda != Some(lambda) || self.of_ranks.len() != n_classes {
            let mut limit = f64::MAX;
            self.of_ranks.clear();
            self.of_ranks.extend((0..n_classes).map(|rank| {
                let is_in = |mass| critical(Before { mass, count: rank as f64 }) <= lambda;
                // The limit does not rise along the ranking, and mostly does not change.
                if !is_in(limit) {
                    limit = f64::largest(is_in);
                }
                limit
            }));
            self.lambda = Some(lambda);
        }
        &self.of_ranks
    }
}

/// For each lane, the smallest probability that is in, and the number of those that are.
#[apply(vectorised!)]
fn count<R: Real>(sorted: &[Row<R>], limits: &[f64]) -> ([R; LANES], [i32; LANES]) {
    let (mut masses, mut sizes, mut smallest) = ([0.0; LANES], [0; LANES], [R::zero(); LANES]);
    for (Lines(row), &limit) in sorted.iter().zip(limits) {
        let mut n_in = 0;
        for lane in 0..LANES {
            let (p, is_in) = (row[lane], masses[lane] <= limit);
            sizes[lane] += i32::from(is_in);
            smallest[lane] = if is_in { p } else { smallest[lane] };
            masses[lane] += grain(p.into());
            n_in += i32::from(is_in);
        }
        if n_in == 0 {
            break;
        }
    }
    (smallest, sizes)
}

/// Removes a label from the sets whose smallest probability it has, if too many labels have it.
#[apply(vectorised!)]
fn exclude_equals<R: Real>(plane: &[R], smallest: &[R], sizes: &[i32], mask: &mut [u8], n_in: &mut [i32]) {
    let len = plane.len();
    let (smallest, sizes) = (&smallest[..len], &sizes[..len]);
    let (mask, n_in) = (&mut mask[..len], &mut n_in[..len]);
    for j in 0..len {
        let is_out = (plane[j] == smallest[j]) & (n_in[j] > sizes[j]);
        mask[j] &= u8::from(!is_out);
        n_in[j] -= i32::from(is_out);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn sets(p: &[f64], critical: impl Fn(Before) -> f64, lambda: f64) -> (i32, Vec<u8>) {
        let tile = Tile::new(p, 1, 1, p.len());
        let (mut ranked, mut sizes, mut out) =
            (Ranked::default(), Vec::new(), Array2::from_elem((p.len(), 1), 9));
        ranked.cut(&tile, critical, lambda, &mut sizes);
        ranked.masks(&tile, &sizes, &mut out.view_mut());
        (sizes[0], out.column(0).to_vec())
    }

    #[test]
    fn by_hand() {
        let by_mass = |before: Before| before.mass;
        assert_eq!(sets(&[0.125, 0.5, 0.375], by_mass, 0.0), (1, vec![0, 1, 0]));
        assert_eq!(sets(&[0.125, 0.5, 0.375], by_mass, 0.5_f64.next_down()), (1, vec![0, 1, 0]));
        assert_eq!(sets(&[0.125, 0.5, 0.375], by_mass, 0.5), (2, vec![0, 1, 1]));
        assert_eq!(sets(&[0.125, 0.5, 0.375], by_mass, 0.875), (3, vec![1, 1, 1]));
    }

    #[test]
    fn of_equals_the_lowest_classes_are_in() {
        let by_mass = |before: Before| before.mass;
        assert_eq!(sets(&[0.25; 4], by_mass, 0.25), (2, vec![1, 1, 0, 0]));
        assert_eq!(sets(&[0.125, 0.25, 0.25, 0.25, 0.125], by_mass, 0.3), (2, vec![0, 1, 1, 0, 0]));
        // Zeros of both signs are equal, and a score may separate them by their ranks.
        let by_count = |before: Before| before.count;
        assert_eq!(sets(&[0.0, 1.0, -0.0, 0.0], by_count, 2.0), (3, vec![1, 1, 1, 0]));
        assert_eq!(sets(&[-0.0, 1.0, 0.0, -0.0], by_count, 1.5), (2, vec![1, 1, 0, 0]));
    }

    #[test]
    fn limits_are_those_of_the_definition() {
        let critical = |before: Before| (before.mass.min(1.0) + 0.1 * (before.count - 1.0).max(0.0)).min(1.3);
        for lambda in [0.0, 0.1, 0.25, 0.7, 1.0_f64.next_down(), 1.0, 1.1, 1.2, 1.3, 9.0] {
            for (rank, &limit) in Limits::default().at(lambda, 6, critical).iter().enumerate() {
                let is_in = |mass| critical(Before { mass, count: rank as f64 }) <= lambda;
                assert!(limit < 0.0 || is_in(limit), "rank {rank} at {lambda}");
                assert!(limit >= 1.0 || !is_in(limit.max(-5e-324).next_up()), "rank {rank} at {lambda}");
            }
        }
    }
}
