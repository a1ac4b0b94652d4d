//! Critical values that the caller has computed by a score of their own.

use super::{Coding, Score, Spot, ValueBuffers, Values};
use crate::error::{Error, Result};
use crate::maps::{Tile, VOID};
use crate::num::real::Real;
use crate::place::Place;
use crate::simd::{apply, vectorised};

/// The score whose critical values are the maps themselves, in `[0, max]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given {
    /// The smallest lambda at which every set is full.
    pub max: f64,
}

impl Given {
    /// Fails at the first value, of the labelled pixels if there are `codes`, that is no critical value.
    fn check_values<R: Real>(self, tile: &Tile<'_, R>, codes: Option<&[i32]>, place: &Place) -> Result<()> {
        let max = R::largest(|s| s <= self.max);
        if (0..tile.n_classes()).all(|class| all_within(tile.plane(class), max)) {
            return Ok(());
        }
        let is_bad = |j: usize, value: R| {
            codes.is_none_or(|codes| codes[j] != VOID) && !(value >= R::zero() && value <= max)
        };
        for class in 0..tile.n_classes() {
            let plane = tile.plane(class);
            if let Some(j) = (0..tile.len()).find(|&j| is_bad(j, plane[j])) {
                let (image, pixel) = (place.image, place.pixel(j));
                let value = plane[j].into();
                return Err(Error::CriticalValue { image, class, pixel, value, max: self.max });
            }
        }
        Ok(())
    }
}

impl<R: Real> Score<R> for Given {
    fn values<'t>(&self, tile: &Tile<'t, R>, _: &'t mut ValueBuffers) -> Values<'t, R> {
        Values::Own(*tile)
    }

    fn coding(&self) -> Coding {
        Coding::Direct { max: self.max }
    }

    fn needs_double(&self) -> bool {
        false
    }

    fn check(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        self.check_values(&spot.tile, spot.codes, &spot.place)
    }
}

#[apply(vectorised!)]
fn all_within<R: Real>(values: &[R], max: R) -> bool {
    let mut within = true;
    for &value in values {
        within &= (value >= R::zero()) & (value <= max);
    }
    within
}
