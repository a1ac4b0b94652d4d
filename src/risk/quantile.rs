//! The weighted quantile behind every lambda-hat: exact, and without a sort.
//!
//! Given *atoms*, each a value and a weight (a rational number, one of few), and a budget, it finds
//!
//! ```text
//! inf { t >= least : the weight of the atoms above t is at most the budget }
//! ```
//!
//! where `least` is 0 for lambda, and less for what may be negative.
//!
//! Weights are rounded down to fixed point, so that sums are integers: the same bits in any order, and too small by less
//! than one unit per atom. A radix selection over those sums narrows the values down to the few that rounding cannot tell
//! apart, most often none or one. Those are decided in exact rational arithmetic.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;

use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};
use rayon::prelude::*;

use crate::num::exact::sum_fits;

/// Digits of one round of the selection, as a power of two.
const DIGIT_BITS: u32 = 13;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Below so many atoms, and where this share of all is left, a sort is as good.
const FEW: u64 = 4096;
const SMALL_SHARE: u64 = 64;

/// Bits of a fixed-point sum.
const SUM_BITS: i64 = 62;

/// A weighted multiset, in parts that can be walked in parallel. Values are known by keys: whole numbers in the order of
/// the values, from 1. Key 0 is that of the least `t`, above which all atoms that are visited lie.
pub trait Atoms: Sync {
    /// The weights that atoms refer to; none is negative.
    fn weights(&self) -> &[BigRational];

    /// Number of parts.
    fn n_parts(&self) -> usize;

    /// Calls `visit(key, index of its weight)` for each atom of a part.
    fn visit(&self, part: usize, visit: impl FnMut(u64, usize));

    /// A range that holds all keys.
    fn keys(&self) -> RangeInclusive<u64>;

    /// A part of it in which to expect most of them: there the first round of a selection looks closely.
    fn usual_keys(&self) -> RangeInclusive<u64> {
        self.keys()
    }

    /// The value behind a key.
    fn value(&self, key: u64) -> f64;

    /// The number of atoms above a key with each weight.
    fn counts_above(&self, limit: u64) -> Vec<u64> {
        let zeros = || vec![0_u64; self.weights().len()];
        (0..self.n_parts())
            .into_par_iter()
            .fold(zeros, |mut counts, part| {
                self.visit(part, |key, weight| counts[weight] += u64::from(key > limit));
                counts
            })
            .reduce(zeros, |mut left, right| {
                left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
                left
            })
    }

    /// The number of atoms with each weight.
    fn counts(&self) -> Vec<u64> {
        self.counts_above(0)
    }
}

/// The quantile; `None` if the budget is negative.
pub fn weighted_quantile<A: Atoms>(atoms: &A, budget: &BigRational) -> Option<f64> {
    if budget.is_negative() {
        return None;
    }
    let counts = atoms.counts();
    let fixed = FixedPoint::new(atoms.weights(), &counts, budget);
    if fixed.fits(fixed.total(&counts)).unwrap_or_else(|| sum_fits(atoms.weights(), &counts, budget)) {
        return Some(atoms.value(0));
    }
    Some(Selection { atoms, budget, fixed }.smallest_fitting())
}

/// Weights and budget in units of `2^-shift`, rounded down.
struct FixedPoint {
    weights: Vec<u64>,
    budget: u64,
    /// No sum is too small by as much.
    error: u64,
}

impl FixedPoint {
    fn new(weights: &[BigRational], counts: &[u64], budget: &BigRational) -> Self {
        let n_atoms: u64 = counts.iter().sum();
        let total: f64 =
            weights.iter().zip(counts).map(|(w, &c)| w.to_f64().unwrap_or(f64::MAX) * c as f64).sum();
        // One bit of slack covers the rounding of `total`.
        let shift = SUM_BITS - (total.log2().ceil().clamp(-1e3, 2e3) as i64).max(0) - 1;
        let floor = |x: &BigRational| {
            let (numer, denom) = (x.numer(), x.denom());
            let scaled = if shift >= 0 { (numer << shift) / denom } else { numer / (denom << -shift) };
            scaled.to_u64().unwrap_or(u64::MAX)
        };
        // What exceeds any sum need not be told apart.
        let budget = floor(budget).min(1 << 63);
        Self { weights: weights.iter().map(floor).collect(), budget, error: n_atoms }
    }

    fn total(&self, counts: &[u64]) -> u64 {
        self.weights.iter().zip(counts).map(|(w, c)| w * c).sum()
    }

    /// Whether a true weight whose rounded sum is `sum` is within the budget; `None` if rounding hides it.
    fn fits(&self, sum: u64) -> Option<bool> {
        if sum > self.budget {
            Some(false)
        } else if sum + self.error <= self.budget {
            Some(true)
        } else {
            None
        }
    }
}

/// Rounded weight and number of the atoms of one digit.
#[derive(Clone, Copy, Default)]
struct Digit {
    weight: u64,
    count: u64,
}

/// Atoms whose values are close to each other.
struct Cluster {
    keys: RangeInclusive<u64>,
    n_atoms: u64,
    /// Rounded weight of all atoms above.
    above: u64,
}

/// The search for the smallest value of an atom that fits the budget, when the least `t` does not.
struct Selection<'a, A> {
    atoms: &'a A,
    budget: &'a BigRational,
    fixed: FixedPoint,
}

impl<A: Atoms> Selection<'_, A> {
    fn smallest_fitting(&self) -> f64 {
        let n_atoms = self.fixed.error;
        let mut cluster = Cluster { keys: self.atoms.keys(), n_atoms, above: 0 };
        let mut scale = self.atoms.usual_keys();
        while cluster.keys.start() < cluster.keys.end() {
            let is_small = cluster.n_atoms <= FEW.max(n_atoms / SMALL_SHARE);
            let parts = if is_small { self.values(&cluster) } else { self.digits(&cluster, &scale) };
            cluster = self.last_fitting(parts);
            scale = cluster.keys.clone();
        }
        self.atoms.value(*cluster.keys.start())
    }

    /// The last of the clusters, which descend, whose largest value fits the budget: the quantile is in there.
    fn last_fitting(&self, mut clusters: Vec<Cluster>) -> Cluster {
        // From the top: surely within the budget, then too close to tell, then surely beyond it.
        let first_unsure = clusters.partition_point(|c| self.fixed.fits(c.above) == Some(true));
        let first_beyond = clusters.partition_point(|c| self.fixed.fits(c.above) != Some(false));
        let n_fitting = clusters[first_unsure..first_beyond].partition_point(|c| {
            let counts = self.atoms.counts_above(*c.keys.end());
            sum_fits(self.atoms.weights(), &counts, self.budget)
        });
        clusters.swap_remove(first_unsure + n_fitting - 1)
    }

    /// Splits a cluster by the next digit of its keys on a scale; what is off the scale has its first or last digit.
    fn digits(&self, cluster: &Cluster, scale: &RangeInclusive<u64>) -> Vec<Cluster> {
        let (start, end) = (*scale.start(), *scale.end());
        let shift = (u64::BITS - (end - start).leading_zeros()).saturating_sub(DIGIT_BITS);
        let join = |mut left: Vec<Digit>, right: Vec<Digit>| {
            for (l, r) in left.iter_mut().zip(right) {
                *l = Digit { weight: l.weight + r.weight, count: l.count + r.count };
            }
            left
        };
        let digits = self.visit_all(
            cluster,
            || vec![Digit::default(); DIGITS],
            join,
            |digits, key, weight| {
                let digit = &mut digits[((key.clamp(start, end) - start) >> shift) as usize];
                digit.weight += weight;
                digit.count += 1;
            },
        );
        let mut above = cluster.above;
        let occupied = digits.iter().enumerate().rev().filter(|(_, digit)| digit.count > 0);
        occupied
            .map(|(index, digit)| {
                let index = index as u64;
                let first = if index == 0 { *cluster.keys.start() } else { start + (index << shift) };
                let is_last = index == (end - start) >> shift;
                let last = if is_last { *cluster.keys.end() } else { start + ((index + 1) << shift) - 1 };
                let part = Cluster { keys: first..=last, n_atoms: digit.count, above };
                above += digit.weight;
                part
            })
            .collect()
    }

    /// Splits a cluster into its values.
    fn values(&self, cluster: &Cluster) -> Vec<Cluster> {
        let join = |mut left: Vec<_>, mut right: Vec<_>| {
            left.append(&mut right);
            left
        };
        let mut atoms =
            self.visit_all(cluster, Vec::new, join, |atoms, key, weight| atoms.push((key, weight)));
        atoms.sort_unstable_by(|left, right| right.cmp(left));
        let mut above = cluster.above;
        atoms
            .chunk_by(|left, right| left.0 == right.0)
            .map(|equals| {
                let key = equals[0].0;
                let part = Cluster { keys: key..=key, n_atoms: equals.len() as u64, above };
                above += equals.iter().map(|(_, weight)| weight).sum::<u64>();
                part
            })
            .collect()
    }

    /// Folds `add(key, rounded weight)` over the atoms of a cluster.
    fn visit_all<T: Send>(
        &self,
        cluster: &Cluster,
        new: impl Fn() -> T + Sync + Send,
        join: impl Fn(T, T) -> T + Sync + Send,
        add: impl Fn(&mut T, u64, u64) + Sync,
    ) -> T {
        let (start, span) = (*cluster.keys.start(), cluster.keys.end() - cluster.keys.start());
        let n_parts = self.atoms.n_parts();
        (0..n_parts)
            .into_par_iter()
            // A tally per thread, more or less, not one per part: they are large.
            .with_min_len(n_parts.div_ceil(2 * rayon::current_num_threads()))
            .fold(&new, |mut folded, part| {
                self.atoms.visit(part, |key, weight| {
                    if key.wrapping_sub(start) <= span {
                        add(&mut folded, key, self.fixed.weights[weight]);
                    }
                });
                folded
            })
            .reduce(&new, join)
    }
}

/// Plain values with a weight each, as atoms.
pub struct WeightedValues<'a> {
    values: &'a [f64],
    weights: Vec<BigRational>,
    index: Vec<usize>,
    /// The place of the least `t` in the order of floats.
    least: i64,
}

/// The place of a finite float in the order of all: 0 for 0 and -0, and one more for each next float.
fn place(value: f64) -> i64 {
    let magnitude = value.abs().to_bits() as i64;
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The float at a place.
fn at_place(place: i64) -> f64 {
    let magnitude = f64::from_bits(place.unsigned_abs());
    if place < 0 { -magnitude } else { magnitude }
}

impl<'a> WeightedValues<'a> {
    /// Values must be finite. Equal weights are kept once, and only those are made `exact`: there are few.
    pub fn new<W: Eq + Hash>(
        values: &'a [f64],
        weights: impl IntoIterator<Item = W>,
        exact: impl Fn(W) -> BigRational,
    ) -> Self {
        let mut places: HashMap<W, usize> = HashMap::new();
        let index = weights
            .into_iter()
            .map(|weight| {
                let next = places.len();
                *places.entry(weight).or_insert(next)
            })
            .collect();
        let mut weights = vec![BigRational::zero(); places.len()];
        for (weight, place) in places {
            weights[place] = exact(weight);
        }
        Self { values, weights, index, least: 0 }
    }

    /// Lets the quantile be as small as a finite number, instead of 0.
    #[must_use]
    pub fn down_to(mut self, least: f64) -> Self {
        self.least = place(least);
        self
    }
}

/// Values of one part of [`WeightedValues`].
const PART: usize = 1 << 16;

impl Atoms for WeightedValues<'_> {
    fn weights(&self) -> &[BigRational] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        self.values.len().div_ceil(PART)
    }

    fn visit(&self, part: usize, mut visit: impl FnMut(u64, usize)) {
        let first = part * PART;
        let last = (first + PART).min(self.values.len());
        // What is not above the least t is never above anything.
        (first..last)
            .map(|i| (place(self.values[i]), self.index[i]))
            .filter(|(place, _)| *place > self.least)
            .for_each(|(place, weight)| visit(place.abs_diff(self.least), weight));
    }

    fn keys(&self) -> RangeInclusive<u64> {
        1..=place(f64::MAX).abs_diff(self.least)
    }

    fn value(&self, key: u64) -> f64 {
        at_place(self.least.wrapping_add_unsigned(key))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::identity;

    use super::*;

    fn ratio(numer: i64, denom: i64) -> BigRational {
        BigRational::new(numer.into(), denom.into())
    }

    fn quantile(values: &[f64], weights: &[(i64, i64)], budget: (i64, i64)) -> Option<f64> {
        let weights = weights.iter().map(|&(n, d)| ratio(n, d));
        weighted_quantile(&WeightedValues::new(values, weights, identity), &ratio(budget.0, budget.1))
    }

    #[test]
    fn order_statistic_by_hand() {
        let values = [0.1, 0.2, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0];
        let ones = [(1, 1); 9];
        // k = ceil(10 * 0.8) = 8: the budget is 0.2 * 10 - 1 = 1.
        assert_eq!(quantile(&values, &ones, (1, 1)), Some(1.0));
        assert_eq!(quantile(&values, &ones, (0, 1)), Some(2.0));
        assert_eq!(quantile(&values, &ones, (9, 1)), Some(0.0));
        assert_eq!(quantile(&values, &ones, (-1, 2)), None);
        assert_eq!(quantile(&[], &[], (0, 1)), Some(0.0));
    }

    #[test]
    fn equality_is_exact_where_floats_are_not() {
        // Three times a tenth is 3/10, and 0.1 + 0.1 + 0.1 > 0.3 in float64.
        let values = [0.5, 0.6, 0.7, 0.4];
        let tenths = [(1, 10); 4];
        assert_eq!(quantile(&values, &tenths, (3, 10)), Some(0.4));
        assert_eq!(quantile(&values, &tenths, (299_999_999_999_999, 1_000_000_000_000_000)), Some(0.5));
    }

    #[test]
    fn ties_and_many_equal_values() {
        let mut values = vec![0.25; 10_000];
        values.resize(20_000, 0.75);
        let weights = vec![(1, 3); 20_000];
        assert_eq!(quantile(&values, &weights, (10_000, 3)), Some(0.25));
        assert_eq!(quantile(&values, &weights, (9_999, 3)), Some(0.75));
        assert_eq!(quantile(&values, &weights, (20_000, 3)), Some(0.0));
    }

    #[test]
    fn values_of_any_sign() {
        // A correction to thresholds, in [-1, 1]: at the least of them everything is in.
        let (values, ones) = ([-1.0, -0.5, -0.25, -0.25, -0.0, 0.5], || (0..6).map(|_| ratio(1, 1)));
        let correction = |budget, least| {
            weighted_quantile(
                &WeightedValues::new(&values, ones(), identity).down_to(least),
                &ratio(budget, 1),
            )
        };
        let expected = [0.5, 0.0, -0.25, -0.25, -0.5, -1.0, -1.0];
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|budget| correction(budget, -1.0).unwrap()), expected);
        assert_eq!(correction(9, -f64::MAX), Some(-f64::MAX));
        assert_eq!(correction(4, -0.3), Some(-0.3));
        assert_eq!(correction(4, 0.0), Some(0.0));
        assert_eq!(correction(-1, -1.0), None);
    }

    #[test]
    fn places_are_in_the_order_of_floats() {
        let ascending =
            [-f64::MAX, -1.0, -f64::MIN_POSITIVE, -5e-324, 0.0, 5e-324, 0.1, 0.1_f64.next_up(), f64::MAX];
        for pair in ascending.windows(2) {
            assert!(place(pair[0]) < place(pair[1]), "{pair:?}");
        }
        for value in ascending {
            assert_eq!(at_place(place(value)), value);
            assert!(value == f64::MAX || place(value.next_up()) == place(value) + 1, "{value}");
        }
        assert_eq!(place(-0.0), 0);
    }

    #[test]
    fn weights_of_any_size() {
        let values = [1e-300, 1.0, 1e300];
        let huge = (i64::MAX, 1);
        assert_eq!(quantile(&values, &[huge, (1, i64::MAX), huge], (i64::MAX, 1)), Some(1.0));
        assert_eq!(quantile(&values, &[(0, 1), (1, i64::MAX), (0, 1)], (0, 1)), Some(1.0));
    }
}
