//! The number of different label maps among samples, and how many were drawn once or twice. Estimates of the number of maps
//! that were never drawn use these counts.
//!
//! Maps are grouped by a hash, and maps with the same hash are compared pixel by pixel: the counts are exact.
//!
//! Chao, "Nonparametric estimation of the number of classes in a population", Scandinavian Journal of Statistics 11, 1984.

use std::hash::{DefaultHasher, Hasher};

use rayon::prelude::*;
use zerocopy::{Immutable, IntoBytes};

use super::stack::LabelStack;
use crate::error::Result;
use crate::maps::Label;
use crate::memory;
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// What errors call numbers for each map.
const MAPS: &str = "the hashes of maps";

/// How many label maps were drawn how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Richness {
    /// Different label maps.
    pub observed: u64,
    /// Label maps that were drawn once.
    pub singletons: u64,
    /// Label maps that were drawn twice.
    pub doubletons: u64,
}

impl Richness {
    fn add(&mut self, drawn: usize) {
        self.observed += 1;
        self.singletons += u64::from(drawn == 1);
        self.doubletons += u64::from(drawn == 2);
    }
}

/// Counts the different label maps.
pub fn richness<L: Label + IntoBytes + Immutable>(
    stack: &LabelStack<'_, L>,
    cancel: &Cancel,
) -> Result<Richness> {
    richness_by(stack, hash, cancel)
}

fn richness_by<L: Label + IntoBytes + Immutable>(
    stack: &LabelStack<'_, L>,
    hash: impl Fn(&[u8]) -> u64 + Sync,
    cancel: &Cancel,
) -> Result<Richness> {
    let hashes = (0..stack.len()).into_par_iter().map_init(Vec::new, |scratch, map| {
        cancel.check()?;
        let labels = stack.read(map, 0..stack.n_pixels(), scratch);
        Ok((hash(labels.as_bytes()), map))
    });
    let hashes = memory::gathered::<Result<(u64, usize)>>(hashes, MAPS)?;
    let mut hashes = hashes.into_iter().collect::<Result<Vec<_>>>()?;
    sort_unstable_by(&mut hashes, Ord::cmp, cancel)?;
    let mut found = Richness::default();
    for run in hashes.chunk_by(|a, b| a.0 == b.0) {
        let mut maps = memory::collected(run.iter().map(|&(_, map)| map), MAPS)?;
        while let Some((&first, others)) = maps.split_first() {
            cancel.check()?;
            // In large runs comparing takes long: in parallel, and with a look at whether to go on.
            let others = others.par_iter().map(|&other| {
                cancel.check()?;
                Ok((other, stack.are_equal(first, other)))
            });
            let others = memory::gathered::<Result<(usize, bool)>>(others, MAPS)?;
            let others = others.into_iter().collect::<Result<Vec<_>>>()?;
            let different: Vec<usize> =
                others.iter().filter(|(_, is_equal)| !is_equal).map(|&(other, _)| other).collect();
            found.add(maps.len() - different.len());
            maps = different;
        }
    }
    Ok(found)
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, Axis, concatenate, stack};

    use super::*;

    fn count(maps: &Array3<u8>, hash: impl Fn(&[u8]) -> u64 + Sync) -> Richness {
        let stack = LabelStack::new(maps.view().into_dyn(), "samples").unwrap();
        richness_by(&stack, hash, &Cancel::default()).unwrap()
    }

    /// Map `k`, drawn `k % 4 + 1` times.
    fn drawn() -> Array3<u8> {
        let map =
            |k: usize| Array3::from_shape_fn((k % 4 + 1, 9, 13), |(_, i, j)| (k * (i + 3 * j) % 7) as u8);
        let maps: Vec<_> = (0..6).map(map).collect();
        concatenate(Axis(0), &maps.iter().map(|maps| maps.view()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn maps_are_counted_by_how_often_they_were_drawn() {
        assert_eq!(count(&drawn(), hash), Richness { observed: 6, singletons: 2, doubletons: 2 });
    }

    #[test]
    fn equal_hashes_are_not_believed() {
        assert_eq!(count(&drawn(), |_| 7), count(&drawn(), hash));
        assert_eq!(count(&drawn(), |bytes| u64::from(bytes[1] % 2)), count(&drawn(), hash));
    }

    #[test]
    fn the_hash_sees_every_byte() {
        for len in [1, 7, 63, 64, 65, 200] {
            let base: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut hashes = vec![hash(&base)];
            for place in 0..len {
                for change in [1, 0x80] {
                    let mut bytes = base.clone();
                    bytes[place] ^= change;
                    hashes.push(hash(&bytes));
                }
            }
            hashes.sort_unstable();
            hashes.dedup();
            assert_eq!(hashes.len(), 2 * len + 1);
        }
    }

    #[test]
    fn maps_that_are_not_contiguous() {
        let maps = drawn();
        let last = stack(Axis(2), &maps.outer_iter().collect::<Vec<_>>()).unwrap();
        let view = last.view().permuted_axes([2, 0, 1]).into_dyn();
        let stack = LabelStack::new(view, "samples").unwrap();
        assert_eq!(richness(&stack, &Cancel::default()).unwrap(), count(&maps, hash));
    }
}
