//! Features of a map of probabilities: a few numbers that a model of thresholds uses.
//!
//! All pixels count, void or not, because it is not known which pixels are void when masks are made.

use std::ops::Range;

use ndarray::Array2;
use rayon::prelude::*;

use super::planes::Planes;
use crate::error::Result;
use crate::maps::ScoreMaps;
use crate::memory;
use crate::num::real::Real;
use crate::threads::Cancel;

/// Shares of the summed probability. A mask of the most probable pixels with such a share holds the same share of the
/// foreground, if probabilities are right.
const LEVELS: [f64; 7] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99];

/// The number of features.
const N_NUMBERS: usize = LEVELS.len() + 2;

/// Probabilities are counted in bins, 256 for each halving: a bin is a float32 without so many of its last bits.
const DROPPED: u32 = 15;
const N_BINS: usize = (0x3f80_0000 >> DROPPED) + 1;

/// Log-odds are cut at these ends, those of about 0.0001 and 0.9999.
const ENDS: Range<f64> = -9.2..9.2;

/// A description of each image, `(n, N_NUMBERS)`: the log-odds at which masks begin that hold 50, 70, 80, 90, 95, 98 and 99 %
/// of the summed probability, the mean entropy (nats), and the logarithm of one plus the summed probability.
pub fn describe<R: Real>(maps: &ScoreMaps<'_, R>, cancel: &Cancel) -> Result<Array2<f64>> {
    let shape = (maps.n_images(), N_NUMBERS);
    let mut found = memory::filled(0.0, shape.0 * shape.1, "the descriptions of images", cancel)?;
    let rows = found.par_chunks_exact_mut(N_NUMBERS).enumerate();
    rows.try_for_each_init(Work::default, |work, (image, row)| {
        count(maps, image, work, cancel)?;
        write(&work.counts, maps.n_pixels() as f64, row);
        Ok(())
    })?;
    Ok(Array2::from_shape_vec(shape, found).expect("a row each"))
}

/// The buffers of one thread.
#[derive(Default)]
struct Work<R> {
    planes: Planes<R>,
    counts: Vec<u64>,
}

fn count<R: Real>(maps: &ScoreMaps<'_, R>, image: usize, work: &mut Work<R>, cancel: &Cancel) -> Result<()> {
    let Work { planes, counts } = work;
    counts.clear();
    counts.resize(N_BINS, 0);
    planes.of_image(maps, image, cancel, |_, plane| {
        for &p in plane {
            let wide: f64 = p.into();
            counts[(wide.abs() as f32).to_bits() as usize >> DROPPED] += 1;
        }
    })
}

/// The middle of a bin.
fn middle(bin: usize) -> f64 {
    let [low, high] = [bin, bin + 1].map(|bin| f64::from(f32::from_bits((bin << DROPPED) as u32)));
    f64::midpoint(low, high.min(1.0))
}

fn write(counts: &[u64], n_pixels: f64, row: &mut [f64]) {
    let occupied = || counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let entropy_of = |p: f64| -(p * p.ln() + (1.0 - p) * (-p).ln_1p());
    let (mut mass, mut entropy) = (0.0, 0.0);
    for (bin, &count) in occupied() {
        let p = middle(bin);
        mass += p * count as f64;
        entropy += if p < 1.0 { entropy_of(p) * count as f64 } else { 0.0 };
    }
    let (starts, rest) = row.split_at_mut(LEVELS.len());
    let (mut sum, mut next) = (0.0, 0);
    for (bin, &count) in occupied().rev() {
        let p = middle(bin);
        sum += p * count as f64;
        while next < LEVELS.len() && sum >= LEVELS[next] * mass {
            starts[next] = (p / (1.0 - p)).ln().clamp(ENDS.start, ENDS.end);
            next += 1;
        }
    }
    rest.copy_from_slice(&[entropy / n_pixels, mass.ln_1p()]);
}
