//! The number that corrects all thresholds, and what images lose at it.

use std::ops::RangeInclusive;

use num_rational::BigRational;
use num_traits::Zero;
use rayon::prelude::*;

use super::cut::Cut;
use super::values::{ImageValues, Values};
use crate::error::Result;
use crate::memory;
use crate::num::real::{Real, Stored};
use crate::risk::quantile::{Atoms, Places, weighted_quantile};
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// The smallest t: all thresholds are then 1, or as large as their offset plus 1.
const LEAST: f64 = -1.0;

/// Marks an image that has no weight.
const UNUSED: usize = usize::MAX;

/// The smallest t in `[-1, 1]` at which the losses, image `i` counting `shares[i]` times, sum to at most the budget; images
/// on which the loss is undefined lose nothing. `None` if the budget is negative.
pub fn correction(
    values: &Values,
    offsets: &[f64],
    shares: &[BigRational],
    budget: &BigRational,
    cancel: &Cancel,
) -> Result<Option<f64>> {
    let mut atoms = Corrections {
        values,
        offsets,
        weights: Vec::new(),
        index: memory::with_room(values.images.len(), "the weights of images")?,
        places: Places::above(LEAST),
    };
    for (image, share) in values.images.iter().zip(shares) {
        cancel.check()?;
        let total = image.total(values.side);
        if total == 0 || share.is_zero() {
            atoms.index.push(UNUSED);
        } else {
            atoms.index.push(atoms.weights.len());
            memory::push(&mut atoms.weights, share / BigRational::from_integer(total.into()), "weights")?;
        }
    }
    weighted_quantile(&atoms, budget, cancel)
}

/// The share of each image's pixels that are wrong at t; NaN where there are none.
pub fn losses(values: &Values, offsets: &[f64], t: f64, cancel: &Cancel) -> Result<Vec<f64>> {
    let loss = |(image, &offset): (&std::sync::Arc<ImageValues>, &f64)| {
        let cut = Cut::new(values.side, offset, t);
        let mut n_wrong = 0;
        for block in &image.blocks {
            cancel.check()?;
            n_wrong += match block {
                Stored::Single(block) => n_wrong_of(block, &cut),
                Stored::Double(block) => n_wrong_of(block, &cut),
            };
        }
        Ok(n_wrong as f64 / image.total(values.side) as f64)
    };
    let found = memory::gathered(values.images.par_iter().zip(offsets).map(loss), "the losses of images")?;
    memory::all(found.into_iter(), "the losses of images")
}

fn n_wrong_of<R: Real>(values: &[R], cut: &Cut) -> u64 {
    let n_in = count_from(values, cut.cutoff());
    if cut.holds_right() { values.len() as u64 - n_in } else { n_in }
}

#[apply(vectorised!)]
fn count_from<R: Real>(values: &[R], cutoff: R) -> u64 {
    // In 32 bits as many lanes fit as of float32.
    let of_run = |run: &[R]| u64::from(run.iter().fold(0_u32, |n, &p| n + u32::from(p >= cutoff)));
    values.chunks(1 << 16).map(of_run).sum()
}

/// The t from which on each pixel is right, weighing what it adds to the summed loss.
struct Corrections<'a> {
    values: &'a Values,
    offsets: &'a [f64],
    weights: Vec<BigRational>,
    /// By image.
    index: Vec<usize>,
    places: Places,
}

impl Atoms for Corrections<'_> {
    type Weight = BigRational;

    fn weights(&self) -> &[BigRational] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        self.values.images.len()
    }

    fn visit(&self, part: usize, cancel: &Cancel, mut visit: impl FnMut(u64, usize)) -> Result<()> {
        let (weight, offset) = (self.index[part], self.offsets[part]);
        if weight == UNUSED {
            return Ok(());
        }
        let mut one = |p: f64| {
            let key = self.places.key(self.values.side.critical(offset, p));
            if key > 0 {
                visit(key, weight);
            }
        };
        for block in &self.values.images[part].blocks {
            cancel.check()?;
            match block {
                Stored::Single(block) => block.iter().for_each(|&p| one(p.into())),
                Stored::Double(block) => block.iter().for_each(|&p| one(p)),
            }
        }
        Ok(())
    }

    fn keys(&self) -> RangeInclusive<u64> {
        1..=self.places.key(1.0)
    }

    fn value(&self, key: u64) -> f64 {
        self.places.value(key)
    }
}
