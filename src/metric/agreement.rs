//! How alike label maps of one image are, over all pairs: Pearson's correlation of the labels taken as numbers, and the share
//! of pixels that agree, which does not depend on how labels are numbered.

use std::ops::Range;

use rayon::prelude::*;

use super::stack::LabelStack;
use crate::error::{Error, Result};
use crate::maps::Label;
use crate::memory;
use crate::simd::{apply, vectorised};
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// What errors call numbers for each map.
const MAPS: &str = "the labels of maps";
/// Pixels of a parallel task.
const BAND: usize = 1 << 10;
/// Samples whose plain sum is added to a sum that keeps its rounding errors.
const GROUP: usize = 16;
/// What float64 holds exactly.
const EXACT: u128 = 1 << 53;
/// Squares of numbers up to this have a sum that fits 64 bits, for any possible number of pixels.
const NARROW: u64 = 1 << 16;
/// Counters of a task where labels are counted.
const COUNTERS: usize = 1 << 14;

/// Mean Pearson correlation of all pairs of maps. Pairs with undefined correlation, because a map is constant, count 0. With
/// `varying_only`, over the pixels at which some maps differ.
///
/// The sum over pairs is `|sum_i v_i|^2 - sum_i |v_i|^2`, where `v_i` are the labels of map `i` minus their mean, divided by
/// their norm.
pub fn correlation<L: Label>(stack: &LabelStack<'_, L>, varying_only: bool, cancel: &Cancel) -> Result<f64> {
    let m = stack.len();
    if m < 2 {
        return Err(Error::OneLabelMap);
    }
    let (least, span) = span(stack, cancel)?;
    if u128::from(span) * stack.n_pixels() as u128 > EXACT {
        return Err(Error::LabelSpan { span, n_pixels: stack.n_pixels() });
    }
    let varying = if varying_only { Some(varying(stack, cancel)?) } else { None };
    let is_counted = |pixels: &Range<usize>| varying.as_ref().map(|flags| &flags[pixels.clone()]);
    let n_pixels =
        varying.as_ref().map_or(stack.n_pixels(), |flags| flags.iter().filter(|flag| **flag).count());

    let moments = (0..m).into_par_iter().map_init(Vec::new, |scratch, map| {
        cancel.check()?;
        let all = 0..stack.n_pixels();
        let flags = is_counted(&all);
        Ok(Moments::of(stack.read(map, all, scratch), flags, least, span))
    });
    let mut standards = memory::with_room(m, MAPS)?;
    for moments in memory::gathered::<Result<Moments>>(moments, MAPS)? {
        standards.push(moments?.standard(n_pixels as u64));
    }
    let n_defined = standards.iter().filter(|standard| standard.factor > 0.0).count();

    let bands: Vec<Result<Compensated>> = stack
        .runs(BAND)
        .into_par_iter()
        .map_init(Vec::new, |scratch, pixels| {
            let mut sums = vec![Compensated::default(); pixels.len()];
            let mut plain = vec![0.0; pixels.len()];
            for (group, standards) in standards.chunks(GROUP).enumerate() {
                cancel.check()?;
                plain.fill(0.0);
                for (i, standard) in standards.iter().enumerate() {
                    let labels = stack.read(group * GROUP + i, pixels.clone(), scratch);
                    if i32::try_from(span).is_ok() {
                        add_narrow(&mut plain, labels, least, n_pixels as f64, *standard);
                    } else {
                        add_wide(&mut plain, labels, least, n_pixels as f64, *standard);
                    }
                }
                sums.iter_mut().zip(&plain).for_each(|(sum, &plain)| sum.add(plain));
            }
            let flags = is_counted(&pixels);
            let mut squares = Compensated::default();
            for (j, sum) in sums.iter().enumerate() {
                if flags.is_none_or(|flags| flags[j]) {
                    squares.add(sum.value() * sum.value());
                }
            }
            Ok(squares)
        })
        .collect();
    let mut total = Compensated::default();
    for band in bands {
        let band = band?;
        total.add(band.sum);
        total.add(band.rest);
    }
    total.add(-(n_defined as f64));
    Ok((total.value() / (m as f64 * (m as f64 - 1.0))).min(1.0))
}

/// The least label, and how far the largest is from it.
fn span<L: Label>(stack: &LabelStack<'_, L>, cancel: &Cancel) -> Result<(L, u64)> {
    let ranges = (0..stack.len()).into_par_iter().map_init(Vec::new, |scratch, map| {
        cancel.check()?;
        Ok(range(stack.read(map, 0..stack.n_pixels(), scratch)))
    });
    let mut ranges = memory::gathered::<Result<(L, L)>>(ranges, MAPS)?.into_iter();
    let (mut least, mut largest) = ranges.next().expect("not empty")?;
    for range in ranges {
        let (low, high) = range?;
        (least, largest) = (least.min(low), largest.max(high));
    }
    Ok((least, offset(largest, least)))
}

#[apply(vectorised!)]
fn range<L: Label>(labels: &[L]) -> (L, L) {
    let (mut least, mut largest) = (labels[0], labels[0]);
    for &label in labels {
        least = least.min(label);
        largest = largest.max(label);
    }
    (least, largest)
}

#[inline(always)]
fn offset<L: Label>(label: L, least: L) -> u64 {
    label.extended().wrapping_sub(least.extended())
}

/// For each pixel whether some map differs there from the first.
fn varying<L: Label>(stack: &LabelStack<'_, L>, cancel: &Cancel) -> Result<Vec<bool>> {
    let bands: Vec<Result<Vec<bool>>> = stack
        .runs(BAND)
        .into_par_iter()
        .map_init(<(Vec<L>, Vec<L>)>::default, |(scratch, other), pixels| {
            let first = stack.read(0, pixels.clone(), scratch);
            let mut flags = vec![false; pixels.len()];
            for map in 1..stack.len() {
                if map % GROUP == 0 {
                    cancel.check()?;
                }
                compare(&mut flags, first, stack.read(map, pixels.clone(), other));
            }
            Ok(flags)
        })
        .collect();
    Ok(bands.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

#[apply(vectorised!)]
fn compare<L: Label>(flags: &mut [bool], first: &[L], other: &[L]) {
    for (flag, (a, b)) in flags.iter_mut().zip(first.iter().zip(other)) {
        *flag |= a != b;
    }
}

/// Exact sums of the labels of a map, as offsets from the least of all, and of their squares.
struct Moments {
    sum: u64,
    squares: u128,
}

impl Moments {
    fn of<L: Label>(labels: &[L], flags: Option<&[bool]>, least: L, span: u64) -> Self {
        if span < NARROW {
            let (sum, squares) = narrow_moments(labels, flags, least);
            return Self { sum, squares: squares.into() };
        }
        let mut moments = Self { sum: 0, squares: 0 };
        for (j, &label) in labels.iter().enumerate() {
            if flags.is_none_or(|flags| flags[j]) {
                let offset = offset(label, least);
                moments.sum += offset;
                moments.squares += u128::from(offset) * u128::from(offset);
            }
        }
        moments
    }

    /// The variance times the square of the number of pixels is a whole number.
    fn standard(&self, n_pixels: u64) -> Standard {
        let sum = u128::from(self.sum);
        let spread = u128::from(n_pixels) * self.squares - sum * sum;
        let factor = if spread > 0 { 1.0 / (spread as f64 * n_pixels as f64).sqrt() } else { 0.0 };
        Standard { sum: self.sum as f64, factor }
    }
}

#[apply(vectorised!)]
fn narrow_moments<L: Label>(labels: &[L], flags: Option<&[bool]>, least: L) -> (u64, u64) {
    let (mut sum, mut squares) = (0, 0);
    match flags {
        None => {
            for &label in labels {
                let offset = offset(label, least);
                sum += offset;
                squares += offset * offset;
            }
        }
        Some(flags) => {
            for (&label, &flag) in labels.iter().zip(flags) {
                let offset = offset(label, least) * u64::from(flag);
                sum += offset;
                squares += offset * offset;
            }
        }
    }
    (sum, squares)
}

/// A label `x` of a map is `(n_pixels x - sum) factor` in its unit vector. The difference is exact.
#[derive(Debug, Clone, Copy)]
struct Standard {
    sum: f64,
    factor: f64,
}

#[apply(vectorised!)]
fn add_narrow<L: Label>(sums: &mut [f64], labels: &[L], least: L, n_pixels: f64, standard: Standard) {
    // Processors have an instruction for 32 bits.
    let number = |label: L| f64::from(offset(label, least) as i32);
    for (sum, &label) in sums.iter_mut().zip(labels) {
        *sum += (n_pixels * number(label) - standard.sum) * standard.factor;
    }
}

fn add_wide<L: Label>(sums: &mut [f64], labels: &[L], least: L, n_pixels: f64, standard: Standard) {
    for (sum, &label) in sums.iter_mut().zip(labels) {
        *sum += (n_pixels * offset(label, least) as f64 - standard.sum) * standard.factor;
    }
}

/// A sum and its rounding errors (Knuth's two-sum).
#[derive(Debug, Clone, Copy, Default)]
struct Compensated {
    sum: f64,
    rest: f64,
}

impl Compensated {
    #[inline(always)]
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let added = sum - self.sum;
        self.rest += (self.sum - (sum - added)) + (term - added);
        self.sum = sum;
    }

    fn value(self) -> f64 {
        self.sum + self.rest
    }
}

/// In how many cases two maps agree at a pixel, over all ordered pairs of different maps and all pixels.
pub fn agreement<L: Label>(stack: &LabelStack<'_, L>, cancel: &Cancel) -> Result<u128> {
    let (least, span) = span(stack, cancel)?;
    // One counter for each label that there can be, if these are few.
    let n_counters = usize::try_from(span).unwrap_or(usize::MAX).saturating_add(1);
    let few = n_counters <= COUNTERS / 64;
    let band = if few { COUNTERS / n_counters.next_power_of_two() } else { 64 };
    let bands: Vec<Result<u128>> = stack
        .runs(band.min(BAND))
        .into_par_iter()
        .map_init(Vec::new, |scratch, pixels| {
            if few {
                counted(stack, pixels, least, n_counters, scratch, cancel)
            } else {
                sorted(stack, pixels, scratch, cancel)
            }
        })
        .collect();
    bands.into_iter().sum()
}

fn counted<L: Label>(
    stack: &LabelStack<'_, L>,
    pixels: Range<usize>,
    least: L,
    n_counters: usize,
    scratch: &mut Vec<L>,
    cancel: &Cancel,
) -> Result<u128> {
    let mut counters = vec![0_u64; pixels.len() * n_counters];
    for map in 0..stack.len() {
        if map % GROUP == 0 {
            cancel.check()?;
        }
        let labels = stack.read(map, pixels.clone(), scratch);
        for (counters, &label) in counters.chunks_exact_mut(n_counters).zip(labels) {
            // Another thread has changed the label, which was within the span before.
            let counter = counters.get_mut(offset(label, least) as usize);
            *counter.ok_or(Error::Changed { name: "samples" })? += 1;
        }
    }
    Ok(counters.into_iter().map(pairs).sum())
}

fn sorted<L: Label>(
    stack: &LabelStack<'_, L>,
    pixels: Range<usize>,
    scratch: &mut Vec<L>,
    cancel: &Cancel,
) -> Result<u128> {
    let mut columns = Vec::with_capacity(pixels.len());
    for _ in pixels.clone() {
        columns.push(memory::with_room(stack.len(), MAPS)?);
    }
    for map in 0..stack.len() {
        if map % GROUP == 0 {
            cancel.check()?;
        }
        let labels = stack.read(map, pixels.clone(), scratch);
        columns.iter_mut().zip(labels).for_each(|(column, &label)| column.push(label));
    }
    let mut agreeing = 0;
    for mut column in columns {
        sort_unstable_by(&mut column, Ord::cmp, cancel)?;
        agreeing += column.chunk_by(|a, b| a == b).map(|run| pairs(run.len() as u64)).sum::<u128>();
    }
    Ok(agreeing)
}

/// Ordered pairs among `count` maps.
fn pairs(count: u64) -> u128 {
    u128::from(count) * u128::from(count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, array};

    use super::*;

    fn correlation_of<L: Label>(maps: &Array3<L>, varying_only: bool) -> f64 {
        let stack = LabelStack::new(maps.view().into_dyn(), "samples").unwrap();
        correlation(&stack, varying_only, &Cancel::default()).unwrap()
    }

    fn agreement_of<L: Label>(maps: &Array3<L>) -> u128 {
        let stack = LabelStack::new(maps.view().into_dyn(), "samples").unwrap();
        agreement(&stack, &Cancel::default()).unwrap()
    }

    #[test]
    fn constant_pixels_change_the_correlation() {
        let maps = array![[[1_u8, 1, 1, 0]], [[1, 1, 0, 1]]];
        assert!((correlation_of(&maps, false) + 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(correlation_of(&maps, true), -1.0);
    }

    #[test]
    fn undefined_correlations_count_0() {
        // Maps 0 and 1 correlate fully, map 2 is the same everywhere.
        let maps = array![[[0_i64, 1]], [[3, 8]], [[7, 7]]];
        assert!((correlation_of(&maps, false) - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(correlation_of(&array![[[5_u8, 5]], [[5, 5]]], false), 0.0);
        assert_eq!(correlation_of(&array![[[0_u8, 1]], [[0, 1]]], true), 0.0);
        assert!((correlation_of(&array![[[0_u8, 1]], [[0, 1]]], false) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn one_map_has_no_pair() {
        let map = array![[[0_u8, 1, 2]]];
        let stack = LabelStack::new(map.view().into_dyn(), "samples").unwrap();
        for varying_only in [false, true] {
            assert_eq!(correlation(&stack, varying_only, &Cancel::default()), Err(Error::OneLabelMap));
        }
        assert_eq!(agreement(&stack, &Cancel::default()), Ok(0));
    }

    #[test]
    fn labels_that_are_far_apart() {
        let least = i64::MIN;
        let maps = array![[[least, least + (1 << 50)]], [[least + (1 << 50), least]]];
        assert_eq!(correlation_of(&maps, false), -1.0);
        let stack = array![[[i64::MIN, i64::MAX]], [[0, 0]]];
        let stack = LabelStack::new(stack.view().into_dyn(), "samples").unwrap();
        assert_eq!(
            correlation(&stack, false, &Cancel::default()),
            Err(Error::LabelSpan { span: u64::MAX, n_pixels: 2 })
        );
        assert_eq!(agreement(&stack, &Cancel::default()), Ok(0));
    }

    #[test]
    fn agreement_counts_ordered_pairs() {
        let maps = array![[[0_u8, 1, 2]], [[0, 1, 3]], [[0, 2, 4]]];
        assert_eq!(agreement_of(&maps), 6 + 2);
        // The same, with too many labels to count them.
        assert_eq!(agreement_of(&maps.mapv(|label| i32::from(label) * 100_000)), 6 + 2);
    }
}
