//! Small dense matrices by LAPACK: what each result is by definition, whoever calls, on however many threads.

mod random;

use _core::error::Error;
use _core::linalg::blas::OneThread;
use _core::linalg::dense::{cholesky, eigh, inverse_of_lower, svd_of_square};
use _core::linalg::{Svd, blas, truncated_svd};
use _core::threads::Cancel;
use ndarray::{Array1, Array2, ArrayView2, array, s};
use ndarray_linalg::SVD;
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use self::random::Random;

/// Sizes below and above what LAPACK works on without blocks.
const SIZES: [usize; 7] = [1, 2, 3, 6, 26, 50, 200];

/// Numbers in [-1, 1).
fn random(rows: usize, columns: usize) -> Array2<f64> {
    let mut random = Random((rows * 1000 + columns) as u64);
    Array2::from_shape_simple_fn((rows, columns), || 2.0 * random.unit() - 1.0)
}

/// A symmetric matrix, positive definite if `shift` is large enough.
fn symmetric(n: usize, shift: f64) -> Array2<f64> {
    let a = random(n, n);
    (&a + &a.t()) / 2.0 + Array2::<f64>::eye(n) * shift
}

fn assert_near(found: &Array2<f64>, expected: &Array2<f64>, tolerance: f64) {
    assert_eq!(found.dim(), expected.dim());
    let error = (found - expected).iter().fold(0.0_f64, |max, error| max.max(error.abs()));
    assert!(error <= tolerance, "off by {error:e}");
}

/// `rows' diag(values) rows`.
fn product(values: impl IntoIterator<Item = f64>, rows: &Array2<f64>) -> Array2<f64> {
    (&rows.t() * &Array1::from_iter(values)).dot(rows)
}

fn is_decreasing(values: &[f64]) -> bool {
    values.is_sorted_by(|a, b| a >= b)
}

/// The same numbers in strides that LAPACK does not know, among others that nobody may read.
fn strided(a: &Array2<f64>, check: impl Fn(&ArrayView2<'_, f64>)) {
    let (m, n) = a.dim();
    let mut room = Array2::from_elem((2 * m, 3 * n), f64::NAN);
    room.slice_mut(s![..;2, ..;-3]).assign(a);
    check(&room.slice(s![..;2, ..;-3]));
    check(&a.view());
}

#[test]
fn singular_values_and_right_vectors() {
    for n in SIZES {
        let a = random(n, n);
        strided(&a, |view| {
            let (values, right) = svd_of_square(view).unwrap();
            assert_near(&right.dot(&right.t()), &Array2::eye(n), 1e-13);
            assert_near(&product(values.iter().map(|s| s * s), &right), &a.t().dot(&a), 1e-12);
            assert!(is_decreasing(&values));
            // The judge is another routine, gesvd.
            let judge = a.svd(false, false).unwrap().1;
            let error = values.iter().zip(&judge).fold(0.0_f64, |max, (s, t)| max.max((s - t).abs()));
            assert!(error <= 1e-14 * values[0], "{n}: off by {error:e}");
        });
    }
}

#[test]
fn eigenvalues_and_eigenvectors() {
    for n in SIZES {
        for shift in [0.0, n as f64] {
            let a = symmetric(n, shift);
            strided(&a, |view| {
                let (values, vectors) = eigh(view).unwrap();
                assert_near(&vectors.dot(&vectors.t()), &Array2::eye(n), 1e-13);
                assert_near(&product(values.iter().copied(), &vectors), &a, 1e-14 * (2 * n) as f64);
                assert!(is_decreasing(&values));
            });
        }
    }
}

#[test]
fn cholesky_factors_and_their_inverses() {
    for n in SIZES {
        let a = symmetric(n, n as f64);
        strided(&a, |view| {
            let factor = cholesky(view).unwrap();
            assert_near(&factor.dot(&factor.t()), &a, 1e-14 * n as f64);
            assert!(factor.indexed_iter().all(|((i, j), &entry)| i >= j || entry == 0.0));
            assert!(factor.diag().iter().all(|&pivot| pivot > 0.0));
            strided(&factor, |factor| {
                let inverse = inverse_of_lower(factor).unwrap();
                assert_near(&inverse.dot(factor), &Array2::eye(n), 1e-13);
                assert!(inverse.indexed_iter().all(|((i, j), &entry)| i >= j || entry == 0.0));
            });
        });
    }
}

#[test]
fn by_hand() {
    let a = array![[4.0, 2.0], [2.0, 10.0]];
    assert_near(&cholesky(&a.view()).unwrap(), &array![[2.0, 0.0], [1.0, 3.0]], 1e-15);
    let factor = array![[2.0, 0.0], [1.0, 3.0]];
    let inverse = array![[0.5, 0.0], [-1.0 / 6.0, 1.0 / 3.0]];
    assert_near(&inverse_of_lower(&factor.view()).unwrap(), &inverse, 1e-15);
    let (values, _) = eigh(&array![[1.0, 2.0], [2.0, 1.0]].view()).unwrap();
    assert_near(&array![[values[0], values[1]]], &array![[3.0, -1.0]], 1e-15);
    let (values, _) = svd_of_square(&array![[0.0, -2.0], [3.0, 0.0]].view()).unwrap();
    assert_near(&array![[values[0], values[1]]], &array![[3.0, 2.0]], 1e-15);
}

/// Each of the leading minors can be the first that is not positive.
#[test]
fn a_matrix_that_is_not_positive_definite_says_where() {
    for n in [1, 5, 200] {
        for first in (0..n).step_by(1 + n / 10) {
            let mut a = symmetric(n, n as f64);
            a[[first, first]] = -1e-3;
            assert_eq!(cholesky(&a.view()), Err(Error::NotPositiveDefinite { order: first + 1 }));
        }
    }
}

#[test]
fn what_lapack_refuses_is_an_error() {
    let nan = array![[1.0, f64::NAN], [f64::NAN, 1.0]];
    assert!(matches!(svd_of_square(&nan.view()), Err(Error::Lapack { routine: "gesdd", .. })));
    let wide = random(2, 3);
    assert!(matches!(eigh(&wide.view()), Err(Error::Lapack { routine: "syev", .. })));
    assert!(matches!(cholesky(&wide.view()), Err(Error::Lapack { routine: "potrf", .. })));
    let zero = array![[1.0, 0.0], [1.0, 0.0]];
    assert!(matches!(inverse_of_lower(&zero.view()), Err(Error::Lapack { routine: "trtrs", .. })));
}

#[test]
fn openblas_keeps_to_one_thread_while_it_is_called() {
    let outer = OneThread::enter();
    assert_eq!(blas::num_threads(), 1);
    cholesky(&array![[1.0]].view()).unwrap();
    assert_eq!(blas::num_threads(), 1, "another caller is there");
    drop(outer);
}

/// The numbers of every small step, and of the decompositions of tall matrices with the Gram matrix and without.
fn everything(n: usize) -> Vec<f64> {
    let (a, definite) = (random(n, n), symmetric(n, n as f64));
    let factor = cholesky(&definite.view()).unwrap();
    let inverse = inverse_of_lower(&factor.view()).unwrap();
    let (values, right) = svd_of_square(&a.view()).unwrap();
    let (eigenvalues, vectors) = eigh(&definite.view()).unwrap();
    let tall = random(70 * n, n);
    let graded = Array2::from_shape_fn(tall.dim(), |(i, j)| tall[[i, j]] * 0.1_f64.powi(j.min(9) as i32));
    let mut numbers = [values, eigenvalues].concat();
    for matrix in [factor, inverse, right, vectors] {
        numbers.extend(matrix);
    }
    for matrix in [tall, graded] {
        let Svd { left, values, right } = truncated_svd(&matrix.view(), n, &Cancel::default()).unwrap();
        numbers.extend(values);
        numbers.extend(left);
        numbers.extend(right);
    }
    numbers
}

#[test]
fn callers_at_once_get_the_same_bits() {
    let sizes: Vec<usize> = (0..32).map(|i| [1, 6, 30, 50][i % 4]).collect();
    let alone: Vec<_> = [1, 6, 30, 50].map(everything).into();
    for n_threads in [1, 2, 16] {
        let pool = ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        let together: Vec<_> = pool.install(|| sizes.par_iter().map(|&n| everything(n)).collect());
        assert!(together.iter().enumerate().all(|(i, found)| *found == alone[i % 4]), "{n_threads} threads");
    }
    // Threads of their own, all in the first pool of rayon for what is parallel.
    std::thread::scope(|scope| {
        let callers: Vec<_> = sizes.iter().map(|&n| scope.spawn(move || everything(n))).collect();
        assert!(callers.into_iter().enumerate().all(|(i, caller)| caller.join().unwrap() == alone[i % 4]));
    });
}
