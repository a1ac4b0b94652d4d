//! Scores and losses as Python hands them over.

use num_rational::BigRational;
use num_traits::Signed;
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::loss::{self, Weighting};
use crate::memory;
use crate::score::{self, BaseSpec, Settings, Spec};

/// A conformity score, for any number of classes.
#[pyclass(frozen, module = "conformask._core")]
pub struct Score(pub Spec);

#[pymethods]
impl Score {
    #[staticmethod]
    fn lac(include_top1: bool) -> Self {
        Self(Spec::Pixelwise(BaseSpec::Lac { include_top1 }))
    }

    #[staticmethod]
    #[pyo3(signature = (penalty, k_reg=None))]
    fn raps(penalty: f64, k_reg: Option<usize>) -> PyResult<Self> {
        if !(penalty.is_finite() && penalty >= 0.0) || k_reg == Some(0) {
            return Err(PyValueError::new_err("penalty must be finite and at least 0, k_reg at least 1"));
        }
        Ok(Self(Spec::Pixelwise(BaseSpec::Raps { penalty, k_reg })))
    }

    #[staticmethod]
    fn given(lambda_max: f64) -> PyResult<Self> {
        if !(lambda_max.is_finite() && lambda_max > 0.0) {
            return Err(PyValueError::new_err("lambda_max must be finite and above 0"));
        }
        Ok(Self(Spec::Pixelwise(BaseSpec::Given { max: lambda_max })))
    }

    #[staticmethod]
    fn sacp(
        base: &Bound<'_, Self>,
        weight: f64,
        window: usize,
        include_top1: bool,
        probabilities: bool,
    ) -> PyResult<Self> {
        let Spec::Pixelwise(base) = base.get().0 else {
            return Err(PyValueError::new_err("the base of a SACP score cannot be one itself"));
        };
        if !(0.0..=1.0).contains(&weight) || window.is_multiple_of(2) {
            return Err(PyValueError::new_err("weight must be in [0, 1], window odd"));
        }
        Ok(Self(Spec::Sacp(base, Settings { weight, window, include_top1, probabilities })))
    }

    /// The smallest lambda at which every set is full.
    fn lambda_max(&self, n_classes: usize) -> f64 {
        self.0.coding(n_classes).lambda_max()
    }

    /// What each of K ranks adds to a critical value; `None` for a score that does not rank labels.
    fn rank_penalties(&self, n_classes: usize) -> Option<Vec<f64>> {
        self.0.rank_penalties(n_classes)
    }
}

/// Lambdas that differ from image to image, or from class to class.
#[pyclass(frozen, module = "conformask._core")]
pub struct Lambdas(score::Lambdas);

#[pymethods]
impl Lambdas {
    /// One for each image, `(n,)`.
    #[staticmethod]
    fn per_image(lambdas: PyReadonlyArray1<'_, f64>) -> Self {
        Self(score::Lambdas::PerImage(lambdas.as_array().to_vec()))
    }

    /// One for each class, `(K,)`.
    #[staticmethod]
    fn per_class(lambdas: PyReadonlyArray1<'_, f64>) -> Self {
        Self(score::Lambdas::PerClass(lambdas.as_array().to_vec()))
    }
}

/// The lambdas that a kernel is given: a number, or [`Lambdas`].
pub fn lambdas_of(lam: &Bound<'_, PyAny>) -> PyResult<score::Lambdas> {
    match lam.cast::<Lambdas>() {
        Ok(lambdas) => Ok(lambdas.get().0.clone()),
        Err(_) => Ok(score::Lambdas::One(lam.extract()?)),
    }
}

/// Images between two checks for signals.
const IMAGES: usize = 1 << 10;

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
        let mut values = memory::with_room(totals.nrows(), "the losses of images")?;
        for (missed, totals) in missed.outer_iter().zip(totals.outer_iter()) {
            if values.len() % IMAGES == 0 {
                py.check_signals()?;
            }
            values.push(self.0.value(&missed.to_vec(), &totals.to_vec()).unwrap_or(f64::NAN));
        }
        Ok(PyArray1::from_vec(py, values))
    }
}
