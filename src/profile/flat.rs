//! A profile as four plain arrays, to be stored and sent.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, Axis};

use super::exact::{Block, ExactProfile, ImageProfile};
use crate::error::{Error, Result};
use crate::maps::MAX_CLASSES;
use crate::memory;
use crate::num::real::Stored;
use crate::score::{Activations, Coding, N_CELLS};
use crate::threads::Cancel;

/// Values of one block.
const BLOCK: usize = 1 << 18;
/// Images between two checks of the free memory.
const BATCH: usize = 1 << 10;
/// What errors call the arrays.
const ARRAYS: &str = "the arrays of a profile";

/// Labelled pixels that an image can have: times K they are counted in 64 bits.
const MOST_PIXELS: u128 = 1 << 47;

/// All images of a profile, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    /// Labelled pixels of each class, `(n, K)`.
    pub totals: Array2<u64>,
    /// Stored values of each image.
    pub lengths: Vec<u64>,
    /// The stored values of all images; in float64 if those of any image are.
    pub values: Stored,
    /// Their labels.
    pub labels: Vec<u16>,
    /// Labels by critical value, `(n, cells)`, those that are always in first; if they were counted.
    pub activations: Option<Array2<u64>>,
    /// The lambdas at which classes were counted, ascending; if they were.
    pub grid: Option<Vec<f64>>,
    /// Labelled pixels whose set holds each class at each of these lambdas, `(n, K, L)`.
    pub held: Option<Array3<u64>>,
}

impl ExactProfile {
    /// Labelled pixels of each class, `(n, K)`.
    pub fn totals(&self, cancel: &Cancel) -> Result<Array2<u64>> {
        let shape = (self.images().len(), self.n_classes());
        let mut totals = memory::with_room(shape.0 * shape.1, "the pixels of each class")?;
        for image in self.images() {
            cancel.check()?;
            totals.extend_from_slice(&image.totals);
        }
        Ok(Array2::from_shape_vec(shape, totals).expect("K each"))
    }

    /// The profile as arrays.
    pub fn to_flat(&self, cancel: &Cancel) -> Result<Flat> {
        let blocks = || self.images().iter().flat_map(|image| &image.blocks);
        let n_values = self.n_values();
        let mut labels = memory::with_room(n_values, ARRAYS)?;
        let values = if blocks().all(|block| matches!(block.values, Stored::Single(_))) {
            let mut values = memory::with_room(n_values, ARRAYS)?;
            for block in blocks() {
                cancel.check()?;
                values.extend(block.values.to_doubles().map(|value| value as f32));
            }
            Stored::Single(values.into())
        } else {
            let mut values = memory::with_room(n_values, ARRAYS)?;
            for block in blocks() {
                cancel.check()?;
                values.extend(block.values.to_doubles());
            }
            Stored::Double(values.into())
        };
        for block in blocks() {
            cancel.check()?;
            labels.extend_from_slice(&block.labels);
        }
        Ok(Flat {
            totals: self.totals(cancel)?,
            lengths: memory::collected(self.images().iter().map(|image| image.n_values() as u64), ARRAYS)?,
            values,
            labels,
            activations: self.flat_activations(cancel)?,
            grid: self.grid().map(|grid| memory::collected(grid.iter().copied(), ARRAYS)).transpose()?,
            held: self.held(cancel)?,
        })
    }

    fn flat_activations(&self, cancel: &Cancel) -> Result<Option<Array2<u64>>> {
        let n_columns = N_CELLS + 1;
        let n_images = self.images().len();
        let mut cells = Vec::new();
        for image in self.images() {
            cancel.check()?;
            let Some(activations) = &image.activations else { return Ok(None) };
            if cells.is_empty() {
                cells = memory::with_room(n_images * n_columns, ARRAYS)?;
            }
            cells.push(activations.always);
            cells.extend_from_slice(&activations.cells);
        }
        Ok(Some(Array2::from_shape_vec((n_images, n_columns), cells).expect("as many cells each")))
    }

    /// The profile in the arrays; fails if they are none.
    pub fn from_flat(coding: Coding, flat: Flat, cancel: &Cancel) -> Result<Self> {
        let Flat { totals, lengths, values, labels, activations, grid, held } = flat;
        let (n, n_classes) = totals.dim();
        let broken = |what: &str| Err(Error::Profile(what.into()));
        if !(2..=MAX_CLASSES).contains(&n_classes) {
            return broken(&format!("K = {n_classes}"));
        }
        if lengths.len() != n {
            return broken("as many lengths as images are needed");
        }
        let n_values = lengths.iter().try_fold(0_u64, |sum, &length| sum.checked_add(length));
        if n_values != Some(values.len() as u64) || values.len() != labels.len() {
            return broken("values, labels and lengths do not agree");
        }
        if activations.as_ref().is_some_and(|counts| counts.dim() != (n, N_CELLS + 1)) {
            return broken("the activations do not fit");
        }
        let grid: Option<Arc<[f64]>> = grid.map(Into::into);
        if let Some(grid) = &grid {
            let ascends = grid.windows(2).all(|pair| pair[0] < pair[1]);
            let is_within = grid.iter().all(|lambda| (0.0..=coding.lambda_max()).contains(lambda));
            if grid.is_empty() || !ascends || !is_within {
                return broken("the lambdas at which classes were counted are none");
            }
        }
        let n_lambdas = grid.as_ref().map(|grid| grid.len());
        if held.as_ref().map(Array3::dim) != n_lambdas.map(|n_lambdas| (n, n_classes, n_lambdas)) {
            return broken("the counts of classes do not fit");
        }
        let activations_of = |image: usize| {
            let row = activations.as_ref()?.row(image).to_vec();
            Some(Activations { always: row[0], cells: row[1..].into() })
        };
        let mut images = memory::with_room(n, "the profiles of images")?;
        let mut start = 0;
        for (totals, length) in totals.outer_iter().zip(lengths) {
            if images.len() % BATCH == 0 {
                memory::headroom()?;
            }
            let n_valid = sum_of(totals.iter());
            if n_valid > MOST_PIXELS {
                return broken(&format!("an image has {n_valid} labelled pixels"));
            }
            let counted = activations.as_ref().map(|counts| sum_of(counts.row(images.len()).iter()));
            if counted.is_some_and(|counted| counted != n_valid * n_classes as u128) {
                return broken("the activations of an image are not those of its labelled pixels");
            }
            let end = start + length as usize;
            let mut blocks = Vec::new();
            // At least one block, so that the width of values is known even if there are none.
            while start < end || blocks.is_empty() {
                cancel.check()?;
                let run = start..end.min(start + BLOCK);
                let values = values.slice(run.clone(), ARRAYS)?;
                if !values.to_doubles().all(|value| coding.holds(value)) {
                    return broken("a value is no critical value of the score");
                }
                let labels = memory::collected(labels[run.clone()].iter().copied(), ARRAYS)?;
                if labels.iter().any(|&label| usize::from(label) >= n_classes) {
                    return broken("a label is no class");
                }
                blocks.push(Block::new(values, labels.into()));
                start = run.end;
            }
            let image = ImageProfile::new(totals.to_vec(), activations_of(images.len()), blocks, cancel)?;
            if image.missed.iter().zip(&image.totals).any(|(missed, total)| missed > total) {
                return broken("an image misses more pixels than it has");
            }
            let Some((grid, held)) = grid.as_deref().zip(held.as_ref()) else {
                images.push(Arc::new(image));
                continue;
            };
            let held = held.index_axis(Axis(0), images.len());
            if !image.may_hold(coding, grid, &held, cancel)? {
                return broken("the counts of classes are not those of the labelled pixels");
            }
            let held = memory::collected(held.iter().copied(), ARRAYS)?.into();
            images.push(Arc::new(ImageProfile { held: Some(held), ..image }));
        }
        Ok(Self::new(coding, n_classes, images).with_grid(grid))
    }
}

impl ImageProfile {
    /// Whether these numbers of pixels `(K, L)` that hold each class are possible: they do not fall along the lambdas, and lie
    /// between the covered pixels of the class and all pixels.
    fn may_hold(
        &self,
        coding: Coding,
        lambdas: &[f64],
        held: &ArrayView2<'_, u64>,
        cancel: &Cancel,
    ) -> Result<bool> {
        let mut missed = memory::filled(0, held.len(), ARRAYS, cancel)?;
        self.missed_of_classes(coding, lambdas, &mut missed, cancel)?;
        let n_valid = self.n_valid();
        Ok(held.outer_iter().zip(missed.chunks_exact(lambdas.len())).zip(&self.totals).all(
            |((held, missed), &total)| {
                let covered = missed.iter().map(|&missed| total.saturating_sub(missed));
                held.iter().zip(covered).all(|(&held, covered)| (covered..=n_valid).contains(&held))
                    && held.iter().is_sorted()
            },
        ))
    }
}

/// A sum that does not overflow.
fn sum_of<'a>(counts: impl Iterator<Item = &'a u64>) -> u128 {
    counts.map(|&count| u128::from(count)).sum()
}
