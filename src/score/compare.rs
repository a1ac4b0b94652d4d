//! Critical values as they are handed over, by a score that is not ours.
//!
//! The functions do for given critical values what every score has to do in the end: compare them with lambda. Scores that
//! compute critical values first use them too.

use ndarray::ArrayViewMut2;

use super::{Activations, Base, BaseWork, Coding, Loaded, Missed, Score, Work, restart};
use crate::error::{Error, Result};
use crate::maps::{Tile, VOID};
use crate::normalisation::Place;
use crate::real::Real;
use crate::simd::{apply, vectorised};

/// The score whose critical values are the maps themselves, in `[0, max]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Given {
    /// The smallest lambda at which every set is full.
    pub max: f64,
}

impl Given {
    /// Fails at the first value, of the labelled pixels if there are `codes`, that is no critical value.
    fn check<R: Real>(self, tile: &Tile<'_, R>, codes: Option<&[i32]>, place: &Place) -> Result<()> {
        let max = R::largest(|s| s <= self.max);
        if (0..tile.n_classes()).all(|class| all_within(tile.plane(class), max)) {
            return Ok(());
        }
        let is_bad = |j: usize, value: R| {
            codes.is_none_or(|codes| codes[j] != VOID) && !(value >= R::zero() && value <= max)
        };
        for class in 0..tile.n_classes() {
            let plane = tile.plane(class);
            if let Some(j) = (0..tile.len()).find(|&j| is_bad(j, plane[j])) {
                let (image, pixel) = (place.image, place.pixels.start + j);
                let value = plane[j].into();
                return Err(Error::CriticalValue { image, class, pixel, value, max: self.max });
            }
        }
        Ok(())
    }
}

#[apply(vectorised!)]
fn all_within<R: Real>(values: &[R], max: R) -> bool {
    let mut within = true;
    for &value in values {
        within &= (value >= R::zero()) & (value <= max);
    }
    within
}

impl<R: Real> Score<R> for Given {
    fn coding(&self) -> Coding {
        Coding::Direct { max: self.max }
    }

    fn true_labels(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        self.check(tile, Some(codes), place)?;
        true_labels(tile, Score::<R>::coding(self), codes, &mut work.missed);
        Ok(())
    }

    fn count_activations(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        _: &mut Work<R>,
        counts: &mut Activations,
    ) {
        count_activations(tile, Score::<R>::coding(self), codes, counts);
    }

    fn masks(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        _: &mut Work<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        self.check(tile, None, place)?;
        masks(tile, Score::<R>::coding(self), lambda, out);
        Ok(())
    }

    fn sizes(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        self.check(tile, codes, place)?;
        sizes(tile, Score::<R>::coding(self), lambda, &mut work.sizes);
        Ok(())
    }
}

impl<R: Real> Base<R> for Given {
    fn load(
        &self,
        tile: &Tile<'_, R>,
        place: &Place,
        _: &mut BaseWork<R>,
        out: &mut Loaded<'_, R>,
    ) -> Result<()> {
        self.check(tile, None, place)?;
        let mut least = tile.plane(0).to_vec();
        out.first.fill(0);
        for k in 1..tile.n_classes() {
            keep_least(tile.plane(k), k as i32, &mut least, out.first);
        }
        out.copy(tile);
        Ok(())
    }
}

#[apply(vectorised!)]
fn keep_least<R: Real>(plane: &[R], class: i32, least: &mut [R], first: &mut [i32]) {
    for ((least, first), &value) in least.iter_mut().zip(first).zip(plane) {
        let is_less = value < *least;
        *least = if is_less { value } else { *least };
        *first = if is_less { class } else { *first };
    }
}

/// [`Score::true_labels`] for stored values of all labels.
pub fn true_labels<V: Real>(tile: &Tile<'_, V>, coding: Coding, codes: &[i32], missed: &mut Missed) {
    let (at, values) = (&mut missed.at, &mut missed.values);
    at.resize(codes.len(), 0);
    values.resize(codes.len(), 0.0);
    let mut n = 0;
    for (j, &code) in codes.iter().enumerate() {
        // Without a branch: what is not noted is written over.
        let value = tile.plane(code.max(0) as usize)[j].into();
        (at[n], values[n]) = (j as u32, value);
        n += usize::from((code != VOID) & (coding.decode(value) > 0.0));
    }
    at.truncate(n);
    values.truncate(n);
}

/// [`Score::count_activations`] for stored values of all labels.
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

/// [`Score::masks`] for stored values of all labels.
pub fn masks<V: Real>(tile: &Tile<'_, V>, coding: Coding, lambda: f64, out: &mut ArrayViewMut2<'_, u8>) {
    let cutoff = coding.cutoff(lambda);
    for (k, row) in out.outer_iter_mut().enumerate() {
        let row = row.into_slice().expect("the pixels of a class are contiguous");
        match coding {
            Coding::Complement => include_from(tile.plane(k), cutoff, row),
            Coding::Direct { .. } => include_to(tile.plane(k), cutoff, row),
        }
    }
}

/// [`Score::sizes`] for stored values of all labels.
pub fn sizes<V: Real>(tile: &Tile<'_, V>, coding: Coding, lambda: f64, sizes: &mut Vec<i32>) {
    let cutoff = coding.cutoff(lambda);
    restart(sizes, tile.len(), 0);
    for k in 0..tile.n_classes() {
        match coding {
            Coding::Complement => count_from(tile.plane(k), cutoff, sizes),
            Coding::Direct { .. } => count_to(tile.plane(k), cutoff, sizes),
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
