//! What the numbers of a score map are.

use super::Tile;
use super::softmax::Softmax;
use super::tile::padded;
use crate::real::Real;

/// What a model hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Softmax probabilities, taken as they are.
    Probabilities,
    /// Logits, of which softmax makes probabilities.
    Logits,
    /// Scores of any sum, normalised by it.
    Scores,
    /// The critical values of all labels, by a score that is not ours.
    CriticalValues,
}

impl Inputs {
    /// Whether probabilities have to be computed.
    pub(super) fn converts(self) -> bool {
        matches!(self, Self::Logits | Self::Scores)
    }

    /// A tile as scores want it; the buffers take what has to be computed.
    pub(super) fn convert<'t, R: Real>(self, given: Tile<'t, R>, buffers: &'t mut Softmax<R>) -> Tile<'t, R> {
        let stride = padded(given.len());
        let planes = match self {
            Self::Probabilities | Self::CriticalValues => return given,
            Self::Logits => buffers.of_logits(&given, stride),
            Self::Scores => buffers.of_scores(&given, stride),
        };
        given.converted(self, planes, stride)
    }
}
