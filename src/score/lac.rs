//! LAC, least ambiguous set-valued classifier: the score of label `k` is one minus its probability.
//!
//! `s_k = 1 - p_k`, computed as the float64 expression `1.0 - f64(p_k)`. The set of a pixel at lambda is
//! `{k : s_k <= lambda}`, with `include_top1` also the most probable label (the lowest of equals), whose critical value
//! is then 0. At lambda = 1 every set is full.
//!
//! Sadinle, Lei, Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019; for
//! segmentation: Mossina, Dalmau, Andéol, "Conformal Semantic Image Segmentation", CVPR Workshops 2024, section 4.
//!
//! Thresholding needs no arithmetic per value: `1.0 - f64(p) <= lambda` is monotone in `p`, so there is a smallest `p` of
//! the input's own type for which it holds ([`Coding::cutoff`]), and the kernels compare with that.

use ndarray::ArrayViewMut2;

use super::given::include_from;
use super::{Activations, Base, BaseWork, Coding, Loaded, Score, Work, restart};
use crate::error::Result;
use crate::maps::{Tile, VOID, stream};
use crate::normalisation::{Place, check};
use crate::real::Real;
use crate::simd::{apply, vectorised};

/// The score `1 - p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lac {
    /// Whether the most probable label is always in the set.
    pub include_top1: bool,
}

impl<R: Real> Score<R> for Lac {
    /// Probabilities are stored: `1 - p` of a float32 would not fit a float32.
    fn coding(&self) -> Coding {
        Coding::Complement
    }

    fn true_labels(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        let Work { scan, missed, .. } = work;
        scan.truth(tile, codes, place)?;
        if self.include_top1 {
            scan.flag_not_best(codes);
        } else {
            scan.flags.resize(tile.len(), 0);
            not_certain(codes, &scan.values, &mut scan.flags);
        }
        missed.note(&scan.flags);
        missed.values.extend(missed.at.iter().map(|&j| scan.values[j as usize].into()));
        Ok(())
    }

    fn count_activations(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        work: &mut Work<R>,
        counts: &mut Activations,
    ) {
        let coding = Coding::Complement;
        for k in 0..tile.n_classes() {
            for (&p, &code) in tile.plane(k).iter().zip(codes) {
                if code != VOID {
                    counts.add(coding, p.into());
                }
            }
        }
        if self.include_top1 {
            for (&best_value, _) in work.scan.best_values.iter().zip(codes).filter(|(_, code)| **code != VOID)
            {
                counts.promote(coding, best_value.into());
            }
        }
    }

    fn masks(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut Work<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        let Work { scan, sizes, .. } = work;
        scan.top(tile, None, place)?;
        let cutoff = Coding::Complement.cutoff(lambda);
        let rows =
            out.outer_iter_mut().map(|row| row.into_slice().expect("the pixels of a class are contiguous"));
        if !(self.include_top1 && any_below(&scan.best_values, cutoff)) {
            for (k, row) in rows.enumerate() {
                include_from(tile.plane(k), cutoff, row);
            }
            return Ok(());
        }
        // Where lambda alone leaves a set empty, the largest probability is the threshold.
        let thresholds = &mut scan.best_values;
        lower_to(thresholds, cutoff);
        restart(sizes, tile.len(), 0);
        for (k, row) in rows.enumerate() {
            include_each(tile.plane(k), thresholds, row, sizes);
        }
        // Its equals came in too: only the lowest stays.
        for j in (0..tile.len()).filter(|&j| thresholds[j] < cutoff && sizes[j] > 1) {
            let equals = (0..tile.n_classes()).filter(|&k| tile.plane(k)[j] == thresholds[j]);
            equals.skip(1).for_each(|k| out[[k, j]] = 0);
        }
        Ok(())
    }

    fn sizes(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        let Work { scan, sizes, .. } = work;
        restart(sizes, tile.len(), 0);
        restart(&mut scan.sums, tile.len(), R::zero());
        let cutoff = Coding::Complement.cutoff(lambda);
        let mut signs = R::Bits::default();
        stream!(tile, |planes, _k| signs |= count(planes, cutoff, &mut scan.sums, sizes));
        if self.include_top1 {
            // If any label passes, the most probable one does.
            at_least_one(sizes);
        }
        check(tile, &scan.sums, signs, codes, place)
    }
}

impl<R: Real> Base<R> for Lac {
    fn load(
        &self,
        tile: &Tile<'_, R>,
        place: &Place,
        work: &mut BaseWork<R>,
        out: &mut Loaded<'_, R>,
    ) -> Result<()> {
        out.first.copy_from_slice(work.scan.first(tile, place)?);
        out.copy(tile);
        Ok(())
    }
}

#[apply(vectorised!)]
fn not_certain<R: Real>(codes: &[i32], values: &[R], missed: &mut [u8]) {
    for ((&code, &p), missed) in codes.iter().zip(values).zip(missed) {
        *missed = u8::from((p < R::one()) & (code != VOID));
    }
}

#[apply(vectorised!)]
fn any_below<R: Real>(values: &[R], limit: R) -> bool {
    values.iter().fold(false, |any, &value| any | (value < limit))
}

#[apply(vectorised!)]
fn lower_to<R: Real>(values: &mut [R], limit: R) {
    for value in values {
        *value = if *value < limit { *value } else { limit };
    }
}

#[apply(vectorised!)]
fn include_each<R: Real>(plane: &[R], thresholds: &[R], mask: &mut [u8], sizes: &mut [i32]) {
    let len = plane.len();
    let (thresholds, mask, sizes) = (&thresholds[..len], &mut mask[..len], &mut sizes[..len]);
    for j in 0..len {
        let inside = plane[j] >= thresholds[j];
        mask[j] = u8::from(inside);
        sizes[j] += i32::from(inside);
    }
}

#[apply(vectorised!)]
fn count<R: Real, const N: usize>(
    planes: [&[R]; N],
    cutoff: R,
    sums: &mut [R],
    sizes: &mut [i32],
) -> R::Bits {
    let len = sums.len();
    let planes = planes.map(|plane| &plane[..len]);
    let sizes = &mut sizes[..len];
    let mut signs = R::Bits::default();
    for j in 0..len {
        let (mut sum, mut size) = (sums[j], sizes[j]);
        for plane in &planes {
            let p = plane[j];
            signs |= p.bits();
            sum += p;
            size += i32::from(p >= cutoff);
        }
        (sums[j], sizes[j]) = (sum, size);
    }
    signs
}

#[apply(vectorised!)]
fn at_least_one(sizes: &mut [i32]) {
    for size in sizes {
        *size = (*size).max(1);
    }
}
