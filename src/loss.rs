//! Losses of an image: functions of how many of its labelled pixels, class by class, their sets miss.
//!
//! All of them start from a *miss rate*, a weighted mean over labelled pixels ([`Weighting`]). Either that rate is the loss
//! (miscoverage), or the loss is 1 where the rate exceeds a tolerance and 0 elsewhere (binary). `B = 1` for all; none
//! increases in lambda.

use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};

use crate::error::{Error, Result};
use crate::exact::{exact_sum, sum_fits};

/// Which pixels weigh how much in the miss rate.
#[derive(Debug, Clone, PartialEq)]
pub enum Weighting {
    /// All pixels of the chosen classes alike: COSE eq. 15. One flag per class.
    Pooled(Vec<bool>),
    /// A weighted mean of the miss rates of the classes that the image has: COSE eq. 16. One weight per class.
    PerClass(Vec<BigRational>),
}

/// A loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    weighting: Weighting,
    tolerance: Option<BigRational>,
}

impl Loss {
    /// The miss rate itself, or with a tolerance whether it exceeds that.
    pub fn new(weighting: Weighting, tolerance: Option<BigRational>) -> Self {
        let weighting = match weighting {
            // Relative to the largest, weights of any size are floats.
            Weighting::PerClass(weights) => {
                let largest = weights.iter().max().filter(|max| !max.is_zero()).cloned();
                let largest = largest.unwrap_or_else(BigRational::one);
                Weighting::PerClass(weights.iter().map(|weight| weight / &largest).collect())
            }
            pooled @ Weighting::Pooled(_) => pooled,
        };
        Self { weighting, tolerance }
    }

    /// The miss rate above which the loss is 1; `None` if the rate is the loss.
    pub fn tolerance(&self) -> Option<&BigRational> {
        self.tolerance.as_ref()
    }

    /// Fails unless the loss speaks of `n_classes` classes.
    pub fn check_classes(&self, n_classes: usize) -> Result<()> {
        let actual = match &self.weighting {
            Weighting::Pooled(flags) => flags.len(),
            Weighting::PerClass(weights) => weights.len(),
        };
        if actual == n_classes { Ok(()) } else { Err(Error::LossClasses { name: "loss", actual, n_classes }) }
    }

    /// What one missed pixel of each class adds to the miss rate of an image with these class totals; `None` if the rate
    /// is undefined because no pixel counts.
    pub fn class_weights(&self, totals: &[u64]) -> Option<Vec<BigRational>> {
        let ratio = |numer: BigRational, denom: u64| {
            if denom == 0 { BigRational::zero() } else { numer / BigRational::from_integer(denom.into()) }
        };
        match &self.weighting {
            Weighting::Pooled(flags) => {
                let total = pooled(flags, totals);
                let of_class = |&flag: &bool| ratio(BigRational::from_integer(u8::from(flag).into()), total);
                (total > 0).then(|| flags.iter().map(of_class).collect())
            }
            Weighting::PerClass(weights) => {
                let present = weights.iter().zip(totals).filter(|(_, total)| **total > 0).map(|(w, _)| w);
                let sum: BigRational = present.sum();
                let of_class = |(w, &total): (&BigRational, &u64)| ratio(w / &sum, total);
                (!sum.is_zero()).then(|| weights.iter().zip(totals).map(of_class).collect())
            }
        }
    }

    /// The loss of an image; `None` where it is undefined.
    pub fn value(&self, missed: &[u64], totals: &[u64]) -> Option<f64> {
        let rate = self.miss_rate(missed, totals)?;
        let Some(tolerance) = &self.tolerance else { return Some(rate) };
        let near = tolerance.to_f64().unwrap_or(f64::MAX);
        // The float rate errs by some units in the last place of numbers up to 1.
        if (rate - near).abs() > 1e-9 {
            return Some(f64::from(u8::from(rate > near)));
        }
        let weights = self.class_weights(totals)?;
        Some(f64::from(u8::from(!sum_fits(&weights, missed, tolerance))))
    }

    fn miss_rate(&self, missed: &[u64], totals: &[u64]) -> Option<f64> {
        match &self.weighting {
            Weighting::Pooled(flags) => {
                let total = pooled(flags, totals);
                (total > 0).then(|| pooled(flags, missed) as f64 / total as f64)
            }
            Weighting::PerClass(weights) => {
                let (mut rate, mut sum) = (0.0, 0.0);
                for ((weight, &missed), &total) in weights.iter().zip(missed).zip(totals) {
                    if total > 0 && !weight.is_zero() {
                        let weight = weight.to_f64().unwrap_or(f64::MAX);
                        rate += weight * (missed as f64 / total as f64);
                        sum += weight;
                    }
                }
                if sum.is_normal() {
                    return Some(rate / sum);
                }
                // Weights so far apart that floats lose those of the classes at hand.
                let (numer, denom) = exact_sum(&self.class_weights(totals)?, missed);
                BigRational::new(numer, denom).to_f64()
            }
        }
    }
}

fn pooled(flags: &[bool], counts: &[u64]) -> u64 {
    flags.iter().zip(counts).filter(|(flag, _)| **flag).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numer: i64, denom: i64) -> BigRational {
        BigRational::new(numer.into(), denom.into())
    }

    #[test]
    fn pooled_miscoverage() {
        let loss = Loss::new(Weighting::Pooled(vec![true; 3]), None);
        assert_eq!(loss.value(&[1, 2, 0], &[4, 4, 2]), Some(0.3));
        assert_eq!(loss.value(&[0, 0, 0], &[0, 0, 0]), None);
        let first = Loss::new(Weighting::Pooled(vec![true, false, false]), None);
        assert_eq!(first.value(&[1, 2, 0], &[4, 4, 2]), Some(0.25));
        assert_eq!(first.value(&[0, 2, 0], &[0, 4, 2]), None);
    }

    #[test]
    fn absent_classes_drop_out_of_both_sums() {
        let loss = Loss::new(Weighting::PerClass(vec![ratio(1, 1), ratio(3, 1), ratio(5, 1)]), None);
        assert_eq!(loss.value(&[1, 1, 0], &[2, 4, 0]), Some((0.5 + 3.0 * 0.25) / 4.0));
        let weights = loss.class_weights(&[2, 4, 0]).unwrap();
        assert_eq!(weights, [ratio(1, 8), ratio(3, 16), ratio(0, 1)]);
    }

    #[test]
    fn the_binary_loss_counts_pixels_exactly() {
        // 7 of 10 covered is not below 0.7, although 1 - 0.7 > 0.3 and 3 / 10 < 0.3 + eps in float64.
        let loss =
            |numer, denom| Loss::new(Weighting::Pooled(vec![true]), Some(ratio(1, 1) - ratio(numer, denom)));
        assert_eq!(loss(7, 10).value(&[3], &[10]), Some(0.0));
        assert_eq!(loss(7, 10).value(&[4], &[10]), Some(1.0));
        assert_eq!(loss(1, 1).value(&[1], &[1_000_000_007]), Some(1.0));
        assert_eq!(loss(1, 1).value(&[0], &[1_000_000_007]), Some(0.0));
    }
}
