//! Risk control: from profiles and a loss to lambda-hat.

pub mod binned;
pub mod crc;
pub mod quantile;

pub use self::binned::BinnedProfile;
pub use self::crc::lambda_hat;
