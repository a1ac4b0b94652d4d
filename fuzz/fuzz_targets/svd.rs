//! Any matrix: singular values agree with those of Jacobi's rotations, vectors are orthonormal and belong to them, or an error
//! says which number is not finite.

#![no_main]

use arbitrary::{Result, Unstructured};
use ndarray::{Array2, ArrayView2, ArrayViewD, Ix2};

use _core::error::Error;
use _core::linalg::{Svd, truncated_svd};
use _core::threads::Cancel;
use conformask_fuzz::arrays::Laid;
use conformask_fuzz::maps::{Number, double};
use conformask_fuzz::matrices::{numbers, products, scale_of, singular_values, skew};
use conformask_fuzz::{fuzz, on_any_threads, with_type};

/// The allowed error of values and vectors, as a share of the largest singular value.
const SLACK: f64 = 1e-13;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz(data, |u| {
    let choice: u8 = u.arbitrary()?;
    with_type!(choice, decomposition(u))
}));

/// Square and wide matrices, tall ones, and sometimes one with more numbers than a task processes.
fn shape(u: &mut Unstructured<'_>) -> Result<[usize; 2]> {
    let kind: u8 = u.arbitrary()?;
    let [m, n] = match kind {
        0 | 0x80 => [u.int_in_range(1 << 16..=(1 << 16) + 500)?, u.int_in_range(1..=3)?],
        1..=0x30 => [u.int_in_range(1..=1000)?, u.int_in_range(1..=9)?],
        _ => [u.int_in_range(1..=40)?, u.int_in_range(1..=40)?],
    };
    Ok(if kind & 0x80 == 0 { [m, n] } else { [n, m] })
}

fn decomposition<E: Number>(u: &mut Unstructured<'_>) -> Result<()> {
    let (shape, k) = (shape(u)?, *u.choose(&[1, 2, 3, 7, usize::MAX, 0])?);
    let layout: [u8; 16] = u.arbitrary()?;
    let laid = Laid::new(&mut Unstructured::new(&layout), &numbers::<E>(u, shape)?, E::of(f64::NAN))?;
    let plain = laid.plain();
    let find = |view: ArrayViewD<'_, E>| {
        let view = view.into_dimensionality::<Ix2>().expect("two axes");
        let turned = truncated_svd(&view.t(), k, &Cancel::default());
        let found = truncated_svd(&view, k, &Cancel::default());
        (found.map_err(|error| format!("{error:?}")), turned.map(|svd| svd.values).ok())
    };
    let (found, turned) = on_any_threads(|| find(laid.view()));
    assert_eq!(find(plain.view()), (found.clone(), turned.clone()), "row by row");

    let a = plain.mapv(double).into_dimensionality::<Ix2>().expect("two axes");
    if let Some(((row, column), &value)) = a.indexed_iter().find(|(_, x)| !x.is_finite()) {
        assert_eq!(found, Err(format!("{:?}", Error::MatrixNotFinite { row, column, value })));
        return Ok(());
    }
    let scale = scale_of(&a);
    let a = a * scale;
    let expected = singular_values(&a);
    let Ok(svd) = found else {
        assert!(expected[0] / scale > f64::MAX * (1.0 - SLACK), "{found:?} of {expected:?}");
        return Ok(());
    };
    if shape[0] != shape[1] {
        assert_eq!(turned.as_ref(), Some(&svd.values), "of the transpose");
    }
    check(&a.view(), &svd, scale, k, &expected);
    Ok(())
}

/// `a` and `expected` are scaled, what was found is not.
fn check(a: &ArrayView2<'_, f64>, svd: &Svd, scale: f64, k: usize, expected: &[f64]) {
    let (rank, largest) = (svd.values.len(), expected[0]);
    assert_eq!((svd.left.dim(), svd.right.dim()), ((rank, a.nrows()), (rank, a.ncols())));
    assert!(rank <= k.min(expected.len()) && svd.values.is_sorted_by(|a, b| a >= b));
    let limit = f64::EPSILON * a.nrows().max(a.ncols()) as f64 * largest;
    // There are few numbers below the least normal one.
    let slack = SLACK * largest + scale * f64::from_bits(4);
    let values: Vec<f64> = svd.values.iter().map(|value| value * scale).collect();
    for (value, expected) in values.iter().zip(expected) {
        assert!((value - expected).abs() <= slack, "{values:?} are {expected:?}");
    }
    if rank < k.min(expected.len()) {
        assert!(expected[rank] <= limit + slack, "{expected:?} has more than {rank} above {limit:e}");
    }
    let skews = [skew(&svd.left), skew(&svd.right)];
    assert!(skews.iter().all(|skew| *skew <= SLACK), "{skews:?}");
    let off = |product: Array2<f64>, vectors: &Array2<f64>| {
        let errors = product.rows().into_iter().zip(vectors.rows()).zip(&values).map(|((found, v), s)| {
            found.iter().zip(v).fold(0.0_f64, |most, (x, v)| most.max((x - s * v).abs()))
        });
        errors.fold(0.0, f64::max)
    };
    let (of_right, of_left) =
        (off(products(&svd.right.view(), a), &svd.left), off(products(&svd.left.view(), &a.t()), &svd.right));
    assert!(of_right <= slack && of_left <= slack, "{of_right:e} {of_left:e} of {values:?}");
    for left in svd.left.rows() {
        let most = left.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        assert!(left.iter().find(|x| x.abs() == most).is_none_or(|&x| x > 0.0), "a sign");
    }
}
