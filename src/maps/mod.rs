//! Score maps and label maps. They are checked here, once, and trusted everywhere else.
//!
//! Kernels never see an array: they see a [`Tile`], some hundreds of pixels with all their classes, one run per class.
//! Contiguous float32 and float64 maps are borrowed as they lie in memory; anything else (float16, channel-last,
//! strided) is gathered tile by tile into a scratch buffer that stays in cache. A [`Transform`] makes probabilities of what
//! is not (logits, scores of any sum) in another.

mod inputs;
mod labels;
pub mod normalisation;
mod prefetch;
mod softmax;
mod stream;
mod tile;
mod transform;
pub(crate) mod transpose;

use std::ops::Range;

use ndarray::{ArrayView4, ArrayView5, ArrayViewD, ArrayViewMut, Axis, Dimension, Ix5, RemoveAxis};
use rayon::prelude::*;

pub use self::inputs::Inputs;
pub use self::labels::{BinaryLabels, ClassCounter, Code, Ignored, Label, LabelMaps, LabelSpace, VOID};
pub use self::softmax::Softmax;
pub(crate) use self::stream::{STRIP, in_strips, stream, strip, strips};
use self::tile::Gathered;
pub(crate) use self::tile::padded;
pub use self::tile::{Scratch, Tile, TileReader};
pub use self::transform::{PixelBuffers, PlanesMut, Transform};
use crate::error::{Error, Result};
use crate::memory;
use crate::num::real::{Element, Real};
use crate::place::{Grid, Place};
use crate::threads::Cancel;

/// The largest K: a set size must fit 16 bits.
pub const MAX_CLASSES: usize = u16::MAX as usize;

/// Pixels of one parallel task.
pub const BAND: usize = 1 << 15;

/// Parallel tasks that are begun together.
const BATCH: usize = 1 << 12;

/// Scores of `n` images: `(n, K, D, H, W)`, with `D = 1` for flat images. Kernels compute with `R`, whatever the array holds.
pub struct ScoreMaps<'a, R> {
    source: Box<dyn Source<R> + 'a>,
    shape: [usize; 5],
    is_volume: bool,
    inputs: Inputs,
    transform: Option<Box<dyn Transform<R> + 'a>>,
    first_image: usize,
}

impl<'a, R: Real> ScoreMaps<'a, R> {
    /// Takes `(n, K, H, W)` or `(n, K, D, H, W)`; `first_image` is what errors call image 0.
    pub fn new<E: Element<Real = R>>(
        view: ArrayViewD<'a, E>,
        inputs: Inputs,
        first_image: usize,
    ) -> Result<Self> {
        let is_volume = view.ndim() == 5;
        let view = with_depth(view)?;
        let (n, n_classes, d, h, w) = view.dim();
        if n_classes == 1 {
            return Err(Error::OneClass);
        }
        if n_classes > MAX_CLASSES {
            return Err(Error::TooManyClasses { n_classes, max: MAX_CLASSES });
        }
        let (source, shape) = (Box::new(view), [n, n_classes, d, h, w]);
        Ok(Self { source, shape, is_volume, inputs, transform: inputs.transform(), first_image })
    }

    /// Takes `(n, H, W)` or `(n, D, H, W)`, probabilities of one class against the rest, as maps with this class alone.
    pub fn of_one_class<E: Element<Real = R>>(view: ArrayViewD<'a, E>, first_image: usize) -> Result<Self> {
        let shape = view.shape().to_vec();
        if !matches!(shape.len(), 3 | 4) || view.is_empty() {
            return Err(Error::OneClassRank { shape });
        }
        let is_volume = shape.len() == 4;
        let view = with_depth(view.insert_axis(Axis(1)))?;
        let (n, _, d, h, w) = view.dim();
        let inputs = Inputs::Probabilities;
        let (source, shape) = (Box::new(view), [n, 1, d, h, w]);
        Ok(Self { source, shape, is_volume, inputs, transform: None, first_image })
    }

    /// The same, with probabilities made by a transform of the caller's.
    #[must_use]
    pub fn with_transform(self, transform: impl Transform<R> + 'a) -> Self {
        Self { transform: Some(Box::new(transform)), ..self }
    }

    /// Number of images.
    pub fn n_images(&self) -> usize {
        self.shape[0]
    }

    /// K.
    pub fn n_classes(&self) -> usize {
        self.shape[1]
    }

    /// Pixels of one image.
    pub fn n_pixels(&self) -> usize {
        self.shape[2..].iter().product()
    }

    /// How the pixels of an image lie.
    pub fn grid(&self) -> Grid {
        Grid { is_volume: self.is_volume, height: self.shape[3], width: self.shape[4] }
    }

    /// What errors call image `image`.
    pub fn name(&self, image: usize) -> usize {
        self.first_image + image
    }

    /// Where pixels of an image lie.
    pub fn place(&self, image: usize, pixels: Range<usize>) -> Place {
        Place { image: self.name(image), grid: self.grid(), pixels }
    }

    /// What label maps must fit.
    pub fn label_space(&self) -> LabelSpace {
        let [n, n_classes, d, h, w] = self.shape;
        LabelSpace { shape: [n, d, h, w], n_classes, first_image: Some(self.first_image) }
    }

    /// How many pieces of work there are: see [`ScoreMaps::band`].
    pub fn n_bands(&self) -> usize {
        self.n_images() * self.n_pixels().div_ceil(BAND)
    }

    /// A piece of work: at most [`BAND`] pixels of one image, in order.
    pub fn band(&self, index: usize) -> Band {
        let n_pixels = self.n_pixels();
        let n_bands = n_pixels.div_ceil(BAND);
        let start = index % n_bands * BAND;
        Band { image: index / n_bands, pixels: start..(start + BAND).min(n_pixels) }
    }

    /// A reader of one image's tiles.
    pub fn tiles<'m>(&'m self, image: usize, scratch: &'m mut Scratch<R>) -> TileReader<'m, R> {
        TileReader::new(self, image, scratch)
    }
}

/// Score maps of any element type: one virtual call per tile keeps the kernels free of it.
trait Source<R>: Send + Sync {
    /// How many pixels a tile should have.
    fn tile_len(&self) -> usize;

    /// The tile of the given pixels of an image: borrowed if it can be, else gathered into `scratch`.
    fn tile<'s>(&'s self, image: usize, pixels: Range<usize>, scratch: &'s mut Gathered<R>) -> Tile<'s, R>;
}

impl<E: Element> Source<E::Real> for ArrayView5<'_, E> {
    fn tile_len(&self) -> usize {
        tile::len(&self.index_axis(Axis(0), 0))
    }

    fn tile<'s>(
        &'s self,
        image: usize,
        pixels: Range<usize>,
        scratch: &'s mut Gathered<E::Real>,
    ) -> Tile<'s, E::Real> {
        let image: ArrayView4<'s, E> = self.index_axis(Axis(0), image);
        tile::read(&image, pixels, scratch)
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
/// results go to `take` in the order of the bands. If several tasks fail, the error is that of the first band.
fn for_each_band<R: Real, W: Default, I: Send, O: Send>(
    maps: &ScoreMaps<'_, R>,
    inputs: impl IntoIterator<Item = I>,
    cancel: &Cancel,
    task: impl Fn(&mut W, &Band, I) -> Result<O> + Sync,
    mut take: impl FnMut(&Band, O) -> Result<()>,
) -> Result<()> {
    let (n_bands, mut inputs) = (maps.n_bands(), inputs.into_iter());
    // There may be too little memory for the results of all bands.
    for first in (0..n_bands).step_by(BATCH) {
        if first > 0 {
            memory::headroom()?;
        }
        let bands = first..n_bands.min(first + BATCH);
        let batch: Vec<I> = inputs.by_ref().take(bands.len()).collect();
        let results: Vec<Result<O>> = bands
            .clone()
            .into_par_iter()
            .zip_eq(batch)
            .map_init(W::default, |work, (band, input)| {
                cancel.check()?;
                task(work, &maps.band(band), input)
            })
            .collect();
        for (band, result) in bands.zip(results) {
            take(&maps.band(band), result?)?;
        }
    }
    Ok(())
}

/// Does a task for every band in parallel: with the buffers of its thread, the band and its input (see [`bands_mut`]). The
/// error is that of the first band, if several tasks fail.
pub fn visit_bands<R: Real, W: Default, I: Send>(
    maps: &ScoreMaps<'_, R>,
    inputs: impl IntoIterator<Item = I>,
    cancel: &Cancel,
    task: impl Fn(&mut W, &Band, I) -> Result<()> + Sync,
) -> Result<()> {
    for_each_band(maps, inputs, cancel, task, |_, ()| Ok(()))
}

/// Does a task for every band in parallel, and joins the results of each image's bands: `add` adds each of them, in order, to
/// that of the first.
pub fn fold_images<R: Real, W: Default, O: Send>(
    maps: &ScoreMaps<'_, R>,
    cancel: &Cancel,
    task: impl Fn(&mut W, &Band) -> Result<O> + Sync,
    add: impl Fn(&mut O, O),
) -> Result<Vec<O>> {
    let mut images = memory::with_room(maps.n_images(), "what is found of each image")?;
    let inputs = std::iter::repeat_n((), maps.n_bands());
    for_each_band(
        maps,
        inputs,
        cancel,
        |work, band, ()| task(work, band),
        |band, found| {
            match images.get_mut(band.image) {
                Some(sum) => add(sum, found),
                None => images.push(found),
            }
            Ok(())
        },
    )?;
    Ok(images)
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

    /// The band's pixels in runs of `len`; the last may be shorter.
    pub fn runs(&self, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.pixels;
        (start..end).step_by(len).map(move |first| first..(first + len).min(end))
    }
}

/// Cuts an `(n, ..., P)` output into the bands of [`ScoreMaps::band`], in the same order.
pub fn bands_mut<A, D: RemoveAxis>(
    out: ArrayViewMut<'_, A, D>,
) -> impl Iterator<Item = ArrayViewMut<'_, A, D::Smaller>> {
    pieces(out, Axis(0), 1).map(|image| image.index_axis_move(Axis(0), 0)).flat_map(|image| {
        let pixels = Axis(image.ndim() - 1);
        pieces(image, pixels, BAND)
    })
}

/// Cuts an axis into pieces of `len`; the last may be shorter.
fn pieces<A, D: Dimension>(
    out: ArrayViewMut<'_, A, D>,
    axis: Axis,
    len: usize,
) -> impl Iterator<Item = ArrayViewMut<'_, A, D>> {
    let mut rest = Some(out);
    std::iter::from_fn(move || {
        let (piece, tail) = match rest.take()? {
            out if out.len_of(axis) > len => out.split_at(axis, len),
            last => return Some(last),
        };
        rest = Some(tail);
        Some(piece)
    })
}

/// The place in `[0, len)` that `index` has if both borders are mirrors.
pub(crate) fn mirrored(index: isize, len: usize) -> usize {
    let period = 2 * len as isize;
    let index = index.rem_euclid(period);
    index.min(period - 1 - index) as usize
}

/// Cuts a run of pixels at the ends of rows: (row, columns, offset in the run).
pub(crate) fn rows(
    pixels: &Range<usize>,
    width: usize,
) -> impl Iterator<Item = (usize, Range<usize>, usize)> + use<> {
    let Range { start, end } = *pixels;
    (start / width..end.div_ceil(width)).map(move |row| {
        let first = start.max(row * width);
        let last = end.min((row + 1) * width);
        (row, first - row * width..last - row * width, first - start)
    })
}
