//! Slow exact twins of what kernels are held to, as the definitions read: for tests, and for random input of `fuzz/`.

use _core::loss::{Loss, Weighting};
use _core::score::{BaseSpec, Spec};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// A fraction.
pub fn ratio(numer: i64, denom: i64) -> BigRational {
    BigRational::new(numer.into(), denom.into())
}

/// Smaller than any difference of sums that is drawn on purpose.
pub fn tiny() -> BigRational {
    BigRational::new(BigInt::one(), BigInt::from(10).pow(60))
}

/// Weights that floats cannot hold, and others that lie far apart.
pub fn weights() -> [BigRational; 7] {
    [
        ratio(0, 1),
        ratio(1, 3),
        ratio(1, 10),
        ratio(2, 7),
        ratio(1, 1 << 62),
        ratio(1 << 40, 1),
        ratio(1_000_000_007, 1_000_000_009),
    ]
}

/// The lowest of the most probable classes.
fn top1(probabilities: &[f64]) -> usize {
    let largest = probabilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    probabilities.iter().position(|&p| p == largest).unwrap_or(0)
}

/// The lambda from which on the set of a pixel holds a class, by the definition; `None` of what has no twin.
pub fn critical(probabilities: &[f64], class: usize, spec: Spec) -> Option<f64> {
    let p = probabilities[class];
    match spec {
        Spec::Pixelwise(BaseSpec::Lac { include_top1 }) => {
            let is_first = include_top1 && class == top1(probabilities);
            Some(if is_first { 0.0 } else { (1.0 - p).max(0.0) })
        }
        Spec::Pixelwise(BaseSpec::Raps { penalty, k_reg }) => {
            let n_classes = probabilities.len();
            let before = |k: &usize| probabilities[*k] > p || (probabilities[*k] == p && *k < class);
            // In units of 2^-53: integers know no order of summation.
            let unit = 2_f64.powi(-53);
            let (mut mass, mut rank) = (0_u64, 1);
            for k in (0..n_classes).filter(before) {
                mass += (probabilities[k] / unit).round_ties_even() as u64;
                rank += 1;
            }
            let k_reg = k_reg.unwrap_or((n_classes / 2).max(1));
            let excess = |rank: usize| penalty * rank.saturating_sub(k_reg) as f64;
            Some(((mass as f64 * unit).min(1.0) + excess(rank)).min(1.0 + excess(n_classes)))
        }
        Spec::Pixelwise(BaseSpec::Given { .. }) => Some(p),
        Spec::Sacp(..) => None,
    }
}

/// The labelled pixels of an image: classes and critical values.
pub type Pixels = Vec<(usize, f64)>;

/// Missed pixels of each class at lambda, and all of them.
pub fn counts(pixels: &Pixels, n_classes: usize, lambda: f64) -> [Vec<u64>; 2] {
    let mut counts = [vec![0; n_classes], vec![0; n_classes]];
    for &(class, critical) in pixels {
        counts[0][class] += u64::from(critical > lambda);
        counts[1][class] += 1;
    }
    counts
}

/// A loss by its parts.
#[derive(Debug, Clone)]
pub struct LossTwin {
    pub weighting: Weighting,
    pub tolerance: Option<BigRational>,
}

impl LossTwin {
    /// The loss itself.
    pub fn loss(&self) -> Loss {
        Loss::new(self.weighting.clone(), self.tolerance.clone())
    }

    /// The loss of an image with so many missed pixels of each class; `None` where it is undefined.
    pub fn value(&self, missed: &[u64], totals: &[u64]) -> Option<BigRational> {
        let whole = |n: u64| BigRational::from_integer(n.into());
        let rate = match &self.weighting {
            Weighting::Pooled(flags) => {
                let sum = |counts: &[u64]| -> u64 {
                    flags.iter().zip(counts).filter(|(f, _)| **f).map(|(_, n)| n).sum()
                };
                if sum(totals) == 0 {
                    return None;
                }
                whole(sum(missed)) / whole(sum(totals))
            }
            Weighting::PerClass(weights) => {
                let (mut sum, mut total) = (BigRational::zero(), BigRational::zero());
                for ((weight, &missed), &n) in weights.iter().zip(missed).zip(totals).filter(|(_, n)| **n > 0)
                {
                    sum += weight * whole(missed) / whole(n);
                    total += weight;
                }
                if total.is_zero() {
                    return None;
                }
                sum / total
            }
        };
        let Some(tolerance) = &self.tolerance else { return Some(rate) };
        Some(if rate > *tolerance { BigRational::one() } else { BigRational::zero() })
    }

    /// The same at lambda.
    pub fn at(&self, pixels: &Pixels, lambda: f64) -> Option<BigRational> {
        let n_classes = match &self.weighting {
            Weighting::Pooled(flags) => flags.len(),
            Weighting::PerClass(weights) => weights.len(),
        };
        let [missed, totals] = counts(pixels, n_classes, lambda);
        self.value(&missed, &totals)
    }

    /// The summed loss at lambda, image `i` counting `shares[i]` times.
    pub fn risk(&self, images: &[Pixels], shares: &[BigRational], lambda: f64) -> BigRational {
        let losses = images.iter().zip(shares).map(|(image, share)| Some(self.at(image, lambda)? * share));
        losses.flatten().sum()
    }

    /// The infimum: the first of the places where the risk may jump at which it is within the budget.
    pub fn lambda_hat(&self, images: &[Pixels], shares: &[BigRational], budget: &BigRational) -> Option<f64> {
        if budget.is_negative() {
            return None;
        }
        let criticals = images.iter().flatten().map(|(_, critical)| *critical);
        let mut jumps: Vec<f64> = criticals.chain([0.0]).collect();
        jumps.sort_by(f64::total_cmp);
        jumps.dedup();
        let first = jumps.partition_point(|&lambda| self.risk(images, shares, lambda) > *budget);
        jumps.get(first).copied()
    }
}
