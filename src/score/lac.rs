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

use super::compare::{self, include_each, include_from};
use super::{
    Activations, Coding, Cutoffs, Held, Loaded, Score, Spot, ValueBuffers, Values, Work, load_by_probability,
    restart,
};
use crate::error::Result;
use crate::maps::normalisation::{check, union};
use crate::maps::{STRIP, Tile, VOID, stream, strips};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// The score `1 - p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lac {
    /// Whether the most probable label is always in the set.
    pub include_top1: bool,
}

impl<R: Real> Score<R> for Lac {
    /// Without the rule that includes the most probable label.
    fn values<'t>(&self, tile: &Tile<'t, R>, _: &'t mut ValueBuffers) -> Values<'t, R> {
        Values::Own(*tile)
    }

    /// Probabilities are stored: `1 - p` of a float32 would not fit a float32.
    fn coding(&self) -> Coding {
        Coding::Complement
    }

    fn needs_double(&self) -> bool {
        false
    }

    fn true_labels(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        let (codes, Work { scan, missed, .. }) = (spot.labels(), &mut *spot.work);
        scan.truth(&spot.tile, codes, &spot.place)?;
        if self.include_top1 {
            scan.flag_not_best(codes);
        } else {
            scan.flags.resize(codes.len(), 0);
            not_certain(codes, &scan.values, &mut scan.flags);
        }
        missed.note(&scan.flags);
        missed.values.extend(missed.at.iter().map(|&j| scan.values[j as usize].into()));
        Ok(())
    }

    fn count_activations(&self, spot: &mut Spot<'_, R>, counts: &mut Activations) {
        let (coding, codes) = (Coding::Complement, spot.labels());
        compare::count_activations(&spot.tile, coding, codes, counts);
        if self.include_top1 {
            let best_values = spot.work.scan.best_values.iter().zip(codes);
            for (&best_value, _) in best_values.filter(|(_, code)| **code != VOID) {
                counts.promote(coding, best_value.into());
            }
        }
    }

    fn count_held(&self, spot: &mut Spot<'_, R>, held: &mut Held) {
        let (coding, codes) = (Coding::Complement, spot.labels());
        compare::count_held(&spot.tile, coding, codes, held);
        if self.include_top1 {
            let scan = &spot.work.scan;
            let best = scan.best.iter().zip(&scan.best_values).zip(codes);
            for ((&best, &best_value), _) in best.filter(|(_, code)| **code != VOID) {
                held.promote(best as usize, coding, best_value.into());
            }
        }
    }

    fn masks(
        &self,
        spot: &mut Spot<'_, R>,
        cutoffs: Cutoffs<'_, R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        let (tile, Work { scan, sizes, .. }) = (&spot.tile, &mut *spot.work);
        scan.top(tile, None, &spot.place)?;
        let rows =
            out.outer_iter_mut().map(|row| row.into_slice().expect("the pixels of a class are contiguous"));
        let Some(cutoff) = cutoffs.shared() else {
            let highest = (0..tile.n_classes()).fold(R::zero(), |highest, k| highest.max(cutoffs.own(k)));
            if !(self.include_top1 && any_below(&scan.best_values, highest)) {
                for (k, row) in rows.enumerate() {
                    include_from(tile.plane(k), cutoffs.own(k), row);
                }
                return Ok(());
            }
            restart(sizes, tile.len(), 0); // number of labels that are equal to the best
            for (k, row) in rows.enumerate() {
                include_or_best(tile.plane(k), cutoffs.own(k), &scan.best_values, row, sizes);
            }
            // Of equal labels only the lowest is in as the best.
            for j in (0..tile.len()).filter(|&j| sizes[j] > 1) {
                let equals = (0..tile.n_classes()).filter(|&k| tile.plane(k)[j] == scan.best_values[j]);
                let lower = equals.skip(1).filter(|&k| tile.plane(k)[j] < cutoffs.own(k));
                lower.for_each(|k| out[[k, j]] = 0);
            }
            return Ok(());
        };
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
        // Equal labels came in, too: only the lowest stays.
        for j in (0..tile.len()).filter(|&j| thresholds[j] < cutoff && sizes[j] > 1) {
            let equals = (0..tile.n_classes()).filter(|&k| tile.plane(k)[j] == thresholds[j]);
            equals.skip(1).for_each(|k| out[[k, j]] = 0);
        }
        Ok(())
    }

    fn sizes(&self, spot: &mut Spot<'_, R>, cutoffs: Cutoffs<'_, R>) -> Result<()> {
        let (tile, Work { scan, sizes, .. }) = (&spot.tile, &mut *spot.work);
        let Some(cutoff) = cutoffs.shared() else {
            scan.first(tile, spot.codes, &spot.place)?;
            compare::sizes(tile, Coding::Complement, |k| cutoffs.own(k), sizes);
            if self.include_top1 {
                // A void pixel may have no most probable label.
                let best = scan.best.iter().map(|&best| best.max(0) as usize);
                for ((size, best), &value) in sizes.iter_mut().zip(best).zip(&scan.best_values) {
                    *size += i32::from(value < cutoffs.own(best));
                }
            }
            return Ok(());
        };
        restart(sizes, tile.len(), 0);
        restart(&mut scan.sums, tile.len(), R::zero());
        let mut signs = R::Bits::default();
        stream!(tile, |planes, _k| signs |= count(planes, cutoff, &mut scan.sums, sizes));
        if self.include_top1 {
            // If any label passes, the most probable one does.
            at_least_one(sizes);
        }
        check(tile, &scan.sums, signs, spot.codes, &spot.place)
    }

    fn load(&self, spot: &mut Spot<'_, R>, out: &mut Loaded<'_, R>) -> Result<()> {
        load_by_probability(self, spot, out)
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
        *value = value.min(limit);
    }
}

#[apply(vectorised!)]
fn include_or_best<R: Real>(plane: &[R], cutoff: R, best: &[R], mask: &mut [u8], n_best: &mut [i32]) {
    let len = plane.len();
    let (best, mask, n_best) = (&best[..len], &mut mask[..len], &mut n_best[..len]);
    for j in 0..len {
        let is_best = plane[j] >= best[j];
        mask[j] = u8::from(is_best | (plane[j] >= cutoff));
        n_best[j] += i32::from(is_best);
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
    let sizes = &mut sizes[..len];
    let mut signs = [R::Bits::default(); STRIP];
    strips!(len, planes, [], [sums, sizes], |j, lane| {
        let (mut sum, mut size) = (sums[j], sizes[j]);
        for plane in &planes {
            let p = plane[j];
            signs[lane] |= p.bits();
            sum += p;
            size += i32::from(p >= cutoff);
        }
        (sums[j], sizes[j]) = (sum, size);
    });
    union::<R>(signs)
}

#[apply(vectorised!)]
fn at_least_one(sizes: &mut [i32]) {
    for size in sizes {
        *size = (*size).max(1);
    }
}
