//! The last step of every score: stored values of all labels are compared with lambda.

use ndarray::ArrayViewMut2;

use super::{Activations, Coding, Held, Missed, restart};
use crate::maps::{Tile, VOID};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// [`super::Score::true_labels`] for stored values of all labels.
pub fn true_labels<V: Real>(tile: &Tile<'_, V>, coding: Coding, codes: &[i32], missed: &mut Missed) {
    let (at, values) = (&mut missed.at, &mut missed.values);
    at.resize(codes.len(), 0);
    values.resize(codes.len(), 0.0);
    let mut n = 0;
    for (j, &code) in codes.iter().enumerate() {
        // Without a branch: an entry that is not kept is overwritten.
        let value = tile.plane(code.max(0) as usize)[j].into();
        (at[n], values[n]) = (j as u32, value);
        n += usize::from((code != VOID) & (coding.decode(value) > 0.0));
    }
    at.truncate(n);
    values.truncate(n);
}

/// [`super::Score::count_activations`] for stored values of all labels.
pub fn count_activations<V: Real>(
    tile: &Tile<'_, V>,
    coding: Coding,
    codes: &[i32],
    counts: &mut Activations,
) {
    for k in 0..tile.n_classes() {
        for (&value, &code) in tile.plane(k).iter().zip(codes) {
            if code != VOID {
                counts.add(coding, value.into());
            }
        }
    }
}

/// [`super::Score::count_held`] for stored values of all labels.
pub fn count_held<V: Real>(tile: &Tile<'_, V>, coding: Coding, codes: &[i32], held: &mut Held) {
    for k in 0..tile.n_classes() {
        for (&value, &code) in tile.plane(k).iter().zip(codes) {
            if code != VOID {
                held.add(k, coding, value.into());
            }
        }
    }
}

/// [`super::Score::masks`] for stored values of all labels; `cutoff` gives the last value of a class that is in.
pub fn masks<V: Real>(
    tile: &Tile<'_, V>,
    coding: Coding,
    cutoff: impl Fn(usize) -> V,
    out: &mut ArrayViewMut2<'_, u8>,
) {
    for (k, row) in out.outer_iter_mut().enumerate() {
        let row = row.into_slice().expect("the pixels of a class are contiguous");
        match coding {
            Coding::Complement => include_from(tile.plane(k), cutoff(k), row),
            Coding::Direct { .. } => include_to(tile.plane(k), cutoff(k), row),
        }
    }
}

/// [`super::Score::sizes`] for stored values of all labels, likewise.
pub fn sizes<V: Real>(tile: &Tile<'_, V>, coding: Coding, cutoff: impl Fn(usize) -> V, sizes: &mut Vec<i32>) {
    restart(sizes, tile.len(), 0);
    for k in 0..tile.n_classes() {
        match coding {
            Coding::Complement => count_from(tile.plane(k), cutoff(k), sizes),
            Coding::Direct { .. } => count_to(tile.plane(k), cutoff(k), sizes),
        }
    }
}

/// Marks the values of at least `cutoff`.
#[apply(vectorised!)]
pub fn include_from<V: Real>(plane: &[V], cutoff: V, mask: &mut [u8]) {
    for (mask, &value) in mask.iter_mut().zip(plane) {
        *mask = u8::from(value >= cutoff);
    }
}

/// Marks the values of at most `cutoff`.
#[apply(vectorised!)]
fn include_to<V: Real>(plane: &[V], cutoff: V, mask: &mut [u8]) {
    for (mask, &value) in mask.iter_mut().zip(plane) {
        *mask = u8::from(value <= cutoff);
    }
}

/// Marks the values of at least the threshold of each pixel, and counts them.
#[apply(vectorised!)]
pub fn include_each<R: Real>(plane: &[R], thresholds: &[R], mask: &mut [u8], sizes: &mut [i32]) {
    let len = plane.len();
    let (thresholds, mask, sizes) = (&thresholds[..len], &mut mask[..len], &mut sizes[..len]);
    for j in 0..len {
        let inside = plane[j] >= thresholds[j];
        mask[j] = u8::from(inside);
        sizes[j] += i32::from(inside);
    }
}

#[apply(vectorised!)]
fn count_from<V: Real>(plane: &[V], cutoff: V, sizes: &mut [i32]) {
    for (size, &value) in sizes.iter_mut().zip(plane) {
        *size += i32::from(value >= cutoff);
    }
}

#[apply(vectorised!)]
fn count_to<V: Real>(plane: &[V], cutoff: V, sizes: &mut [i32]) {
    for (size, &value) in sizes.iter_mut().zip(plane) {
        *size += i32::from(value <= cutoff);
    }
}

/// Finds the label of the smallest critical value at each pixel, the lowest of equals.
pub fn first<V: Real>(tile: &Tile<'_, V>, coding: Coding, first: &mut [i32]) {
    let keep = match coding {
        Coding::Complement => keep_better::<V, true>,
        Coding::Direct { .. } => keep_better::<V, false>,
    };
    let mut best = tile.plane(0).to_vec();
    first.fill(0);
    for k in 1..tile.n_classes() {
        keep(tile.plane(k), k as i32, &mut best, first);
    }
}

/// A class stays the best of its pixel until one is better: larger, or smaller.
#[apply(vectorised!)]
fn keep_better<V: Real, const LARGER: bool>(plane: &[V], class: i32, best: &mut [V], first: &mut [i32]) {
    for ((best, first), &value) in best.iter_mut().zip(first).zip(plane) {
        let is_better = if LARGER { value > *best } else { value < *best };
        *best = if is_better { value } else { *best };
        *first = if is_better { class } else { *first };
    }
}
