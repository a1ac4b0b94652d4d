//! Pixels near another label.
//!
//! A labelled pixel lies at a boundary if the square (the cube, in a volume) of side `2 r + 1` around it holds another label.
//! That is so if the smallest and the largest label in it differ, and these are found axis by axis: of windows of length
//! `2^i` by doubling, then of any length as that of two that overlap.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::Result;
use crate::maps::{LabelMaps, ScoreMaps, VOID};
use crate::memory;
use crate::num::real::Real;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

const WHAT: &str = "the boundaries of labels";

/// Pixels whose labels are read at once.
const RUN: usize = 1 << 15;

/// Numbers of a slab, which stays in cache.
const SLAB: usize = 1 << 15;

/// Marks the labelled pixels of all images, one after another, that have another label within `radius`.
pub fn mark<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    radius: usize,
    cancel: &Cancel,
) -> Result<Vec<bool>> {
    let (n_pixels, grid) = (maps.n_pixels(), maps.grid());
    let axes = [
        Axis { len: grid.width, inner: 1 },
        Axis { len: grid.height, inner: grid.width },
        Axis { len: n_pixels / (grid.width * grid.height), inner: grid.width * grid.height },
    ];
    let mut marks = memory::filled(false, maps.n_images() * n_pixels, WHAT, cancel)?;
    let tasks = marks.par_chunks_mut(n_pixels).enumerate().map_init(Work::default, |work, (image, marks)| {
        work.read(labels, image, n_pixels, cancel)?;
        for axis in axes {
            axis.widen(&mut work.lows, radius, (u16::MAX, smaller), &mut work.slab, cancel)?;
            axis.widen(&mut work.highs, radius, (0, larger), &mut work.slab, cancel)?;
        }
        work.finish(marks, cancel)
    });
    memory::gathered::<Result<()>>(tasks, WHAT)?.into_iter().collect::<Result<()>>()?;
    Ok(marks)
}

/// The buffers of one thread: numbers for each pixel of an image.
#[derive(Default)]
struct Work {
    codes: Vec<i32>,
    /// Classes; the largest number where void.
    lows: Vec<u16>,
    /// Classes plus one; 0 where void.
    highs: Vec<u16>,
    valid: Vec<bool>,
    slab: Slab,
}

impl Work {
    fn read(&mut self, labels: &LabelMaps<'_>, image: usize, n_pixels: usize, cancel: &Cancel) -> Result<()> {
        let Self { codes, lows, highs, valid, .. } = self;
        (lows.clear(), highs.clear(), valid.clear());
        memory::reserve(lows, n_pixels, WHAT)?;
        memory::reserve(highs, n_pixels, WHAT)?;
        memory::reserve(valid, n_pixels, WHAT)?;
        for start in (0..n_pixels).step_by(RUN) {
            cancel.check()?;
            labels.read(image, start..n_pixels.min(start + RUN), codes)?;
            lows.extend(codes.iter().map(|&code| code as u16)); // VOID is the largest number
            highs.extend(codes.iter().map(|&code| (code + 1) as u16));
            valid.extend(codes.iter().map(|&code| code != VOID));
        }
        Ok(())
    }

    fn finish(&self, marks: &mut [bool], cancel: &Cancel) -> Result<()> {
        for start in (0..marks.len()).step_by(RUN) {
            cancel.check()?;
            let run = start..marks.len().min(start + RUN);
            let (lows, highs) = (&self.lows[run.clone()], &self.highs[run.clone()]);
            differ(lows, highs, &self.valid[run.clone()], &mut marks[run]);
        }
        Ok(())
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

/// A number that changes nothing, and the smaller or the larger of each two.
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
            let rows = lines.chunks_exact(axis.inner).flat_map(|line| &line[columns.clone()]);
            self.numbers.extend(rows);
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
fn differ(lows: &[u16], highs: &[u16], valid: &[bool], marks: &mut [bool]) {
    for (((mark, &low), &high), &valid) in marks.iter_mut().zip(lows).zip(highs).zip(valid) {
        // The neighbourhood of a labelled pixel holds a label: its own.
        *mark = valid & (high > low.saturating_add(1));
    }
}
