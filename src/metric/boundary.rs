//! Pixels near another label, and pixels of objects.
//!
//! A labelled pixel lies at a boundary if the square (the cube, in a volume) of side `2 r + 1` around it holds another label.
//! That is so if the smallest and the largest label in it differ. These are found axis by axis: for windows of length `2^i` by
//! doubling, for other lengths from two windows that overlap. The predictions of labelled pixels may take the place of labels.
//!
//! Other pixels may be divided into those inside and outside the bounding boxes of objects. Labels do not separate the objects
//! of a class, so there is one box around all pixels of the class.

use std::ops::Range;

use ndarray::{ArrayViewMut1, ArrayViewMut2};
use rayon::prelude::*;

use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, VOID, bands_mut, rows, visit_bands};
use crate::memory;
use crate::num::real::Real;
use crate::place::Grid;
use crate::score::Scan;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

const WHAT: &str = "the boundaries of labels";

/// Pixels whose labels are read at once.
const RUN: usize = 1 << 15;

/// Numbers of a slab, which stays in cache.
const SLAB: usize = 1 << 15;

/// The mark of a pixel without another label near it.
pub const INTERIOR: u8 = 0;
/// The mark of a labelled pixel with another label near it.
pub const BOUNDARY: u8 = 1;
/// The mark of a pixel without another label near it that lies in no box.
pub const OUTSIDE: u8 = 2;

/// Marks the pixels of all images, one after another, by whether there is another label within `radius` and, if classes of
/// objects are given, whether they lie in a box. With `of_prediction`, predictions are compared instead of labels.
pub fn mark<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    radius: usize,
    of_prediction: bool,
    objects: Option<&[bool]>,
    cancel: &Cancel,
) -> Result<Vec<u8>> {
    let (n_pixels, grid) = (maps.n_pixels(), maps.grid());
    let axes = [
        Axis { len: grid.width, inner: 1 },
        Axis { len: grid.height, inner: grid.width },
        Axis { len: n_pixels / (grid.width * grid.height), inner: grid.width * grid.height },
    ];
    let predicted = of_prediction.then(|| predictions(maps, labels, cancel)).transpose()?;
    let mut marks = memory::filled(INTERIOR, maps.n_images() * n_pixels, WHAT, cancel)?;
    let tasks = marks.par_chunks_mut(n_pixels).enumerate().map_init(Work::default, |work, (image, marks)| {
        let predicted = predicted.as_deref().map(|predicted| &predicted[image * n_pixels..][..n_pixels]);
        work.read(labels, predicted, image, n_pixels, cancel)?;
        work.outside.clear();
        if let Some(objects) = objects {
            work.draw_boxes(grid, objects, cancel)?;
        }
        for axis in axes {
            axis.widen(&mut work.lows, radius, (u16::MAX, smaller), &mut work.slab, cancel)?;
            axis.widen(&mut work.highs, radius, (0, larger), &mut work.slab, cancel)?;
        }
        work.finish(marks, cancel)
    });
    memory::gathered::<Result<()>>(tasks, WHAT)?.into_iter().collect::<Result<()>>()?;
    Ok(marks)
}

/// What stands for no class.
const NONE: u16 = u16::MAX;

/// The most probable class of each labelled pixel of all images, [`NONE`] of the others.
fn predictions<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    cancel: &Cancel,
) -> Result<Vec<u16>> {
    let shape = (maps.n_images(), maps.n_pixels());
    let mut classes = memory::filled(NONE, shape.0 * shape.1, "the most probable classes", cancel)?;
    let bands = ArrayViewMut2::from_shape(shape, &mut classes).expect("a class for each pixel");
    visit_bands(maps, bands_mut(bands), cancel, |work: &mut Predicting<R>, band, out| {
        predict(maps, labels, band, work, out, cancel)
    })?;
    Ok(classes)
}

/// The buffers of one thread that predicts.
#[derive(Default)]
struct Predicting<R> {
    scratch: Scratch<R>,
    codes: Vec<i32>,
    scan: Scan<R>,
}

fn predict<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    band: &Band,
    work: &mut Predicting<R>,
    mut out: ArrayViewMut1<'_, u16>,
    cancel: &Cancel,
) -> Result<()> {
    let Predicting { scratch, codes, scan } = work;
    let out = out.as_slice_mut().expect("the pixels of a band are contiguous");
    let mut reader = maps.tiles(band.image, scratch);
    for pixels in band.runs(reader.tile_len()) {
        cancel.check()?;
        labels.read(band.image, pixels.clone(), codes)?;
        let out = &mut out[band.offset_of(&pixels)];
        let best = scan.first(&reader.read(pixels.clone()), Some(codes), &maps.place(band.image, pixels))?;
        for ((out, &code), &best) in out.iter_mut().zip(&*codes).zip(best) {
            *out = if code == VOID { NONE } else { best as u16 };
        }
    }
    Ok(())
}

/// The buffers of one thread: numbers for each pixel of an image.
#[derive(Default)]
struct Work {
    codes: Vec<i32>,
    /// Classes; [`NONE`], the largest number, where void.
    lows: Vec<u16>,
    /// Classes plus one; 0 where void.
    highs: Vec<u16>,
    valid: Vec<bool>,
    /// If there are objects.
    outside: Vec<bool>,
    slab: Slab,
}

impl Work {
    fn read(
        &mut self,
        labels: &LabelMaps<'_>,
        predicted: Option<&[u16]>,
        image: usize,
        n_pixels: usize,
        cancel: &Cancel,
    ) -> Result<()> {
        let Self { codes, lows, highs, valid, .. } = self;
        lows.clear();
        highs.clear();
        valid.clear();
        memory::reserve(lows, n_pixels, WHAT)?;
        memory::reserve(highs, n_pixels, WHAT)?;
        memory::reserve(valid, n_pixels, WHAT)?;
        for start in (0..n_pixels).step_by(RUN) {
            cancel.check()?;
            let run = start..n_pixels.min(start + RUN);
            if let Some(predicted) = predicted {
                lows.extend_from_slice(&predicted[run]);
            } else {
                labels.read(image, run, codes)?;
                lows.extend(codes.iter().map(|&code| code as u16)); // VOID is NONE
            }
            highs.extend(lows[start..].iter().map(|&class| class.wrapping_add(1)));
            valid.extend(lows[start..].iter().map(|&class| class != NONE));
        }
        Ok(())
    }

    /// Finds the pixels that lie in no box of an object.
    fn draw_boxes(&mut self, grid: Grid, objects: &[bool], cancel: &Cancel) -> Result<()> {
        let Grid { height, width, .. } = grid;
        let n_pixels = self.lows.len();
        let mut boxes = memory::filled(None::<Extent>, objects.len(), WHAT, cancel)?;
        for (row, columns, start) in rows(&(0..n_pixels), width) {
            cancel.check()?;
            let (depth, row) = (row / height, row % height);
            for (column, &class) in columns.zip(&self.lows[start..]) {
                // Void pixels have no class.
                if objects.get(usize::from(class)) == Some(&true) {
                    let found = &mut boxes[usize::from(class)];
                    found.get_or_insert_with(|| Extent::of([depth, row, column])).take([depth, row, column]);
                }
            }
        }
        memory::resize(&mut self.outside, n_pixels, true, WHAT)?;
        for Extent { first, last } in boxes.into_iter().flatten() {
            for depth in first[0]..=last[0] {
                for row in first[1]..=last[1] {
                    cancel.check()?;
                    let start = (depth * height + row) * width;
                    self.outside[start + first[2]..=start + last[2]].fill(false);
                }
            }
        }
        Ok(())
    }

    fn finish(&self, marks: &mut [u8], cancel: &Cancel) -> Result<()> {
        for start in (0..marks.len()).step_by(RUN) {
            cancel.check()?;
            let run = start..marks.len().min(start + RUN);
            let (lows, highs) = (&self.lows[run.clone()], &self.highs[run.clone()]);
            differ(lows, highs, &self.valid[run.clone()], &mut marks[run]);
        }
        for (mark, &is_outside) in marks.iter_mut().zip(&self.outside) {
            *mark = if is_outside && *mark == INTERIOR { OUTSIDE } else { *mark };
        }
        Ok(())
    }
}

/// The smallest box around some pixels, by depth, row and column.
#[derive(Debug, Clone, Copy)]
struct Extent {
    first: [usize; 3],
    last: [usize; 3],
}

impl Extent {
    fn of(pixel: [usize; 3]) -> Self {
        Self { first: pixel, last: pixel }
    }

    fn take(&mut self, pixel: [usize; 3]) {
        for ((first, last), at) in self.first.iter_mut().zip(&mut self.last).zip(pixel) {
            *first = at.min(*first);
            *last = at.max(*last);
        }
    }
}

/// An axis of an image: how long it is, and how far apart its numbers lie.
#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    inner: usize,
}

/// The numbers of some columns along an axis, and as many again.
#[derive(Default)]
struct Slab {
    numbers: Vec<u16>,
    spare: Vec<u16>,
}

/// A neutral number, and the function that takes the smaller, or the larger, of each two numbers.
type Extreme = (u16, fn(&[u16], &[u16], &mut [u16]));

impl Axis {
    /// Each number becomes the extreme of those within `radius` along the axis.
    fn widen(
        self,
        numbers: &mut [u16],
        radius: usize,
        extreme: Extreme,
        slab: &mut Slab,
        cancel: &Cancel,
    ) -> Result<()> {
        let radius = radius.min(self.len - 1);
        if radius == 0 {
            return Ok(());
        }
        let columns_at_once = (SLAB / (self.len + 2 * radius)).max(64);
        for lines in numbers.chunks_exact_mut(self.len * self.inner) {
            for first in (0..self.inner).step_by(columns_at_once) {
                cancel.check()?;
                let columns = first..self.inner.min(first + columns_at_once);
                slab.load(lines, self, &columns, radius, extreme.0)?;
                slab.slide(columns.len(), 2 * radius + 1, extreme.1);
                if columns.len() == self.inner {
                    lines.copy_from_slice(&slab.numbers);
                    continue;
                }
                let rows = slab.numbers.chunks_exact(columns.len());
                for (line, row) in lines.chunks_exact_mut(self.inner).zip(rows) {
                    line[columns.clone()].copy_from_slice(row);
                }
            }
        }
        Ok(())
    }
}

impl Slab {
    fn load(
        &mut self,
        lines: &[u16],
        axis: Axis,
        columns: &Range<usize>,
        radius: usize,
        neutral: u16,
    ) -> Result<()> {
        let border = radius * columns.len();
        let len = axis.len * columns.len() + 2 * border;
        self.numbers.clear();
        memory::reserve(&mut self.numbers, len, WHAT)?;
        self.numbers.resize(border, neutral);
        if columns.len() == axis.inner {
            self.numbers.extend_from_slice(lines);
        } else {
            for line in lines.chunks_exact(axis.inner) {
                self.numbers.extend_from_slice(&line[columns.clone()]);
            }
        }
        self.numbers.resize(len, neutral);
        memory::resize(&mut self.spare, len, neutral, WHAT)
    }

    /// Each number becomes the extreme of the window that begins there; windows that do not fit are dropped.
    fn slide(&mut self, inner: usize, window: usize, extreme: fn(&[u16], &[u16], &mut [u16])) {
        let Self { numbers, spare } = self;
        let (mut width, mut len) = (1, numbers.len());
        while width < window {
            let step = width.min(window - width);
            let (first, second) = (&numbers[..len - step * inner], &numbers[step * inner..len]);
            len -= step * inner;
            extreme(first, second, &mut spare[..len]);
            std::mem::swap(numbers, spare);
            width += step;
        }
        numbers.truncate(len);
    }
}

#[apply(vectorised!)]
fn smaller(first: &[u16], second: &[u16], out: &mut [u16]) {
    for ((out, &first), &second) in out.iter_mut().zip(first).zip(second) {
        *out = first.min(second);
    }
}

#[apply(vectorised!)]
fn larger(first: &[u16], second: &[u16], out: &mut [u16]) {
    for ((out, &first), &second) in out.iter_mut().zip(first).zip(second) {
        *out = first.max(second);
    }
}

#[apply(vectorised!)]
fn differ(lows: &[u16], highs: &[u16], valid: &[bool], marks: &mut [u8]) {
    for (((mark, &low), &high), &valid) in marks.iter_mut().zip(lows).zip(highs).zip(valid) {
        // The neighbourhood of a labelled pixel always holds a label: its own.
        *mark = if valid & (high > low.saturating_add(1)) { BOUNDARY } else { INTERIOR };
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array4, Array5, s};
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::error::Error;
    use crate::maps::Inputs;
    use crate::num::philox::{Philox, below};

    const IGNORED: u8 = 255;
    const N_CLASSES: usize = 4;

    /// Labels `(n, D, H, W)` of blocks, so that there are pixels away from all others; some are void.
    fn labels(shape: [usize; 4], side: usize, seed: u128) -> Array4<u8> {
        let random = Philox::new(seed);
        Array4::from_shape_fn(shape, |(i, z, r, c)| {
            let block = [i, z / side, r / side, c / side].into_iter().fold(0, |sum, x| 1000 * sum + x as u64);
            let pixel = [i, z, r, c].into_iter().fold(1, |sum, x| 1000 * sum + x as u64);
            let is_void = below(random.block(pixel)[1], 8) == 0;
            if is_void { IGNORED } else { below(random.block(block)[0], N_CLASSES as u64) as u8 }
        })
    }

    fn marks(
        labels: &Array4<u8>,
        radius: usize,
        objects: Option<&[bool]>,
        cancel: &Cancel,
    ) -> Result<Vec<u8>> {
        let (n, d, h, w) = labels.dim();
        let scores = Array5::<f32>::zeros((n, N_CLASSES, d, h, w)); // only their shape matters
        let maps = ScoreMaps::new(scores.view().into_dyn(), Inputs::Probabilities, 0)?;
        let labels = LabelMaps::new(labels.view().into_dyn(), Some(i64::from(IGNORED)), maps.label_space())?;
        mark(&maps, &labels, radius, false, objects, cancel)
    }

    /// The pixels `at - radius ..= at + radius` that there are.
    fn near(at: usize, radius: usize, len: usize) -> Range<usize> {
        at.saturating_sub(radius)..len.min(at + radius + 1)
    }

    /// The same, by looking at all pixels around each.
    fn twin(labels: &Array4<u8>, radius: usize, objects: Option<&[bool]>) -> Vec<u8> {
        let mut all = Vec::new();
        for image in labels.outer_iter() {
            let (d, h, w) = image.dim();
            for ((z, r, c), &own) in image.indexed_iter() {
                let is_other = |&label: &u8| own != IGNORED && label != IGNORED && label != own;
                let around = image.slice(s![near(z, radius, d), near(r, radius, h), near(c, radius, w)]);
                let is_inside = |object: usize| {
                    let mine = image.indexed_iter().filter(|&(_, &label)| usize::from(label) == object);
                    let places: Vec<_> = mine.map(|((z, r, c), _)| [z, r, c]).collect();
                    !places.is_empty()
                        && [z, r, c].into_iter().enumerate().all(|(axis, at)| {
                            let along = || places.iter().map(|place| place[axis]);
                            (along().min() <= Some(at)) && (Some(at) <= along().max())
                        })
                };
                let is_outside = |objects: &[bool]| !(0..N_CLASSES).any(|k| objects[k] && is_inside(k));
                all.push(if around.iter().any(is_other) {
                    BOUNDARY
                } else if objects.is_some_and(is_outside) {
                    OUTSIDE
                } else {
                    INTERIOR
                });
            }
        }
        all
    }

    #[test]
    fn pixels_are_marked_as_their_neighbours_say() {
        let shapes = [
            ([3, 1, 7, 10], 3),
            ([2, 1, 11, 4], 4),
            ([2, 5, 6, 7], 3),
            ([2, 1, 1, 13], 4),
            ([2, 1, 13, 1], 4),
            ([1, 9, 1, 1], 2),
            ([2, 1, 1, 1], 1),
        ];
        for (seed, (shape, side)) in (0..).zip(shapes) {
            let labels = labels(shape, side, seed);
            for radius in [0, 1, 2, 3, 5, 1_000_000] {
                let found = marks(&labels, radius, None, &Cancel::default()).unwrap();
                assert_eq!(found, twin(&labels, radius, None), "{shape:?}, radius {radius}");
                assert!(radius > 0 || found.iter().all(|&mark| mark == INTERIOR));
            }
        }
    }

    #[test]
    fn pixels_lie_in_the_boxes_of_objects_or_outside() {
        for (seed, shape) in (0..).zip([[3, 1, 9, 14], [3, 4, 5, 6], [40, 1, 3, 5]]) {
            let mut labels = labels(shape, 1, seed);
            let random = Philox::new(99);
            // Objects of few pixels, and images without.
            let keep = |label: u8, j: u64| if below(random.block(j)[2], 9) == 0 { label } else { 0 };
            labels.iter_mut().zip(0..).filter(|(label, _)| **label != IGNORED).for_each(|(label, j)| {
                *label = keep(*label, j);
            });
            for objects in [[false, true, false, true], [false, false, true, false], [true; 4], [false; 4]] {
                for radius in [0, 1, 4] {
                    let found = marks(&labels, radius, Some(&objects), &Cancel::default()).unwrap();
                    assert_eq!(
                        found,
                        twin(&labels, radius, Some(&objects)),
                        "{shape:?}, {objects:?}, {radius}"
                    );
                    assert!(!objects.iter().all(|&is| !is) || !found.contains(&INTERIOR));
                }
            }
        }
    }

    /// Images that are larger than a slab along each axis, and longer than what is read at once.
    #[test]
    fn large_images_are_marked_slab_by_slab() {
        let shapes = [[1, 1, 600, 150], [1, 1, 150, 600], [1, 3, 110, 121]];
        assert!(shapes.iter().all(|[_, d, h, w]| d * h * w > RUN.max(SLAB)));
        for (seed, shape) in (0..).zip(shapes) {
            let labels = labels(shape, 9, seed);
            for radius in [1, 2] {
                let cancel = Cancel::default();
                let found = marks(&labels, radius, None, &cancel).unwrap();
                assert!(found == twin(&labels, radius, None), "{shape:?}, radius {radius}");
                let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                assert!(found == pool.install(|| marks(&labels, radius, None, &cancel).unwrap()));
            }
        }
    }

    #[test]
    fn classes_up_to_the_last_are_told_from_void() {
        let classes = ndarray::array![[0_u16, 0, 65_534, 65_534, 65_535]];
        let scores = ndarray::Array4::<f32>::zeros((1, 65_535, 1, 5));
        let maps = ScoreMaps::new(scores.view().into_dyn(), Inputs::Probabilities, 0).unwrap();
        let view = classes.view().insert_axis(ndarray::Axis(0));
        let labels = LabelMaps::new(view.into_dyn(), Some(65_535_i64), maps.label_space()).unwrap();
        let found = mark(&maps, &labels, 1, false, None, &Cancel::default()).unwrap();
        assert_eq!(found, [INTERIOR, BOUNDARY, BOUNDARY, INTERIOR, INTERIOR]);
    }

    /// Images of more than a band, with equal scores, and with NaN where void.
    #[test]
    fn predictions_of_labelled_pixels_are_marked_like_labels() {
        for (seed, shape) in (0..).zip([[2, 1, 9, 13], [2, 3, 5, 7], [1, 1, 250, 150]]) {
            let (labels, predicted) = (labels(shape, 1, seed), labels(shape, 4, seed + 50));
            let (n, d, h, w) = labels.dim();
            // Where a label is void, the one of `predicted` may be void, too.
            let labels = ndarray::Zip::from(&labels)
                .and(&predicted)
                .map_collect(|&label, &other| if other == IGNORED { IGNORED } else { label });
            let predicted = ndarray::Zip::from(&labels)
                .and(&predicted)
                .map_collect(|&label, &other| if label == IGNORED { IGNORED } else { other });
            let scores = Array5::from_shape_fn((n, N_CLASSES, d, h, w), |(i, k, z, r, c)| {
                let (class, is_tied) = (usize::from(predicted[[i, z, r, c]]), (r + c) % 3 == 0);
                match class {
                    _ if labels[[i, z, r, c]] == IGNORED => f32::NAN,
                    3 if k == 3 => 1.0, // no class comes after it
                    3 => 0.0,
                    _ if is_tied => f32::from(u8::from(k == class || k == class + 1)) / 2.0,
                    _ => [0.1, 0.7][usize::from(k == class)],
                }
            });
            let maps = ScoreMaps::new(scores.view().into_dyn(), Inputs::Probabilities, 0).unwrap();
            let given =
                LabelMaps::new(labels.view().into_dyn(), Some(i64::from(IGNORED)), maps.label_space())
                    .unwrap();
            for objects in [None, Some(&[false, true, false, true][..])] {
                for radius in [1, 2] {
                    let found = mark(&maps, &given, radius, true, objects, &Cancel::default()).unwrap();
                    let cancel = Cancel::default();
                    assert!(found == marks(&predicted, radius, objects, &cancel).unwrap(), "{shape:?}");
                    assert!(found != marks(&labels, radius, objects, &cancel).unwrap());
                }
            }
        }
    }

    #[test]
    fn work_that_is_cancelled_stops() {
        let cancel = Cancel::default();
        cancel.set();
        let found = marks(&labels([1, 1, 5, 5], 2, 0), 2, None, &cancel);
        assert!(matches!(found, Err(Error::Interrupted)));
    }
}
