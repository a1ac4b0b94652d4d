//! Counts for measures of the calibration of probabilities, from one pass over the maps.
//!
//! For each image, it keeps: the equal-width bins of the confidence (the largest probability) of its labelled pixels, separately
//! for those near another label; the log loss, the Brier score and the confidence of its right pixels; and the pixels of each
//! class. For all images together: confidences by [`rank`], bins of the probabilities of each class, and the confusion
//! matrix. All of these are whole numbers (see [`super::bins`]), so that merging in any order gives the same bits.

use std::sync::{Mutex, PoisonError};

use super::bins::{Cell, N_RANKS, Sums, bin, fixed, rank, shifted, unshifted};
use super::boundary;
use crate::error::Result;
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, VOID, fold_images, stream};
use crate::memory;
use crate::num::real::Real;
use crate::score::Scan;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

const WHAT: &str = "the counts of calibration";

/// A smaller probability has the log loss of this one.
const LEAST: f64 = 1e-12;

/// Kinds of labelled pixels: see [`boundary`].
const KINDS: usize = 3;

/// Pixels whose probabilities are multiplied before the logarithm is taken, which is slow.
const FACTORS: usize = 8;

/// Pixels whose log loss is summed at once.
const RUN: usize = FACTORS * FACTORS;

/// Pixels that are looked at together: one bit for each tells which are beyond the first bin of a class.
const GROUP: usize = u64::BITS as usize;

/// What to count.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Equal-width bins.
    pub n_bins: usize,
    /// How far from a pixel labels are compared with its own; `None` treats no pixel as near another label.
    pub radius: Option<usize>,
    /// Whether predictions are compared instead.
    pub of_prediction: bool,
    /// Which classes are those of objects, whose boxes are counted separately.
    pub objects: Option<Vec<bool>>,
    /// The probability from which on a class is binned; `None` bins no class.
    pub threshold: Option<f64>,
    /// Whether log loss, Brier score and ranks are wanted; else they are 0.
    pub scores: bool,
}

/// What is counted of one image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Bins of the pixels of each kind: away from other labels, near them, and outside the boxes of objects.
    pub bins: Vec<Sums>,
    /// Log loss, Brier score, and the confidence of the right pixels, summed over the labelled ones.
    pub sums: [u128; 3],
    /// Labelled pixels of each class.
    pub totals: Vec<u64>,
    /// Labelled pixels that each class is predicted for.
    pub predicted: Vec<u64>,
    /// The pixels among them that have this label.
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
    let (of_prediction, objects) = (settings.of_prediction, settings.objects.as_deref());
    let mark = |radius| boundary::mark(maps, labels, radius, of_prediction, objects, cancel);
    let kinds = settings.radius.map(mark).transpose()?;
    let kinds = kinds.as_deref();
    // One for each thread that works. The sum does not depend on which thread counts a pixel.
    let shelf: Mutex<Vec<Counters>> = Mutex::default();
    let take = || shelf.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let task = |work: &mut Work<R>, band: &Band| {
        let counters = take();
        let mut counters = counters.map_or_else(|| Counters::new(maps.n_classes(), settings, cancel), Ok)?;
        let found = counters.count(maps, labels, kinds, band, work, cancel)?;
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
    places: Places,
    least: Vec<R>,
    away: Vec<u8>,
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
            places: Places::default(),
            least: Vec::new(),
            away: Vec::new(),
        }
    }
}

/// The counters of the pixels of a tile, and what to add.
#[derive(Default)]
struct Places {
    bins: Vec<i32>,
    ranks: Vec<i32>,
    labels: Vec<u32>,
    label_bins: Vec<i32>,
    counts: Vec<u64>,
    sums: Vec<u64>,
}

impl Places {
    fn resize(&mut self, len: usize) {
        for places in [&mut self.bins, &mut self.ranks, &mut self.label_bins] {
            places.resize(len, 0);
        }
        self.labels.resize(len, 0);
        self.counts.resize(len, 0);
        self.sums.resize(len, 0);
    }
}

/// A cell for pixels at even places, and one for those at odd places. Neighbours are mostly counted in the same bin, and a
/// second write to a cell would have to wait for the first.
type Pair = [Cell; 2];

/// What is counted of the pixels of some bands.
struct Counters {
    n_bins: usize,
    threshold: Option<f64>,
    scores: bool,
    n_classes: usize,
    /// Pixels in cells since they were drained.
    n_fresh: usize,
    pooled: Pooled,
    /// The last one is for void pixels.
    ranks: Vec<Cell>,
    /// For each class; the first one is for void pixels.
    label_bins: Vec<u32>,
    classes: Vec<Pair>,
    /// The bins of one band; void pixels come after all kinds.
    bins: Vec<Pair>,
    /// The confusion matrix of one band; void pixels come before all labels.
    confusion: Vec<u32>,
}

impl Counters {
    fn new(n_classes: usize, settings: &Settings, cancel: &Cancel) -> Result<Self> {
        let n_bins = settings.n_bins;
        let n_class_bins = if settings.threshold.is_some() { n_classes * n_bins } else { 0 };
        let n_cells = n_classes * n_classes;
        Ok(Self {
            n_bins,
            threshold: settings.threshold,
            scores: settings.scores,
            n_classes,
            n_fresh: 0,
            pooled: Pooled {
                ranks: memory::filled(Sums::default(), N_RANKS, WHAT, cancel)?,
                confusion: memory::filled(0, n_cells, "the confusion matrix", cancel)?,
                classes: memory::filled(Sums::default(), n_class_bins, WHAT, cancel)?,
            },
            ranks: memory::filled(Cell::default(), N_RANKS + 1, WHAT, cancel)?,
            label_bins: memory::filled(0, (n_classes + 1) * n_bins, WHAT, cancel)?,
            classes: memory::filled(Pair::default(), n_class_bins, WHAT, cancel)?,
            bins: memory::filled(Pair::default(), (KINDS + 1) * n_bins, WHAT, cancel)?,
            confusion: memory::filled(0, n_cells + n_classes, "the confusion matrix", cancel)?,
        })
    }

    /// Counts the pixels of a band, and returns their contribution to the image.
    fn count<R: Real>(
        &mut self,
        maps: &ScoreMaps<'_, R>,
        labels: &LabelMaps<'_>,
        kinds: Option<&[u8]>,
        band: &Band,
        work: &mut Work<R>,
        cancel: &Cancel,
    ) -> Result<Image> {
        if self.n_fresh + band.pixels.len() > Cell::MOST {
            self.drain();
        }
        self.n_fresh += band.pixels.len();
        let (n_bins, threshold) = (self.n_bins, self.threshold);
        let limits = Limits::new(n_bins, threshold, self.n_classes);
        let mut sums = [0; 3];
        let Work { scratch, codes, scan, squares, places, least, away } = work;
        let mut reader = maps.tiles(band.image, scratch);
        away.resize(reader.tile_len(), boundary::INTERIOR);
        for run in band.runs(reader.tile_len()) {
            cancel.check()?;
            labels.read(band.image, run.clone(), codes)?;
            let tile = reader.read(run.clone());
            let start = band.image * maps.n_pixels();
            let kinds = kinds.map_or(&away[..run.len()], |kinds| &kinds[start + run.start..start + run.end]);
            scan.truth(&tile, codes, &maps.place(band.image, run))?;
            places.resize(tile.len());
            place_labels(codes, &scan.best, limits.n_classes, &mut places.labels);
            place_bins(codes, &scan.best_values, kinds, &limits, &mut places.bins);
            let right =
                tell_right(codes, &scan.best, &scan.best_values, &mut places.counts, &mut places.sums);
            sums[2] += u128::from(right);
            if self.scores {
                squares.clear();
                squares.resize(tile.len(), 0.0);
                stream!(tile, |planes, _k| add_squares(planes, squares));
                sums[0] += u128::from(log_losses(codes, &scan.values));
                sums[1] += u128::from(brier_scores(codes, &scan.values, squares));
                place_ranks(codes, &scan.best_values, &mut places.ranks);
                self.scatter_ranks(places);
            }
            self.scatter(places);
            if threshold.is_some() {
                place_label_bins(codes, &scan.values, &limits, &mut places.label_bins);
                for &place in &places.label_bins {
                    self.label_bins[place as usize] += 1;
                }
                least.clear();
                least.extend(codes.iter().map(|&code| if code == VOID { R::nan() } else { limits.least }));
                for (class, pairs) in self.classes.chunks_exact_mut(n_bins).enumerate() {
                    count_class(tile.plane(class), least, &limits, pairs);
                }
            }
        }
        self.tell(sums)
    }

    fn scatter(&mut self, places: &Places) {
        let Places { bins, labels, counts, sums, .. } = places;
        let places = bins.iter().zip(labels);
        for (j, ((&bin, &label), (&counts, &sum))) in places.zip(counts.iter().zip(sums)).enumerate() {
            self.bins[bin as usize][j % 2].add(counts, sum);
            self.confusion[label as usize] += 1;
        }
    }

    fn scatter_ranks(&mut self, places: &Places) {
        let Places { ranks, counts, sums, .. } = places;
        for (&rank, (&counts, &sum)) in ranks.iter().zip(counts.iter().zip(sums)) {
            self.ranks[rank as usize].add(counts, sum);
        }
    }

    /// The contribution of a band to its image; empties the counters.
    fn tell(&mut self, sums: [u128; 3]) -> Result<Image> {
        let (n_bins, n_classes) = (self.n_bins, self.n_classes);
        let mut bins = memory::filled(Sums::default(), KINDS * n_bins, WHAT, &Cancel::default())?;
        for (sums, pair) in bins.iter_mut().zip(&mut self.bins) {
            for cell in pair {
                sums.drain(cell);
            }
        }
        self.bins[KINDS * n_bins..].fill(Pair::default());
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

    /// Moves the counts of cells to sums for any number of pixels.
    fn drain(&mut self) {
        self.n_fresh = 0;
        self.pooled.ranks.iter_mut().zip(&mut self.ranks).for_each(|(sums, cell)| sums.drain(cell));
        self.ranks[N_RANKS] = Cell::default();
        let n_bins = self.n_bins;
        self.label_bins[..n_bins].fill(0);
        let label_bins = &mut self.label_bins[n_bins..];
        for ((sums, pair), right) in self.pooled.classes.iter_mut().zip(&mut self.classes).zip(label_bins) {
            for cell in pair {
                sums.drain(cell);
            }
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
#[apply(vectorised!)]
fn log_losses<R: Real>(codes: &[i32], values: &[R]) -> u64 {
    let mut sum = 0;
    let ((codes, rest_of_codes), (values, rest_of_values)) =
        (codes.as_chunks::<RUN>(), values.as_chunks::<RUN>());
    for (codes, values) in codes.iter().zip(values) {
        sum += log_loss(codes, values);
    }
    let (mut last_codes, mut last_values) = ([VOID; RUN], [R::one(); RUN]);
    last_codes[..rest_of_codes.len()].copy_from_slice(rest_of_codes);
    last_values[..rest_of_values.len()].copy_from_slice(rest_of_values);
    sum + log_loss(&last_codes, &last_values)
}

#[inline(always)]
fn log_loss<R: Real>(codes: &[i32; RUN], values: &[R; RUN]) -> u64 {
    let mut products = [1.0; FACTORS];
    for first in (0..RUN).step_by(FACTORS) {
        for lane in 0..FACTORS {
            let p: f64 = values[first + lane].into();
            let p = if p > LEAST { p } else { LEAST };
            products[lane] *= if (codes[first + lane] == VOID) | (p > 1.0) { 1.0 } else { p };
        }
    }
    products.iter().map(|product| fixed(-product.ln())).sum()
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

/// Numbers that probabilities are compared with.
struct Limits<R> {
    n_bins: i32,
    n_classes: u32,
    width: R,
    /// The smallest probability of a class that is binned.
    least: R,
    /// The smallest that is beyond the first bin.
    second: R,
}

impl<R: Real> Limits<R> {
    fn new(n_bins: usize, threshold: Option<f64>, n_classes: usize) -> Self {
        let width = R::round_from(n_bins as f64);
        Self {
            n_bins: n_bins as i32,
            n_classes: n_classes as u32,
            width,
            least: R::smallest(|p| p >= threshold.unwrap_or(0.0)),
            second: R::smallest(|p| R::round_from(p) * width > R::one()),
        }
    }
}

#[apply(vectorised!)]
fn place_bins<R: Real>(codes: &[i32], best: &[R], kinds: &[u8], limits: &Limits<R>, bins: &mut [i32]) {
    let len = codes.len();
    let (best, kinds, bins) = (&best[..len], &kinds[..len], &mut bins[..len]);
    for j in 0..len {
        let kind = i32::from(kinds[j]);
        let kind = if codes[j] == VOID { KINDS as i32 } else { kind };
        bins[j] = kind * limits.n_bins + bin(best[j], limits.width);
    }
}

#[apply(vectorised!)]
fn place_ranks<R: Real>(codes: &[i32], best: &[R], ranks: &mut [i32]) {
    let len = codes.len();
    let (best, ranks) = (&best[..len], &mut ranks[..len]);
    for j in 0..len {
        ranks[j] = if codes[j] == VOID { N_RANKS as i32 } else { rank(best[j].into()) };
    }
}

/// Void pixels come before all labels.
#[apply(vectorised!)]
fn place_labels(codes: &[i32], best: &[i32], n_classes: u32, labels: &mut [u32]) {
    for ((&code, &best), place) in codes.iter().zip(best).zip(labels) {
        *place = (code + 1) as u32 * n_classes + best.max(0) as u32;
    }
}

/// Void pixels come before all labels, and so do those whose label is not binned.
#[apply(vectorised!)]
fn place_label_bins<R: Real>(codes: &[i32], values: &[R], limits: &Limits<R>, label_bins: &mut [i32]) {
    let len = codes.len();
    let (values, label_bins) = (&values[..len], &mut label_bins[..len]);
    for j in 0..len {
        let is_binned = (values[j] >= limits.least) & (codes[j] != VOID);
        let place = (codes[j] + 1) * limits.n_bins + bin(values[j], limits.width);
        label_bins[j] = if is_binned { place } else { 0 };
    }
}

#[apply(vectorised!)]
fn tell_right<R: Real>(
    codes: &[i32],
    best: &[i32],
    best_values: &[R],
    counts: &mut [u64],
    sums: &mut [u64],
) -> u64 {
    let mut right = 0_u64;
    let pixels = codes.iter().zip(best).zip(best_values);
    for (((&code, &best), &confidence), (count, sum)) in pixels.zip(counts.iter_mut().zip(sums)) {
        let (own, is_right) = (fixed(confidence.into()), (best == code) & (code != VOID));
        (*count, *sum) = (Cell::counts_of(is_right), own);
        right = right.wrapping_add(if is_right { own } else { 0 });
    }
    right
}

/// Counts the probabilities of a class that are at least `least`. This is NaN where void, so that no probability is.
///
/// First, all are counted in the first bin, where nearly all belong; then those beyond it are moved.
fn count_class<R: Real>(plane: &[R], least: &[R], limits: &Limits<R>, pairs: &mut [Pair]) {
    let (n, sum) = kept(plane, least);
    pairs[0][0].add(n, sum);
    let (groups, rest) = plane.as_chunks::<GROUP>();
    let (leasts, rest_of_least) = least.as_chunks::<GROUP>();
    let mut moved = move_groups(groups, leasts, limits, pairs);
    for (j, (&p, &least)) in rest.iter().zip(rest_of_least).enumerate() {
        if p >= least && p >= limits.second {
            add_beyond(p, j, limits, pairs, &mut moved);
        }
    }
    pairs[0][0].remove(moved.0, moved.1);
}

/// Number and [`fixed`] sum of the probabilities that are at least `least`.
#[apply(vectorised!)]
fn kept<R: Real>(plane: &[R], least: &[R]) -> (u64, u64) {
    let (mut n, mut sum) = (0_u32, 0_u64);
    for (&p, &least) in plane.iter().zip(least) {
        let is_kept = p >= least;
        n += u32::from(is_kept);
        let p: f64 = (if is_kept { p } else { R::zero() }).into();
        sum = sum.wrapping_add(shifted(p));
    }
    (n.into(), unshifted(sum, plane.len()))
}

/// Counts the probabilities beyond the first bin in their own bins; returns their number and sum.
#[apply(vectorised!)]
fn move_groups<R: Real>(
    groups: &[[R; GROUP]],
    leasts: &[[R; GROUP]],
    limits: &Limits<R>,
    pairs: &mut [Pair],
) -> (u64, u64) {
    let mut moved = (0, 0);
    for (group, least) in groups.iter().zip(leasts) {
        let mut flags = [0; GROUP];
        for j in 0..GROUP {
            flags[j] = u8::from((group[j] >= least[j]) & (group[j] >= limits.second));
        }
        if flags == [0; GROUP] {
            continue;
        }
        let mut beyond = bits(&flags);
        while beyond != 0 {
            let j = beyond.trailing_zeros() as usize;
            add_beyond(group[j], j, limits, pairs, &mut moved);
            beyond &= beyond - 1;
        }
    }
    moved
}

/// Flags of 0 and 1 as bits, the first the lowest.
#[inline(always)]
fn bits(flags: &[u8; GROUP]) -> u64 {
    // The product brings the lowest bit of byte i to bit 56 + i.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (words, _) = flags.as_chunks::<8>();
    let bytes = words.iter().map(|&word| u64::from_le_bytes(word).wrapping_mul(GATHER) >> 56);
    bytes.rev().fold(0, |bits, byte| bits << 8 | byte)
}

/// Counts the probability of pixel `j` in its bin; `moved` is what to subtract from the first bin.
#[inline(always)]
fn add_beyond<R: Real>(p: R, j: usize, limits: &Limits<R>, pairs: &mut [Pair], moved: &mut (u64, u64)) {
    let own = fixed(p.into());
    pairs[bin(p, limits.width) as usize][j % 2].add(1, own);
    *moved = (moved.0 + 1, moved.1.wrapping_add(own));
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::{Array3, Array4, Axis};
    use rayon::ThreadPoolBuilder;

    use super::super::bins::UNIT;
    use super::*;
    use crate::maps::{BAND, Inputs};
    use crate::num::philox::{Philox, below, unit};
    use crate::num::real::Element;

    const IGNORED: u8 = 255;

    fn counted<E: Element>(
        scores: &Array4<E>,
        labels: &Array3<u8>,
        settings: &Settings,
    ) -> (Vec<Image>, Pooled) {
        let maps = ScoreMaps::new(scores.view().into_dyn(), Inputs::Probabilities, 0).unwrap();
        let labels =
            LabelMaps::new(labels.view().into_dyn(), Some(i64::from(IGNORED)), maps.label_space()).unwrap();
        count(&maps, &labels, settings, &Cancel::default()).unwrap()
    }

    fn all_of(n_bins: usize, threshold: f64) -> Settings {
        Settings {
            n_bins,
            radius: Some(1),
            of_prediction: false,
            objects: None,
            threshold: Some(threshold),
            scores: true,
        }
    }

    fn sums(n: u64, right: u64, sum: f64) -> Sums {
        Sums { n, right, sum: (sum / UNIT) as u128 }
    }

    /// Numbers that all floats hold exactly, in the order of pixels.
    fn small<E: Element>(of: impl Fn(f64) -> E) -> (Vec<Image>, Pooled) {
        let pixels = [
            (0, [0.5, 0.25, 0.25]),    // right
            (0, [0.125, 0.75, 0.125]), // wrong, at the boundary
            (0, [1.0, 0.0, 0.0]),      // right, at the boundary
            (0, [0.25, 0.25, 0.5]),    // wrong
            (IGNORED, [f64::NAN; 3]),
            (1, [0.0, 0.5, 0.5]), // right, for the first of equals is predicted, and at the boundary
        ];
        let scores = Array4::from_shape_fn((1, 3, 2, 3), |(_, k, r, c)| of(pixels[3 * r + c].1[k]));
        let labels = Array3::from_shape_fn((1, 2, 3), |(_, r, c)| pixels[3 * r + c].0);
        counted(&scores, &labels, &all_of(4, 0.1))
    }

    fn check_small((images, pooled): (Vec<Image>, Pooled)) {
        let [image] = &images[..] else { panic!("one image") };
        let none = Sums::default();
        let away = [none, sums(2, 1, 1.0), none, none];
        let near = [none, sums(1, 1, 0.5), sums(1, 0, 0.75), sums(1, 1, 1.0)];
        assert_eq!(image.bins, [away, near, [none; 4]].concat());
        let [log_loss, brier, right] = image.sums.map(|sum| sum as f64 * UNIT);
        assert!((log_loss - 7.0 * std::f64::consts::LN_2).abs() < 1e-12, "{log_loss}");
        assert_eq!((brier, right), (3.09375, 2.0));
        assert_eq!(image.totals, [4, 1, 0]);
        assert_eq!(image.predicted, [2, 2, 1]);
        assert_eq!(image.hits, [2, 1, 0]);
        assert_eq!(pooled.confusion, [2, 1, 1, 0, 1, 0, 0, 0, 0]);
        let first = [sums(2, 2, 0.375), sums(1, 1, 0.5), none, sums(1, 1, 1.0)];
        let second = [sums(2, 0, 0.5), sums(1, 1, 0.5), sums(1, 0, 0.75), none];
        let third = [sums(2, 0, 0.375), sums(2, 0, 1.0), none, none];
        assert_eq!(pooled.classes, [first, second, third].concat());
        let mut ranks = vec![none; N_RANKS];
        for (confidence, expected) in
            [(0.5, sums(3, 2, 1.5)), (0.75, sums(1, 0, 0.75)), (1.0, sums(1, 1, 1.0))]
        {
            ranks[rank(confidence) as usize] = expected;
        }
        assert_eq!(pooled.ranks, ranks);
    }

    #[test]
    fn counts_by_hand() {
        check_small(small(f16::from_f64));
        check_small(small(|p| p as f32));
        check_small(small(|p| p));
    }

    /// Some images of more than a band, one of them void.
    fn large<E: Element>(of: impl Fn(f64) -> E) -> (Array4<E>, Array3<u8>) {
        let (random, k, h, w) = (Philox::new(5), 5, 181, 190);
        let number = |i, r, c, lane: usize| random.block(((i * h + r) * w + c) as u64)[lane];
        let labels = Array3::from_shape_fn((4, h, w), |(i, r, c)| match below(number(i, r, c, 0), 9) {
            0 => IGNORED,
            _ if i == 2 => IGNORED,
            _ => below(random.block((i + 10 * (r / 6) + 10_000 * (c / 6)) as u64)[3], k as u64) as u8,
        });
        let mut scores = Array4::from_elem((4, k, h, w), of(0.0));
        for (i, r, c) in ndarray::indices((4, h, w)) {
            // Products, so that small probabilities are common; more of the label, where there is one.
            let odds = |class: usize| {
                let own = unit(number(i, r, c, 1 + class % 2).rotate_left(11 * class as u32));
                own * own * own + if usize::from(labels[[i, r, c]]) == class { 0.3 } else { 1e-5 }
            };
            let total: f64 = (0..k).map(odds).sum();
            (0..k).for_each(|class| scores[[i, class, r, c]] = of(odds(class) / total));
        }
        (scores, labels)
    }

    /// The same counts, pixel by pixel.
    fn check_large<E: Element + Into<f64>>((scores, labels): (Array4<E>, Array3<u8>), settings: &Settings) {
        let (n, k, h, w) = scores.dim();
        assert!(h * w > BAND);
        let (images, pooled) = counted(&scores, &labels, settings);
        let n_bins = settings.n_bins;
        let mut ranks = vec![Sums::default(); N_RANKS];
        let mut classes = vec![Sums::default(); k * n_bins];
        let mut confusion = vec![0; k * k];
        // The product is rounded to float32, except for float64.
        let bin_of =
            |p: f64| if size_of::<E>() == 8 { bin(p, n_bins as f64) } else { bin(p as f32, n_bins as f32) };
        let one = |p: f64, is_right: bool| Sums { n: 1, right: is_right.into(), sum: fixed(p).into() };
        for i in 0..n {
            let mut bins = vec![Sums::default(); KINDS * n_bins];
            let (mut losses, mut counts) = ([0.0; 3], vec![[0; 3]; k]);
            for (r, c) in ndarray::indices((h, w)) {
                let label = usize::from(labels[[i, r, c]]);
                if label == usize::from(IGNORED) {
                    continue;
                }
                let p: Vec<f64> = (0..k).map(|class| scores[[i, class, r, c]].into()).collect();
                let best = (1..k).fold(0, |best, class| if p[class] > p[best] { class } else { best });
                let around = labels.slice(ndarray::s![
                    i,
                    r.saturating_sub(1)..h.min(r + 2),
                    c.saturating_sub(1)..w.min(c + 2)
                ]);
                let is_near = around.iter().any(|&other| other != IGNORED && usize::from(other) != label);
                let kind = usize::from(if is_near { boundary::BOUNDARY } else { boundary::INTERIOR });
                let seen = one(p[best], best == label);
                bins[kind * n_bins + bin_of(p[best]) as usize].add(seen);
                ranks[rank(p[best]) as usize].add(seen);
                confusion[label * k + best] += 1;
                counts[label][0] += 1;
                counts[best][1] += 1;
                counts[label][2] += u64::from(best == label);
                losses[0] -= p[label].clamp(LEAST, 1.0).ln();
                losses[1] +=
                    (0..k).map(|class| (p[class] - f64::from(u8::from(class == label))).powi(2)).sum::<f64>();
                losses[2] += if best == label { p[best] } else { 0.0 };
                for class in (0..k).filter(|&class| p[class] >= settings.threshold.unwrap()) {
                    classes[class * n_bins + bin_of(p[class]) as usize].add(one(p[class], class == label));
                }
            }
            let image = &images[i];
            assert!(image.bins == bins, "image {i}");
            for (&found, expected) in image.sums.iter().zip(losses) {
                let found = found as f64 * UNIT;
                assert!((found - expected).abs() < 1e-7, "image {i}: {found}, {expected}");
            }
            let of_classes = |which: usize| counts.iter().map(|count| count[which]).collect::<Vec<u64>>();
            assert_eq!(image.totals, of_classes(0), "image {i}");
            assert_eq!(image.predicted, of_classes(1), "image {i}");
            assert_eq!(image.hits, of_classes(2), "image {i}");
        }
        assert!(pooled.ranks == ranks);
        assert_eq!(pooled.confusion, confusion);
        assert_eq!(pooled.classes, classes);
        let is_spread = |cells: &[Sums]| cells.iter().filter(|cell| cell.n > 0).count();
        assert!(is_spread(&ranks) > 500 && is_spread(&classes) > 3 * n_bins);
        assert!(images[2].bins.iter().all(|cell| *cell == Sums::default()));
    }

    #[test]
    fn counts_are_those_of_a_walk_over_the_pixels() {
        check_large(large(f16::from_f64), &all_of(15, 0.001));
        check_large(large(|p| p as f32), &all_of(10, 0.0));
        check_large(large(|p| p), &all_of(7, 0.3));
    }

    #[test]
    fn threads_and_layouts_count_the_same() {
        let (scores, labels) = large(|p| p as f32);
        let settings = all_of(15, 0.001);
        let (images, pooled) = counted(&scores, &labels, &settings);
        let mut last = scores.view().permuted_axes([0, 2, 3, 1]).as_standard_layout().into_owned();
        last.swap_axes(2, 3);
        last.swap_axes(1, 2);
        assert_eq!(last, scores);
        for (scores, n_threads) in [(&scores, 1), (&scores, 3), (&last, 2)] {
            let pool = ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let (again, pooled_again) = pool.install(|| counted(scores, &labels, &settings));
            for (one, other) in images.iter().zip(&again) {
                assert!(one.bins == other.bins && one.sums == other.sums && one.hits == other.hits);
            }
            assert!(pooled.ranks == pooled_again.ranks && pooled.classes == pooled_again.classes);
            assert_eq!(pooled.confusion, pooled_again.confusion);
        }
        // The counts of single images add up to those of all.
        let mut together = Image::clone(&images[0]);
        let mut classes = vec![Sums::default(); pooled.classes.len()];
        for (i, image) in images.iter().enumerate() {
            let one = scores.select(Axis(0), &[i]);
            let (alone, pooled_alone) = counted(&one, &labels.select(Axis(0), &[i]), &settings);
            assert!(alone[0].bins == image.bins && alone[0].sums == image.sums);
            classes.iter_mut().zip(pooled_alone.classes).for_each(|(l, r)| l.add(r));
            if i > 0 {
                together.add(alone[0].clone());
            }
        }
        assert!(classes == pooled.classes);
        let of_ranks = pooled.ranks.iter().fold(Sums::default(), |mut sum, &cell| {
            sum.add(cell);
            sum
        });
        let of_bins = together.bins.iter().fold(Sums::default(), |mut sum, &cell| {
            sum.add(cell);
            sum
        });
        assert_eq!(of_ranks, of_bins);
        assert_eq!(of_bins.n, pooled.confusion.iter().sum::<u64>());
        assert_eq!(of_bins.n, together.totals.iter().sum::<u64>());
        assert_eq!(of_bins.right, together.hits.iter().sum::<u64>());
    }

    #[test]
    fn what_is_not_asked_for_is_not_counted() {
        let (scores, labels) = large(|p| p);
        let settings = Settings { radius: None, threshold: None, scores: false, ..all_of(15, 0.0) };
        let (images, pooled) = counted(&scores, &labels, &settings);
        let (expected, all) = counted(&scores, &labels, &all_of(15, 0.0));
        for (image, expected) in images.iter().zip(&expected) {
            let (away, others) = image.bins.split_at(15);
            assert!(others.iter().all(|cell| *cell == Sums::default()));
            for (b, cell) in away.iter().enumerate() {
                let mut both = expected.bins[b];
                both.add(expected.bins[15 + b]);
                assert_eq!(*cell, both);
            }
            assert_eq!(image.sums, [0, 0, expected.sums[2]]);
            assert_eq!(image.predicted, expected.predicted);
        }
        assert_eq!(pooled.confusion, all.confusion);
        assert!(pooled.classes.is_empty());
        assert!(pooled.ranks.iter().all(|cell| *cell == Sums::default()));
    }

    /// There are several times as many pixels as a cell may hold, on one thread: their sum would not fit.
    #[test]
    fn cells_are_drained_before_they_are_full() {
        let side = 3 * Cell::MOST.isqrt();
        let scores = Array4::from_shape_fn((1, 2, side, side), |(_, k, ..)| [0.75_f32, 0.25][k]);
        let labels = Array3::from_shape_fn((1, side, side), |(_, r, c)| u8::from((r + c) % 4 == 0));
        let settings = Settings { radius: None, ..all_of(3, 0.5) };
        let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let (images, pooled) = pool.install(|| counted(&scores, &labels, &settings));
        let n = (side * side) as u64;
        let right = labels.iter().filter(|&&label| label == 0).count() as u64;
        assert!(n as f64 / 2.0 * 0.75 / UNIT > 2_f64.powi(64)); // in each of two cells
        let expected = sums(n, right, 0.75 * n as f64);
        assert_eq!(images[0].bins[2], expected);
        assert_eq!(pooled.classes[2], expected);
        assert_eq!(pooled.ranks[rank(0.75) as usize], expected);
    }
}
