//! SACP, spatially aware conformal prediction: a score blended with its mean in a window around the pixel.
//!
//! `S'_k = (1 - w) S_k + w mean of S_k over the window`, label by label, for any base score S. The window has the pixel at
//! its centre; beyond the border the image is mirrored, the border pixel first (SciPy's `"reflect"`, NumPy's `"symmetric"`).
//! With `include_top1` the label that the base score ranks first is in every set. Optionally the probabilities are blended
//! instead, and the base score is applied to those.
//!
//! Row by row: a ring holds the base scores of as many rows as the window has; their sum down the columns, then along the
//! row, costs two times the window's width, not its area. Both sums start afresh at each pixel and add in one order, so
//! that the score of a pixel does not depend on the band that it was computed in.
//!
//! Where the base score is LAC, `1 - p'` with blended probabilities `p'` is the same and keeps small probabilities apart.
//!
//! Liu, Zhou, Luo et al., "Spatial-Aware Conformal Prediction for Trustworthy Hyperspectral Image Classification", 2024; for
//! segmentation: Viti, Karabelas, Holler, "CONSIGN", ICLR 2026.

use multiversion::multiversion;
use ndarray::ArrayViewMut2;

use super::{Activations, Base, BaseWork, Coding, Lac, Score, Visit, Work, given};
use crate::error::Result;
use crate::maps::{Band, Tile, TileReader};
use crate::normalisation::Place;
use crate::real::Real;

/// The score.
pub struct Sacp<R> {
    base: Box<dyn Base<R>>,
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
    pub fn new(base: Box<dyn Base<R>>, settings: Settings) -> Self {
        Self { base, settings }
    }

    fn load(
        &self,
        tile: &Tile<'_, R>,
        place: &Place,
        work: &mut BaseWork<R>,
        out: &mut [R],
        stride: usize,
    ) -> Result<()> {
        if self.settings.probabilities {
            Lac { include_top1: false }.load(tile, place, work, out, stride)
        } else {
            self.base.load(tile, place, work, out, stride)
        }
    }
}

impl<R: Real> Score<R> for Sacp<R> {
    fn coding(&self) -> Coding {
        self.base.coding()
    }

    fn needs_double(&self) -> bool {
        self.settings.probabilities && self.base.needs_double()
    }

    fn stream(
        &self,
        reader: &mut TileReader<'_, R>,
        band: &Band,
        rows: &mut Rows<R>,
        visit: &mut Visit<'_, R>,
    ) -> Result<()> {
        let (height, width) = reader.plane_shape();
        let Settings { weight, window, include_top1, probabilities } = self.settings;
        let include_top1 = include_top1 && !probabilities;
        let coding = self.base.coding();
        let limit = match coding {
            Coding::Direct { max } if !probabilities => R::largest(|s| s <= max),
            _ => R::infinity(),
        };
        let blend = Blend::new(weight, window, limit);
        rows.reset(reader.n_classes(), width, window);
        let mut next = (usize::MAX, 0); // slice, and its first row that is not in the ring
        for row in band.pixels.start / width..band.pixels.end.div_ceil(width) {
            let (slice, y) = (row / height, row % height);
            if next.0 != slice {
                next = (slice, y.saturating_sub(window / 2));
            }
            let last = (y + window / 2).min(height - 1);
            for y in next.1..=last {
                let first = (slice * height + y) * width;
                let place = Place { image: reader.image_name(), pixels: first..first + width };
                let tile = reader.read(place.pixels.clone());
                let (planes, work) = rows.slot(y);
                self.load(&tile, &place, work, planes, rows_stride(width))?;
                if include_top1 {
                    rows.find_best(y, coding);
                }
            }
            next.1 = last + 1;
            rows.blend(y, height, &blend);
            if include_top1 {
                rows.put_best_first(y, coding);
            }
            let pixels = band.pixels.start.max(row * width)..band.pixels.end.min((row + 1) * width);
            let tile = rows.tile(pixels.start - row * width, pixels.len());
            visit(pixels, &tile)?;
        }
        Ok(())
    }

    fn true_labels(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        if self.settings.probabilities {
            return self.base.true_labels(tile, codes, place, work);
        }
        given::true_labels(tile, self.coding(), codes, &mut work.missed);
        Ok(())
    }

    fn count_activations(
        &self,
        tile: &Tile<'_, R>,
        codes: &[i32],
        work: &mut Work<R>,
        counts: &mut Activations,
    ) {
        if self.settings.probabilities {
            return self.base.count_activations(tile, codes, work, counts);
        }
        given::count_activations(tile, self.coding(), codes, counts);
    }

    fn masks(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        place: &Place,
        work: &mut Work<R>,
        out: &mut ArrayViewMut2<'_, u8>,
    ) -> Result<()> {
        if self.settings.probabilities {
            return self.base.masks(tile, lambda, place, work, out);
        }
        given::masks(tile, self.coding(), lambda, out);
        Ok(())
    }

    fn sizes(
        &self,
        tile: &Tile<'_, R>,
        lambda: f64,
        codes: Option<&[i32]>,
        place: &Place,
        work: &mut Work<R>,
    ) -> Result<()> {
        if self.settings.probabilities {
            return self.base.sizes(tile, lambda, codes, place, work);
        }
        given::sizes(tile, self.coding(), lambda, &mut work.sizes);
        Ok(())
    }
}

/// The base scores of some rows, and one blended row.
#[derive(Default)]
pub struct Rows<R> {
    n_classes: usize,
    width: usize,
    window: usize,
    /// `(window, K, stride)`; row `y` of a slice is at `y % window`.
    ring: Vec<R>,
    /// `(window, width)`: the label ranked first.
    best: Vec<i32>,
    /// A row summed down the columns, with margins.
    line: Vec<R>,
    /// `(K, stride)`: the blended row.
    blended: Vec<R>,
    best_values: Vec<R>,
    work: BaseWork<R>,
}

/// An odd number of cache lines (of float32) for each class, so that the rows of the classes do not share cache sets.
fn rows_stride(width: usize) -> usize {
    width.next_multiple_of(32) + 16
}

impl<R: Real> Rows<R> {
    fn reset(&mut self, n_classes: usize, width: usize, window: usize) {
        (self.n_classes, self.width, self.window) = (n_classes, width, window);
        let plane = n_classes * rows_stride(width);
        self.ring.resize(window * plane, R::zero());
        self.blended.resize(plane, R::zero());
        self.best.resize(window * width, 0);
        self.line.resize(width + window - 1, R::zero());
    }

    /// Where the base scores of row `y` go, and buffers to compute them with.
    fn slot(&mut self, y: usize) -> (&mut [R], &mut BaseWork<R>) {
        let plane = self.n_classes * rows_stride(self.width);
        (&mut self.ring[y % self.window * plane..][..plane], &mut self.work)
    }

    /// The base scores of label `class` in row `y`.
    fn run(&self, y: usize, class: usize) -> &[R] {
        let first = (y % self.window * self.n_classes + class) * rows_stride(self.width);
        &self.ring[first..][..self.width]
    }

    fn find_best(&mut self, y: usize, coding: Coding) {
        let mut best = std::mem::take(&mut self.best);
        let mut values = std::mem::take(&mut self.best_values);
        let row = &mut best[y % self.window * self.width..][..self.width];
        row.fill(0);
        values.clear();
        values.extend_from_slice(self.run(y, 0));
        for class in 1..self.n_classes {
            match coding {
                Coding::Complement => keep_larger(self.run(y, class), class as i32, &mut values, row),
                Coding::Direct { .. } => keep_smaller(self.run(y, class), class as i32, &mut values, row),
            }
        }
        (self.best, self.best_values) = (best, values);
    }

    fn put_best_first(&mut self, y: usize, coding: Coding) {
        let first = match coding {
            Coding::Complement => R::one(),
            Coding::Direct { .. } => R::zero(),
        };
        let stride = rows_stride(self.width);
        for (x, &class) in self.best[y % self.window * self.width..][..self.width].iter().enumerate() {
            self.blended[class as usize * stride + x] = first;
        }
    }

    fn blend(&mut self, y: usize, height: usize, blend: &Blend<R>) {
        let (half, stride) = (self.window / 2, rows_stride(self.width));
        let mut line = std::mem::take(&mut self.line);
        let mut blended = std::mem::take(&mut self.blended);
        let sources: Vec<usize> =
            (0..self.window).map(|i| mirrored(y as isize + i as isize - half as isize, height)).collect();
        for class in 0..self.n_classes {
            let middle = &mut line[half..half + self.width];
            middle.copy_from_slice(self.run(sources[0], class));
            for &source in &sources[1..] {
                add(self.run(source, class), middle);
            }
            for i in 0..half {
                let (before, after) = (-1 - i as isize, (self.width + i) as isize);
                line[half - 1 - i] = line[half + mirrored(before, self.width)];
                line[half + self.width + i] = line[half + mirrored(after, self.width)];
            }
            let out = &mut blended[class * stride..][..self.width];
            mix(&line, self.run(y, class), blend, out);
        }
        (self.line, self.blended) = (line, blended);
    }

    /// Pixels of the blended row.
    fn tile(&self, first: usize, len: usize) -> Tile<'_, R> {
        Tile::new(&self.blended[first..], rows_stride(self.width), len, self.n_classes)
    }
}

/// The place in `[0, len)` that a mirror at both borders shows at `index`.
fn mirrored(index: isize, len: usize) -> usize {
    let period = 2 * len as isize;
    let index = index.rem_euclid(period);
    index.min(period - 1 - index) as usize
}

/// `own * S + mean * (sum over the window)`, at most `limit`.
struct Blend<R> {
    own: R,
    mean: R,
    window: usize,
    limit: R,
}

impl<R: Real> Blend<R> {
    fn new(weight: f64, window: usize, limit: R) -> Self {
        let mean = weight / (window * window) as f64;
        Self { own: R::round_from(1.0 - weight), mean: R::round_from(mean), window, limit }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn add<R: Real>(row: &[R], sums: &mut [R]) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += value;
    }
}

/// Sums `line` along the row and mixes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn mix<R: Real>(line: &[R], own: &[R], blend: &Blend<R>, out: &mut [R]) {
    let len = out.len();
    let own = &own[..len];
    out.copy_from_slice(&line[..len]);
    for i in 1..blend.window {
        let shifted = &line[i..i + len];
        for x in 0..len {
            out[x] += shifted[x];
        }
    }
    for x in 0..len {
        let mixed = blend.own * own[x] + blend.mean * out[x];
        out[x] = if mixed < blend.limit { mixed } else { blend.limit };
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn keep_larger<R: Real>(row: &[R], class: i32, values: &mut [R], best: &mut [i32]) {
    let len = row.len();
    let (values, best) = (&mut values[..len], &mut best[..len]);
    for x in 0..len {
        let better = row[x] > values[x];
        values[x] = if better { row[x] } else { values[x] };
        best[x] = if better { class } else { best[x] };
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn keep_smaller<R: Real>(row: &[R], class: i32, values: &mut [R], best: &mut [i32]) {
    let len = row.len();
    let (values, best) = (&mut values[..len], &mut best[..len]);
    for x in 0..len {
        let better = row[x] < values[x];
        values[x] = if better { row[x] } else { values[x] };
        best[x] = if better { class } else { best[x] };
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
