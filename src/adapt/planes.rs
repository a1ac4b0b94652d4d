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

    /// The same for a whole image, whatever its labels are.
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

/// Fails at the first number that is no probability, void or not: when masks are made, void pixels are not known.
fn check<R: Real>(tile: &Tile<'_, R>, place: &Place) -> Result<()> {
    let plane = tile.plane(0);
    // Only -0 is a probability with more bits than 1.
    if most_bits(plane) <= R::one().bits() {
        return Ok(());
    }
    match (0..).zip(plane.iter().copied()).find(|&(_, p)| !is_probability(p)) {
        Some((j, p)) => {
            Err(Error::NoProbability { image: place.image, pixel: place.pixel(j), value: p.into() })
        }
        None => Ok(()),
    }
}

#[inline(always)]
pub(super) fn is_probability<R: Real>(p: R) -> bool {
    // Neither holds for NaN.
    (p >= R::zero()) & (p <= R::one())
}

#[apply(vectorised!)]
fn most_bits<R: Real>(plane: &[R]) -> R::Bits {
    plane.iter().fold(R::Bits::default(), |most, p| most.max(p.bits()))
}
