//! Label maps drawn from multi-labeled masks: at each pixel one class of its set, all with the same probability,
//! independently of the other pixels.

use ndarray::{ArrayViewMut3, Axis};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::maps::{Band, ScoreMaps, Scratch, fold_images};
use crate::num::philox::{Philox, below, draw_each};
use crate::threads::Cancel;

/// The classes of each pixel's set, one after the other.
struct Sets {
    /// Where the classes of a pixel begin; one more than there are pixels.
    starts: Vec<u32>,
    classes: Vec<u16>,
}

/// Draws from boolean masks `(n, K, ...)`, 1 where a class is in; `out` is `(n, m, pixels)`. Element `t` of `out`, in row-major
/// order, is decided by the `t`-th random number: floor of its share of 2^64 times the size of the set.
pub fn sample_masks<T: Copy + Send + Sync + TryFrom<u16>>(
    masks: &ScoreMaps<'_, f32>,
    generator: Philox,
    mut out: ArrayViewMut3<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    let (_, m, n_pixels) = out.dim();
    let images = sets(masks, cancel)?;
    for (image, (sets, mut out)) in images.iter().zip(out.axis_iter_mut(Axis(0))).enumerate() {
        out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().try_for_each(|(sample, mut out)| {
            cancel.check()?;
            let out = out.as_slice_mut().expect("the pixels of a sample are contiguous");
            let class = |place: u32| T::try_from(sets.classes[place as usize]).ok().expect("classes fit");
            for (out, &start) in out.iter_mut().zip(&sets.starts) {
                *out = class(start);
            }
            let size = |j: usize| sets.starts[j + 1] - sets.starts[j];
            let first = ((image * m + sample) * n_pixels) as u64;
            draw_each(
                generator,
                first,
                n_pixels,
                |j| size(j) > 1,
                |j, random| {
                    out[j] = class(sets.starts[j] + below(random, size(j).into()) as u32);
                },
            );
            Ok(())
        })?;
    }
    Ok(())
}

fn sets(masks: &ScoreMaps<'_, f32>, cancel: &Cancel) -> Result<Vec<Sets>> {
    let read = |scratch: &mut Scratch<f32>, band: &Band| {
        let mut found = Sets { starts: Vec::with_capacity(band.pixels.len()), classes: Vec::new() };
        let mut reader = masks.tiles(band.image, scratch);
        for pixels in band.runs(reader.tile_len()) {
            let tile = reader.read(pixels.clone());
            for j in 0..tile.len() {
                found.starts.push(found.classes.len() as u32);
                let members = (0..tile.n_classes()).filter(|&class| tile.plane(class)[j] != 0.0);
                found.classes.extend(members.map(|class| class as u16));
                if found.classes.len() as u32 == *found.starts.last().expect("just pushed") {
                    let place = masks.place(band.image, pixels);
                    return Err(Error::EmptySet { image: place.image, pixel: place.pixel(j) });
                }
            }
        }
        Ok(found)
    };
    let add = |image: &mut Sets, band: Sets| {
        let offset = image.classes.len() as u32;
        image.starts.extend(band.starts.iter().map(|start| start + offset));
        image.classes.extend(band.classes);
    };
    let mut images = fold_images(masks, cancel, read, add)?;
    for image in &mut images {
        image.starts.push(image.classes.len() as u32);
    }
    Ok(images)
}
