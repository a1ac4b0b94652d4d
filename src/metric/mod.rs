//! Metrics of masks and of label maps that are there already, whoever made them.

pub mod accuracy;
pub mod agreement;
pub mod bins;
pub mod boundary;
pub mod calibration;
pub mod coverage;
pub mod richness;
pub mod stack;
