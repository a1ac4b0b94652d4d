//! Thresholds of masks of one class against the rest.

use std::sync::Arc;

use num_rational::BigRational;
use numpy::ndarray::Array2;
use numpy::{
    PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArrayDyn,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;

use super::arrays::{Labels, Scores, check_shape, checked, pixels_mut, with_maps};
use super::profile::shares_of;
use super::run::{run, run_if_long};
use crate::adapt::{self, ImageValues, Side};
use crate::maps::Ignored;
use crate::memory;
use crate::num::real::Stored;

/// Whose pixels are looked at, by name.
fn side_of(name: &str) -> PyResult<Side> {
    match name {
        "foreground" => Ok(Side::Foreground),
        "background" => Ok(Side::Background),
        _ => Err(PyValueError::new_err(format!("unknown side '{name}'"))),
    }
}

/// The probabilities of the foreground's pixels of many images, or of the background's.
#[pyclass(frozen, module = "conformask._core")]
pub struct BinaryValues(adapt::Values);

#[pymethods]
impl BinaryValues {
    /// Reads images in one pass.
    #[staticmethod]
    fn build<'py>(
        p: &Bound<'py, PyAny>,
        y: &Bound<'py, PyAny>,
        side: &str,
        ignore_index: Ignored,
        first_image: usize,
    ) -> PyResult<Self> {
        let (scores, labels, side) = (Scores::new(p)?, Labels::new(y)?, side_of(side)?);
        with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
            let labels = labels.binary(&ignore_index, maps)?;
            run(p.py(), |cancel| adapt::build(maps, &labels, side, cancel)).map(Self)
        })
    }

    fn __len__(&self) -> usize {
        self.0.images.len()
    }

    /// Number of stored probabilities.
    #[getter]
    fn n_values(&self) -> usize {
        self.0.n_values()
    }

    /// Background, foreground and void pixels of each image, `(n, 3)`.
    fn totals<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let mut found = memory::with_room(3 * self.0.images.len(), "the pixels of images")?;
        for image in &self.0.images {
            found.extend([image.totals[0], image.totals[1], image.n_void]);
        }
        let shape = (self.0.images.len(), 3);
        Ok(PyArray2::from_owned_array(py, Array2::from_shape_vec(shape, found).expect("3 each")))
    }

    /// Pixels of the background and of the foreground whose probability is at least 1/2, of each image, `(n, 2)`.
    fn said<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<u64>>> {
        let images = &self.0.images;
        let mut found = memory::with_room(2 * images.len(), "the pixels of images")?;
        for image in images {
            found.extend(image.said);
        }
        let shape = (images.len(), 2);
        Ok(PyArray2::from_owned_array(py, Array2::from_shape_vec(shape, found).expect("2 each")))
    }

    /// The hash of each image, `(n,)`: the same for images that are the same, 0 for those that hold too little to tell.
    fn hashes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let hashes = self.0.images.iter().map(|image| image.hash);
        Ok(PyArray1::from_vec(py, memory::collected(hashes, "the hashes of images")?))
    }

    /// The images of all, in order.
    #[staticmethod]
    fn concatenate(parts: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let Some(first) = parts.first() else {
            return Err(PyValueError::new_err("nothing to concatenate"));
        };
        let side = first.get().0.side;
        if parts.iter().any(|part| part.get().0.side != side) {
            return Err(PyValueError::new_err("values of foreground and background cannot be joined"));
        }
        let n_images = parts.iter().map(|part| part.get().0.images.len()).sum();
        let mut images = memory::with_room(n_images, "the values of images")?;
        for part in &parts {
            images.extend_from_slice(&part.get().0.images);
        }
        Ok(Self(adapt::Values { side, images }))
    }

    /// The images at the given places.
    fn take(&self, indices: Vec<usize>) -> PyResult<Self> {
        let n = self.0.images.len();
        if let Some(index) = indices.iter().find(|&&index| index >= n) {
            return Err(PyIndexError::new_err(format!("image {index} of {n}")));
        }
        let images = indices.into_iter().map(|index| Arc::clone(&self.0.images[index])).collect();
        Ok(Self(adapt::Values { side: self.0.side, images }))
    }

    /// The smallest t in `[-1, 1]` at which `sum(share * loss)` is at most the budget; `None` if it is negative.
    fn correction(
        &self,
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, f64>,
        shares: Bound<'_, PyAny>,
        budget: BigRational,
    ) -> PyResult<Option<f64>> {
        let shares = shares_of(&shares, self.0.images.len())?;
        let offsets = self.offsets(&offsets)?;
        run(py, |cancel| adapt::correction(&self.0, &offsets, &shares, &budget, cancel))
    }

    /// The losses `(n,)` at t; NaN where undefined.
    fn losses<'py>(
        &self,
        py: Python<'py>,
        offsets: PyReadonlyArray1<'py, f64>,
        t: f64,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let offsets = self.offsets(&offsets)?;
        let losses =
            run_if_long(py, self.0.n_values(), |cancel| adapt::losses(&self.0, &offsets, t, cancel))?;
        Ok(PyArray1::from_vec(py, losses))
    }

    /// The share of each image's pixels in bins of equal width over `[0, 1]`, `(n, n_bins)`.
    fn histograms<'py>(&self, py: Python<'py>, n_bins: usize) -> PyResult<Bound<'py, PyArray2<f64>>> {
        if n_bins == 0 {
            return Err(PyValueError::new_err("n_bins must be at least 1"));
        }
        let found = run(py, |cancel| adapt::histograms(&self.0, n_bins, cancel))?;
        Ok(PyArray2::from_owned_array(py, found))
    }

    /// `(totals (n, 3), said (n, 2), lengths (n,), probabilities)`: all of it, as arrays.
    fn to_arrays<'py>(&self, py: Python<'py>) -> PyResult<Arrays<'py>> {
        const WHAT: &str = "the arrays of a profile";
        let images = &self.0.images;
        let lengths = memory::collected(images.iter().map(|image| image.n_values() as u64), WHAT)?;
        let mut values = memory::with_room(self.0.n_values(), WHAT)?;
        let blocks = || images.iter().flat_map(|image| &image.blocks);
        blocks().for_each(|block| values.extend(block.to_doubles()));
        let values = if blocks().all(|block| matches!(block, Stored::Single(_))) {
            let singles = memory::collected(values.iter().map(|&value| value as f32), WHAT)?;
            PyArray1::from_vec(py, singles).into_any()
        } else {
            PyArray1::from_vec(py, values).into_any()
        };
        Ok((self.totals(py)?, self.said(py)?, PyArray1::from_vec(py, lengths), values))
    }

    /// The inverse of `to_arrays`.
    #[staticmethod]
    fn from_arrays<'py>(
        side: &str,
        totals: PyReadonlyArray2<'py, u64>,
        said: PyReadonlyArray2<'py, u64>,
        lengths: PyReadonlyArray1<'py, u64>,
        values: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        const WHAT: &str = "a profile";
        let broken = |what: &str| PyValueError::new_err(format!("not a profile: {what}"));
        let side = side_of(side)?;
        let singles = values.cast::<PyArray1<f32>>().map(PyArrayMethods::readonly);
        let values = if let Ok(singles) = singles {
            Stored::Single(singles.as_array().to_vec().into())
        } else {
            let doubles: PyReadonlyArray1<'_, f64> = values.extract()?;
            Stored::Double(doubles.as_array().to_vec().into())
        };
        let (totals, said, lengths) = (totals.as_array(), said.as_array(), lengths.as_array());
        let n_values = lengths.iter().try_fold(0_u64, |sum, &length| sum.checked_add(length));
        let n_images = lengths.len();
        let is_right = totals.dim() == (n_images, 3) && said.dim() == (n_images, 2);
        if !is_right || n_values != Some(values.len() as u64) {
            return Err(broken("totals, said, lengths and values do not agree"));
        }
        if !values.to_doubles().all(|p| (0.0..=1.0).contains(&p) && !side.is_always_right(p)) {
            return Err(broken("a value is none that is kept"));
        }
        let mut images = memory::with_room(n_images, WHAT)?;
        let mut start = 0;
        for ((row, said), &length) in totals.rows().into_iter().zip(said.rows()).zip(lengths) {
            let end = start + length as usize;
            let blocks = vec![values.slice(start..end, WHAT)?];
            let image = ImageValues::new(side, [row[0], row[1]], row[2], [said[0], said[1]], blocks);
            if length > image.total(side) || image.said.iter().zip(image.totals).any(|(n, total)| *n > total)
            {
                return Err(broken("an image has more values than pixels"));
            }
            images.push(Arc::new(image));
            start = end;
        }
        Ok(Self(adapt::Values { side, images }))
    }
}

impl BinaryValues {
    /// A number for each image, in `[0, 1]`.
    fn offsets(&self, offsets: &PyReadonlyArray1<'_, f64>) -> PyResult<Vec<f64>> {
        checked(offsets, self.0.images.len(), "offsets", 1.0)
    }
}

type Arrays<'py> =
    (Bound<'py, PyArray2<u64>>, Bound<'py, PyArray2<u64>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyAny>);

/// The smallest probability `(n,)` that is in each image's mask, whose threshold is its offset less t.
#[pyfunction]
pub fn binary_cutoffs<'py>(
    py: Python<'py>,
    side: &str,
    offsets: PyReadonlyArray1<'py, f64>,
    t: f64,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let offsets = checked(&offsets, offsets.len(), "offsets", 1.0)?;
    Ok(PyArray1::from_vec(py, adapt::cutoffs(side_of(side)?, &offsets, t)))
}

/// Writes the masks of the pixels at or above the cutoffs (n,) into `out`, uint8 like P.
#[pyfunction]
pub fn binary_masks<'py>(
    p: &Bound<'py, PyAny>,
    cutoffs: PyReadonlyArray1<'py, f64>,
    mut out: PyReadwriteArrayDyn<'py, u8>,
    first_image: usize,
) -> PyResult<()> {
    let scores = Scores::new(p)?;
    check_shape(&scores, |_| true, out.shape())?;
    with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
        let cutoffs = checked(&cutoffs, maps.n_images(), "cutoffs", f64::INFINITY)?;
        let out = pixels_mut(&mut out)?;
        run(p.py(), |cancel| adapt::masks(maps, &cutoffs, out, cancel))
    })
}

/// Of each image `(n, 4)`: background and foreground pixels, and those of them that are in the mask at its cutoff.
#[pyfunction]
pub fn binary_counts<'py>(
    p: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    cutoffs: PyReadonlyArray1<'py, f64>,
    ignore_index: Ignored,
    first_image: usize,
) -> PyResult<Bound<'py, PyArray2<u64>>> {
    let (scores, labels) = (Scores::new(p)?, Labels::new(y)?);
    let found = with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
        let cutoffs = checked(&cutoffs, maps.n_images(), "cutoffs", f64::INFINITY)?;
        let labels = labels.binary(&ignore_index, maps)?;
        run(p.py(), |cancel| adapt::counts(maps, &labels, &cutoffs, cancel))?
    });
    let cells: Vec<u64> = found.iter().flat_map(|counts| [counts.totals, counts.held].concat()).collect();
    let table = Array2::from_shape_vec((found.len(), 4), cells).expect("4 each");
    Ok(PyArray2::from_owned_array(p.py(), table))
}

/// What maps of probabilities look like, `(n, F)`.
#[pyfunction]
pub fn binary_descriptions<'py>(
    p: &Bound<'py, PyAny>,
    first_image: usize,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let scores = Scores::new(p)?;
    let found = with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
        run(p.py(), |cancel| adapt::describe(maps, cancel))?
    });
    Ok(PyArray2::from_owned_array(p.py(), found))
}

/// Of each image the true positive rate at a threshold, which a sigmoid of a temperature makes smooth, and its derivative by the
/// threshold, `(n, 2)`.
#[pyfunction]
pub fn smooth_rates<'py>(
    py: Python<'py>,
    histograms: PyReadonlyArray2<'py, f64>,
    thresholds: PyReadonlyArray1<'py, f64>,
    temperature: f64,
) -> PyResult<Bound<'py, PyArray2<f64>>> {
    let (histograms, thresholds) = (histograms.as_array(), thresholds.as_array().to_vec());
    if thresholds.len() != histograms.nrows() {
        let (n, m) = (histograms.nrows(), thresholds.len());
        return Err(PyValueError::new_err(format!("{m} thresholds for {n} images")));
    }
    if !(temperature > 0.0) {
        return Err(PyValueError::new_err(format!("temperature must be above 0, got {temperature}")));
    }
    let found = run_if_long(py, histograms.len(), |cancel| {
        adapt::smooth_rates(&histograms, &thresholds, temperature, cancel)
    })?;
    Ok(PyArray2::from_owned_array(py, found))
}

/// Writes the probability of the pixels that are at most as probable as each, as a share of the image's, into `out` like P.
#[pyfunction]
pub fn mass_shares<'py>(
    p: &Bound<'py, PyAny>,
    mut out: PyReadwriteArrayDyn<'py, f64>,
    first_image: usize,
) -> PyResult<()> {
    let scores = Scores::new(p)?;
    check_shape(&scores, |_| true, out.shape())?;
    with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
        let out = pixels_mut(&mut out)?;
        run(p.py(), |cancel| adapt::mass_shares(maps, out, cancel))
    })
}

/// The smallest probability `(n,)` of each image whose share is at or above the cutoff; above 1 if there is none.
#[pyfunction]
pub fn mass_cutoffs<'py>(
    p: &Bound<'py, PyAny>,
    cutoff: f64,
    first_image: usize,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let scores = Scores::new(p)?;
    let found = with_maps!(scores.maps_of_one_class(first_image)?, |maps| {
        run(p.py(), |cancel| adapt::mass_cutoffs(maps, cutoff, cancel))?
    });
    Ok(PyArray1::from_vec(p.py(), found))
}
