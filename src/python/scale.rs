//! The data that scalers are fitted to, and the loss that they minimise.

use numpy::ndarray::Array2;
use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn,
    PyReadwriteArray2, PyReadwriteArrayDyn, PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::arrays::{Labels, Maps, Scores, check_shape, inputs_of, masks_mut, with_maps};
use super::run::{run, run_if_long};
use crate::maps::{Ignored, Inputs, ScoreMaps};
use crate::memory;
use crate::num::real::Real;
use crate::scale::apply::{self, Features};
use crate::scale::draw;
use crate::scale::features::{self, N_ALONE, N_AROUND};
use crate::scale::objective::{self, Linear, Pixels};
use crate::scale::ordered::{Kept, Ordered};
use crate::scale::tempered::{self, Base, Blended, Field, Tempered};

/// Numbers `(m, K)` and labels `(m,)` of the drawn pixels of an image, its labelled pixels, a hash of its labels, and where
/// the drawn pixels lie `(m,)`.
type Drawn<'py> = (Bound<'py, PyAny>, Bound<'py, PyArray1<u16>>, u64, u64, Bound<'py, PyArray1<u64>>);

/// Draws at most `n_pixels` labelled pixels from each image.
#[pyfunction]
pub fn draw_pixels<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    ignore_index: Ignored,
    n_pixels: u64,
    seed: u64,
    first_image: usize,
) -> PyResult<Vec<Drawn<'py>>> {
    let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
    // The numbers as they are, whatever they mean.
    with_maps!(scores.maps(Inputs::CriticalValues, first_image)?, |maps| {
        let labels = labels.maps(&ignore_index, maps)?;
        let images = run(x.py(), |cancel| draw::draw(maps, &labels, n_pixels, seed, cancel))?;
        images.into_iter().map(|image| as_arrays(x.py(), image, maps.n_classes())).collect()
    })
}

fn as_arrays<R: Real + Element>(
    py: Python<'_>,
    image: draw::Drawn<R>,
    n_classes: usize,
) -> PyResult<Drawn<'_>> {
    let mut planes = memory::with_room(n_classes * image.labels.len(), draw::WHAT)?;
    image.planes.into_iter().for_each(|plane| planes.extend(plane));
    let planes = Array2::from_shape_vec((n_classes, image.labels.len()), planes).expect("K planes");
    let values = planes.reversed_axes();
    let labels = PyArray1::from_vec(py, image.labels);
    let positions = PyArray1::from_vec(py, image.positions);
    Ok((PyArray2::from_owned_array(py, values).into_any(), labels, image.n_valid, image.hash, positions))
}

/// A fitted map in front of a score: probabilities are made as logits are read.
#[pyclass(frozen, module = "conformask._core")]
pub struct ScalerMap(Kind);

enum Kind {
    /// See [`apply::Affine`].
    Affine { weight: Vec<f64>, bias: Vec<f64>, features: Features },
    /// See [`tempered::Tempered`].
    Tempered { base: Py<ScalerMap>, factors: PixelNumbers },
    /// See [`tempered::Blended`].
    Blended { base: Py<ScalerMap>, factors: [f64; 2], shares: PixelNumbers },
    /// See [`Ordered`].
    Ordered { weight: Vec<f64>, bias: Vec<f64>, kept: Kept, features: Features },
}

/// A number for each pixel of a batch.
struct PixelNumbers {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl PixelNumbers {
    fn copied(py: Python<'_>, array: &PyReadonlyArrayDyn<'_, f32>) -> PyResult<Self> {
        let shape = array.shape().to_vec();
        let flat = array.as_array();
        let flat = flat.to_shape(flat.len()).map_err(|_| PyValueError::new_err("not C-contiguous"))?;
        let values = run_if_long(py, flat.len(), |cancel| memory::copied(&flat.view(), WHAT, cancel))?;
        Ok(Self { values, shape })
    }

    /// Whether the numbers fit the images.
    fn fits<R: Real>(&self, maps: &ScoreMaps<'_, R>) -> bool {
        let [n, d, h, w] = maps.label_space().shape;
        self.shape == if maps.grid().is_volume { vec![n, d, h, w] } else { vec![n, h, w] }
    }

    fn field(&self) -> Field<'_> {
        Field { values: &self.values, n_pixels: self.shape[1..].iter().product() }
    }
}

const WHAT: &str = "a number for each pixel";

#[pymethods]
impl ScalerMap {
    /// Softmax of `W u + b`. `weight` holds 1, K or K * K numbers (row by row), `bias` K or none. Probabilities are replaced by
    /// their logarithms, and logits, if the map is centred, by the logarithms of their softmax.
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

    /// Softmax of the logits of `base` times `factors` (n, ...) of the pixels of a batch. The most probable class does not
    /// change.
    #[staticmethod]
    fn tempered(base: Bound<'_, Self>, factors: PyReadonlyArrayDyn<'_, f32>) -> PyResult<Self> {
        let factors = PixelNumbers::copied(base.py(), &factors)?;
        Ok(Self(Kind::Tempered { base: base.unbind(), factors }))
    }

    /// The blend of two temperatures: `shares` (n, ...) times the softmax with the first factor, plus the rest times the second.
    #[staticmethod]
    fn blended(
        base: Bound<'_, Self>,
        factors: [f64; 2],
        shares: PyReadonlyArrayDyn<'_, f32>,
    ) -> PyResult<Self> {
        let shares = PixelNumbers::copied(base.py(), &shares)?;
        Ok(Self(Kind::Blended { base: base.unbind(), factors, shares }))
    }

    /// Softmax after a map of the margins to the most probable class (K * K weights and K biases), or of the K - 1 gaps between
    /// ranks. `weight` and `bias` hold the numbers of K experts (row by row); no number is negative.
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
    /// The kind of numbers that it takes.
    fn takes(&self) -> Inputs {
        match &self.0 {
            Kind::Affine { features: Features::Logarithms, .. }
            | Kind::Ordered { features: Features::Logarithms, .. } => Inputs::Probabilities,
            Kind::Affine { .. } | Kind::Ordered { .. } => Inputs::Logits,
            Kind::Tempered { base, .. } | Kind::Blended { base, .. } => base.get().takes(),
        }
    }

    fn fits<R: Real>(&self, maps: &ScoreMaps<'_, R>) -> bool {
        let n_classes = maps.n_classes();
        match &self.0 {
            Kind::Affine { weight, bias, .. } => {
                [1, n_classes, n_classes * n_classes].contains(&weight.len())
                    && [0, n_classes].contains(&bias.len())
            }
            Kind::Tempered { base, factors: values } | Kind::Blended { base, shares: values, .. } => {
                values.fits(maps) && base.get().fits(maps)
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
            Kind::Tempered { base, factors } => {
                maps.with_transform(Tempered { base: base.get().base(n_classes), factors: factors.field() })
            }
            Kind::Blended { base, factors, shares } => maps.with_transform(Blended {
                base: base.get().base(n_classes),
                factors: *factors,
                shares: shares.field(),
            }),
        })
    }

    /// The map as one that gives logits to another.
    fn base<'a, R: Real>(&'a self, n_classes: usize) -> Box<dyn Base<R> + 'a> {
        match &self.0 {
            Kind::Ordered { weight, bias, kept, features } => {
                Box::new(Ordered::new(weight, bias, n_classes, *kept, *features))
            }
            Kind::Affine { weight, bias, features } => Box::new(apply::Affine::new(weight, bias, *features)),
            Kind::Tempered { base, factors } => {
                Box::new(Tempered { base: base.get().base(n_classes), factors: factors.field() })
            }
            Kind::Blended { base, factors, shares } => Box::new(Blended {
                base: base.get().base(n_classes),
                factors: *factors,
                shares: shares.field(),
            }),
        }
    }
}

/// Checked maps, given the kind of their numbers: a name, or the map that makes probabilities of them.
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

/// Writes the probabilities of maps into `out`, which has the shape of X, as float32, or as float64 for float64 maps.
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

/// Writes features of pixels into `out`, float32 (n, F, ...): the first are those of pixels alone; the others, of their
/// surroundings, may be left out.
#[pyfunction]
pub fn pixel_features<'py>(
    x: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    mut out: PyReadwriteArrayDyn<'py, f32>,
    first_image: usize,
) -> PyResult<()> {
    let scores = Scores::new(x)?;
    check_shape(&scores, |axis| axis != 1, &without(out.shape(), 1))?;
    if !matches!(out.shape().get(1), Some(&n) if n == N_ALONE || n == N_ALONE + N_AROUND) {
        return Err(PyValueError::new_err("out must have a plane for each feature"));
    }
    with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
        let out = masks_mut(&mut out)?;
        run(x.py(), |cancel| features::features(maps, out, cancel))
    })
}

fn without(shape: &[usize], axis: usize) -> Vec<usize> {
    shape.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &len)| len).collect()
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
        let is_map =
            [n_classes, n_classes * n_classes].contains(&map.weight.len()) && map.bias.len() == n_classes;
        if !is_map {
            return Err(PyValueError::new_err("a map has K or K * K weights, and K biases"));
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

/// For each run of pixels: the product of the Hessian with a direction, `(G, P)`.
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

/// The log loss of softmax(s u) of each pixel, `u` being (K, N) and `s` (N,), and its derivatives by s, `(N, 3)`.
#[pyfunction]
pub fn tempered_losses<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    factors: PyReadonlyArray1<'py, f64>,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (view, labels, factors) = (logits.as_array(), labels.as_slice()?, factors.as_slice()?);
    let (n_classes, n_pixels) = view.dim();
    let fits = n_classes > 0
        && labels.len() == n_pixels
        && factors.len() == n_pixels
        && labels.iter().all(|&label| usize::from(label) < n_classes)
        && logits.is_c_contiguous();
    if !fits {
        return Err(PyValueError::new_err("logits (K, N), labels and factors (N,) do not fit"));
    }
    let losses = run_if_long(py, view.len(), |cancel| tempered::losses(&view, labels, factors, cancel))?;
    Ok(PyArray2::from_owned_array(py, losses))
}

/// For each run of pixels: the sums of weighted log losses of softmax(s u), and of their derivatives by s, `(G, 3)`.
#[pyfunction]
pub fn tempered_sums<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f64>,
    labels: PyReadonlyArray1<'py, u16>,
    weights: PyReadonlyArray1<'py, f64>,
    ends: PyReadonlyArray1<'py, usize>,
    factor: f64,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let given = Given { features: logits, labels, weights, ends };
    let (pixels, ends) = given.check()?;
    let sums =
        run_if_long(py, pixels.features.len(), |cancel| tempered::sums(&pixels, ends, factor, cancel))?;
    Ok(PyArray2::from_owned_array(py, sums))
}

/// Replaces logits `(K, N)` by the logarithms of their softmax, in place.
#[pyfunction]
pub fn centre_logits(py: Python<'_>, mut logits: PyReadwriteArray2<'_, f64>) -> PyResult<()> {
    if logits.len() == 0 || !logits.is_c_contiguous() {
        return Err(PyValueError::new_err("logits (K, N) are not row by row"));
    }
    let mut view = logits.as_array_mut();
    run_if_long(py, view.len(), |cancel| tempered::centre(&mut view, cancel))
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
