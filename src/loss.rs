//! Losses of an image: functions of how many of its labelled pixels, class by class, their sets miss.
//!
//! All of them start from a *miss rate*, a weighted mean over labelled pixels ([`Weighting`]). Either that rate is the loss
//! (miscoverage), or the loss is 1 where the rate exceeds a tolerance and 0 elsewhere (binary). `B = 1` for all; none
//! increases in lambda.

use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};

use crate::error::{Error, Result};
use crate::num::exact::{Weight, exact_sum};
use crate::threads::Cancel;

/// The weights of pixels in the miss rate.
#[derive(Debug, Clone, PartialEq)]
pub enum Weighting {
    /// All pixels of the chosen classes count equally: COSE eq. 15. One flag per class.
    Pooled(Vec<bool>),
    /// A weighted mean of the miss rates of the classes that the image has: COSE eq. 16. One weight per class.
    PerClass(Vec<BigRational>),
}

/// The contribution of a missed pixel to the miss rate of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelWeights {
    /// The weights there are.
    pub weights: Vec<BigRational>,
    /// The index of each class's weight; `None` if its pixels add nothing.
    pub of_class: Vec<Option<usize>>,
}

impl PixelWeights {
    /// From the number of pixels of each class, the number with each weight.
    pub fn counts(&self, of_classes: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; self.weights.len()];
        for (index, count) in self.of_class.iter().zip(of_classes) {
            if let Some(index) = index {
                counts[*index] += count;
            }
        }
        counts
    }
}

/// A loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    weighting: Weighting,
    /// The weights of classes, as floats.
    floats: Vec<f64>,
    tolerance: Option<BigRational>,
    /// A float near the tolerance.
    near: f64,
}

impl Loss {
    /// The miss rate itself, or with a tolerance whether it exceeds that.
    pub fn new(weighting: Weighting, tolerance: Option<BigRational>) -> Self {
        let weighting = match weighting {
            // Weights of any size become floats as shares of the largest one.
            Weighting::PerClass(weights) => {
                let largest = weights.iter().max().filter(|max| !max.is_zero()).cloned();
                let largest = largest.unwrap_or_else(BigRational::one);
                Weighting::PerClass(weights.iter().map(|weight| weight / &largest).collect())
            }
            pooled @ Weighting::Pooled(_) => pooled,
        };
        let floats = match &weighting {
            Weighting::Pooled(_) => Vec::new(),
            Weighting::PerClass(weights) => weights.iter().map(Weight::to_float).collect(),
        };
        let near = tolerance.as_ref().map_or(0.0, Weight::to_float);
        Self { weighting, floats, tolerance, near }
    }

    /// The miss rate above which the loss is 1; `None` if the rate is the loss.
    pub fn tolerance(&self) -> Option<&BigRational> {
        self.tolerance.as_ref()
    }

    /// Whether missed pixels of all classes count equally.
    pub fn looks_at_all_alike(&self) -> bool {
        matches!(&self.weighting, Weighting::Pooled(flags) if flags.iter().all(|&flag| flag))
    }

    /// Fails unless the loss is one of `n_classes` classes.
    pub fn check_classes(&self, n_classes: usize) -> Result<()> {
        let actual = match &self.weighting {
            Weighting::Pooled(flags) => flags.len(),
            Weighting::PerClass(weights) => weights.len(),
        };
        if actual == n_classes { Ok(()) } else { Err(Error::LossClasses { name: "loss", actual, n_classes }) }
    }

    /// The contributions of missed pixels in an image with these class totals; `None` if the miss rate is undefined because
    /// no pixel counts.
    pub fn pixel_weights(&self, totals: &[u64]) -> Option<PixelWeights> {
        match &self.weighting {
            Weighting::Pooled(flags) => {
                let total = pooled(flags, totals);
                let weight = (total > 0).then(|| BigRational::new(1.into(), total.into()))?;
                let of_class = flags.iter().map(|&flag| flag.then_some(0)).collect();
                Some(PixelWeights { weights: vec![weight], of_class })
            }
            Weighting::PerClass(class_weights) => {
                let counts = |(weight, total): (&BigRational, &u64)| *total > 0 && !weight.is_zero();
                let pairs = || class_weights.iter().zip(totals);
                let sum: BigRational = pairs().filter(|&pair| counts(pair)).map(|(weight, _)| weight).sum();
                if sum.is_zero() {
                    return None;
                }
                let mut weights = Vec::new();
                let of_class = pairs()
                    .map(|(weight, &total)| {
                        counts((weight, &total)).then(|| {
                            weights.push(weight / &sum / BigRational::from_integer(total.into()));
                            weights.len() - 1
                        })
                    })
                    .collect();
                Some(PixelWeights { weights, of_class })
            }
        }
    }

    /// The loss of an image; `None` where it is undefined.
    pub fn value(&self, missed: &[u64], totals: &[u64]) -> Option<f64> {
        let rate = self.miss_rate(missed, totals)?;
        let Some(tolerance) = &self.tolerance else { return Some(rate) };
        let near = self.near;
        // The float rate errs by some units in the last place of numbers up to 1.
        if (rate - near).abs() > 1e-9 {
            return Some(f64::from(u8::from(rate > near)));
        }
        let weights = self.pixel_weights(totals)?;
        let fits = Weight::sum_fits(&weights.weights, &weights.counts(missed), tolerance, &Cancel::default());
        Some(f64::from(u8::from(!fits.expect("nobody stops it"))))
    }

    fn miss_rate(&self, missed: &[u64], totals: &[u64]) -> Option<f64> {
        match &self.weighting {
            Weighting::Pooled(flags) => {
                let total = pooled(flags, totals);
                (total > 0).then(|| pooled(flags, missed) as f64 / total as f64)
            }
            Weighting::PerClass(weights) => {
                let (mut rate, mut sum) = (0.0, 0.0);
                let floats = weights.iter().zip(&self.floats);
                for (((exact, &weight), &missed), &total) in floats.zip(missed).zip(totals) {
                    if total > 0 && !exact.is_zero() {
                        rate += weight * (missed as f64 / total as f64);
                        sum += weight;
                    }
                }
                if sum.is_normal() {
                    return Some(rate / sum);
                }
                // Weights are so far apart that floats lose those of the classes in the image.
                let weights = self.pixel_weights(totals)?;
                let sum = exact_sum(&weights.weights, &weights.counts(missed), &Cancel::default());
                let (numer, denom) = sum.expect("nobody stops it");
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
        let found = loss.pixel_weights(&[2, 4, 0]).unwrap();
        assert_eq!(found.weights, [ratio(1, 8), ratio(3, 16)]);
        assert_eq!(found.of_class, [Some(0), Some(1), None]);
        assert_eq!(found.counts(&[1, 3, 0]), [1, 3]);
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
