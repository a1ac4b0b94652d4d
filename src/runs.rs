//! The number and the places of values in a range. The bits of a word mark the selected values in a run of 64.

use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// Elements of a run.
pub const RUN: usize = u64::BITS as usize;

/// The bits of the elements that are looked at.
#[inline(always)]
pub fn bits<T: Copy>(run: &[T; RUN], is_looked_at: impl Fn(T) -> bool) -> u64 {
    run.iter().enumerate().fold(0, |bits, (j, &element)| bits | u64::from(is_looked_at(element)) << j)
}

/// The places of the bits that are set, ascending.
#[inline(always)]
pub fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros() as usize;
        bits &= bits.checked_sub(1)?;
        Some(place)
    })
}

/// Adds how many values are at or above each cutoff.
#[apply(vectorised!)]
pub fn count_from<R: Real>(values: &[R], cutoffs: &[R], counts: &mut [u64]) {
    // All cutoffs are compared while a part is in a first-level cache. 32-bit counters have as many lanes as float32.
    for part in values.chunks(1 << 12) {
        for (count, &cutoff) in counts.iter_mut().zip(cutoffs) {
            *count += u64::from(part.iter().fold(0_u32, |n, &p| n + u32::from(p >= cutoff)));
        }
    }
}

/// Calls `visit` with place and value of those that are at least `low` and less than `high`.
#[apply(vectorised!)]
pub fn visit_between<R: Real, V: FnMut(usize, f64)>(values: &[R], low: R, high: R, mut visit: V) {
    let is_between = |p: R| (p >= low) & (p < high);
    let (runs, rest) = values.as_chunks::<RUN>();
    for (first, run) in (0..).step_by(RUN).zip(runs) {
        places(bits(run, is_between)).for_each(|place| visit(first + place, run[place].into()));
    }
    let first = values.len() - rest.len();
    for (place, &p) in (first..).zip(rest).filter(|(_, p)| is_between(**p)) {
        visit(place, p.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_a_range() {
        for n in [0, 1, 63, 64, 65, 300, 5000] {
            let values: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
            for (low, high) in [(0.0, 0.25), (0.25, 0.5), (0.5, f32::INFINITY), (0.7, 0.7)] {
                let expected: Vec<_> = (0..)
                    .zip(&values)
                    .filter(|(_, p)| (low..high).contains(*p))
                    .map(|(i, &p)| (i, p.into()))
                    .collect();
                let mut found = Vec::new();
                visit_between(&values, low, high, |place, p| found.push((place, p)));
                assert_eq!(found, expected);
                let mut counts = [1, 0];
                count_from(&values, &[low, high], &mut counts);
                assert_eq!((counts[0] - 1 - counts[1]) as usize, expected.len());
            }
        }
    }

    #[test]
    fn bits_and_their_places() {
        let mut run = [0; RUN];
        assert_eq!(bits(&run, |element| element > 0), 0);
        assert_eq!(bits(&run, |element| element == 0), u64::MAX);
        for j in [0, 1, 31, 32, 62, 63] {
            run[j] = 1;
        }
        let found = bits(&run, |element| element > 0);
        assert_eq!(places(found).collect::<Vec<_>>(), [0, 1, 31, 32, 62, 63]);
        assert_eq!(places(u64::MAX).collect::<Vec<_>>(), (0..RUN).collect::<Vec<_>>());
        assert_eq!(places(0).next(), None);
    }
}
