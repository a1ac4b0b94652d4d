//! The exact profile: every critical value above 0, lossless for the input's type.
//!
//! A pixel whose true label is in its set from the start (critical value 0) is only counted: the profile of a good model
//! holds its errors alone, at 6 bytes each (float64 input: 10).

use std::sync::Arc;

use ndarray::Array2;
use rayon::prelude::*;

use super::repeats::{hash_of_image, hash_of_pixels};
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::maps::{Band, ClassCounter, LabelMaps, ScoreMaps, fold_images};
use crate::num::real::{Real, Stored};
use crate::score::{Activations, Buffers, Coding, Score, for_each_tile};
use crate::threads::Cancel;

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
}

/// The profile of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProfile {
    /// Labelled pixels of each class.
    pub totals: Box<[u64]>,
    /// Those of them that no set holds at lambda = 0: one critical value each.
    pub missed: Box<[u64]>,
    /// Counts of all labels by critical value, if they were asked for.
    pub activations: Option<Activations>,
    /// Runs of pixels as they were read. They stay apart: joining them would need their memory twice.
    pub blocks: Vec<Block>,
    /// The same for images that are the same, however they were cut; 0 for those that hold too little to be told apart.
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
    pub fn new(totals: Vec<u64>, activations: Option<Activations>, blocks: Vec<Block>) -> Self {
        let mut missed = vec![0; totals.len()];
        for &label in blocks.iter().flat_map(|block| &block.labels) {
            missed[usize::from(label)] += 1;
        }
        let pixels = blocks.iter().fold(0, |sum: u64, block| sum.wrapping_add(block.hash));
        let hash = hash_of_image(pixels, &totals, blocks.iter().flat_map(|block| block.values.to_doubles()));
        Self { totals: totals.into(), missed: missed.into(), activations, blocks, hash }
    }

    /// Calls `visit(stored value, label)` for every critical value above 0.
    #[inline]
    pub fn for_each(&self, mut visit: impl FnMut(f64, u16)) {
        for Block { values, labels, .. } in &self.blocks {
            match values {
                Stored::Single(values) => {
                    values.iter().zip(labels).for_each(|(&value, &label)| visit(value.into(), label));
                }
                Stored::Double(values) => {
                    values.iter().zip(labels).for_each(|(&value, &label)| visit(value, label));
                }
            }
        }
    }

    /// The number of labelled pixels that the sets at each of some lambdas, which do not descend, miss.
    pub fn missed_at(&self, coding: Coding, lambdas: &[f64]) -> Vec<u64> {
        let mut missed = vec![0; lambdas.len() + 1];
        self.for_each(|stored, _| {
            let critical = coding.decode(stored);
            missed[lambdas.partition_point(|&lambda| lambda < critical)] += 1;
        });
        // A pixel is missed at all lambdas before that.
        for j in (1..missed.len()).rev() {
            missed[j - 1] += missed[j];
        }
        missed.split_off(1)
    }

    /// The losses at lambdas that do not descend; NaN where the loss is undefined.
    pub fn losses(&self, coding: Coding, loss: &Loss, lambdas: &[f64]) -> Vec<f64> {
        let n_classes = self.totals.len();
        // How many pixels of each class are missed at the first j lambdas and no more.
        let mut missed_until = vec![0_u64; (lambdas.len() + 1) * n_classes];
        self.for_each(|stored, label| {
            let critical = coding.decode(stored);
            let j = lambdas.partition_point(|&lambda| lambda < critical);
            missed_until[j * n_classes + usize::from(label)] += 1;
        });
        let mut missed = vec![0; n_classes];
        let mut losses: Vec<f64> = missed_until
            .chunks_exact(n_classes)
            .skip(1)
            .rev()
            .map(|ending| {
                missed.iter_mut().zip(ending).for_each(|(sum, count)| *sum += count);
                loss.value(&missed, &self.totals).unwrap_or(f64::NAN)
            })
            .collect();
        losses.reverse();
        losses
    }
}

/// The profiles of many images under one score. Images are shared, not copied, by splits and merges.
#[derive(Debug, Clone)]
pub struct ExactProfile {
    coding: Coding,
    n_classes: usize,
    images: Vec<Arc<ImageProfile>>,
}

impl ExactProfile {
    /// Joins images that were profiled by one score.
    pub fn new(coding: Coding, n_classes: usize, images: Vec<Arc<ImageProfile>>) -> Self {
        Self { coding, n_classes, images }
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
    pub fn hashes(&self) -> Vec<u64> {
        self.images.iter().map(|image| image.hash).collect()
    }

    /// Number of critical values above 0.
    pub fn n_values(&self) -> usize {
        self.images.iter().map(|image| image.n_values()).sum()
    }

    /// The images of all, in order.
    pub fn concatenate(first: &Self, rest: &[&Self]) -> Result<Self> {
        let mut images = first.images.clone();
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
            images.extend_from_slice(&other.images);
        }
        Ok(Self { images, ..*first })
    }

    /// The number of missed pixels, `(n, L)`, at lambdas that do not descend.
    pub fn missed_at(&self, lambdas: &[f64]) -> Array2<u64> {
        let rows: Vec<Vec<u64>> =
            self.images.par_iter().map(|image| image.missed_at(self.coding, lambdas)).collect();
        Array2::from_shape_vec((self.images.len(), lambdas.len()), rows.concat()).expect("L counts each")
    }

    /// The losses `(n, L)` at lambdas that do not descend; NaN where undefined.
    pub fn losses(&self, loss: &Loss, lambdas: &[f64]) -> Array2<f64> {
        let rows: Vec<Vec<f64>> =
            self.images.par_iter().map(|image| image.losses(self.coding, loss, lambdas)).collect();
        Array2::from_shape_vec((self.images.len(), lambdas.len()), rows.concat()).expect("L losses each")
    }

    /// At least and at most so many labels are in the mean set of each image at `lambda`; NaN where no pixel is labelled. `None`
    /// if activations were not counted.
    pub fn activation(&self, lambda: f64) -> Option<Vec<(f64, f64)>> {
        let per_pixel = |image: &Arc<ImageProfile>| {
            let (lower, upper) = image.activations.as_ref()?.bracket(self.coding, lambda);
            let n_valid = image.n_valid() as f64;
            Some((lower as f64 / n_valid, upper as f64 / n_valid))
        };
        self.images.iter().map(per_pixel).collect()
    }

    /// The images at the given places.
    #[must_use]
    pub fn take(&self, indices: &[usize]) -> Self {
        let images = indices.iter().map(|&index| Arc::clone(&self.images[index])).collect();
        Self { images, ..*self }
    }
}

/// Profiles images in one pass over their maps, counting activations if asked to.
pub fn build<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    score: &dyn Score<R>,
    with_activations: bool,
    cancel: &Cancel,
) -> Result<ExactProfile> {
    let profile =
        |work: &mut Work<R>, band: &Band| profile_band(maps, labels, score, with_activations, band, work);
    let images = fold_images(maps, cancel, profile, Found::add)?
        .into_iter()
        .map(|found| Arc::new(ImageProfile::new(found.totals, found.activations, found.blocks)))
        .collect();
    Ok(ExactProfile::new(score.coding(), maps.n_classes(), images))
}

/// What is found in a part of an image.
struct Found {
    totals: Vec<u64>,
    activations: Option<Activations>,
    blocks: Vec<Block>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.totals.iter_mut().zip(other.totals).for_each(|(sum, count)| *sum += count);
        if let (Some(sum), Some(counts)) = (&mut self.activations, other.activations) {
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

fn profile_band<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    score: &dyn Score<R>,
    with_activations: bool,
    band: &Band,
    buffers: &mut Work<R>,
) -> Result<Found> {
    let Work { tiles, values, labels: missed_labels } = buffers;
    values.clear();
    missed_labels.clear();
    let mut totals = ClassCounter::new(maps.n_classes());
    let mut activations = with_activations.then(Activations::default);
    for_each_tile(maps, Some(labels), score, band, tiles, |spot| {
        let codes = spot.labels();
        totals.add(codes);
        score.true_labels(spot)?;
        if let Some(activations) = &mut activations {
            score.count_activations(spot, activations);
        }
        values.extend_from_slice(&spot.work.missed.values);
        missed_labels.extend(spot.work.missed.at.iter().map(|&j| codes[j as usize] as u16));
        Ok(())
    })?;
    let values =
        if score.needs_double() { Stored::Double(values.as_slice().into()) } else { R::store(values) };
    let block = Block::new(values, missed_labels.as_slice().into());
    Ok(Found { totals: totals.finish(), activations, blocks: vec![block] })
}
