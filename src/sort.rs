//! Sorting that can be stopped.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::error::{Error, Result};
use crate::threads::Cancel;

/// Elements that are sorted at once, in some tens of milliseconds.
const SHORT: usize = 1 << 17;
/// Comparisons between two checks for cancellation.
const COMPARISONS: u32 = 1 << 16;

/// Leaves a sort.
struct Stopped;

/// Sorts; equal elements are in any order. If the sort is stopped, all elements are still there, in any order.
pub fn sort_unstable_by<T>(
    items: &mut [T],
    compare: impl Fn(&T, &T) -> Ordering,
    cancel: &Cancel,
) -> Result<()> {
    cancel.check()?;
    if items.len() <= SHORT {
        items.sort_unstable_by(compare);
        return Ok(());
    }
    // A sort of the standard library can be left only from within a comparison; it then keeps all elements.
    let mut left = COMPARISONS;
    let sorted = catch_unwind(AssertUnwindSafe(|| {
        items.sort_unstable_by(|a, b| {
            left -= 1;
            if left == 0 {
                left = COMPARISONS;
                if cancel.check().is_err() {
                    resume_unwind(Box::new(Stopped));
                }
            }
            compare(a, b)
        });
    }));
    sorted.or_else(|panic| if panic.is::<Stopped>() { Err(Error::Interrupted) } else { resume_unwind(panic) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_runs_are_sorted() {
        for len in [0, 1, 100, SHORT + 1, 3 * SHORT] {
            let number = |i: usize| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1000;
            let mut items: Vec<usize> = (0..len).map(number).collect();
            sort_unstable_by(&mut items, Ord::cmp, &Cancel::default()).unwrap();
            assert!(items.is_sorted());
            assert_eq!(items.iter().sum::<usize>(), (0..len).map(number).sum::<usize>());
        }
    }

    #[test]
    fn a_sort_stops_and_keeps_its_elements() {
        let cancel = Cancel::default();
        let mut items: Vec<usize> = (0..4 * SHORT).rev().collect();
        items.swap(0, 1);
        let seen = std::cell::Cell::new(0);
        let compare = |a: &usize, b: &usize| {
            seen.set(seen.get() + 1);
            if seen.get() == 10 {
                cancel.set();
            }
            (a ^ 5).cmp(&(b ^ 5))
        };
        assert_eq!(sort_unstable_by(&mut items, compare, &cancel), Err(Error::Interrupted));
        assert!(seen.get() <= COMPARISONS);
        items.sort_unstable();
        assert!(items.into_iter().eq(0..4 * SHORT));
    }
}
