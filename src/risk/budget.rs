//! The smallest lambda whose summed loss is within a budget.
//!
//! How the risk is controlled is said by the budget alone: conformal risk control allows `alpha (n + 1) - 1`, other methods
//! less. The sum of losses that do not increase in lambda is a step function whose jumps are critical values, so
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

use super::quantile::{Atoms, WeightedValues, weighted_quantile};
use crate::error::Result;
use crate::loss::{Loss, PixelWeights};
use crate::memory;
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

/// What errors call these.
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
    let mut next = 0; // counted from the beginning of a block
    for block in profile.images().iter().flat_map(|image| &image.blocks) {
        cancel.check()?;
        let values = block.values.to_doubles().skip(next).step_by(step);
        jumps.extend(values.map(|value| coding.decode(value)));
        let len = block.labels.len();
        next = if next < len { step - 1 - (len - 1 - next) % step } else { next - len };
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

    fn value(&self, key: u64) -> f64 {
        self.profile.coding().decode_key(key)
    }

    fn counts(&self, cancel: &Cancel) -> Result<Vec<u64>> {
        let what = "the number of values of each weight";
        let mut counts = memory::filled(0, self.weights.len(), what, cancel)?;
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

/// Calls `visit(key of the stored value, index of its weight)` for the values of an image that weigh something.
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
