//! What scalers are fitted to, and the loss that they minimise.

use numpy::ndarray::Array2;
use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{Labels, Maps, Scores, check_shape, inputs_of, masks_mut, with_maps};
use super::run::{run, run_if_long};
use crate::maps::{Inputs, ScoreMaps};
use crate::num::real::Real;
use crate::scale::apply::{self, Features};
use crate::scale::draw;
use crate::scale::objective::{self, Linear, Pixels};
use crate::scale::ordered::{Kept, Ordered};

/// Numbers `(m, K)` and labels `(m,)` of the drawn pixels of an image, its labelled pixels, and a hash of its labels.
type Drawn<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<u16>>, u64, u64);

/// Draws at most `n_pixels` labelled pixels from each image.
#[pyfunction]
pub fn draw_pixels<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    ignore_index: Option<i64>,
    n_pixels: u64,
    seed: u64,
    first_image: usize,
) -> PyResult<Vec<Drawn<'py>>> {
    let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
    // The numbers as they are, whatever they mean.
    with_maps!(scores.maps(Inputs::CriticalValues, first_image)?, |maps| {
        let labels = labels.maps(ignore_index, maps)?;
        let images = run(x.py(), |cancel| draw::draw(maps, &labels, n_pixels, seed, cancel))?;
        Ok(images.into_iter().map(|image| as_arrays(x.py(), image, maps.n_classes())).collect())
    })
}

fn as_arrays<R: Real + Element>(py: Python<'_>, image: draw::Drawn<R>, n_classes: usize) -> Drawn<'_> {
    let values =
        Array2::from_shape_vec((image.labels.len(), n_classes), image.values).expect("K numbers each");
    let labels = PyArray1::from_vec(py, image.labels);
    (PyArray2::from_owned_array(py, values).into_any(), labels, image.n_valid, image.hash)
}

/// A fitted map in front of a score: probabilities are made as logits are read.
#[pyclass(frozen, module = "conformask._core")]
pub struct ScalerMap(Kind);

enum Kind {
    /// See [`apply::Affine`].
    Affine { weight: Vec<f64>, bias: Vec<f64>, features: Features },
    /// See [`Ordered`].
    Ordered { weight: Vec<f64>, bias: Vec<f64>, kept: Kept, features: Features },
}

#[pymethods]
impl ScalerMap {
    /// Softmax of `W u + b`. `weight` holds 1, K or K * K numbers (row by row), `bias` K or none. Of probabilities it takes the
    /// logarithms, of logits those of their softmax if it is centred.
    #[staticmethod]
    fn affine(
        weight: PyReadonlyArray1<'_, f64>,
        bias: PyReadonlyArray1<'_, f64>,
        is_centred: bool,
        of_probabilities: bool,
    ) -> Self {
        let features = match (of_probabilities, is_centred) {
            (true, _) => Features::Logarithms,
            (false, true) => Features::LogSoftmax,
            (false, false) => Features::Logits,
        };
        let (weight, bias) = (weight.as_array().to_vec(), bias.as_array().to_vec());
        Self(Kind::Affine { weight, bias, features })
    }

    /// Softmax of what becomes of margins to the most probable class, which has K * K weights and K biases, or of the K - 1
    /// gaps between ranks. `weight` holds those of K experts (row by row), `bias` too; no number is negative.
    #[staticmethod]
    fn ordered(
        weight: PyReadonlyArray1<'_, f64>,
        bias: PyReadonlyArray1<'_, f64>,
        keeps_order: bool,
        of_probabilities: bool,
    ) -> PyResult<Self> {
        let (weight, bias) = (weight.as_array().to_vec(), bias.as_array().to_vec());
        if !weight.iter().chain(&bias).all(|&value| value >= 0.0 && value.is_finite()) {
            return Err(PyValueError::new_err("a map that keeps an order has no negative number"));
        }
        let kept = if keeps_order { Kept::Order } else { Kept::Argmax };
        let features = if of_probabilities { Features::Logarithms } else { Features::Logits };
        Ok(Self(Kind::Ordered { weight, bias, kept, features }))
    }
}

impl ScalerMap {
    /// What it makes probabilities of.
    fn takes(&self) -> Inputs {
        let (Kind::Affine { features, .. } | Kind::Ordered { features, .. }) = &self.0;
        if *features == Features::Logarithms { Inputs::Probabilities } else { Inputs::Logits }
    }

    fn fits<R: Real>(&self, maps: &ScoreMaps<'_, R>) -> bool {
        let n_classes = maps.n_classes();
        match &self.0 {
            Kind::Affine { weight, bias, .. } => {
                [1, n_classes, n_classes * n_classes].contains(&weight.len())
                    && [0, n_classes].contains(&bias.len())
            }
            Kind::Ordered { weight, bias, kept, .. } => {
                let width = kept.width(n_classes);
                (weight.len(), bias.len()) == (n_classes * width * width, n_classes * width)
            }
        }
    }

    fn in_front_of<'a, R: Real>(&'a self, maps: ScoreMaps<'a, R>) -> PyResult<ScoreMaps<'a, R>> {
        if !self.fits(&maps) {
            return Err(PyValueError::new_err("the map of a scaler was made for another shape"));
        }
        let n_classes = maps.n_classes();
        Ok(match &self.0 {
            Kind::Affine { weight, bias, features } => {
                maps.with_transform(apply::Affine::new(weight, bias, *features))
            }
            Kind::Ordered { weight, bias, kept, features } => {
                maps.with_transform(Ordered::new(weight, bias, n_classes, *kept, *features))
            }
        })
    }
}

/// Checked maps of what the numbers are: a name, or the map that makes probabilities of them.
pub fn maps_of<'a>(
    scores: &'a Scores<'_>,
    inputs: &'a Bound<'_, PyAny>,
    first_image: usize,
) -> PyResult<Maps<'a>> {
    let Ok(map) = inputs.cast::<ScalerMap>() else {
        return Ok(scores.maps(inputs_of(inputs.extract()?)?, first_image)?);
    };
    let map = map.get();
    Ok(match scores.maps(map.takes(), first_image)? {
        Maps::Single(maps) => Maps::Single(map.in_front_of(maps)?),
        Maps::Double(maps) => Maps::Double(map.in_front_of(maps)?),
    })
}

/// Writes the probabilities that are made of maps into `out`, like X, of float32 or, for float64, of float64.
#[pyfunction]
pub fn probabilities<'py>(
    x: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    first_image: usize,
) -> PyResult<()> {
    let scores = Scores::new(x)?;
    match maps_of(&scores, inputs, first_image)? {
        Maps::Single(maps) => write(&scores, &maps, out.extract::<PyReadwriteArrayDyn<'_, f32>>()?),
        Maps::Double(maps) => write(&scores, &maps, out.extract::<PyReadwriteArrayDyn<'_, f64>>()?),
    }
}

fn write<R: Real + Element>(
    scores: &Scores<'_>,
    maps: &ScoreMaps<'_, R>,
    mut out: PyReadwriteArrayDyn<'_, R>,
) -> PyResult<()> {
    check_shape(scores, |_| true, out.shape())?;
    let py = out.py();
    let out = masks_mut(&mut out)?;
    run(py, |cancel| apply::probabilities(maps, out, cancel))
}

/// Arrays of pixels, borrowed and checked.
struct Given<'py> {
    features: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    weights: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, usize>,
}

impl Given<'_> {
    fn check(&self) -> PyResult<(Pixels<'_>, &[usize])> {
        let (n_classes, n_pixels) = self.features.as_array().dim();
        let (labels, weights, ends) =
            (self.labels.as_slice()?, self.weights.as_slice()?, self.ends.as_slice()?);
        let fits = labels.len() == n_pixels
            && weights.len() == n_pixels
            && labels.iter().all(|&label| usize::from(label) < n_classes)
            && ends.is_sorted()
            && ends.last().is_some_and(|&end| end == n_pixels)
            && self.features.is_c_contiguous();
        if !fits {
            return Err(PyValueError::new_err("features (K, N), labels, weights (N,) and ends do not fit"));
        }
        Ok((Pixels { features: self.features.as_array(), labels, weights }, ends))
    }

    fn map<'a>(
        &self,
        weight: &'a PyReadonlyArray1<'_, f64>,
        bias: &'a PyReadonlyArray1<'_, f64>,
    ) -> PyResult<Linear<'a>> {
        let n_classes = self.features.shape()[0];
        let map = Linear { weight: weight.as_slice()?, bias: bias.as_slice()? };
        let is_map = [1, n_classes, n_classes * n_classes].contains(&map.weight.len())
            && [0, n_classes].contains(&map.bias.len());
        if !is_map {
            return Err(PyValueError::new_err("a map has 1, K or K * K weights, and K biases or none"));
        }
        Ok(map)
    }
}

/// For each run of pixels that ends at one of `ends`: the weighted log loss of softmax(W u + b) and its gradient, `(G, 1 + P)`.
#[pyfunction]
pub fn log_loss_gradients<'py>(
    py: Python<'py>,
    features: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    weights: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, usize>,
    weight: PyReadonlyArray1<'py, f64>,
    bias: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let given = Given { features, labels, weights, ends };
    let ((pixels, ends), map) = (given.check()?, given.map(&weight, &bias)?);
    let sums =
        run_if_long(py, pixels.features.len(), |cancel| objective::gradients(&pixels, ends, &map, cancel))?;
    Ok(PyArray2::from_owned_array(py, sums))
}

/// For each run of pixels: the slope of the loss along a direction, and the product of the Hessian with it, `(G, 1 + P)`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // a map and a direction are two arrays each
pub fn log_loss_hessian_products<'py>(
    py: Python<'py>,
    features: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    weights: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, usize>,
    weight: PyReadonlyArray1<'py, f64>,
    bias: PyReadonlyArray1<'py, f64>,
    weight_direction: PyReadonlyArray1<'py, f64>,
    bias_direction: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let given = Given { features, labels, weights, ends };
    let ((pixels, ends), map) = (given.check()?, given.map(&weight, &bias)?);
    let direction = given.map(&weight_direction, &bias_direction)?;
    if (map.weight.len(), map.bias.len()) != (direction.weight.len(), direction.bias.len()) {
        return Err(PyValueError::new_err("the direction must have the parameters of the map"));
    }
    let sums = run_if_long(py, pixels.features.len(), |cancel| {
        objective::hessian_products(&pixels, ends, &map, &direction, cancel)
    })?;
    Ok(PyArray2::from_owned_array(py, sums))
}

/// For each run of pixels: the Hessian of the loss, of a map with K weights and K biases, `(G, 2 K, 2 K)`.
#[pyfunction]
pub fn log_loss_hessians<'py>(
    py: Python<'py>,
    features: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    weights: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, usize>,
    weight: PyReadonlyArray1<'py, f64>,
    bias: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let given = Given { features, labels, weights, ends };
    let ((pixels, ends), map) = (given.check()?, given.map(&weight, &bias)?);
    let n_classes = pixels.features.nrows();
    if (map.weight.len(), map.bias.len()) != (n_classes, n_classes) {
        return Err(PyValueError::new_err("the Hessian is that of a map with K weights and K biases"));
    }
    let sums =
        run_if_long(py, pixels.features.len(), |cancel| objective::hessians(&pixels, ends, &map, cancel))?;
    Ok(PyArray3::from_owned_array(py, sums))
}
