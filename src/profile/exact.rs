//! The exact profile: every critical value above 0, lossless for the input's type.
//!
//! A pixel whose true label is in its set from the start (critical value 0) is only counted: the profile of a good model
//! holds its errors alone, at 6 bytes each (float64 input: 10).

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use ndarray::{Array2, Array3};
use rayon::prelude::*;

use super::repeats::{hash_of_image, hash_of_pixels};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::maps::{Band, ClassCounter, LabelMaps, ScoreMaps, fold_images};
use crate::memory;
use crate::num::real::{Real, Stored};
use crate::runs::{count_from, visit_between};
use crate::score::{Activations, Buffers, Coding, Held, Score, for_each_tile};
use crate::sort::sort_unstable_by;
use crate::threads::Cancel;

/// Pixels are counted in a table, instead of sorted, if it has at most so many times as many numbers as there are pixels.
const DENSE: usize = 8;

/// What errors call critical values.
const VALUES: &str = "critical values";

/// The critical values above 0 of one run of an image's pixels, and their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// One stored value per pixel.
    pub values: Stored,
    /// The pixels' labels.
    pub labels: Box<[u16]>,
    hash: u64,
}

impl Block {
    /// A run of as many values as labels.
    pub fn new(values: Stored, labels: Box<[u16]>) -> Self {
        let hash = hash_of_pixels(&values, &labels);
        Self { values, labels, hash }
    }

    /// A part of a run, of an image whose hash is known.
    pub(super) fn unhashed(values: Stored, labels: Box<[u16]>) -> Self {
        Self { values, labels, hash: 0 }
    }
}

/// The profile of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProfile {
    /// Labelled pixels of each class.
    pub totals: Box<[u64]>,
    /// The labelled pixels of each class that no set holds at lambda = 0: one critical value each.
    pub missed: Box<[u64]>,
    /// Counts of all labels by critical value, if they were asked for.
    pub activations: Option<Activations>,
    /// Labelled pixels whose set holds each class at each lambda of the profile's grid, `(K, L)`, if it has one.
    pub held: Option<Box<[u64]>>,
    /// Runs of pixels as they were read. They stay apart: joining them would need their memory twice.
    pub blocks: Vec<Block>,
    /// A hash: equal for equal images, however they were cut; 0 for images with too few values to be told apart.
    pub hash: u64,
}

impl ImageProfile {
    /// Number of labelled pixels.
    pub fn n_valid(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// Number of critical values above 0.
    pub fn n_values(&self) -> usize {
        self.blocks.iter().map(|block| block.labels.len()).sum()
    }

    /// An image of given blocks.
    pub fn new(
        totals: Vec<u64>,
        activations: Option<Activations>,
        blocks: Vec<Block>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mut missed = vec![0; totals.len()];
        for block in &blocks {
            cancel.check()?;
            block.labels.iter().for_each(|&label| missed[usize::from(label)] += 1);
        }
        let pixels = blocks.iter().fold(0, |sum: u64, block| sum.wrapping_add(block.hash));
        let hash = hash_of_image(pixels, &totals, blocks.iter().flat_map(|block| block.values.to_doubles()));
        Ok(Self { totals: totals.into(), missed: missed.into(), activations, held: None, blocks, hash })
    }

    /// Calls `visit(stored value, label)` for every critical value above 0.
    #[inline]
    pub fn for_each(&self, cancel: &Cancel, mut visit: impl FnMut(f64, u16)) -> Result<()> {
        for Block { values, labels, .. } in &self.blocks {
            cancel.check()?;
            match values {
                Stored::Single(values) => {
                    values.iter().zip(labels).for_each(|(&value, &label)| visit(value.into(), label));
                }
                Stored::Double(values) => {
                    values.iter().zip(labels).for_each(|(&value, &label)| visit(value, label));
                }
            }
        }
        Ok(())
    }

    /// Calls `visit(stored value, label)` for every `step`-th critical value above 0, from the `next` one on. `next` continues
    /// from image to image.
    pub fn for_every(&self, step: usize, next: &mut usize, mut visit: impl FnMut(f64, u16)) {
        for Block { values, labels, .. } in &self.blocks {
            while *next < labels.len() {
                visit(values.get(*next), labels[*next]);
                *next += step;
            }
            *next -= labels.len();
        }
    }

    /// Calls `visit(stored value, label)` for every critical value above 0 whose key is in a range.
    pub fn for_each_within(
        &self,
        coding: Coding,
        keys: &RangeInclusive<u64>,
        cancel: &Cancel,
        mut visit: impl FnMut(f64, u16),
    ) -> Result<()> {
        for Block { values, labels, .. } in &self.blocks {
            cancel.check()?;
            let visit = |place: usize, stored| visit(stored, labels[place]);
            match values {
                Stored::Single(values) => {
                    let [low, high] = coding.between(keys);
                    visit_between(values, low, high, visit);
                }
                Stored::Double(values) => {
                    let [low, high] = coding.between(keys);
                    visit_between(values, low, high, visit);
                }
            }
        }
        Ok(())
    }

    /// The number of critical values above 0 whose key is in each of some ranges.
    pub fn counts_within(
        &self,
        coding: Coding,
        ranges: &[RangeInclusive<u64>],
        cancel: &Cancel,
    ) -> Result<Vec<u64>> {
        fn add<R: Real>(values: &[R], coding: Coding, ranges: &[RangeInclusive<u64>], counts: &mut [u64]) {
            let bounds: Vec<R> = ranges.iter().flat_map(|keys| coding.between(keys)).collect();
            count_from(values, &bounds, counts);
        }
        let mut counts = vec![0; 2 * ranges.len()];
        for block in &self.blocks {
            cancel.check()?;
            match &block.values {
                Stored::Single(values) => add(values, coding, ranges, &mut counts),
                Stored::Double(values) => add(values, coding, ranges, &mut counts),
            }
        }
        Ok(counts.chunks_exact(2).map(|bounds| bounds[0] - bounds[1]).collect())
    }

    /// Counts into `missed` the labelled pixels that the sets at each of some lambdas, which do not descend, miss.
    fn missed_at(&self, coding: Coding, lambdas: &[f64], missed: &mut [u64], cancel: &Cancel) -> Result<()> {
        self.for_each(cancel, |stored, _| {
            let critical = coding.decode(stored);
            let n_before = lambdas.partition_point(|&lambda| lambda < critical);
            if n_before > 0 {
                missed[n_before - 1] += 1;
            }
        })?;
        // A pixel is missed at all lambdas before that.
        for j in (1..missed.len()).rev() {
            missed[j - 1] += missed[j];
        }
        Ok(())
    }

    /// Counts into `missed`, `(K, L)`, the labelled pixels of each class that the sets at each of some lambdas, which do not
    /// descend, miss.
    pub fn missed_of_classes(
        &self,
        coding: Coding,
        lambdas: &[f64],
        missed: &mut [u64],
        cancel: &Cancel,
    ) -> Result<()> {
        let n_lambdas = lambdas.len();
        self.for_each(cancel, |stored, label| {
            let critical = coding.decode(stored);
            let n_before = lambdas.partition_point(|&lambda| lambda < critical);
            if n_before > 0 {
                missed[usize::from(label) * n_lambdas + n_before - 1] += 1;
            }
        })?;
        // A pixel is missed at all lambdas before that.
        for of_class in missed.chunks_exact_mut(n_lambdas.max(1)) {
            for j in (1..of_class.len()).rev() {
                of_class[j - 1] += of_class[j];
            }
        }
        Ok(())
    }

    /// Calls `step(lambdas, loss)` with runs of the non-descending lambdas within which no pixel comes in, the last run first.
    /// It is not called if the loss is undefined.
    pub fn for_each_step(
        &self,
        coding: Coding,
        loss: &Loss,
        lambdas: &[f64],
        cancel: &Cancel,
        mut step: impl FnMut(Range<usize>, f64),
    ) -> Result<()> {
        const WHAT: &str = "the jumps of a loss";
        let n_classes = self.totals.len();
        let (mut missed, mut end) = (vec![0; n_classes], lambdas.len());
        if loss.value(&missed, &self.totals).is_none() {
            return Ok(());
        }
        if let [lambda] = lambdas {
            let beyond = coding.keys_above(*lambda);
            if loss.looks_at_all_alike() {
                // The class of a missed pixel does not matter.
                missed[0] = self.counts_within(coding, &[beyond], cancel)?[0];
            } else {
                self.for_each_within(coding, &beyond, cancel, |_, label| missed[usize::from(label)] += 1)?;
            }
            step(0..1, loss.value(&missed, &self.totals).unwrap_or(f64::NAN));
            return Ok(());
        }
        let mut steps_to = |first: usize, missed: &[u64]| {
            if first < end {
                step(first..end, loss.value(missed, &self.totals).unwrap_or(f64::NAN));
                end = first;
            }
            cancel.check()
        };
        // The number of lambdas that miss a pixel: the first ones do.
        let n_missing = |stored| {
            let critical = coding.decode(stored);
            lambdas.partition_point(|&lambda| lambda < critical)
        };
        let n_values = self.n_values();
        if (lambdas.len() + 1).saturating_mul(n_classes) <= DENSE * n_values.max(DENSE * n_classes) {
            // The number of pixels of each class that exactly the first j lambdas miss.
            let mut ending = memory::filled(0_u64, (lambdas.len() + 1) * n_classes, WHAT, cancel)?;
            self.for_each(cancel, |stored, label| {
                ending[n_missing(stored) * n_classes + usize::from(label)] += 1;
            })?;
            for (j, counts) in ending.chunks_exact(n_classes).enumerate().skip(1).rev() {
                if counts.iter().any(|&count| count > 0) {
                    steps_to(j, &missed)?;
                    missed.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                }
            }
        } else {
            let mut pixels = memory::with_room(n_values, WHAT)?;
            self.for_each(cancel, |stored, label| pixels.push((n_missing(stored), label)))?;
            sort_unstable_by(&mut pixels, |a, b| b.cmp(a), cancel)?;
            for equals in pixels.chunk_by(|a, b| a.0 == b.0) {
                steps_to(equals[0].0, &missed)?;
                for &(_, label) in equals {
                    missed[usize::from(label)] += 1;
                }
            }
        }
        steps_to(0, &missed)
    }
}

/// The profiles of many images under one score. Images are shared, not copied, by splits and merges.
#[derive(Debug, Clone)]
pub struct ExactProfile {
    coding: Coding,
    n_classes: usize,
    images: Vec<Arc<ImageProfile>>,
    /// The lambdas at which the pixels whose set holds each class were counted.
    grid: Option<Arc<[f64]>>,
}

impl ExactProfile {
    /// Joins images that were profiled by one score.
    pub fn new(coding: Coding, n_classes: usize, images: Vec<Arc<ImageProfile>>) -> Self {
        Self { coding, n_classes, images, grid: None }
    }

    /// The same images, whose classes were counted at the lambdas of a grid.
    #[must_use]
    pub fn with_grid(self, grid: Option<Arc<[f64]>>) -> Self {
        Self { grid, ..self }
    }

    /// The lambdas at which classes were counted, ascending.
    pub fn grid(&self) -> Option<&Arc<[f64]>> {
        self.grid.as_ref()
    }

    /// How values are stored.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// The images, in the order in which they came.
    pub fn images(&self) -> &[Arc<ImageProfile>] {
        &self.images
    }

    /// The hash of each image.
    pub fn hashes(&self) -> Result<Vec<u64>> {
        memory::collected(self.images.iter().map(|image| image.hash), "the hashes of images")
    }

    /// Number of critical values above 0.
    pub fn n_values(&self) -> usize {
        self.images.iter().map(|image| image.n_values()).sum()
    }

    /// Labelled pixels of each class in all images, and those of them that no set holds at lambda = 0.
    pub fn start(&self) -> [Vec<u64>; 2] {
        let mut sums = [vec![0; self.n_classes], vec![0; self.n_classes]];
        for image in &self.images {
            for (sums, counts) in sums.iter_mut().zip([&image.totals, &image.missed]) {
                sums.iter_mut().zip(counts).for_each(|(sum, &count)| *sum += count);
            }
        }
        sums
    }

    /// The images of all, in order.
    pub fn concatenate(first: &Self, rest: &[&Self]) -> Result<Self> {
        let n_images = rest.iter().fold(first.images.len(), |n, other| n + other.images.len());
        let mut images = memory::with_room(n_images, "the profiles of images")?;
        images.extend_from_slice(&first.images);
        let mut grid = first.grid.clone();
        for other in rest {
            if first.n_classes != other.n_classes {
                let (image, expected, actual) = (images.len(), first.n_classes, other.n_classes);
                return Err(Error::ClassCount { image, expected, actual });
            }
            if first.coding != other.coding {
                return Err(Error::ScoreMismatch);
            }
            let counted = |profile: &Self| profile.images.first().map(|image| image.activations.is_some());
            if let (Some(here), Some(there)) = (counted(first), counted(other))
                && here != there
            {
                return Err(Error::ActivationMismatch);
            }
            if images.is_empty() {
                grid.clone_from(&other.grid);
            } else if !other.images.is_empty() && other.grid != grid {
                return Err(Error::GridMismatch);
            }
            images.extend_from_slice(&other.images);
        }
        Ok(Self { images, grid, ..*first })
    }

    /// The pixels of all images as those of one image that was read in parts.
    pub fn joined(&self, cancel: &Cancel) -> Result<Self> {
        let [totals, _] = self.start();
        let (mut activations, mut blocks) = (None::<Activations>, Vec::new());
        let mut held: Option<Box<[u64]>> = None;
        for image in &self.images {
            match (&mut activations, &image.activations) {
                (Some(sum), Some(counts)) => sum.merge(counts),
                (sum, counts) => sum.clone_from(counts),
            }
            match (&mut held, &image.held) {
                (Some(sum), Some(counts)) => {
                    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                }
                (sum, counts) => sum.clone_from(counts),
            }
            for block in &image.blocks {
                cancel.check()?;
                blocks.push(block.clone());
            }
        }
        let image = ImageProfile::new(totals, activations, blocks, cancel)?;
        let images = vec![Arc::new(ImageProfile { held, ..image })];
        Ok(Self { images, grid: self.grid.clone(), ..*self })
    }

    /// The number of missed pixels, `(n, L)`, at lambdas that do not descend.
    pub fn missed_at(&self, lambdas: &[f64], cancel: &Cancel) -> Result<Array2<u64>> {
        self.table(0, lambdas.len(), cancel, |image, row| image.missed_at(self.coding, lambdas, row, cancel))
    }

    /// The number of missed pixels of each class, `(n, K, L)`, at lambdas that do not descend.
    pub fn missed_of_classes(&self, lambdas: &[f64], cancel: &Cancel) -> Result<Array3<u64>> {
        let found = self.table(0, self.n_classes * lambdas.len(), cancel, |image, row| {
            image.missed_of_classes(self.coding, lambdas, row, cancel)
        })?;
        let shape = (self.images.len(), self.n_classes, lambdas.len());
        Ok(found.into_shape_with_order(shape).expect("as many"))
    }

    /// The number of labelled pixels whose set holds each class, `(n, K, L)`, at the lambdas of the grid, if there is one.
    pub fn held(&self, cancel: &Cancel) -> Result<Option<Array3<u64>>> {
        let Some(grid) = &self.grid else { return Ok(None) };
        let found = self.table(0, self.n_classes * grid.len(), cancel, |image, row| {
            row.copy_from_slice(image.held.as_ref().expect("images of a profile with a grid have them"));
            Ok(())
        })?;
        let shape = (self.images.len(), self.n_classes, grid.len());
        Ok(Some(found.into_shape_with_order(shape).expect("as many")))
    }

    /// The losses `(n, L)` at lambdas that do not descend; NaN where undefined.
    pub fn losses(&self, loss: &Loss, lambdas: &[f64], cancel: &Cancel) -> Result<Array2<f64>> {
        self.table(f64::NAN, lambdas.len(), cancel, |image, row| {
            image.for_each_step(self.coding, loss, lambdas, cancel, |run, value| row[run].fill(value))
        })
    }

    /// A row for each image.
    fn table<T: Copy + Send>(
        &self,
        value: T,
        n_columns: usize,
        cancel: &Cancel,
        fill: impl Fn(&ImageProfile, &mut [T]) -> Result<()> + Sync,
    ) -> Result<Array2<T>> {
        let shape = (self.images.len(), n_columns);
        let n_cells = shape.0.saturating_mul(n_columns);
        let mut cells = memory::filled(value, n_cells, "the table of images and lambdas", cancel)?;
        let rows = cells.par_chunks_exact_mut(n_columns.max(1)).zip(&self.images);
        rows.try_for_each(|(row, image)| fill(image, row))?;
        Ok(Array2::from_shape_vec(shape, cells).expect("L cells each"))
    }

    /// Bounds, from below and above, of the mean set size of each image at `lambda`; NaN where no pixel is labelled. `None` if
    /// activations were not counted.
    pub fn activation(&self, lambda: f64, cancel: &Cancel) -> Result<Option<Vec<(f64, f64)>>> {
        let per_pixel = |image: &Arc<ImageProfile>| {
            cancel.check()?;
            let Some(activations) = &image.activations else { return Ok(None) };
            let (lower, upper) = activations.bracket(self.coding, lambda);
            let n_valid = image.n_valid() as f64;
            Ok(Some((lower as f64 / n_valid, upper as f64 / n_valid)))
        };
        let found = memory::gathered(self.images.par_iter().map(per_pixel), "the set sizes of images")?;
        let found: Result<Vec<Option<_>>> = found.into_iter().collect();
        Ok(found?.into_iter().collect())
    }

    /// The images at the given places.
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        let images = indices.iter().map(|&index| Arc::clone(&self.images[index])).collect();
        Self { images, grid: self.grid.clone(), ..*self }
    }
}

/// Profiles images in one pass over their maps, counting activations if asked to, and classes at the lambdas of a grid.
pub fn build<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    score: &dyn Score<R>,
    with_activations: bool,
    grid: Option<&Arc<[f64]>>,
    cancel: &Cancel,
) -> Result<ExactProfile> {
    let profile = |work: &mut Work<R>, band: &Band| {
        profile_band(maps, labels, score, with_activations, grid, band, work, cancel)
    };
    let found = fold_images(maps, cancel, profile, Found::add)?;
    let mut images = memory::with_room(found.len(), "the profiles of images")?;
    for Found { totals, activations, held, blocks } in found {
        let image = ImageProfile::new(totals, activations, blocks, cancel)?;
        images.push(Arc::new(ImageProfile { held: held.map(Held::finish).transpose()?, ..image }));
    }
    Ok(ExactProfile::new(score.coding(), maps.n_classes(), images).with_grid(grid.cloned()))
}

/// What is found in a part of an image.
struct Found {
    totals: Vec<u64>,
    activations: Option<Activations>,
    held: Option<Held>,
    blocks: Vec<Block>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.totals.iter_mut().zip(other.totals).for_each(|(sum, count)| *sum += count);
        if let (Some(sum), Some(counts)) = (&mut self.activations, other.activations) {
            sum.merge(&counts);
        }
        if let (Some(sum), Some(counts)) = (&mut self.held, other.held) {
            sum.merge(&counts);
        }
        self.blocks.extend(other.blocks);
    }
}

/// The buffers of one thread.
#[derive(Default)]
struct Work<R: Real> {
    tiles: Buffers<R>,
    values: Vec<f64>,
    labels: Vec<u16>,
}

#[expect(clippy::too_many_arguments, reason = "what to make, of what, where, and with what")]
fn profile_band<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    score: &dyn Score<R>,
    with_activations: bool,
    grid: Option<&Arc<[f64]>>,
    band: &Band,
    buffers: &mut Work<R>,
    cancel: &Cancel,
) -> Result<Found> {
    let Work { tiles, values, labels: missed_labels } = buffers;
    values.clear();
    missed_labels.clear();
    let mut totals = ClassCounter::new(maps.n_classes());
    let mut activations = with_activations.then(Activations::default);
    let mut held = grid.map(|grid| Held::new(Arc::clone(grid), maps.n_classes(), cancel)).transpose()?;
    for_each_tile(maps, Some(labels), score, band, tiles, cancel, |spot| {
        let codes = spot.labels();
        totals.add(codes);
        score.true_labels(spot)?;
        if let Some(activations) = &mut activations {
            score.count_activations(spot, activations);
        }
        if let Some(held) = &mut held {
            score.count_held(spot, held);
        }
        memory::reserve(values, spot.work.missed.values.len(), VALUES)?;
        values.extend_from_slice(&spot.work.missed.values);
        missed_labels.extend(spot.work.missed.at.iter().map(|&j| codes[j as usize] as u16));
        Ok(())
    })?;
    let values = values.iter().copied();
    let values = if score.needs_double() {
        Stored::Double(memory::collected(values, VALUES)?.into())
    } else {
        R::store(values, VALUES)?
    };
    let block = Block::new(values, memory::collected(missed_labels.iter().copied(), VALUES)?.into());
    Ok(Found { totals: totals.finish(), activations, held, blocks: vec![block] })
}
