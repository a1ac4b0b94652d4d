//! Risk control: from profiles and a loss to lambda-hat.

pub mod binned;
pub mod budget;
pub mod curve;
pub mod quantile;
mod shifted;

pub use self::binned::BinnedProfile;
pub use self::budget::lambda_hat;
pub use self::shifted::{corrected, correction};
