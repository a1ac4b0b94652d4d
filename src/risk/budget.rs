//! The smallest lambda whose summed loss is within a budget.
//!
//! Methods of risk control differ only in the budget: conformal risk control allows `alpha (n + 1) - 1`, other methods less.
//! The sum of losses that do not increase in lambda is a step function that jumps at critical values, so
//!
//! ```text
//! lambda_hat = inf { lambda : sum_i share_i L_i(lambda) <= budget }
//! ```
//!
//! is a weighted quantile.

use std::ops::RangeInclusive;
use std::sync::Arc;

use num_rational::BigRational;
use num_traits::{One, Zero};
use rayon::prelude::*;

use super::quantile::{Atoms, FEW_TIMES, SAMPLE, WeightedValues, around_quantile, weighted_quantile};
use crate::error::Result;
use crate::loss::{Loss, PixelWeights};
use crate::memory;
use crate::num::exact::Weight;
use crate::profile::{ExactProfile, ImageProfile};
use crate::score::Coding;
use crate::threads::Cancel;

/// The smallest lambda at which the losses, image `i` counting `shares[i]` times (each once by default), sum to at most the
/// budget. Images on which the loss is undefined lose nothing. `None` if the budget is negative.
pub fn lambda_hat(
    profile: &ExactProfile,
    loss: &Loss,
    shares: Option<&[BigRational]>,
    budget: &BigRational,
    cancel: &Cancel,
) -> Result<Option<f64>> {
    if loss.tolerance().is_none() {
        return weighted_quantile(&PixelAtoms::new(profile, loss, shares, cancel)?, budget, cancel);
    }
    let (one, found) = (BigRational::one(), image_critical_values(profile, loss, cancel)?);
    let mut criticals = memory::with_room(found.len(), CRITICALS)?;
    criticals.extend(found.iter().flatten());
    let defined = (0..found.len()).filter(|&image| found[image].is_some());
    let shares = defined.map(|image| shares.map_or(&one, |shares| &shares[image]));
    let values = WeightedValues::new(&criticals, shares, BigRational::clone, cancel)?;
    weighted_quantile(&values, budget, cancel)
}

/// What errors call counts.
const WHAT: &str = "the number of values of each weight";

/// What errors call critical values.
pub(super) const CRITICALS: &str = "the critical values of images";

/// For a loss that is 0 or 1: the lambda of each image from which on it is 0; `None` where it is undefined.
pub fn image_critical_values(
    profile: &ExactProfile,
    loss: &Loss,
    cancel: &Cancel,
) -> Result<Vec<Option<f64>>> {
    let tolerance = loss.tolerance().expect("a loss with a tolerance");
    let critical_value = |image: &Arc<ImageProfile>| {
        cancel.check()?;
        match ImageAtoms::new(image, profile.coding(), loss) {
            Some(atoms) => weighted_quantile(&atoms, tolerance, cancel),
            None => Ok(None),
        }
    };
    let found = profile.images().par_iter().map(critical_value);
    memory::all(memory::gathered(found, CRITICALS)?.into_iter(), CRITICALS)
}

/// At most `limit` of the lambdas at which the risk jumps, spread evenly over the pixels (or images), in no order.
pub fn jumps(profile: &ExactProfile, loss: &Loss, limit: usize, cancel: &Cancel) -> Result<Vec<f64>> {
    const WHAT: &str = "the jumps of the risk";
    let spread = |n: usize| n.div_ceil(limit).max(1);
    if loss.tolerance().is_some() {
        let criticals = image_critical_values(profile, loss, cancel)?;
        let step = spread(criticals.len());
        let mut jumps = memory::with_room(criticals.len().div_ceil(step), WHAT)?;
        jumps.extend(criticals.into_iter().flatten().step_by(step));
        return Ok(jumps);
    }
    let (coding, n_values) = (profile.coding(), profile.n_values());
    let step = spread(n_values);
    let mut jumps = memory::with_room(n_values.div_ceil(step), WHAT)?;
    let mut next = 0; // counted from the beginning of an image
    for image in profile.images() {
        cancel.check()?;
        image.for_every(step, &mut next, |stored, _| jumps.push(coding.decode(stored)));
    }
    Ok(jumps)
}

/// Marks a label that a loss does not look at.
const UNUSED: u32 = u32::MAX;

/// The critical values of all images, each weighing what its pixel adds to the summed loss.
pub(super) struct PixelAtoms<'a> {
    profile: &'a ExactProfile,
    weights: Vec<BigRational>,
    /// `(image, class)` to the index of the weight.
    index: Vec<u32>,
}

impl<'a> PixelAtoms<'a> {
    pub(super) fn new(
        profile: &'a ExactProfile,
        loss: &Loss,
        shares: Option<&[BigRational]>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let one = BigRational::one();
        let n_cells = profile.images().len() * profile.n_classes();
        let mut weights = Vec::new();
        let mut index = memory::with_room(n_cells, "the weights of values")?;
        for (i, image) in profile.images().iter().enumerate() {
            let share = shares.map_or(&one, |shares| &shares[i]);
            cancel.check()?;
            let of_image = loss.pixel_weights(&image.totals);
            memory::reserve(&mut weights, profile.n_classes(), "the weights of values")?;
            push_weights(of_image.as_ref(), profile.n_classes(), share, &mut weights, &mut index);
        }
        Ok(Self { profile, weights, index })
    }

    /// For each weight of an image's values, the number of values in each of some ranges of keys.
    fn counts_of(
        &self,
        part: usize,
        ranges: &[RangeInclusive<u64>],
        cancel: &Cancel,
    ) -> Result<Vec<(u32, Vec<u64>)>> {
        let (image, coding, index) = self.of_image(part);
        let mut used = index.iter().zip(&image.missed).filter(|(_, missed)| **missed > 0);
        let Some((&first, _)) = used.next() else { return Ok(Vec::new()) };
        if used.all(|(&weight, _)| weight == first) {
            let is_used = first != UNUSED;
            return Ok(if is_used {
                vec![(first, image.counts_within(coding, ranges, cancel)?)]
            } else {
                Vec::new()
            });
        }
        let mut of_classes = vec![vec![0; ranges.len()]; index.len()];
        for (i, range) in ranges.iter().enumerate() {
            image
                .for_each_within(coding, range, cancel, |_, label| of_classes[usize::from(label)][i] += 1)?;
        }
        let pairs = index.iter().copied().zip(of_classes);
        Ok(pairs.filter(|(weight, _)| *weight != UNUSED).collect())
    }

    /// An image, how its values are stored, and its row of the index.
    pub(super) fn of_image(&self, image: usize) -> (&'a ImageProfile, Coding, &[u32]) {
        let n_classes = self.profile.n_classes();
        let index = &self.index[image * n_classes..][..n_classes];
        (&self.profile.images()[image], self.profile.coding(), index)
    }
}

impl Atoms for PixelAtoms<'_> {
    type Weight = BigRational;

    fn weights(&self) -> &[BigRational] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        self.profile.images().len()
    }

    fn visit(&self, part: usize, cancel: &Cancel, visit: impl FnMut(u64, usize)) -> Result<()> {
        let (image, coding, index) = self.of_image(part);
        visit_image(image, |stored| coding.key(stored), index, cancel, visit)
    }

    fn keys(&self) -> RangeInclusive<u64> {
        self.profile.coding().keys()
    }

    fn usual_keys(&self) -> RangeInclusive<u64> {
        self.profile.coding().usual_keys()
    }

    fn visit_within(
        &self,
        part: usize,
        keys: &RangeInclusive<u64>,
        cancel: &Cancel,
        mut visit: impl FnMut(u64, usize),
    ) -> Result<()> {
        let (image, coding, index) = self.of_image(part);
        image.for_each_within(coding, keys, cancel, |stored, label| {
            let weight = index[usize::from(label)];
            if weight != UNUSED {
                visit(coding.key(stored), weight as usize);
            }
        })
    }

    fn counts_above(&self, limits: &[u64], cancel: &Cancel) -> Result<Vec<Vec<u64>>> {
        let last = *self.keys().end();
        let ranges: Vec<_> = limits.iter().map(|&limit| limit.min(last) + 1..=last).collect();
        let zeros = || memory::filled(0_u64, self.weights.len(), WHAT, cancel);
        let mut counts = limits.iter().map(|_| zeros()).collect::<Result<Vec<_>>>()?;
        let of_part = |part| self.counts_of(part, &ranges, cancel);
        let found = memory::gathered((0..self.n_parts()).into_par_iter().map(of_part), WHAT)?;
        for cells in found {
            for (weight, of_ranges) in cells? {
                counts.iter_mut().zip(of_ranges).for_each(|(counts, n)| counts[weight as usize] += n);
            }
        }
        Ok(counts)
    }

    /// Guesses around the quantile, from some values of each image.
    fn guesses(&self, budget: &BigRational, cancel: &Cancel) -> Result<Vec<u64>> {
        let n_values = self.profile.n_values();
        if n_values < FEW_TIMES * SAMPLE {
            return Ok(Vec::new());
        }
        let (step, mut sample) = (n_values.div_ceil(SAMPLE), Vec::new());
        let mut next = 0; // counted from the beginning of an image
        for part in 0..self.n_parts() {
            cancel.check()?;
            let (image, coding, index) = self.of_image(part);
            image.for_every(step, &mut next, |stored, label| {
                let weight = index[usize::from(label)];
                if weight != UNUSED {
                    let each = self.weights[weight as usize].to_float();
                    sample.push((coding.key(stored), step as f64 * each));
                }
            });
        }
        Ok(around_quantile(sample, budget))
    }

    fn value(&self, key: u64) -> f64 {
        self.profile.coding().decode_key(key)
    }

    fn counts(&self, cancel: &Cancel) -> Result<Vec<u64>> {
        let mut counts = memory::filled(0, self.weights.len(), WHAT, cancel)?;
        let missed = self.profile.images().iter().flat_map(|image| &image.missed);
        for (&weight, missed) in self.index.iter().zip(missed).filter(|(weight, _)| **weight != UNUSED) {
            counts[weight as usize] += missed;
        }
        Ok(counts)
    }
}

/// The critical values of one image.
struct ImageAtoms<'a> {
    image: &'a ImageProfile,
    coding: Coding,
    weights: Vec<BigRational>,
    index: Vec<u32>,
}

impl<'a> ImageAtoms<'a> {
    fn new(image: &'a ImageProfile, coding: Coding, loss: &Loss) -> Option<Self> {
        let of_image = loss.pixel_weights(&image.totals)?;
        let (mut weights, mut index) = (Vec::new(), Vec::new());
        let n_classes = image.totals.len();
        push_weights(Some(&of_image), n_classes, &BigRational::one(), &mut weights, &mut index);
        Some(Self { image, coding, weights, index })
    }
}

impl Atoms for ImageAtoms<'_> {
    type Weight = BigRational;

    fn weights(&self) -> &[BigRational] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        1
    }

    fn visit(&self, _part: usize, cancel: &Cancel, visit: impl FnMut(u64, usize)) -> Result<()> {
        visit_image(self.image, |stored| self.coding.key(stored), &self.index, cancel, visit)
    }

    fn keys(&self) -> RangeInclusive<u64> {
        self.coding.keys()
    }

    fn usual_keys(&self) -> RangeInclusive<u64> {
        self.coding.usual_keys()
    }

    fn value(&self, key: u64) -> f64 {
        self.coding.decode_key(key)
    }
}

/// Appends one image's weights, each times the image's share, and its row of the index.
fn push_weights(
    of_image: Option<&PixelWeights>,
    n_classes: usize,
    share: &BigRational,
    weights: &mut Vec<BigRational>,
    index: &mut Vec<u32>,
) {
    let Some(of_image) = of_image.filter(|_| !share.is_zero()) else {
        index.resize(index.len() + n_classes, UNUSED);
        return;
    };
    let first = weights.len();
    let shared = |weight: &BigRational| if share.is_one() { weight.clone() } else { weight * share };
    weights.extend(of_image.weights.iter().map(shared));
    index.extend(of_image.of_class.iter().map(|of| of.map_or(UNUSED, |of| (first + of) as u32)));
}

/// Calls `visit(key of the stored value, index of its weight)` for the values of an image that have a weight.
pub(super) fn visit_image(
    image: &ImageProfile,
    key: impl Fn(f64) -> u64,
    index: &[u32],
    cancel: &Cancel,
    mut visit: impl FnMut(u64, usize),
) -> Result<()> {
    image.for_each(cancel, |stored, label| {
        let weight = index[usize::from(label)];
        if weight != UNUSED {
            visit(key(stored), weight as usize);
        }
    })
}
