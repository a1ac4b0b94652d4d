//! How given multi-labeled masks cover the truth.

use crate::error::Result;
use crate::maps::{Band, ClassCounter, LabelMaps, ScoreMaps, Scratch, VOID, fold_images};
use crate::sets::Coverage;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Counts, image by image, what boolean masks `(n, K, ...)`, 1 where a class is in, hold of the labelled pixels.
pub fn mask_coverage(
    masks: &ScoreMaps<'_, f32>,
    labels: &LabelMaps<'_>,
    cancel: &Cancel,
) -> Result<Vec<Coverage>> {
    let cover = |work: &mut (Scratch<f32>, Vec<i32>), band: &Band| {
        let (scratch, codes) = work;
        let (mut found, mut totals) =
            (Coverage::new(masks.n_classes()), ClassCounter::new(masks.n_classes()));
        let mut covered = vec![0; masks.n_classes()];
        let mut reader = masks.tiles(band.image, scratch);
        for pixels in band.runs(reader.tile_len()) {
            cancel.check()?;
            labels.read(band.image, pixels.clone(), codes)?;
            let tile = reader.read(pixels);
            totals.add(codes);
            for (class, covered) in covered.iter_mut().enumerate() {
                let (inside, hits) = tally(tile.plane(class), codes, class as i32);
                found.size_sum += u64::from(inside);
                *covered += u64::from(hits);
            }
        }
        found.totals = totals.finish();
        found.missed = found.totals.iter().zip(covered).map(|(total, covered)| total - covered).collect();
        Ok(found)
    };
    fold_images(masks, cancel, cover, Coverage::add)
}

/// How many labelled pixels of a tile hold a class, and how many of those are of it.
#[apply(vectorised!)]
fn tally(plane: &[f32], codes: &[i32], class: i32) -> (u32, u32) {
    let (mut inside, mut hits) = (0, 0);
    for (&is_inside, &code) in plane.iter().zip(codes) {
        inside += u32::from((is_inside != 0.0) & (code != VOID));
        hits += u32::from((is_inside != 0.0) & (code == class));
    }
    (inside, hits)
}
