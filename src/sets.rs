//! From lambda to sets: masks, set sizes, and how much of the truth the sets hold.

use ndarray::{ArrayViewMut2, ArrayViewMut3, s};

use crate::error::Result;
use crate::maps::{Band, ClassCounter, LabelMaps, ScoreMaps, VOID, bands_mut, fold_images, visit_bands};
use crate::num::real::Real;
use crate::score::{Buffers, Lambdas, Score, for_each_tile};
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Multi-labeled masks: `out` is `(n, K, pixels)` and takes 1 where the class is in the pixel's set, else 0.
pub fn threshold<R: Real>(
    maps: &ScoreMaps<'_, R>,
    lambdas: &Lambdas,
    score: &dyn Score<R>,
    out: ArrayViewMut3<'_, u8>,
    cancel: &Cancel,
) -> Result<()> {
    let lambdas = lambdas.resolve(maps, score.coding())?;
    visit_bands(maps, bands_mut(out), cancel, |buffers, band, mut out| {
        for_each_tile(maps, None, score, band, buffers, cancel, |spot| {
            let mut out = out.slice_mut(s![.., band.offset_of(&spot.place.pixels)]);
            score.masks(spot, lambdas.of_image(band.image), &mut out)
        })
    })
}

/// Number of classes in each pixel's set; `out` is `(n, pixels)`.
pub fn set_size<R: Real>(
    maps: &ScoreMaps<'_, R>,
    lambdas: &Lambdas,
    score: &dyn Score<R>,
    out: ArrayViewMut2<'_, u16>,
    cancel: &Cancel,
) -> Result<()> {
    let lambdas = lambdas.resolve(maps, score.coding())?;
    visit_bands(maps, bands_mut(out), cancel, |buffers, band, mut out| {
        for_each_tile(maps, None, score, band, buffers, cancel, |spot| {
            score.sizes(spot, lambdas.of_image(band.image))?;
            let mut out = out.slice_mut(s![band.offset_of(&spot.place.pixels)]);
            for (out, &size) in out.iter_mut().zip(&spot.work.sizes) {
                *out = size as u16;
            }
            Ok(())
        })
    })
}

/// The critical value of each pixel's true label, NaN where void; `out` is `(n, pixels)`.
pub fn true_label_scores<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    score: &dyn Score<R>,
    out: ArrayViewMut2<'_, f64>,
    cancel: &Cancel,
) -> Result<()> {
    let coding = score.coding();
    visit_bands(maps, bands_mut(out), cancel, |buffers, band, mut out| {
        for_each_tile(maps, Some(labels), score, band, buffers, cancel, |spot| {
            score.true_labels(spot)?;
            let mut out = out.slice_mut(s![band.offset_of(&spot.place.pixels)]);
            for (out, &code) in out.iter_mut().zip(spot.labels()) {
                *out = if code == VOID { f64::NAN } else { 0.0 };
            }
            for (j, value) in spot.work.missed.iter() {
                out[j] = coding.decode(value);
            }
            Ok(())
        })
    })
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

    /// Adds what was found at other pixels of the image.
    pub fn add(&mut self, other: Self) {
        self.missed.iter_mut().zip(other.missed).for_each(|(l, r)| *l += r);
        self.totals.iter_mut().zip(other.totals).for_each(|(l, r)| *l += r);
        self.size_sum += other.size_sum;
    }
}

/// How the sets cover the truth, image by image, without building masks.
pub fn coverage<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    lambdas: &Lambdas,
    score: &dyn Score<R>,
    cancel: &Cancel,
) -> Result<Vec<Coverage>> {
    let coding = score.coding();
    let lambdas = lambdas.resolve(maps, coding)?;
    let cover = |buffers: &mut Buffers<R>, band: &Band| {
        let (mut found, mut totals) = (Coverage::new(maps.n_classes()), ClassCounter::new(maps.n_classes()));
        for_each_tile(maps, Some(labels), score, band, buffers, cancel, |spot| {
            let cutoffs = lambdas.of_image(band.image);
            score.true_labels(spot)?;
            score.sizes(spot, cutoffs)?;
            let codes = spot.labels();
            totals.add(codes);
            for (j, value) in spot.work.missed.iter() {
                let class = codes[j] as usize;
                found.missed[class] += u64::from(coding.decode(value) > cutoffs.lambda(class));
            }
            found.size_sum += sum_labelled(&spot.work.sizes, codes);
            Ok(())
        })?;
        found.totals = totals.finish();
        Ok(found)
    };
    fold_images(maps, cancel, cover, Coverage::add)
}

#[apply(vectorised!)]
fn sum_labelled(sizes: &[i32], codes: &[i32]) -> u64 {
    // A tile is short enough for 32 bits.
    let sum: u32 =
        sizes.iter().zip(codes).map(|(&size, &code)| if code == VOID { 0 } else { size as u32 }).sum();
    u64::from(sum)
}
