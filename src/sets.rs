//! From lambda to sets: masks, set sizes, and how much of the truth the sets hold.

use ndarray::{ArrayViewMut2, ArrayViewMut3, s};

use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, VOID, bands_mut, fold_images, visit_bands};
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

/// Classes whose bits fit in a byte.
pub const BITS: usize = u8::BITS as usize;

/// The same masks with a bit for each class: `out` is `(n, ceil(K / 8), pixels)`, where class `k` is bit `k % 8`, the least
/// first, of plane `k / 8`.
pub fn threshold_packed<R: Real>(
    maps: &ScoreMaps<'_, R>,
    lambdas: &Lambdas,
    score: &dyn Score<R>,
    out: ArrayViewMut3<'_, u8>,
    cancel: &Cancel,
) -> Result<()> {
    let (lambdas, n_classes) = (lambdas.resolve(maps, score.coding())?, maps.n_classes());
    visit_bands(
        maps,
        bands_mut(out),
        cancel,
        |(buffers, masks): &mut (Buffers<R>, Vec<u8>), band, mut out| {
            for_each_tile(maps, None, score, band, buffers, cancel, |spot| {
                let len = spot.tile.len();
                masks.resize(n_classes * len, 0);
                let mut rows = ArrayViewMut2::from_shape((n_classes, len), masks).expect("as many");
                score.masks(spot, lambdas.of_image(band.image), &mut rows)?;
                let mut out = out.slice_mut(s![.., band.offset_of(&spot.place.pixels)]);
                for (out, rows) in out.outer_iter_mut().zip(masks.chunks(BITS * len)) {
                    pack(rows, out.into_slice().expect("the pixels of a plane are contiguous"));
                }
                Ok(())
            })
        },
    )
}

/// Joins up to eight rows of 0 and 1 as bits, the first as the least.
#[apply(vectorised!)]
fn pack(rows: &[u8], out: &mut [u8]) {
    out.fill(0);
    for (bit, row) in rows.chunks_exact(out.len()).enumerate() {
        for (byte, &flag) in out.iter_mut().zip(row) {
            *byte |= flag << bit;
        }
    }
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
    /// Sum of the set sizes on the labelled pixels of each class.
    pub sizes: Vec<u64>,
}

impl Coverage {
    /// Adds the counts of other pixels of the image.
    pub fn add(&mut self, other: Self) {
        self.missed.iter_mut().zip(other.missed).for_each(|(l, r)| *l += r);
        self.totals.iter_mut().zip(other.totals).for_each(|(l, r)| *l += r);
        self.sizes.iter_mut().zip(other.sizes).for_each(|(l, r)| *l += r);
    }
}

/// How the sets at each of some lambdas cover the truth, without building masks: by image, then by lambda.
pub fn coverage<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    lambdas: &[Lambdas],
    score: &dyn Score<R>,
    cancel: &Cancel,
) -> Result<Vec<Vec<Coverage>>> {
    let coding = score.coding();
    let lambdas = lambdas.iter().map(|lambdas| lambdas.resolve(maps, coding)).collect::<Result<Vec<_>>>()?;
    let cover = |buffers: &mut Buffers<R>, band: &Band| {
        let mut counters = vec![SizeCounter::new(maps.n_classes()); lambdas.len()];
        let mut missed = vec![vec![0; maps.n_classes()]; lambdas.len()];
        for_each_tile(maps, Some(labels), score, band, buffers, cancel, |spot| {
            score.true_labels(spot)?;
            for ((lambdas, counter), missed) in lambdas.iter().zip(&mut counters).zip(&mut missed) {
                let cutoffs = lambdas.of_image(band.image);
                score.sizes(spot, cutoffs)?;
                let codes = spot.labels();
                counter.add(codes, &spot.work.sizes);
                for (j, value) in spot.work.missed.iter() {
                    let class = codes[j] as usize;
                    missed[class] += u64::from(coding.decode(value) > cutoffs.lambda(class));
                }
            }
            Ok(())
        })?;
        Ok(counters.into_iter().zip(missed).map(|(counter, missed)| counter.finish(missed)).collect())
    };
    let add = |sums: &mut Vec<Coverage>, found: Vec<Coverage>| {
        sums.iter_mut().zip(found).for_each(|(sum, found)| sum.add(found));
    };
    fold_images(maps, cancel, cover, add)
}

/// Up to so many classes, each class is counted by a pass of its own, without branches.
const FEW_CLASSES: usize = 6;

/// The pixels of a class, and the sum of their sizes.
#[apply(vectorised!)]
fn sum_of_class(codes: &[i32], sizes: &[i32], class: i32) -> (u32, u32) {
    let (mut n_pixels, mut sum) = (0, 0);
    for (&code, &size) in codes.iter().zip(sizes) {
        n_pixels += u32::from(code == class);
        sum += if code == class { size as u32 } else { 0 };
    }
    (n_pixels, sum)
}

/// Counts the labelled pixels of each class, and sums the sizes of their sets.
#[derive(Debug, Clone)]
pub struct SizeCounter {
    /// For each class (void first): pixels in the low half, sizes in the high one, so that a pixel causes one write. There are
    /// four of each, because neighbouring pixels share their class, and a sum that was just written is slow to read.
    packed: Vec<[u64; 4]>,
    /// A bound of the sizes in a packed sum.
    largest: u64,
    totals: Vec<u64>,
    sizes: Vec<u64>,
}

impl SizeCounter {
    /// Nothing counted yet.
    pub fn new(n_classes: usize) -> Self {
        let zeros = vec![0; n_classes];
        Self { packed: vec![[0; 4]; n_classes + 1], largest: 0, totals: zeros.clone(), sizes: zeros }
    }

    /// Counts some pixels, by their codes and the sizes of their sets. Fewer than 65536 at a time.
    pub fn add(&mut self, codes: &[i32], sizes: &[i32]) {
        if self.totals.len() <= FEW_CLASSES {
            for (class, (total, sum)) in self.totals.iter_mut().zip(&mut self.sizes).enumerate() {
                let (n_pixels, size) = sum_of_class(codes, sizes, class as i32);
                *total += u64::from(n_pixels);
                *sum += u64::from(size);
            }
            return;
        }
        let most = codes.len() as u64 * self.totals.len() as u64;
        if self.largest + most > u64::from(u32::MAX) {
            self.unpack();
        }
        self.largest += most;
        let packed = self.packed.as_mut_slice();
        let (code_runs, rest) = codes.as_chunks::<8>();
        let (size_runs, rest_of_sizes) = sizes.as_chunks::<8>();
        for (codes, sizes) in code_runs.iter().zip(size_runs) {
            let first = codes[0];
            // Most neighbours are of one class.
            if codes.iter().fold(true, |all, &code| all & (code == first)) {
                let mut sum = 0;
                for &size in sizes {
                    sum += size as u32;
                }
                packed[(first - VOID) as usize][0] += u64::from(sum) << 32 | 8;
            } else {
                for lane in 0..8 {
                    packed[(codes[lane] - VOID) as usize][lane % 4] += (sizes[lane] as u64) << 32 | 1;
                }
            }
        }
        for (&code, &size) in rest.iter().zip(rest_of_sizes) {
            packed[(code - VOID) as usize][0] += (size as u64) << 32 | 1;
        }
    }

    fn unpack(&mut self) {
        self.largest = 0;
        let (void, classes) = self.packed.split_first_mut().expect("one more than classes");
        *void = [0; 4];
        for ((lanes, total), size) in classes.iter_mut().zip(&mut self.totals).zip(&mut self.sizes) {
            *total += lanes.iter().map(|sum| sum & u64::from(u32::MAX)).sum::<u64>();
            *size += lanes.iter().map(|sum| sum >> 32).sum::<u64>();
            *lanes = [0; 4];
        }
    }

    /// What was counted, beside the missed pixels of each class.
    pub fn finish(mut self, missed: Vec<u64>) -> Coverage {
        self.unpack();
        Coverage { missed, totals: self.totals, sizes: self.sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_wider_than_what_is_packed() {
        let mut counter = SizeCounter::new(65535);
        let codes = [[7; 4096].as_slice(), &[VOID; 3]].concat();
        for _ in 0..40 {
            counter.add(&codes, &vec![65535; codes.len()]);
        }
        let found = counter.finish(vec![0; 65535]);
        assert_eq!((found.totals[7], found.sizes[7]), (163_840, 163_840 * 65535));
        assert_eq!((found.totals.iter().sum::<u64>(), found.sizes[6]), (163_840, 0));
    }
}
