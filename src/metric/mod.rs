//! Metrics of given masks and label maps, from any source.

pub mod accuracy;
pub mod agreement;
pub mod bins;
pub mod boundary;
pub mod calibration;
pub mod coverage;
pub mod richness;
pub mod stack;
