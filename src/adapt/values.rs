//! What is kept of images: the probabilities of the pixels that a loss looks at.

use std::sync::Arc;

use super::Side;
use super::planes::Planes;
use crate::error::Result;
use crate::maps::{Band, BinaryLabels, Code, ScoreMaps, fold_images};
use crate::memory;
use crate::num::real::{Real, Stored};
use crate::profile::{hash_of_image, hash_of_pixels};
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Pixels that are looked at together: where none or all of them count, none is looked at alone.
const RUN: usize = 64;

/// Probabilities of an image, at most, by which it is told from others.
const TELLING: usize = 1 << 12;

/// What errors call kept probabilities.
const WHAT: &str = "the probabilities of pixels";

/// Of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageValues {
    /// Labelled pixels of the background and of the foreground.
    pub totals: [u64; 2],
    /// Void pixels.
    pub n_void: u64,
    /// The probabilities of the pixels of one side that are not right for any threshold, in runs as they were read.
    pub blocks: Vec<Stored>,
    /// The same for images that are the same; see [`hash_of_image`].
    pub hash: u64,
}

/// Of many images.
#[derive(Debug, Clone)]
pub struct Values {
    /// Whose pixels they are.
    pub side: Side,
    /// Image by image, shared by splits and merges.
    pub images: Vec<Arc<ImageValues>>,
}

impl ImageValues {
    /// An image of given blocks.
    pub fn new(side: Side, totals: [u64; 2], n_void: u64, blocks: Vec<Stored>) -> Self {
        let n_values: usize = blocks.iter().map(Stored::len).sum();
        let telling: Box<[f64]> = spread(&blocks, n_values.div_ceil(TELLING).max(1)).collect();
        let labels = vec![side.code() as u16; telling.len()];
        let values = telling.iter().copied();
        let hash = hash_of_image(hash_of_pixels(&Stored::Double(telling.clone()), &labels), &totals, values);
        Self { totals, n_void, blocks, hash }
    }

    /// At most so many of the kept probabilities, spread evenly over them.
    pub(super) fn some(&self, most: usize) -> impl Iterator<Item = f64> + '_ {
        spread(&self.blocks, self.n_values().div_ceil(most).max(1))
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

/// Every so many-th of the values in blocks, however they were cut.
fn spread(blocks: &[Stored], step: usize) -> impl Iterator<Item = f64> + '_ {
    let mut next = 0; // counted from the beginning of a block
    blocks.iter().flat_map(move |block| {
        let (first, len) = (next, block.len());
        next = if first < len { step - 1 - (len - 1 - first) % step } else { first - len };
        (first..len).step_by(step).map(move |i| match block {
            Stored::Single(values) => values[i].into(),
            Stored::Double(values) => values[i],
        })
    })
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
    let images = found.into_iter().map(|Found { totals, n_void, blocks }| {
        cancel.check()?;
        Ok(Arc::new(ImageValues::new(side, totals, n_void, blocks)))
    });
    Ok(Values { side, images: memory::all(images, "the profiles of images")? })
}

/// What is found in a part of an image.
struct Found {
    totals: [u64; 2],
    n_void: u64,
    blocks: Vec<Stored>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.totals.iter_mut().zip(other.totals).for_each(|(sum, count)| *sum += count);
        self.n_void += other.n_void;
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
    let mut found = Found { totals: [0; 2], n_void: 0, blocks: Vec::new() };
    planes.for_each(maps, Some(labels), band, cancel, |_, plane, codes| {
        let [n_void, n_background, n_foreground] = take(plane, codes, side, values);
        found.n_void += n_void;
        found.totals[0] += n_background;
        found.totals[1] += n_foreground;
        Ok(())
    })?;
    found.blocks.push(R::boxed(values, WHAT)?);
    Ok(found)
}

/// Appends the probabilities of the pixels of a side that are not always right; gives the numbers of void, background and
/// foreground pixels.
#[apply(vectorised!)]
fn take<R: Real>(plane: &[R], codes: &[i8], side: Side, values: &mut Vec<R>) -> [u64; 3] {
    let mut totals = [0_u64; 3];
    let wanted = side.code();
    for (plane, codes) in plane.chunks(RUN).zip(codes.chunks(RUN)) {
        let (mut n_void, mut n_foreground, mut n_kept) = (0_u32, 0_u32, 0_u32);
        for (&p, &code) in plane.iter().zip(codes) {
            n_void += u32::from(code == i8::VOID);
            n_foreground += u32::from(code == 1);
            n_kept += u32::from((code == wanted) & !side.is_always_right(p));
        }
        let n = codes.len() as u32;
        totals[0] += u64::from(n_void);
        totals[1] += u64::from(n - n_void - n_foreground);
        totals[2] += u64::from(n_foreground);
        if n_kept == n {
            values.extend_from_slice(plane);
        } else if n_kept > 0 {
            let start = values.len();
            values.resize(start + plane.len(), R::zero());
            let mut end = start;
            for (&p, &code) in plane.iter().zip(codes) {
                // Without a branch: what is not kept is written over.
                values[end] = p;
                end += usize::from((code == wanted) & !side.is_always_right(p));
            }
            values.truncate(end);
        }
    }
    totals
}
