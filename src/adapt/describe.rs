//! What a map of probabilities looks like, in a few numbers: what a model of thresholds goes by.
//!
//! All pixels count, void or not: nobody knows what is void where masks are made.

use ndarray::Array2;
use rayon::prelude::*;

use super::values::for_each_plane;
use crate::error::{Error, Result};
use crate::maps::{Band, ScoreMaps, Scratch};
use crate::memory;
use crate::num::real::Real;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// Bins of the histogram that is described, and of that which is told.
const FINE: usize = 1 << 12;
const COARSE: usize = 32;
/// Areas are told at tenths.
const TENTHS: usize = 9;
/// The share of the pixels whose mean is told: the most probable ones.
const TOP: f64 = 0.01;

/// Numbers of a description.
pub const N_NUMBERS: usize = COARSE + TENTHS + 6;

/// A description of each image, `(n, N_NUMBERS)`: shares of pixels in 32 bins of probability, shares above 0.1 to 0.9, mean
/// probability, mean entropy (nats), logarithm of one plus the summed probability, mean of the top 1 %, and of the mask at 0.5
/// boundary faces per pixel and the logarithm of one plus the number of its components (of pixels that share a face).
pub fn describe<R: Real>(maps: &ScoreMaps<'_, R>, cancel: &Cancel) -> Result<Array2<f64>> {
    let shape = (maps.n_images(), N_NUMBERS);
    let mut found = memory::filled(0.0, shape.0 * shape.1, "the descriptions of images", cancel)?;
    let rows = found.par_chunks_exact_mut(N_NUMBERS).enumerate();
    rows.try_for_each_init(Work::default, |work, (image, row)| describe_one(maps, image, work, row, cancel))?;
    Ok(Array2::from_shape_vec(shape, found).expect("a row each"))
}

/// The buffers of one thread.
struct Work<R> {
    scratch: Scratch<R>,
    codes: Vec<i32>,
    counts: Vec<u32>,
    is_in: Vec<bool>,
    roots: Vec<u32>,
}

impl<R: Real> Default for Work<R> {
    fn default() -> Self {
        Self {
            scratch: Scratch::default(),
            codes: Vec::new(),
            counts: Vec::new(),
            is_in: Vec::new(),
            roots: Vec::new(),
        }
    }
}

fn describe_one<R: Real>(
    maps: &ScoreMaps<'_, R>,
    image: usize,
    work: &mut Work<R>,
    row: &mut [f64],
    cancel: &Cancel,
) -> Result<()> {
    let Work { scratch, codes, counts, is_in, roots } = work;
    let n_pixels = maps.n_pixels();
    if u32::try_from(n_pixels).is_err() {
        // Pixels are numbered in 32 bits.
        return Err(Error::Memory { what: "the components of a mask", bytes: 8 * n_pixels as u128 });
    }
    counts.clear();
    counts.resize(FINE, 0);
    is_in.clear();
    memory::resize(is_in, n_pixels, false, "the mask of an image")?;
    let band = Band { image, pixels: 0..n_pixels };
    for_each_plane(maps, None, &band, scratch, codes, cancel, |pixels, plane, _| {
        look(plane, &mut is_in[pixels]);
        for &p in plane {
            // Exact: a multiplication by a power of two.
            let bin = (p * R::round_from(FINE as f64)).to_usize().unwrap_or(0);
            counts[bin.min(FINE - 1)] += 1;
        }
        Ok(())
    })?;
    let [_, d, h, w] = maps.label_space().shape;
    let outline = outline(is_in, [d, h, w], roots, cancel)?;
    write(counts, n_pixels as f64, &outline, row);
    Ok(())
}

#[apply(vectorised!)]
fn look<R: Real>(plane: &[R], is_in: &mut [bool]) {
    let half = R::round_from(0.5);
    for (is_in, &p) in is_in.iter_mut().zip(plane) {
        *is_in = p >= half;
    }
}

/// Of a mask.
struct Outline {
    n_faces: u64,
    n_components: u64,
}

/// Faces between a pixel that is in and one that is not, and components, whose pixels share faces.
fn outline(is_in: &[bool], [d, h, w]: [usize; 3], roots: &mut Vec<u32>, cancel: &Cancel) -> Result<Outline> {
    let (mut n_faces, mut n_components) = (0, 0);
    roots.clear();
    memory::resize(roots, is_in.len(), 0, "the components of a mask")?;
    for row in 0..d * h {
        cancel.check()?;
        for column in 0..w {
            let here = row * w + column;
            let before = [
                (column > 0, here.wrapping_sub(1)),
                (row % h > 0, here.wrapping_sub(w)),
                (row >= h, here.wrapping_sub(w * h)),
            ];
            let mut root = here as u32;
            n_components += u64::from(is_in[here]);
            for (_, there) in before.into_iter().filter(|(is_there, _)| *is_there) {
                n_faces += u64::from(is_in[here] != is_in[there]);
                if is_in[here] && is_in[there] {
                    let other = root_of(roots, there as u32);
                    if root == here as u32 {
                        n_components -= 1;
                        root = other;
                    } else if root != other {
                        n_components -= 1;
                        let (low, high) = (root.min(other), root.max(other));
                        roots[high as usize] = low;
                        root = low;
                    }
                }
            }
            roots[here] = root;
        }
    }
    Ok(Outline { n_faces, n_components })
}

/// The first pixel of a component, as far as it is known. Paths are halved on the way.
fn root_of(roots: &mut [u32], mut at: u32) -> u32 {
    while roots[at as usize] != at {
        let next = roots[roots[at as usize] as usize];
        roots[at as usize] = next;
        at = next;
    }
    at
}

fn write(counts: &[u32], n_pixels: f64, outline: &Outline, row: &mut [f64]) {
    let middle = |bin: usize| (bin as f64 + 0.5) / FINE as f64;
    let share_from = |bin: usize| counts[bin..].iter().map(|&n| f64::from(n)).sum::<f64>() / n_pixels;
    let (coarse, rest) = row.split_at_mut(COARSE);
    for (share, counts) in coarse.iter_mut().zip(counts.chunks_exact(FINE / COARSE)) {
        *share = counts.iter().map(|&n| f64::from(n)).sum::<f64>() / n_pixels;
    }
    let (areas, rest) = rest.split_at_mut(TENTHS);
    for (tenth, area) in areas.iter_mut().enumerate() {
        *area = share_from((tenth + 1) * FINE / (TENTHS + 1));
    }
    let mean_of = |of: &dyn Fn(f64) -> f64| {
        let sums = counts.iter().enumerate().map(|(bin, &n)| f64::from(n) * of(middle(bin)));
        sums.sum::<f64>() / n_pixels
    };
    let mean = mean_of(&|p| p);
    let entropy = mean_of(&|p| -p * p.ln() - (1.0 - p) * (1.0 - p).ln());
    let n_in = share_from(FINE / 2) * n_pixels;
    let numbers = [
        mean,
        entropy,
        (mean * n_pixels).ln_1p(),
        top_mean(counts, n_pixels, middle),
        outline.n_faces as f64 / n_in.max(1.0),
        (outline.n_components as f64).ln_1p(),
    ];
    rest.copy_from_slice(&numbers);
}

/// The mean of the most probable pixels.
fn top_mean(counts: &[u32], n_pixels: f64, middle: impl Fn(usize) -> f64) -> f64 {
    let n_top = (TOP * n_pixels).max(1.0);
    let (mut left, mut sum) = (n_top, 0.0);
    for (bin, &count) in counts.iter().enumerate().rev() {
        let taken = f64::from(count).min(left);
        sum += taken * middle(bin);
        left -= taken;
        if left <= 0.0 {
            break;
        }
    }
    sum / n_top
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[&str]) -> (u64, u64) {
        let is_in: Vec<bool> = rows.concat().chars().map(|c| c == '#').collect();
        let shape = [1, rows.len(), rows[0].len()];
        let found = outline(&is_in, shape, &mut Vec::new(), &Cancel::default()).unwrap();
        (found.n_faces, found.n_components)
    }

    #[test]
    fn components_share_faces() {
        assert_eq!(of(&["...", ".#.", "..."]), (4, 1));
        assert_eq!(of(&["#.#", "#.#", "###"]), (5, 1));
        assert_eq!(of(&["#.#.#", "#.#.#", "###.#"]), (5 + 6, 2));
        assert_eq!(of(&["#.", ".#"]), (4, 2));
        assert_eq!(of(&["#####", "....#", "###.#", "#...#", "#####"]), (17, 1));
        assert_eq!(of(&["...", "..."]), (0, 0));
    }

    #[test]
    fn components_go_through_slices() {
        let mut is_in = vec![false; 2 * 3 * 3];
        for pixel in [0, 9, 8] {
            is_in[pixel] = true;
        }
        let found = outline(&is_in, [2, 3, 3], &mut Vec::new(), &Cancel::default()).unwrap();
        assert_eq!(found.n_components, 2);
    }
}
