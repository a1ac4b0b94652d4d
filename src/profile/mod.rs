//! Profiles: all that calibration needs to know about an image.
//!
//! The loss of an image is a step function of lambda that jumps at the critical values of its labelled pixels. Those
//! values, each with its label, are the image's profile: losses, alphas and splits are answered from it, not from maps.

mod exact;
mod flat;
mod parted;
mod repeats;

pub use exact::{Block, ExactProfile, ImageProfile, build};
pub use flat::Flat;
pub(crate) use repeats::{hash_of_image, hash_of_pixels};
pub use repeats::{repeats_between, repeats_within};
