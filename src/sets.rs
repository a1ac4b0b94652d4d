//! From lambda to sets: masks, set sizes, and how much of the truth the sets hold.

use multiversion::multiversion;
use ndarray::{ArrayViewMut2, ArrayViewMut3, s};

use crate::error::Result;
use crate::maps::{ClassCounter, LabelMaps, ScoreMaps, VOID, bands_mut, map_bands};
use crate::normalisation::Place;
use crate::real::{Element, Real};
use crate::score::{Score, SetWork, TrueLabels};
use crate::threads::Cancel;

/// Multi-labeled masks: `out` is `(n, K, pixels)` and takes 1 where the class is in the pixel's set at `lambda`, else 0.
pub fn threshold<E: Element, S: Score>(
    maps: &ScoreMaps<'_, E>,
    lambda: f64,
    score: &S,
    out: ArrayViewMut3<'_, u8>,
    cancel: &Cancel,
) -> Result<()> {
    map_bands(maps, bands_mut(out), cancel, |work: &mut Work<E::Real>, band, mut out| {
        let mut reader = maps.tiles(band.image, &mut work.scratch);
        for pixels in band.tiles::<E::Real>(maps.n_classes()) {
            let columns = band.offset_of(&pixels);
            let place = Place { image: maps.name(band.image), pixels: pixels.clone() };
            let mut out = out.slice_mut(s![.., columns]);
            score.masks(&reader.read(pixels), lambda, &place, &mut work.sets, &mut out)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Number of classes in each pixel's set at `lambda`; `out` is `(n, pixels)`.
pub fn set_size<E: Element, S: Score>(
    maps: &ScoreMaps<'_, E>,
    lambda: f64,
    score: &S,
    out: ArrayViewMut2<'_, u16>,
    cancel: &Cancel,
) -> Result<()> {
    map_bands(maps, bands_mut(out), cancel, |work: &mut Work<E::Real>, band, mut out| {
        let mut reader = maps.tiles(band.image, &mut work.scratch);
        for pixels in band.tiles::<E::Real>(maps.n_classes()) {
            let mut out = out.slice_mut(s![band.offset_of(&pixels)]);
            let place = Place { image: maps.name(band.image), pixels: pixels.clone() };
            score.sizes(&reader.read(pixels), lambda, None, &place, &mut work.sets)?;
            for (out, &size) in out.iter_mut().zip(&work.sets.sizes) {
                *out = size as u16;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// The critical value of each pixel's true label, NaN where void; `out` is `(n, pixels)`.
pub fn true_label_scores<E: Element, S: Score>(
    maps: &ScoreMaps<'_, E>,
    labels: &LabelMaps<'_>,
    score: &S,
    out: ArrayViewMut2<'_, f64>,
    cancel: &Cancel,
) -> Result<()> {
    let coding = score.coding();
    map_bands(maps, bands_mut(out), cancel, |work: &mut Work<E::Real>, band, mut out| {
        let Work { scratch, codes, truth, .. } = work;
        let mut reader = maps.tiles(band.image, scratch);
        for pixels in band.tiles::<E::Real>(maps.n_classes()) {
            let mut out = out.slice_mut(s![band.offset_of(&pixels)]);
            labels.read(band.image, pixels.clone(), codes)?;
            let place = Place { image: maps.name(band.image), pixels: pixels.clone() };
            score.true_labels(&reader.read(pixels), codes, &place, truth)?;
            let out = out.as_slice_mut().expect("the pixels of an image are contiguous");
            for ((out, &code), (&value, &missed)) in
                out.iter_mut().zip(&*codes).zip(truth.values.iter().zip(&truth.missed))
            {
                let critical = if missed == 0 { 0.0 } else { coding.decode(value.into()) };
                *out = if code == VOID { f64::NAN } else { critical };
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// What the sets of one image hold, over its labelled pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Labelled pixels of each class whose set does not hold it.
    pub missed: Vec<u64>,
    /// Labelled pixels of each class.
    pub totals: Vec<u64>,
    /// Sum of the set sizes.
    pub size_sum: u64,
}

impl Coverage {
    /// Nothing seen yet of `n_classes` classes.
    pub fn new(n_classes: usize) -> Self {
        Self { missed: vec![0; n_classes], totals: vec![0; n_classes], size_sum: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.missed.iter_mut().zip(&other.missed).for_each(|(l, r)| *l += r);
        self.totals.iter_mut().zip(&other.totals).for_each(|(l, r)| *l += r);
        self.size_sum += other.size_sum;
    }
}

/// Joins what was found band by band, in the order of [`ScoreMaps::bands`], to one result per image.
pub fn join_bands<E: Element>(maps: &ScoreMaps<'_, E>, bands: &[Coverage]) -> Vec<Coverage> {
    let join = |bands: &[Coverage]| {
        let mut image = Coverage::new(maps.n_classes());
        for band in bands {
            image.add(band);
        }
        image
    };
    bands.chunks(maps.bands_per_image()).map(join).collect()
}

/// How the sets at `lambda` cover the truth, image by image, without building masks.
pub fn coverage<E: Element, S: Score>(
    maps: &ScoreMaps<'_, E>,
    labels: &LabelMaps<'_>,
    lambda: f64,
    score: &S,
    cancel: &Cancel,
) -> Result<Vec<Coverage>> {
    let coding = score.coding();
    let tasks = vec![(); maps.bands().len()];
    let bands = map_bands(maps, tasks, cancel, |work: &mut Work<E::Real>, band, ()| {
        let Work { scratch, codes, truth, sets } = work;
        let (mut found, mut totals) = (Coverage::new(maps.n_classes()), ClassCounter::new(maps.n_classes()));
        let mut reader = maps.tiles(band.image, scratch);
        for pixels in band.tiles::<E::Real>(maps.n_classes()) {
            labels.read(band.image, pixels.clone(), codes)?;
            let place = Place { image: maps.name(band.image), pixels: pixels.clone() };
            let tile = reader.read(pixels);
            score.true_labels(&tile, codes, &place, truth)?;
            score.sizes(&tile, lambda, Some(codes), &place, sets)?;
            totals.add(codes);
            truth.for_each_missed(codes, |value, code| {
                found.missed[code as usize] += u64::from(coding.decode(value.into()) > lambda);
            });
            found.size_sum += sum_labelled(&sets.sizes, codes);
        }
        found.totals = totals.finish();
        Ok(found)
    })?;
    Ok(join_bands(maps, &bands))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn sum_labelled(sizes: &[i32], codes: &[i32]) -> u64 {
    // A tile is short enough for 32 bits.
    let sum: u32 =
        sizes.iter().zip(codes).map(|(&size, &code)| if code == VOID { 0 } else { size as u32 }).sum();
    u64::from(sum)
}

/// The buffers of one thread.
struct Work<R> {
    scratch: Vec<R>,
    codes: Vec<i32>,
    truth: TrueLabels<R>,
    sets: SetWork<R>,
}

impl<R: Real> Default for Work<R> {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            codes: Vec::new(),
            truth: TrueLabels::default(),
            sets: SetWork::default(),
        }
    }
}
