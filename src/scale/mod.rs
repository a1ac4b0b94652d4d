//! Scalers: maps from logits to calibrated probabilities, fitted by maximum likelihood.
//!
//! A fit reads each image once and keeps some of its pixels ([`draw`]). It then minimises the negative log-likelihood of a
//! linear map of the logits. This objective is computed here, with its gradient and products with its Hessian
//! ([`objective`]); the optimiser is a library's. The fitted map is applied in front of a score ([`apply`], [`ordered`]),
//! without an array of probabilities.
//!
//! Some maps use further features of a pixel ([`features`]), and give each pixel its own temperature ([`tempered`]).

pub mod apply;
pub mod draw;
pub mod features;
pub mod objective;
pub mod ordered;
pub mod tempered;
