//! Scores by their parameters, before the number of classes and the width of the maps are known.

use super::sacp::Settings;
use super::{Coding, Given, Lac, Raps, Sacp, Score};
use crate::num::real::Real;

/// A score that can be blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BaseSpec {
    /// [`Lac`].
    Lac {
        /// See [`Lac::include_top1`].
        include_top1: bool,
    },
    /// [`Raps`].
    Raps {
        /// What each rank beyond `k_reg` costs, at least 0; 0 is APS.
        penalty: f64,
        /// At least 1; `None` is half the classes.
        k_reg: Option<usize>,
    },
    /// [`Given`].
    Given {
        /// The largest critical value.
        max: f64,
    },
}

/// Any score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Spec {
    /// A score of single pixels.
    Pixelwise(BaseSpec),
    /// [`Sacp`] over one of those.
    Sacp(BaseSpec, Settings),
}

impl BaseSpec {
    fn build<R: Real>(self, n_classes: usize) -> Box<dyn Score<R>> {
        match self {
            Self::Lac { include_top1 } => Box::new(Lac { include_top1 }),
            Self::Raps { penalty, k_reg } => Box::new(raps(penalty, k_reg, n_classes)),
            Self::Given { max } => Box::new(Given { max }),
        }
    }
}

fn raps(penalty: f64, k_reg: Option<usize>, n_classes: usize) -> Raps {
    Raps::new(penalty, k_reg.unwrap_or((n_classes / 2).max(1)), n_classes)
}

impl Spec {
    /// The score for maps of K classes.
    pub fn build<R: Real>(self, n_classes: usize) -> Box<dyn Score<R>> {
        match self {
            Self::Pixelwise(base) => base.build(n_classes),
            Self::Sacp(base, settings) => Box::new(Sacp::new(base.build(n_classes), settings)),
        }
    }

    /// What each of K ranks adds to a critical value; `None` for a score that does not rank labels.
    pub fn rank_penalties(self, n_classes: usize) -> Option<Vec<f64>> {
        let Self::Pixelwise(BaseSpec::Raps { penalty, k_reg }) = self else { return None };
        let raps = raps(penalty, k_reg, n_classes);
        Some((0..n_classes).map(|count| raps.rank_penalty(count as f64)).collect())
    }

    /// How its critical values are stored.
    pub fn coding(self, n_classes: usize) -> Coding {
        self.build::<f64>(n_classes).coding()
    }
}
