//! Weighted counts in exact rational arithmetic.

use std::collections::HashMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

/// Whether `sum(count * weight) <= limit`, exactly.
pub fn sum_fits(weights: &[BigRational], counts: &[u64], limit: &BigRational) -> bool {
    let (numer, denom) = exact_sum(weights, counts);
    // No reduction to lowest terms on the way: with many images the terms are long.
    numer * limit.denom() <= limit.numer() * denom
}

/// `sum(count * weight)` as a fraction, not in lowest terms.
pub fn exact_sum(weights: &[BigRational], counts: &[u64]) -> (BigInt, BigInt) {
    let mut by_denominator: HashMap<&BigInt, BigInt> = HashMap::new();
    for (weight, &count) in weights.iter().zip(counts).filter(|(_, count)| **count > 0) {
        *by_denominator.entry(weight.denom()).or_default() += weight.numer() * count;
    }
    let mut terms: Vec<(BigInt, BigInt)> =
        by_denominator.into_iter().map(|(denom, numer)| (numer, denom.clone())).collect();
    while terms.len() > 1 {
        terms = terms
            .chunks(2)
            .map(|pair| match pair {
                [(n1, d1), (n2, d2)] => (n1 * d2 + n2 * d1, d1 * d2),
                rest => rest[0].clone(),
            })
            .collect();
    }
    terms.pop().unwrap_or_else(|| (BigInt::zero(), BigInt::from(1)))
}
