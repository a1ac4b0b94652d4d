//! Numbers: floats of any width, the exponential, exact decisions, random bits.

pub mod exact;
pub mod exp;
pub mod lanes;
pub mod philox;
pub mod real;
