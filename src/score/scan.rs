//! One pass over the probabilities of a tile: the sum check, the most probable label, the true label's probability.

use super::restart;
use crate::error::Result;
use crate::maps::normalisation::{check, union};
use crate::maps::{STRIP, Tile, VOID, stream, strips};
use crate::num::real::Real;
use crate::place::Place;
use crate::simd::{apply, vectorised};

/// What the pass finds, pixel by pixel.
#[derive(Default)]
pub struct Scan<R> {
    /// The true label's probability, from [`Scan::truth`].
    pub values: Vec<R>,
    /// The sum of the probabilities.
    pub sums: Vec<R>,
    /// The largest probability.
    pub best_values: Vec<R>,
    /// The lowest class that has it, from [`Scan::truth`] and [`Scan::first`].
    pub best: Vec<i32>,
    /// Marks of [`Scan::flag_not_best`].
    pub flags: Vec<u8>,
}

impl<R: Real> Scan<R> {
    /// Finds all and checks the labelled pixels.
    pub fn truth(&mut self, tile: &Tile<'_, R>, codes: &[i32], place: &Place) -> Result<()> {
        let Self { values, sums, best_values, best, .. } = self;
        restart(values, tile.len(), R::zero());
        restart(sums, tile.len(), R::zero());
        restart(best_values, tile.len(), R::neg_infinity());
        restart(best, tile.len(), VOID);
        let mut signs = R::Bits::default();
        stream!(tile, |planes, k| signs |= scan(planes, k as i32, codes, values, sums, best_values, best));
        check(tile, sums, signs, Some(codes), place)
    }

    /// Finds the largest probabilities and checks the pixels, with `codes` only the labelled ones.
    pub fn top(&mut self, tile: &Tile<'_, R>, codes: Option<&[i32]>, place: &Place) -> Result<()> {
        let Self { sums, best_values, .. } = self;
        restart(sums, tile.len(), R::zero());
        restart(best_values, tile.len(), R::neg_infinity());
        let mut signs = R::Bits::default();
        stream!(tile, |planes, _k| signs |= maximum(planes, sums, best_values));
        check(tile, sums, signs, codes, place)
    }

    /// The most probable label of each pixel, the lowest of equals; checks the pixels, with `codes` only the labelled ones.
    pub fn first(&mut self, tile: &Tile<'_, R>, codes: Option<&[i32]>, place: &Place) -> Result<&[i32]> {
        let Self { sums, best_values, best, .. } = self;
        restart(sums, tile.len(), R::zero());
        restart(best_values, tile.len(), R::neg_infinity());
        restart(best, tile.len(), VOID);
        let mut signs = R::Bits::default();
        stream!(tile, |planes, k| signs |= rank(planes, k as i32, sums, best_values, best));
        check(tile, sums, signs, codes, place)?;
        Ok(best)
    }

    /// Marks the labelled pixels whose label is not the most probable one, after [`Scan::truth`].
    pub fn flag_not_best(&mut self, codes: &[i32]) -> &[u8] {
        self.flags.resize(codes.len(), 0);
        not_best(codes, &self.best, &mut self.flags);
        &self.flags
    }
}

/// Goes through `N` planes at once: sum, running argmax (the first of equals stays) and the true label's probability, which
/// is selected when its plane is read. A gather would wait for memory at every pixel.
#[apply(vectorised!)]
fn scan<R: Real, const N: usize>(
    planes: [&[R]; N],
    first: i32,
    codes: &[i32],
    values: &mut [R],
    sums: &mut [R],
    best_values: &mut [R],
    best: &mut [i32],
) -> R::Bits {
    let len = codes.len();
    let (values, sums) = (&mut values[..len], &mut sums[..len]);
    let (best_values, best) = (&mut best_values[..len], &mut best[..len]);
    let mut signs = [R::Bits::default(); STRIP];
    strips!(len, planes, [codes], [values, sums, best_values, best], |j, lane| {
        let code = codes[j];
        let (mut value, mut sum, mut best_value, mut class) = (values[j], sums[j], best_values[j], best[j]);
        for (k, plane) in (first..).zip(&planes) {
            let p = plane[j];
            signs[lane] |= p.bits();
            sum += p;
            let better = p > best_value;
            best_value = if better { p } else { best_value };
            class = if better { k } else { class };
            value = if code == k { p } else { value };
        }
        (values[j], sums[j], best_values[j], best[j]) = (value, sum, best_value, class);
    });
    union::<R>(signs)
}

#[apply(vectorised!)]
fn not_best(codes: &[i32], best: &[i32], missed: &mut [u8]) {
    for ((&code, &best), missed) in codes.iter().zip(best).zip(missed) {
        *missed = u8::from((code != best) & (code != VOID));
    }
}

#[apply(vectorised!)]
fn rank<R: Real, const N: usize>(
    planes: [&[R]; N],
    first: i32,
    sums: &mut [R],
    best_values: &mut [R],
    best: &mut [i32],
) -> R::Bits {
    let len = sums.len();
    let (best_values, best) = (&mut best_values[..len], &mut best[..len]);
    let mut signs = [R::Bits::default(); STRIP];
    strips!(len, planes, [], [sums, best_values, best], |j, lane| {
        let (mut sum, mut best_value, mut class) = (sums[j], best_values[j], best[j]);
        for (k, plane) in (first..).zip(&planes) {
            let p = plane[j];
            signs[lane] |= p.bits();
            sum += p;
            let better = p > best_value;
            best_value = if better { p } else { best_value };
            class = if better { k } else { class };
        }
        (sums[j], best_values[j], best[j]) = (sum, best_value, class);
    });
    union::<R>(signs)
}

#[apply(vectorised!)]
fn maximum<R: Real, const N: usize>(planes: [&[R]; N], sums: &mut [R], best_values: &mut [R]) -> R::Bits {
    let len = sums.len();
    let best_values = &mut best_values[..len];
    let mut signs = [R::Bits::default(); STRIP];
    strips!(len, planes, [], [sums, best_values], |j, lane| {
        let (mut sum, mut best_value) = (sums[j], best_values[j]);
        for plane in &planes {
            let p = plane[j];
            signs[lane] |= p.bits();
            sum += p;
            best_value = if p > best_value { p } else { best_value };
        }
        (sums[j], best_values[j]) = (sum, best_value);
    });
    union::<R>(signs)
}
