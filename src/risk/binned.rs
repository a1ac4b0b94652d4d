//! The binned profile: as large for a million images as for one, and merged by addition.
//!
//! Critical values fall into bins on a grid of float bits: 1024 for each halving of the distance to the largest one. For a
//! loss that is a miss rate, a bin holds the sum over images of the rate that its pixels add, rounded up for each image to a
//! multiple of 2^-44. These are integers, so that sums are the same in any order, and no loss is understated. Lambda-hat is
//! then the end of a bin. It is never too small. It is at most 1/1024 of its distance to the largest lambda above the exact
//! lambda-hat for a budget that is smaller by the rounding, less than 4e-9 for each image. For a loss that is 0 or 1, the
//! lambda from which on the loss is 0 is kept for each image: lambda-hat is exact.

use std::sync::Arc;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};
use rayon::prelude::*;

use super::budget::image_critical_values;
use super::quantile::{WeightedValues, weighted_quantile};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::maps::MAX_CLASSES;
use crate::memory;
use crate::num::real::Real;
use crate::profile::{ExactProfile, ImageProfile};
use crate::score::Coding;
use crate::threads::Cancel;

/// Bits of a mantissa that tell bins apart.
const MANTISSA_BITS: u32 = 10;

/// Halvings of the distance to the largest critical value; nearer values share the last bin.
const HALVINGS: usize = 64;

/// Number of bins.
pub const N_BINS: usize = (HALVINGS << MANTISSA_BITS) + 1;

/// Bins that are looked at together.
const RUN: usize = 64;

/// A rate of 1, as an integer.
const UNIT_BITS: u32 = 44;

/// The additional bits of pixel weights before they are summed and rounded.
const SPARE_BITS: u32 = 16;

/// Images whose rates, rounded up, sum to less than 2^64.
const MOST_IMAGES: usize = 1 << 19;

/// The most images of a profile, so that the number of images of merged profiles fits 64 bits.
const MOST_KNOWN: u64 = 1 << 48;

/// What is kept for one loss.
#[derive(Debug, Clone, PartialEq)]
pub enum Collected {
    /// For a miss rate: the contributions of the pixels of each bin, over all images, in units of `2^-44`.
    Rate(Vec<u128>),
    /// For a loss that is 0 or 1: the lambda from which on it is 0, for each image on which it is defined.
    Steps(Vec<f64>),
}

/// What is kept of many images, for some losses.
#[derive(Debug, Clone, PartialEq)]
pub struct BinnedProfile {
    coding: Coding,
    n_classes: usize,
    n_images: u64,
    /// The hashes of the images, in order; there are fewer if some are not known.
    hashes: Vec<u64>,
    parts: Vec<Part>,
}

/// One loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The loss.
    pub loss: Loss,
    /// Number of images on which it is defined.
    pub n_defined: u64,
    /// What is kept.
    pub collected: Collected,
}

impl Part {
    /// Nothing seen yet.
    pub fn new(loss: Loss) -> Self {
        let collected = match loss.tolerance() {
            None => Collected::Rate(vec![0; N_BINS]),
            Some(_) => Collected::Steps(Vec::new()),
        };
        Self { loss, n_defined: 0, collected }
    }
}

impl BinnedProfile {
    /// No images yet.
    pub fn new(coding: Coding, n_classes: usize, losses: Vec<Loss>) -> Result<Self> {
        losses.iter().try_for_each(|loss| loss.check_classes(n_classes))?;
        let parts = losses.into_iter().map(Part::new).collect();
        Ok(Self { coding, n_classes, n_images: 0, hashes: Vec::new(), parts })
    }

    /// What was kept elsewhere.
    pub fn from_parts(
        coding: Coding,
        n_classes: usize,
        n_images: u64,
        hashes: Vec<u64>,
        parts: Vec<Part>,
    ) -> Result<Self> {
        if !(2..=MAX_CLASSES).contains(&n_classes) {
            return Err(Error::Profile(format!("K = {n_classes}")));
        }
        if n_images > MOST_KNOWN {
            return Err(Error::Profile(format!("it has {n_images} images")));
        }
        if hashes.len() as u64 > n_images {
            return Err(Error::Profile("there are more hashes than images".into()));
        }
        for Part { loss, n_defined, collected } in &parts {
            loss.check_classes(n_classes)?;
            let fits = match collected {
                Collected::Rate(bins) => {
                    // Rounding up adds less than a unit in each bin of each image.
                    let most = u128::from(*n_defined) * ((1 << UNIT_BITS) + N_BINS as u128);
                    let sum = bins.iter().try_fold(0_u128, |sum, &bin| sum.checked_add(bin));
                    bins.len() == N_BINS && sum.is_some_and(|sum| sum <= most)
                }
                Collected::Steps(steps) => {
                    let within = 0.0..=coding.lambda_max();
                    steps.len() as u64 == *n_defined && steps.iter().all(|step| within.contains(step))
                }
            };
            if !fits || *n_defined > n_images {
                return Err(Error::Profile("the bins do not fit the images".into()));
            }
        }
        Ok(Self { coding, n_classes, n_images, hashes, parts })
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Number of images.
    pub fn n_images(&self) -> u64 {
        self.n_images
    }

    /// The hashes of the images, in order; fewer where those of some are not known.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// What is kept for each loss.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Adds the images of another profile.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.n_classes != other.n_classes {
            let (expected, actual) = (self.n_classes, other.n_classes);
            return Err(Error::ClassCount { image: self.n_images as usize, expected, actual });
        }
        let same_losses = self.parts.iter().map(|part| &part.loss).eq(other.parts.iter().map(|p| &p.loss));
        if self.coding != other.coding || !same_losses {
            return Err(Error::ScoreMismatch);
        }
        memory::reserve(&mut self.hashes, other.hashes.len(), IMAGES)?;
        for (part, theirs) in self.parts.iter_mut().zip(&other.parts) {
            if let (Collected::Steps(steps), Collected::Steps(others)) =
                (&mut part.collected, &theirs.collected)
            {
                memory::reserve(steps, others.len(), IMAGES)?;
            }
        }
        self.n_images += other.n_images;
        self.hashes.extend_from_slice(&other.hashes);
        for (part, theirs) in self.parts.iter_mut().zip(&other.parts) {
            part.n_defined += theirs.n_defined;
            match (&mut part.collected, &theirs.collected) {
                (Collected::Rate(bins), Collected::Rate(others)) => {
                    bins.iter_mut().zip(others).for_each(|(bin, other)| *bin += other);
                }
                (Collected::Steps(steps), Collected::Steps(others)) => steps.extend_from_slice(others),
                _ => unreachable!("a loss has one kind"),
            }
        }
        Ok(())
    }

    /// Adds images that were profiled exactly: all, or none if it fails.
    pub fn add(&mut self, profile: &ExactProfile, cancel: &Cancel) -> Result<()> {
        if self.n_classes != profile.n_classes() {
            let (expected, actual) = (self.n_classes, profile.n_classes());
            return Err(Error::ClassCount { image: self.n_images as usize, expected, actual });
        }
        if self.coding != profile.coding() {
            return Err(Error::ScoreMismatch);
        }
        let found: Vec<Addition> = self
            .parts
            .iter()
            .map(|part| Addition::new(profile, &part.loss, cancel))
            .collect::<Result<_>>()?;
        let n_images = profile.images().len();
        memory::reserve(&mut self.hashes, n_images, IMAGES)?;
        for part in &mut self.parts {
            if let Collected::Steps(steps) = &mut part.collected {
                memory::reserve(steps, n_images, IMAGES)?;
            }
        }
        self.n_images += n_images as u64;
        self.hashes.extend(profile.images().iter().map(|image| image.hash));
        for (part, found) in self.parts.iter_mut().zip(found) {
            match (&mut part.collected, found) {
                (Collected::Steps(steps), Addition::Steps(found)) => {
                    let n_known = steps.len();
                    steps.extend(found.into_iter().flatten());
                    part.n_defined += (steps.len() - n_known) as u64;
                }
                (Collected::Rate(bins), Addition::Rates(found)) => {
                    for rates in found {
                        part.n_defined += rates.n_defined;
                        bins.iter_mut().zip(rates.bins).for_each(|(bin, rate)| *bin += u128::from(rate));
                    }
                }
                _ => unreachable!("a loss has one kind"),
            }
        }
        Ok(())
    }

    /// A lambda at which the upper bounds of the losses sum to at most the budget: for a binned rate the smallest end of a bin
    /// (or 0), for a loss that is 0 or 1 the smallest lambda of all. `None` if the budget is negative.
    pub fn lambda_hat(&self, part: usize, budget: &BigRational, cancel: &Cancel) -> Result<Option<f64>> {
        match &self.parts[part].collected {
            Collected::Steps(steps) => {
                let equal = steps.iter().map(|_| ());
                weighted_quantile(&WeightedValues::new(steps, equal, |()| 1.0, cancel)?, budget, cancel)
            }
            Collected::Rate(bins) => {
                if budget.is_negative() {
                    return Ok(None);
                }
                let limit = (budget * BigRational::from_integer(BigInt::one() << UNIT_BITS)).to_integer();
                let limit = limit.to_u128().unwrap_or(u128::MAX);
                let mut above = 0_u128;
                for (bin, rate) in bins.iter().enumerate().rev() {
                    above += rate;
                    if above > limit {
                        return Ok(Some(end_of(bin, self.coding)));
                    }
                }
                Ok(Some(0.0))
            }
        }
    }

    /// An upper bound of the summed losses at lambda: for a binned rate, as if all values of a bin were at its end. For a loss
    /// that is 0 or 1 it is exact.
    pub fn loss_sum(&self, part: usize, lambda: f64) -> f64 {
        match &self.parts[part].collected {
            Collected::Steps(steps) => steps.iter().filter(|&&step| step > lambda).count() as f64,
            Collected::Rate(bins) => {
                let (mut first, mut last) = (0, N_BINS); // the first bin that ends above lambda
                while first < last {
                    let middle = usize::midpoint(first, last);
                    if end_of(middle, self.coding) <= lambda { first = middle + 1 } else { last = middle }
                }
                let sum: u128 = bins[first..].iter().sum();
                let exact = BigRational::new(sum.into(), BigInt::one() << UNIT_BITS);
                exact.to_f64().expect("a float").min(self.parts[part].n_defined as f64)
            }
        }
    }

    /// The ends of the bins that hold anything, ascending; or the steps.
    pub fn jumps(&self, part: usize) -> Result<Vec<f64>> {
        match &self.parts[part].collected {
            Collected::Steps(steps) => memory::collected(steps.iter().copied(), IMAGES),
            Collected::Rate(bins) => {
                let held = bins.iter().enumerate().filter(|(_, rate)| **rate > 0);
                Ok(held.map(|(bin, _)| end_of(bin, self.coding)).collect())
            }
        }
    }

    /// About so many numbers of 64 bits are kept.
    pub fn n_numbers(&self) -> usize {
        let collected = self.parts.iter().map(|part| match &part.collected {
            Collected::Rate(bins) => 2 * bins.len(),
            Collected::Steps(steps) => steps.len(),
        });
        self.hashes.len() + collected.sum::<usize>()
    }
}

/// What errors call memory for images.
const IMAGES: &str = "what is kept of each image";

/// What some images add to a part.
enum Addition {
    Steps(Vec<Option<f64>>),
    Rates(Vec<Rates>),
}

impl Addition {
    fn new(profile: &ExactProfile, loss: &Loss, cancel: &Cancel) -> Result<Self> {
        if loss.tolerance().is_some() {
            return Ok(Self::Steps(image_critical_values(profile, loss, cancel)?));
        }
        let rates = |images: &[Arc<ImageProfile>]| {
            let share = images.len().div_ceil(rayon::current_num_threads());
            images
                .par_iter()
                // Tables are large, so there is one for each thread, not for each image.
                .with_min_len(share)
                .try_fold(Rates::default, |mut rates, image| {
                    rates.add(image, profile.coding(), loss, cancel)?;
                    Ok(rates)
                })
                .try_reduce_with(|left, right| Ok(left.joined(right)))
                .unwrap_or_else(|| Ok(Rates::default()))
        };
        profile.images().chunks(MOST_IMAGES).map(rates).collect::<Result<_>>().map(Self::Rates)
    }
}

/// What some images add to the bins.
struct Rates {
    n_defined: u64,
    bins: Vec<u64>,
    /// The contributions in one image, not yet rounded; all 0 between images.
    table: Vec<u64>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { n_defined: 0, bins: vec![0; N_BINS], table: vec![0; N_BINS] }
    }
}

impl Rates {
    /// Adds what the pixels of an image add to the miss rate, bin by bin, rounded up.
    fn add(&mut self, image: &ImageProfile, coding: Coding, loss: &Loss, cancel: &Cancel) -> Result<()> {
        let Some(weights) = loss.pixel_weights(&image.totals) else { return Ok(()) };
        self.n_defined += 1;
        let scale = BigRational::from_integer(BigInt::one() << (UNIT_BITS + SPARE_BITS));
        // All contributions together are at most 1, and rounding adds less than one unit to each: the sum fits 64 bits.
        let up = |w: &BigRational| (w * &scale).ceil().to_integer().to_u64().expect("at most 1");
        let weights_up: Vec<u64> = weights.weights.iter().map(up).collect();
        let of_label: Vec<u64> =
            weights.of_class.iter().map(|of| of.map_or(0, |of| weights_up[of])).collect();
        let table: &mut [u64; N_BINS] = self.table.as_mut_slice().try_into().expect("one for each bin");
        let add = |stored, label| table[bin_of(coding, stored)] += of_label[usize::from(label)];
        image.for_each(cancel, add)?;
        // Most bins are empty for one image: whole runs of them are skipped.
        for (bins, sums) in self.bins.chunks_mut(RUN).zip(self.table.chunks_mut(RUN)) {
            if sums.iter().fold(0, |any, sum| any | sum) == 0 {
                continue;
            }
            for (bin, sum) in bins.iter_mut().zip(sums) {
                *bin += std::mem::take(sum).div_ceil(1 << SPARE_BITS);
            }
        }
        Ok(())
    }

    fn joined(mut self, other: Self) -> Self {
        self.n_defined += other.n_defined;
        self.bins.iter_mut().zip(other.bins).for_each(|(bin, rate)| *bin += rate);
        self
    }
}

/// The bin of a stored value, by its distance to the largest critical value as a share of the latter. Larger critical values
/// never have a smaller bin.
#[inline(always)]
fn bin_of(coding: Coding, stored: f64) -> usize {
    // Keys begin with 1: a probability next to 1 is in the first bin.
    ((Coding::Complement.key(coding.missing(stored)).saturating_sub(1) >> (52 - MANTISSA_BITS)) as usize)
        .min(N_BINS - 1)
}

/// The largest critical value in the bins up to one.
fn end_of(bin: usize, coding: Coding) -> f64 {
    if bin == N_BINS - 1 {
        return coding.lambda_max();
    }
    match coding {
        Coding::Complement => coding.decode_key((bin as u64 + 1) << (52 - MANTISSA_BITS)),
        Coding::Direct { max } => f64::largest(|s| s <= max && bin_of(coding, s) <= bin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_the_largest_of_their_bins() {
        for coding in [Coding::Complement, Coding::Direct { max: 1.0 }, Coding::Direct { max: 1.35 }] {
            let max = coding.lambda_max();
            for lambda in [1e-9, 0.1, 0.3, 0.5, 0.9, 0.999, 0.999_999_9, 1.0].map(|share| share * max) {
                let stored = match coding {
                    Coding::Complement => 1.0 - lambda,
                    Coding::Direct { .. } => lambda,
                };
                let bin = bin_of(coding, stored);
                let end = end_of(bin, coding);
                assert!(end >= coding.decode(stored), "{coding:?} {lambda}");
                assert!(end - lambda <= (max - lambda) / 1000.0 + 1e-15, "{coding:?} {lambda}: {end}");
                if bin > 0 {
                    assert!(end_of(bin - 1, coding) <= coding.decode(stored), "{coding:?} {lambda}");
                }
            }
        }
    }
}
