//! What is kept of images: the probabilities of the pixels that a loss looks at.

use std::sync::Arc;

use rayon::prelude::*;

use super::Side;
use super::planes::{Planes, is_probability};
use crate::error::{Error, Result};
use crate::maps::{Band, BinaryLabels, Code, ScoreMaps, fold_images};
use crate::memory;
use crate::num::real::{Real, Stored};
use crate::profile::{hash_of_image, hash_of_pixels};
use crate::runs::{RUN, bits, count_from, places};
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// The most probabilities of an image that are used to tell it from others.
const TELLING: usize = 1 << 12;

/// What errors call kept probabilities.
const WHAT: &str = "the probabilities of pixels";

/// The values of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageValues {
    /// Labelled pixels of the background and of the foreground.
    pub totals: [u64; 2],
    /// Void pixels.
    pub n_void: u64,
    /// Labelled pixels, of the background and of the foreground, with a probability of at least 1/2.
    pub said: [u64; 2],
    /// The probabilities of the pixels of one side that are not right for any threshold, in runs as they were read.
    pub blocks: Vec<Stored>,
    /// A hash, which is equal for equal images; see `hash_of_image`.
    pub hash: u64,
}

/// The values of many images.
#[derive(Debug, Clone)]
pub struct Values {
    /// Whose pixels they are.
    pub side: Side,
    /// Image by image, shared by splits and merges.
    pub images: Vec<Arc<ImageValues>>,
}

impl ImageValues {
    /// An image of given blocks.
    pub fn new(side: Side, totals: [u64; 2], n_void: u64, said: [u64; 2], blocks: Vec<Stored>) -> Self {
        let n_values: usize = blocks.iter().map(Stored::len).sum();
        let mut telling = Vec::with_capacity(TELLING);
        spread(&blocks, n_values.div_ceil(TELLING).max(1), |p| telling.push(p));
        let labels = vec![side.code() as u16; telling.len()];
        let telling = Stored::Double(telling.into());
        let hash = hash_of_image(hash_of_pixels(&telling, &labels), &totals, telling.to_doubles());
        Self { totals, n_void, said, blocks, hash }
    }

    /// Calls `visit` with at most so many of the kept probabilities, spread evenly over them.
    pub(super) fn some(&self, most: usize, visit: impl FnMut(f64)) {
        spread(&self.blocks, self.n_values().div_ceil(most).max(1), visit);
    }

    /// Number of kept probabilities.
    pub fn n_values(&self) -> usize {
        self.blocks.iter().map(Stored::len).sum()
    }

    /// Pixels of a side.
    pub fn total(&self, side: Side) -> u64 {
        self.totals[side.code() as usize]
    }
}

/// Calls `visit` with every `step`-th value, however the values are cut into blocks.
fn spread(blocks: &[Stored], step: usize, mut visit: impl FnMut(f64)) {
    let mut first = 0; // counted from the beginning of a block
    for block in blocks {
        let places = (first..block.len()).step_by(step);
        first = first + places.len() * step - block.len();
        match block {
            Stored::Single(values) => places.for_each(|i| visit(values[i].into())),
            Stored::Double(values) => places.for_each(|i| visit(values[i])),
        }
    }
}

impl Values {
    /// Number of kept probabilities.
    pub fn n_values(&self) -> usize {
        self.images.iter().map(|image| image.n_values()).sum()
    }
}

/// Reads images once: maps of the foreground's probability alone, and labels 0 and 1.
pub fn build<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &BinaryLabels<'_>,
    side: Side,
    cancel: &Cancel,
) -> Result<Values> {
    let read = |work: &mut Work<R>, band: &Band| read_band(maps, labels, side, band, work, cancel);
    let found = fold_images(maps, cancel, read, Found::add)?;
    let images = found.into_par_iter().map(|Found { totals, n_void, said, blocks }| {
        cancel.check()?;
        Ok(Arc::new(ImageValues::new(side, totals, n_void, said, blocks)))
    });
    let images = memory::gathered(images, "the profiles of images")?;
    Ok(Values { side, images: memory::all(images.into_iter(), "the profiles of images")? })
}

/// What is found in a part of an image.
struct Found {
    totals: [u64; 2],
    n_void: u64,
    said: [u64; 2],
    blocks: Vec<Stored>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.totals.iter_mut().zip(other.totals).for_each(|(sum, count)| *sum += count);
        self.n_void += other.n_void;
        self.said.iter_mut().zip(other.said).for_each(|(sum, count)| *sum += count);
        self.blocks.extend(other.blocks);
    }
}

/// The buffers of one thread.
#[derive(Default)]
struct Work<R> {
    planes: Planes<R>,
    values: Vec<R>,
}

fn read_band<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &BinaryLabels<'_>,
    side: Side,
    band: &Band,
    work: &mut Work<R>,
    cancel: &Cancel,
) -> Result<Found> {
    let Work { planes, values } = work;
    values.clear();
    memory::reserve(values, band.pixels.len(), WHAT)?;
    let mut found = Found { totals: [0; 2], n_void: 0, said: [0; 2], blocks: Vec::new() };
    let mut n_said = 0; // of labelled pixels
    planes.for_each(maps, Some(labels), band, cancel, |_, plane, codes| {
        let [n_void, n_background, n_foreground] = take(plane, codes, side, values);
        found.n_void += n_void;
        found.totals[0] += n_background;
        found.totals[1] += n_foreground;
        n_said += said(plane);
        if n_void > 0 {
            n_said -= said_where_void(plane, codes);
        }
        Ok(())
    })?;
    if !may_be_kept(values, side) {
        return Err(Error::Changed { name: "P" });
    }
    // Foreground pixels that are not kept have the probability 1, background pixels 0.
    let n_always = if side == Side::Foreground { found.totals[1] - values.len() as u64 } else { 0 };
    let of_side = said(values) + n_always;
    let code = side.code() as usize;
    // Another thread may have written to P meanwhile.
    (found.said[code], found.said[1 - code]) = (of_side, n_said.saturating_sub(of_side));
    found.blocks.push(R::boxed(values, WHAT)?);
    Ok(found)
}

/// How many probabilities are at least 1/2.
fn said<R: Real>(values: &[R]) -> u64 {
    let mut counts = [0];
    count_from(values, &[R::one() / (R::one() + R::one())], &mut counts);
    counts[0]
}

/// The same for void pixels.
#[apply(vectorised!)]
fn said_where_void<R: Real>(plane: &[R], codes: &[i8]) -> u64 {
    let half = R::one() / (R::one() + R::one());
    plane.iter().zip(codes).filter(|(p, code)| **p >= half && **code == i8::VOID).count() as u64
}

/// Whether these are probabilities, and none is always right: another thread may have written to P after it was checked.
#[apply(vectorised!)]
fn may_be_kept<R: Real>(values: &[R], side: Side) -> bool {
    let is_good = |p| is_probability(p) & !side.is_always_right(p);
    values.iter().fold(true, |all, &p| all & is_good(p))
}

/// Appends the probabilities of the pixels of a side that are not always right; gives the numbers of void, background and
/// foreground pixels.
#[apply(vectorised!)]
fn take<R: Real>(plane: &[R], codes: &[i8], side: Side, values: &mut Vec<R>) -> [u64; 3] {
    let (n_void, n_foreground) = (count(codes, i8::VOID), count(codes, 1));
    let (runs, last) = plane.as_chunks::<RUN>();
    let (runs_of_codes, last_codes) = codes.as_chunks::<RUN>();
    for (run, codes) in runs.iter().zip(runs_of_codes) {
        if *codes == [1 - side.code(); RUN] {
            continue;
        }
        let kept = bits(codes, |code| code == side.code()) & bits(run, |p| !side.is_always_right(p));
        if kept == !0 {
            values.extend_from_slice(run);
        } else {
            extend(values, run, kept);
        }
    }
    for (&p, &code) in last.iter().zip(last_codes) {
        if code == side.code() && !side.is_always_right(p) {
            values.push(p);
        }
    }
    [n_void, codes.len() as u64 - n_void - n_foreground, n_foreground]
}

#[inline(always)]
fn count(codes: &[i8], wanted: i8) -> u64 {
    // Parts are short enough for 16-bit counters, of which more lanes fit.
    let of_part = |part: &[i8]| part.iter().fold(0_u16, |n, &code| n + u16::from(code == wanted));
    codes.chunks(1 << 10).map(|part| u64::from(of_part(part))).sum()
}

/// Appends the elements whose bit is set.
#[inline(always)]
fn extend<R: Real>(values: &mut Vec<R>, run: &[R; RUN], bits: u64) {
    let (mut kept, n) = ([R::zero(); RUN], bits.count_ones() as usize);
    for (value, place) in kept.iter_mut().zip(places(bits)) {
        *value = run[place];
    }
    values.extend_from_slice(&kept[..n]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(step: usize, blocks: &[&[f32]]) -> Vec<f64> {
        let blocks: Vec<_> = blocks.iter().map(|&block| Stored::Single(block.into())).collect();
        let mut found = Vec::new();
        spread(&blocks, step, |value| found.push(value));
        found
    }

    #[test]
    fn values_are_spread_however_they_were_cut() {
        let values = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0];
        for step in 1..9 {
            let expected: Vec<f64> = values.iter().step_by(step).map(|&value| value.into()).collect();
            assert_eq!(every(step, &[&values]), expected);
            assert_eq!(every(step, &[&values[..1], &[], &values[1..3], &values[3..]]), expected);
        }
    }

    #[test]
    fn what_is_kept_of_each_side() {
        // One run of each kind, and a rest.
        let codes: Vec<i8> =
            (0..4 * RUN + 5).map(|j| [1, 0, 1, [1, 0, -1][j % 3], (j % 2) as i8][j / RUN]).collect();
        let plane: Vec<f32> = (0..codes.len()).map(|j| [0.25, 0.5, 1.0, 0.0, 0.75][j % 5]).collect();
        for side in [Side::Foreground, Side::Background] {
            let mut kept = vec![9.0];
            let totals = take(&plane, &codes, side, &mut kept);
            let is_kept = |&(&p, &code): &(&f32, &i8)| code == side.code() && !side.is_always_right(p);
            let expected: Vec<f32> = plane.iter().zip(&codes).filter(is_kept).map(|(&p, _)| p).collect();
            assert_eq!(kept[1..], expected);
            assert_eq!(totals, [-1, 0, 1].map(|code| codes.iter().filter(|&&c| c == code).count() as u64));
            assert!(may_be_kept(&expected, side));
            for bad in [f32::NAN, -0.5, 1.5, f32::from(side.code())] {
                assert!(!may_be_kept(&[0.5, bad], side), "{bad}");
            }
        }
    }
}
