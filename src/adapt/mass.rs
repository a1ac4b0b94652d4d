//! Probabilities as shares of the mass of an image: the sum over a pixel and all pixels that are at most as probable.

use std::cmp::Ordering;

use ndarray::{ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::planes::Planes;
use crate::error::Result;
use crate::maps::ScoreMaps;
use crate::memory;
use crate::num::real::Real;
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// The buffers of one thread.
#[derive(Default)]
struct Work<R> {
    planes: Planes<R>,
    pixels: Vec<(R, usize)>,
}

/// Writes, for each pixel, the summed probability of the pixels that are at most as probable, as a share of the image's sum.
/// Equal pixels have equal shares, and all shares are 0 if the sum is. `out` is `(n, pixels)`. Sums run upwards, in float64.
pub fn mass_shares<R: Real>(
    maps: &ScoreMaps<'_, R>,
    mut out: ArrayViewMut2<'_, f64>,
    cancel: &Cancel,
) -> Result<()> {
    let images = out.axis_iter_mut(Axis(0)).into_par_iter().enumerate();
    images.try_for_each_init(Work::default, |work, (image, mut out)| {
        let Work { planes, pixels } = work;
        pixels.clear();
        memory::reserve(pixels, maps.n_pixels(), "the pixels of an image")?;
        planes.of_image(maps, image, cancel, |at, plane| {
            // Adding 0 turns -0 into 0.
            pixels.extend(at.zip(plane).map(|(j, &p)| (p + R::zero(), j)));
        })?;
        sort_unstable_by(pixels, |a, b| ascending(&a.0, &b.0), cancel)?;
        let mut sum = 0.0;
        for equals in pixels.chunk_by(|a, b| a.0 == b.0) {
            let p: f64 = equals[0].0.into();
            sum += p * equals.len() as f64;
            for &(_, j) in equals {
                out[j] = sum;
            }
        }
        if sum > 0.0 {
            out.mapv_inplace(|mass| mass / sum);
        }
        Ok(())
    })
}

/// The smallest probability of each image whose share is at or above a cutoff; `EMPTY` if there is none. The shares are those
/// of [`mass_shares`], which are not written down.
pub fn mass_cutoffs<R: Real>(maps: &ScoreMaps<'_, R>, cutoff: f64, cancel: &Cancel) -> Result<Vec<f64>> {
    let images = (0..maps.n_images()).into_par_iter();
    let found = images.map_init(Buffers::default, |buffers: &mut Buffers<R>, image| {
        let Buffers { planes, values } = buffers;
        values.clear();
        memory::reserve(values, maps.n_pixels(), "the pixels of an image")?;
        planes
            .of_image(maps, image, cancel, |_, plane| values.extend(plane.iter().map(|&p| p + R::zero())))?;
        sort_unstable_by(values, ascending, cancel)?;
        let total = cumulative(values).last().map_or(0.0, |(_, sum)| sum);
        let share = |sum: f64| if total > 0.0 { sum / total } else { sum };
        let first = cumulative(values).find(|&(_, sum)| share(sum) >= cutoff);
        Ok(first.map_or(EMPTY, |(p, _)| p))
    });
    memory::all(memory::gathered(found, "the cutoffs of images")?.into_iter(), "the cutoffs of images")
}

/// The order of probabilities: none is NaN.
#[inline(always)]
fn ascending<R: Real>(a: &R, b: &R) -> Ordering {
    if a < b {
        Ordering::Less
    } else if a > b {
        Ordering::Greater
    } else {
        Ordering::Equal
    }
}

/// A threshold that no probability reaches.
pub const EMPTY: f64 = 2.0;

/// The buffers of one thread.
#[derive(Default)]
struct Buffers<R> {
    planes: Planes<R>,
    values: Vec<R>,
}

/// Each value of an ascending run, with the sum of all values up to it.
fn cumulative<R: Real>(values: &[R]) -> impl Iterator<Item = (f64, f64)> + '_ {
    values.chunk_by(|a, b| a == b).scan(0.0, |sum, equals| {
        let p: f64 = equals[0].into();
        *sum += p * equals.len() as f64;
        Some((p, *sum))
    })
}
