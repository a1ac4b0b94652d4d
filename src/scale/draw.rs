//! Pixels drawn from images: the data of a fit.
//!
//! The labelled pixels of an image, in order, are cut into as many runs as pixels are wanted, and one pixel is drawn from each
//! run. So every pixel has the same probability, and no part of the image is left out. The random numbers depend on the seed
//! and the image's labels: an image always gives the same pixels, whatever other images are read.

use crate::error::{Error, Result};
use crate::maps::{Band, LabelMaps, ScoreMaps, Scratch, VOID, fold_images};
use crate::memory;
use crate::num::philox::{Philox, below};
use crate::num::real::Real;
use crate::threads::Cancel;

/// What errors call the memory.
pub const WHAT: &str = "the pixels drawn from images";

/// The pixels drawn from an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn<R> {
    /// For each class the numbers of the drawn pixels, in the order of the image.
    pub planes: Vec<Vec<R>>,
    /// The label of each.
    pub labels: Vec<u16>,
    /// Where each lies in the image, row by row.
    pub positions: Vec<u64>,
    /// Labelled pixels of the image.
    pub n_valid: u64,
    /// A hash of the labels; 0 if all labels of the image are the same.
    pub hash: u64,
}

/// Draws at most `n_pixels` labelled pixels from each image; all of them if there are no more.
pub fn draw<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    n_pixels: u64,
    seed: u64,
    cancel: &Cancel,
) -> Result<Vec<Drawn<R>>> {
    let counts = fold_images(
        maps,
        cancel,
        |codes: &mut Vec<i32>, band| {
            labels.read(band.image, band.pixels.clone(), codes)?;
            Ok(vec![Counted::of(codes)])
        },
        Vec::extend,
    )?;
    let images: Vec<Chosen> = counts.into_iter().map(|bands| Chosen::new(bands, n_pixels, seed)).collect();
    let gather =
        |work: &mut Work<R>, band: &Band| gather(maps, labels, &images[band.image], band, work, cancel);
    let add = |drawn: &mut Drawn<R>, more: Drawn<R>| {
        for (plane, more) in drawn.planes.iter_mut().zip(more.planes) {
            plane.extend(more);
        }
        drawn.labels.extend(more.labels);
        drawn.positions.extend(more.positions);
    };
    fold_images(maps, cancel, gather, add)
}

/// The number of labelled pixels of a band, and a hash of its labels and their places.
struct Counted {
    n_valid: u64,
    hash: u64,
    lowest: i32,
    highest: i32,
}

impl Counted {
    fn of(codes: &[i32]) -> Self {
        let mut counted = Self { n_valid: 0, hash: 0, lowest: i32::MAX, highest: i32::MIN };
        for &code in codes {
            counted.n_valid += u64::from(code != VOID);
            counted.hash = mixed(counted.hash, code as u64);
            counted.lowest = counted.lowest.min(code);
            counted.highest = counted.highest.max(code);
        }
        counted
    }
}

/// A hash of a hash and one more number.
fn mixed(hash: u64, number: u64) -> u64 {
    (hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Which labelled pixels of an image are drawn.
struct Chosen {
    /// How many labelled pixels come before each band, and in all.
    before: Vec<u64>,
    n_drawn: u64,
    hash: u64,
    generator: Philox,
}

impl Chosen {
    fn new(bands: Vec<Counted>, n_pixels: u64, seed: u64) -> Self {
        let (mut before, mut hash) = (vec![0], 0);
        let (mut lowest, mut highest) = (i32::MAX, i32::MIN);
        for band in bands {
            before.push(before[before.len() - 1] + band.n_valid);
            hash = mixed(hash, band.hash);
            (lowest, highest) = (lowest.min(band.lowest), highest.max(band.highest));
        }
        let n_drawn = n_pixels.min(before[before.len() - 1]);
        let generator = Philox::new(u128::from(hash) << 64 | u128::from(seed));
        let hash = if lowest < highest { hash } else { 0 };
        Self { before, n_drawn, hash, generator }
    }

    fn n_valid(&self) -> u64 {
        self.before[self.before.len() - 1]
    }

    /// The place of the `j`-th drawn pixel among the labelled ones.
    fn rank(&self, j: u64) -> u64 {
        if self.n_drawn == self.n_valid() {
            return j;
        }
        let random = self.generator.block(j / 4)[(j % 4) as usize];
        let start = u128::from(j) * u128::from(self.n_valid()) + u128::from(below(random, self.n_valid()));
        (start / u128::from(self.n_drawn)) as u64
    }

    /// The drawn pixels whose place is at least `rank`, from the first on.
    fn from(&self, rank: u64) -> impl Iterator<Item = u64> + '_ {
        let run = u128::from(rank) * u128::from(self.n_drawn) / u128::from(self.n_valid().max(1));
        (run as u64..self.n_drawn).map(|j| self.rank(j)).skip_while(move |&place| place < rank)
    }
}

/// The buffers of one thread.
#[derive(Default)]
struct Work<R> {
    scratch: Scratch<R>,
    codes: Vec<i32>,
}

fn gather<R: Real>(
    maps: &ScoreMaps<'_, R>,
    labels: &LabelMaps<'_>,
    chosen: &Chosen,
    band: &Band,
    work: &mut Work<R>,
    cancel: &Cancel,
) -> Result<Drawn<R>> {
    let mut found = Drawn {
        planes: vec![Vec::new(); maps.n_classes()],
        labels: Vec::new(),
        positions: Vec::new(),
        n_valid: chosen.n_valid(),
        hash: chosen.hash,
    };
    labels.read(band.image, band.pixels.clone(), &mut work.codes)?;
    let mut rank = chosen.before[band.pixels.start / crate::maps::BAND];
    let mut wanted = chosen.from(rank).peekable();
    let mut reader = maps.tiles(band.image, &mut work.scratch);
    for pixels in band.runs(reader.tile_len()) {
        cancel.check()?;
        let codes = &work.codes[band.offset_of(&pixels)];
        let end = rank + codes.iter().map(|&code| u64::from(code != VOID)).sum::<u64>();
        if wanted.peek().is_none_or(|&first| first >= end) {
            rank = end;
            continue;
        }
        let tile = reader.read(pixels.clone());
        let first = found.positions.len();
        // The place of each labelled pixel; not needed if all pixels are labelled.
        let labelled: Option<Vec<u32>> = (end - rank < codes.len() as u64)
            .then(|| (0..).zip(codes).filter(|&(_, &code)| code != VOID).map(|(j, _)| j).collect());
        while let Some(place) = wanted.next_if(|&place| place < end) {
            let within = (place - rank) as usize;
            let j = labelled.as_ref().map_or(within, |labelled| labelled[within] as usize);
            memory::push(&mut found.labels, codes[j] as u16, WHAT)?;
            memory::push(&mut found.positions, (pixels.start + j) as u64, WHAT)?;
        }
        rank = end;
        let drawn = &found.positions[first..];
        let within = |position: u64| position as usize - pixels.start;
        // Class by class, so that pixels need not wait for each other's memory.
        for (class, numbers) in found.planes.iter_mut().enumerate() {
            let plane = tile.plane(class);
            memory::reserve(numbers, drawn.len(), WHAT)?;
            numbers.extend(drawn.iter().map(|&position| plane[within(position)]));
        }
        let is_finite = |numbers: &Vec<R>| numbers[first..].iter().all(|value| value.is_finite());
        if !found.planes.iter().all(is_finite) {
            let wrong = |j: usize| (0..found.planes.len()).find(|&class| !found.planes[class][j].is_finite());
            let (j, class) = (first..).find_map(|j| Some((j, wrong(j)?))).expect("one is not finite");
            let value = found.planes[class][j].to_f64().unwrap_or(f64::NAN);
            let pixel = within(found.positions[j]);
            let place = maps.place(band.image, pixels);
            return Err(Error::NotFinite { image: place.image, class, pixel: place.pixel(pixel), value });
        }
    }
    Ok(found)
}
