//! Label maps drawn from multi-labeled masks: at each pixel one class of its set, all with the same probability,
//! independently of the other pixels.

use ndarray::{ArrayViewMut3, Axis};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::maps::{Band, ScoreMaps, Scratch, bands_mut, visit_bands};
use crate::memory;
use crate::num::philox::{Philox, below, draw_each};
use crate::threads::Cancel;

/// The classes of the sets of a band's pixels, one after the other: less than 2^32 at most.
struct Sets {
    /// Where the classes of a pixel begin; one more than there are pixels.
    starts: Vec<u32>,
    classes: Vec<u16>,
}

/// Draws from boolean masks `(n, K, ...)`, 1 where a class is in; `out` is `(n, m, pixels)`. Element `t` of `out`, in row-major
/// order, is decided by the `t`-th random number: it takes the class at floor(number / 2^64 * set size).
pub fn sample_masks<T: Copy + Send + Sync + TryFrom<u16>>(
    masks: &ScoreMaps<'_, f32>,
    generator: Philox,
    out: ArrayViewMut3<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    let (_, m, n_pixels) = out.dim();
    visit_bands(masks, bands_mut(out), cancel, |scratch, band, mut out| {
        let sets = sets(masks, band, scratch, cancel)?;
        let class = |place: u32| T::try_from(sets.classes[place as usize]).ok().expect("classes fit");
        let size = |j: usize| sets.starts[j + 1] - sets.starts[j];
        out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().try_for_each(|(sample, mut out)| {
            cancel.check()?;
            let out = out.as_slice_mut().expect("the pixels of a sample are contiguous");
            for (out, &start) in out.iter_mut().zip(&sets.starts) {
                *out = class(start);
            }
            let first = ((band.image * m + sample) * n_pixels + band.pixels.start) as u64;
            draw_each(
                generator,
                first,
                band.pixels.len(),
                |j| size(j) > 1,
                |j, random| {
                    out[j] = class(sets.starts[j] + below(random, size(j).into()) as u32);
                },
            );
            Ok(())
        })
    })
}

fn sets(
    masks: &ScoreMaps<'_, f32>,
    band: &Band,
    scratch: &mut Scratch<f32>,
    cancel: &Cancel,
) -> Result<Sets> {
    const WHAT: &str = "the classes of sets";
    let mut found = Sets { starts: memory::with_room(band.pixels.len() + 1, WHAT)?, classes: Vec::new() };
    let mut reader = masks.tiles(band.image, scratch);
    for pixels in band.runs(reader.tile_len()) {
        cancel.check()?;
        let tile = reader.read(pixels.clone());
        for j in 0..tile.len() {
            found.starts.push(found.classes.len() as u32);
            memory::reserve(&mut found.classes, tile.n_classes(), WHAT)?;
            let members = (0..tile.n_classes()).filter(|&class| tile.plane(class)[j] != 0.0);
            found.classes.extend(members.map(|class| class as u16));
            if found.classes.len() as u32 == *found.starts.last().expect("just pushed") {
                let place = masks.place(band.image, pixels);
                return Err(Error::EmptySet { image: place.image, pixel: place.pixel(j) });
            }
        }
    }
    found.starts.push(found.classes.len() as u32);
    Ok(found)
}
