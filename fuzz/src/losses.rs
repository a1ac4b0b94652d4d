//! Losses as their definition reads, in rational numbers.

use arbitrary::{Result, Unstructured};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use _core::loss::{Loss, Weighting};

/// A fraction.
pub fn ratio(numer: i64, denom: i64) -> BigRational {
    BigRational::new(numer.into(), denom.into())
}

/// Smaller than differences of sums that are drawn on purpose.
pub fn tiny() -> BigRational {
    BigRational::new(BigInt::one(), BigInt::from(10).pow(60))
}

/// A loss by its parts.
#[derive(Debug, Clone)]
pub struct Twin {
    weighting: Weighting,
    tolerance: Option<BigRational>,
}

impl Twin {
    /// Any loss of K classes.
    pub fn any(u: &mut Unstructured<'_>, n_classes: usize) -> Result<Self> {
        let weights = [
            ratio(1, 1),
            ratio(0, 1),
            ratio(1, 3),
            ratio(1, 10),
            ratio(2, 7),
            ratio(1, 1 << 62),
            ratio(1 << 40, 1),
        ];
        let kind: u8 = u.arbitrary()?;
        let weighting = match kind % 4 {
            0 => Weighting::Pooled(vec![true; n_classes]),
            1 => Weighting::Pooled((0..n_classes).map(|_| u.arbitrary()).collect::<Result<_>>()?),
            2 => Weighting::PerClass(vec![ratio(1, 1); n_classes]),
            _ => {
                let weight = |_| Ok(u.choose(&weights)?.clone());
                Weighting::PerClass((0..n_classes).map(weight).collect::<Result<_>>()?)
            }
        };
        let tolerances =
            [ratio(0, 1), ratio(1, 10), ratio(3, 10), ratio(1, 2), ratio(1, 1), ratio(1, 1 << 50)];
        let tolerance = if kind & 0x30 == 0x30 { Some(u.choose(&tolerances)?.clone()) } else { None };
        Ok(Self { weighting, tolerance })
    }

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

/// The summed loss at lambda, image `i` counting `shares[i]` times.
pub fn risk(
    twin: &Twin,
    images: &[Pixels],
    n_classes: usize,
    shares: &[BigRational],
    lambda: f64,
) -> BigRational {
    let loss = |(pixels, share): (&Pixels, &BigRational)| {
        let [missed, totals] = counts(pixels, n_classes, lambda);
        twin.value(&missed, &totals).map(|value| value * share)
    };
    images.iter().zip(shares).filter_map(loss).sum()
}

/// The smallest lambda, of those where the risk may jump, at which it is within the budget.
pub fn lambda_hat(
    twin: &Twin,
    images: &[Pixels],
    n_classes: usize,
    shares: &[BigRational],
    budget: &BigRational,
) -> Option<f64> {
    if budget.is_negative() {
        return None;
    }
    let mut jumps: Vec<f64> = images.iter().flatten().map(|(_, critical)| *critical).chain([0.0]).collect();
    jumps.sort_by(f64::total_cmp);
    jumps.dedup();
    let first = jumps.partition_point(|&lambda| risk(twin, images, n_classes, shares, lambda) > *budget);
    jumps.get(first).copied()
}
