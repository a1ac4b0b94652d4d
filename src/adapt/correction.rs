//! The number that corrects all thresholds, and what images lose at it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use num_rational::BigRational;
use num_traits::Zero;
use rayon::prelude::*;

use super::cut::Cut;
use super::values::{ImageValues, Values};
use crate::error::Result;
use crate::memory;
use crate::num::exact::Weight;
use crate::num::real::{Real, Stored};
use crate::risk::quantile::{Atoms, FEW_TIMES, Places, SAMPLE, around_quantile, weighted_quantile};
use crate::runs::{count_from, visit_between};
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
    let loss = |(image, &offset): (&Arc<ImageValues>, &f64)| {
        let n_wrong = n_wrong_in(image, &[Cut::new(values.side, offset, t)], cancel)?;
        Ok(n_wrong[0] as f64 / image.total(values.side) as f64)
    };
    let found = memory::gathered(values.images.par_iter().zip(offsets).map(loss), "the losses of images")?;
    memory::all(found.into_iter(), "the losses of images")
}

/// How many pixels of an image are wrong at each of some cuts.
fn n_wrong_in(image: &ImageValues, cuts: &[Cut], cancel: &Cancel) -> Result<Vec<u64>> {
    if cuts.iter().all(Cut::has_all_wrong) {
        return Ok(vec![image.n_values() as u64; cuts.len()]);
    }
    let mut n_in = vec![0; cuts.len()];
    for block in &image.blocks {
        cancel.check()?;
        match block {
            Stored::Single(block) => count_from(block, &cutoffs(cuts), &mut n_in),
            Stored::Double(block) => count_from(block, &cutoffs(cuts), &mut n_in),
        }
    }
    let n_wrong =
        |(n_in, cut): (u64, &Cut)| if cut.holds_right() { image.n_values() as u64 - n_in } else { n_in };
    Ok(n_in.into_iter().zip(cuts).map(n_wrong).collect())
}

fn cutoffs<R: Real>(cuts: &[Cut]) -> Vec<R> {
    cuts.iter().map(Cut::cutoff).collect()
}

/// As atoms: for each pixel the t from which on it is right, with its contribution to the summed loss as the weight.
struct Corrections<'a> {
    values: &'a Values,
    offsets: &'a [f64],
    weights: Vec<BigRational>,
    /// By image.
    index: Vec<usize>,
    places: Places,
}

impl Corrections<'_> {
    /// The cut of an image that counts, at the t that belongs to a key.
    fn cut_at(&self, image: usize, key: u64) -> Cut {
        Cut::new(self.values.side, self.offsets[image], self.places.value(key))
    }

    /// The images that count, in the order of their weights.
    fn counted(&self) -> Vec<usize> {
        (0..self.index.len()).filter(|&image| self.index[image] != UNUSED).collect()
    }
}

impl Atoms for Corrections<'_> {
    type Weight = BigRational;

    fn weights(&self) -> &[BigRational] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        self.values.images.len()
    }

    fn visit(&self, part: usize, cancel: &Cancel, visit: impl FnMut(u64, usize)) -> Result<()> {
        self.visit_within(part, &self.keys(), cancel, visit)
    }

    fn visit_within(
        &self,
        part: usize,
        keys: &RangeInclusive<u64>,
        cancel: &Cancel,
        mut visit: impl FnMut(u64, usize),
    ) -> Result<()> {
        let weight = self.index[part];
        if weight == UNUSED {
            return Ok(());
        }
        // Between two cuts lie the values whose keys are in the range.
        let cuts = [keys.start() - 1, *keys.end()].map(|key| self.cut_at(part, key));
        let critical = |p: f64| self.places.key(self.values.side.critical(self.offsets[part], p));
        for block in &self.values.images[part].blocks {
            cancel.check()?;
            match block {
                Stored::Single(block) => between(block, &cuts, |p| visit(critical(p), weight)),
                Stored::Double(block) => between(block, &cuts, |p| visit(critical(p), weight)),
            }
        }
        Ok(())
    }

    fn keys(&self) -> RangeInclusive<u64> {
        1..=self.places.key(1.0)
    }

    fn counts_above(&self, limits: &[u64], cancel: &Cancel) -> Result<Vec<Vec<u64>>> {
        const WHAT: &str = "the number of values of each weight";
        let n_wrong = |image: usize| {
            let cuts: Vec<_> = limits.iter().map(|&limit| self.cut_at(image, limit)).collect();
            n_wrong_in(&self.values.images[image], &cuts, cancel)
        };
        let counts = memory::gathered(self.counted().into_par_iter().map(n_wrong), WHAT)?;
        let counts = memory::all(counts.into_iter(), WHAT)?;
        let of_limit = |i| memory::collected(counts.iter().map(|counts| counts[i]), WHAT);
        (0..limits.len()).map(of_limit).collect()
    }

    /// Guesses around the quantile, from some values of each image.
    fn guesses(&self, budget: &BigRational, cancel: &Cancel) -> Result<Vec<u64>> {
        if self.values.n_values() < FEW_TIMES * SAMPLE {
            return Ok(Vec::new());
        }
        let images = self.counted();
        let most = (SAMPLE / images.len().max(1)).max(1);
        let mut sample: Vec<(u64, f64)> = Vec::new();
        for (image, weight) in images.into_iter().zip(&self.weights) {
            cancel.check()?;
            let values = &self.values.images[image];
            let start = sample.len();
            let critical = |p| self.places.key(self.values.side.critical(self.offsets[image], p));
            values.some(most, |p| sample.push((critical(p), 0.0)));
            let n = (sample.len() - start).max(1) as f64;
            let each = weight.to_float() * values.n_values() as f64 / n;
            sample[start..].iter_mut().for_each(|(_, weight)| *weight = each);
        }
        Ok(around_quantile(sample, budget))
    }

    fn value(&self, key: u64) -> f64 {
        self.places.value(key)
    }
}

/// Calls `visit` with the values that are right at the second cut but not at the first.
fn between<R: Real>(values: &[R], cuts: &[Cut; 2], mut visit: impl FnMut(f64)) {
    let [first, second] = [cuts[0].cutoff::<R>(), cuts[1].cutoff::<R>()];
    let (low, high) = if cuts[0].holds_right() { (second, first) } else { (first, second) };
    visit_between(values, low, high, |_, p| visit(p));
}
