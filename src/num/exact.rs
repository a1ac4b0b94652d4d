//! Weighted counts in exact arithmetic.

use std::collections::HashMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{ToPrimitive, Zero};

use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// Weights between two checks for cancellation.
const RUN: usize = 1 << 10;
/// From `MANY` weights on, sums are first formed in fixed point, with `DIGITS` binary digits.
const MANY: usize = 64;
const DIGITS: u32 = 512;

/// A weight, at least 0: a fraction, or a float that means exactly itself.
pub trait Weight: Sized + Send + Sync {
    /// A float near it.
    fn to_float(&self) -> f64;

    /// `floor(weight * 2^shift)`, or the largest number that there is.
    fn scaled(&self, shift: i64) -> u64;

    /// Whether `sum(count * weight) <= limit`, exactly; the limit is at least 0.
    fn sum_fits(weights: &[Self], counts: &[u64], limit: &BigRational, cancel: &Cancel) -> Result<bool>;
}

impl Weight for BigRational {
    fn to_float(&self) -> f64 {
        self.to_f64().unwrap_or(f64::MAX)
    }

    fn scaled(&self, shift: i64) -> u64 {
        let (numer, denom) = (self.numer(), self.denom());
        let scaled = if shift >= 0 { (numer << shift) / denom } else { numer / (denom << -shift) };
        scaled.to_u64().unwrap_or(u64::MAX)
    }

    fn sum_fits(weights: &[Self], counts: &[u64], limit: &BigRational, cancel: &Cancel) -> Result<bool> {
        if weights.len() > MANY {
            // The common denominator of many weights is long. Mostly so many digits are enough.
            let scaled = |x: &BigRational| (x.numer() << DIGITS) / x.denom();
            let (mut sum, mut n_atoms) = (BigInt::zero(), 0_u128);
            for (weights, counts) in weights.chunks(RUN).zip(counts.chunks(RUN)) {
                cancel.check()?;
                for (weight, &count) in weights.iter().zip(counts).filter(|(_, count)| **count > 0) {
                    sum += scaled(weight) * count;
                    n_atoms += u128::from(count);
                }
            }
            let limit = scaled(limit);
            if sum > limit {
                return Ok(false);
            }
            if sum + n_atoms <= limit {
                return Ok(true);
            }
        }
        let (numer, denom) = exact_sum(weights, counts, cancel)?;
        // Fractions are not reduced on the way, because with many images their terms are long.
        Ok(numer * limit.denom() <= limit.numer() * denom)
    }
}

/// Bits of a mantissa after the point.
const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
/// Floats are whole multiples of 2 to minus this.
pub const SMALLEST: u32 = 1074;

/// A finite float that is not negative, as `mantissa * 2^(place - SMALLEST)`.
fn parts(x: f64) -> (u64, u32) {
    // Adding 0 turns -0 into 0.
    let bits = (x + 0.0).to_bits();
    let (exponent, fraction) = ((bits >> MANTISSA) as u32, bits & ((1 << MANTISSA) - 1));
    if exponent == 0 { (fraction, 0) } else { (fraction | 1 << MANTISSA, exponent - 1) }
}

impl Weight for f64 {
    fn to_float(&self) -> f64 {
        *self
    }

    fn scaled(&self, shift: i64) -> u64 {
        let (mantissa, place) = parts(*self);
        let shift = shift + i64::from(place) - i64::from(SMALLEST);
        if shift <= 0 {
            mantissa.checked_shr(shift.unsigned_abs() as u32).unwrap_or(0)
        } else if shift <= mantissa.leading_zeros().into() {
            mantissa << shift
        } else if mantissa == 0 {
            0
        } else {
            u64::MAX
        }
    }

    fn sum_fits(weights: &[Self], counts: &[u64], limit: &BigRational, cancel: &Cancel) -> Result<bool> {
        // Of each place the sum of at most 2^64 mantissas.
        let mut sums = vec![0_u128; 2048];
        for (weights, counts) in weights.chunks(RUN).zip(counts.chunks(RUN)) {
            cancel.check()?;
            for (&weight, &count) in weights.iter().zip(counts) {
                let (mantissa, place) = parts(weight);
                sums[place as usize] += u128::from(mantissa) * u128::from(count);
            }
        }
        let places = sums.into_iter().enumerate().filter(|(_, sum)| *sum > 0);
        let total: BigInt = places.map(|(place, sum)| BigInt::from(sum) << place).sum();
        Ok(total * limit.denom() <= limit.numer() << SMALLEST)
    }
}

/// `sum(count * weight)` as a fraction, not in lowest terms.
pub fn exact_sum(weights: &[BigRational], counts: &[u64], cancel: &Cancel) -> Result<(BigInt, BigInt)> {
    const WHAT: &str = "the denominators of weights";
    let mut by_denominator: HashMap<&BigInt, BigInt> = HashMap::new();
    for (weight, &count) in weights.iter().zip(counts).filter(|(_, count)| **count > 0) {
        cancel.check()?;
        memory::reserve_entry(&mut by_denominator, WHAT)?;
        *by_denominator.entry(weight.denom()).or_default() += weight.numer() * count;
    }
    let each = by_denominator.into_iter().map(|(denom, numer)| (numer, denom.clone()));
    let mut terms: Vec<(BigInt, BigInt)> = memory::collected(each, WHAT)?;
    while terms.len() > 1 {
        let join = |pair: &[(BigInt, BigInt)]| {
            cancel.check()?;
            Ok(match pair {
                [(n1, d1), (n2, d2)] => (n1 * d2 + n2 * d1, d1 * d2),
                rest => rest[0].clone(),
            })
        };
        terms = memory::all(terms.chunks(2).map(join), WHAT)?;
    }
    Ok(terms.pop().unwrap_or_else(|| (BigInt::zero(), BigInt::from(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of any size, with ties of sums.
    fn floats() -> Vec<f64> {
        let mut floats =
            vec![0.0, 5e-324, 1e-310, f64::MIN_POSITIVE, 0.1, 0.2, 0.3, 1.0, 1.5, 1e15, f64::MAX];
        floats.extend((1..200_u32).map(|i| f64::from(i) * 0.01));
        floats
    }

    #[test]
    fn floats_are_fractions() {
        for float in floats() {
            let fraction = BigRational::from_float(float).unwrap();
            assert_eq!(fraction.to_float(), float);
            for shift in [-1000, -64, -60, -1, 0, 1, 10, 53, 62, 63, 64, 1000, 1074, 1200] {
                assert_eq!(float.scaled(shift), fraction.scaled(shift), "{float} {shift}");
            }
        }
    }

    #[test]
    fn sums_are_decided_exactly() {
        let floats = floats();
        let fractions: Vec<_> = floats.iter().map(|&float| BigRational::from_float(float).unwrap()).collect();
        let counts: Vec<u64> = (0..floats.len() as u64).map(|i| i * i % 7).collect();
        let cancel = Cancel::default();
        let (numer, denom) = exact_sum(&fractions, &counts, &cancel).unwrap();
        let sum = BigRational::new(numer, denom);
        let tiny = BigRational::new(1.into(), BigInt::from(1) << 2000);
        for (limit, fits) in
            [(&sum - &tiny, false), (sum.clone(), true), (&sum + &tiny, true), (&sum / &fractions[6], true)]
        {
            assert_eq!(f64::sum_fits(&floats, &counts, &limit, &cancel), Ok(fits));
            assert_eq!(BigRational::sum_fits(&fractions, &counts, &limit, &cancel), Ok(fits));
            assert_eq!(BigRational::sum_fits(&fractions[..50], &counts, &limit, &cancel), Ok(true));
        }
        cancel.set();
        assert!(exact_sum(&fractions, &counts, &cancel).is_err());
    }
}
