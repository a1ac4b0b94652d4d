//! NumPy arrays as checked views, by dtype.

use half::f16;
use ndarray::{ArrayViewMut2, ArrayViewMut3};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Result;
use crate::maps::{BinaryLabels, Ignored, Inputs, LabelMaps, LabelSpace, ScoreMaps};
use crate::num::real::Real;
use crate::place::Axes;

/// An array of scores, borrowed.
pub enum Scores<'py> {
    Half(PyReadonlyArrayDyn<'py, f16>),
    /// NumPy has no bfloat16: tensors come as the bits of their numbers.
    Brain(PyReadonlyArrayDyn<'py, u16>),
    Single(PyReadonlyArrayDyn<'py, f32>),
    Double(PyReadonlyArrayDyn<'py, f64>),
}

impl<'py> Scores<'py> {
    /// Takes float16, float32 or float64, and bfloat16 as uint16 of its bits.
    pub fn new(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = array.cast() {
            return Ok(Self::Half(borrow(array)?));
        }
        if let Ok(array) = array.cast() {
            return Ok(Self::Single(borrow(array)?));
        }
        if let Ok(array) = array.cast() {
            return Ok(Self::Double(borrow(array)?));
        }
        if let Ok(array) = array.cast() {
            return Ok(Self::Brain(borrow(array)?));
        }
        Err(PyTypeError::new_err("X must be a float16, float32 or float64 array in native byte order"))
    }
}

impl Scores<'_> {
    /// The shape of the array.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Half(array) => array.shape(),
            Self::Brain(array) => array.shape(),
            Self::Single(array) => array.shape(),
            Self::Double(array) => array.shape(),
        }
    }

    /// Checked maps, by the float that kernels compute with.
    pub fn maps(&self, inputs: Inputs, first_image: usize) -> Result<Maps<'_>> {
        Ok(match self {
            Self::Half(array) => Maps::Single(ScoreMaps::new(array.as_array(), inputs, first_image)?),
            Self::Brain(array) => Maps::Single(ScoreMaps::new(array.as_array(), inputs, first_image)?),
            Self::Single(array) => Maps::Single(ScoreMaps::new(array.as_array(), inputs, first_image)?),
            Self::Double(array) => Maps::Double(ScoreMaps::new(array.as_array(), inputs, first_image)?),
        })
    }

    /// Checked maps of one class against the rest, `(n, H, W)` or `(n, D, H, W)`.
    pub fn maps_of_one_class(&self, first_image: usize) -> Result<Maps<'_>> {
        Ok(match self {
            Self::Half(array) => Maps::Single(ScoreMaps::of_one_class(array.as_array(), first_image)?),
            Self::Brain(array) => Maps::Single(ScoreMaps::of_one_class(array.as_array(), first_image)?),
            Self::Single(array) => Maps::Single(ScoreMaps::of_one_class(array.as_array(), first_image)?),
            Self::Double(array) => Maps::Double(ScoreMaps::of_one_class(array.as_array(), first_image)?),
        })
    }
}

/// Score maps, by the float that kernels compute with.
pub enum Maps<'a> {
    Single(ScoreMaps<'a, f32>),
    Double(ScoreMaps<'a, f64>),
}

/// Calls `$body` with `$maps` bound to the score maps, once per float type.
macro_rules! with_maps {
    ($either:expr, |$maps:ident| $body:expr) => {
        match &$either {
            $crate::python::arrays::Maps::Single($maps) => $body,
            $crate::python::arrays::Maps::Double($maps) => $body,
        }
    };
}
pub(super) use with_maps;

/// The kind of the numbers of X, by name.
pub fn inputs_of(name: &str) -> PyResult<Inputs> {
    match name {
        "probabilities" => Ok(Inputs::Probabilities),
        "bfloat16 probabilities" => Ok(Inputs::CoarseProbabilities),
        "logits" => Ok(Inputs::Logits),
        "scores" => Ok(Inputs::Scores),
        "critical values" => Ok(Inputs::CriticalValues),
        _ => Err(PyValueError::new_err(format!("unknown inputs '{name}'"))),
    }
}

/// Calls `$body` with `$view` bound to the array of labels, once per integer type.
macro_rules! with_labels {
    ($labels:expr, |$view:ident| $body:expr) => {
        with_labels!($labels, |$view| $body, I8, I16, I32, I64, U8, U16, U32, U64)
    };
    ($labels:expr, |$view:ident| $body:expr, $($variant:ident),*) => {
        match $labels {
            $($crate::python::arrays::Labels::$variant(array) => {
                let $view = array.as_array();
                $body
            })*
        }
    };
}
pub(super) use with_labels;

/// `None`, the label of void pixels, or several.
impl<'py> FromPyObject<'_, 'py> for Ignored {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if value.is_none() {
            return Ok(Self::default());
        }
        match value.extract::<i64>() {
            Ok(label) => Ok(Some(label).into()),
            Err(_) => Ok(value.extract::<Vec<i64>>()?.into()),
        }
    }
}

/// An array of labels, borrowed.
pub enum Labels<'py> {
    I8(PyReadonlyArrayDyn<'py, i8>),
    I16(PyReadonlyArrayDyn<'py, i16>),
    I32(PyReadonlyArrayDyn<'py, i32>),
    I64(PyReadonlyArrayDyn<'py, i64>),
    U8(PyReadonlyArrayDyn<'py, u8>),
    U16(PyReadonlyArrayDyn<'py, u16>),
    U32(PyReadonlyArrayDyn<'py, u32>),
    U64(PyReadonlyArrayDyn<'py, u64>),
}

impl<'py> Labels<'py> {
    /// Takes any integer type.
    pub fn new(array: &Bound<'py, PyAny>) -> PyResult<Self> {
        macro_rules! try_each {
            ($($variant:ident),*) => {
                $(if let Ok(array) = array.cast() {
                    return Ok(Self::$variant(borrow(array)?));
                })*
            };
        }
        try_each!(I8, I16, I32, I64, U8, U16, U32, U64);
        Err(PyTypeError::new_err("y must be an integer array in native byte order"))
    }

    /// The labels that go with `maps`.
    pub fn maps<R: Real>(&self, ignored: &Ignored, maps: &ScoreMaps<'_, R>) -> Result<LabelMaps<'_>> {
        with_labels!(self, |view| LabelMaps::new(view, ignored.clone(), maps.label_space()))
    }

    /// The labels 0 and 1 that go with `maps` of one class.
    pub fn binary<R: Real>(&self, ignored: &Ignored, maps: &ScoreMaps<'_, R>) -> Result<BinaryLabels<'_>> {
        let space = LabelSpace { n_classes: 2, ..maps.label_space() };
        with_labels!(self, |view| LabelMaps::new(view, ignored.clone(), space))
    }
}

/// Borrows an array for reading. An array with misaligned elements is refused: NumPy allows it, Rust does not.
pub fn borrow<'py, T: Element>(array: &Bound<'py, PyArrayDyn<T>>) -> PyResult<PyReadonlyArrayDyn<'py, T>> {
    let aligned = array.data().is_aligned()
        && array.strides().iter().all(|stride| stride % size_of::<T>() as isize == 0);
    if !aligned {
        return Err(PyValueError::new_err(
            "the array is not aligned; copy it: np.require(X, requirements='A')",
        ));
    }
    Ok(array.readonly())
}

/// The whole of a C-contiguous output as `(n, K, pixels)`.
pub fn masks_mut<'a, T: Element>(out: &'a mut PyReadwriteArrayDyn<'_, T>) -> PyResult<ArrayViewMut3<'a, T>> {
    let shape = out.shape().to_vec();
    let pixels = shape[2..].iter().product();
    let view = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
    Ok(ArrayViewMut3::from_shape((shape[0], shape[1], pixels), view).expect("as many elements"))
}

/// The whole of a C-contiguous output as `(n, pixels)`.
pub fn pixels_mut<'a, T: Element>(out: &'a mut PyReadwriteArrayDyn<'_, T>) -> PyResult<ArrayViewMut2<'a, T>> {
    let shape = out.shape().to_vec();
    let pixels = shape[1..].iter().product();
    let view = out.as_slice_mut().map_err(|_| PyValueError::new_err("out must be C-contiguous"))?;
    Ok(ArrayViewMut2::from_shape((shape[0], pixels), view).expect("as many elements"))
}

/// Numbers of n images, between 0 and the most.
pub fn checked(numbers: &PyReadonlyArray1<'_, f64>, n: usize, name: &str, most: f64) -> PyResult<Vec<f64>> {
    let numbers = numbers.as_array().to_vec();
    if numbers.len() != n {
        return Err(PyValueError::new_err(format!("{} {name} for {n} images", numbers.len())));
    }
    match numbers.iter().position(|number| !(0.0..=most).contains(number)) {
        Some(i) => Err(PyValueError::new_err(format!("{name}[{i}] is {}, outside [0, {most}]", numbers[i]))),
        None => Ok(numbers),
    }
}

/// Fails unless the chosen axes of X have the lengths of `out`.
pub fn check_shape(scores: &Scores<'_>, axes: impl Fn(usize) -> bool, out: &[usize]) -> PyResult<()> {
    let expected: Vec<usize> =
        scores.shape().iter().enumerate().filter(|(axis, _)| axes(*axis)).map(|(_, &len)| len).collect();
    check_out(&expected, out)
}

/// Fails unless `out` has the shape that is expected.
pub fn check_out(expected: &[usize], out: &[usize]) -> PyResult<()> {
    if expected == out {
        return Ok(());
    }
    Err(PyValueError::new_err(format!("out must have shape {}, got {}", Axes(expected), Axes(out))))
}
