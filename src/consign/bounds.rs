//! The pixels that are surely right, surely wrong, or undecided in a box of `z`.
//!
//! A pixel with label `y` is right at `z` if it beats each competitor `l`: `d + g . z >= 0` (`> 0` if `l < y`), where `d` is
//! the lead of `y` at `z = 0` and `g` how it moves. Over a box with centre `c` and radii `r` the lead ranges in
//! `d + g . c -+ |g| . r`. Rounding is covered by a slack, so that no pixel is called sure that the argmax of the field,
//! computed in float64, could contradict: ties and near-ties stay undecided.

use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// Pixels between two checks for cancellation.
pub const CHECKED: usize = 1 << 6;

/// What errors call pixels.
const UNDECIDED: &str = "the undecided pixels of a box";

/// The lead of a pixel's label over one competitor.
#[derive(Debug, Clone, Copy)]
pub struct Row<const K: usize> {
    /// The lead at `z = 0`.
    pub lead: f64,
    /// Its gradient.
    pub gains: [f64; K],
}

impl<const K: usize> Row<K> {
    /// The lead at a point.
    #[inline]
    pub fn at(&self, z: &[f64; K]) -> f64 {
        self.lead + dot(&self.gains, z)
    }
}

/// The scalar product.
#[inline]
pub fn dot<const K: usize>(a: &[f64; K], b: &[f64; K]) -> f64 {
    let mut sum = 0.0;
    for k in 0..K {
        sum += a[k] * b[k];
    }
    sum
}

/// The largest absolute value.
#[inline]
pub fn norm<const K: usize>(z: &[f64; K]) -> f64 {
    z.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

/// A box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region<const K: usize> {
    /// Its lower corner.
    pub low: [f64; K],
    /// Its upper corner.
    pub high: [f64; K],
}

impl<const K: usize> Region<K> {
    /// `|z| <= limit` in the dimensions that move, 0 in the others.
    pub fn ball(limit: f64, moves: &[bool; K]) -> Self {
        let high = moves.map(|moves| if moves { limit } else { 0.0 });
        Self { low: high.map(|x| -x), high }
    }

    /// The centre.
    pub fn centre(&self) -> [f64; K] {
        std::array::from_fn(|k| 0.5 * (self.low[k] + self.high[k]))
    }

    /// Half the length of each side.
    pub fn radius(&self) -> [f64; K] {
        std::array::from_fn(|k| 0.5 * (self.high[k] - self.low[k]))
    }

    /// The point nearest to 0.
    pub fn nearest(&self) -> [f64; K] {
        // `+ 0.0` makes a negative zero positive.
        std::array::from_fn(|k| 0.0_f64.clamp(self.low[k], self.high[k]) + 0.0)
    }

    /// The largest absolute value in each dimension.
    pub fn reach(&self) -> [f64; K] {
        std::array::from_fn(|k| self.low[k].abs().max(self.high[k].abs()))
    }

    /// The part with `|z| <= limit`, if there is one.
    pub fn within(mut self, limit: f64) -> Option<Self> {
        for k in 0..K {
            self.low[k] = self.low[k].max(-limit);
            self.high[k] = self.high[k].min(limit);
            if self.low[k] > self.high[k] {
                return None;
            }
        }
        Some(self)
    }

    /// Cuts a dimension, at 0 if it is inside, else in the middle; `None` if there is no float in between.
    pub fn split(&self, k: usize) -> Option<[Self; 2]> {
        let (low, high) = (self.low[k], self.high[k]);
        let at = if low < 0.0 && high > 0.0 { 0.0 } else { 0.5 * (low + high) };
        if !(low < at && at < high) {
            return None;
        }
        let (mut left, mut right) = (*self, *self);
        (left.high[k], right.low[k]) = (at, at);
        Some([left, right])
    }
}

/// How far float64 may be off.
#[derive(Debug, Clone, Copy)]
pub struct Slack<const K: usize> {
    /// At `z = 0`.
    pub at_zero: f64,
    /// What is added for each unit of `|z_k|`.
    pub per_unit: [f64; K],
}

impl<const K: usize> Slack<K> {
    /// A generous bound of the roundings of a score, of a lead, and of the numbers that they are made of.
    pub const ROUNDINGS: f64 = 8.0 * (K as f64 + 4.0) * (f64::EPSILON / 2.0);

    /// The slack within a box.
    pub fn over(&self, region: &Region<K>) -> f64 {
        self.at_zero + dot(&self.per_unit, &region.reach())
    }
}

/// A pixel that a box does not decide, with those competitors that matter.
#[derive(Debug, Clone, Copy)]
pub struct Pixel {
    /// Its group.
    pub group: u16,
    /// Number of competitors.
    pub n_rows: u16,
}

/// Undecided pixels, and their rows one after the other.
#[derive(Debug, Clone, Default)]
pub struct Undecided {
    /// The pixels.
    pub pixels: Vec<Pixel>,
    /// Indices of rows.
    pub rows: Vec<u32>,
}

/// Pixels to judge.
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a, const K: usize> {
    /// The rows that indices refer to.
    pub rows: &'a [Row<K>],
    /// The pixels that may be right or wrong.
    pub undecided: &'a Undecided,
    /// The number of pixels of each group that are right anyway.
    pub right: &'a [u32],
}

/// The result for pixels in a box.
#[derive(Debug, Clone)]
pub struct Verdict<const K: usize> {
    /// Pixels of each group that are surely right.
    pub sure: Vec<u32>,
    /// Those that are not surely wrong.
    pub possible: Vec<u32>,
    /// Those that are right at the centre of the box.
    pub at_centre: Vec<u32>,
    /// Those that are right where the box is next to 0.
    pub at_nearest: Vec<u32>,
    /// Those that are undecided.
    pub undecided: Undecided,
    /// How much the leads of undecided pixels move in each dimension.
    pub spread: [f64; K],
    /// Which of the pixels asked about are undecided.
    pub kept: Vec<u32>,
}

/// Judges pixels in a box. `keep` asks for `kept`.
pub fn judge<const K: usize>(
    asked: Pixels<'_, K>,
    region: &Region<K>,
    slack: f64,
    keep: bool,
    cancel: &Cancel,
) -> Result<Verdict<K>> {
    let Pixels { rows, undecided: asked, right } = asked;
    let (centre, radius, nearest) = (region.centre(), region.radius(), region.nearest());
    let mut verdict = Verdict {
        sure: right.to_vec(),
        possible: right.to_vec(),
        at_centre: right.to_vec(),
        at_nearest: right.to_vec(),
        undecided: Undecided::default(),
        spread: [0.0; K],
        kept: Vec::new(),
    };
    let Undecided { pixels, rows: open } = &mut verdict.undecided;
    let mut first = 0;
    for (index, pixel) in asked.pixels.iter().enumerate() {
        if index % CHECKED == 0 {
            cancel.check()?;
        }
        let competitors = &asked.rows[first..first + usize::from(pixel.n_rows)];
        first += usize::from(pixel.n_rows);
        let n_open = open.len();
        memory::reserve(open, competitors.len(), UNDECIDED)?;
        let (mut is_wrong, mut at_centre) = (false, true);
        for &competitor in competitors {
            let row = &rows[competitor as usize];
            let (mut middle, mut reach) = (row.lead, 0.0);
            for k in 0..K {
                middle += row.gains[k] * centre[k];
                reach += row.gains[k].abs() * radius[k];
            }
            if middle + reach < -slack {
                is_wrong = true;
                break;
            }
            if middle - reach <= slack {
                open.push(competitor);
                at_centre &= middle >= 0.0;
            }
        }
        if is_wrong {
            open.truncate(n_open);
            continue;
        }
        let group = usize::from(pixel.group);
        verdict.possible[group] += 1;
        verdict.at_centre[group] += u32::from(at_centre);
        let n_rows = open.len() - n_open;
        if n_rows == 0 {
            verdict.sure[group] += 1;
            verdict.at_nearest[group] += 1;
            continue;
        }
        memory::push(pixels, Pixel { group: pixel.group, n_rows: n_rows as u16 }, UNDECIDED)?;
        if keep {
            memory::push(&mut verdict.kept, index as u32, UNDECIDED)?;
        }
        let mut at_nearest = true;
        for &competitor in &open[n_open..] {
            let row = &rows[competitor as usize];
            at_nearest &= row.at(&nearest) >= 0.0;
            for (spread, gain) in verdict.spread.iter_mut().zip(&row.gains) {
                *spread += gain.abs();
            }
        }
        verdict.at_nearest[group] += u32::from(at_nearest);
    }
    for (spread, radius) in verdict.spread.iter_mut().zip(radius) {
        *spread *= radius;
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pixels with one competitor each, in one group.
    fn pixels(n: usize) -> Undecided {
        Undecided { pixels: vec![Pixel { group: 0, n_rows: 1 }; n], rows: (0..n as u32).collect() }
    }

    fn ask<const K: usize>(
        rows: &[Row<K>],
        undecided: &Undecided,
        right: u32,
        region: &Region<K>,
        slack: f64,
    ) -> Verdict<K> {
        judge(Pixels { rows, undecided, right: &[right] }, region, slack, true, &Cancel::default()).unwrap()
    }

    #[test]
    fn boxes_decide_what_no_point_contradicts() {
        let rows = [
            Row { lead: 1.0, gains: [0.25, -0.25] }, // 0.5 .. 1.5
            Row { lead: -1.0, gains: [0.25, -0.5] }, // -1.75 .. -0.25
            Row { lead: 0.25, gains: [0.25, 0.5] },  // -0.5 .. 1
            Row { lead: 0.75, gains: [0.25, 0.5] },  // 0 .. 1.5: a tie at a corner stays open
        ];
        let region = Region { low: [-1.0; 2], high: [1.0; 2] };
        let verdict = ask(&rows, &pixels(4), 10, &region, 1e-12);
        assert_eq!((verdict.sure[0], verdict.possible[0]), (11, 13));
        assert_eq!((verdict.at_centre[0], verdict.at_nearest[0]), (13, 13));
        assert_eq!(verdict.undecided.rows, [2, 3]);
        assert_eq!(verdict.kept, [2, 3]);
        assert_eq!(verdict.spread, [0.5, 1.0]);
        let corner = Region { low: [-1.0; 2], high: [-0.75; 2] };
        let verdict = ask(&rows, &verdict.undecided, 11, &corner, 1e-12);
        assert_eq!((verdict.sure[0], verdict.possible[0]), (11, 12));
        assert_eq!(verdict.undecided.rows, [3]);
    }

    #[test]
    fn competitors_that_cannot_win_are_dropped() {
        let rows = [Row { lead: 5.0, gains: [1.0] }, Row { lead: 0.5, gains: [1.0] }];
        let asked = Undecided { pixels: vec![Pixel { group: 0, n_rows: 2 }], rows: vec![0, 1] };
        let region = Region { low: [-1.0], high: [1.0] };
        let verdict = ask(&rows, &asked, 0, &region, 0.0);
        assert_eq!(verdict.undecided.rows, [1]);
        assert_eq!(verdict.undecided.pixels[0].n_rows, 1);
    }

    #[test]
    fn boxes_split_at_zero_first() {
        let region = Region::ball(2.0, &[true, false]);
        assert_eq!(region.high, [2.0, 0.0]);
        let [left, right] = region.split(0).unwrap();
        assert_eq!((left.high[0], right.low[0]), (0.0, 0.0));
        let [near, far] = right.split(0).unwrap();
        assert_eq!((near.nearest(), far.nearest()), ([0.0, 0.0], [1.0, 0.0]));
        assert!(region.split(1).is_none());
        assert_eq!(far.within(1.5).unwrap().high[0], 1.5);
        assert!(far.within(0.5).is_none());
    }
}
