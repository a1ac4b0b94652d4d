//! Probabilities as shares of the mass of an image: what a pixel and all that are at most as probable sum to.

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

/// Writes the summed probability of the pixels that are at most as probable as each pixel, as a share of that of the image;
/// equals have equal shares, and all are 0 where the sum is. `out` is `(n, pixels)`. Sums run upwards, in float64.
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
        let by_probability = |a: &(R, usize), b: &(R, usize)| a.partial_cmp(b).expect("no NaN");
        sort_unstable_by(pixels, by_probability, cancel)?;
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
