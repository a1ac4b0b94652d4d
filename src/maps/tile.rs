//! Tiles: some hundreds of pixels with all their classes, however the image lies in memory.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{ArrayView4, s};

use super::{ScoreMaps, rows};
use crate::real::{Element, Real};

/// Some pixels of one image with all their classes: class `k` is the run `k * stride .. k * stride + len`.
pub struct Tile<'a, R> {
    data: &'a [R],
    stride: usize,
    len: usize,
    n_classes: usize,
}

impl<'a, R> Tile<'a, R> {
    /// A tile of planes that start `stride` values apart.
    pub fn new(data: &'a [R], stride: usize, len: usize, n_classes: usize) -> Self {
        debug_assert!(len <= stride && data.len() >= (n_classes - 1) * stride + len);
        Self { data, stride, len, n_classes }
    }

    /// The values of class `class`, one per pixel.
    pub fn plane(&self, class: usize) -> &'a [R] {
        &self.data[class * self.stride..][..self.len]
    }

    /// Number of pixels.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a tile has pixels.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }
}

/// How one image lies in memory.
enum Layout<'a, E> {
    /// Class by class, contiguous.
    Planar(&'a [E]),
    /// Pixel by pixel, contiguous (channel-last).
    Interleaved(&'a [E]),
    /// Anything else.
    Strided(ArrayView4<'a, E>),
}

impl<'a, E> Layout<'a, E> {
    fn of(image: &ArrayView4<'a, E>) -> Self {
        if let Some(slice) = image.to_slice() {
            return Self::Planar(slice);
        }
        match image.permuted_axes([1, 2, 3, 0]).to_slice() {
            Some(slice) => Self::Interleaved(slice),
            None => Self::Strided(*image),
        }
    }
}

/// Buffers for tiles that are not borrowed.
#[derive(Default)]
pub struct Scratch<R> {
    gathered: Vec<R>,
    converted: Vec<R>,
}

/// Reads the tiles of one image.
pub struct TileReader<'m, R> {
    maps: &'m ScoreMaps<'m, R>,
    image: usize,
    scratch: &'m mut Scratch<R>,
}

impl<'m, R: Real> TileReader<'m, R> {
    /// A reader of one image.
    pub(super) fn new(maps: &'m ScoreMaps<'m, R>, image: usize, scratch: &'m mut Scratch<R>) -> Self {
        Self { maps, image, scratch }
    }

    /// The tile of the given pixels, as probabilities.
    pub fn read(&mut self, pixels: Range<usize>) -> Tile<'_, R> {
        let Scratch { gathered, converted } = &mut *self.scratch;
        let tile = self.maps.source.tile(self.image, pixels, gathered);
        self.maps.inputs.convert(tile, converted)
    }

    /// What errors call the image.
    pub fn image_name(&self) -> usize {
        self.maps.name(self.image)
    }

    /// `(H, W)` of the image, or of each slice of a volume.
    pub fn plane_shape(&self) -> (usize, usize) {
        self.maps.plane_shape()
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.maps.n_classes()
    }
}

/// The tile of the given pixels of an image `(K, D, H, W)`: borrowed if it can be, else gathered.
pub(super) fn read<'s, E: Element>(
    image: &ArrayView4<'s, E>,
    pixels: Range<usize>,
    scratch: &'s mut Vec<E::Real>,
) -> Tile<'s, E::Real> {
    let (len, n_classes) = (pixels.len(), image.dim().0);
    let n_pixels = image.len() / n_classes;
    let layout = Layout::of(image);
    if let Layout::Planar(values) = &layout
        && let Some(values) = E::as_real(values)
    {
        return Tile { data: &values[pixels.start..], stride: n_pixels, len, n_classes };
    }
    let stride = padded(len);
    scratch.resize(n_classes * stride, E::Real::default());
    let out = scratch.as_mut_slice();
    match &layout {
        Layout::Planar(values) => {
            for (class, run) in out.chunks_exact_mut(stride).enumerate() {
                E::widen_slice(&values[class * n_pixels + pixels.start..][..len], &mut run[..len]);
            }
        }
        Layout::Interleaved(values) => {
            transpose(&values[pixels.start * n_classes..pixels.end * n_classes], n_classes, stride, out);
        }
        Layout::Strided(view) => gather(view, &pixels, stride, out),
    }
    Tile { data: out, stride, len, n_classes }
}

/// An odd number of cache lines (of float32) apart, so that the runs of the classes do not share cache sets.
fn padded(len: usize) -> usize {
    len.next_multiple_of(16) + 16
}

/// Channel-last to class by class.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn transpose<E: Element>(values: &[E], n_classes: usize, stride: usize, out: &mut [E::Real]) {
    const BLOCK: usize = 16;
    let blocks = values.chunks_exact(BLOCK * n_classes);
    let (rest, done) = (blocks.remainder(), blocks.len() * BLOCK);
    for (index, block) in blocks.enumerate() {
        for class in 0..n_classes {
            let run = &mut out[class * stride + index * BLOCK..][..BLOCK];
            let column = &block[class..=class + (BLOCK - 1) * n_classes];
            for (j, value) in run.iter_mut().enumerate() {
                *value = column[j * n_classes].widen();
            }
        }
    }
    for (j, pixel) in rest.chunks_exact(n_classes).enumerate() {
        for (class, value) in pixel.iter().enumerate() {
            out[class * stride + done + j] = value.widen();
        }
    }
}

/// Any strides to class by class, row by row.
fn gather<E: Element>(view: &ArrayView4<'_, E>, pixels: &Range<usize>, stride: usize, out: &mut [E::Real]) {
    let (n_classes, _, height, width) = view.dim();
    for (row, columns, offset) in rows(pixels, width) {
        for class in 0..n_classes {
            let source = view.slice(s![class, row / height, row % height, columns.clone()]);
            let run = &mut out[class * stride + offset..][..columns.len()];
            for (value, &element) in run.iter_mut().zip(source) {
                *value = element.widen();
            }
        }
    }
}
