//! Scores and losses as Python hands them over.

use num_rational::BigRational;
use num_traits::Signed;
use numpy::{PyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::loss::{self, Weighting};
use crate::score;

/// The LAC score.
#[pyclass(frozen, module = "conformask._core")]
pub struct Lac(pub score::Lac);

#[pymethods]
impl Lac {
    #[new]
    fn new(include_top1: bool) -> Self {
        Self(score::Lac { include_top1 })
    }
}

/// A loss over K classes: a miss rate, pooled over the pixels of chosen classes or a weighted mean over classes; with a
/// tolerance, whether the rate exceeds it.
#[pyclass(frozen, module = "conformask._core")]
pub struct Loss(pub loss::Loss);

#[pymethods]
impl Loss {
    /// The pixels of the classes whose flag is set, all alike.
    #[staticmethod]
    #[pyo3(signature = (classes, tolerance=None))]
    fn pooled(classes: Vec<bool>, tolerance: Option<BigRational>) -> Self {
        Self(loss::Loss::new(Weighting::Pooled(classes), tolerance))
    }

    /// A weighted mean over the classes that an image has.
    #[staticmethod]
    #[pyo3(signature = (class_weights, tolerance=None))]
    fn per_class(class_weights: Vec<BigRational>, tolerance: Option<BigRational>) -> PyResult<Self> {
        if class_weights.iter().any(Signed::is_negative) {
            return Err(PyValueError::new_err("class_weights must not be negative"));
        }
        Ok(Self(loss::Loss::new(Weighting::PerClass(class_weights), tolerance)))
    }

    /// The losses of images `(n,)` from their missed and labelled pixels of each class, both `(n, K)`; NaN where undefined.
    fn values<'py>(
        &self,
        missed: PyReadonlyArray2<'py, u64>,
        totals: PyReadonlyArray2<'py, u64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let py = missed.py();
        let (missed, totals) = (missed.as_array(), totals.as_array());
        self.0.check_classes(totals.ncols())?;
        let values = missed
            .outer_iter()
            .zip(totals.outer_iter())
            .map(|(missed, totals)| self.0.value(&missed.to_vec(), &totals.to_vec()).unwrap_or(f64::NAN));
        Ok(PyArray1::from_iter(py, values))
    }
}
