//! Linear algebra: LAPACK for small matrices ([`dense`]), and the singular values of matrices that are too tall for it
//! ([`truncated_svd`]).

pub mod blas;
pub mod dense;
mod svd;

pub use self::svd::{Change, Svd, truncated_svd, truncated_svd_of};
