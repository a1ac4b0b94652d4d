//! The exact profile as a Python object.

use std::sync::Arc;

use num_rational::BigRational;
use num_traits::{One, Signed};
use numpy::ndarray::{Array2, Array3, ArrayView2};
use numpy::{
    PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::arrays::{Labels, Scores, checked, with_maps};
use super::objects::{Loss, Score};
use super::run::{run, run_if_long};
use super::scale::maps_of;
use crate::error::Error;
use crate::maps::Ignored;
use crate::memory;
use crate::num::real::Stored;
use crate::profile::{self, Flat};
use crate::risk;

/// The critical values of the labelled pixels of many images.
#[pyclass(frozen, module = "conformask._core")]
pub struct ExactProfile(pub profile::ExactProfile);

#[pymethods]
impl ExactProfile {
    /// Profiles images in one pass; classes are counted at the lambdas of a grid, which must ascend.
    #[staticmethod]
    #[pyo3(signature = (x, y, score, inputs, ignore_index, with_activations, first_image, grid=None))]
    #[expect(clippy::too_many_arguments, reason = "Python names them")]
    fn build<'py>(
        x: &Bound<'py, PyAny>,
        y: &Bound<'py, PyAny>,
        score: &Bound<'py, Score>,
        inputs: &Bound<'py, PyAny>,
        ignore_index: Ignored,
        with_activations: bool,
        first_image: usize,
        grid: Option<PyReadonlyArray1<'py, f64>>,
    ) -> PyResult<Self> {
        let (scores, labels) = (Scores::new(x)?, Labels::new(y)?);
        let grid: Option<Arc<[f64]>> = grid.map(|grid| grid.as_array().iter().copied().collect());
        with_maps!(maps_of(&scores, inputs, first_image)?, |maps| {
            let labels = labels.maps(&ignore_index, maps)?;
            let score = score.get().0.build(maps.n_classes());
            run(x.py(), |cancel| {
                profile::build(maps, &labels, &*score, with_activations, grid.as_ref(), cancel)
            })
            .map(Self)
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
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let n_elements = self.0.images().len() * self.0.n_classes();
        let totals = run_if_long(py, n_elements, |cancel| self.0.totals(cancel))?;
        Ok(PyArray2::from_owned_array(py, totals))
    }

    /// Labelled pixels of each class, `(K,)`, and those of them that no set holds at lambda = 0; and the number of images with
    /// labelled pixels.
    fn start<'py>(&self, py: Python<'py>) -> Start<'py> {
        let [totals, missed] = self.0.start();
        let n_images = self.0.images().iter().filter(|image| image.n_valid() > 0).count();
        (PyArray1::from_vec(py, totals), PyArray1::from_vec(py, missed), n_images)
    }

    /// The hash of each image, `(n,)`: the same for images that are the same, 0 for those that hold too little to tell.
    fn hashes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(PyArray1::from_vec(py, self.0.hashes()?))
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

    /// The pixels of all images as those of one.
    fn joined(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self(run(py, |cancel| self.0.joined(cancel))?))
    }

    /// The images at the given places.
    fn take(&self, indices: Vec<usize>) -> PyResult<Self> {
        let n = self.0.images().len();
        match indices.iter().find(|&&index| index >= n) {
            Some(index) => Err(PyIndexError::new_err(format!("image {index} of {n}"))),
            None => Ok(Self(self.0.take(&indices))),
        }
    }

    /// Profiles of the same images, each of the pixels of some classes alone: `parts` holds their indices.
    fn parted(&self, py: Python<'_>, parts: Vec<Vec<usize>>) -> PyResult<Vec<Self>> {
        let mut part_of = vec![None; self.0.n_classes()];
        for (part, classes) in parts.iter().enumerate() {
            for &class in classes {
                match part_of.get_mut(class) {
                    Some(of @ None) => *of = Some(part),
                    _ => return Err(PyValueError::new_err(format!("class {class} is in no or two parts"))),
                }
            }
        }
        let found = run(py, |cancel| self.0.parted(&part_of, parts.len(), cancel))?;
        Ok(found.into_iter().map(Self).collect())
    }

    /// The losses `(n, L)` at L lambdas, which must not descend; NaN where undefined.
    fn losses<'py>(
        &self,
        py: Python<'py>,
        loss: &Bound<'py, Loss>,
        lambdas: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let (lambdas, loss) = (lambdas.as_array(), &loss.get().0);
        loss.check_classes(self.0.n_classes())?;
        let losses =
            run(py, |cancel| self.0.losses(loss, &memory::copied(&lambdas, LAMBDAS, cancel)?, cancel))?;
        Ok(PyArray2::from_owned_array(py, losses))
    }

    /// The number of missed pixels `(n, L)` at L lambdas, which must not descend.
    fn missed<'py>(
        &self,
        py: Python<'py>,
        lambdas: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let lambdas = lambdas.as_array();
        let missed = run(py, |cancel| self.0.missed_at(&memory::copied(&lambdas, LAMBDAS, cancel)?, cancel))?;
        Ok(PyArray2::from_owned_array(py, missed))
    }

    /// The number of missed pixels of each class `(n, K, L)` at L lambdas, which must not descend.
    fn missed_of_classes<'py>(
        &self,
        py: Python<'py>,
        lambdas: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray3<u64>>> {
        let lambdas = lambdas.as_array();
        let missed =
            run(py, |cancel| self.0.missed_of_classes(&memory::copied(&lambdas, LAMBDAS, cancel)?, cancel))?;
        Ok(PyArray3::from_owned_array(py, missed))
    }

    /// The lambdas at which classes were counted, `(L,)`, ascending; `None` if they were not.
    fn grid<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f64>>> {
        self.0.grid().map(|grid| PyArray1::from_slice(py, grid))
    }

    /// The labelled pixels whose set holds each class at these lambdas, `(n, K, L)`; `None` if they were not counted.
    fn held<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray3<u64>>>> {
        let held = run(py, |cancel| self.0.held(cancel))?;
        Ok(held.map(|held| PyArray3::from_owned_array(py, held)))
    }

    /// The smallest lambda at which `sum(share * loss)` is at most the budget; `None` if it is negative.
    #[pyo3(signature = (loss, budget, shares=None))]
    fn lambda_hat(
        &self,
        py: Python<'_>,
        loss: &Bound<'_, Loss>,
        budget: BigRational,
        shares: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<f64>> {
        let loss = &loss.get().0;
        loss.check_classes(self.0.n_classes())?;
        let shares = shares.map(|shares| shares_of(&shares, self.0.images().len())).transpose()?;
        run(py, |cancel| risk::lambda_hat(&self.0, loss, shares.as_deref(), &budget, cancel))
    }

    /// The smallest t, added to the lambdas `offsets` of images (n,), at which `sum(share * loss)` is at most the budget; `None`
    /// if it is negative.
    #[pyo3(signature = (loss, budget, offsets, shares=None))]
    fn correction(
        &self,
        py: Python<'_>,
        loss: &Bound<'_, Loss>,
        budget: BigRational,
        offsets: PyReadonlyArray1<'_, f64>,
        shares: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<f64>> {
        let (loss, n) = (&loss.get().0, self.0.images().len());
        loss.check_classes(self.0.n_classes())?;
        let shares = shares.map(|shares| shares_of(&shares, n)).transpose()?;
        let offsets = checked(&offsets, n, "offsets", self.0.coding().lambda_max())?;
        run(py, |cancel| risk::correction(&self.0, loss, &offsets, shares.as_deref(), &budget, cancel))
    }

    /// `sum(share * loss) / total` at L lambdas, which must not descend, `(L,)`, correctly rounded.
    #[pyo3(signature = (loss, lambdas, shares=None, total=None))]
    fn loss_sums<'py>(
        &self,
        py: Python<'py>,
        loss: &Bound<'py, Loss>,
        lambdas: PyReadonlyArray1<'py, f64>,
        shares: Option<Bound<'py, PyAny>>,
        total: Option<BigRational>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let (lambdas, loss) = (lambdas.as_array(), &loss.get().0);
        loss.check_classes(self.0.n_classes())?;
        let shares = shares.map(|shares| shares_of(&shares, self.0.images().len())).transpose()?;
        let total = total.unwrap_or_else(BigRational::one);
        if !total.is_positive() {
            return Err(PyValueError::new_err(format!("total must be above 0, got {total}")));
        }
        let sums = run(py, |cancel| {
            let lambdas = memory::copied(&lambdas, LAMBDAS, cancel)?;
            risk::curve::loss_sums(&self.0, loss, &lambdas, shares.as_deref(), &total, cancel)
        })?;
        Ok(PyArray1::from_vec(py, sums))
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
        let jumps = run(py, |cancel| risk::budget::jumps(&self.0, loss, limit, cancel))?;
        Ok(PyArray1::from_vec(py, jumps))
    }

    /// Bounds, from below and above, of the mean set size of each image at `lam`, both `(n,)`; `None` if not counted.
    fn activation<'py>(&self, py: Python<'py>, lam: f64) -> PyResult<Option<Bracket<'py>>> {
        let Some(found) = run(py, |cancel| self.0.activation(lam, cancel))? else { return Ok(None) };
        let ends = |end: fn(&(f64, f64)) -> f64| memory::collected(found.iter().map(end), "set sizes");
        let (lower, upper) = (ends(|bracket| bracket.0)?, ends(|bracket| bracket.1)?);
        Ok(Some((PyArray1::from_vec(py, lower), PyArray1::from_vec(py, upper))))
    }

    /// `(totals (n, K), lengths (n,), stored values, labels, activations, grid (L,), held (n, K, L))`, the last three `None` if
    /// not counted: all of the profile, as arrays.
    fn to_arrays<'py>(&self, py: Python<'py>) -> PyResult<Arrays<'py>> {
        let flat =
            run_if_long(py, self.0.images().len() + self.0.n_values(), |cancel| self.0.to_flat(cancel))?;
        let values = match flat.values {
            Stored::Single(values) => PyArray1::from_vec(py, values.into_vec()).into_any(),
            Stored::Double(values) => PyArray1::from_vec(py, values.into_vec()).into_any(),
        };
        Ok((
            PyArray2::from_owned_array(py, flat.totals),
            PyArray1::from_vec(py, flat.lengths),
            values,
            PyArray1::from_vec(py, flat.labels),
            flat.activations.map(|counts| PyArray2::from_owned_array(py, counts)),
            flat.grid.map(|grid| PyArray1::from_vec(py, grid)),
            flat.held.map(|counts| PyArray3::from_owned_array(py, counts)),
        ))
    }

    /// The inverse of `to_arrays`, for the score that made the profile.
    #[staticmethod]
    #[pyo3(signature = (score, totals, lengths, values, labels, activations=None, grid=None, held=None))]
    #[expect(clippy::too_many_arguments, reason = "one for each array")]
    fn from_arrays<'py>(
        score: &Bound<'py, Score>,
        totals: PyReadonlyArray2<'py, u64>,
        lengths: PyReadonlyArray1<'py, u64>,
        values: &Bound<'py, PyAny>,
        labels: PyReadonlyArray1<'py, u16>,
        activations: Option<PyReadonlyArray2<'py, u64>>,
        grid: Option<PyReadonlyArray1<'py, f64>>,
        held: Option<PyReadonlyArray3<'py, u64>>,
    ) -> PyResult<Self> {
        let (singles, doubles): (Option<PyReadonlyArray1<'py, f32>>, Option<PyReadonlyArray1<'py, f64>>) =
            match values.cast::<PyArray1<f32>>() {
                Ok(values) => (Some(values.readonly()), None),
                Err(_) => (None, Some(values.extract()?)),
            };
        let (singles, doubles) =
            (singles.as_ref().map(|a| a.as_array()), doubles.as_ref().map(|a| a.as_array()));
        let (totals, lengths, labels) = (totals.as_array(), lengths.as_array(), labels.as_array());
        let activations = activations.as_ref().map(|counts| counts.as_array());
        let grid = grid.as_ref().map(|grid| grid.as_array());
        let held = held.as_ref().map(|counts| counts.as_array());
        let coding = score.get().0.coding(totals.ncols());
        run(score.py(), |cancel| {
            const WHAT: &str = "a profile";
            let table = |cells: &ArrayView2<'_, u64>| {
                let mut found = memory::with_room(cells.len(), WHAT)?;
                for row in cells.rows() {
                    cancel.check()?;
                    found.extend(row);
                }
                Ok(Array2::from_shape_vec(cells.dim(), found).expect("as many"))
            };
            let flat = Flat {
                totals: table(&totals)?,
                lengths: memory::copied(&lengths, WHAT, cancel)?,
                values: match (singles, doubles) {
                    (Some(values), _) => Stored::Single(memory::copied(&values, WHAT, cancel)?.into()),
                    (_, Some(values)) => Stored::Double(memory::copied(&values, WHAT, cancel)?.into()),
                    _ => unreachable!("one of them is there"),
                },
                labels: memory::copied(&labels, WHAT, cancel)?,
                activations: activations.as_ref().map(table).transpose()?,
                grid: grid.as_ref().map(|grid| memory::copied(grid, WHAT, cancel)).transpose()?,
                held: held
                    .as_ref()
                    .map(|counts| {
                        let cells = memory::collected(counts.iter().copied(), WHAT)?;
                        Ok::<_, Error>(Array3::from_shape_vec(counts.dim(), cells).expect("as many"))
                    })
                    .transpose()?,
            };
            Ok(Self(profile::ExactProfile::from_flat(coding, flat, cancel)?))
        })
    }
}

/// Fractions, one for each of n images.
pub fn shares_of(shares: &Bound<'_, PyAny>, n: usize) -> PyResult<Vec<BigRational>> {
    let mut found = memory::with_room(n, "the shares of images")?;
    for share in shares.try_iter()? {
        if found.len() % SHARES == 0 {
            shares.py().check_signals()?;
        }
        memory::push(&mut found, share?.extract()?, "the shares of images")?;
    }
    if found.len() != n {
        return Err(PyValueError::new_err(format!("{} shares for {n} images", found.len())));
    }
    Ok(found)
}

/// Shares between two checks for signals.
const SHARES: usize = 1 << 10;

/// What errors call lambdas.
const LAMBDAS: &str = "lambdas";

/// The lambdas `(n,)` of images whose offsets t corrects, each the largest whose critical values are in.
#[pyfunction]
pub fn corrected_lambdas<'py>(
    py: Python<'py>,
    offsets: PyReadonlyArray1<'py, f64>,
    t: f64,
    largest: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let offsets = checked(&offsets, offsets.as_array().len(), "offsets", largest)?;
    Ok(PyArray1::from_vec(py, risk::corrected(&offsets, t, largest)))
}

/// Images that came before, by their hashes: pairs of the first of them and its repeat.
#[pyfunction]
pub fn repeats_within(hashes: PyReadonlyArray1<'_, u64>) -> PyResult<Vec<(usize, usize)>> {
    let (py, hashes) = (hashes.py(), hashes.as_array());
    run_if_long(py, hashes.len(), |cancel| profile::repeats_within(&hashes, cancel))
}

/// Images that are among others, by their hashes: pairs of the first of these and its repeat.
#[pyfunction]
pub fn repeats_between(
    others: PyReadonlyArray1<'_, u64>,
    later: PyReadonlyArray1<'_, u64>,
) -> PyResult<Vec<(usize, usize)>> {
    let (py, others, later) = (others.py(), others.as_array(), later.as_array());
    let n_elements = others.len() + later.len();
    run_if_long(py, n_elements, |cancel| profile::repeats_between(&others, &later, cancel))
}

type Start<'py> = (Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u64>>, usize);

type Bracket<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<f64>>);

type Arrays<'py> = (
    Bound<'py, PyArray2<u64>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyAny>,
    Bound<'py, PyArray1<u16>>,
    Option<Bound<'py, PyArray2<u64>>>,
    Option<Bound<'py, PyArray1<f64>>>,
    Option<Bound<'py, PyArray3<u64>>>,
);
