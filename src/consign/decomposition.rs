//! Samples of an image as a mean and a few components, and the ranges of their coefficients.
//!
//! The SVD is that of the samples minus their mean. It reads them in blocks, and computes the mean of each block again, so
//! that all samples are never copied.

use std::sync::Arc;

use multiversion::multiversion;
use ndarray::{Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::field::Field;
use crate::error::{Error, Result};
use crate::linalg::{Svd, truncated_svd, truncated_svd_of};
use crate::memory;
use crate::num::real::Element;
use crate::place::Place;
use crate::threads::Cancel;

/// Components whose singular value is at most this share of the largest one are noise.
const RELATIVE_RANK: f64 = 1e-6;
/// Relative differences of at most so many roundings of float64 count as none.
const ROUNDINGS: f64 = 4.0;
/// Entries of a parallel task.
const CHUNK: usize = 1 << 14;
/// Entries that are read together.
const BLOCK: usize = 256;
/// Entries that are centred together. The sizes of blocks, here and in the SVD, are multiples of it.
const RUN: usize = 16;

/// What scales the box besides lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The singular values.
    Sigma,
    /// The singular values as shares of the largest.
    Relative,
    /// No scaling.
    None,
}

/// What is asked of samples.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The largest number of components.
    pub n_components: usize,
    /// The level of the lower quantile of coefficients; one minus it is that of the upper.
    pub level: f64,
    /// What scales the box.
    pub weight: Weight,
}

/// A mean and components, and the box of coefficients at lambda = 1.
#[derive(Debug)]
pub struct Decomposition {
    /// Mean and components.
    pub field: Arc<Field>,
    /// Singular values, largest first.
    pub values: Vec<f64>,
    /// The middle of the box.
    pub centre: Vec<f64>,
    /// Half its sides.
    pub half: Vec<f64>,
}

/// Decomposes samples `(S, entries)`, an entry being a class and a pixel, of the image that lies at `place`.
pub fn decompose<E: Element>(
    samples: &ArrayView2<'_, E>,
    n_labels: usize,
    request: &Request,
    place: &Place,
    cancel: &Cancel,
) -> Result<Decomposition> {
    let image = place.image;
    let n_samples = samples.nrows();
    let entries = samples.t();
    let Centre { mean, still } = centre_of(&entries, cancel)?;
    if mean.iter().any(|mean| !mean.is_finite()) {
        return Err(not_finite(samples, n_labels, place, cancel)?);
    }
    let mut svd = decompose_differences(&entries, request.n_components.min(n_samples - 1), cancel).map_err(
        |error| match error {
            Error::Interrupted | Error::Memory { .. } => error,
            _ => Error::SamplesTooLarge { image },
        },
    )?;

    let noise = f64::EPSILON * (n_samples as f64).sqrt() * norm_of_moving(&mean, &still);
    let least = noise.max(RELATIVE_RANK * svd.values.first().copied().unwrap_or(0.0));
    let rank = svd.values.iter().take_while(|&&value| value > least).count();
    svd.values.truncate(rank);
    let (mut centre, mut half) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
    for (&value, right) in svd.values.iter().zip(svd.right.rows()) {
        let mut coefficients: Vec<f64> = right.iter().map(|v| value * v).collect();
        coefficients.sort_by(f64::total_cmp);
        let (a, b) = (quantile(&coefficients, request.level), quantile(&coefficients, 1.0 - request.level));
        let scale = match request.weight {
            Weight::Sigma => value,
            Weight::Relative => value / svd.values[0],
            Weight::None => 1.0,
        };
        centre.push(0.5 * (a + b));
        half.push(scale * (b - a) / 2.0);
    }
    if half.iter().any(|half| !half.is_finite()) {
        return Err(Error::SamplesTooLarge { image });
    }
    let mut components = svd.left.slice_move(s![..rank, ..]);
    for mut component in components.rows_mut() {
        // An entry that does not vary is exactly 0 in all components.
        let entries = component.as_slice_mut().expect("rows are contiguous");
        for (entries, still) in entries.chunks_mut(CHUNK).zip(still.chunks(CHUNK)) {
            cancel.check()?;
            for (entry, _) in entries.iter_mut().zip(still).filter(|(_, is_still)| **is_still) {
                *entry = 0.0;
            }
        }
    }
    let mut components = components.into_raw_vec_and_offset().0;
    components.truncate(rank * mean.len());
    let field = Arc::new(Field::new(n_labels, rank, mean, components));
    Ok(Decomposition { field, values: svd.values, centre, half })
}

/// The mean of each entry, and whether it varies by roundings alone.
struct Centre {
    mean: Vec<f64>,
    still: Vec<bool>,
}

/// If a sample, or the difference of two, is not finite, the mean is not.
fn centre_of<E: Element>(entries: &ArrayView2<'_, E>, cancel: &Cancel) -> Result<Centre> {
    let (n_entries, n_samples) = entries.dim();
    let mut mean = memory::filled(0.0, n_entries, "the mean of samples", cancel)?;
    let mut still = memory::filled(false, n_entries, "the mean of samples", cancel)?;
    mean.par_chunks_mut(CHUNK).zip(still.par_chunks_mut(CHUNK)).enumerate().try_for_each_init(
        || vec![0.0; n_samples * BLOCK],
        |columns, (chunk, (mean, still))| {
            let blocks = mean.chunks_mut(BLOCK).zip(still.chunks_mut(BLOCK)).enumerate();
            for (block, (mean, still)) in blocks {
                cancel.check()?;
                let first = chunk * CHUNK + block * BLOCK;
                copy(&entries.slice(s![first..first + mean.len(), ..]), columns, BLOCK);
                let mut runs = mean.chunks_mut(RUN).zip(still.chunks_mut(RUN));
                centre(columns, BLOCK, |found| {
                    // The last block may be short.
                    if let Some((mean, still)) = runs.next() {
                        mean.copy_from_slice(&found.mean[..mean.len()]);
                        still.copy_from_slice(&found.still[..still.len()]);
                    }
                });
            }
            Ok(())
        },
    )?;
    Ok(Centre { mean, still })
}

/// Copies rows, column by column; `stride` is the distance between columns.
fn copy<E: Element>(rows: &ArrayView2<'_, E>, columns: &mut [f64], stride: usize) {
    for (column, values) in columns.chunks_exact_mut(stride).zip(rows.columns()) {
        column.iter_mut().zip(values).for_each(|(number, value)| *number = value.widen().into());
    }
}

/// What [`centre`] finds of some rows.
struct Run {
    mean: [f64; RUN],
    still: [bool; RUN],
}

/// Subtracts from each of some rows its mean; a row that varies only by roundings becomes 0. The columns lie `stride`
/// numbers apart. The results go to `visit`, some rows at a time.
///
/// The mean is that of the differences from the first sample. These are exactly 0 where samples are equal, and so is their
/// mean. A class that is masked by -1e30 does not drown the other entries in rounding errors.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn centre<F: FnMut(&Run)>(columns: &mut [f64], stride: usize, mut visit: F) {
    let n_samples = (columns.len() / stride) as f64;
    for at in (0..stride).step_by(RUN) {
        let run = |column: &[f64]| -> [f64; RUN] { *column[at..].first_chunk().expect("a whole run") };
        let first = run(columns);
        let (mut shift, mut largest) = ([0.0; RUN], [0.0; RUN]);
        for column in columns.chunks_exact(stride) {
            let numbers = run(column);
            for i in 0..RUN {
                shift[i] += numbers[i] - first[i];
            }
        }
        shift = shift.map(|sum| sum / n_samples);
        for column in columns.chunks_exact_mut(stride) {
            for (i, number) in column[at..][..RUN].iter_mut().enumerate() {
                *number = *number - first[i] - shift[i];
                let magnitude = number.abs();
                largest[i] = if magnitude > largest[i] { magnitude } else { largest[i] };
            }
        }
        let mean: [f64; RUN] = std::array::from_fn(|i| first[i] + shift[i]);
        let still: [bool; RUN] =
            std::array::from_fn(|i| largest[i] <= ROUNDINGS * f64::EPSILON * mean[i].abs());
        if still.contains(&true) {
            for column in columns.chunks_exact_mut(stride) {
                for (number, is_still) in column[at..][..RUN].iter_mut().zip(still) {
                    *number = if is_still { 0.0 } else { *number };
                }
            }
        }
        visit(&Run { mean, still });
    }
}

/// The SVD of the differences from the mean.
fn decompose_differences<E: Element>(entries: &ArrayView2<'_, E>, k: usize, cancel: &Cancel) -> Result<Svd> {
    let (n_entries, n_samples) = entries.dim();
    if k == 0 {
        return Ok(Svd {
            left: Array2::zeros((0, n_entries)),
            values: vec![],
            right: Array2::zeros((0, n_samples)),
        });
    }
    if n_entries >= n_samples {
        return truncated_svd_of(entries, |rows, stride| centre(rows, stride, |_| ()), k, cancel)?
            .ok_or(Error::MatrixTooLarge);
    }
    // There are fewer entries than samples: copying them costs nothing.
    let stride = n_entries.next_multiple_of(RUN);
    let mut columns = memory::filled(0.0, n_samples * stride, "the samples", cancel)?;
    copy(entries, &mut columns, stride);
    centre(&mut columns, stride, |_| ());
    let columns = ArrayView2::from_shape((n_samples, stride), &columns).expect("as many numbers");
    truncated_svd(&columns.slice(s![.., ..n_entries]).t(), k, cancel)
}

/// The norm of the mean over the entries that vary, without overflow.
fn norm_of_moving(mean: &[f64], still: &[bool]) -> f64 {
    let moving = || mean.iter().zip(still).filter(|(_, is_still)| !**is_still).map(|(mean, _)| mean.abs());
    let largest = moving().fold(0.0, f64::max);
    let scale = if largest > 0.0 { largest } else { 1.0 };
    scale * moving().map(|x| (x / scale).powi(2)).sum::<f64>().sqrt()
}

/// The first number that is not finite, sample by sample; if all are, they differ too much.
fn not_finite<E: Element>(
    samples: &ArrayView2<'_, E>,
    n_labels: usize,
    place: &Place,
    cancel: &Cancel,
) -> Result<Error> {
    let image = place.image;
    let n_pixels = samples.ncols() / n_labels;
    for (sample, numbers) in samples.rows().into_iter().enumerate() {
        for (chunk, numbers) in numbers.axis_chunks_iter(Axis(0), CHUNK).enumerate() {
            cancel.check()?;
            let mut values = numbers.iter().map(|value| value.widen().into()).enumerate();
            if let Some((i, value)) = values.find(|(_, value): &(_, f64)| !value.is_finite()) {
                let entry = chunk * CHUNK + i;
                let (class, pixel) = (entry / n_pixels, place.pixel(entry % n_pixels));
                return Ok(Error::SampleNotFinite { image, sample, class, pixel, value });
            }
        }
    }
    Ok(Error::SamplesTooLarge { image })
}

/// The quantile of sorted numbers by linear interpolation, as NumPy rounds it.
fn quantile(sorted: &[f64], level: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * level;
    let below = place.floor();
    let t = place - below;
    let (a, b) = (sorted[below as usize], sorted[(below as usize + 1).min(sorted.len() - 1)]);
    if t < 0.5 { a + (b - a) * t } else { b - (b - a) * (1.0 - t) }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::place::Grid;

    fn place(image: usize) -> Place {
        Place { image, grid: Grid::flat(1, 2), pixels: 0..2 }
    }

    fn request(n_components: usize) -> Request {
        Request { n_components, level: 0.25, weight: Weight::Sigma }
    }

    fn found(samples: &Array2<f64>, n_components: usize) -> Decomposition {
        decompose(&samples.view(), 2, &request(n_components), &place(0), &Cancel::default()).unwrap()
    }

    /// Label 0 of two pixels has (.61, .51, .41) and .8 in three samples.
    fn two_pixels() -> Array2<f64> {
        array![[0.61, 0.8, 0.39, 0.2], [0.51, 0.8, 0.49, 0.2], [0.41, 0.8, 0.59, 0.2]]
    }

    #[test]
    fn two_pixels_by_hand() {
        let half = 0.5_f64.sqrt();
        // As many entries as samples or more, and fewer.
        for samples in [two_pixels(), ndarray::concatenate![ndarray::Axis(0), two_pixels(), two_pixels()]] {
            let found = found(&samples, 5);
            let n_times = samples.nrows() as f64 / 3.0;
            assert_eq!(found.values.len(), 1);
            assert!((found.values[0] - 0.2 * n_times.sqrt()).abs() < 1e-15);
            let component = [found.field.component(0, 0), found.field.component(0, 1)].concat();
            for (entry, expected) in component.iter().zip([half, 0.0, -half, 0.0]) {
                assert!((entry - expected).abs() < 1e-15);
            }
            assert_eq!((component[1], component[3]), (0.0, 0.0));
            assert!(found.centre[0].abs() < 1e-16);
            assert!((found.field.mean(0)[0] - 0.51).abs() < 1e-15);
        }
        assert!((found(&two_pixels(), 5).half[0] - 0.2 * 0.1 * 0.5_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn equal_samples_have_no_components() {
        for n_samples in [1, 4] {
            let samples = Array2::from_shape_fn((n_samples, 6), |(_, i)| 0.1 * i as f64);
            let found = found(&samples, 3);
            assert_eq!((found.field.n_components(), found.values.len(), found.half.len()), (0, 0, 0));
            assert_eq!(found.field.mean(1), [0.1 * 3.0, 0.1 * 4.0, 0.1 * 5.0]);
        }
    }

    #[test]
    fn what_is_not_finite_is_named() {
        let mut samples = two_pixels();
        (samples[[2, 1]], samples[[1, 3]]) = (f64::NEG_INFINITY, f64::INFINITY);
        let error = decompose(&samples.view(), 2, &request(1), &place(7), &Cancel::default()).unwrap_err();
        let (value, pixel) = (f64::INFINITY, place(7).pixel(1));
        assert_eq!(error, Error::SampleNotFinite { image: 7, sample: 1, class: 1, pixel, value });
    }

    #[test]
    fn what_overflows_is_refused() {
        for samples in [
            array![[1e308, 0.0], [-1e308, 0.0]],
            array![[1.7e308, 0.0], [0.0, 0.0], [-1e306, 1.0]],
            array![[1e200, 0.0], [0.0, 0.0], [0.0, 1e200]],
        ] {
            let error =
                decompose(&samples.view(), 2, &request(2), &place(3), &Cancel::default()).unwrap_err();
            assert_eq!(error, Error::SamplesTooLarge { image: 3 }, "{samples}");
        }
        let large = array![[1e120, 0.0], [0.0, 0.0], [0.0, 1e120]];
        assert_eq!(found(&large, 2).values.len(), 2);
    }

    #[test]
    fn quantiles_are_linear() {
        let sorted = [1.0, 2.0, 4.0, 8.0];
        for (level, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&sorted, level) - expected).abs() < 1e-15);
        }
        assert_eq!(quantile(&[3.0], 0.7), 3.0);
    }

    #[test]
    fn long_work_stops() {
        let cancel = Cancel::default();
        cancel.set();
        let error = decompose(&two_pixels().view(), 2, &request(1), &place(0), &cancel).unwrap_err();
        assert_eq!(error, Error::Interrupted);
    }
}
