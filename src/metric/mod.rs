//! Metrics of masks that are there already, whoever made them.

pub mod coverage;
