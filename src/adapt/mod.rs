//! A threshold for each image, of masks of one class against the rest.
//!
//! A mask holds the pixels of probability p at or above a threshold. The lower the threshold, the less of the foreground it
//! misses. An image may have a threshold of its own, an *offset*, from any model. Calibration corrects all offsets by one
//! number t: the threshold of image i is its offset minus t. A pixel is then in the mask from
//!
//! ```text
//! t >= fl64(offset_i - p)
//! ```
//!
//! on; calibration and prediction evaluate this same float64 expression. So t is the weighted quantile of
//! [`crate::risk::quantile`].
//! Without offsets it is the negative of one threshold for all.
//!
//! Of the background the same holds with signs reversed: an *inner* mask leaves out its pixels from
//! `t >= fl64(p - offset_i)` on.

mod correction;
mod cut;
mod describe;
mod mass;
mod planes;
mod rates;
mod values;

pub use correction::{correction, losses};
pub use cut::{Counts, counts, cutoffs, masks};
pub use describe::describe;
pub use mass::{mass_cutoffs, mass_shares};
pub use rates::{histograms, smooth_rates};
pub use values::{ImageValues, Values, build};

/// Whose pixels a loss looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The pixels of the object: the loss counts those that the mask misses.
    Foreground,
    /// The other pixels: the loss counts those that the mask holds.
    Background,
}

impl Side {
    /// The t from which on a pixel of this side is right.
    #[inline(always)]
    fn critical(self, offset: f64, p: f64) -> f64 {
        match self {
            Self::Foreground => offset - p,
            Self::Background => p - offset,
        }
    }

    /// Whether a pixel is right for any t: thresholds are in `[0, 1]`, and a mask of the background's side has none of p = 0.
    #[inline(always)]
    pub fn is_always_right<R: num_traits::Float>(self, p: R) -> bool {
        match self {
            Self::Foreground => p >= R::one(),
            Self::Background => p <= R::zero(),
        }
    }

    /// The class code of its pixels.
    fn code(self) -> i8 {
        i8::from(self == Self::Foreground)
    }
}
