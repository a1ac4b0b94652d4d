//! Checks whether numbers are softmax probabilities, while the maps are read, at the cost of two operations per value.
//!
//! A kernel collects, per pixel, the float sum of its probabilities, and over a tile the union of their sign bits.
//! That is a filter: it may raise a false alarm, never miss a fault. An alarm sends the tile to the exact check.

use super::{Inputs, STRIP, Tile, VOID};
use crate::error::{Error, Result};
use crate::num::real::Real;
use crate::place::Place;
use crate::simd::{apply, vectorised};

/// How far a pixel's sum may be from 1. Nothing is ever renormalised.
pub const TOLERANCE: f64 = 1e-3;

/// The same for numbers that were rounded to bfloat16.
pub const COARSE_TOLERANCE: f64 = 1e-2;

/// How far rounding may take a sum beyond that, on either side. A refused sum differs from the tolerance in its first six
/// digits.
pub const SLACK: f64 = 5e-6;

/// The union of the bits of all lanes. The compiler keeps a vector of them in the loop before it.
#[inline(always)]
pub fn union<R: Real>(lanes: [R::Bits; STRIP]) -> R::Bits {
    let mut union = R::Bits::default();
    for bits in lanes {
        union |= bits;
    }
    union
}

fn tolerance_of(inputs: Inputs) -> f64 {
    if inputs == Inputs::CoarseProbabilities { COARSE_TOLERANCE } else { TOLERANCE }
}

/// Fails at the first labelled pixel that is no probability vector. `codes`, if given, tells which pixels are void: these may
/// hold anything, and padding is often zero.
pub fn check<R: Real>(
    tile: &Tile<'_, R>,
    sums: &[R],
    signs: R::Bits,
    codes: Option<&[i32]>,
    place: &Place,
) -> Result<()> {
    if tile.is_trusted() {
        return Ok(());
    }
    // Twice the rounding error of summing K numbers one by one.
    let rounding = 2.0 * tile.n_classes() as f64 * R::epsilon().into();
    let tolerance = R::round_from(tolerance_of(tile.inputs()) + SLACK - rounding);
    let alarm = R::sign_bit(signs)
        || match codes {
            None => any_off(sums, tolerance),
            Some(codes) => any_labelled_off(sums, codes, tolerance),
        };
    if alarm { check_exactly(tile, codes, place) } else { Ok(()) }
}

#[apply(vectorised!)]
fn any_off<R: Real>(sums: &[R], tolerance: R) -> bool {
    let mut off = false;
    for &sum in sums {
        // In this form NaN counts as off.
        off |= !((sum - R::one()).abs() <= tolerance);
    }
    off
}

#[apply(vectorised!)]
fn any_labelled_off<R: Real>(sums: &[R], codes: &[i32], tolerance: R) -> bool {
    let mut off = false;
    for (&sum, &code) in sums.iter().zip(codes) {
        off |= !((sum - R::one()).abs() <= tolerance) & (code != VOID);
    }
    off
}

#[cold]
fn check_exactly<R: Real>(tile: &Tile<'_, R>, codes: Option<&[i32]>, place: &Place) -> Result<()> {
    let (image, tolerance) = (place.image, tolerance_of(tile.inputs()));
    let is_off = |sum: f64| !((sum - 1.0).abs() <= tolerance + SLACK);
    for j in (0..tile.len()).filter(|&j| codes.is_none_or(|codes| codes[j] != VOID)) {
        let pixel = place.pixel(j);
        let made: f64 = (0..tile.n_classes()).map(|class| tile.plane(class)[j].into()).sum();
        let given = |class: usize| -> f64 { tile.given(class, j).into() };
        // Masked classes are allowed if the result holds probabilities.
        let is_masked = |value: f64| value == f64::NEG_INFINITY && tile.inputs() == Inputs::Logits;
        let wrong = || (0..tile.n_classes()).filter(|&class| !given(class).is_finite());
        let culprit = wrong().find(|&class| !is_masked(given(class)));
        if let Some(class) = culprit.or_else(|| wrong().next().filter(|_| is_off(made))) {
            return Err(Error::NotFinite { image, class, pixel, value: given(class) });
        }
        let mut sum = 0.0;
        for class in 0..tile.n_classes() {
            let value = given(class);
            if value < 0.0 && tile.inputs() != Inputs::Logits {
                return Err(Error::Negative { image, class, pixel, value });
            }
            sum += value;
        }
        match tile.inputs() {
            Inputs::Probabilities | Inputs::CoarseProbabilities if is_off(sum) => {
                return Err(Error::NotNormalised { image, pixel, sum, tolerance });
            }
            Inputs::Scores if sum == 0.0 => return Err(Error::NoScore { image, pixel }),
            _ => {}
        }
        // Good numbers must give good probabilities; otherwise report it rather than go on.
        if is_off(made) {
            return Err(Error::NotNormalised { image, pixel, sum: made, tolerance });
        }
    }
    Ok(())
}
