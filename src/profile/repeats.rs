//! Images that come twice, found by a hash of their data in a profile: labels, critical values and totals.
//!
//! The hash of an image is a sum over its pixels (a multiset hash: Clarke, Devadas, van Dijk, Gassend, Suh, "Incremental
//! Multiset Hash Functions and Their Application to Memory Integrity Checking", ASIACRYPT 2003). It is the same however
//! pixels were cut into bands and blocks, whatever device gave them in whatever order, and as float32 or as float64.

use ndarray::ArrayView1;

use crate::error::Result;
use crate::memory;
use crate::num::real::Stored;
use crate::simd::{apply, vectorised};
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// The hash of an image with too few values to be told from others.
pub const NO_HASH: u64 = 0;

/// So many different critical values distinguish an image from all others. With fewer, it may agree with another one by
/// chance, or because the model is right everywhere, or always equally sure. Eight values that are known to one byte each (a
/// softmax that was stored as bytes) are one of 4e14 sets: among a million images, two agree by chance with probability 1e-3.
/// With float32 values they never do, and the probability that two hashes agree is 3e-8.
const LEAST_VALUES: usize = 8;

/// The golden ratio, as odd steps through all 64 bits.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum over critical values and their labels.
pub fn hash_of_pixels(values: &Stored, labels: &[u16]) -> u64 {
    match values {
        Stored::Single(values) => sum_of_hashes(values, labels),
        Stored::Double(values) => sum_of_hashes(values, labels),
    }
}

#[apply(vectorised!)]
fn sum_of_hashes<F: Copy + Into<f64>>(values: &[F], labels: &[u16]) -> u64 {
    let pixels = values.iter().zip(labels);
    pixels.fold(0, |sum, (&value, &label)| sum.wrapping_add(hash_of_pixel(value.into(), label)))
}

#[inline(always)]
fn hash_of_pixel(value: f64, label: u16) -> u64 {
    // Labels are shifted so that none is 0: value 0 of class 0 would add nothing. The product with an odd step also changes
    // bits that are 0 in a float32. A step of 32 bits is fast.
    mixed(value.to_bits().wrapping_add((u64::from(label) + 1) * (STEP >> 32)))
}

/// The hash of an image, of which `pixels` is the sum over its pixels; [`NO_HASH`] if it has too few different values.
pub fn hash_of_image(pixels: u64, totals: &[u64], values: impl Iterator<Item = f64>) -> u64 {
    if !has_many(values) {
        return NO_HASH;
    }
    totals.iter().fold(mixed(pixels), |hash, &total| mixed(hash.wrapping_add(STEP) ^ total))
}

fn has_many(values: impl Iterator<Item = f64>) -> bool {
    let mut found = [0.0; LEAST_VALUES];
    let mut n = 0;
    for value in values {
        if !found[..n].contains(&value) {
            found[n] = value;
            n += 1;
            if n == LEAST_VALUES {
                return true;
            }
        }
    }
    false
}

/// All bits depend on all bits: the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
#[inline(always)]
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Images that repeat earlier ones, in order, each with the first image that has its hash.
pub fn repeats_within(hashes: &ArrayView1<'_, u64>, cancel: &Cancel) -> Result<Vec<(usize, usize)>> {
    let sorted = sorted(hashes, cancel)?;
    let runs = sorted.chunk_by(|left, right| left.0 == right.0);
    in_order(runs.flat_map(|run| run[1..].iter().map(|&(_, again)| (run[0].1, again))), cancel)
}

/// Images of `later`, counted from 0, that are among others: each with the first there that has its hash, in order.
pub fn repeats_between(
    others: &ArrayView1<'_, u64>,
    later: &ArrayView1<'_, u64>,
    cancel: &Cancel,
) -> Result<Vec<(usize, usize)>> {
    let later = sorted(later, cancel)?;
    let mut first = memory::filled(None, later.len(), WHAT, cancel)?; // of each run, at its beginning
    // There may be many others and few later images, so the others are not sorted.
    for (i, &hash) in others.iter().enumerate() {
        if i % RUN == 0 {
            cancel.check()?;
        }
        let run = later.partition_point(|&(other, _)| other < hash);
        if later.get(run).is_some_and(|&(other, _)| other == hash) {
            first[run].get_or_insert(i);
        }
    }
    let mut start = 0;
    let repeats = later.iter().enumerate().filter_map(|(at, &(hash, again))| {
        if later[start].0 != hash {
            start = at;
        }
        Some((first[start]?, again))
    });
    in_order(repeats, cancel)
}

/// Images between two checks for cancellation.
const RUN: usize = 1 << 10;

/// What errors call the pairs.
const WHAT: &str = "images that come twice";

/// Hashes with the images that have them.
fn sorted(hashes: &ArrayView1<'_, u64>, cancel: &Cancel) -> Result<Vec<(u64, usize)>> {
    let mut sorted = memory::with_room(hashes.len(), WHAT)?;
    sorted.extend(hashes.iter().enumerate().map(|(i, &hash)| (hash, i)).filter(|&(hash, _)| hash != NO_HASH));
    sort_unstable_by(&mut sorted, Ord::cmp, cancel)?;
    Ok(sorted)
}

fn in_order(repeats: impl Iterator<Item = (usize, usize)>, cancel: &Cancel) -> Result<Vec<(usize, usize)>> {
    let mut pairs = Vec::new();
    for pair in repeats {
        memory::push(&mut pairs, pair, WHAT)?;
    }
    sort_unstable_by(&mut pairs, |a, b| a.1.cmp(&b.1), cancel)?;
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(values: &[f64], labels: &[u16], totals: &[u64]) -> u64 {
        hash_of_image(hash_of_pixels(&Stored::Double(values.into()), labels), totals, values.iter().copied())
    }

    #[test]
    fn everything_counts_but_the_order_of_pixels() {
        let values = [0.0, 0.5, 0.25, 0.125, 0.75, 0.375, 0.625, 0.875];
        let labels = [0, 1, 0, 1, 0, 1, 0, 1];
        let known = hash(&values, &labels, &[9, 9]);
        let (mut turned, mut names) = (values, labels);
        turned.reverse();
        names.reverse();
        assert_eq!(hash(&turned, &names, &[9, 9]), known);
        assert_ne!(hash(&turned, &labels, &[9, 9]), known);
        assert_ne!(hash(&values, &labels, &[9, 8]), known);
        assert_ne!(hash(&values, &labels, &[8, 9]), known);
        let more = [&values[..], &[0.0]].concat();
        assert_ne!(hash(&more, &[&labels[..], &[0]].concat(), &[9, 9]), known);
        assert_eq!(hash(&more[1..8], &labels[1..], &[9, 9]), NO_HASH);
    }

    #[test]
    fn the_width_of_floats_does_not_count() {
        let (values, labels) = ([0.1_f32, 0.7, 0.3], [3, 0, 700]);
        let doubles = values.map(f64::from);
        assert_eq!(
            hash_of_pixels(&Stored::Single(values.into()), &labels),
            hash_of_pixels(&Stored::Double(doubles.into()), &labels)
        );
    }

    #[test]
    fn repeats_are_found() {
        let cancel = Cancel::default();
        let within = |hashes: &[u64]| repeats_within(&hashes.into(), &cancel).unwrap();
        let between = |a: &[u64], b: &[u64]| repeats_between(&a.into(), &b.into(), &cancel).unwrap();
        assert_eq!(within(&[5, 7, 5, 0, 0, 9, 7, 5]), [(0, 2), (1, 6), (0, 7)]);
        assert_eq!(between(&[8, 5, 7, 5, 0], &[0, 7, 6, 5, 6, 7]), [(2, 1), (1, 3), (2, 5)]);
        assert!(between(&[1, 1], &[2, 2]).is_empty() && within(&[]).is_empty());
    }
}
