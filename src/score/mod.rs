//! Conformity scores: how strange is a label at a pixel?
//!
//! A score gives every label of every pixel a *critical value*: the lambda at which the label enters the pixel's set.
//! Calibration reads the critical values of the true labels ([`Score::true_labels`]); prediction compares all of them
//! with lambda ([`Score::masks`], [`Score::sizes`]). Both go by the same definition, so that thresholding the maps at a
//! calibrated lambda gives exactly the risk that calibration promised.

mod activation;
pub mod lac;

pub use activation::Activations;
pub use lac::Lac;

use std::ops::RangeInclusive;

use ndarray::ArrayViewMut2;

use crate::error::Result;
use crate::maps::Tile;
use crate::normalisation::Place;
use crate::real::Real;

/// How critical values are stored: exactly, in the width of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As the true label's probability `p`; the critical value is `1.0 - f64(p)`.
    Complement,
}

impl Coding {
    /// The critical value.
    #[inline(always)]
    pub fn decode(self, stored: f64) -> f64 {
        match self {
            Self::Complement => 1.0 - stored,
        }
    }

    /// Whether the value is one that stands for a positive critical value.
    pub fn holds(self, stored: f64) -> bool {
        match self {
            Self::Complement => (0.0..1.0).contains(&stored),
        }
    }

    /// A whole number that orders stored values by their critical values, and as finely as they are stored: near lambda = 1
    /// critical values crowd, the probabilities behind them do not.
    #[inline(always)]
    pub fn key(self, stored: f64) -> u64 {
        match self {
            // Non-negative floats are ordered as their bit patterns; adding 0 turns -0 into 0.
            Self::Complement => 1.0_f64.to_bits() - (stored.min(1.0) + 0.0).to_bits(),
        }
    }

    /// The last stored value that is in at `lambda`: for probabilities the smallest of the type `R`.
    pub fn cutoff<R: Real>(self, lambda: f64) -> R {
        match self {
            Self::Complement => R::smallest(|p| self.decode(p) <= lambda),
        }
    }

    /// The critical value behind a key.
    pub fn decode_key(self, key: u64) -> f64 {
        match self {
            Self::Complement => self.decode(f64::from_bits(1.0_f64.to_bits() - key)),
        }
    }

    /// The keys of all positive critical values.
    pub fn keys(self) -> RangeInclusive<u64> {
        match self {
            Self::Complement => 1..=1.0_f64.to_bits(),
        }
    }
}

/// A conformity score, as kernels over tiles.
pub trait Score: Sync {
    /// How [`TrueLabels::values`] hold critical values.
    fn coding(&self) -> Coding;

    /// Counts the critical values of all labels at the labelled pixels. `truth` is what [`Score::true_labels`] found there.
    fn count_activations<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        truth: &TrueLabels<R>,
        counts: &mut Activations,
    );

    /// Reads the true labels of a tile; `codes` are their classes, void pixels excepted.
    fn true_labels<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        out: &mut TrueLabels<R>,
    ) -> Result<()>;

    /// Writes the sets at `lambda`: `out[k, j]` is 1 if the set of pixel `j` holds class `k`, else 0. Rows are contiguous.
    fn masks<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut SetWork<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()>;

    /// Writes the number of classes in each pixel's set at `lambda`. With `codes`, void pixels are not looked at.
    fn sizes<R: Real>(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut SetWork<R>,
    ) -> Result<()>;
}

/// What a score says of the true labels of a tile. The buffers are reused from tile to tile.
#[derive(Default)]
pub struct TrueLabels<R> {
    /// The critical value of each pixel that is missed, as [`Score::coding`] says.
    pub values: Vec<R>,
    /// 1 where the critical value is above 0: the pixel is not covered from the start. 0 elsewhere and at void pixels.
    pub missed: Vec<u8>,
    pub(crate) sums: Vec<R>,
    pub(crate) best_values: Vec<R>,
    pub(crate) best: Vec<i32>,
}

impl<R: Real> TrueLabels<R> {
    /// Calls `visit(value, code)` for the missed pixels.
    pub fn for_each_missed(&self, codes: &[i32], mut visit: impl FnMut(R, i32)) {
        let (words, rest) = self.missed.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            // One bit per byte: most words of a good model are 0, and the others are walked bit by bit.
            let mut bits = u64::from_le_bytes(*word);
            while bits != 0 {
                let j = index * 8 + bits.trailing_zeros() as usize / 8;
                visit(self.values[j], codes[j]);
                bits &= bits - 1;
            }
        }
        let first = self.missed.len() - rest.len();
        (first..self.missed.len())
            .filter(|&j| self.missed[j] != 0)
            .for_each(|j| visit(self.values[j], codes[j]));
    }
}

/// Buffers for building sets.
#[derive(Default)]
pub struct SetWork<R> {
    /// Number of classes in each pixel's set.
    pub sizes: Vec<i32>,
    pub(crate) sums: Vec<R>,
    pub(crate) best_values: Vec<R>,
}
