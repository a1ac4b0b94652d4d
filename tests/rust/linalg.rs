//! LAPACK is linked and works, on one thread.

use _core::blas;
use ndarray::{Array2, Axis};
use ndarray_linalg::{JobSvd, SVDDC};

#[test]
fn openblas_keeps_to_one_thread() {
    blas::use_one_thread();
    assert_eq!(blas::num_threads(), 1);
}

#[test]
fn a_thin_svd_gives_the_matrix_back() {
    let a = Array2::from_shape_fn((40, 5), |(i, j)| {
        ((i * 7 + j * 3) % 11) as f64 - (i as f64 * 0.3 + j as f64).sin()
    });
    let (u, s, vt) = a.svddc(JobSvd::Some).unwrap();
    let (u, vt) = (u.unwrap(), vt.unwrap());
    assert_eq!((u.dim(), s.len(), vt.dim()), ((40, 5), 5, (5, 5)));
    let error = (&u * &s.insert_axis(Axis(0))).dot(&vt) - &a;
    assert!(error.iter().all(|e| e.abs() < 1e-12));
}
