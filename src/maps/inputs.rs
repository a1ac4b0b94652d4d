//! What the numbers of a score map are.

use super::Tile;
use crate::real::Real;

/// What a model hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// Softmax probabilities, taken as they are.
    Probabilities,
    /// The critical values of all labels, by a score that is not ours.
    CriticalValues,
}

impl Inputs {
    /// A tile as scores want it; `buffer` takes what has to be computed.
    pub(super) fn convert<'t, R: Real>(self, tile: Tile<'t, R>, _buffer: &'t mut Vec<R>) -> Tile<'t, R> {
        match self {
            Self::Probabilities | Self::CriticalValues => tile,
        }
    }
}
