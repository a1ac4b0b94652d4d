//! Score maps and label maps: checked once here, trusted everywhere after.
//!
//! Kernels never see an array: they see a [`Tile`], some hundreds of pixels with all their classes, one run per class.
//! Contiguous float32 and float64 maps are borrowed as they lie in memory; anything else (float16, channel-last,
//! strided) is gathered tile by tile into a scratch buffer that stays in cache.

use std::ops::Range;

use multiversion::multiversion;
use ndarray::{ArrayView4, ArrayView5, ArrayViewD, ArrayViewMut, Axis, Dimension, Ix4, Ix5, RemoveAxis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::real::{Element, Real};
use crate::threads::Cancel;

/// The code of a void pixel where labels are class codes.
pub const VOID: i32 = -1;

/// The largest K: a set size must fit 16 bits.
pub const MAX_CLASSES: usize = u16::MAX as usize;

/// Pixels of one parallel task.
pub const BAND: usize = 1 << 15;

/// What a tile of scores should fit in: a part of a second-level cache.
const TILE_BYTES: usize = 512 << 10;

/// Pixels of a tile of `n_classes` planes. Long runs please the prefetcher, short ones keep the tile and its per-pixel
/// state in cache for a second pass.
fn tile_len<R: Real>(n_classes: usize) -> usize {
    let pixels = TILE_BYTES / (n_classes * size_of::<R>());
    (pixels / 64 * 64).clamp(64, 1024)
}

/// Scores of `n` images: `(n, K, D, H, W)`, with `D = 1` for flat images.
pub struct ScoreMaps<'a, E> {
    view: ArrayView5<'a, E>,
    first_image: usize,
}

impl<'a, E: Element> ScoreMaps<'a, E> {
    /// Takes `(n, K, H, W)` or `(n, K, D, H, W)`; `first_image` is what errors call image 0.
    pub fn new(view: ArrayViewD<'a, E>, first_image: usize) -> Result<Self> {
        let view = with_depth(view)?;
        let n_classes = view.dim().1;
        if n_classes == 1 {
            return Err(Error::OneClass);
        }
        if n_classes > MAX_CLASSES {
            return Err(Error::TooManyClasses { n_classes, max: MAX_CLASSES });
        }
        Ok(Self { view, first_image })
    }

    /// Number of images.
    pub fn n_images(&self) -> usize {
        self.view.dim().0
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.view.dim().1
    }

    /// Pixels of one image.
    pub fn n_pixels(&self) -> usize {
        let (_, _, d, h, w) = self.view.dim();
        d * h * w
    }

    /// What errors call image `image`.
    pub fn name(&self, image: usize) -> usize {
        self.first_image + image
    }

    /// `[n, D, H, W]`, as the label maps must have it.
    fn label_shape(&self) -> [usize; 4] {
        let (n, _, d, h, w) = self.view.dim();
        [n, d, h, w]
    }

    /// Number of bands that an image is cut into.
    pub fn bands_per_image(&self) -> usize {
        self.n_pixels().div_ceil(BAND)
    }

    /// The pieces of work: a piece of at most [`BAND`] pixels of one image each, in order.
    pub fn bands(&self) -> Vec<Band> {
        let n_pixels = self.n_pixels();
        (0..self.n_images())
            .flat_map(|image| {
                (0..n_pixels)
                    .step_by(BAND)
                    .map(move |start| Band { image, pixels: start..(start + BAND).min(n_pixels) })
            })
            .collect()
    }

    /// A reader of one image's tiles.
    pub fn tiles<'s>(&self, image: usize, scratch: &'s mut Vec<E::Real>) -> TileReader<'a, 's, E> {
        let image = self.view.index_axis_move(Axis(0), image);
        TileReader {
            layout: Layout::of(&image),
            n_classes: self.n_classes(),
            n_pixels: self.n_pixels(),
            scratch,
        }
    }
}

/// `(n, K, H, W)` or `(n, K, D, H, W)` as `(n, K, D, H, W)`; nothing may be empty.
fn with_depth<T>(view: ArrayViewD<'_, T>) -> Result<ArrayView5<'_, T>> {
    let shape = view.shape().to_vec();
    if shape.len() != 4 && shape.len() != 5 {
        return Err(Error::ScoreRank { shape });
    }
    if view.is_empty() {
        return Err(Error::Empty { shape });
    }
    let view = if shape.len() == 4 { view.insert_axis(Axis(2)) } else { view };
    Ok(view.into_dimensionality::<Ix5>().expect("rank 5 by construction"))
}

/// Does a task for every band in parallel: with the buffers of its thread, the band and its input (see [`bands_mut`]). The
/// results come in the order of the bands, and so does the error, if several tasks fail.
pub fn map_bands<E: Element, W: Default, I: Send, O: Send>(
    maps: &ScoreMaps<'_, E>,
    inputs: Vec<I>,
    cancel: &Cancel,
    task: impl Fn(&mut W, &Band, I) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    let results: Vec<Result<O>> = maps
        .bands()
        .into_par_iter()
        .zip_eq(inputs)
        .map_init(W::default, |work, (band, input)| {
            cancel.check()?;
            task(work, &band, input)
        })
        .collect();
    results.into_iter().collect()
}

/// A run of pixels (row-major) of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// Index of the image.
    pub image: usize,
    /// Row-major pixel indices.
    pub pixels: Range<usize>,
}

impl Band {
    /// Where `pixels` lie in the band.
    pub fn offset_of(&self, pixels: &Range<usize>) -> Range<usize> {
        pixels.start - self.pixels.start..pixels.end - self.pixels.start
    }

    /// The pixels of the band's tiles, for maps of `n_classes` planes of `R`.
    pub fn tiles<R: Real>(&self, n_classes: usize) -> impl Iterator<Item = Range<usize>> + use<R> {
        let Range { start, end } = self.pixels;
        let tile_len = tile_len::<R>(n_classes);
        (start..end).step_by(tile_len).map(move |first| first..(first + tile_len).min(end))
    }
}

/// Cuts an `(n, ..., P)` output into the bands of [`ScoreMaps::bands`], in the same order.
pub fn bands_mut<A, D: RemoveAxis>(out: ArrayViewMut<'_, A, D>) -> Vec<ArrayViewMut<'_, A, D::Smaller>> {
    pieces(out, Axis(0), 1)
        .into_iter()
        .map(|image| image.index_axis_move(Axis(0), 0))
        .flat_map(|image| {
            let pixels = Axis(image.ndim() - 1);
            pieces(image, pixels, BAND)
        })
        .collect()
}

/// Cuts an axis into pieces of `len`; the last may be shorter.
fn pieces<A, D: Dimension>(
    mut rest: ArrayViewMut<'_, A, D>,
    axis: Axis,
    len: usize,
) -> Vec<ArrayViewMut<'_, A, D>> {
    let mut pieces = Vec::new();
    while rest.len_of(axis) > len {
        let (piece, tail) = rest.split_at(axis, len);
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    pieces
}

/// Some pixels of one image with all their classes: class `k` is the run `k * stride .. k * stride + len`.
pub struct Tile<'a, R> {
    data: &'a [R],
    stride: usize,
    len: usize,
    n_classes: usize,
}

impl<'a, R> Tile<'a, R> {
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

/// Reads the tiles of one image.
pub struct TileReader<'a, 's, E: Element> {
    layout: Layout<'a, E>,
    n_classes: usize,
    n_pixels: usize,
    scratch: &'s mut Vec<E::Real>,
}

impl<E: Element> TileReader<'_, '_, E> {
    /// The tile of the given pixels: borrowed if it can be, else gathered.
    pub fn read(&mut self, pixels: Range<usize>) -> Tile<'_, E::Real> {
        let (len, n_classes) = (pixels.len(), self.n_classes);
        if let Layout::Planar(values) = &self.layout
            && let Some(values) = E::as_real(values)
        {
            return Tile { data: &values[pixels.start..], stride: self.n_pixels, len, n_classes };
        }
        // An odd number of cache lines apart, so that the runs of the classes do not share cache sets.
        let stride = len.next_multiple_of(16) + 16;
        self.scratch.resize(n_classes * stride, E::Real::default());
        let out = self.scratch.as_mut_slice();
        match &self.layout {
            Layout::Planar(values) => {
                for (class, run) in out.chunks_exact_mut(stride).enumerate() {
                    E::widen_slice(&values[class * self.n_pixels + pixels.start..][..len], &mut run[..len]);
                }
            }
            Layout::Interleaved(values) => {
                transpose(&values[pixels.start * n_classes..pixels.end * n_classes], n_classes, stride, out);
            }
            Layout::Strided(view) => gather(view, &pixels, stride, out),
        }
        Tile { data: out, stride, len, n_classes }
    }
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

/// Cuts a run of pixels at the ends of rows: (row, columns, offset in the run).
fn rows(pixels: &Range<usize>, width: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> + use<> {
    let Range { start, end } = *pixels;
    (start / width..end.div_ceil(width)).map(move |row| {
        let first = start.max(row * width);
        let last = end.min((row + 1) * width);
        (row, first - row * width..last - row * width, first - start)
    })
}

/// An integer that label maps may hold.
pub trait Label: Copy + Send + Sync + Into<i128> + PartialEq + 'static {
    /// The value sign-extended to 64 bits: a class in `[0, K)` is a small number, anything else is not.
    fn extended(self) -> u64;

    /// The value, if it fits.
    fn from_i64(value: i64) -> Option<Self>;
}

macro_rules! impl_label {
    ($($int:ty),*) => {$(
        impl Label for $int {
            #[inline(always)]
            #[allow(clippy::cast_lossless)]
            fn extended(self) -> u64 {
                self as u64
            }

            fn from_i64(value: i64) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}

impl_label!(i8, i16, i32, i64, u8, u16, u32, u64);

/// Labels of `n` images, `(n, D, H, W)`, with an ignore index that wins over any class.
pub struct LabelMaps<'a> {
    reader: Box<dyn ReadLabels + 'a>,
    n_classes: usize,
    ignore_index: Option<i64>,
    first_image: usize,
}

impl<'a> LabelMaps<'a> {
    /// Takes `(n, H, W)` or `(n, D, H, W)` to go with `maps`.
    pub fn new<L: Label, E: Element>(
        view: ArrayViewD<'a, L>,
        ignore_index: Option<i64>,
        maps: &ScoreMaps<'_, E>,
    ) -> Result<Self> {
        let expected = maps.label_shape();
        let is_flat = view.ndim() == 3 && expected[1] == 1;
        let actual = view.shape().to_vec();
        let view = if is_flat { view.insert_axis(Axis(1)) } else { view };
        if view.shape() != expected {
            let mut expected = expected.to_vec();
            if expected[1] == 1 && actual.len() != 4 {
                expected.remove(1);
            }
            return Err(Error::Shape { name: "y", expected, actual });
        }
        let n_classes = maps.n_classes();
        if let Some(ignore_index) = ignore_index
            && (0..n_classes as i64).contains(&ignore_index)
        {
            return Err(Error::IgnoreIndexIsClass { ignore_index, n_classes });
        }
        let view = view.into_dimensionality::<Ix4>().expect("rank 4 by the check above");
        Ok(Self { reader: Box::new(view), n_classes, ignore_index, first_image: maps.first_image })
    }

    /// Writes the class of each pixel, [`VOID`] where it is ignored.
    pub fn read(&self, image: usize, pixels: Range<usize>, codes: &mut Vec<i32>) -> Result<()> {
        codes.resize(pixels.len(), VOID);
        self.reader.read(image, pixels, self.n_classes, self.ignore_index, codes).map_err(|value| {
            Error::Label {
                image: self.first_image + image,
                value,
                n_classes: self.n_classes,
                ignore: self.ignore_index.map_or_else(|| "None".into(), |index| index.to_string()),
            }
        })
    }
}

/// Label maps of any integer type: one virtual call per tile keeps the kernels free of it.
trait ReadLabels: Sync {
    /// Writes class codes; the first bad label is the error.
    fn read(
        &self,
        image: usize,
        pixels: Range<usize>,
        n_classes: usize,
        ignore_index: Option<i64>,
        codes: &mut [i32],
    ) -> std::result::Result<(), i128>;
}

impl<L: Label> ReadLabels for ArrayView4<'_, L> {
    fn read(
        &self,
        image: usize,
        pixels: Range<usize>,
        n_classes: usize,
        ignore_index: Option<i64>,
        codes: &mut [i32],
    ) -> std::result::Result<(), i128> {
        let void = ignore_index.and_then(L::from_i64);
        let image = self.index_axis(Axis(0), image);
        if let Some(values) = image.to_slice() {
            return encode(&values[pixels], n_classes, void, codes);
        }
        let (_, height, width) = image.dim();
        let mut row_values = Vec::with_capacity(width);
        for (row, columns, offset) in rows(&pixels, width) {
            let run = &mut codes[offset..][..columns.len()];
            row_values.clear();
            row_values.extend(image.slice(s![row / height, row % height, columns]).iter().copied());
            encode(&row_values, n_classes, void, run)?;
        }
        Ok(())
    }
}

/// Labels to class codes.
fn encode<L: Label>(
    values: &[L],
    n_classes: usize,
    void: Option<L>,
    codes: &mut [i32],
) -> std::result::Result<(), i128> {
    let is_bad = |&value: &L| value.extended() >= n_classes as u64 && Some(value) != void;
    let any_bad = encode_run(values, n_classes as u64, void.map(L::extended), codes);
    if !any_bad {
        return Ok(());
    }
    Err((*values.iter().find(|value| is_bad(value)).expect("one is bad")).into())
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn encode_run<L: Label>(values: &[L], n_classes: u64, void: Option<u64>, codes: &mut [i32]) -> bool {
    let (has_void, void) = (void.is_some(), void.unwrap_or_default());
    let mut any_bad = false;
    for (code, &value) in codes.iter_mut().zip(values) {
        let value = value.extended();
        let is_void = has_void & (value == void);
        any_bad |= (value >= n_classes) & !is_void;
        *code = if is_void { VOID } else { value as i32 };
    }
    any_bad
}

/// Counts class codes. Four counters per class, because neighbouring pixels share their class and a counter that was just
/// written is slow to read.
#[derive(Debug)]
pub struct ClassCounter {
    counts: Vec<[u32; 4]>,
}

impl ClassCounter {
    /// Nothing counted yet.
    pub fn new(n_classes: usize) -> Self {
        Self { counts: vec![[0; 4]; n_classes + 1] }
    }

    /// Counts the codes of some pixels.
    pub fn add(&mut self, codes: &[i32]) {
        let (quads, rest) = codes.as_chunks::<4>();
        for quad in quads {
            for (lane, &code) in quad.iter().enumerate() {
                self.counts[(code - VOID) as usize][lane] += 1;
            }
        }
        for &code in rest {
            self.counts[(code - VOID) as usize][0] += 1;
        }
    }

    /// The number of pixels of each class, void ones excepted.
    pub fn finish(self) -> Vec<u64> {
        // The first counter is that of void pixels.
        self.counts[1..].iter().map(|lanes| lanes.iter().map(|&count| u64::from(count)).sum()).collect()
    }
}
