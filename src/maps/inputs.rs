//! What the numbers of a score map are.

use super::Transform;
use super::softmax::{Normalise, Softmax};
use crate::num::real::Real;

/// The kinds of numbers that a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Softmax probabilities, taken as they are.
    Probabilities,
    /// Softmax probabilities that were rounded to bfloat16: their sums are farther from 1.
    CoarseProbabilities,
    /// Logits, of which softmax makes probabilities.
    Logits,
    /// Scores of any sum, normalised by it.
    Scores,
    /// The critical values of all labels, by a score of the caller's.
    CriticalValues,
}

impl Inputs {
    /// The transform that makes probabilities of them; `None` if they are taken as they are.
    pub(super) fn transform<R: Real>(self) -> Option<Box<dyn Transform<R>>> {
        match self {
            Self::Probabilities | Self::CoarseProbabilities | Self::CriticalValues => None,
            Self::Logits => Some(Box::new(Softmax)),
            Self::Scores => Some(Box::new(Normalise)),
        }
    }
}
