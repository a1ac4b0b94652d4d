//! CONSIGN: searches that keep their images, and samples.

use num_rational::BigRational;
use numpy::ndarray::ArrayViewMut2;
use numpy::{
    PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use rayon::prelude::*;

use super::run::run;
use crate::consign::field::Field;
use crate::consign::possible::{Coefficients, count_open};
use crate::consign::sample::sample;
use crate::consign::search::{self, Image, MAX_COMPONENTS, Question, Search, Status, Stop};
use crate::philox::Philox;

/// The mean `(K, pixels)` and the components `(k, K, pixels)` of an image.
fn field_of(
    mean: &PyReadonlyArray2<'_, f64>,
    components: &PyReadonlyArray3<'_, f64>,
    of: &[&PyReadonlyArray1<'_, f64>],
) -> PyResult<Field> {
    let (n_labels, n_pixels) = mean.as_array().dim();
    let n_components = components.shape()[0];
    let fits = components.shape()[1..] == [n_labels, n_pixels] && of.iter().all(|a| a.len() == n_components);
    // Labels are 16 bits wide, rows are counted by 32.
    let is_small = n_labels <= 1 << 16 && n_labels.saturating_mul(n_pixels) < 1 << 32;
    if !fits || n_labels == 0 || n_components > MAX_COMPONENTS || !is_small {
        return Err(PyValueError::new_err(format!(
            "mean {:?} and components {:?} do not fit each other, or are too large (at most {MAX_COMPONENTS} components, \
             65536 labels)",
            mean.shape(),
            components.shape()
        )));
    }
    let copy = |array: numpy::ndarray::ArrayViewD<'_, f64>| array.iter().copied().collect();
    Ok(Field::new(
        n_labels,
        n_components,
        copy(mean.as_array().into_dyn()),
        copy(components.as_array().into_dyn()),
    ))
}

/// Searches for the smallest lambda of images.
#[pyclass(module = "conformask._core")]
pub struct ConsignSearch {
    question: Question,
    images: Vec<Box<dyn Search>>,
    n_warm: usize,
}

#[pymethods]
impl ConsignSearch {
    #[new]
    fn new(
        min_accuracy: BigRational,
        strict: bool,
        pixelwise: bool,
        lambda_max: f64,
        node_budget: usize,
    ) -> PyResult<Self> {
        let one = BigRational::from_integer(1.into());
        if min_accuracy < -&one || min_accuracy > one || !(lambda_max.is_finite() && lambda_max > 0.0) {
            return Err(PyValueError::new_err(
                "min_accuracy must be at most 1, lambda_max finite and above 0",
            ));
        }
        let question = Question { beta: min_accuracy, strict, pixelwise, lambda_max, node_budget };
        Ok(Self { question, images: Vec::new(), n_warm: 0 })
    }

    fn __len__(&self) -> usize {
        self.images.len()
    }

    /// Adds an image; labels are -1 where void. False if no pixel counts.
    fn add(
        &mut self,
        mean: PyReadonlyArray2<'_, f64>,
        components: PyReadonlyArray3<'_, f64>,
        centre: PyReadonlyArray1<'_, f64>,
        half: PyReadonlyArray1<'_, f64>,
        labels: PyReadonlyArray1<'_, i32>,
    ) -> PyResult<bool> {
        let field = field_of(&mean, &components, &[&centre, &half])?;
        let labels = labels.as_array().to_vec();
        let n_labels = field.n_labels() as i32;
        if labels.len() != field.n_pixels() || labels.iter().any(|label| !(-1..n_labels).contains(label)) {
            return Err(PyValueError::new_err("labels must be -1 or a class, one for each pixel"));
        }
        let (centre, half) = (centre.as_array().to_vec(), half.as_array().to_vec());
        let found = search::search(&Image { field, centre, half, labels }, &self.question);
        let counts = found.is_some();
        self.images.extend(found);
        Ok(counts)
    }

    /// Bytes of the images that wait for `warm_start`, more or less.
    fn n_bytes_waiting(&self) -> usize {
        self.images[self.n_warm..].iter().map(|image| image.n_bytes()).sum()
    }

    /// First upper bounds of the images added since the last call.
    #[pyo3(signature = (decide=None))]
    fn warm_start(&mut self, py: Python<'_>, decide: Option<f64>) -> PyResult<()> {
        let (waiting, stop) = (&mut self.images[self.n_warm..], stop_of(f64::INFINITY, decide));
        run(py, |cancel| {
            waiting.par_iter_mut().with_max_len(1).try_for_each(|image| image.warm_start(stop, cancel))
        })?;
        self.n_warm = self.images.len();
        Ok(())
    }

    /// Narrows the brackets of images `first..last`, until lambda is known to be beyond `bound`, or decided.
    #[pyo3(signature = (first, last, bound, decide=None))]
    fn refine(
        &mut self,
        py: Python<'_>,
        first: usize,
        last: usize,
        bound: f64,
        decide: Option<f64>,
    ) -> PyResult<()> {
        if first > last || last > self.n_warm {
            return Err(PyIndexError::new_err(format!("no images {first} to {last}")));
        }
        let (images, stop) = (&mut self.images[first..last], stop_of(bound, decide));
        run(py, |cancel| {
            images.par_iter_mut().with_max_len(1).try_for_each(|image| image.refine(stop, cancel))
        })
    }

    /// Upper and lower bounds of lambda, and names of how the searches ended.
    #[allow(clippy::type_complexity)]
    fn brackets<'py>(
        &self,
        py: Python<'py>,
    ) -> (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>, Vec<&'static str>) {
        let brackets: Vec<_> = self.images.iter().map(|image| image.bracket()).collect();
        (
            PyArray1::from_iter(py, brackets.iter().map(|bracket| bracket.upper)),
            PyArray1::from_iter(py, brackets.iter().map(|bracket| bracket.lower)),
            brackets.iter().map(|bracket| name_of(bracket.status)).collect(),
        )
    }

    /// The best point of an image.
    fn witness<'py>(&self, py: Python<'py>, image: usize) -> PyResult<Option<Bound<'py, PyArray1<f64>>>> {
        Ok(self.image(image)?.bracket().witness.map(|z| PyArray1::from_vec(py, z)))
    }

    /// The best accuracy that was seen of an image.
    fn achieved(&self, image: usize) -> PyResult<BigRational> {
        Ok(self.image(image)?.achieved())
    }

    /// Number of boxes searched of an image.
    fn n_nodes(&self, image: usize) -> PyResult<usize> {
        Ok(self.image(image)?.bracket().n_nodes)
    }
}

impl ConsignSearch {
    fn image(&self, image: usize) -> PyResult<&dyn Search> {
        let found = self.images.get(image).map(AsRef::as_ref);
        found.ok_or_else(|| PyIndexError::new_err(format!("no image {image}")))
    }
}

fn stop_of(bound: f64, decide: Option<f64>) -> Stop {
    decide.map_or(Stop::Beyond(bound), Stop::Decided)
}

fn name_of(status: Status) -> &'static str {
    match status {
        Status::Open | Status::UpperBound => "upper_bound",
        Status::Exact => "exact",
        Status::Infeasible => "infeasible",
        Status::NotNeeded => "not_needed",
    }
}

/// Draws segmentations into `out`, uint8 or uint16 `(m, pixels)`, with coefficients uniform in a box.
#[pyfunction]
pub fn consign_sample(
    py: Python<'_>,
    mean: PyReadonlyArray2<'_, f64>,
    components: PyReadonlyArray3<'_, f64>,
    lower: PyReadonlyArray1<'_, f64>,
    upper: PyReadonlyArray1<'_, f64>,
    key: u128,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let field = field_of(&mean, &components, &[&lower, &upper])?;
    let (lower, upper) = (lower.as_array().to_vec(), upper.as_array().to_vec());
    macro_rules! draw {
        ($out:expr) => {{
            let mut out = $out.try_readwrite()?;
            let shape = out.shape().to_vec();
            if shape.len() != 2 || shape[1] != field.n_pixels() {
                return Err(PyValueError::new_err("out must have shape (m, pixels)"));
            }
            let out = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
            let out = ArrayViewMut2::from_shape((shape[0], shape[1]), out).expect("as many elements");
            run(py, |cancel| sample(&field, &lower, &upper, Philox::new(key), out, cancel))
        }};
    }
    match out.cast::<PyArrayDyn<u8>>() {
        Ok(out) if field.n_labels() <= 256 => draw!(out),
        _ => draw!(out.cast::<PyArrayDyn<u16>>()?),
    }
}

/// What a box leaves open: the number of pixels with each number of possible labels, and the number of hyperplanes.
#[pyfunction]
pub fn consign_open<'py>(
    py: Python<'py>,
    mean: PyReadonlyArray2<'py, f64>,
    components: PyReadonlyArray3<'py, f64>,
    lower: PyReadonlyArray1<'py, f64>,
    upper: PyReadonlyArray1<'py, f64>,
) -> PyResult<(Bound<'py, PyArray1<u64>>, u64)> {
    let field = field_of(&mean, &components, &[&lower, &upper])?;
    let (lower, upper) = (lower.as_array().to_vec(), upper.as_array().to_vec());
    let open = run(py, |cancel| count_open(&field, &Coefficients::between(&lower, &upper), cancel))?;
    Ok((PyArray1::from_vec(py, open.n_pixels), open.n_hyperplanes))
}
