//! CONSIGN: sets of whole segmentations, from samples of one model (Viti, Karabelas, Holler, ICLR 2026).
//!
//! The samples of an image are decomposed into a mean and a few components (`u_k`, with the range `[a_k, b_k]` of their
//! coefficients). A segmentation is in the set at lambda if the argmax of some field
//!
//! ```text
//! pred(c) = argmax_l  mean_l + sum_k c_k u_kl,     c_k = m_k + h_k z_k,  |z_k| <= lambda
//! ```
//!
//! agrees with it well enough: the mean over its labels of the share of their pixels that are right is at least beta. The
//! score of a labelled image is therefore `lambda* = min |z|_inf` over the `z` that are accurate enough. [`search`] brackets
//! it by branch and bound: [`bounds`] bounds the accuracy in a box, [`mod@line`] finds good points, [`field`] verifies each of
//! them by the argmax itself, in float64, and [`accuracy`] compares with beta without rounding. [`sample`] draws segmentations,
//! [`possible`] bounds how many could be drawn, and [`decomposition`] computes mean, components and ranges from samples, by
//! the SVD of [`crate::linalg`].

pub mod accuracy;
pub mod bounds;
pub mod decomposition;
pub mod field;
pub mod line;
pub mod possible;
pub mod sample;
pub mod search;
