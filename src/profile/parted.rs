//! A profile in parts, one for the pixels of some classes each: the images as if only these pixels were labelled.

use std::sync::Arc;

use rayon::prelude::*;

use super::exact::{Block, ExactProfile, ImageProfile};
use crate::error::Result;
use crate::memory;
use crate::num::real::Stored;
use crate::threads::Cancel;

/// What errors call the parts.
const PARTS: &str = "the profiles of classes";

impl ExactProfile {
    /// A profile of the same images for each part. `part_of` gives the part of each class, if it has one.
    pub fn parted(&self, part_of: &[Option<usize>], n_parts: usize, cancel: &Cancel) -> Result<Vec<Self>> {
        let part = |image: &Arc<ImageProfile>| parts_of(image, part_of, n_parts, cancel);
        let found = memory::gathered(self.images().par_iter().map(part), PARTS)?;
        let mut parts = memory::with_room(n_parts, PARTS)?;
        for _ in 0..n_parts {
            parts.push(memory::with_room(self.images().len(), PARTS)?);
        }
        for images in found {
            for (part, image) in parts.iter_mut().zip(images?) {
                part.push(Arc::new(image));
            }
        }
        Ok(parts.into_iter().map(|images| Self::new(self.coding(), self.n_classes(), images)).collect())
    }
}

/// The parts of one image.
fn parts_of(
    image: &ImageProfile,
    part_of: &[Option<usize>],
    n_parts: usize,
    cancel: &Cancel,
) -> Result<Vec<ImageProfile>> {
    let mut lengths = memory::filled(0_usize, n_parts, PARTS, cancel)?;
    for (part, &missed) in part_of.iter().zip(&image.missed) {
        if let Some(part) = part {
            lengths[*part] += missed as usize;
        }
    }
    let is_single = image.blocks.iter().all(|block| matches!(block.values, Stored::Single(_)));
    let mut parts: Vec<Pixels> = memory::with_room(n_parts, PARTS)?;
    for &len in &lengths {
        parts.push(Pixels::with_room(len, is_single)?);
    }
    image.for_each(cancel, |stored, label| {
        if let Some(part) = part_of[usize::from(label)] {
            parts[part].push(stored, label);
        }
    })?;
    let mut images = memory::with_room(n_parts, PARTS)?;
    for (part, pixels) in parts.into_iter().enumerate() {
        let own = |counts: &[u64]| -> Result<Box<[u64]>> {
            let own = |(of, &count): (&Option<usize>, &u64)| if *of == Some(part) { count } else { 0 };
            Ok(memory::collected(part_of.iter().zip(counts).map(own), PARTS)?.into())
        };
        images.push(ImageProfile {
            totals: own(&image.totals)?,
            missed: own(&image.missed)?,
            activations: None,
            held: None,
            blocks: vec![pixels.into_block()],
            hash: image.hash,
        });
    }
    Ok(images)
}

/// The values and labels of a part, as wide as those of the image.
struct Pixels {
    singles: Vec<f32>,
    doubles: Vec<f64>,
    labels: Vec<u16>,
    is_single: bool,
}

impl Pixels {
    fn with_room(len: usize, is_single: bool) -> Result<Self> {
        Ok(Self {
            singles: memory::with_room(if is_single { len } else { 0 }, PARTS)?,
            doubles: memory::with_room(if is_single { 0 } else { len }, PARTS)?,
            labels: memory::with_room(len, PARTS)?,
            is_single,
        })
    }

    /// There is room: lengths were counted.
    #[inline]
    fn push(&mut self, value: f64, label: u16) {
        if self.is_single {
            self.singles.push(value as f32);
        } else {
            self.doubles.push(value);
        }
        self.labels.push(label);
    }

    fn into_block(self) -> Block {
        let values = if self.is_single {
            Stored::Single(self.singles.into())
        } else {
            Stored::Double(self.doubles.into())
        };
        Block::unhashed(values, self.labels.into())
    }
}
