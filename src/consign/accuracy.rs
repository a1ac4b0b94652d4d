//! Whether enough pixels are right: the mean over groups of the share of their pixels, against beta, decided exactly.
//!
//! A group holds the pixels of one label (mean recall over the labels that are there), or all pixels (pixel accuracy).

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, ToPrimitive};

use crate::num::exact::exact_sum;
use crate::threads::Cancel;

/// Bits of a fixed-point accuracy.
const BITS: u32 = 62;

/// The accuracy that is asked for.
#[derive(Debug, Clone)]
pub struct Accuracy {
    /// What one pixel of a group adds, in units of `2^-BITS`, rounded down.
    units: Vec<u64>,
    /// The same as fractions.
    weights: Vec<BigRational>,
    beta: BigRational,
    strict: bool,
    /// Beta in units, rounded down and up.
    floor: u64,
    ceil: u64,
    /// The rounding error of any sum of units is below this.
    error: u64,
}

impl Accuracy {
    /// At least (strict: more than) `beta` in [0, 1]; groups have `sizes` pixels, at least one each.
    pub fn new(sizes: &[u32], beta: BigRational, strict: bool) -> Self {
        let weight = |&size: &u32| BigRational::new(BigInt::one(), BigInt::from(size) * sizes.len());
        let weights: Vec<BigRational> = sizes.iter().map(weight).collect();
        let units = |x: &BigRational| ((x.numer() << BITS) / x.denom()).to_u64().expect("at most 1");
        let floor = units(&beta);
        let is_whole = BigRational::new(BigInt::from(floor), BigInt::one() << BITS) == beta;
        Self {
            units: weights.iter().map(units).collect(),
            weights,
            strict,
            floor,
            ceil: if is_whole { floor } else { floor + 1 },
            error: sizes.iter().map(|&size| u64::from(size)).sum(),
            beta,
        }
    }

    /// Number of groups.
    pub fn n_groups(&self) -> usize {
        self.units.len()
    }

    /// What one pixel of a group adds to a sum.
    pub fn unit(&self, group: u16) -> u64 {
        self.units[usize::from(group)]
    }

    /// The accuracy with so many right pixels of each group, in units, rounded down.
    pub fn sum(&self, right: &[u32]) -> u64 {
        self.units.iter().zip(right).map(|(unit, &count)| unit * u64::from(count)).sum()
    }

    /// Whether the accuracy is enough. The sum decides, unless it is within rounding of beta.
    pub fn is_met(&self, sum: u64, right: &[u32]) -> bool {
        if self.strict {
            if sum > self.floor {
                return true;
            }
        } else if sum >= self.ceil {
            return true;
        }
        if sum + self.error < self.floor {
            return false;
        }
        let order = self.compare(right);
        order == Ordering::Greater || (order == Ordering::Equal && !self.strict)
    }

    fn compare(&self, right: &[u32]) -> Ordering {
        let (numer, denom) = self.exact_sum(right);
        (numer * self.beta.denom()).cmp(&(self.beta.numer() * denom))
    }

    fn exact_sum(&self, right: &[u32]) -> (BigInt, BigInt) {
        let counts: Vec<u64> = right.iter().map(|&count| count.into()).collect();
        exact_sum(&self.weights, &counts, &Cancel::default()).expect("nobody stops it")
    }

    /// The accuracy as a fraction.
    pub fn exact(&self, right: &[u32]) -> BigRational {
        let (numer, denom) = self.exact_sum(right);
        BigRational::new(numer, denom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(sizes: &[u32], right: &[u32], beta: (i64, i64), strict: bool) -> bool {
        let beta = BigRational::new(beta.0.into(), beta.1.into());
        let accuracy = Accuracy::new(sizes, beta, strict);
        accuracy.is_met(accuracy.sum(right), right)
    }

    #[test]
    fn mean_recall_by_hand() {
        // 3 of 8 and 1 of 2: (3/8 + 1/2) / 2 = 7/16.
        assert!(met(&[8, 2], &[3, 1], (7, 16), false));
        assert!(!met(&[8, 2], &[3, 1], (7, 16), true));
        assert!(!met(&[8, 2], &[3, 1], (700_000_000_001, 1_600_000_000_000), false));
        assert!(met(&[8, 2], &[3, 1], (699_999_999_999, 1_600_000_000_000), true));
    }

    #[test]
    fn equality_is_exact_where_fixed_point_is_not() {
        // Thirds, sevenths and tenths have no finite binary expansion.
        for (sizes, right, beta) in [
            (vec![3], vec![1], (1, 3)),
            (vec![7, 3], vec![7, 3], (1, 1)),
            (vec![10], vec![9], (9, 10)),
            (vec![3, 7, 11], vec![1, 2, 5], (248, 693)),
        ] {
            assert_eq!(BigRational::new(beta.0.into(), beta.1.into()), {
                Accuracy::new(&sizes, BigRational::one(), false).exact(&right)
            });
            assert!(met(&sizes, &right, beta, false));
            assert!(!met(&sizes, &right, beta, true));
            let more = (beta.0 * 1_000_000_007 + 1, beta.1 * 1_000_000_007);
            assert!(!met(&sizes, &right, more, false));
        }
    }
}
