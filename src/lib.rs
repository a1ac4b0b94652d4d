//! The kernels of conformask: risk-controlled segmentation masks.
//!
//! One idea carries everything. The loss of an image is a step function of one number, lambda; its jumps sit at the
//! *critical values* of the image's labelled pixels, the lambda at which a pixel's true label enters its set. Those values
//! are the image's *profile*, and profiles answer every loss, every alpha and every split, without the maps:
//!
//! ```text
//! maps -> score -> profile -> loss -> risk -> lambda-hat -> sets -> metric
//! ```
//!
//! Modules import to the left only. [`maps`] checks arrays once and hands out tiles; [`score`] says what a critical value
//! is; [`profile`] keeps those of the true labels; [`loss`] weighs them; [`risk`] finds lambda-hat; [`sets`] thresholds
//! the maps with it. Python is an optional feature (`python`).

pub mod adapt;
pub mod consign;
pub mod error;
pub mod linalg;
pub mod loss;
pub mod maps;
pub mod memory;
pub mod metric;
pub mod num;
pub mod place;
pub mod profile;
pub mod risk;
mod runs;
pub mod sample;
pub mod scale;
pub mod score;
pub mod sets;
mod simd;
mod sort;
pub mod threads;

#[cfg(feature = "python")]
mod python;
