//! The binned profile as a Python object.

use num_rational::BigRational;
use numpy::ndarray::Array2;
use numpy::{PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::objects::{Loss, Score};
use super::profile::ExactProfile;
use super::run::run;
use crate::memory;
use crate::risk::binned::{self, Collected, Part};

/// What errors call numbers for each image.
const STEPS: &str = "what is kept of each image";

/// Sums of the losses of many images, bin by bin.
#[pyclass(module = "conformask._core")]
pub struct BinnedProfile(binned::BinnedProfile);

#[pymethods]
impl BinnedProfile {
    #[new]
    fn new(score: &Bound<'_, Score>, n_classes: usize, losses: Vec<Bound<'_, Loss>>) -> PyResult<Self> {
        let losses = losses.iter().map(|loss| loss.get().0.clone()).collect();
        Ok(Self(binned::BinnedProfile::new(score.get().0.coding(n_classes), n_classes, losses)?))
    }

    fn __len__(&self) -> usize {
        self.0.n_images() as usize
    }

    #[getter]
    fn n_classes(&self) -> usize {
        self.0.n_classes()
    }

    /// Number of images on which a loss is defined.
    fn n_defined(&self, part: usize) -> u64 {
        self.0.parts()[part].n_defined
    }

    /// Adds images that were profiled exactly.
    fn add(&mut self, py: Python<'_>, profile: &Bound<'_, ExactProfile>) -> PyResult<()> {
        let exact = &profile.get().0;
        run(py, |cancel| self.0.add(exact, cancel))
    }

    /// The images of all profiles, in order.
    #[staticmethod]
    fn concatenate(profiles: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let Some((first, rest)) = profiles.split_first() else {
            return Err(PyValueError::new_err("nothing to concatenate"));
        };
        // A clone cannot report an error, so its memory is checked before.
        memory::probe::<u64>(first.borrow().0.n_numbers(), "a binned profile")?;
        let mut joined = first.borrow().0.clone();
        rest.iter().try_for_each(|other| joined.merge(&other.borrow().0))?;
        Ok(Self(joined))
    }

    /// The hashes of the images, `(n,)`, as those of an exact profile; fewer where those of some are not known.
    fn hashes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(PyArray1::from_vec(
            py,
            memory::collected(self.0.hashes().iter().copied(), "the hashes of images")?,
        ))
    }

    /// A lambda at which the losses sum to at most the budget; `None` if it is negative.
    fn lambda_hat(&self, py: Python<'_>, part: usize, budget: BigRational) -> PyResult<Option<f64>> {
        run(py, |cancel| self.0.lambda_hat(part, &budget, cancel))
    }

    /// The sum of the losses at lambda, at most.
    fn loss_sum(&self, part: usize, lam: f64) -> f64 {
        self.0.loss_sum(part, lam)
    }

    /// Where the risk may jump.
    fn jumps<'py>(&self, py: Python<'py>, part: usize) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(PyArray1::from_vec(py, self.0.jumps(part)?))
    }

    /// What is kept for a loss: `(n_defined, bins (N, 2) as high and low 64 bits, or steps (n,))`.
    fn part<'py>(&self, py: Python<'py>, part: usize) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let Part { n_defined, collected, .. } = &self.0.parts()[part];
        let array = match collected {
            Collected::Rate(bins) => {
                let halves = bins.iter().flat_map(|&bin| [(bin >> 64) as u64, bin as u64]).collect();
                let halves = Array2::from_shape_vec((bins.len(), 2), halves).expect("two each");
                PyArray2::from_owned_array(py, halves).into_any()
            }
            Collected::Steps(steps) => {
                PyArray1::from_vec(py, memory::collected(steps.iter().copied(), STEPS)?).into_any()
            }
        };
        Ok((*n_defined, array))
    }

    /// The inverse of `part`, for all losses.
    #[staticmethod]
    fn from_parts(
        score: &Bound<'_, Score>,
        n_classes: usize,
        n_images: u64,
        hashes: PyReadonlyArray1<'_, u64>,
        parts: Vec<(Bound<'_, Loss>, u64, Bound<'_, PyAny>)>,
    ) -> PyResult<Self> {
        let mut found = Vec::with_capacity(parts.len());
        for (loss, n_defined, array) in parts {
            let loss = loss.get().0.clone();
            let collected = if loss.tolerance().is_some() {
                let steps: PyReadonlyArray1<'_, f64> = array.extract()?;
                Collected::Steps(memory::collected(steps.as_array().iter().copied(), STEPS)?)
            } else {
                let halves: PyReadonlyArray2<'_, u64> = array.extract()?;
                let halves = halves.as_array();
                if halves.ncols() != 2 {
                    return Err(PyValueError::new_err("bins must have two halves"));
                }
                let join = |row: ndarray::ArrayView1<'_, u64>| u128::from(row[0]) << 64 | u128::from(row[1]);
                Collected::Rate(halves.outer_iter().map(join).collect())
            };
            found.push(Part { loss, n_defined, collected });
        }
        let coding = score.get().0.coding(n_classes);
        let hashes = memory::collected(hashes.as_array().iter().copied(), STEPS)?;
        Ok(Self(binned::BinnedProfile::from_parts(coding, n_classes, n_images, hashes, found)?))
    }
}
