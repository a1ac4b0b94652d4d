//! Exact search on a ray: along `t v`, `t >= 0`, each pixel is right in an interval. The sorted ends of the intervals give
//! the accuracy at every point of the ray.

use super::accuracy::Accuracy;
use super::bounds::{CHECKED, Pixels, dot};
use crate::error::Result;
use crate::memory;
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// Where a pixel becomes right, or ceases to be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    at: f64,
    leaves: bool,
    group: u16,
}

/// A piece of a ray.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
}

/// The best accuracy on a ray.
#[derive(Debug, Clone, PartialEq)]
pub struct Deepest {
    /// The best accuracy on the ray, in units, up to ties.
    pub sum: u64,
    /// Where it is first reached.
    pub piece: Piece,
}

/// Buffers of sweeps along rays.
#[derive(Debug, Clone, Default)]
pub struct Sweep {
    events: Vec<Event>,
    right: Vec<u32>,
}

impl Sweep {
    /// Walks along `t v` from 0 to `limit` and calls `try_piece` with each piece on which the accuracy is met, nearest first,
    /// until it returns true. Ends of pieces are ties: `try_piece` must check whether the argmax agrees there.
    pub fn along<const K: usize>(
        &mut self,
        pixels: Pixels<'_, K>,
        accuracy: &Accuracy,
        direction: &[f64; K],
        limit: f64,
        cancel: &Cancel,
        mut try_piece: impl FnMut(Piece) -> Result<bool>,
    ) -> Result<Deepest> {
        let Pixels { rows, undecided, right } = pixels;
        self.right.clear();
        self.right.extend_from_slice(right);
        self.events.clear();
        let mut first = 0;
        memory::reserve(&mut self.events, 2 * undecided.pixels.len(), "the places where pixels change")?;
        for (index, pixel) in undecided.pixels.iter().enumerate() {
            if index % CHECKED == 0 {
                cancel.check()?;
            }
            let competitors = &undecided.rows[first..first + usize::from(pixel.n_rows)];
            first += usize::from(pixel.n_rows);
            let (mut from, mut to) = (0.0_f64, f64::INFINITY);
            for &competitor in competitors {
                let row = &rows[competitor as usize];
                let slope = dot(&row.gains, direction);
                if row.lead < 0.0 {
                    // The label is behind, and may catch up.
                    from = if slope > 0.0 { from.max(-row.lead / slope) } else { f64::INFINITY };
                    if from > limit {
                        break;
                    }
                } else if slope < 0.0 {
                    to = to.min(-row.lead / slope);
                }
            }
            if from > to || from > limit {
                continue;
            }
            if from > 0.0 {
                self.events.push(Event { at: from, leaves: false, group: pixel.group });
            } else {
                self.right[usize::from(pixel.group)] += 1;
            }
            if to <= limit {
                self.events.push(Event { at: to, leaves: true, group: pixel.group });
            }
        }
        // Intervals are closed: at the same place, pixels that become right come before those that cease to be.
        let order = |a: &Event, b: &Event| a.at.total_cmp(&b.at).then(a.leaves.cmp(&b.leaves));
        sort_unstable_by(&mut self.events, order, cancel)?;
        let mut sum = accuracy.sum(&self.right);
        let end = |next: usize| self.events.get(next).map_or(limit, |event| event.at);
        let mut deepest = Deepest { sum, piece: Piece { from: 0.0, to: end(0) } };
        for (index, event) in self.events.iter().enumerate() {
            if index % CHECKED == 0 {
                cancel.check()?;
            }
            let unit = accuracy.unit(event.group);
            if event.leaves {
                self.right[usize::from(event.group)] -= 1;
                sum -= unit;
                continue;
            }
            self.right[usize::from(event.group)] += 1;
            sum += unit;
            let piece = Piece { from: event.at, to: end(index + 1) };
            if sum > deepest.sum {
                deepest = Deepest { sum, piece };
            }
            if accuracy.is_met(sum, &self.right) && try_piece(piece)? {
                break;
            }
        }
        Ok(deepest)
    }
}

#[cfg(test)]
mod tests {
    use num_rational::BigRational;

    use super::*;
    use crate::consign::bounds::{Pixel, Row, Undecided};

    fn pieces(rows: &[Row<1>], n_right: u32, beta: (i64, i64)) -> (Vec<Piece>, Deepest) {
        let undecided = Undecided {
            pixels: vec![Pixel { group: 0, n_rows: 1 }; rows.len()],
            rows: (0..rows.len() as u32).collect(),
        };
        let beta = BigRational::new(beta.0.into(), beta.1.into());
        let accuracy = Accuracy::new(&[n_right + rows.len() as u32], beta, false);
        let pixels = Pixels { rows, undecided: &undecided, right: &[n_right] };
        let mut found = Vec::new();
        let deepest = Sweep::default().along(pixels, &accuracy, &[1.0], 10.0, &Cancel::default(), |piece| {
            found.push(piece);
            Ok(false)
        });
        (found, deepest.unwrap())
    }

    #[test]
    fn sweep_by_hand() {
        let rows = [
            Row { lead: -1.0, gains: [1.0] },  // right from 1 on
            Row { lead: 3.0, gains: [-1.0] },  // right until 3
            Row { lead: -4.0, gains: [2.0] },  // right from 2 on
            Row { lead: -1.0, gains: [-1.0] }, // never right
            Row { lead: 2.0, gains: [0.5] },   // always right
        ];
        let (found, deepest) = pieces(&rows, 0, (4, 5));
        assert_eq!(found, [Piece { from: 2.0, to: 3.0 }]);
        assert_eq!(deepest.piece, found[0]);
        let (found, _) = pieces(&rows, 0, (3, 5));
        assert_eq!(found, [Piece { from: 1.0, to: 2.0 }, Piece { from: 2.0, to: 3.0 }]);
        assert_eq!(pieces(&rows, 0, (1, 1)).0, []);
        // Closed ends: where one pixel takes over from another, both are right.
        let relay = [Row { lead: 2.0, gains: [-1.0] }, Row { lead: -2.0, gains: [1.0] }];
        assert_eq!(pieces(&relay, 0, (1, 1)).0, [Piece { from: 2.0, to: 2.0 }]);
        assert_eq!(pieces(&rows, 15, (19, 20)).0, [Piece { from: 2.0, to: 3.0 }]);
    }
}
