//! How well probabilities are calibrated: all that its measures are made of, counted in one pass over the maps.
//!
//! Of each image are kept the equal-width bins of the confidence (the largest probability) of its labelled pixels, apart for
//! those near another label; the log loss, the Brier score and the confidence of its right pixels; and the pixels of each
//! class. Of all images together: confidences by [`rank`], bins of the probabilities of each class, and the confusion
//! matrix. All of it are whole numbers (see [`super::bins`]): what is merged in any order gives the same bits.

use std::sync::{Mutex, PoisonError};

use super::bins::{Cell, N_RANKS, Sums, bin, fixed, rank};
use super::boundary;
use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, Tile, VOID, fold_images, stream};
use crate::memory;
use crate::num::real::Real;
use crate::score::Scan;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

const WHAT: &str = "the counts of calibration";

/// A probability below this has the log loss of it.
const LEAST: f64 = 1e-12;

/// Kinds of pixels in the bins of an image: those away from other labels, those near them, void ones.
const KINDS: usize = 3;

/// Pixels whose probabilities are multiplied before the logarithm is taken, which is slow.
const FACTORS: usize = 8;

/// Pixels that are looked at together: whether one of them is beyond the first bin of a class.
const GROUP: usize = 32;

/// What to count.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Equal-width bins.
    pub n_bins: usize,
    /// How far a pixel's label is compared with others; `None` takes all pixels as away from them.
    pub radius: Option<usize>,
    /// The probability from which on a class is binned; `None` bins no class.
    pub threshold: Option<f64>,
}

/// What is counted of one image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Bins of the pixels away from other labels, then of those near them.
    pub bins: Vec<Sums>,
    /// Log loss, Brier score, and the confidence of the right pixels, summed over the labelled ones.
    pub sums: [u128; 3],
    /// Labelled pixels of each class.
    pub totals: Vec<u64>,
    /// Labelled pixels that each class is predicted for.
    pub predicted: Vec<u64>,
    /// Those of them that have that label.
    pub hits: Vec<u64>,
}

impl Image {
    fn add(&mut self, other: Self) {
        self.bins.iter_mut().zip(other.bins).for_each(|(l, r)| l.add(r));
        self.sums.iter_mut().zip(other.sums).for_each(|(l, r)| *l += r);
        let counts = [
            (&mut self.totals, other.totals),
            (&mut self.predicted, other.predicted),
            (&mut self.hits, other.hits),
        ];
        for (mine, others) in counts {
            mine.iter_mut().zip(others).for_each(|(l, r)| *l += r);
        }
    }
}

/// What is counted of all images together.
#[derive(Debug, Clone)]
pub struct Pooled {
    /// Confidences by [`rank`].
    pub ranks: Vec<Sums>,
    /// Pixels by label and prediction, `(K, K)`.
    pub confusion: Vec<u64>,
    /// Bins of the probability of each class, `(K, n_bins)`: right are the pixels of its label.
    pub classes: Vec<Sums>,
}

/// Counts what calibration is measured by.
pub fn count<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    settings: &Settings,
    cancel: &Cancel,
) -> Result<(Vec<Image>, Pooled)> {
    let near = settings.radius.map(|radius| boundary::mark(maps, labels, radius, cancel)).transpose()?;
    let near = near.as_deref();
    // One for each thread that works. Whose pixels are in which does not matter to their sum.
    let shelf: Mutex<Vec<Counters>> = Mutex::default();
    let take = || shelf.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let task = |work: &mut Work<R>, band: &Band| {
        let counters = take();
        let mut counters = counters.map_or_else(|| Counters::new(maps.n_classes(), settings, cancel), Ok)?;
        let found = counters.count(maps, labels, near, band, work, cancel)?;
        shelf.lock().unwrap_or_else(PoisonError::into_inner).push(counters);
        Ok(found)
    };
    let images = fold_images(maps, cancel, task, Image::add)?;
    let mut all = take().expect("a band was counted");
    while let Some(other) = take() {
        all.add(other);
    }
    Ok((images, all.finish()))
}

/// The buffers of one thread: a number for each pixel of a tile.
struct Work<R> {
    scratch: Scratch<R>,
    codes: Vec<i32>,
    scan: Scan<R>,
    squares: Vec<f64>,
    pixels: Vec<Pixel>,
}

impl<R> Default for Work<R>
where
    R: Real,
{
    fn default() -> Self {
        Self {
            scratch: Scratch::default(),
            codes: Vec::new(),
            scan: Scan::default(),
            squares: Vec::new(),
            pixels: Vec::new(),
        }
    }
}

/// Where a pixel is counted.
#[derive(Clone, Copy, Default)]
struct Pixel {
    counts: u64,
    sum: u64,
    bin: u32,
    rank: u32,
    label: u32,
    label_bin: u32,
}

/// What is counted of the pixels of some bands.
struct Counters {
    settings: Settings,
    n_classes: usize,
    /// Pixels in cells since they were drained.
    n_fresh: usize,
    pooled: Pooled,
    /// With one more for void pixels.
    ranks: Vec<Cell>,
    /// Of each class, and one more before for void pixels.
    label_bins: Vec<u32>,
    classes: Vec<Cell>,
    /// Of one band.
    bins: Vec<Cell>,
    /// Of one band. Void pixels come before all labels.
    confusion: Vec<u32>,
}

impl Counters {
    fn new(n_classes: usize, settings: &Settings, cancel: &Cancel) -> Result<Self> {
        let n_bins = settings.n_bins;
        let n_class_bins = if settings.threshold.is_some() { n_classes * n_bins } else { 0 };
        let n_cells = n_classes * n_classes;
        Ok(Self {
            settings: *settings,
            n_classes,
            n_fresh: 0,
            pooled: Pooled {
                ranks: memory::filled(Sums::default(), N_RANKS, WHAT, cancel)?,
                confusion: memory::filled(0, n_cells, "the confusion matrix", cancel)?,
                classes: memory::filled(Sums::default(), n_class_bins, WHAT, cancel)?,
            },
            ranks: memory::filled(Cell::default(), N_RANKS + 1, WHAT, cancel)?,
            label_bins: memory::filled(0, (n_classes + 1) * n_bins, WHAT, cancel)?,
            classes: memory::filled(Cell::default(), n_class_bins, WHAT, cancel)?,
            bins: memory::filled(Cell::default(), KINDS * n_bins, WHAT, cancel)?,
            confusion: memory::filled(0, n_cells + n_classes, "the confusion matrix", cancel)?,
        })
    }

    /// Counts the pixels of a band, and tells what they are to their image.
    fn count<R: Real>(
        &mut self,
        maps: &ScoreMaps<'_, R>,
        labels: &LabelMaps<'_>,
        near: Option<&[bool]>,
        band: &Band,
        work: &mut Work<R>,
        cancel: &Cancel,
    ) -> Result<Image> {
        if self.n_fresh + band.pixels.len() > Cell::MOST {
            self.drain();
        }
        self.n_fresh += band.pixels.len();
        let mut sums = [0; 3];
        let Work { scratch, codes, scan, squares, pixels } = work;
        let mut reader = maps.tiles(band.image, scratch);
        for run in band.runs(reader.tile_len()) {
            cancel.check()?;
            labels.read(band.image, run.clone(), codes)?;
            let tile = reader.read(run.clone());
            let start = band.image * maps.n_pixels();
            let near = near.map(|near| &near[start + run.start..start + run.end]);
            scan.truth(&tile, codes, &maps.place(band.image, run))?;
            squares.clear();
            squares.resize(tile.len(), 0.0);
            stream!(tile, |planes, _k| add_squares(planes, squares));
            let found =
                [log_losses(codes, &scan.values), brier_scores(codes, &scan.values, squares)].map(u128::from);
            sums[0] += found[0];
            sums[1] += found[1];
            sums[2] += u128::from(self.place(codes, scan, near, pixels));
            self.scatter(pixels);
            if let Some(threshold) = self.settings.threshold {
                self.count_classes(&tile, codes, threshold);
            }
        }
        self.tell(sums)
    }

    /// Finds where pixels are counted, and the sum of the confidences of the right ones.
    fn place<R: Real>(
        &self,
        codes: &[i32],
        scan: &Scan<R>,
        near: Option<&[bool]>,
        pixels: &mut Vec<Pixel>,
    ) -> u64 {
        pixels.clear();
        pixels.resize(codes.len(), Pixel::default());
        let n_bins = self.settings.n_bins as u32;
        let width = R::round_from(self.settings.n_bins as f64);
        // A label whose probability is below the threshold is not binned: it is counted with the void pixels.
        let threshold = self.settings.threshold.unwrap_or(0.0);
        let right = place(codes, scan, width, threshold, pixels);
        for (pixel, &code) in pixels.iter_mut().zip(codes) {
            let is_void = code == VOID;
            pixel.bin = if is_void { 2 * n_bins } else { pixel.bin };
            pixel.rank = if is_void { N_RANKS as u32 } else { pixel.rank };
            pixel.label += (code + 1) as u32 * self.n_classes as u32;
        }
        for (pixel, &near) in pixels.iter_mut().zip(near.unwrap_or_default()) {
            // Void pixels are near nothing.
            pixel.bin += if near { n_bins } else { 0 };
        }
        right
    }

    fn scatter(&mut self, pixels: &[Pixel]) {
        for pixel in pixels {
            self.bins[pixel.bin as usize].add(pixel.counts, pixel.sum);
            self.ranks[pixel.rank as usize].add(pixel.counts, pixel.sum);
            self.confusion[pixel.label as usize] += 1;
        }
        if self.settings.threshold.is_some() {
            for pixel in pixels {
                self.label_bins[pixel.label_bin as usize] += 1;
            }
        }
    }

    /// Counts the probabilities of each class that are at least the threshold.
    fn count_classes<R: Real>(&mut self, tile: &Tile<'_, R>, codes: &[i32], threshold: f64) {
        let (n_bins, width) = (self.settings.n_bins, R::round_from(self.settings.n_bins as f64));
        for (class, cells) in self.classes.chunks_exact_mut(n_bins).enumerate() {
            let plane = tile.plane(class);
            for (values, codes) in plane.chunks(GROUP).zip(codes.chunks(GROUP)) {
                let (mut counts, mut sum, any_above) = first_bin(values, codes, width, threshold);
                if any_above {
                    for (&p, &code) in values.iter().zip(codes) {
                        let confidence: f64 = p.into();
                        if code != VOID && confidence >= threshold && p * width > R::one() {
                            let own = fixed(confidence);
                            (counts, sum) = (counts - 1, sum - own);
                            cells[bin(p, width) as usize].add(1, own);
                        }
                    }
                }
                cells[0].add(counts, sum);
            }
        }
    }

    /// What a band is to its image; its counters are empty then.
    fn tell(&mut self, sums: [u128; 3]) -> Result<Image> {
        let (n_bins, n_classes) = (self.settings.n_bins, self.n_classes);
        let mut bins = memory::filled(Sums::default(), 2 * n_bins, WHAT, &Cancel::default())?;
        bins.iter_mut().zip(&mut self.bins).for_each(|(sums, cell)| sums.drain(cell));
        self.bins[2 * n_bins..].fill(Cell::default());
        let none = || memory::filled(0, n_classes, WHAT, &Cancel::default());
        let (mut totals, mut predicted, mut hits) = (none()?, none()?, none()?);
        let (void, labelled) = self.confusion.split_at_mut(n_classes);
        void.fill(0);
        let pooled = self.pooled.confusion.chunks_exact_mut(n_classes);
        for (label, (row, pooled)) in labelled.chunks_exact_mut(n_classes).zip(pooled).enumerate() {
            hits[label] = row[label].into();
            for (prediction, (count, pooled)) in row.iter_mut().zip(pooled).enumerate() {
                let n = u64::from(std::mem::take(count));
                *pooled += n;
                totals[label] += n;
                predicted[prediction] += n;
            }
        }
        Ok(Image { bins, sums, totals, predicted, hits })
    }

    /// Moves what is in cells to where there is room for any number of pixels.
    fn drain(&mut self) {
        self.n_fresh = 0;
        self.pooled.ranks.iter_mut().zip(&mut self.ranks).for_each(|(sums, cell)| sums.drain(cell));
        self.ranks[N_RANKS] = Cell::default();
        let n_bins = self.settings.n_bins;
        self.label_bins[..n_bins].fill(0);
        let label_bins = &mut self.label_bins[n_bins..];
        for ((sums, cell), right) in self.pooled.classes.iter_mut().zip(&mut self.classes).zip(label_bins) {
            sums.drain(cell);
            sums.right += u64::from(std::mem::take(right));
        }
    }

    fn add(&mut self, mut other: Self) {
        other.drain();
        let (mine, others) = (&mut self.pooled, other.pooled);
        mine.ranks.iter_mut().zip(others.ranks).for_each(|(l, r)| l.add(r));
        mine.confusion.iter_mut().zip(others.confusion).for_each(|(l, r)| *l += r);
        mine.classes.iter_mut().zip(others.classes).for_each(|(l, r)| l.add(r));
    }

    fn finish(mut self) -> Pooled {
        self.drain();
        self.pooled
    }
}

#[apply(vectorised!)]
fn add_squares<R: Real, const N: usize>(planes: [&[R]; N], squares: &mut [f64]) {
    let len = squares.len();
    let planes = planes.map(|plane| &plane[..len]);
    for (j, square) in squares.iter_mut().enumerate() {
        let mut sum = *square;
        for plane in &planes {
            let p: f64 = plane[j].into();
            sum += p * p;
        }
        *square = sum;
    }
}

/// The log loss of labelled pixels, [`fixed`]. Tiles begin at whole groups of a band: it does not depend on how they are cut.
fn log_losses<R: Real>(codes: &[i32], values: &[R]) -> u64 {
    let mut sum = 0;
    for (codes, values) in codes.chunks(FACTORS).zip(values.chunks(FACTORS)) {
        let mut product = 1.0;
        for (&code, &value) in codes.iter().zip(values) {
            let p: f64 = value.into();
            product *= if code == VOID { 1.0 } else { p.clamp(LEAST, 1.0) };
        }
        sum += fixed(-product.ln());
    }
    sum
}

/// The Brier score of labelled pixels, [`fixed`].
#[apply(vectorised!)]
fn brier_scores<R: Real>(codes: &[i32], values: &[R], squares: &[f64]) -> u64 {
    let mut sum = 0_u64;
    for ((&code, &value), &square) in codes.iter().zip(values).zip(squares) {
        let p: f64 = value.into();
        let score = square - 2.0 * p + 1.0;
        sum = sum.wrapping_add(fixed(if code == VOID { 0.0 } else { score }));
    }
    sum
}

/// Writes where pixels are counted as if none were void; the class is still to be added. Gives the sum of the confidences of
/// the right ones.
#[apply(vectorised!)]
fn place<R: Real>(codes: &[i32], scan: &Scan<R>, width: R, threshold: f64, pixels: &mut [Pixel]) -> u64 {
    let len = pixels.len();
    let (codes, best) = (&codes[..len], &scan.best[..len]);
    let (best_values, values) = (&scan.best_values[..len], &scan.values[..len]);
    let mut sum = 0_u64;
    for (j, pixel) in pixels.iter_mut().enumerate() {
        let (confidence, value): (f64, f64) = (best_values[j].into(), values[j].into());
        let (code, own) = (codes[j], fixed(confidence));
        let is_right = best[j] == code && code != VOID;
        // A void pixel, and a label below the threshold.
        let bins_before = if value >= threshold { (code + 1) as u32 } else { 0 };
        let n_bins: f64 = width.into();
        *pixel = Pixel {
            counts: Cell::counts_of(is_right),
            sum: own,
            bin: bin(best_values[j], width),
            rank: rank(confidence),
            label: best[j].max(0) as u32,
            label_bin: bins_before * n_bins as u32 + bin(values[j], width),
        };
        sum = sum.wrapping_add(if is_right { own } else { 0 });
    }
    sum
}

/// Number and [`fixed`] sum of the labelled pixels whose probability is at least the threshold, and whether one of them is
/// beyond the first bin.
#[apply(vectorised!)]
fn first_bin<R: Real>(values: &[R], codes: &[i32], width: R, threshold: f64) -> (u64, u64, bool) {
    let (mut n, mut sum, mut any_above) = (0_u64, 0_u64, false);
    for (&p, &code) in values.iter().zip(codes) {
        let confidence: f64 = p.into();
        let is_kept = (code != VOID) & (confidence >= threshold);
        any_above |= is_kept & (p * width > R::one());
        n += u64::from(is_kept);
        sum = sum.wrapping_add(fixed(if is_kept { confidence } else { 0.0 }));
    }
    (n, sum, any_above)
}
