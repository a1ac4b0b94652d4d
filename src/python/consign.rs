//! CONSIGN: decompositions of images, and searches that keep their images.

use std::sync::Arc;

use num_rational::BigRational;
use num_traits::{One, Signed};
use numpy::ndarray::{Array2, ArrayD, ArrayViewD, ArrayViewMut2, Axis, CowArray, Ix2, IxDyn};
use numpy::{
    PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use rayon::prelude::*;

use super::arrays::{Labels, Scores, with_labels};
use super::run::run;
use crate::consign::decomposition::{Decomposition, Request, Weight, decompose};
use crate::consign::field::Field;
use crate::consign::possible::{Coefficients, count_open};
use crate::consign::sample::sample;
use crate::consign::search::{self, Image, MAX_COMPONENTS, Question, Search, Status, Stop};
use crate::error::Error;
use crate::maps::{Ignored, LabelMaps, LabelSpace};
use crate::memory;
use crate::num::philox::Philox;
use crate::place::{Axes, Grid, Place};
use crate::threads::Cancel;

/// The samples of an image as a mean and components, with the box of coefficients at lambda = 1.
#[pyclass(frozen, module = "conformask._core")]
pub struct ConsignDecomposition {
    found: Decomposition,
    /// `(K, H, W)` or `(K, D, H, W)`.
    shape: Vec<usize>,
}

/// The data of a decomposition, from which copies are made.
type Parts<'py> = (
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArrayDyn<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
);

#[pymethods]
impl ConsignDecomposition {
    #[new]
    fn new(
        mean: PyReadonlyArrayDyn<'_, f64>,
        components: PyReadonlyArrayDyn<'_, f64>,
        singular_values: PyReadonlyArray1<'_, f64>,
        centre: PyReadonlyArray1<'_, f64>,
        half: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<Self> {
        let shape = mean.shape().to_vec();
        check_size(&shape, centre.len())?;
        let fits = components.shape().split_first() == Some((&centre.len(), shape.as_slice()))
            && [&singular_values, &half].iter().all(|array| array.len() == centre.len());
        if !fits {
            return Err(PyValueError::new_err("mean, components and coefficients do not fit each other"));
        }
        let copy = |array: ArrayViewD<'_, f64>| memory::collected(array.iter().copied(), PLANES);
        let field = Field::new(shape[0], centre.len(), copy(mean.as_array())?, copy(components.as_array())?);
        let found = Decomposition {
            field: Arc::new(field),
            values: singular_values.as_array().to_vec(),
            centre: centre.as_array().to_vec(),
            half: half.as_array().to_vec(),
        };
        Ok(Self { found, shape })
    }

    /// Decomposes samples `(S, K, ...)`; `image` is what errors call the image. If classes and pixels are not evenly spaced in
    /// memory, the samples are copied.
    #[staticmethod]
    fn of_samples(
        x: &Bound<'_, PyAny>,
        n_components: usize,
        level: f64,
        weight: &str,
        image: usize,
    ) -> PyResult<Self> {
        let scores = Scores::new(x)?;
        let weight = match weight {
            "sigma" => Weight::Sigma,
            "relative" => Weight::Relative,
            "none" => Weight::None,
            _ => return Err(PyValueError::new_err(format!("unknown weight '{weight}'"))),
        };
        let Some((&n_samples, shape)) = scores.shape().split_first() else {
            return Err(PyValueError::new_err("samples must have shape (S, K, ...)"));
        };
        check_size(shape, n_components)?;
        if n_samples == 0 || !(0.0..=0.5).contains(&level) {
            return Err(PyValueError::new_err("there are no samples, or the level is not in [0, 0.5]"));
        }
        let request = Request { n_components, level, weight };
        let n_pixels = shape[1..].iter().product();
        let grid = match shape[1..] {
            [height, width] => Grid::flat(height, width),
            [_, height, width] => Grid { is_volume: true, height, width },
            _ => Grid::flat(1, n_pixels),
        };
        let place = Place { image, grid, pixels: 0..n_pixels };
        macro_rules! decompose {
            ($array:expr) => {{
                let array = $array.as_array();
                run(x.py(), |cancel| {
                    let n_entries: usize = shape.iter().product();
                    let rows = as_rows(&array, n_samples, n_entries, cancel)?;
                    decompose(&rows.view(), shape[0], &request, &place, cancel)
                })?
            }};
        }
        let found = match &scores {
            Scores::Half(array) => decompose!(array),
            Scores::Brain(array) => decompose!(array),
            Scores::Single(array) => decompose!(array),
            Scores::Double(array) => decompose!(array),
        };
        Ok(Self { found, shape: shape.to_vec() })
    }

    /// The data from which `copy` and `pickle` make another one.
    fn __getnewargs__<'py>(&self, py: Python<'py>) -> PyResult<Parts<'py>> {
        let (mean, components) = (self.mean(py)?, self.components(py)?);
        Ok((mean, components, self.singular_values(py), self.centre(py), self.half(py)))
    }

    /// `(K, ...)`.
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let field = &self.found.field;
        let planes = (0..field.n_labels()).map(|label| field.mean(label));
        self.array(py, planes, &[])
    }

    /// `(k, K, ...)`.
    #[getter]
    fn components<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let field = &self.found.field;
        let planes = (0..field.n_components())
            .flat_map(|k| (0..field.n_labels()).map(move |label| field.component(k, label)));
        self.array(py, planes, &[field.n_components()])
    }

    /// Largest first.
    #[getter]
    fn singular_values<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.found.values)
    }

    /// The middle of the box.
    #[getter]
    fn centre<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.found.centre)
    }

    /// Half the sides of the box at lambda = 1.
    #[getter]
    fn half<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.found.half)
    }

    /// `(K, ...)`.
    #[getter]
    fn shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// Labels of the pixels as class codes, -1 where void; `image` is what errors call the image, if it has a name.
    #[pyo3(signature = (y, ignore_index, image=None))]
    fn labels<'py>(
        &self,
        y: &Bound<'py, PyAny>,
        ignore_index: Ignored,
        image: Option<usize>,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let (n_labels, n_pixels) = (self.shape[0], self.found.field.n_pixels());
        let [depth, height, width] = match self.shape[1..] {
            [height, width] => [1, height, width],
            [depth, height, width] => [depth, height, width],
            _ => [1, 1, n_pixels],
        };
        let space = LabelSpace { shape: [1, depth, height, width], n_classes: n_labels, first_image: image };
        let mut codes = memory::with_room(n_pixels, "the labels of pixels")?;
        with_labels!(&Labels::new(y)?, |view| {
            LabelMaps::new(view.insert_axis(Axis(0)), ignore_index.clone(), space)?.read(
                0,
                0..n_pixels,
                &mut codes,
            )?;
        });
        Ok(PyArray1::from_vec(y.py(), codes))
    }

    /// The label of each pixel at given coefficients.
    fn label_map<'py>(
        &self,
        py: Python<'py>,
        coefficients: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<Bound<'py, PyArrayDyn<u16>>> {
        let coefficients = self.coefficients(&coefficients)?;
        let map = run(py, |cancel| self.found.field.label_map(&coefficients, cancel))?;
        let map = ArrayD::from_shape_vec(IxDyn(&self.shape[1..]), map).expect("as many pixels");
        Ok(PyArrayDyn::from_owned_array(py, map))
    }

    /// Draws segmentations into `out`, uint8 or uint16 `(m, pixels)`, with coefficients uniform in a box.
    fn sample(
        &self,
        py: Python<'_>,
        lower: PyReadonlyArray1<'_, f64>,
        upper: PyReadonlyArray1<'_, f64>,
        key: u128,
        out: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let field = &self.found.field;
        let (lower, upper) = (self.coefficients(&lower)?, self.coefficients(&upper)?);
        macro_rules! draw {
            ($out:expr) => {{
                let mut out = $out.try_readwrite()?;
                let shape = out.shape().to_vec();
                if shape.len() != 2 || shape[1] != field.n_pixels() {
                    return Err(PyValueError::new_err("out must have shape (m, pixels)"));
                }
                let out =
                    out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
                let out = ArrayViewMut2::from_shape((shape[0], shape[1]), out).expect("as many elements");
                run(py, |cancel| sample(field, &lower, &upper, Philox::new(key), out, cancel))
            }};
        }
        match out.cast::<PyArrayDyn<u8>>() {
            Ok(out) if field.n_labels() <= 256 => draw!(out),
            _ => draw!(out.cast::<PyArrayDyn<u16>>()?),
        }
    }

    /// What a box leaves open: the number of pixels with each number of possible labels, and the number of hyperplanes.
    fn open<'py>(
        &self,
        py: Python<'py>,
        lower: PyReadonlyArray1<'_, f64>,
        upper: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<(Bound<'py, PyArray1<u64>>, u64)> {
        let (lower, upper) = (self.coefficients(&lower)?, self.coefficients(&upper)?);
        let open =
            run(py, |cancel| count_open(&self.found.field, &Coefficients::between(&lower, &upper), cancel))?;
        Ok((PyArray1::from_vec(py, open.n_pixels), open.n_hyperplanes))
    }
}

impl ConsignDecomposition {
    /// Planes, one after the other, as an array whose last axes are those of the image.
    fn array<'py, 'p>(
        &self,
        py: Python<'py>,
        planes: impl Iterator<Item = &'p [f64]>,
        first_axes: &[usize],
    ) -> PyResult<Bound<'py, PyArrayDyn<f64>>> {
        let shape = [first_axes, &self.shape].concat();
        let mut numbers = memory::with_room(shape.iter().product(), PLANES)?;
        for plane in planes {
            py.check_signals()?;
            numbers.extend_from_slice(plane);
        }
        let array = ArrayD::from_shape_vec(IxDyn(&shape), numbers).expect("as many elements");
        Ok(PyArrayDyn::from_owned_array(py, array))
    }

    fn coefficients(&self, array: &PyReadonlyArray1<'_, f64>) -> PyResult<Vec<f64>> {
        if array.len() != self.found.centre.len() {
            return Err(PyValueError::new_err("there must be one coefficient for each component"));
        }
        Ok(array.as_array().to_vec())
    }
}

/// The samples as rows `(S, entries)`: a view, or a copy if they are not evenly spaced in memory.
fn as_rows<'a, T: Copy>(
    samples: &ArrayViewD<'a, T>,
    n_samples: usize,
    n_entries: usize,
    cancel: &Cancel,
) -> Result<CowArray<'a, T, Ix2>, Error> {
    if let Ok(rows) = samples.clone().into_shape_with_order((n_samples, n_entries)) {
        return Ok(rows.into());
    }
    let mut numbers = memory::with_room(samples.len(), "a copy of the samples")?;
    for row in samples.lanes(Axis(samples.ndim() - 1)) {
        cancel.check()?;
        numbers.extend(row);
    }
    Ok(Array2::from_shape_vec((n_samples, n_entries), numbers).expect("as many elements").into())
}

/// What errors call the planes of an image.
const PLANES: &str = "the mean and the components of pixels";

/// Fails unless planes `(K, ...)` can be counted: labels are 16 bits wide, rows are counted by 32.
fn check_size(shape: &[usize], n_components: usize) -> PyResult<()> {
    let n_entries = shape.iter().try_fold(1_usize, |product, &len| product.checked_mul(len));
    let is_small =
        n_entries.is_some_and(|n| 0 < n && n < 1 << 32) && shape.first().is_some_and(|&k| k <= 1 << 16);
    if is_small && n_components <= MAX_COMPONENTS {
        return Ok(());
    }
    Err(PyValueError::new_err(format!(
        "an image of shape (K, ...) = {} with {n_components} components is empty or too large: at most 65536 \
         classes, 2^32 numbers, {MAX_COMPONENTS} components",
        Axes(shape)
    )))
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
        let is_share = !min_accuracy.is_negative() && min_accuracy <= BigRational::one();
        let is_good = is_share && lambda_max.is_finite() && lambda_max > 0.0;
        if !is_good {
            return Err(PyValueError::new_err(
                "min_accuracy must be in [0, 1], lambda_max finite and above 0",
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
        py: Python<'_>,
        decomposition: &Bound<'_, ConsignDecomposition>,
        labels: PyReadonlyArray1<'_, i32>,
    ) -> PyResult<bool> {
        let Decomposition { field, centre, half, .. } = &decomposition.get().found;
        let labels = memory::collected(labels.as_array().iter().copied(), "the labels of pixels")?;
        let n_labels = field.n_labels() as i32;
        if labels.len() != field.n_pixels() || labels.iter().any(|label| !(-1..n_labels).contains(label)) {
            return Err(PyValueError::new_err("labels must be -1 or a class, one for each pixel"));
        }
        let image = Image { field: Arc::clone(field), centre: centre.clone(), half: half.clone(), labels };
        let found = run(py, |cancel| search::search(&image, &self.question, cancel))?;
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
