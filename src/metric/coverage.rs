//! How given multi-labeled masks cover the truth.

use crate::error::Result;
use crate::maps::{LabelMaps, ScoreMaps, VOID, map_bands};
use crate::sets::{Coverage, join_bands};
use crate::threads::Cancel;

/// Counts, image by image, what boolean masks `(n, K, ...)` hold of the labelled pixels.
pub fn mask_coverage(
    masks: &ScoreMaps<'_, bool>,
    labels: &LabelMaps<'_>,
    cancel: &Cancel,
) -> Result<Vec<Coverage>> {
    let tasks = vec![(); masks.bands().len()];
    let bands = map_bands(masks, tasks, cancel, |work: &mut (Vec<f32>, Vec<i32>), band, ()| {
        let (scratch, codes) = work;
        let mut found = Coverage::new(masks.n_classes());
        let mut reader = masks.tiles(band.image, scratch);
        for pixels in band.tiles::<f32>(masks.n_classes()) {
            labels.read(band.image, pixels.clone(), codes)?;
            let tile = reader.read(pixels);
            for class in 0..masks.n_classes() {
                for (&inside, &code) in tile.plane(class).iter().zip(codes.iter()) {
                    let is_inside = inside != 0.0;
                    found.size_sum += u64::from(is_inside & (code != VOID));
                    found.totals[class] += u64::from(code == class as i32);
                    found.missed[class] += u64::from((code == class as i32) & !is_inside);
                }
            }
        }
        Ok(found)
    })?;
    Ok(join_bands(masks, &bands))
}
