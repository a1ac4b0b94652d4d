//! SACP, spatially aware conformal prediction: a score blended with its mean in a window around the pixel.
//!
//! `S'_k = (1 - w) S_k + w mean of S_k over the window`, label by label, for any base score S. The window has the pixel at
//! its centre; beyond the border the image is mirrored, the border pixel first (SciPy's `"reflect"`, NumPy's `"symmetric"`).
//! With `include_top1` the label that the base score ranks first is in every set. Optionally the probabilities are blended
//! instead, and the base score is applied to those.
//!
//! Some rows are computed at a time. A ring holds the base scores of the rows that their windows reach. The sum down the
//! columns, then along the row, costs two times the window's width, not its area. Both sums start again at each pixel and add
//! in a fixed order, so that the score of a pixel does not depend on the band in which it is computed.
//!
//! If the base score is LAC, `1 - p'` with blended probabilities `p'` is the same, and distinguishes small probabilities.
//!
//! Liu, Zhou, Luo et al., "Spatial-Aware Conformal Prediction for Trustworthy Hyperspectral Image Classification", 2024; for
//! segmentation: Viti, Karabelas, Holler, "CONSIGN", ICLR 2026.

use std::ops::Range;

use ndarray::ArrayViewMut2;

use super::{
    Activations, Coding, Cutoffs, Held, Lac, Loaded, Score, Spot, ValueBuffers, Values, Visit, Work,
};
use crate::error::Result;
use crate::maps::{Band, PlanesMut, Tile, TileReader, mirrored, padded};
use crate::memory;
use crate::num::real::Real;
use crate::place::Grid;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// The score.
pub struct Sacp<R> {
    /// The score whose values are blended.
    base: Box<dyn Score<R>>,
    /// The score of the blended values.
    blended: Box<dyn Score<R>>,
    settings: Settings,
}

/// How a score is blended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of the window's mean, in `[0, 1]`.
    pub weight: f64,
    /// The width of the window in pixels, odd.
    pub window: usize,
    /// Whether the label that the base score ranks first is always in the set.
    pub include_top1: bool,
    /// Whether to blend the probabilities and score those.
    pub probabilities: bool,
}

impl<R: Real> Sacp<R> {
    /// Blends a score.
    pub fn new(base: Box<dyn Score<R>>, settings: Settings) -> Self {
        let (base, blended): (Box<dyn Score<R>>, _) = if settings.probabilities {
            (Box::new(Lac { include_top1: false }), base)
        } else {
            let blended: Box<dyn Score<R>> = Box::new(Blended(base.coding()));
            (base, blended)
        };
        Self { base, blended, settings }
    }
}

/// The score whose values are those of the tile, of which nothing needs to be checked.
struct Blended(Coding);

impl<R: Real> Score<R> for Blended {
    fn values<'t>(&self, tile: &Tile<'t, R>, _: &'t mut ValueBuffers) -> Values<'t, R> {
        Values::Own(*tile)
    }

    fn coding(&self) -> Coding {
        self.0
    }

    fn needs_double(&self) -> bool {
        false
    }

    fn check(&self, _: &mut Spot<'_, R>) -> Result<()> {
        Ok(())
    }
}

impl<R: Real> Score<R> for Sacp<R> {
    fn values<'t>(&self, tile: &Tile<'t, R>, buffers: &'t mut ValueBuffers) -> Values<'t, R> {
        self.blended.values(tile, buffers)
    }

    fn coding(&self) -> Coding {
        self.blended.coding()
    }

    fn needs_double(&self) -> bool {
        self.blended.needs_double()
    }

    fn stream(
        &self,
        reader: &mut TileReader<'_, R>,
        band: &Band,
        rows: &mut Rows<R>,
        cancel: &Cancel,
        visit: &mut Visit<'_, R>,
    ) -> Result<()> {
        let Grid { height, width, .. } = reader.grid();
        let window = self.settings.window;
        let blend = Blend::new(self.settings, self.coding());
        rows.reset(reader.n_classes(), height, width, window)?;
        let (first_row, last_row) = (band.pixels.start / width, band.pixels.end.div_ceil(width));
        let mut row = first_row;
        let mut next = (usize::MAX, 0); // slice, and its first row that is not in the ring
        while row < last_row {
            let (slice, y) = (row / height, row % height);
            let block = BLOCK.min(height - y).min(last_row - row);
            if next.0 != slice {
                next = (slice, y.saturating_sub(window / 2));
            }
            let end = (y + block + window / 2).min(height);
            while next.1 < end {
                cancel.check()?;
                let new = rows.contiguous(next.1..end.min(next.1 + LOADED));
                let first = slice * height * width;
                let pixels = first + new.start * width..first + new.end * width;
                let place = reader.place(pixels);
                let tile = reader.read(place.pixels.clone());
                let (mut slot, work) = rows.slot(new.clone());
                self.base.load(&mut Spot { tile, place, codes: None, work }, &mut slot)?;
                next.1 = new.end;
            }
            rows.blend(y..y + block, height, &blend, cancel)?;
            let pixels = band.pixels.start.max(row * width)..band.pixels.end.min((row + block) * width);
            let tile = rows.tile(pixels.start - row * width, pixels.len());
            visit(pixels, &tile)?;
            row += block;
        }
        Ok(())
    }

    fn check(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        self.blended.check(spot)
    }

    fn true_labels(&self, spot: &mut Spot<'_, R>) -> Result<()> {
        self.blended.true_labels(spot)
    }

    fn count_activations(&self, spot: &mut Spot<'_, R>, counts: &mut Activations) {
        self.blended.count_activations(spot, counts);
    }

    fn count_held(&self, spot: &mut Spot<'_, R>, held: &mut Held) {
        self.blended.count_held(spot, held);
    }

    fn masks(
        &self,
        spot: &mut Spot<'_, R>,
        cutoffs: Cutoffs<'_, R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        self.blended.masks(spot, cutoffs, out)
    }

    fn sizes(&self, spot: &mut Spot<'_, R>, cutoffs: Cutoffs<'_, R>) -> Result<()> {
        self.blended.sizes(spot, cutoffs)
    }
}

/// Rows that are blended at once.
const BLOCK: usize = 8;

/// Rows that are loaded at once.
const LOADED: usize = 2 * BLOCK;

/// What errors call the buffers.
const WINDOW: &str = "the rows under a window";

/// The base scores of some rows, and some blended rows.
#[derive(Default)]
pub struct Rows<R> {
    n_classes: usize,
    width: usize,
    window: usize,
    /// Rows of the ring: row `y` of a slice is at `y` modulo that.
    ring_len: usize,
    /// `(K, ring_len, width)`, padded.
    ring: Vec<R>,
    /// `(ring_len, width)`: the label that the base score ranks first.
    first: Vec<i32>,
    /// A row summed down the columns, with margins.
    line: Vec<R>,
    /// `(K, BLOCK, width)`, padded: the blended rows.
    blended: Vec<R>,
    work: Work<R>,
}

impl<R: Real> Rows<R> {
    fn reset(&mut self, n_classes: usize, height: usize, width: usize, window: usize) -> Result<()> {
        (self.n_classes, self.width, self.window) = (n_classes, width, window);
        self.ring_len = height.min(BLOCK + window - 1);
        let ring = n_classes * self.ring_stride();
        memory::resize(&mut self.ring, ring, R::zero(), WINDOW)?;
        memory::resize(&mut self.first, self.ring_len * width, 0, WINDOW)?;
        memory::resize(&mut self.line, width + window - 1, R::zero(), WINDOW)?;
        memory::resize(&mut self.blended, n_classes * padded(BLOCK * width), R::zero(), WINDOW)
    }

    /// The distance from one class to the next in the ring.
    fn ring_stride(&self) -> usize {
        padded(self.ring_len * self.width)
    }

    /// The first of some rows that are neighbours in the ring.
    fn contiguous(&self, rows: Range<usize>) -> Range<usize> {
        rows.start..rows.end.min(rows.start + self.ring_len - rows.start % self.ring_len)
    }

    /// Where rows that are neighbours in the ring are loaded to, and buffers.
    fn slot(&mut self, rows: Range<usize>) -> (Loaded<'_, R>, &mut Work<R>) {
        let (start, stride) = (rows.start % self.ring_len * self.width, self.ring_stride());
        let first = &mut self.first[start..][..rows.len() * self.width];
        let planes = PlanesMut::strided(&mut self.ring[start..], stride, first.len());
        (Loaded { planes, first }, &mut self.work)
    }

    /// The base scores of label `class` in row `y`.
    fn run(&self, y: usize, class: usize) -> &[R] {
        &self.ring[class * self.ring_stride() + y % self.ring_len * self.width..][..self.width]
    }

    fn blend(&mut self, rows: Range<usize>, height: usize, blend: &Blend<R>, cancel: &Cancel) -> Result<()> {
        match self.window {
            3 => self.blend_window::<3>(rows, height, blend, cancel),
            5 => self.blend_window::<5>(rows, height, blend, cancel),
            7 => self.blend_window::<7>(rows, height, blend, cancel),
            _ => self.blend_window::<ANY>(rows, height, blend, cancel),
        }
    }

    fn blend_window<const W: usize>(
        &mut self,
        rows: Range<usize>,
        height: usize,
        blend: &Blend<R>,
        cancel: &Cancel,
    ) -> Result<()> {
        let (half, width, stride) = (self.window / 2, self.width, padded(BLOCK * self.width));
        let mut line = std::mem::take(&mut self.line);
        let mut blended = std::mem::take(&mut self.blended);
        let mut sources: Vec<&[R]> = Vec::with_capacity(self.window);
        // Label by label: the rows of one label stay in a first-level cache.
        for class in 0..self.n_classes {
            for (i, y) in rows.clone().enumerate() {
                cancel.check()?;
                sources.clear();
                sources.extend((0..self.window).map(|i| {
                    let source = mirrored(y as isize + i as isize - half as isize, height);
                    self.run(source, class)
                }));
                sum_rows::<R, W>(&sources, &mut line[half..half + width]);
                for i in 0..half {
                    let (before, after) = (-1 - i as isize, (width + i) as isize);
                    line[half - 1 - i] = line[half + mirrored(before, width)];
                    line[half + width + i] = line[half + mirrored(after, width)];
                }
                let out = &mut blended[class * stride + i * width..][..width];
                let first = &self.first[y % self.ring_len * width..][..width];
                let line = Line { own: self.run(y, class), sums: &line, first, class: class as i32 };
                mix::<R, W>(&line, blend, out);
            }
        }
        (self.line, self.blended) = (line, blended);
        Ok(())
    }

    /// Pixels of the blended rows.
    fn tile(&self, first: usize, len: usize) -> Tile<'_, R> {
        Tile::new(&self.blended[first..], padded(BLOCK * self.width), len, self.n_classes).trusted()
    }
}

/// `own * S + mean * (sum over the window)`, at most `limit`.
struct Blend<R> {
    own: R,
    mean: R,
    window: usize,
    limit: R,
    /// The value of the label ranked first, if it differs.
    first: Option<R>,
}

impl<R: Real> Blend<R> {
    fn new(settings: Settings, coding: Coding) -> Self {
        let Settings { weight, window, include_top1, probabilities } = settings;
        let (own, mean) = (1.0 - weight, weight / (window * window) as f64);
        let (limit, first) = match coding {
            Coding::Direct { max } if !probabilities => (R::largest(|s| s <= max), R::zero()),
            _ => (R::infinity(), R::one()),
        };
        let first = (include_top1 && !probabilities).then_some(first);
        Self { own: R::round_from(own), mean: R::round_from(mean), window, limit, first }
    }
}

/// Marks that there is no label.
const NONE: i32 = -1;

/// Marks a window for which loops are not unrolled.
const ANY: usize = 0;

/// Pixels whose sums are in registers at once.
const LANES: usize = 64;

/// Sums rows, in their order.
#[apply(vectorised!)]
fn sum_rows<R: Real, const W: usize>(rows: &[&[R]], out: &mut [R]) {
    let rows = if W == ANY { rows } else { &rows[..W] };
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let first_of_rest = chunks.len() * LANES;
    for (index, out) in chunks.iter_mut().enumerate() {
        let mut sums = [R::zero(); LANES];
        for row in rows {
            let row = &row[index * LANES..][..LANES];
            for l in 0..LANES {
                sums[l] += row[l];
            }
        }
        *out = sums;
    }
    for (x, out) in rest.iter_mut().enumerate() {
        *out = rows.iter().fold(R::zero(), |sum, row| sum + row[first_of_rest + x]);
    }
}

/// One label in one row.
struct Line<'a, R> {
    /// The base scores.
    own: &'a [R],
    /// The sums down the columns, with margins.
    sums: &'a [R],
    /// The labels ranked first.
    first: &'a [i32],
    /// The label.
    class: i32,
}

/// Sums along the row and mixes.
#[apply(vectorised!)]
fn mix<R: Real, const W: usize>(line: &Line<'_, R>, blend: &Blend<R>, out: &mut [R]) {
    let window = if W == ANY { blend.window } else { W };
    let Line { own, sums: line, first, class } = *line;
    // If it makes no difference, no label is marked as ranked first.
    let class = if blend.first.is_some() { class } else { NONE };
    let of_first = blend.first.unwrap_or_default();
    let mixed = |own: R, sum: R, first: i32| {
        let mixed = blend.own * own + blend.mean * sum;
        let mixed = if mixed < blend.limit { mixed } else { blend.limit };
        if first == class { of_first } else { mixed }
    };
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let first_of_rest = chunks.len() * LANES;
    for (index, out) in chunks.iter_mut().enumerate() {
        let mut sums = [R::zero(); LANES];
        let reached = &line[index * LANES..][..LANES + window - 1];
        for i in 0..window {
            for l in 0..LANES {
                sums[l] += reached[i + l];
            }
        }
        let (own, first) = (&own[index * LANES..][..LANES], &first[index * LANES..][..LANES]);
        for l in 0..LANES {
            out[l] = mixed(own[l], sums[l], first[l]);
        }
    }
    for (x, out) in rest.iter_mut().enumerate() {
        let x = first_of_rest + x;
        let sum = line[x..x + window].iter().fold(R::zero(), |sum, &value| sum + value);
        *out = mixed(own[x], sum, first[x]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_begin_with_the_border() {
        let at = |index| mirrored(index, 3);
        assert_eq!([-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6].map(at), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0]);
        assert_eq!([-2, -1, 0, 1, 2].map(|index| mirrored(index, 1)), [0; 5]);
    }
}
