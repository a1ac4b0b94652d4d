//! Scalers: maps from logits to calibrated probabilities, fitted by maximum likelihood.
//!
//! A fit reads each image once and keeps some of its pixels ([`draw`]). What it then minimises, the negative log-likelihood
//! of a linear map of the logits, is computed here with its gradient and the products of its Hessian ([`objective`]); the
//! optimiser is a library's. What was found stands in front of a score ([`apply`], [`ordered`]): no array of probabilities is
//! made.

pub mod apply;
pub mod draw;
pub mod objective;
pub mod ordered;
