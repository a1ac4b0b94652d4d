//! Small dense matrices, by LAPACK. A call runs on the thread that makes it, and any number of threads may call at once.
//!
//! Bits depend on the processor, for which OpenBLAS picks its kernels, and on nothing else.

use lax::error::Error as LapackError;
use ndarray::{Array2, ArrayView2, s};
use ndarray_linalg::error::LinalgError;
use ndarray_linalg::{CholeskyInto, Diag, EighInto, JobSvd, SVDDCInto, SolveTriangularInto, UPLO, replicate};

use super::blas::OneThread;
use crate::error::{Error, Result};
use crate::memory;

/// Singular values of a square matrix, largest first, and its right singular vectors, one per row (`gesdd`). Errors of the
/// values are some rounding errors of the largest.
pub fn svd_of_square(matrix: &ArrayView2<'_, f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    let _one_thread = OneThread::enter();
    // The matrix, both kinds of vectors, and LAPACK's workspace.
    room(matrix, 8)?;
    let (_, values, right) = copy(matrix).svddc_into(JobSvd::Some).map_err(failure("gesdd"))?;
    Ok((values.to_vec(), right.expect("asked for")))
}

/// Eigenvalues of a symmetric matrix, largest first, and its eigenvectors, one per row (`syev`). Errors of the values are
/// some rounding errors of the one of largest magnitude.
pub fn eigh(matrix: &ArrayView2<'_, f64>) -> Result<(Vec<f64>, Array2<f64>)> {
    let _one_thread = OneThread::enter();
    room(matrix, 3)?;
    let (values, columns) = copy(matrix).eigh_into(UPLO::Lower).map_err(failure("syev"))?;
    Ok((values.iter().rev().copied().collect(), copy(&columns.t().slice(s![..;-1, ..]))))
}

/// The lower Cholesky factor of a symmetric matrix (`potrf`).
pub fn cholesky(matrix: &ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    let _one_thread = OneThread::enter();
    room(matrix, 2)?;
    copy(matrix).cholesky_into(UPLO::Lower).map_err(|error| match error {
        LinalgError::Lapack(LapackError::LapackComputationalFailure { return_code }) => {
            Error::NotPositiveDefinite { order: return_code as usize }
        }
        error => failure("potrf")(error),
    })
}

/// The inverse of a lower triangular matrix (`trtrs`).
pub fn inverse_of_lower(factor: &ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    let _one_thread = OneThread::enter();
    room(factor, 3)?;
    let one = Array2::eye(factor.nrows());
    copy(factor).solve_triangular_into(UPLO::Lower, Diag::NonUnit, one).map_err(failure("trtrs"))
}

/// Fails unless there is memory for so many matrices of this size: the allocation for LAPACK cannot report an error.
fn room(matrix: &ArrayView2<'_, f64>, n_matrices: usize) -> Result<()> {
    memory::probe::<f64>(n_matrices.saturating_mul(matrix.len()), "the decomposition of a square matrix")
}

/// A copy that a routine may overwrite. `ndarray-linalg` refuses strides such as those of a part with one element.
fn copy(matrix: &ArrayView2<'_, f64>) -> Array2<f64> {
    replicate(matrix)
}

fn failure(routine: &'static str) -> impl Fn(LinalgError) -> Error {
    move |error| Error::Lapack { routine, reason: error.to_string() }
}
