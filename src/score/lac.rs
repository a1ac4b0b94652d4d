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

use multiversion::multiversion;
use ndarray::ArrayViewMut2;

use super::{Activations, Coding, Score, SetWork, TrueLabels};
use crate::error::Result;
use crate::maps::{Tile, VOID};
use crate::normalisation::{Place, check};
use crate::real::Real;

/// Streams the planes of a tile through a kernel, four at a time (the per-pixel state is then loaded and stored a
/// quarter as often), and joins their sign bits.
macro_rules! stream {
    ($tile:expr, |$planes:ident, $k:ident| $call:expr) => {{
        let mut signs = R::Bits::default();
        let quads = $tile.n_classes() / 4 * 4;
        for $k in (0..quads).step_by(4) {
            let $planes = [0, 1, 2, 3].map(|i| $tile.plane($k + i));
            signs |= $call;
        }
        for $k in quads..$tile.n_classes() {
            let $planes = [$tile.plane($k)];
            signs |= $call;
        }
        signs
    }};
}

/// The score `1 - p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lac {
    /// Whether the most probable label is always in the set.
    pub include_top1: bool,
}

impl Score for Lac {
    /// Probabilities are stored: `1 - p` of a float32 would not fit a float32.
    fn coding(&self) -> Coding {
        Coding::Complement
    }

    fn count_activations<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        truth: &TrueLabels<R>,
        counts: &mut Activations,
    ) {
        let coding = self.coding();
        for k in 0..tile.n_classes() {
            for (&p, &code) in tile.plane(k).iter().zip(codes) {
                if code != VOID {
                    counts.add(coding, p.into());
                }
            }
        }
        if self.include_top1 {
            for (&best_value, _) in truth.best_values.iter().zip(codes).filter(|(_, code)| **code != VOID) {
                counts.promote(coding, best_value.into());
            }
        }
    }

    fn true_labels<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        out: &mut TrueLabels<R>,
    ) -> Result<()> {
        let len = tile.len();
        let TrueLabels { values, missed, sums, best_values, best } = out;
        restart(values, len, R::zero());
        restart(sums, len, R::zero());
        restart(best_values, len, R::neg_infinity());
        restart(best, len, VOID);
        missed.resize(len, 0);

        let mut state = State { codes, values, sums, best_values, best };
        let signs = stream!(tile, |planes, k| scan(planes, k as i32, &mut state));
        check(tile, sums, signs, Some(codes), place)?;

        if self.include_top1 {
            not_best(codes, best, missed);
        } else {
            not_certain(codes, values, missed);
        }
        Ok(())
    }

    fn masks<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut SetWork<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        let SetWork { sizes, sums, best_values } = work;
        top(tile, place, sums, best_values)?;
        let cutoff = self.coding().cutoff::<R>(lambda);
        let rows =
            out.outer_iter_mut().map(|row| row.into_slice().expect("the pixels of a class are contiguous"));
        if !(self.include_top1 && any_below(best_values, cutoff)) {
            for (k, row) in rows.enumerate() {
                include(tile.plane(k), cutoff, row);
            }
            return Ok(());
        }
        // Where lambda alone leaves a set empty, the largest probability is the threshold.
        let thresholds = best_values;
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

    fn sizes<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut SetWork<R>,
    ) -> Result<()> {
        let SetWork { sizes, sums, .. } = work;
        restart(sizes, tile.len(), 0);
        restart(sums, tile.len(), R::zero());
        let cutoff = self.coding().cutoff::<R>(lambda);
        let signs = stream!(tile, |planes, _k| count(planes, cutoff, sums, sizes));
        if self.include_top1 {
            // If any label passes, the most probable one does.
            at_least_one(sizes);
        }
        check(tile, sums, signs, codes, place)
    }
}

fn restart<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    buffer.clear();
    buffer.resize(len, value);
}

/// Per-pixel state of [`scan`].
struct State<'a, R> {
    codes: &'a [i32],
    values: &'a mut [R],
    sums: &'a mut [R],
    best_values: &'a mut [R],
    best: &'a mut [i32],
}

/// Passes over `N` planes at once: sum, running argmax (the first of equals stays) and the true label's probability, which
/// is blended in as its plane streams by. A gather would wait for memory at every pixel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn scan<R: Real, const N: usize>(planes: [&[R]; N], first: i32, state: &mut State<'_, R>) -> R::Bits {
    let len = state.codes.len();
    let planes = planes.map(|plane| &plane[..len]);
    let (codes, values, sums) = (&state.codes[..len], &mut state.values[..len], &mut state.sums[..len]);
    let (best_values, best) = (&mut state.best_values[..len], &mut state.best[..len]);
    let mut signs = R::Bits::default();
    for j in 0..len {
        let code = codes[j];
        let (mut value, mut sum, mut best_value, mut class) = (values[j], sums[j], best_values[j], best[j]);
        for (k, plane) in (first..).zip(&planes) {
            let p = plane[j];
            signs |= p.bits();
            sum += p;
            let better = p > best_value;
            best_value = if better { p } else { best_value };
            class = if better { k } else { class };
            value = if code == k { p } else { value };
        }
        (values[j], sums[j], best_values[j], best[j]) = (value, sum, best_value, class);
    }
    signs
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn not_best(codes: &[i32], best: &[i32], missed: &mut [u8]) {
    for ((&code, &best), missed) in codes.iter().zip(best).zip(missed) {
        *missed = u8::from((code != best) & (code != VOID));
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn not_certain<R: Real>(codes: &[i32], values: &[R], missed: &mut [u8]) {
    for ((&code, &p), missed) in codes.iter().zip(values).zip(missed) {
        *missed = u8::from((p < R::one()) & (code != VOID));
    }
}

/// The largest probability of each pixel, and the check of all.
fn top<R: Real>(
    tile: &Tile<'_, R>,
    place: &Place,
    sums: &mut Vec<R>,
    best_values: &mut Vec<R>,
) -> Result<()> {
    restart(sums, tile.len(), R::zero());
    restart(best_values, tile.len(), R::neg_infinity());
    let signs = stream!(tile, |planes, _k| maximum(planes, sums, best_values));
    check(tile, sums, signs, None, place)
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn maximum<R: Real, const N: usize>(planes: [&[R]; N], sums: &mut [R], best_values: &mut [R]) -> R::Bits {
    let len = sums.len();
    let planes = planes.map(|plane| &plane[..len]);
    let best_values = &mut best_values[..len];
    let mut signs = R::Bits::default();
    for j in 0..len {
        let (mut sum, mut best_value) = (sums[j], best_values[j]);
        for plane in &planes {
            let p = plane[j];
            signs |= p.bits();
            sum += p;
            best_value = if p > best_value { p } else { best_value };
        }
        (sums[j], best_values[j]) = (sum, best_value);
    }
    signs
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn any_below<R: Real>(values: &[R], limit: R) -> bool {
    values.iter().fold(false, |any, &value| any | (value < limit))
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn include<R: Real>(plane: &[R], cutoff: R, mask: &mut [u8]) {
    for (mask, &p) in mask.iter_mut().zip(plane) {
        *mask = u8::from(p >= cutoff);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn lower_to<R: Real>(values: &mut [R], limit: R) {
    for value in values {
        *value = if *value < limit { *value } else { limit };
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn include_each<R: Real>(plane: &[R], thresholds: &[R], mask: &mut [u8], sizes: &mut [i32]) {
    let len = plane.len();
    let (thresholds, mask, sizes) = (&thresholds[..len], &mut mask[..len], &mut sizes[..len]);
    for j in 0..len {
        let inside = plane[j] >= thresholds[j];
        mask[j] = u8::from(inside);
        sizes[j] += i32::from(inside);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
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

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn at_least_one(sizes: &mut [i32]) {
    for size in sizes {
        *size = (*size).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoff_is_the_float64_definition() {
        for lambda in [0.0, 1e-9, 0.3, 0.5, 0.7, 0.999_999_999, 1.0, 0.1 + 0.2] {
            let p = Coding::Complement.cutoff::<f32>(lambda);
            let below = f32::from_bits(p.to_bits().saturating_sub(1));
            assert!(1.0 - f64::from(p) <= lambda, "{lambda}");
            assert!(p == 0.0 || 1.0 - f64::from(below) > lambda, "{lambda}");
        }
        assert_eq!(Coding::Complement.cutoff::<f32>(1.0), 0.0);
        assert_eq!(Coding::Complement.cutoff::<f64>(0.0), 1.0);
        assert_eq!(Coding::Complement.cutoff::<f32>(-0.5), 1.5);
        assert_eq!(Coding::Complement.cutoff::<f32>(f64::NEG_INFINITY), f32::INFINITY);
    }
}
