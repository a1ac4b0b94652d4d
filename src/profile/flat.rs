//! A profile as four plain arrays, to be stored and sent.

use std::sync::Arc;

use ndarray::Array2;

use super::exact::{Block, ExactProfile, ImageProfile};
use crate::error::{Error, Result};
use crate::maps::MAX_CLASSES;
use crate::num::real::Stored;
use crate::score::{Activations, Coding};

/// Labelled pixels that an image can have: times K they are counted in 64 bits.
const MOST_PIXELS: u128 = 1 << 47;

/// All images of a profile, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Flat {
    /// Labelled pixels of each class, `(n, K)`.
    pub totals: Array2<u64>,
    /// Stored values of each image.
    pub lengths: Vec<u64>,
    /// The stored values of all images; in float64 if any image has such.
    pub values: Stored,
    /// Their labels.
    pub labels: Vec<u16>,
    /// Labels by critical value, `(n, cells)`, those that are always in first; if they were counted.
    pub activations: Option<Array2<u64>>,
}

impl ExactProfile {
    /// Labelled pixels of each class, `(n, K)`.
    pub fn totals(&self) -> Array2<u64> {
        let mut totals = Array2::zeros((self.images().len(), self.n_classes()));
        for (mut row, image) in totals.outer_iter_mut().zip(self.images()) {
            row.iter_mut().zip(&image.totals).for_each(|(out, &total)| *out = total);
        }
        totals
    }

    /// The profile as arrays.
    pub fn to_flat(&self) -> Flat {
        let blocks = || self.images().iter().flat_map(|image| &image.blocks);
        let all_single: Option<Vec<&[f32]>> = blocks()
            .map(|block| match &block.values {
                Stored::Single(values) => Some(&**values),
                Stored::Double(_) => None,
            })
            .collect();
        let values = match all_single {
            Some(blocks) => Stored::Single(blocks.concat().into()),
            None => Stored::Double(blocks().flat_map(|block| block.values.to_doubles()).collect()),
        };
        Flat {
            totals: self.totals(),
            lengths: self.images().iter().map(|image| image.n_values() as u64).collect(),
            values,
            labels: blocks().flat_map(|block| block.labels.iter().copied()).collect(),
            activations: self.flat_activations(),
        }
    }

    fn flat_activations(&self) -> Option<Array2<u64>> {
        let rows: Vec<_> =
            self.images().iter().map(|image| image.activations.as_ref()).collect::<Option<_>>()?;
        let columns = Activations::default().cells.len() + 1;
        let cells = rows.iter().flat_map(|row| std::iter::once(row.always).chain(row.cells.iter().copied()));
        Some(Array2::from_shape_vec((rows.len(), columns), cells.collect()).expect("as many cells each"))
    }

    /// The profile of the arrays, if they are one.
    pub fn from_flat(coding: Coding, flat: Flat) -> Result<Self> {
        let Flat { totals, lengths, values, labels, activations } = flat;
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
        if !values.to_doubles().all(|value| coding.holds(value)) {
            return broken("a value is no critical value of the score");
        }
        let columns = Activations::default().cells.len() + 1;
        if activations.as_ref().is_some_and(|counts| counts.dim() != (n, columns)) {
            return broken("the activations do not fit");
        }
        let activations_of = |image: usize| {
            let row = activations.as_ref()?.row(image).to_vec();
            Some(Activations { always: row[0], cells: row[1..].into() })
        };
        let mut images = Vec::with_capacity(n);
        let mut start = 0;
        for (totals, length) in totals.outer_iter().zip(lengths) {
            let n_valid = sum_of(totals.iter());
            if n_valid > MOST_PIXELS {
                return broken(&format!("an image has {n_valid} labelled pixels"));
            }
            let counted = activations.as_ref().map(|counts| sum_of(counts.row(images.len()).iter()));
            if counted.is_some_and(|counted| counted != n_valid * n_classes as u128) {
                return broken("the activations of an image are not those of its labelled pixels");
            }
            let run = start..start + length as usize;
            let block = Block::new(values.slice(run.clone()), labels[run.clone()].into());
            if block.labels.iter().any(|&label| usize::from(label) >= n_classes) {
                return broken("a label is no class");
            }
            let image = ImageProfile::new(totals.to_vec(), activations_of(images.len()), vec![block]);
            if image.missed.iter().zip(&image.totals).any(|(missed, total)| missed > total) {
                return broken("an image misses more pixels than it has");
            }
            images.push(Arc::new(image));
            start = run.end;
        }
        Ok(Self::new(coding, n_classes, images))
    }
}

/// A sum that does not overflow.
fn sum_of<'a>(counts: impl Iterator<Item = &'a u64>) -> u128 {
    counts.map(|&count| u128::from(count)).sum()
}
