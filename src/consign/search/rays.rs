//! Rays from 0: along each, the nearest place that is accurate enough is found exactly.
//!
//! First the axes, then random directions, then directions ever nearer to the best one.

use std::sync::Arc;

use super::Stop;
use super::problem::Problem;
use crate::consign::bounds::{Pixels, norm};
use crate::consign::line::{Deepest, Piece};
use crate::error::Result;
use crate::num::philox::{Philox, unit};
use crate::threads::Cancel;

/// The key of the random directions: the same for all images.
const KEY: u128 = 0x434f_4e53_4947_4e00;
/// The number of random rays is this times the square of the number of dimensions: in few, branch and bound is as fast.
const RAYS: usize = 2;
/// Then half as many around the best one, at each of these distances.
const DISTANCES: [f64; 6] = [0.5, 0.25, 0.12, 0.06, 0.03, 0.01];

/// How far into a piece of a ray a tie at its end is left behind, relatively.
const NUDGES: [f64; 3] = [0.0, 1e-12, 1e-9];
/// Pieces of a ray that are tried.
const PIECES: usize = 6;

/// The ray on which the accuracy is reached nearest to 0; if it is not reached yet, the ray with the best accuracy.
struct BestRay<const K: usize> {
    direction: [f64; K],
    sum: u64,
}

impl<const K: usize> Problem<K> {
    /// A good upper bound.
    pub(super) fn search_rays(&mut self, stop: Stop, cancel: &Cancel) -> Result<()> {
        let moving: Vec<usize> = (0..K).filter(|&k| self.moves[k]).collect();
        if self.is_decided(stop) || moving.is_empty() {
            return Ok(());
        }
        let mut ray = BestRay { direction: [0.0; K], sum: 0 };
        for &k in &moving {
            for sign in [1.0, -1.0] {
                self.compare(&std::array::from_fn(|i| if i == k { sign } else { 0.0 }), &mut ray, cancel)?;
            }
        }
        if moving.len() > 1 {
            let n_rays = RAYS * moving.len() * moving.len();
            let mut random = Directions { generator: Philox::new(KEY), next: 0, moves: self.moves };
            for _ in 0..n_rays {
                if self.is_decided(stop) {
                    return Ok(());
                }
                self.compare(&random.draw(), &mut ray, cancel)?;
            }
            for distance in DISTANCES {
                for _ in 0..n_rays / 2 {
                    if self.is_decided(stop) {
                        return Ok(());
                    }
                    let (step, length) = (random.draw(), norm(&ray.direction));
                    let near = std::array::from_fn(|k| ray.direction[k] / length + distance * step[k]);
                    self.compare(&near, &mut ray, cancel)?;
                }
            }
        }
        if !self.is_decided(stop) {
            self.reduce(cancel)?;
        }
        Ok(())
    }

    /// Searches a ray up to the best point.
    pub(super) fn ray(&mut self, direction: &[f64; K], cancel: &Cancel) -> Result<Option<Deepest>> {
        let length = norm(direction);
        if length == 0.0 {
            return Ok(None);
        }
        let direction = direction.map(|x| x / length);
        let mut sweep = std::mem::take(&mut self.sweep);
        // The data of a sweep, a few pointers, are moved out while points are tried.
        let (rows, undecided) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.undecided));
        let (right, accuracy) = (self.right.clone(), Arc::clone(&self.accuracy));
        let pixels = Pixels { rows: &rows, undecided: &undecided, right: &right };
        let limit = self.limit();
        let mut n_tried = 0;
        let deepest = sweep.along(pixels, &accuracy, &direction, limit, cancel, |piece| {
            n_tried += 1;
            Ok(self.try_piece(piece, &direction, cancel)? || n_tried == PIECES)
        });
        (self.sweep, self.rows, self.undecided) = (sweep, rows, undecided);
        deepest.map(Some)
    }

    fn try_piece(&mut self, piece: Piece, direction: &[f64; K], cancel: &Cancel) -> Result<bool> {
        let middle = 0.5 * (piece.from + piece.to);
        let nudged = NUDGES.iter().map(|nudge| (piece.from * (1.0 + nudge)).min(middle));
        for t in nudged.chain([middle]) {
            if self.try_point(&direction.map(|x| t * x), cancel)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Searches a ray, and says whether it is the best one.
    fn compare(&mut self, direction: &[f64; K], best: &mut BestRay<K>, cancel: &Cancel) -> Result<()> {
        let before = self.best;
        let Some(deepest) = self.ray(direction, cancel)? else { return Ok(()) };
        if self.best < before {
            best.direction = *direction;
            if self.best <= 0.5 * self.reduced_to {
                self.reduce(cancel)?;
            }
        } else if self.witness.is_none() && deepest.sum > best.sum {
            *best = BestRay { direction: *direction, sum: deepest.sum };
            // Verified by the argmax, not only computed.
            let middle = 0.5 * (deepest.piece.from + deepest.piece.to) / norm(direction);
            self.try_point(&direction.map(|x| x * middle), cancel)?;
        }
        Ok(())
    }
}

/// Random directions, uniform in the cube of the dimensions that move.
struct Directions<const K: usize> {
    generator: Philox,
    next: u64,
    moves: [bool; K],
}

impl<const K: usize> Directions<K> {
    fn draw(&mut self) -> [f64; K] {
        let moves = self.moves;
        std::array::from_fn(|k| {
            if !moves[k] {
                return 0.0;
            }
            let number = self.generator.block(self.next / 4)[(self.next % 4) as usize];
            self.next += 1;
            2.0 * unit(number) - 1.0
        })
    }
}
