//! Linear algebra, for whoever needs it: LAPACK for small matrices ([`dense`]), and the singular values of one that is too tall
//! for it ([`truncated_svd`]).

pub mod blas;
pub mod dense;
mod svd;

pub use self::svd::{Change, Svd, truncated_svd, truncated_svd_of};
