//! The number that corrects the lambdas of images, if each image has its own.
//!
//! An image has an *offset* from any model; calibration adds one number t to all offsets. A label is in the sets of image i
//! from
//!
//! ```text
//! t >= fl64(critical value - offset_i)
//! ```
//!
//! on; calibration and prediction evaluate this same float64 expression. Labels that are in the sets at lambda = 0 always are.

use std::ops::RangeInclusive;

use num_rational::BigRational;
use num_traits::One;

use super::budget::{CRITICALS, PixelAtoms, image_critical_values, visit_image};
use super::quantile::{Atoms, Places, WeightedValues, weighted_quantile};
use crate::error::Result;
use crate::loss::Loss;
use crate::memory;
use crate::num::real::Real;
use crate::profile::ExactProfile;
use crate::threads::Cancel;

/// The smallest t, not below minus the largest lambda, at which the losses sum to at most the budget, as in
/// [`super::lambda_hat`]; offsets lie between 0 and the largest lambda. `None` if the budget is negative.
pub fn correction(
    profile: &ExactProfile,
    loss: &Loss,
    offsets: &[f64],
    shares: Option<&[BigRational]>,
    budget: &BigRational,
    cancel: &Cancel,
) -> Result<Option<f64>> {
    let largest = profile.coding().lambda_max();
    if loss.tolerance().is_none() {
        let pixels = PixelAtoms::new(profile, loss, shares, cancel)?;
        let places = Places::above(-largest);
        return weighted_quantile(&Shifted { pixels, offsets, places, largest }, budget, cancel);
    }
    let (one, found) = (BigRational::one(), image_critical_values(profile, loss, cancel)?);
    let mut values = memory::with_room(found.len(), CRITICALS)?;
    // Labels that are in from the start are in for any t.
    let shifted = |(critical, &offset): (&Option<f64>, &f64)| {
        critical.map(|critical| if critical > 0.0 { critical - offset } else { -largest })
    };
    values.extend(found.iter().zip(offsets).filter_map(shifted));
    let defined = (0..found.len()).filter(|&image| found[image].is_some());
    let shares = defined.map(|image| shares.map_or(&one, |shares| &shares[image]));
    let values = WeightedValues::new(&values, shares, BigRational::clone, cancel)?.down_to(-largest);
    weighted_quantile(&values, budget, cancel)
}

/// The lambdas of images whose offsets are corrected by t: the largest critical value that is in, or 0.
pub fn corrected(offsets: &[f64], t: f64, largest: f64) -> Vec<f64> {
    let lambda = |&offset: &f64| {
        if 0.0 - offset > t { 0.0 } else { f64::largest(|lambda| lambda - offset <= t).min(largest) }
    };
    offsets.iter().map(lambda).collect()
}

/// The critical values of all images minus the images' offsets.
struct Shifted<'a> {
    pixels: PixelAtoms<'a>,
    offsets: &'a [f64],
    places: Places,
    largest: f64,
}

impl Atoms for Shifted<'_> {
    type Weight = BigRational;

    fn weights(&self) -> &[BigRational] {
        self.pixels.weights()
    }

    fn n_parts(&self) -> usize {
        self.pixels.n_parts()
    }

    fn visit(&self, part: usize, cancel: &Cancel, mut visit: impl FnMut(u64, usize)) -> Result<()> {
        let (image, coding, index) = self.pixels.of_image(part);
        let key = |stored| self.places.key(coding.decode(stored) - self.offsets[part]);
        visit_image(image, key, index, cancel, |key, weight| {
            if key > 0 {
                visit(key, weight);
            }
        })
    }

    fn keys(&self) -> RangeInclusive<u64> {
        1..=self.places.key(self.largest)
    }

    fn value(&self, key: u64) -> f64 {
        self.places.value(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrected_lambdas_are_the_float64_definition() {
        let numbers = [0.0, 1e-9, 0.1, 0.3, 0.1 + 0.2, 0.5, 0.9, 1.0];
        for offset in numbers {
            for t in numbers.into_iter().flat_map(|t| [t, -t]) {
                let lambda = corrected(&[offset], t, 1.0)[0];
                assert!((0.0..=1.0).contains(&lambda));
                assert!(lambda == 0.0 || lambda - offset <= t, "{offset} {t}");
                assert!(lambda == 1.0 || lambda.next_up() - offset > t, "{offset} {t}");
            }
        }
        assert_eq!(corrected(&[0.5, 0.25, 0.0], 0.25, 1.0), [0.75, 0.5, 0.25]);
        assert_eq!(corrected(&[0.25], -0.5, 1.0), [0.0]);
        // Differences so near -0.5 are rounded to it.
        assert_eq!(corrected(&[0.5], -0.5, 1.0), [f64::EPSILON / 8.0]);
        assert_eq!(corrected(&[0.5], 0.75, 1.0), [1.0]);
    }
}
