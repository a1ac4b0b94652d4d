//! The counts by which calibration is measured.

use numpy::ndarray::{Array2, Array3, Array4};
use numpy::{PyArray2, PyArray3, PyArray4};
use pyo3::prelude::*;

use super::arrays::{Labels, Scores, with_maps};
use super::run::run;
use super::scale::maps_of;
use crate::maps::Ignored;
use crate::memory;
use crate::metric::bins::Sums;
use crate::metric::calibration::{self, Image, Pooled, Settings};

/// For each image: bins `(n, 3, n_bins, 4)`, sums `(n, 3, 2)` and pixels of classes `(n, 3, K)`. For all: ranks `(4096, 4)`,
/// confusion `(K, K)`, bins of classes `(K, n_bins, 4)`.
type Counts<'py> = (
    Bound<'py, PyArray4<u64>>,
    Bound<'py, PyArray3<u64>>,
    Bound<'py, PyArray3<u64>>,
    Bound<'py, PyArray2<u64>>,
    Bound<'py, PyArray2<u64>>,
    Bound<'py, PyArray3<u64>>,
);

const WHAT: &str = "the counts of calibration";

const FITS: &str = "as many numbers as the shape says";

/// Counts what calibration is measured by: see `calibration::count`. Sums come in two halves of 32 bits and more, so that
/// they may be added.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // what to count is six of them
pub fn calibration_counts<'py>(
    x: &Bound<'py, PyAny>,
    y: &Bound<'py, PyAny>,
    inputs: &Bound<'py, PyAny>,
    ignore_index: Ignored,
    n_bins: usize,
    radius: Option<usize>,
    of_prediction: bool,
    objects: Option<Vec<bool>>,
    threshold: Option<f64>,
    scores: bool,
    first_image: usize,
) -> PyResult<Counts<'py>> {
    let py = x.py();
    let (given, labels) = (Scores::new(x)?, Labels::new(y)?);
    let settings = Settings { n_bins, radius, of_prediction, objects, threshold, scores };
    let (images, pooled) = with_maps!(maps_of(&given, inputs, first_image)?, |maps| {
        let labels = labels.maps(&ignore_index, maps)?;
        run(py, |cancel| calibration::count(maps, &labels, &settings, cancel))?
    });
    let (n, n_classes) = (images.len(), images[0].totals.len());
    let bins = numbers(images.iter().flat_map(|image| &image.bins).flat_map(of_sums), n * 3 * n_bins * 4)?;
    let sums = numbers(images.iter().flat_map(|image| image.sums).flat_map(halves), n * 3 * 2)?;
    let classes = |image: &Image| [image.totals.clone(), image.predicted.clone(), image.hits.clone()];
    let classes = numbers(images.iter().flat_map(classes).flatten(), n * 3 * n_classes)?;
    let Pooled { ranks, confusion, classes: class_bins } = pooled;
    let n_class_bins = class_bins.len() / n_bins;
    let class_bins = numbers(class_bins.iter().flat_map(of_sums), class_bins.len() * 4)?;
    let n_ranks = ranks.len();
    let ranks = numbers(ranks.iter().flat_map(of_sums), n_ranks * 4)?;
    Ok((
        PyArray4::from_owned_array(py, Array4::from_shape_vec((n, 3, n_bins, 4), bins).expect(FITS)),
        PyArray3::from_owned_array(py, Array3::from_shape_vec((n, 3, 2), sums).expect(FITS)),
        PyArray3::from_owned_array(py, Array3::from_shape_vec((n, 3, n_classes), classes).expect(FITS)),
        PyArray2::from_owned_array(py, Array2::from_shape_vec((n_ranks, 4), ranks).expect(FITS)),
        PyArray2::from_owned_array(
            py,
            Array2::from_shape_vec((n_classes, n_classes), confusion).expect(FITS),
        ),
        PyArray3::from_owned_array(
            py,
            Array3::from_shape_vec((n_class_bins, n_bins, 4), class_bins).expect(FITS),
        ),
    ))
}

fn numbers(all: impl Iterator<Item = u64>, len: usize) -> PyResult<Vec<u64>> {
    let mut numbers = memory::with_room(len, WHAT)?;
    numbers.extend(all);
    Ok(numbers)
}

fn of_sums(sums: &Sums) -> [u64; 4] {
    let [high, low] = halves(sums.sum);
    [sums.n, sums.right, high, low]
}

fn halves(sum: u128) -> [u64; 2] {
    [(sum >> 32) as u64, (sum & u128::from(u32::MAX)) as u64]
}
