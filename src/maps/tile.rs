//! Tiles: some hundreds of pixels with all their classes, however the image lies in memory.

use std::ops::Range;

use ndarray::{ArrayView4, s};

use super::prefetch::prefetch;
use super::{BAND, Band, Inputs, PixelBuffers, PlanesMut, ScoreMaps, rows};
use crate::num::real::{Element, Real};
use crate::place::{Grid, Place};

/// Some pixels of one image with all their classes: class `k` is the run `k * stride .. k * stride + len`.
#[derive(Clone, Copy)]
pub struct Tile<'a, R> {
    data: &'a [R],
    stride: usize,
    len: usize,
    n_classes: usize,
    given: Given<'a, R>,
    is_trusted: bool,
}

/// What the caller gave, for error messages.
#[derive(Clone, Copy)]
struct Given<'a, R> {
    inputs: Inputs,
    data: &'a [R],
    stride: usize,
}

impl<'a, R> Tile<'a, R> {
    /// A tile of planes that start `stride` values apart.
    pub fn new(data: &'a [R], stride: usize, len: usize, n_classes: usize) -> Self {
        debug_assert!(len <= stride && data.len() >= (n_classes - 1) * stride + len);
        let given = Given { inputs: Inputs::Probabilities, data, stride };
        Self { data, stride, len, n_classes, given, is_trusted: false }
    }

    /// The same, with the kind of its numbers.
    fn of(self, inputs: Inputs) -> Self {
        Self { given: Given { inputs, ..self.given }, ..self }
    }

    /// The same, with the caller's numbers from which it was made.
    fn made_of(self, given: &Self, inputs: Inputs) -> Self {
        Self { given: Given { inputs, data: given.data, stride: given.stride }, ..self }
    }

    /// The same, made of numbers that were checked: by rounding they may be beyond a limit that those kept.
    #[must_use]
    pub fn trusted(self) -> Self {
        Self { is_trusted: true, ..self }
    }

    /// Whether nothing needs to be checked.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The kind of the caller's numbers.
    pub fn inputs(&self) -> Inputs {
        self.given.inputs
    }

    /// The number that the caller gave for a class and a pixel.
    pub fn given(&self, class: usize, j: usize) -> R
    where
        R: Copy,
    {
        self.given.data[class * self.given.stride + j]
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
    gathered: Gathered<R>,
    made: Vec<R>,
    buffers: PixelBuffers<R>,
}

/// Buffers of [`read`].
#[derive(Default)]
pub(super) struct Gathered<R> {
    planes: Vec<R>,
    pixels: Vec<R>,
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

    /// How many pixels a tile should have.
    pub fn tile_len(&self) -> usize {
        let len = self.maps.source.tile_len();
        if self.maps.transform.is_some() { len.min(GATHERED) } else { len }
    }

    /// The tile of the given pixels, as probabilities.
    pub fn read(&mut self, pixels: Range<usize>) -> Tile<'_, R> {
        let Scratch { gathered, made, buffers } = &mut *self.scratch;
        let given = self.maps.source.tile(self.image, pixels.clone(), gathered);
        let Some(transform) = &self.maps.transform else { return given.of(self.maps.inputs) };
        let mut out = PlanesMut::new(made, given.n_classes(), given.len());
        transform.apply(&given, &Band { image: self.image, pixels }, buffers, &mut out);
        out.into_tile().made_of(&given, self.maps.inputs)
    }

    /// Where pixels of the image lie.
    pub fn place(&self, pixels: Range<usize>) -> Place {
        self.maps.place(self.image, pixels)
    }

    /// How the pixels of the image lie.
    pub fn grid(&self) -> Grid {
        self.maps.grid()
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.maps.n_classes()
    }
}

/// The size that a tile should not exceed: a part of a second-level cache.
const TILE_BYTES: usize = 512 << 10;

/// Pixels of a tile that is borrowed: long runs suit the prefetcher.
const BORROWED: usize = 4096;

/// The same for maps of one class: a whole band, which fits a second-level cache.
const BORROWED_ALONE: usize = BAND;

/// Pixels of a tile that is gathered: it is read again at once, from a first-level cache.
const GATHERED: usize = 512;

/// How many pixels a tile of an image `(K, D, H, W)` should have.
pub(super) fn len<E: Element>(image: &ArrayView4<'_, E>) -> usize {
    let n_classes = image.dim().0;
    let is_borrowed = matches!(Layout::of(image), Layout::Planar(values) if E::as_real(values).is_some());
    let longest = match (is_borrowed, n_classes) {
        (true, 1) => BORROWED_ALONE,
        (true, _) => BORROWED,
        (false, _) => GATHERED,
    };
    let pixels = TILE_BYTES / (n_classes * size_of::<E::Real>());
    (pixels / 64 * 64).clamp(64, longest)
}

/// The tile of the given pixels of an image `(K, D, H, W)`: borrowed if it can be, else gathered.
pub(super) fn read<'s, E: Element>(
    image: &ArrayView4<'s, E>,
    pixels: Range<usize>,
    scratch: &'s mut Gathered<E::Real>,
) -> Tile<'s, E::Real> {
    let (len, n_classes) = (pixels.len(), image.dim().0);
    let n_pixels = image.len() / n_classes;
    let layout = Layout::of(image);
    if let Layout::Planar(values) = &layout
        && let Some(values) = E::as_real(values)
    {
        return Tile::new(&values[pixels.start..], n_pixels, len, n_classes);
    }
    let stride = padded(len);
    scratch.planes.resize(n_classes * stride, E::Real::default());
    let out = scratch.planes.as_mut_slice();
    match &layout {
        Layout::Planar(values) => {
            for (class, run) in out.chunks_exact_mut(stride).enumerate() {
                let plane = &values[class * n_pixels + pixels.start..(class + 1) * n_pixels];
                for start in (0..len).step_by(AHEAD) {
                    let end = (start + AHEAD).min(len);
                    E::widen_slice(&plane[start..end], &mut run[start..end]);
                    // Runs are too short for the processor to guess where the next ones begin.
                    prefetch(plane, start + len..end + len);
                }
            }
        }
        Layout::Interleaved(values) => {
            for start in (0..len).step_by(SPAN) {
                let end = (start + SPAN).min(len);
                let first = (pixels.start + start) * n_classes;
                let span = &values[first..(pixels.start + end) * n_classes];
                let span = E::as_real(span).unwrap_or_else(|| {
                    scratch.pixels.resize(span.len(), E::Real::default());
                    E::widen_slice(span, &mut scratch.pixels);
                    &scratch.pixels
                });
                E::Real::transpose(span, n_classes, stride, &mut out[start..]);
                let ahead = first + len * n_classes;
                prefetch(values, ahead..ahead + span.len());
            }
        }
        Layout::Strided(view) => gather(view, &pixels, stride, out),
    }
    Tile::new(out, stride, len, n_classes)
}

/// Pixels that are transposed at once: they are read class by class, from a first-level cache.
const SPAN: usize = 32;

/// Values that are widened at once.
const AHEAD: usize = 128;

/// An odd number of cache lines of float32, so that runs as far apart do not share cache sets.
pub(crate) fn padded(len: usize) -> usize {
    len.next_multiple_of(32) + 16
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
