//! Features of a pixel: how sure the model is there, and what its surroundings look like.
//!
//! Features of a pixel alone: the entropy of its probabilities (natural logarithm; a probability of 0 adds 0), the margin
//! between the two largest, and the five largest, in descending order. Features of its surroundings, within the slice of a
//! volume: the share of pixels in a window with the same most probable class, the distance to the nearest pixel of another
//! class, and the mean entropy in the window. Beyond the border the image is mirrored, the border pixel first (SciPy's
//! `"reflect"`).
//!
//! The distance is the chessboard distance, clipped at the largest one and divided by it. A pixel is at the *edge* if one of
//! its eight neighbours is of another class. The nearest pixel of another class is one step beyond the nearest edge, because a
//! path to it that stays in the class ends at an edge. The nearest edge is found along rows, then down columns, one row at a
//! time.

use std::ops::Range;

use ndarray::{ArrayViewMut2, ArrayViewMut3, Axis, s};

use crate::error::Result;
use crate::maps::{Band, ScoreMaps, Scratch, bands_mut, mirrored, rows, visit_bands};
use crate::memory;
use crate::num::real::Real;
use crate::place::Grid;
use crate::score::Scan;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// The number of largest probabilities among the features.
pub const N_LARGEST: usize = 5;

/// Features of a pixel alone: entropy, margin, the largest probabilities.
pub const N_ALONE: usize = 2 + N_LARGEST;

/// Features of its surroundings: agreement, distance, mean entropy.
pub const N_AROUND: usize = 3;

/// The width of the window.
pub const WINDOW: usize = 5;

/// Larger distances count as this one.
pub const FARTHEST: usize = 8;

const HALF: usize = WINDOW / 2;

const WHAT: &str = "the rows under a window";

/// Writes the features of each pixel; `out` is `(n, F, pixels)`, F being those of pixels alone, or all.
pub fn features<R: Real>(
    maps: &ScoreMaps<'_, R>,
    mut out: ArrayViewMut3<'_, f32>,
    cancel: &Cancel,
) -> Result<()> {
    let (n, n_features, n_pixels) = out.dim();
    assert!([N_ALONE, N_ALONE + N_AROUND].contains(&n_features), "features of pixels alone, or all");
    let has_windows = n_features > N_ALONE;
    let n_classes = if has_windows { n * n_pixels } else { 0 };
    let mut classes = memory::filled(0_u16, n_classes, "the most probable classes", cancel)?;
    let (mut alone, around) = out.view_mut().split_at(Axis(1), N_ALONE);
    if !has_windows {
        return visit_bands(maps, bands_mut(alone), cancel, |work: &mut Work<R>, band, out| {
            look(maps, band, work, out, None, cancel)
        });
    }
    let label_maps = ArrayViewMut2::from_shape((n, n_pixels), &mut classes).expect("a class for each pixel");
    let bands = bands_mut(alone.view_mut()).zip(bands_mut(label_maps));
    visit_bands(maps, bands, cancel, |work: &mut Work<R>, band, (out, mut classes)| {
        look(maps, band, work, out, classes.as_slice_mut(), cancel)
    })?;
    let entropy = alone.view();
    let entropy = entropy.index_axis(Axis(1), 0);
    visit_bands(maps, bands_mut(around), cancel, |work: &mut Lines, band, out| {
        let entropy = entropy.index_axis_move(Axis(0), band.image);
        let classes = &classes[band.image * n_pixels..][..n_pixels];
        let image = Image { classes, entropies: entropy.to_slice().expect("row by row"), grid: maps.grid() };
        image.look_around(&band.pixels, work, out, cancel)
    })
}

/// The buffers of one thread, for pixels alone.
#[derive(Default)]
struct Work<R> {
    scratch: Scratch<R>,
    scan: Scan<R>,
    entropies: Vec<R>,
    largest: [Vec<R>; N_LARGEST],
}

/// The features of pixels alone, and their most probable classes.
fn look<R: Real>(
    maps: &ScoreMaps<'_, R>,
    band: &Band,
    work: &mut Work<R>,
    mut out: ArrayViewMut2<'_, f32>,
    mut classes: Option<&mut [u16]>,
    cancel: &Cancel,
) -> Result<()> {
    let Work { scratch, scan, entropies, largest } = work;
    let mut reader = maps.tiles(band.image, scratch);
    for pixels in band.runs(reader.tile_len()) {
        cancel.check()?;
        let at = band.offset_of(&pixels);
        let tile = reader.read(pixels.clone());
        let best = scan.first(&tile, None, &maps.place(band.image, pixels))?;
        if let Some(classes) = &mut classes {
            classes[at.clone()].iter_mut().zip(best).for_each(|(class, &best)| *class = best as u16);
        }
        for buffer in std::iter::once(&mut *entropies).chain(largest.iter_mut()) {
            buffer.clear();
            buffer.resize(tile.len(), R::zero());
        }
        for class in 0..tile.n_classes() {
            add_entropies(tile.plane(class), entropies);
            sort_in(tile.plane(class), largest);
        }
        let mut told = |feature: usize, value: &dyn Fn(usize) -> R| {
            let mut row = out.slice_mut(s![feature, at.clone()]);
            row.iter_mut().enumerate().for_each(|(j, out)| *out = single(value(j)));
        };
        told(0, &|j| entropies[j].max(R::zero())); // by rounding, a probability of 1 may be above 1
        told(1, &|j| largest[0][j] - largest[1][j]);
        for (rank, largest) in largest.iter().enumerate() {
            told(2 + rank, &|j| largest[j]);
        }
    }
    Ok(())
}

fn single<R: Real>(value: R) -> f32 {
    let value: f64 = value.into();
    value as f32
}

fn add_entropies<R: Real>(plane: &[R], sums: &mut [R]) {
    for (&p, sum) in plane.iter().zip(sums) {
        if p > R::zero() {
            *sum += -(p * p.ln());
        }
    }
}

/// Inserts one more number of each pixel into the largest.
#[apply(vectorised!)]
fn sort_in<R: Real>(plane: &[R], largest: &mut [Vec<R>; N_LARGEST]) {
    let len = plane.len();
    let [a, b, c, d, e] = largest.each_mut().map(|largest| &mut largest[..len]);
    for j in 0..len {
        let mut next = plane[j];
        for place in [&mut a[j], &mut b[j], &mut c[j], &mut d[j], &mut e[j]] {
            let is_larger = next > *place;
            let (larger, other) = if is_larger { (next, *place) } else { (*place, next) };
            (*place, next) = (larger, other);
        }
    }
}

/// The data of one image for windows.
struct Image<'a> {
    classes: &'a [u16],
    entropies: &'a [f32],
    grid: Grid,
}

/// The buffers of one thread, for windows.
#[derive(Default)]
struct Lines {
    /// The rows of a window, with margins.
    classes: [Vec<u16>; WINDOW],
    entropies: [Vec<f32>; WINDOW],
    /// For each pixel of the rows that a band sees: steps along the row to an edge, at most [`FARTHEST`].
    steps: Vec<u8>,
    /// A row of each feature.
    agreement: Vec<f32>,
    mean: Vec<f32>,
    distance: Vec<u8>,
}

impl Image<'_> {
    /// Writes the features of the surroundings of a band's pixels; `out` is `(F, pixels)`.
    fn look_around(
        &self,
        pixels: &Range<usize>,
        lines: &mut Lines,
        mut out: ArrayViewMut2<'_, f32>,
        cancel: &Cancel,
    ) -> Result<()> {
        let Grid { height, width, .. } = self.grid;
        lines.resize(width)?;
        let (first, last) = (pixels.start / width, pixels.end.div_ceil(width));
        let seen = self.rows_near(first, FARTHEST - 1).start..self.rows_near(last - 1, FARTHEST - 1).end;
        memory::resize(&mut lines.steps, seen.len() * width, 0, WHAT)?;
        for (row, steps) in seen.clone().zip(lines.steps.chunks_exact_mut(width)) {
            cancel.check()?;
            self.steps_to_edges(row, steps);
        }
        for (row, columns, offset) in rows(pixels, width) {
            cancel.check()?;
            self.fill_window(row, height, lines);
            agree(&lines.classes, &mut lines.agreement);
            average(&lines.entropies, &mut lines.mean);
            lines.distance.fill(FARTHEST as u8 - 1);
            for other in self.rows_near(row, FARTHEST - 1) {
                let steps = &lines.steps[(other - seen.start) * width..][..width];
                approach(steps, other.abs_diff(row) as u8, &mut lines.distance);
            }
            let Lines { agreement, mean, distance, .. } = &*lines;
            let mut told = |feature: usize, value: &dyn Fn(usize) -> f32| {
                let mut out = out.slice_mut(s![feature, offset..offset + columns.len()]);
                out.iter_mut().zip(columns.clone()).for_each(|(out, column)| *out = value(column));
            };
            told(0, &|column| agreement[column]);
            told(1, &|column| f32::from(distance[column] + 1) / FARTHEST as f32);
            told(2, &|column| mean[column]);
        }
        Ok(())
    }

    /// The rows of a slice that are at most `reach` rows from one.
    fn rows_near(&self, row: usize, reach: usize) -> Range<usize> {
        let height = self.grid.height;
        let first = row / height * height;
        row.saturating_sub(reach).max(first)..(row + reach + 1).min(first + height)
    }

    fn row<'a, T>(&self, plane: &'a [T], row: usize) -> &'a [T] {
        &plane[row * self.grid.width..][..self.grid.width]
    }

    /// Writes the steps along a row to the nearest edge, at most [`FARTHEST`].
    fn steps_to_edges(&self, row: usize, steps: &mut [u8]) {
        steps.fill(FARTHEST as u8);
        let own = self.row(self.classes, row);
        for near in self.rows_near(row, 1) {
            let near = self.row(self.classes, near);
            for (x, steps) in steps.iter_mut().enumerate() {
                let around = &near[x.saturating_sub(1)..own.len().min(x + 2)];
                if around.iter().any(|&class| class != own[x]) {
                    *steps = 0;
                }
            }
        }
        let (mut before, mut after) = (FARTHEST as u8, FARTHEST as u8);
        for steps in &mut *steps {
            before = (*steps).min(before + 1).min(FARTHEST as u8);
            *steps = before;
        }
        for steps in steps.iter_mut().rev() {
            after = (*steps).min(after + 1);
            *steps = after;
        }
    }

    /// Copies the rows under the windows of a row, mirrored at the borders.
    fn fill_window(&self, row: usize, height: usize, lines: &mut Lines) {
        let (slice, y) = (row / height * height, row % height);
        for i in 0..WINDOW {
            let other = slice + mirrored(y as isize + i as isize - HALF as isize, height);
            fill_mirrored(self.row(self.classes, other), &mut lines.classes[i]);
            fill_mirrored(self.row(self.entropies, other), &mut lines.entropies[i]);
        }
    }
}

impl Lines {
    fn resize(&mut self, width: usize) -> Result<()> {
        for line in &mut self.classes {
            line.clear();
            memory::resize(line, width + WINDOW - 1, 0, WHAT)?;
        }
        for line in &mut self.entropies {
            line.clear();
            memory::resize(line, width + WINDOW - 1, 0.0, WHAT)?;
        }
        for line in [&mut self.agreement, &mut self.mean] {
            line.clear();
            memory::resize(line, width, 0.0, WHAT)?;
        }
        self.distance.clear();
        memory::resize(&mut self.distance, width, 0, WHAT)?;
        self.steps.clear();
        Ok(())
    }
}

/// A row with mirrored margins.
fn fill_mirrored<T: Copy>(row: &[T], line: &mut [T]) {
    let width = row.len();
    line[HALF..HALF + width].copy_from_slice(row);
    for i in 0..HALF {
        line[HALF - 1 - i] = row[mirrored(-1 - i as isize, width)];
        line[HALF + width + i] = row[mirrored((width + i) as isize, width)];
    }
}

/// The share of a window's pixels whose class is that of the pixel at its centre.
#[apply(vectorised!)]
fn agree(classes: &[Vec<u16>; WINDOW], out: &mut [f32]) {
    let len = out.len();
    let own = &classes[HALF][HALF..HALF + len];
    out.fill(0.0);
    for line in classes {
        for shift in 0..WINDOW {
            let other = &line[shift..shift + len];
            for ((out, &own), &other) in out.iter_mut().zip(own).zip(other) {
                *out += if own == other { 1.0 } else { 0.0 };
            }
        }
    }
    for out in out {
        *out /= (WINDOW * WINDOW) as f32;
    }
}

/// The mean over a window.
#[apply(vectorised!)]
fn average(entropies: &[Vec<f32>; WINDOW], out: &mut [f32]) {
    let len = out.len();
    out.fill(0.0);
    for line in entropies {
        for shift in 0..WINDOW {
            for (out, &value) in out.iter_mut().zip(&line[shift..shift + len]) {
                *out += value;
            }
        }
    }
    for out in out {
        *out /= (WINDOW * WINDOW) as f32;
    }
}

/// Updates distances by the edges of a row that is `rows` rows away.
#[apply(vectorised!)]
fn approach(steps: &[u8], rows: u8, distance: &mut [u8]) {
    for (&steps, distance) in steps.iter().zip(distance) {
        *distance = steps.max(rows).min(*distance);
    }
}
