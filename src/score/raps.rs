//! RAPS, regularised adaptive prediction sets: APS and a penalty for labels far down the ranking.
//!
//! `s_k = min(m_k + penalty * max(0, r_k - k_reg), lambda_max)`, where `r_k` is the rank of the label (1 for the most
//! probable), `m_k` the mass of the labels before it ([`super::aps`]), at most 1, and `lambda_max = 1 + penalty * max(0, K - k_reg)`. The
//! most probable label has score 0 and is in every set; at `lambda_max` sets are full, whatever rounding did to the sums.
//!
//! Angelopoulos, Bates, Malik, Jordan, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021,
//! without randomisation.

use ndarray::ArrayViewMut2;

use super::aps::Before;
use super::{Activations, Base, BaseWork, Coding, Loaded, Score, Work, given};
use crate::error::Result;
use crate::maps::Tile;
use crate::normalisation::Place;
use crate::real::Real;

/// The score; APS where the penalty is 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Raps {
    penalty: f64,
    k_reg: f64,
    lambda_max: f64,
}

impl Raps {
    /// The score for K classes, `k_reg >= 1`.
    pub fn new(penalty: f64, k_reg: usize, n_classes: usize) -> Self {
        let lambda_max = 1.0 + penalty * n_classes.saturating_sub(k_reg) as f64;
        Self { penalty, k_reg: k_reg as f64, lambda_max }
    }

    #[inline(always)]
    fn critical(self, before: Before) -> f64 {
        let excess = (before.count + 1.0 - self.k_reg).max(0.0);
        (before.mass.min(1.0) + self.penalty * excess).min(self.lambda_max)
    }
}

impl<R: Real> Score<R> for Raps {
    fn coding(&self) -> Coding {
        Coding::Direct { max: self.lambda_max }
    }

    fn needs_double(&self) -> bool {
        true
    }

    fn true_labels(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        let Work { scan, missed, before, .. } = work;
        scan.truth(tile, codes, place)?;
        scan.flag_not_best(codes);
        missed.note(&scan.flags);
        before.compute(tile, &missed.at, codes, &scan.values);
        missed.values.extend(before.iter().map(|before| self.critical(before)));
        Ok(())
    }

    fn count_activations(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        work: &mut Work<R>,
        counts: &mut Activations,
    ) {
        let criticals = work.criticals.compute(tile, |before| self.critical(before));
        given::count_activations(&criticals, Score::<R>::coding(self), codes, counts);
    }

    fn masks(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut Work<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        work.scan.top(tile, None, place)?;
        let criticals = work.criticals.compute(tile, |before| self.critical(before));
        given::masks(&criticals, Score::<R>::coding(self), lambda, out);
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
        let Work { scan, sizes, criticals, .. } = work;
        scan.top(tile, codes, place)?;
        let criticals = criticals.compute(tile, |before| self.critical(before));
        given::sizes(&criticals, Score::<R>::coding(self), lambda, sizes);
        Ok(())
    }
}

impl<R: Real> Base<R> for Raps {
    fn load(
        &self,
        tile: &Tile<'_, R>,
        place: &Place,
        work: &mut BaseWork<R>,
        out: &mut Loaded<'_, R>,
    ) -> Result<()> {
        out.first.copy_from_slice(work.scan.first(tile, place)?);
        let criticals = work.criticals.compute(tile, |before| self.critical(before));
        for (k, run) in out.runs().enumerate() {
            for (out, &critical) in run.iter_mut().zip(criticals.plane(k)) {
                *out = R::round_from(critical);
            }
        }
        Ok(())
    }
}
