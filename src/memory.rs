//! Allocations that may fail. Memory that grows with the input is allocated here: if there is not enough, an error says so,
//! and the process goes on.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use ndarray::{ArrayView1, Axis};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::threads::Cancel;

/// Bytes that must be free, before a piece of work begins, for buffers of bounded size.
const HEADROOM: usize = 64 << 20;

/// Elements that are written between two checks for cancellation.
const TOUCHED: usize = 1 << 20;

/// Makes room for more elements.
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize, what: &'static str) -> Result<()> {
    vec.try_reserve(additional).map_err(|_| missing::<T>(vec.len().saturating_add(additional), what))
}

/// An empty vector with room for `len` elements.
pub fn with_room<T>(len: usize, what: &'static str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(len).map_err(|_| missing::<T>(len, what))?;
    Ok(vec)
}

/// Extends a vector to `len` elements; new ones are `value`.
pub fn resize<T: Clone>(vec: &mut Vec<T>, len: usize, value: T, what: &'static str) -> Result<()> {
    reserve(vec, len.saturating_sub(vec.len()), what)?;
    vec.resize(len, value);
    Ok(())
}

/// `len` times the same.
pub fn filled<T: Clone>(value: T, len: usize, what: &'static str, cancel: &Cancel) -> Result<Vec<T>> {
    let mut vec = with_room(len, what)?;
    while vec.len() < len {
        cancel.check()?;
        vec.resize(len.min(vec.len() + TOUCHED), value.clone());
    }
    Ok(vec)
}

/// The elements of a sequence whose length is known.
pub fn collected<T>(items: impl ExactSizeIterator<Item = T>, what: &'static str) -> Result<Vec<T>> {
    let mut vec = with_room(items.len(), what)?;
    vec.extend(items);
    Ok(vec)
}

/// A copy of an array.
pub fn copied<T: Copy>(array: &ArrayView1<'_, T>, what: &'static str, cancel: &Cancel) -> Result<Vec<T>> {
    let mut vec = with_room(array.len(), what)?;
    for part in array.axis_chunks_iter(Axis(0), TOUCHED) {
        cancel.check()?;
        vec.extend(part);
    }
    Ok(vec)
}

/// The results of tasks, in order.
pub fn gathered<T: Send>(
    tasks: impl IndexedParallelIterator<Item = T>,
    what: &'static str,
) -> Result<Vec<T>> {
    let mut vec = with_room(tasks.len(), what)?;
    tasks.collect_into_vec(&mut vec);
    Ok(vec)
}

/// The elements, if all of them could be made.
pub fn all<T>(items: impl ExactSizeIterator<Item = Result<T>>, what: &'static str) -> Result<Vec<T>> {
    let mut vec = with_room(items.len(), what)?;
    for item in items {
        vec.push(item?);
    }
    Ok(vec)
}

/// Makes room for one more entry.
pub fn reserve_entry<K: Eq + Hash, V, S: BuildHasher>(
    map: &mut HashMap<K, V, S>,
    what: &'static str,
) -> Result<()> {
    map.try_reserve(1).map_err(|_| missing::<(K, V)>(2 * map.len(), what))
}

/// Appends an element.
pub fn push<T>(vec: &mut Vec<T>, item: T, what: &'static str) -> Result<()> {
    reserve(vec, 1, what)?;
    vec.push(item);
    Ok(())
}

/// Fails unless there is memory for so many elements now: for code whose allocations cannot report an error.
pub fn probe<T>(len: usize, what: &'static str) -> Result<()> {
    with_room::<T>(len, what).map(drop)
}

/// Fails unless there is room for the buffers of a piece of work.
pub fn headroom() -> Result<()> {
    probe::<u8>(HEADROOM, "the buffers of the computation")
}

#[cold]
fn missing<T>(len: usize, what: &'static str) -> Error {
    Error::Memory { what, bytes: len as u128 * size_of::<T>() as u128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_an_error_and_harms_nothing() {
        let mut vec = vec![7_u64];
        let bytes = (1_u128 << 60) * 8;
        let expected = Err(Error::Memory { what: "numbers", bytes: bytes + 8 });
        assert_eq!(reserve(&mut vec, 1 << 60, "numbers"), expected);
        assert_eq!(
            filled(0_u64, 1 << 60, "numbers", &Cancel::default()),
            Err(Error::Memory { what: "numbers", bytes })
        );
        assert!(probe::<u64>(usize::MAX, "numbers").is_err() && headroom().is_ok());
        assert_eq!(vec, [7]);
        assert_eq!(resize(&mut vec, 3, 1, "numbers").map(|()| vec), Ok(vec![7, 1, 1]));
        assert_eq!(all([Ok(1), Ok(2)].into_iter(), "numbers"), Ok(vec![1, 2]));
        assert_eq!(all([Ok(1), Err(Error::Interrupted)].into_iter(), "numbers"), Err(Error::Interrupted));
        assert_eq!(gathered((0..4).into_par_iter(), "numbers"), Ok(vec![0, 1, 2, 3]));
    }
}
