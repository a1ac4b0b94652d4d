//! One function per kernel.

use num_rational::BigRational;
use num_traits::Signed;
use numpy::ndarray::{Array2, ArrayViewMut3, Axis, Ix2};
use numpy::{
    PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{
    Labels, Scores, borrow, check_out, check_shape, masks_mut, pixels_mut, with_labels, with_maps,
};
use super::objects::{Score, lambdas_of};
use super::run::run;
use super::scale::maps_of;
use crate::linalg;
use crate::maps::{Ignored, Inputs, ScoreMaps};
use crate::memory;
use crate::metric::accuracy::Truth;
use crate::metric::stack::LabelStack;
use crate::metric::{self, agreement, richness};
use crate::num::philox::Philox;
use crate::place::Six;
use crate::risk::quantile::{WeightedValues, weighted_quantile as quantile};
use crate::sample;
use crate::score::Coding;
use crate::sets;

/// Writes the multi-labeled masks at `lam` into `out`, uint8 like X.
#[pyfunction]
pub fn threshold<'py>(
    x: &Bound<'py, PyAny>,
    lam: &Bound<'py, PyAny>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    out: PyReadwriteArrayDyn<'py, u8>,
    first_image: usize,
) -> PyResult<()> {
    write_masks(x, lam, score, inputs, out, first_image, false)
}

/// Writes the same masks into `out`, uint8 (n, ceil(K / 8), ...), with a bit for each class.
#[pyfunction]
pub fn threshold_packed<'py>(
    x: &Bound<'py, PyAny>,
    lam: &Bound<'py, PyAny>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    out: PyReadwriteArrayDyn<'py, u8>,
    first_image: usize,
) -> PyResult<()> {
    write_masks(x, lam, score, inputs, out, first_image, true)
}

fn write_masks<'py>(
    x: &Bound<'py, PyAny>,
    lam: &Bound<'py, PyAny>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    mut out: PyReadwriteArrayDyn<'py, u8>,
    first_image: usize,
    packed: bool,
) -> PyResult<()> {
    let (scores, lambdas) = (Scores::new(x)?, lambdas_of(lam)?);
    let mut expected = scores.shape().to_vec();
    if let (true, Some(n_classes)) = (packed, expected.get_mut(1)) {
        *n_classes = n_classes.div_ceil(sets::BITS);
    }
    check_out(&expected, out.shape())?;
    with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
        let score = score.get().0.build(maps.n_classes());
        let out = masks_mut(&mut out)?;
        let write = if packed { sets::threshold_packed } else { sets::threshold };
        run(x.py(), |cancel| write(maps, &lambdas, &*score, out, cancel))
    })
}

/// Writes the set sizes at `lam` into `out`, uint16 (n, ...).
#[pyfunction]
pub fn set_size<'py>(
    x: &Bound<'py, PyAny>,
    lam: &Bound<'py, PyAny>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    mut out: PyReadwriteArrayDyn<'py, u16>,
    first_image: usize,
) -> PyResult<()> {
    let (scores, lambdas) = (Scores::new(x)?, lambdas_of(lam)?);
    check_shape(&scores, |axis| axis != 1, out.shape())?;
    with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
        let score = score.get().0.build(maps.n_classes());
        let out = pixels_mut(&mut out)?;
        run(x.py(), |cancel| sets::set_size(maps, &lambdas, &*score, out, cancel))
    })
}

/// Writes the critical values of the true labels into `out`, float64 (n, ...), NaN where void.
#[pyfunction]
pub fn true_label_scores<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    ignore_index: Ignored,
    mut out: PyReadwriteArrayDyn<'py, f64>,
    first_image: usize,
) -> PyResult<()> {
    let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
    check_shape(&scores, |axis| axis != 1, out.shape())?;
    with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
        let labels = labels.maps(&ignore_index, maps)?;
        let score = score.get().0.build(maps.n_classes());
        let out = pixels_mut(&mut out)?;
        run(x.py(), |cancel| sets::true_label_scores(maps, &labels, &*score, out, cancel))
    })
}

/// Missed and labelled pixels of each class, and the summed set sizes of the latter: `(n, K)` each.
type Counts<'py> = (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray2<u64>>, Bound<'py, PyArray2<u64>>);

/// What errors call them.
const COUNTS: &str = "the counts of images";

fn counts<'py>(py: Python<'py>, images: &[&sets::Coverage]) -> PyResult<Counts<'py>> {
    let n_classes = images.first().map_or(0, |image| image.totals.len());
    let rows = |row: fn(&sets::Coverage) -> &Vec<u64>| {
        let mut cells = memory::with_room(images.len() * n_classes, COUNTS)?;
        for image in images {
            cells.extend_from_slice(row(image));
        }
        let cells = Array2::from_shape_vec((images.len(), n_classes), cells).expect("K columns each");
        PyResult::Ok(PyArray2::from_owned_array(py, cells))
    };
    Ok((rows(|image| &image.missed)?, rows(|image| &image.totals)?, rows(|image| &image.sizes)?))
}

/// How the sets at each of some lambdas cover the truth.
#[pyfunction]
pub fn coverage<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    lams: Vec<Bound<'py, PyAny>>,
    score: &Bound<'py, Score>,
    inputs: &Bound<'py, PyAny>,
    ignore_index: Ignored,
    first_image: usize,
) -> PyResult<Vec<Counts<'py>>> {
    let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
    let lambdas = lams.iter().map(lambdas_of).collect::<PyResult<Vec<_>>>()?;
    let images = with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
        let labels = labels.maps(&ignore_index, maps)?;
        let score = score.get().0.build(maps.n_classes());
        run(x.py(), |cancel| sets::coverage(maps, &labels, &lambdas, &*score, cancel))
    })?;
    let at = |i: usize| counts(x.py(), &memory::collected(images.iter().map(|image| &image[i]), COUNTS)?);
    (0..lambdas.len()).map(at).collect()
}

/// How given masks cover the truth.
#[pyfunction]
pub fn mask_coverage<'py>(
    masks: &Bound<'py, PyArrayDyn<bool>>,
    y: &Bound<'py, PyAny>,
    ignore_index: Ignored,
    first_image: usize,
) -> PyResult<Counts<'py>> {
    let (array, labels) = (borrow(masks)?, Labels::new(y)?);
    let maps = ScoreMaps::new(array.as_array(), Inputs::Probabilities, first_image)?;
    let labels = labels.maps(&ignore_index, &maps)?.named("y_true");
    let images = run(masks.py(), |cancel| metric::coverage::mask_coverage(&maps, &labels, cancel))?;
    counts(masks.py(), &memory::collected(images.iter(), COUNTS)?)
}

/// Draws label maps from masks into `out`, uint8 or uint16 `(n, m, ...)`, by the random numbers of a key.
#[pyfunction]
pub fn sample_masks<'py>(
    masks: &Bound<'py, PyArrayDyn<bool>>,
    key: u128,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let array = borrow(masks)?;
    let maps = ScoreMaps::new(array.as_array(), Inputs::Probabilities, 0)?;
    let generator = Philox::new(key);
    macro_rules! draw {
        ($out:expr) => {{
            let mut out = $out.try_readwrite()?;
            let shape = out.shape().to_vec();
            let dim = (shape[0], shape[1], shape[2..].iter().product::<usize>());
            let out = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
            let out = ArrayViewMut3::from_shape(dim, out).expect("as many elements");
            run(masks.py(), |cancel| sample::sample_masks(&maps, generator, out, cancel))
        }};
    }
    match out.cast::<PyArrayDyn<u8>>() {
        Ok(out) if maps.n_classes() <= 256 => draw!(out),
        _ => draw!(out.cast::<PyArrayDyn<u16>>()?),
    }
}

/// Weights of values: floats, which mean exactly themselves, or fractions.
#[derive(FromPyObject)]
pub enum Weights<'py> {
    Floats(PyReadonlyArray1<'py, f64>),
    Fractions(Vec<BigRational>),
}

fn check_least(name: &str, numbers: &[f64], least: f64) -> PyResult<()> {
    match numbers.iter().find(|x| !(x.is_finite() && **x >= least)) {
        Some(bad) => {
            let message = format!("{name} must be finite and at least {}, got {}", Six(least), Six(*bad));
            Err(PyValueError::new_err(message))
        }
        None => Ok(()),
    }
}

/// `inf { t >= least : the weight of the values above t is at most the budget }`; `None` if the budget is negative.
#[pyfunction]
pub fn weighted_quantile(
    py: Python<'_>,
    values: PyReadonlyArray1<'_, f64>,
    weights: Weights<'_>,
    budget: BigRational,
    least: f64,
) -> PyResult<Option<f64>> {
    // Copied before they are checked, because another thread may write to them.
    let view = values.as_array();
    let values = run(py, |cancel| memory::copied(&view, "values", cancel))?;
    check_least("values", &values, least)?;
    let n = match &weights {
        Weights::Floats(weights) => weights.as_array().len(),
        Weights::Fractions(weights) => weights.len(),
    };
    if values.len() != n {
        return Err(PyValueError::new_err(format!(
            "values and weights must be as long as each other, got {} and {n}",
            values.len()
        )));
    }
    match weights {
        Weights::Floats(weights) => {
            let view = weights.as_array();
            let weights = run(py, |cancel| memory::copied(&view, "weights", cancel))?;
            check_least("weights", &weights, 0.0)?;
            run(py, |cancel| {
                let bits = weights.iter().map(|weight| weight.to_bits());
                let values = WeightedValues::new(&values, bits, f64::from_bits, cancel)?;
                quantile(&values.down_to(least), &budget, cancel)
            })
        }
        Weights::Fractions(weights) if weights.iter().any(Signed::is_negative) => {
            Err(PyValueError::new_err("weights must be at least 0"))
        }
        Weights::Fractions(weights) => run(py, |cancel| {
            let values = WeightedValues::new(&values, &weights, BigRational::clone, cancel)?;
            quantile(&values.down_to(least), &budget, cancel)
        }),
    }
}

/// How many label maps `(m, ...)` are different, and how many of these occur once and twice.
#[pyfunction]
pub fn distinct_counts(samples: &Bound<'_, PyAny>) -> PyResult<(u64, u64, u64)> {
    let found = with_labels!(&Labels::new(samples)?, |view| {
        let stack = LabelStack::new(view, "samples")?;
        run(samples.py(), |cancel| richness::richness(&stack, cancel))
    })?;
    Ok((found.observed, found.singletons, found.doubletons))
}

/// The mean Pearson correlation of all pairs of label maps `(m, ...)`, m >= 2.
#[pyfunction]
pub fn pairwise_correlation(samples: &Bound<'_, PyAny>, varying_only: bool) -> PyResult<f64> {
    with_labels!(&Labels::new(samples)?, |view| {
        let stack = LabelStack::new(view, "samples")?;
        run(samples.py(), |cancel| agreement::correlation(&stack, varying_only, cancel))
    })
}

/// Of all ordered pairs of different label maps `(m, ...)`, the pixels at which they agree.
#[pyfunction]
pub fn agreeing_pixels(samples: &Bound<'_, PyAny>) -> PyResult<u128> {
    with_labels!(&Labels::new(samples)?, |view| {
        let stack = LabelStack::new(view, "samples")?;
        run(samples.py(), |cancel| agreement::agreement(&stack, cancel))
    })
}

/// Labels, their numbers of pixels, and how many of these each map has right.
type Hits<'py> = (Vec<i128>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray2<u64>>);

/// The labels of one image `(...)`, and how many pixels of each are right in label maps `(m, ...)`.
#[pyfunction]
pub fn label_hits<'py>(
    y: &Bound<'py, PyAny>,
    predictions: &Bound<'py, PyAny>,
    ignore_index: Ignored,
) -> PyResult<Hits<'py>> {
    let py = y.py();
    let truth = with_labels!(&Labels::new(y)?, |view| {
        let stack = LabelStack::new(view.insert_axis(Axis(0)), "y_true")?;
        run(py, |cancel| Truth::new(&stack, &ignore_index, cancel))
    })?;
    let hits = with_labels!(&Labels::new(predictions)?, |view| {
        let stack = LabelStack::new(view, "predictions")?;
        run(py, |cancel| truth.hits(&stack, cancel))
    })?;
    Ok((truth.labels, PyArray1::from_vec(py, truth.totals), PyArray2::from_owned_array(py, hits)))
}

/// Left singular vectors `(r, m)`, singular values `(r,)` and right singular vectors `(r, n)`.
type Svd<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<f64>>, Bound<'py, PyArray2<f64>>);

/// The `k` largest singular values of a matrix `(m, n)`, or fewer, and their vectors as rows.
#[pyfunction]
pub fn truncated_svd<'py>(a: &Bound<'py, PyAny>, k: usize) -> PyResult<Svd<'py>> {
    macro_rules! decompose {
        ($array:expr) => {{
            let matrix = $array.as_array().into_dimensionality::<Ix2>();
            let matrix = matrix.map_err(|_| PyValueError::new_err("A must have two axes"))?;
            run(a.py(), |cancel| linalg::truncated_svd(&matrix, k, cancel))?
        }};
    }
    let found = match Scores::new(a)? {
        Scores::Half(array) => decompose!(array),
        Scores::Brain(array) => decompose!(array),
        Scores::Single(array) => decompose!(array),
        Scores::Double(array) => decompose!(array),
    };
    Ok((
        PyArray2::from_owned_array(a.py(), found.left),
        PyArray1::from_vec(a.py(), found.values),
        PyArray2::from_owned_array(a.py(), found.right),
    ))
}

/// The smallest probability whose LAC score is at most `lam`, of float32 or float64 numbers.
#[pyfunction]
pub fn smallest_probability(lam: f64, double: bool) -> f64 {
    let coding = Coding::Complement;
    if double { coding.cutoff::<f64>(lam) } else { coding.cutoff::<f32>(lam).into() }
}

/// The address of the first element of X as kernels see it, to prove that nothing was copied.
#[pyfunction]
pub fn data_pointer(x: &Bound<'_, PyAny>) -> PyResult<usize> {
    Ok(match Scores::new(x)? {
        Scores::Half(array) => array.as_array().as_ptr() as usize,
        Scores::Brain(array) => array.as_array().as_ptr() as usize,
        Scores::Single(array) => array.as_array().as_ptr() as usize,
        Scores::Double(array) => array.as_array().as_ptr() as usize,
    })
}
