//! How given multi-labeled masks cover the truth.

use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, fold_images};
use crate::sets::{Coverage, SizeCounter};
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Counts, image by image, what boolean masks `(n, K, ...)`, 1 where a class is in, hold of the labelled pixels.
pub fn mask_coverage(
    masks: &ScoreMaps<'_, f32>,
    labels: &LabelMaps<'_>,
    cancel: &Cancel,
) -> Result<Vec<Coverage>> {
    let cover = |work: &mut Work, band: &Band| {
        let mut counter = SizeCounter::new(masks.n_classes());
        let mut covered = vec![0; masks.n_classes()];
        let mut reader = masks.tiles(band.image, &mut work.scratch);
        for pixels in band.runs(reader.tile_len()) {
            cancel.check()?;
            labels.read(band.image, pixels.clone(), &mut work.codes)?;
            work.sizes.clear();
            work.sizes.resize(work.codes.len(), 0);
            let tile = reader.read(pixels);
            for (class, covered) in covered.iter_mut().enumerate() {
                *covered += u64::from(tally(tile.plane(class), &work.codes, class as i32, &mut work.sizes));
            }
            counter.add(&work.codes, &work.sizes);
        }
        let mut found = counter.finish(covered);
        found.missed.iter_mut().zip(&found.totals).for_each(|(missed, total)| *missed = total - *missed);
        Ok(found)
    };
    fold_images(masks, cancel, cover, Coverage::add)
}

#[derive(Default)]
struct Work {
    scratch: Scratch<f32>,
    codes: Vec<i32>,
    sizes: Vec<i32>,
}

/// The number of a class's pixels in a tile whose set holds the class. Adds 1 to the sizes of all sets that hold it.
#[apply(vectorised!)]
fn tally(plane: &[f32], codes: &[i32], class: i32, sizes: &mut [i32]) -> u32 {
    let mut hits = 0;
    for ((&is_inside, &code), size) in plane.iter().zip(codes).zip(sizes) {
        *size += i32::from(is_inside != 0.0);
        hits += u32::from((is_inside != 0.0) & (code == class));
    }
    hits
}
