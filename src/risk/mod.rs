//! Risk control: from profiles and a loss to lambda-hat.

pub mod crc;
pub mod quantile;

pub use crc::lambda_hat;
