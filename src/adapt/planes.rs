//! Maps of one class as they are read: a run of probabilities after the other, checked.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::maps::{Band, BinaryLabels, ScoreMaps, Scratch, Tile};
use crate::num::real::Real;
use crate::place::Place;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Reads the planes of bands, with the buffers of one thread.
#[derive(Default)]
pub(super) struct Planes<R> {
    scratch: Scratch<R>,
    codes: Vec<i8>,
}

impl<R: Real> Planes<R> {
    /// Calls `visit` with the pixels of each run of a band, counted from its first, their probabilities, and their class codes
    /// if labels are given.
    pub(super) fn for_each(
        &mut self,
        maps: &ScoreMaps<'_, R>,
        labels: Option<&BinaryLabels<'_>>,
        band: &Band,
        cancel: &Cancel,
        mut visit: impl FnMut(Range<usize>, &[R], &[i8]) -> Result<()>,
    ) -> Result<()> {
        let Self { scratch, codes } = self;
        let mut reader = maps.tiles(band.image, scratch);
        for pixels in band.runs(reader.tile_len()) {
            cancel.check()?;
            let place = maps.place(band.image, pixels.clone());
            let tile = reader.read(pixels.clone());
            check(&tile, &place)?;
            if let Some(labels) = labels {
                labels.read(band.image, pixels.clone(), codes)?;
            }
            visit(band.offset_of(&pixels), tile.plane(0), codes)?;
        }
        Ok(())
    }

    /// The same of a whole image, whatever its labels are.
    pub(super) fn of_image(
        &mut self,
        maps: &ScoreMaps<'_, R>,
        image: usize,
        cancel: &Cancel,
        mut visit: impl FnMut(Range<usize>, &[R]),
    ) -> Result<()> {
        let band = Band { image, pixels: 0..maps.n_pixels() };
        self.for_each(maps, None, &band, cancel, |pixels, plane, _| {
            visit(pixels, plane);
            Ok(())
        })
    }
}

/// Fails at the first number that is no probability, void or not: nobody knows what is void where masks are made.
fn check<R: Real>(tile: &Tile<'_, R>, place: &Place) -> Result<()> {
    let plane = tile.plane(0);
    if !any_outside(plane) {
        return Ok(());
    }
    // Another thread may have written a good number there since.
    let j = plane.iter().position(|&p| is_outside(p)).ok_or(Error::Changed { name: "P" })?;
    Err(Error::NoProbability { image: place.image, pixel: place.pixel(j), value: plane[j].into() })
}

#[inline(always)]
fn is_outside<R: Real>(p: R) -> bool {
    // Written so that NaN is outside.
    !((p >= R::zero()) & (p <= R::one()))
}

#[apply(vectorised!)]
fn any_outside<R: Real>(plane: &[R]) -> bool {
    plane.iter().fold(false, |any, &p| any | is_outside(p))
}
