//! RAPS, regularised adaptive prediction sets: APS and a penalty for labels far down the ranking.
//!
//! `s_k = min(m_k + penalty * max(0, r_k - k_reg), lambda_max)`, where `r_k` is the rank of the label (1 for the most
//! probable), `m_k` the mass of the labels before it ([`super::aps`]), at most 1, and
//! `lambda_max = 1 + penalty * max(0, K - k_reg)`. The most probable label has score 0 and is in every set; at `lambda_max`
//! sets are full, whatever the rounding of the sums.
//!
//! Angelopoulos, Bates, Malik, Jordan, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR 2021,
//! without randomisation.

use ndarray::ArrayViewMut2;

use super::aps::Before;
use super::{
    Coding, Cutoffs, Loaded, Score, Spot, ValueBuffers, Values, Work, load_by_probability, masks_of_values,
    sizes_of_values,
};
use crate::error::Result;
use crate::maps::{PlanesMut, Tile};
use crate::num::real::Real;

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

    /// The penalty of a label with so many labels before it.
    #[inline(always)]
    pub fn rank_penalty(self, count: f64) -> f64 {
        self.penalty * (count + 1.0 - self.k_reg).max(0.0)
    }

    #[inline(always)]
    fn critical(self, before: Before) -> f64 {
        (before.mass.min(1.0) + self.rank_penalty(before.count)).min(self.lambda_max)
    }
}

impl<R: Real> Score<R> for Raps {
    fn values<'t>(&self, tile: &Tile<'t, R>, buffers: &'t mut ValueBuffers) -> Values<'t, R> {
        let ValueBuffers { values, before } = buffers;
        let mut out = PlanesMut::new(values, tile.n_classes(), tile.len());
        before.compute(tile, |before| self.critical(before), &mut out);
        Values::Double(out.into_tile())
    }

    fn coding(&self) -> Coding {
        Coding::Direct { max: self.lambda_max }
    }

    /// Only labels that are not the most probable ones have labels before them.
    fn true_labels(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        let (codes, Work { scan, missed, before, .. }) = (spot.labels(), &mut *spot.work);
        scan.truth(&spot.tile, codes, &spot.place)?;
        scan.flag_not_best(codes);
        missed.note(&scan.flags);
        before.compute(&spot.tile, &missed.at, codes, &scan.values);
        missed.values.extend(before.iter().map(|before| self.critical(before)));
        Ok(())
    }

    /// At one lambda a set is the first labels of the ranking.
    fn masks(
        &self,
        spot: &mut Spot<'_, R>,
        cutoffs: Cutoffs<'_, R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        if cutoffs.shared_lambda().is_none() {
            return masks_of_values(self, spot, cutoffs, out);
        }
        self.sizes(spot, cutoffs)?;
        let Work { ranked, sizes, .. } = &mut *spot.work;
        ranked.masks(&spot.tile, sizes, out);
        Ok(())
    }

    fn sizes(&self, spot: &mut Spot<'_, R>, cutoffs: Cutoffs<'_, R>) -> Result<()> {
        let Some(lambda) = cutoffs.shared_lambda() else {
            return sizes_of_values(self, spot, cutoffs);
        };
        Score::<R>::check(self, spot)?;
        let Work { ranked, sizes, .. } = &mut *spot.work;
        ranked.cut(&spot.tile, |before| self.critical(before), lambda, sizes);
        Ok(())
    }

    fn load(&self, spot: &mut Spot<'_, R>, out: &mut Loaded<'_, R>) -> Result<()> {
        load_by_probability(self, spot, out)
    }
}
