//! Label maps of one image, one above the other.

use std::ops::Range;

use ndarray::{ArrayView4, ArrayViewD, Axis, Ix4, s};

use crate::error::{Error, Result};
use crate::maps::{Label, rows};

/// Label maps `(m, D, H, W)` of any integer type.
pub struct LabelStack<'a, L> {
    view: ArrayView4<'a, L>,
}

impl<'a, L: Label> LabelStack<'a, L> {
    /// Takes `(m, H, W)` or `(m, D, H, W)`, not empty.
    pub fn new(view: ArrayViewD<'a, L>, name: &'static str) -> Result<Self> {
        let shape = view.shape().to_vec();
        let view = if view.ndim() == 3 { view.insert_axis(Axis(1)) } else { view };
        match view.into_dimensionality::<Ix4>() {
            Ok(view) if !view.is_empty() => Ok(Self { view }),
            _ => Err(Error::LabelStack { name, shape }),
        }
    }

    /// m.
    pub fn len(&self) -> usize {
        self.view.dim().0
    }

    /// Whether there is none: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Pixels of one map.
    pub fn n_pixels(&self) -> usize {
        self.view.len() / self.len()
    }

    /// The pixels of a map, in runs of `len`; the last may be shorter.
    pub fn runs(&self, len: usize) -> Vec<Range<usize>> {
        let n_pixels = self.n_pixels();
        (0..n_pixels).step_by(len).map(|first| first..n_pixels.min(first + len)).collect()
    }

    /// The labels of some pixels of a map where they lie, or else copied into `scratch`.
    pub fn read<'s>(&'s self, map: usize, pixels: Range<usize>, scratch: &'s mut Vec<L>) -> &'s [L] {
        let map = self.view.index_axis(Axis(0), map);
        if let Some(labels) = map.to_slice() {
            return &labels[pixels];
        }
        let (_, height, width) = map.dim();
        scratch.clear();
        for (row, columns, _) in rows(&pixels, width) {
            scratch.extend(map.slice(s![row / height, row % height, columns]).iter().copied());
        }
        scratch
    }

    /// Whether two maps are equal.
    pub fn are_equal(&self, first: usize, second: usize) -> bool {
        self.view.index_axis(Axis(0), first) == self.view.index_axis(Axis(0), second)
    }
}
