//! The weighted quantile behind every lambda-hat: exact, and without a sort.
//!
//! Given *atoms*, each a value and a weight (a rational number, one of few), and a budget, it finds
//!
//! ```text
//! inf { t >= least : the weight of the atoms above t is at most the budget }
//! ```
//!
//! where `least` is 0 for lambda, and less for numbers that may be negative.
//!
//! Weights are rounded down to fixed point. So sums are integers, with the same bits in any order, and too small by less than
//! one unit per atom. A radix selection over those sums narrows the values down to the few that rounding leaves open, mostly
//! none or one. These are decided in exact rational arithmetic.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::RangeInclusive;

use num_rational::BigRational;
use num_traits::Signed;
use rayon::prelude::*;

use crate::error::Result;
use crate::memory;
use crate::num::exact::Weight;
use crate::threads::Cancel;

/// Digits of one round of the selection, as a power of two.
const DIGIT_BITS: u32 = 13;
const DIGITS: usize = 1 << DIGIT_BITS;

/// If at most so many atoms are left, or at most one of so many (`SMALL_SHARE`), a sort is as fast.
const FEW: u64 = 4096;
const SMALL_SHARE: u64 = 64;
/// More atoms are not sorted at once.
const MANY: u64 = 1 << 20;

/// Weights between two checks for cancellation.
const RUN: usize = 1 << 10;

/// Bits of a fixed-point sum.
const SUM_BITS: i64 = 62;

/// A weighted multiset, in parts that can be walked in parallel. Values are known by keys: whole numbers in the order of
/// the values, from 1. Key 0 is that of the least `t`, above which all atoms that are visited lie.
pub trait Atoms: Sync {
    /// What atoms weigh.
    type Weight: Weight;

    /// The weights that atoms refer to; none is negative.
    fn weights(&self) -> &[Self::Weight];

    /// Number of parts.
    fn n_parts(&self) -> usize;

    /// Calls `visit(key, index of its weight)` for each atom of a part.
    fn visit(&self, part: usize, cancel: &Cancel, visit: impl FnMut(u64, usize)) -> Result<()>;

    /// A range that holds all keys.
    fn keys(&self) -> RangeInclusive<u64>;

    /// A part of that range which is likely to hold most keys. The first round of a selection divides it finely.
    fn usual_keys(&self) -> RangeInclusive<u64> {
        self.keys()
    }

    /// Ascending keys between which the quantile probably lies. If [`Atoms::counts_above`] is fast, they save rounds.
    fn guesses(&self, _budget: &BigRational, _cancel: &Cancel) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }

    /// Calls `visit(key, index of its weight)` for each atom of a part whose key is in a range.
    fn visit_within(
        &self,
        part: usize,
        keys: &RangeInclusive<u64>,
        cancel: &Cancel,
        mut visit: impl FnMut(u64, usize),
    ) -> Result<()> {
        let (start, span) = (*keys.start(), keys.end() - keys.start());
        self.visit(part, cancel, |key, weight| {
            if key.wrapping_sub(start) <= span {
                visit(key, weight);
            }
        })
    }

    /// The value behind a key.
    fn value(&self, key: u64) -> f64;

    /// The number of atoms above each of some keys, by their weights.
    fn counts_above(&self, limits: &[u64], cancel: &Cancel) -> Result<Vec<Vec<u64>>> {
        let zeros =
            || memory::filled(0_u64, self.weights().len(), "the number of values of each weight", cancel);
        let join = |mut left: Vec<u64>, right: Vec<u64>| {
            left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
            left
        };
        let of_limit = |&limit| {
            let add = |counts: &mut Vec<u64>, key, weight: usize| counts[weight] += u64::from(key > limit);
            fold(self, None, zeros, join, add, cancel)
        };
        limits.iter().map(of_limit).collect()
    }

    /// The same of one key.
    fn counts_above_one(&self, limit: u64, cancel: &Cancel) -> Result<Vec<u64>> {
        Ok(self.counts_above(&[limit], cancel)?.swap_remove(0))
    }

    /// The number of atoms with each weight.
    fn counts(&self, cancel: &Cancel) -> Result<Vec<u64>> {
        self.counts_above_one(0, cancel)
    }
}

/// Folds `add(key, index of its weight)` over all atoms, or those in a range of keys. There are only a few tallies at a time,
/// because they are large.
fn fold<A: Atoms + ?Sized, T: Send>(
    atoms: &A,
    keys: Option<&RangeInclusive<u64>>,
    new: impl Fn() -> Result<T> + Sync + Send,
    join: impl Fn(T, T) -> T + Sync + Send,
    add: impl Fn(&mut T, u64, usize) + Sync,
    cancel: &Cancel,
) -> Result<T> {
    let n_parts = atoms.n_parts();
    let folded = (0..n_parts)
        .into_par_iter()
        .with_min_len(n_parts.div_ceil(2 * rayon::current_num_threads()).max(1))
        .try_fold(
            || None,
            |folded, part| {
                cancel.check()?;
                let mut folded = match folded {
                    Some(folded) => folded,
                    None => new()?,
                };
                let add = |key, weight| add(&mut folded, key, weight);
                match keys {
                    Some(keys) => atoms.visit_within(part, keys, cancel, add)?,
                    None => atoms.visit(part, cancel, add)?,
                }
                Ok(Some(folded))
            },
        )
        .try_reduce(
            || None,
            |left, right| match (left, right) {
                (Some(left), Some(right)) => Ok(Some(join(left, right))),
                (left, right) => Ok(left.or(right)),
            },
        );
    match folded? {
        Some(folded) => Ok(folded),
        None => new(),
    }
}

/// The quantile; `None` if the budget is negative.
pub fn weighted_quantile<A: Atoms>(atoms: &A, budget: &BigRational, cancel: &Cancel) -> Result<Option<f64>> {
    if budget.is_negative() {
        return Ok(None);
    }
    let counts = atoms.counts(cancel)?;
    let fixed = FixedPoint::new(atoms.weights(), &counts, budget, cancel)?;
    let all_fit = match fixed.fits(fixed.total(&counts)) {
        Some(fit) => fit,
        None => Weight::sum_fits(atoms.weights(), &counts, budget, cancel)?,
    };
    drop(counts);
    if all_fit {
        return Ok(Some(atoms.value(0)));
    }
    Selection { atoms, budget, fixed, cancel }.smallest_fitting().map(Some)
}

/// Weights and budget in units of `2^-shift`, rounded down.
struct FixedPoint {
    weights: Vec<u64>,
    budget: u64,
    /// The rounding error of any sum is below this.
    error: u64,
}

impl FixedPoint {
    fn new<W: Weight>(weights: &[W], counts: &[u64], budget: &BigRational, cancel: &Cancel) -> Result<Self> {
        let n_atoms: u64 = counts.iter().sum();
        let mut total = 0.0;
        for (weights, counts) in weights.chunks(RUN).zip(counts.chunks(RUN)) {
            cancel.check()?;
            weights.iter().zip(counts).for_each(|(w, &c)| total += w.to_float() * c as f64);
        }
        // One bit of slack covers the rounding of `total`.
        let shift = SUM_BITS - (total.log2().ceil().clamp(-1e3, 2e3) as i64).max(0) - 1;
        // Budgets beyond any sum need not be distinguished.
        let budget = budget.scaled(shift).min(1 << 63);
        let mut scaled = memory::with_room(weights.len(), "the weights of values")?;
        for weights in weights.chunks(RUN) {
            cancel.check()?;
            scaled.extend(weights.iter().map(|weight| weight.scaled(shift)));
        }
        Ok(Self { weights: scaled, budget, error: n_atoms })
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

/// The search for the smallest value of an atom that fits the budget, if the least `t` does not.
struct Selection<'a, A> {
    atoms: &'a A,
    budget: &'a BigRational,
    fixed: FixedPoint,
    cancel: &'a Cancel,
}

impl<A: Atoms> Selection<'_, A> {
    fn smallest_fitting(&self) -> Result<f64> {
        let n_atoms = self.fixed.error;
        let mut cluster = self.between_guesses()?;
        let is_guessed = cluster.keys != self.atoms.keys();
        let mut scale = if is_guessed { cluster.keys.clone() } else { self.atoms.usual_keys() };
        while cluster.keys.start() < cluster.keys.end() {
            let is_small = cluster.n_atoms <= FEW.max((n_atoms / SMALL_SHARE).min(MANY));
            let parts = if is_small { self.values(&cluster)? } else { self.digits(&cluster, &scale)? };
            cluster = self.last_fitting(parts)?;
            scale = cluster.keys.clone();
        }
        Ok(self.atoms.value(*cluster.keys.start()))
    }

    /// The cluster between two guesses that holds the quantile; without guesses, the cluster of all atoms.
    fn between_guesses(&self) -> Result<Cluster> {
        let mut cluster = Cluster { keys: self.atoms.keys(), n_atoms: self.fixed.error, above: 0 };
        let mut guesses = self.atoms.guesses(self.budget, self.cancel)?;
        guesses.retain(|guess| cluster.keys.contains(guess) && guess < cluster.keys.end());
        let counts = self.atoms.counts_above(&guesses, self.cancel)?;
        let mut counted_above = 0;
        for (&guess, counts) in guesses.iter().zip(&counts).rev() {
            let (above, n_above) = (self.fixed.total(counts), counts.iter().sum::<u64>());
            let fits = match self.fixed.fits(above) {
                Some(fits) => fits,
                None => Weight::sum_fits(self.atoms.weights(), counts, self.budget, self.cancel)?,
            };
            if !fits {
                cluster.keys = guess + 1..=*cluster.keys.end();
                cluster.n_atoms = n_above - counted_above;
                return Ok(cluster);
            }
            cluster =
                Cluster { keys: *cluster.keys.start()..=guess, n_atoms: self.fixed.error - n_above, above };
            counted_above = n_above;
        }
        Ok(cluster)
    }

    /// The last of the descending clusters whose largest value fits the budget: it holds the quantile.
    fn last_fitting(&self, mut clusters: Vec<Cluster>) -> Result<Cluster> {
        // From the top: surely within the budget, then too close to tell, then surely beyond it.
        let first_unsure = clusters.partition_point(|c| self.fixed.fits(c.above) == Some(true));
        let first_beyond = clusters.partition_point(|c| self.fixed.fits(c.above) != Some(false));
        let (mut low, mut high) = (first_unsure, first_beyond);
        while low < high {
            let middle = usize::midpoint(low, high);
            let counts = self.atoms.counts_above_one(*clusters[middle].keys.end(), self.cancel)?;
            let fits = Weight::sum_fits(self.atoms.weights(), &counts, self.budget, self.cancel)?;
            if fits { low = middle + 1 } else { high = middle }
        }
        Ok(clusters.swap_remove(low - 1))
    }

    /// Splits a cluster by the next digit of its keys on a scale; keys off the scale get its first or last digit.
    fn digits(&self, cluster: &Cluster, scale: &RangeInclusive<u64>) -> Result<Vec<Cluster>> {
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
        )?;
        let mut above = cluster.above;
        let occupied = digits.iter().enumerate().rev().filter(|(_, digit)| digit.count > 0);
        let clusters = occupied
            .map(|(index, digit)| {
                let index = index as u64;
                let first = if index == 0 { *cluster.keys.start() } else { start + (index << shift) };
                let is_last = index == (end - start) >> shift;
                let last = if is_last { *cluster.keys.end() } else { start + ((index + 1) << shift) - 1 };
                let part = Cluster { keys: first..=last, n_atoms: digit.count, above };
                above += digit.weight;
                part
            })
            .collect();
        Ok(clusters)
    }

    /// Splits a cluster into its values.
    fn values(&self, cluster: &Cluster) -> Result<Vec<Cluster>> {
        let join = |mut left: Vec<_>, mut right: Vec<_>| {
            left.append(&mut right);
            left
        };
        let mut atoms =
            self.visit_all(cluster, Vec::new, join, |atoms, key, weight| atoms.push((key, weight)))?;
        atoms.sort_unstable_by(|left, right| right.cmp(left));
        let mut above = cluster.above;
        let clusters = atoms
            .chunk_by(|left, right| left.0 == right.0)
            .map(|equals| {
                let key = equals[0].0;
                let part = Cluster { keys: key..=key, n_atoms: equals.len() as u64, above };
                above += equals.iter().map(|(_, weight)| weight).sum::<u64>();
                part
            })
            .collect();
        Ok(clusters)
    }

    /// Folds `add(key, rounded weight)` over the atoms of a cluster.
    fn visit_all<T: Send>(
        &self,
        cluster: &Cluster,
        new: impl Fn() -> T + Sync + Send,
        join: impl Fn(T, T) -> T + Sync + Send,
        add: impl Fn(&mut T, u64, u64) + Sync,
    ) -> Result<T> {
        let add = |folded: &mut T, key: u64, weight: usize| add(folded, key, self.fixed.weights[weight]);
        fold(self.atoms, Some(&cluster.keys), || Ok(new()), join, add, self.cancel)
    }
}

/// Values from which to guess. If there are fewer than a few times as many, all are used instead.
pub const SAMPLE: usize = 1 << 13;
/// See [`SAMPLE`].
pub const FEW_TIMES: usize = 8;

/// How far guesses lie from the middle one, in standard deviations of a rank among as many values, descending.
const FAR: [f64; 6] = [3.0, 1.5, 0.5, -0.5, -1.5, -3.0];

/// Ascending keys around the quantile of a sample of all atoms, for [`Atoms::guesses`]. A sample is a key, and the weight that
/// it represents. There are no guesses if the whole sample is within the budget.
pub fn around_quantile(mut sample: Vec<(u64, f64)>, budget: &BigRational) -> Vec<u64> {
    sample.sort_unstable_by_key(|&(key, _)| Reverse(key));
    let (budget, mut above) = (budget.to_float(), 0.0);
    let middle = sample.iter().position(|&(_, weight)| {
        above += weight;
        above > budget
    });
    let Some(middle) = middle else { return Vec::new() };
    let (n, rank) = (sample.len() as f64, middle as f64);
    let deviation = (rank * (1.0 - rank / n)).sqrt();
    let guess = |far: &f64| sample[(rank + far * deviation).clamp(0.0, n - 1.0) as usize].0;
    FAR.iter().map(guess).collect()
}

/// Plain values with a weight each, as atoms.
pub struct WeightedValues<'a, W> {
    values: &'a [f64],
    weights: Vec<W>,
    index: Vec<usize>,
    places: Places,
}

/// Finite values by their places above a least one, in the order of all floats: the keys of [`Atoms`].
pub struct Places {
    least: i64,
}

impl Places {
    /// Those above `least`, which is finite.
    pub fn above(least: f64) -> Self {
        Self { least: place(least) }
    }

    /// The key of a value. It is 0 if the value is not above the least, and so never above any t.
    #[inline(always)]
    pub fn key(&self, value: f64) -> u64 {
        let place = place(value);
        if place > self.least { place.abs_diff(self.least) } else { 0 }
    }

    /// The value behind a key.
    pub fn value(&self, key: u64) -> f64 {
        at_place(self.least.wrapping_add_unsigned(key))
    }
}

/// The place of a finite float in the order of all: 0 for 0 and -0, and one more for each next float.
#[inline(always)]
fn place(value: f64) -> i64 {
    let magnitude = value.abs().to_bits() as i64;
    if value < 0.0 { -magnitude } else { magnitude }
}

/// The float at a place.
fn at_place(place: i64) -> f64 {
    let magnitude = f64::from_bits(place.unsigned_abs());
    if place < 0 { -magnitude } else { magnitude }
}

impl<'a, W: Weight> WeightedValues<'a, W> {
    /// Values must be finite, and as many as weights. Equal weights are kept once, and only those are made `exact`.
    pub fn new<G: Eq + Hash + Copy>(
        values: &'a [f64],
        weights: impl IntoIterator<Item = G>,
        exact: impl Fn(G) -> W,
        cancel: &Cancel,
    ) -> Result<Self> {
        const WHAT: &str = "the weights of values";
        let mut places: HashMap<G, usize> = HashMap::new();
        let mut index = memory::with_room(values.len(), WHAT)?;
        let mut found = Vec::new();
        let mut last: Option<(G, usize)> = None;
        for (i, given) in weights.into_iter().enumerate() {
            if i % RUN == 0 {
                cancel.check()?;
            }
            let place = match last {
                Some((weight, place)) if weight == given => place,
                _ => {
                    memory::reserve_entry(&mut places, WHAT)?;
                    *places.entry(given).or_insert(found.len())
                }
            };
            if place == found.len() {
                memory::push(&mut found, exact(given), WHAT)?;
            }
            last = Some((given, place));
            index.push(place);
        }
        Ok(Self { values, weights: found, index, places: Places::above(0.0) })
    }

    /// Lets the quantile be as small as a finite number, instead of 0.
    #[must_use]
    pub fn down_to(mut self, least: f64) -> Self {
        self.places = Places::above(least);
        self
    }
}

/// Values of one part of [`WeightedValues`].
const PART: usize = 1 << 16;

impl<W: Weight> Atoms for WeightedValues<'_, W> {
    type Weight = W;

    fn weights(&self) -> &[W] {
        &self.weights
    }

    fn n_parts(&self) -> usize {
        self.values.len().div_ceil(PART)
    }

    fn visit(&self, part: usize, _: &Cancel, mut visit: impl FnMut(u64, usize)) -> Result<()> {
        let first = part * PART;
        let last = (first + PART).min(self.values.len());
        (first..last)
            .map(|i| (self.places.key(self.values[i]), self.index[i]))
            .filter(|(key, _)| *key > 0)
            .for_each(|(key, weight)| visit(key, weight));
        Ok(())
    }

    fn keys(&self) -> RangeInclusive<u64> {
        1..=self.places.key(f64::MAX)
    }

    fn value(&self, key: u64) -> f64 {
        self.places.value(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(numer: i64, denom: i64) -> BigRational {
        BigRational::new(numer.into(), denom.into())
    }

    fn quantile(values: &[f64], weights: &[(i64, i64)], budget: (i64, i64)) -> Option<f64> {
        let (weights, cancel) = (weights.iter().copied(), Cancel::default());
        let values = WeightedValues::new(values, weights, |(n, d)| ratio(n, d), &cancel).unwrap();
        weighted_quantile(&values, &ratio(budget.0, budget.1), &cancel).unwrap()
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
        let (values, cancel) = ([-1.0, -0.5, -0.25, -0.25, -0.0, 0.5], Cancel::default());
        let correction = |budget, least| {
            let values = WeightedValues::new(&values, [(); 6], |()| 1.0, &cancel).unwrap();
            weighted_quantile(&values.down_to(least), &ratio(budget, 1), &cancel).unwrap()
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
