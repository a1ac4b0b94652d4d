//! From thresholds to masks: the smallest probability that is in.

use ndarray::{ArrayViewMut2, s};

use super::Side;
use super::planes::Planes;
use crate::error::Result;
use crate::maps::{Band, BinaryLabels, ScoreMaps, bands_mut, fold_images, visit_bands};
use crate::num::real::Real;
use crate::score::include_from;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Where an image's mask begins.
pub(super) struct Cut {
    side: Side,
    cutoff: f64,
}

impl Cut {
    /// The cut of a threshold `offset` that is corrected by t.
    pub(super) fn new(side: Side, offset: f64, t: f64) -> Self {
        let is_in = |p: f64| match side {
            Side::Foreground => side.is_always_right(p) || side.critical(offset, p) <= t,
            Side::Background => !side.is_always_right(p) && side.critical(offset, p) > t,
        };
        Self { side, cutoff: f64::smallest(is_in) }
    }

    /// The smallest number of the type `R` that is in.
    pub(super) fn cutoff<R: Real>(&self) -> R {
        R::at_least(self.cutoff)
    }

    /// Whether all pixels of the side are wrong, except those that are always right.
    pub(super) fn has_all_wrong(&self) -> bool {
        match self.side {
            Side::Foreground => self.cutoff >= 1.0,
            Side::Background => self.cutoff <= f64::from_bits(1),
        }
    }

    /// Whether pixels of the side are right in the mask.
    pub(super) fn holds_right(&self) -> bool {
        self.side == Side::Foreground
    }
}

/// The smallest probability that is in an image's mask, as float64, for probabilities of any width. It is above 1 for masks
/// that hold nothing.
pub fn cutoffs(side: Side, offsets: &[f64], t: f64) -> Vec<f64> {
    offsets.iter().map(|&offset| Cut::new(side, offset, t).cutoff).collect()
}

/// Masks of the pixels at or above the cutoff of their image; `out` is `(n, pixels)`.
pub fn masks<R: Real>(
    maps: &ScoreMaps<'_, R>,
    cutoffs: &[f64],
    out: ArrayViewMut2<'_, u8>,
    cancel: &Cancel,
) -> Result<()> {
    visit_bands(maps, bands_mut(out), cancel, |planes: &mut Planes<R>, band, mut out| {
        let cutoff = R::at_least(cutoffs[band.image]);
        planes.for_each(maps, None, band, cancel, |pixels, plane, _| {
            let mut out = out.slice_mut(s![pixels]);
            include_from(plane, cutoff, out.as_slice_mut().expect("the pixels of an image are contiguous"));
            Ok(())
        })
    })
}

/// What the mask of an image holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Labelled pixels of the background and of the foreground.
    pub totals: [u64; 2],
    /// Those of them that are in.
    pub held: [u64; 2],
}

/// What the masks at cutoffs hold, without building them.
pub fn counts<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &BinaryLabels<'_>,
    cutoffs: &[f64],
    cancel: &Cancel,
) -> Result<Vec<Counts>> {
    let count = |planes: &mut Planes<R>, band: &Band| {
        let cutoff = R::at_least(cutoffs[band.image]);
        let mut counts = Counts::default();
        planes.for_each(maps, Some(labels), band, cancel, |_, plane, codes| {
            add(plane, codes, cutoff, &mut counts);
            Ok(())
        })?;
        Ok(counts)
    };
    fold_images(maps, cancel, count, |sum, other| {
        for side in 0..2 {
            sum.totals[side] += other.totals[side];
            sum.held[side] += other.held[side];
        }
    })
}

#[apply(vectorised!)]
fn add<R: Real>(plane: &[R], codes: &[i8], cutoff: R, counts: &mut Counts) {
    let (mut totals, mut held) = ([0_u32; 2], [0_u32; 2]);
    for (&p, &code) in plane.iter().zip(codes) {
        for side in 0..2 {
            let is_of = code == side as i8;
            totals[side] += u32::from(is_of);
            held[side] += u32::from(is_of & (p >= cutoff));
        }
    }
    for side in 0..2 {
        counts.totals[side] += u64::from(totals[side]);
        counts.held[side] += u64::from(held[side]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, for neighbouring floats.
    fn is_in(side: Side, offset: f64, t: f64, p: f64) -> bool {
        match side {
            Side::Foreground => p >= 1.0 || offset - p <= t,
            Side::Background => p > 0.0 && p - offset > t,
        }
    }

    #[test]
    fn cutoffs_are_the_float64_definition() {
        let numbers = [0.0, 1e-9, 0.1, 0.3, 0.4, 0.5, 0.1 + 0.2, 0.9, 1.0];
        for side in [Side::Foreground, Side::Background] {
            for offset in numbers {
                for t in numbers.into_iter().flat_map(|t| [t, -t]) {
                    let cutoff = cutoffs(side, &[offset], t)[0];
                    assert!(is_in(side, offset, t, cutoff), "{side:?} {offset} {t}");
                    assert!(cutoff == 0.0 || !is_in(side, offset, t, cutoff.next_down()));
                    let single = f32::at_least(cutoff);
                    assert!(
                        f64::from(single) >= cutoff
                            && (single == 0.0 || f64::from(single.next_down()) < cutoff)
                    );
                }
            }
        }
        assert_eq!(cutoffs(Side::Foreground, &[0.5, 1.0, 0.0], -1.0), [1.0, 1.0, 1.0]);
        assert_eq!(cutoffs(Side::Foreground, &[0.0, 0.25], -0.25), [0.25, 0.5]);
        // 0.5 less this is rounded to 0.25.
        assert_eq!(cutoffs(Side::Foreground, &[0.5, 0.25], 0.25), [0.25_f64.next_down(), 0.0]);
        assert_eq!(cutoffs(Side::Background, &[0.0], 0.25), [0.25_f64.next_up()]);
        assert_eq!(cutoffs(Side::Background, &[0.0], 1.0), [1.0_f64.next_up()]);
    }

    #[test]
    fn all_are_wrong_where_none_is_right_but_those_that_always_are() {
        let (least, most) = (f64::from_bits(1), 1.0_f64.next_down());
        for offset in [0.0, 1e-9, 0.5, most, 1.0] {
            for t in [-1.0, -most, -0.5, -1e-9, 0.0, 1.0] {
                let outer = Cut::new(Side::Foreground, offset, t);
                assert_eq!(outer.has_all_wrong(), !is_in(Side::Foreground, offset, t, most));
                let inner = Cut::new(Side::Background, offset, t);
                assert_eq!(inner.has_all_wrong(), is_in(Side::Background, offset, t, least));
            }
        }
        assert!(Cut::new(Side::Foreground, 1.0, -1.0).has_all_wrong());
        assert!(!Cut::new(Side::Background, 1.0, -1.0).has_all_wrong());
    }
}
