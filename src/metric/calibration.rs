//! How well probabilities are calibrated: all that its measures are made of, counted in one pass over the maps.
//!
//! Of each image are kept the equal-width bins of the confidence (the largest probability) of its labelled pixels, apart for
//! those near another label; the log loss, the Brier score and the confidence of its right pixels; and the pixels of each
//! class. Of all images together: confidences by [`rank`], bins of the probabilities of each class, and the confusion
//! matrix. All of it are whole numbers (see [`super::bins`]): what is merged in any order gives the same bits.

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

/// A probability below this has the log loss of it.
const LEAST: f64 = 1e-12;

/// Kinds of labelled pixels: see [`boundary`].
const KINDS: usize = 3;

/// Pixels whose probabilities are multiplied before the logarithm is taken, which is slow.
const FACTORS: usize = 8;

/// Pixels that are looked at together: whether one of them is beyond the first bin of a class.
const GROUP: usize = 64;

/// What to count.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Equal-width bins.
    pub n_bins: usize,
    /// How far a pixel's label is compared with others; `None` takes all pixels as away from them.
    pub radius: Option<usize>,
    /// Which classes are those of objects, whose boxes are told from the rest of the image.
    pub objects: Option<Vec<bool>>,
    /// The probability from which on a class is binned; `None` bins no class.
    pub threshold: Option<f64>,
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
    let mark = |radius| boundary::mark(maps, labels, radius, settings.objects.as_deref(), cancel);
    let kinds = settings.radius.map(mark).transpose()?;
    let kinds = kinds.as_deref();
    // One for each thread that works. Whose pixels are in which does not matter to their sum.
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

/// Where the pixels of a tile are counted, and as what.
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

/// What is counted of the pixels of some bands.
struct Counters {
    n_bins: usize,
    threshold: Option<f64>,
    n_classes: usize,
    /// Pixels in cells since they were drained.
    n_fresh: usize,
    pooled: Pooled,
    /// With one more for void pixels.
    ranks: Vec<Cell>,
    /// Of each class, and one more before for void pixels.
    label_bins: Vec<u32>,
    classes: Vec<Cell>,
    /// Of one band; void pixels come after all kinds.
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
            n_bins,
            threshold: settings.threshold,
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
            bins: memory::filled(Cell::default(), (KINDS + 1) * n_bins, WHAT, cancel)?,
            confusion: memory::filled(0, n_cells + n_classes, "the confusion matrix", cancel)?,
        })
    }

    /// Counts the pixels of a band, and tells what they are to their image.
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
            squares.clear();
            squares.resize(tile.len(), 0.0);
            stream!(tile, |planes, _k| add_squares(planes, squares));
            places.resize(tile.len());
            let found = [
                log_losses(codes, &scan.values),
                brier_scores(codes, &scan.values, squares),
                place(codes, scan, kinds, &limits, places),
            ];
            sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += u128::from(found));
            self.scatter(places);
            if threshold.is_some() {
                for &place in &places.label_bins {
                    self.label_bins[place as usize] += 1;
                }
                least.clear();
                least.extend(
                    codes.iter().map(|&code| if code == VOID { R::infinity() } else { limits.least }),
                );
                for (class, cells) in self.classes.chunks_exact_mut(n_bins).enumerate() {
                    count_class(tile.plane(class), least, &limits, cells);
                }
            }
        }
        self.tell(sums)
    }

    fn scatter(&mut self, places: &Places) {
        let Places { bins, ranks, labels, counts, sums, .. } = places;
        let what = || counts.iter().zip(sums);
        for (&bin, (&counts, &sum)) in bins.iter().zip(what()) {
            self.bins[bin as usize].add(counts, sum);
        }
        for (&rank, (&counts, &sum)) in ranks.iter().zip(what()) {
            self.ranks[rank as usize].add(counts, sum);
        }
        for &label in labels {
            self.confusion[label as usize] += 1;
        }
    }

    /// What a band is to its image; its counters are empty then.
    fn tell(&mut self, sums: [u128; 3]) -> Result<Image> {
        let (n_bins, n_classes) = (self.n_bins, self.n_classes);
        let mut bins = memory::filled(Sums::default(), KINDS * n_bins, WHAT, &Cancel::default())?;
        bins.iter_mut().zip(&mut self.bins).for_each(|(sums, cell)| sums.drain(cell));
        self.bins[KINDS * n_bins..].fill(Cell::default());
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
        let n_bins = self.n_bins;
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
#[apply(vectorised!)]
fn log_losses<R: Real>(codes: &[i32], values: &[R]) -> u64 {
    let mut sum = 0;
    for (codes, values) in codes.chunks(FACTORS * FACTORS).zip(values.chunks(FACTORS * FACTORS)) {
        let mut products = [1.0; FACTORS];
        for (codes, values) in codes.chunks(FACTORS).zip(values.chunks(FACTORS)) {
            for ((product, &code), &value) in products.iter_mut().zip(codes).zip(values) {
                let p: f64 = value.into();
                let p = if p > LEAST { p } else { LEAST };
                *product *= if code == VOID || p > 1.0 { 1.0 } else { p };
            }
        }
        for product in products {
            sum += fixed(-product.ln());
        }
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

/// Writes where pixels are counted. Gives the sum of the confidences of the right ones.
fn place<R: Real>(
    codes: &[i32],
    scan: &Scan<R>,
    kinds: &[u8],
    limits: &Limits<R>,
    places: &mut Places,
) -> u64 {
    // Loop by loop: of all at once the compiler makes no vectors.
    let Places { bins, ranks, labels, label_bins, counts, sums } = places;
    place_bins(codes, &scan.best_values, kinds, limits, bins);
    place_ranks(codes, &scan.best_values, ranks);
    place_labels(codes, &scan.best, limits.n_classes, labels);
    place_label_bins(codes, &scan.values, limits, label_bins);
    tell_right(codes, &scan.best, &scan.best_values, counts, sums)
}

#[apply(vectorised!)]
fn place_bins<R: Real>(codes: &[i32], best: &[R], kinds: &[u8], limits: &Limits<R>, bins: &mut [i32]) {
    for (((&code, &best), &kind), place) in codes.iter().zip(best).zip(kinds).zip(bins) {
        let kind = if code == VOID { KINDS as i32 } else { i32::from(kind) };
        *place = kind * limits.n_bins + bin(best, limits.width);
    }
}

#[apply(vectorised!)]
fn place_ranks<R: Real>(codes: &[i32], best: &[R], ranks: &mut [i32]) {
    for ((&code, &best), place) in codes.iter().zip(best).zip(ranks) {
        *place = if code == VOID { N_RANKS as i32 } else { rank(best.into()) };
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
    for ((&code, &value), place) in codes.iter().zip(values).zip(label_bins) {
        let is_binned = (value >= limits.least) & (code != VOID);
        *place = if is_binned { (code + 1) * limits.n_bins + bin(value, limits.width) } else { 0 };
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

/// Counts the probabilities of a class that are at least the least, which is infinite where void.
fn count_class<R: Real>(plane: &[R], least: &[R], limits: &Limits<R>, cells: &mut [Cell]) {
    let (n, sum) = kept(plane, least);
    cells[0].add(n, sum);
    let (groups, rest) = plane.as_chunks::<GROUP>();
    let (leasts, rest_of_least) = least.as_chunks::<GROUP>();
    move_groups(groups, leasts, limits, cells);
    for (&p, &least) in rest.iter().zip(rest_of_least) {
        if p >= least && p >= limits.second {
            move_one(p, limits, cells);
        }
    }
}

/// Number and [`fixed`] sum of the probabilities that are at least the least.
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

/// Moves those that are beyond the first bin, group by group: most groups have none.
#[apply(vectorised!)]
fn move_groups<R: Real>(
    groups: &[[R; GROUP]],
    leasts: &[[R; GROUP]],
    limits: &Limits<R>,
    cells: &mut [Cell],
) {
    for (group, least) in groups.iter().zip(leasts) {
        let mut any = 0_u32;
        for j in 0..GROUP {
            any |= u32::from((group[j] >= least[j]) & (group[j] >= limits.second));
        }
        if any != 0 {
            move_beyond(group, least, limits, cells);
        }
    }
}

#[inline(always)]
fn move_beyond<R: Real>(values: &[R; GROUP], leasts: &[R; GROUP], limits: &Limits<R>, cells: &mut [Cell]) {
    // Without a branch for each, which nobody could predict: what is not noted is written over.
    let (mut beyond, mut n_beyond) = ([0; GROUP], 0);
    for j in 0..GROUP {
        beyond[n_beyond] = j as u8;
        n_beyond += usize::from((values[j] >= leasts[j]) & (values[j] >= limits.second));
    }
    for &j in &beyond[..n_beyond] {
        move_one(values[usize::from(j)], limits, cells);
    }
}

/// Moves a probability from the first bin to its own.
#[inline(always)]
fn move_one<R: Real>(p: R, limits: &Limits<R>, cells: &mut [Cell]) {
    let own = fixed(p.into());
    cells[bin(p, limits.width) as usize].add(1, own);
    cells[0].remove(1, own);
}
