//! The exact profile as a Python object.

use num_rational::BigRational;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::arrays::{Labels, Scores, inputs_of, with_maps};
use super::objects::{Loss, Score};
use super::run::run;
use crate::num::real::Stored;
use crate::profile::{self, Flat};
use crate::risk;

/// The critical values of the labelled pixels of many images.
#[pyclass(frozen, module = "conformask._core")]
pub struct ExactProfile(pub profile::ExactProfile);

#[pymethods]
impl ExactProfile {
    /// Profiles images in one pass.
    #[staticmethod]
    fn build<'py>(
        x: &Bound<'py, PyAny>,
        y: &Bound<'py, PyAny>,
        score: &Bound<'py, Score>,
        inputs: &str,
        ignore_index: Option<i64>,
        with_activations: bool,
        first_image: usize,
    ) -> PyResult<Self> {
        let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
        with_maps!(scores.maps(inputs_of(inputs)?, first_image)?, |maps| {
            let labels = labels.maps(ignore_index, maps)?;
            let score = score.get().0.build(maps.n_classes());
            run(x.py(), |cancel| profile::build(maps, &labels, &*score, with_activations, cancel)).map(Self)
        })
    }

    fn __len__(&self) -> usize {
        self.0.images().len()
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }

    /// Number of stored critical values.
    #[getter]
    fn n_values(&self) -> usize {
        self.0.n_values()
    }

    /// Labelled pixels of each class, `(n, K)`.
    fn totals<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray2<u64>> {
        PyArray2::from_owned_array(py, self.0.totals())
    }

    /// The hash of each image, `(n,)`: the same for images that are the same, 0 for those that hold too little to tell.
    fn hashes<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        PyArray1::from_vec(py, self.0.hashes())
    }

    /// The images of all profiles, in order.
    #[staticmethod]
    fn concatenate(profiles: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let profiles: Vec<_> = profiles.iter().map(|profile| &profile.get().0).collect();
        let Some((first, rest)) = profiles.split_first() else {
            return Err(PyValueError::new_err("nothing to concatenate"));
        };
        Ok(Self(profile::ExactProfile::concatenate(first, rest)?))
    }

    /// The images at the given places.
    fn take(&self, indices: Vec<usize>) -> PyResult<Self> {
        let n = self.0.images().len();
        match indices.iter().find(|&&index| index >= n) {
            Some(index) => Err(PyIndexError::new_err(format!("image {index} of {n}"))),
            None => Ok(Self(self.0.take(&indices))),
        }
    }

    /// The losses `(n, L)` at L lambdas, which must not descend; NaN where undefined.
    fn losses<'py>(
        &self,
        py: Python<'py>,
        loss: &Bound<'py, Loss>,
        lambdas: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (lambdas, loss) = (lambdas.as_array().to_vec(), &loss.get().0);
        loss.check_classes(self.0.n_classes())?;
        let losses = run(py, |_| Ok(self.0.losses(loss, &lambdas)))?;
        Ok(PyArray2::from_owned_array(py, losses))
    }

    /// The number of missed pixels `(n, L)` at L lambdas, which must not descend.
    fn missed<'py>(
        &self,
        py: Python<'py>,
        lambdas: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let lambdas = lambdas.as_array().to_vec();
        let missed = run(py, |_| Ok(self.0.missed_at(&lambdas)))?;
        Ok(PyArray2::from_owned_array(py, missed))
    }

    /// The smallest lambda at which `sum(share * loss)` is at most the budget; `None` if it is negative.
    #[pyo3(signature = (loss, budget, shares=None))]
    fn lambda_hat(
        &self,
        py: Python<'_>,
        loss: &Bound<'_, Loss>,
        budget: BigRational,
        shares: Option<Vec<BigRational>>,
    ) -> PyResult<Option<f64>> {
        let loss = &loss.get().0;
        loss.check_classes(self.0.n_classes())?;
        let n = self.0.images().len();
        let shares = shares.unwrap_or_else(|| vec![BigRational::from_integer(1.into()); n]);
        if shares.len() != n {
            return Err(PyValueError::new_err(format!("{} shares for {n} images", shares.len())));
        }
        run(py, |_| Ok(risk::lambda_hat(&self.0, loss, &shares, &budget)))
    }

    /// At most `limit` of the lambdas at which the risk jumps, unsorted, spread evenly over the pixels or images.
    fn jumps<'py>(
        &self,
        py: Python<'py>,
        loss: &Bound<'py, Loss>,
        limit: usize,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let loss = &loss.get().0;
        loss.check_classes(self.0.n_classes())?;
        let jumps = run(py, |_| Ok(risk::budget::jumps(&self.0, loss, limit)))?;
        Ok(PyArray1::from_vec(py, jumps))
    }

    /// At least and at most so many labels are in the mean set of each image at `lam`, both `(n,)`; `None` if not counted.
    fn activation<'py>(&self, py: Python<'py>, lam: f64) -> Option<Bracket<'py>> {
        let (lower, upper): (Vec<f64>, Vec<f64>) = self.0.activation(lam)?.into_iter().unzip();
        Some((PyArray1::from_vec(py, lower), PyArray1::from_vec(py, upper)))
    }

    /// `(totals (n, K), lengths (n,), stored values, labels, activations or None)`: all of the profile, as arrays.
    fn to_arrays<'py>(&self, py: Python<'py>) -> Arrays<'py> {
        let flat = self.0.to_flat();
        let values = match flat.values {
            Stored::Single(values) => PyArray1::from_vec(py, values.into_vec()).into_any(),
            Stored::Double(values) => PyArray1::from_vec(py, values.into_vec()).into_any(),
        };
        (
            PyArray2::from_owned_array(py, flat.totals),
            PyArray1::from_vec(py, flat.lengths),
            values,
            PyArray1::from_vec(py, flat.labels),
            flat.activations.map(|counts| PyArray2::from_owned_array(py, counts)),
        )
    }

    /// The inverse of `to_arrays`, for the score that made the profile.
    #[staticmethod]
    #[pyo3(signature = (score, totals, lengths, values, labels, activations=None))]
    fn from_arrays<'py>(
        score: &Bound<'py, Score>,
        totals: PyReadonlyArray2<'py, u64>,
        lengths: PyReadonlyArray1<'py, u64>,
        values: &Bound<'py, PyAny>,
        labels: PyReadonlyArray1<'py, u16>,
        activations: Option<PyReadonlyArray2<'py, u64>>,
    ) -> PyResult<Self> {
        let values = if let Ok(values) = values.cast::<PyArray1<f32>>() {
            Stored::Single(values.readonly().as_array().iter().copied().collect())
        } else {
            let values: PyReadonlyArray1<'py, f64> = values.extract()?;
            Stored::Double(values.as_array().iter().copied().collect())
        };
        let coding = score.get().0.coding(totals.as_array().ncols());
        let flat = Flat {
            totals: totals.as_array().to_owned(),
            lengths: lengths.as_array().to_vec(),
            values,
            labels: labels.as_array().to_vec(),
            activations: activations.map(|counts| counts.as_array().to_owned()),
        };
        Ok(Self(profile::ExactProfile::from_flat(coding, flat)?))
    }
}

/// Images that came before, by their hashes: pairs of the first of them and its repeat.
#[pyfunction]
pub fn repeats_within(hashes: PyReadonlyArray1<'_, u64>) -> Vec<(usize, usize)> {
    profile::repeats_within(&hashes.as_array().to_vec())
}

/// Images that are among others, by their hashes: pairs of the first of these and its repeat.
#[pyfunction]
pub fn repeats_between(
    others: PyReadonlyArray1<'_, u64>,
    later: PyReadonlyArray1<'_, u64>,
) -> Vec<(usize, usize)> {
    profile::repeats_between(&others.as_array().to_vec(), &later.as_array().to_vec())
}

type Bracket<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

type Arrays<'py> = (
    Bound<'py, PyArray2<u64>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyAny>,
    Bound<'py, PyArray1<u16>>,
    Option<Bound<'py, PyArray2<u64>>>,
);
