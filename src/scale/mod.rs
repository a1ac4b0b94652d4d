//! Scalers: maps from logits to calibrated probabilities, fitted by maximum likelihood.
//!
//! A fit reads each image once and keeps some of its pixels ([`draw`]). What it then minimises, the negative log-likelihood
//! of a linear map of the logits, is computed here with its gradient and the products of its Hessian ([`objective`]); the
//! optimiser is a library's. What was found stands in front of a score ([`apply`], [`ordered`]): no array of probabilities is
//! made.
//!
//! Some maps look at more of a pixel than its numbers ([`features`]), and temper each in its own way ([`tempered`]).

pub mod apply;
pub mod draw;
pub mod features;
pub mod objective;
pub mod ordered;
pub mod tempered;
