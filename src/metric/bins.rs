//! Bins of confidences, and sums that do not depend on the order of what is added.
//!
//! A sum is kept as a whole number of `2^-44`: adding is exact, so that threads, bands, batches and merges in any order give
//! the same bits. Of float32 numbers from `2^-20` to 1 nothing is lost; of others at most `2^-45`.

use crate::num::real::Real;

/// Adding this to a number from 0 to below it rounds the number to a multiple of the unit of sums.
const SHIFT: f64 = 256.0;

/// The unit of sums.
pub const UNIT: f64 = SHIFT * f64::EPSILON;

/// See [`whole`].
const WHOLE: f64 = 1.0 / f64::EPSILON;

/// A number in `[0, 256)` as a whole number of [`UNIT`], rounded to nearest.
#[inline(always)]
pub fn fixed(x: f64) -> u64 {
    shifted(x).wrapping_sub(SHIFT.to_bits())
}

/// The same, plus a constant.
#[inline(always)]
pub fn shifted(x: f64) -> u64 {
    (x + SHIFT).to_bits()
}

/// A wrapped sum of so many [`shifted`] numbers, without the constants.
#[inline(always)]
pub fn unshifted(sum: u64, len: usize) -> u64 {
    sum.wrapping_sub(SHIFT.to_bits().wrapping_mul(len as u64))
}

/// Bins by which confidences are ranked: see [`rank`].
pub const N_RANKS: usize = 4096;

/// Equal bins of confidences below 1/2.
const LOW: i32 = 1024;

/// The bits of a float32 after the first seven of its mantissa.
const REST: u32 = f32::MANTISSA_DIGITS - 1 - 7;

/// The same of the float32 `2^-25`, at which the last octave begins.
const LEAST: i32 = (f32::MAX_EXP - 1 - 25) << 7;

/// The equal-width bin `(b / n, (b + 1) / n]` that holds a confidence. The first bin is closed, and the last also holds numbers
/// above 1.
///
/// The product is rounded as the type of the maps says, so that 0.2 is the end of the third of 15 bins, whatever its type.
#[inline(always)]
pub fn bin<R: Real>(confidence: R, n_bins: R) -> i32 {
    let last = n_bins - R::one();
    let place = (confidence * n_bins).ceil() - R::one();
    let place = if place > R::zero() { place } else { R::zero() };
    let place = if place < last { place } else { last };
    whole(place.into())
}

/// A whole number from 0 to below 2^31 as an integer. It compiles to one instruction for several numbers; a cast would check
/// the range.
#[inline(always)]
fn whole(x: f64) -> i32 {
    // The distance of float64 numbers from here on is 1: the number is the last bits.
    (x + WHOLE).to_bits() as i32
}

/// Fine bins in the order of confidences: `LOW` equal ones below 1/2, then 128 for each halving of `1 - c`, down to `2^-25`.
/// That is even in the log-odds near 1, where confidences crowd.
#[inline(always)]
pub fn rank(confidence: f64) -> i32 {
    let rest = (1.0 - confidence) as f32;
    let rest = if rest > 0.0 { rest } else { 0.0 };
    let octaves = (rest.to_bits() >> REST) as i32 - LEAST;
    let high = (N_RANKS as i32 - 1) - octaves.max(0);
    let low = whole((confidence * f64::from(2 * LOW)).floor());
    if confidence < 0.5 { low } else { high }
}

/// The counts of few pixels: pixels, right ones, and the sum of confidences. Only two numbers are written for each pixel.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cell {
    /// Pixels in the low half, right ones in the high one.
    counts: u64,
    sum: u64,
}

impl Cell {
    /// So many pixels may be added: then sums and counts still fit.
    pub const MOST: usize = 1 << 19;

    /// Adds a pixel by its [`Cell::counts_of`] and [`fixed`] confidence.
    #[inline(always)]
    pub fn add(&mut self, counts: u64, sum: u64) {
        self.counts = self.counts.wrapping_add(counts);
        self.sum = self.sum.wrapping_add(sum);
    }

    /// Removes a pixel, which is still to be added or was.
    #[inline(always)]
    pub fn remove(&mut self, counts: u64, sum: u64) {
        self.counts = self.counts.wrapping_sub(counts);
        self.sum = self.sum.wrapping_sub(sum);
    }

    /// What a pixel is counted as.
    #[inline(always)]
    pub fn counts_of(is_right: bool) -> u64 {
        1 | u64::from(is_right) << 32
    }
}

/// The same for any number of pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Pixels.
    pub n: u64,
    /// Those whose label is the one in question.
    pub right: u64,
    /// Confidences, in units of [`UNIT`].
    pub sum: u128,
}

impl Sums {
    /// Adds other pixels.
    pub fn add(&mut self, other: Self) {
        self.n += other.n;
        self.right += other.right;
        self.sum += other.sum;
    }

    /// Adds the counts of a cell, and empties it.
    pub fn drain(&mut self, cell: &mut Cell) {
        let Cell { counts, sum } = std::mem::take(cell);
        self.add(Self { n: counts & u64::from(u32::MAX), right: counts >> 32, sum: sum.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_bins_belong_to_the_lower_one() {
        for (confidence, expected) in [(0.0, 0), (1e-9, 0), (0.2, 2), (0.2001, 3), (1.0, 14), (1.0009, 14)] {
            assert_eq!(bin(confidence, 15.0_f64), expected, "{confidence}");
            assert_eq!(bin(confidence as f32, 15.0_f32), expected, "{confidence} of float32");
        }
        assert_eq!(bin(0.7_f32, 1.0), 0);
        assert_eq!(bin(f64::NAN, 15.0), 0);
    }

    #[test]
    fn ranks_never_fall_and_use_all_bins() {
        let tail = (0..=60_u32).map(|i| 1.0 - 0.5 * 0.75_f64.powi(i as i32));
        let all: Vec<f64> = (0..50).map(|i| f64::from(i) / 100.0).chain(tail).chain([1.0, 1.0009]).collect();
        assert!(all.is_sorted());
        let ranks: Vec<i32> = all.iter().map(|&c| rank(c)).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert_eq!((ranks[0], rank(1.0), rank(f64::from(1.0_f32.next_down()))), (0, 4095, 3967));
        assert_eq!((rank(0.5_f64.next_down()), rank(0.5)), (LOW - 1, LOW - 1));
    }

    #[test]
    fn sums_are_whole_numbers_of_their_unit() {
        let numbers = [0.0, 1.0, 0.7, 1e-9, 221.0];
        let sum: u128 = numbers.iter().map(|&x| u128::from(fixed(x))).sum();
        assert!((sum as f64 * UNIT - numbers.iter().sum::<f64>()).abs() < 1e-12);
        assert_eq!(fixed(f64::from(0.7_f32)) as f64 * UNIT, f64::from(0.7_f32));
        assert_eq!(fixed(-1e-16), 0);
    }

    #[test]
    fn cells_hold_as_many_pixels_as_they_may() {
        let (mut cell, mut sums) = (Cell::default(), Sums::default());
        for _ in 0..Cell::MOST {
            cell.add(Cell::counts_of(true), fixed(1.01));
        }
        sums.drain(&mut cell);
        sums.drain(&mut cell);
        let expected = Sums { n: 1 << 19, right: 1 << 19, sum: u128::from(fixed(1.01)) << 19 };
        assert_eq!(sums, expected);
    }
}
