//! What the numbers of a score map are.

use super::Transform;
use super::softmax::{Normalise, Softmax};
use crate::num::real::Real;

/// What a model hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Softmax probabilities, taken as they are.
    Probabilities,
    /// The same, rounded to bfloat16 before: their sums are farther from 1.
    CoarseProbabilities,
    /// Logits, of which softmax makes probabilities.
    Logits,
    /// Scores of any sum, normalised by it.
    Scores,
    /// The critical values of all labels, by a score that is not ours.
    CriticalValues,
}

impl Inputs {
    /// What makes probabilities of them; `None` where they are taken as they are.
    pub(super) fn transform<R: Real>(self) -> Option<Box<dyn Transform<R>>> {
        match self {
            Self::Probabilities | Self::CoarseProbabilities | Self::CriticalValues => None,
            Self::Logits => Some(Box::new(Softmax)),
            Self::Scores => Some(Box::new(Normalise)),
        }
    }
}
