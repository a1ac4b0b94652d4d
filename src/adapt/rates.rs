//! Smooth losses of images at thresholds, from histograms of the probabilities of their foregrounds. Models of thresholds
//! are trained on them.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::values::{ImageValues, Values};
use crate::error::Result;
use crate::memory;
use crate::num::real::{Real, Stored};
use crate::threads::Cancel;

/// The share of each image's pixels in bins of equal width over `[0, 1]`, `(n, n_bins)`; 0 of an image without pixels.
pub fn histograms(values: &Values, n_bins: usize, cancel: &Cancel) -> Result<Array2<f64>> {
    let shape = (values.images.len(), n_bins);
    let mut found = memory::filled(0.0, shape.0 * n_bins, "the histograms of images", cancel)?;
    let rows = found.par_chunks_exact_mut(n_bins).zip(&values.images);
    rows.try_for_each(|(row, image): (&mut [f64], &Arc<ImageValues>)| {
        for block in &image.blocks {
            cancel.check()?;
            match block {
                Stored::Single(block) => count(block, row),
                Stored::Double(block) => count(block, row),
            }
        }
        let total = image.total(values.side);
        // Pixels that are right at any threshold are not kept.
        let n_others = (total - image.n_values() as u64) as f64;
        let end = if values.side == super::Side::Foreground { n_bins - 1 } else { 0 };
        row[end] += n_others;
        if total > 0 {
            for n in row.iter_mut() {
                *n /= total as f64;
            }
        }
        Ok(())
    })?;
    Ok(Array2::from_shape_vec(shape, found).expect("a row each"))
}

fn count<R: Real>(values: &[R], row: &mut [f64]) {
    let n_bins = R::round_from(row.len() as f64);
    let last = row.len() - 1;
    for &p in values {
        row[(p * n_bins).to_usize().unwrap_or(0).min(last)] += 1.0;
    }
}

/// For each image (a row of histograms): the smooth true positive rate at its threshold u, which is the mean of
/// `1 / (1 + exp((u - p) / T))`, and its derivative by u, `(n, 2)`.
pub fn smooth_rates(
    histograms: &ArrayView2<'_, f64>,
    thresholds: &[f64],
    temperature: f64,
    cancel: &Cancel,
) -> Result<Array2<f64>> {
    let shape = (histograms.nrows(), 2);
    let mut found = memory::filled(0.0, 2 * shape.0, "the rates of images", cancel)?;
    let rows = histograms.axis_iter(Axis(0)).into_par_iter().zip(thresholds);
    found.par_chunks_exact_mut(2).zip(rows).try_for_each(|(out, (row, &u))| {
        cancel.check()?;
        let width = 1.0 / row.len() as f64;
        for (bin, &share) in row.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let above = (bin as f64 + 0.5) * width - u;
            // The one of two forms that cannot overflow.
            let e = (-above.abs() / temperature).exp();
            let held = if above >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
            out[0] += share * held;
            out[1] -= share * e / ((1.0 + e) * (1.0 + e)) / temperature;
        }
        Ok(())
    })?;
    Ok(Array2::from_shape_vec(shape, found).expect("two each"))
}
