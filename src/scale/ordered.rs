//! Maps that cannot change the prediction: maps of margins to the most probable class, or of gaps between ranks.
//!
//! Each class has an expert, which takes the pixels whose most probable class it is. With `u` the logits and `c` that class,
//! the margins `u_c - u_j >= 0` become `B_c m + mu_c`; or the gaps of the sorted logits `u_(r) - u_(r+1) >= 0` become
//! `B_c d + mu_c`, and add up. No number of `B` and `mu` is negative, so neither are the new margins and gaps, also in floats:
//! sums and products of non-negative numbers round to non-negative numbers. Rounding may still make different probabilities
//! equal, or swap exponentials that differ in the last bit; this is corrected in the probabilities. Ties go to the lowest
//! class.

use super::apply::Features;
use crate::maps::{Band, PixelBuffers, PlanesMut, Softmax, Tile, Transform};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// Larger distances between logits count as this one, so that products with them are finite.
const FURTHEST: f64 = 1e30;

/// What a map keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The most probable class.
    Argmax,
    /// The order of all classes, up to ties.
    Order,
}

impl Kept {
    /// Rows and columns of a `B`.
    pub fn width(self, n_classes: usize) -> usize {
        match self {
            Self::Argmax => n_classes,
            Self::Order => n_classes - 1,
        }
    }
}

/// Softmax of mapped margins or gaps.
#[derive(Debug, Clone)]
pub struct Ordered<R> {
    /// `B_c` of each expert, column by column.
    weight: Vec<R>,
    bias: Vec<R>,
    kept: Kept,
    features: Features,
}

impl<R: Real> Ordered<R> {
    /// `weight` holds a `B` for each class (row by row), `bias` a `mu`. Where the argmax is kept, both have a row for each class,
    /// and those of the expert's own class count for nothing.
    pub fn new(weight: &[f64], bias: &[f64], n_classes: usize, kept: Kept, features: Features) -> Self {
        let width = kept.width(n_classes);
        let by_columns = weight.chunks_exact(width * width).flat_map(|matrix| {
            (0..width * width).map(move |i| R::round_from(matrix[i % width * width + i / width]))
        });
        let bias = bias.iter().map(|&value| R::round_from(value)).collect();
        Self { weight: by_columns.collect(), bias, kept, features }
    }
}

impl<R: Real> Transform<R> for Ordered<R> {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        let (n_classes, len) = (given.n_classes(), given.len());
        let (planes, ranks) = self.logits(given, buffers);
        Softmax.apply(&Tile::new(&planes, len, len, n_classes), at, buffers, out);
        let mut runs: Vec<&mut [R]> = out.runs().collect();
        for (j, ranks) in ranks.chunks_exact(self.n_ranks(n_classes)).enumerate() {
            match self.kept {
                Kept::Argmax => keep_largest(&mut runs, j, ranks[0]),
                Kept::Order => keep_order(&mut runs, j, ranks),
            }
        }
    }
}

impl<R: Real> Ordered<R> {
    /// The number of a pixel's classes, from the most probable down, whose ranks are needed.
    fn n_ranks(&self, n_classes: usize) -> usize {
        if self.kept == Kept::Order { n_classes } else { 1 }
    }

    /// New logits, plane after plane, and the first classes of each pixel.
    fn logits(&self, given: &Tile<'_, R>, buffers: &mut PixelBuffers<R>) -> (Vec<R>, Vec<u16>) {
        let (n_classes, len) = (given.n_classes(), given.len());
        let mut planes = self.features.planes(given, buffers);
        let n_ranks = self.n_ranks(n_classes);
        let mut ranks = vec![0_u16; n_ranks * len];
        let (mut pixel, mut mapped) = (vec![R::zero(); n_classes], vec![R::zero(); n_classes]);
        for (j, ranks) in ranks.chunks_exact_mut(n_ranks).enumerate() {
            let mut is_finite = true;
            for (x, plane) in pixel.iter_mut().zip(planes.chunks_exact(len)) {
                *x = plane[j];
                is_finite &= x.is_finite();
            }
            if is_finite {
                // Ranked by the given numbers: logarithms may be equal where these are not.
                let value = |class: u16| given.plane(usize::from(class))[j];
                match self.kept {
                    Kept::Argmax => ranks[0] = largest(n_classes, value),
                    Kept::Order => sort(ranks, value),
                }
                self.map(ranks, &mut pixel, &mut mapped);
            } else {
                ranks.iter_mut().zip(0..).for_each(|(rank, class)| *rank = class);
                mapped.fill(R::nan());
            }
            for (&x, plane) in mapped.iter().zip(planes.chunks_exact_mut(len)) {
                plane[j] = x;
            }
        }
        (planes, ranks)
    }

    /// The most probable class of each pixel, and new logits.
    pub fn logits_and_top(&self, given: &Tile<'_, R>, buffers: &mut PixelBuffers<R>) -> (Vec<R>, Vec<u16>) {
        let (planes, ranks) = self.logits(given, buffers);
        let top = ranks.into_iter().step_by(self.n_ranks(given.n_classes())).collect();
        (planes, top)
    }

    /// Computes a pixel's new logits, at most 0, from the old ones, which are overwritten.
    fn map(&self, ranks: &[u16], pixel: &mut [R], mapped: &mut [R]) {
        let furthest = R::round_from(FURTHEST);
        let apart = |high: R, low: R| (high - low).max(R::zero()).min(furthest);
        let width = self.kept.width(pixel.len());
        let top = usize::from(ranks[0]);
        let weight = &self.weight[top * width * width..][..width * width];
        let bias = &self.bias[top * width..][..width];
        match self.kept {
            Kept::Argmax => {
                let highest = pixel[top];
                for x in pixel.iter_mut() {
                    *x = apart(highest, *x);
                }
                multiply(weight, bias, pixel, mapped);
                for x in mapped.iter_mut() {
                    *x = -x.min(furthest);
                }
                mapped[top] = R::zero();
            }
            Kept::Order => {
                let mut gaps = vec![R::zero(); width];
                for (gap, pair) in gaps.iter_mut().zip(ranks.windows(2)) {
                    *gap = apart(pixel[usize::from(pair[0])], pixel[usize::from(pair[1])]);
                }
                multiply(weight, bias, &gaps, &mut pixel[..width]);
                let mut sum = R::zero();
                mapped[top] = sum;
                for (&class, &gap) in ranks[1..].iter().zip(&pixel[..width]) {
                    sum += gap;
                    mapped[usize::from(class)] = -sum.min(furthest);
                }
            }
        }
    }
}

/// The class of the largest value, the lowest of those.
fn largest<R: Real>(n_classes: usize, value: impl Fn(u16) -> R) -> u16 {
    (1..n_classes as u16).fold(0, |best, class| if value(class) > value(best) { class } else { best })
}

/// All classes, from the largest value down; equal ones from the lowest class up.
fn sort<R: Real>(ranks: &mut [u16], value: impl Fn(u16) -> R) {
    ranks.iter_mut().zip(0..).for_each(|(rank, class)| *rank = class);
    ranks.sort_by(|&a, &b| value(b).partial_cmp(&value(a)).expect("finite numbers"));
}

/// `B x + mu`; `B` column by column.
#[apply(vectorised!)]
fn multiply<R: Real>(weight: &[R], bias: &[R], x: &[R], out: &mut [R]) {
    out.copy_from_slice(bias);
    for (column, &x) in weight.chunks_exact(bias.len()).zip(x) {
        for (out, &weight) in out.iter_mut().zip(column) {
            *out += weight * x;
        }
    }
}

/// The next smaller number than a probability that is the largest of its pixel.
fn below<R: Real>(p: R) -> R {
    p * (R::one() - R::epsilon())
}

/// Makes the class `top` the first of the largest.
fn keep_largest<R: Real>(runs: &mut [&mut [R]], j: usize, top: u16) {
    let top = usize::from(top);
    let p = runs[top][j];
    for (class, run) in runs.iter_mut().enumerate() {
        if class < top && run[j] >= p {
            run[j] = below(p);
        } else if run[j] > p {
            run[j] = p;
        }
    }
}

/// Makes probabilities fall by rank, and the first class the first of the largest.
fn keep_order<R: Real>(runs: &mut [&mut [R]], j: usize, ranks: &[u16]) {
    let p = runs[usize::from(ranks[0])][j];
    let mut most = p;
    for &class in &ranks[1..] {
        let value = &mut runs[usize::from(class)][j];
        if *value > most {
            *value = most;
        }
        if class < ranks[0] && *value >= p {
            *value = below(p);
        }
        most = *value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<R: Real>(map: &Ordered<R>, given: &[R]) -> Vec<R> {
        let (tile, at) = (Tile::new(given, 1, 1, given.len()), Band { image: 0, pixels: 0..1 });
        let mut buffer = Vec::new();
        let mut out = PlanesMut::new(&mut buffer, given.len(), 1);
        map.apply(&tile, &at, &mut PixelBuffers::default(), &mut out);
        out.runs().map(|run| run[0]).collect()
    }

    /// The same `B` for all experts.
    fn map<R: Real>(kept: Kept, matrix: &[f64], bias: &[f64]) -> Ordered<R> {
        Ordered::new(&matrix.repeat(3), &bias.repeat(3), 3, kept, Features::Logits)
    }

    #[test]
    fn margins_by_hand() {
        // Of margins 0, 1, 3 the second becomes 2 * 1 + 0.5, the third 1 + 3.
        let matrix = [0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 1.0, 1.0];
        let found = of(&map::<f64>(Kept::Argmax, &matrix, &[0.0, 0.5, 0.0]), &[5.0, 4.0, 2.0]);
        assert!((found[0] / found[1]).ln() - 2.5 < 1e-12 && (found[0] / found[2]).ln() - 4.0 < 1e-12);
    }

    #[test]
    fn gaps_by_hand() {
        // Ranks are classes 1, 2, 0; gaps 1, 2 become 1 + 2 * 2, 0.5 + 2.
        let found = of(&map::<f64>(Kept::Order, &[1.0, 2.0, 0.0, 1.0], &[0.0, 0.5]), &[1.0, 4.0, 3.0]);
        assert!(((found[1] / found[2]).ln() - 5.0).abs() < 1e-12);
        assert!(((found[1] / found[0]).ln() - 7.5).abs() < 1e-12);
    }

    #[test]
    fn where_all_becomes_equal_the_first_stays_first() {
        for (kept, width) in [(Kept::Argmax, 3), (Kept::Order, 2)] {
            let nothing = map::<f32>(kept, &vec![0.0; width * width], &vec![0.0; width]);
            for (given, top) in [([1.0, 2.0, 3.0], 2), ([1.0, 3.0, 3.0], 1), ([2.0; 3], 0)] {
                let found = of(&nothing, &given);
                assert_eq!(largest(3, |class| found[usize::from(class)]), top, "{found:?}");
                assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_is_no_logit_is_nan_and_large_ones_are_no_trouble() {
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let margins = map::<f32>(Kept::Argmax, &identity, &[0.0; 3]);
        let gaps = map::<f32>(Kept::Order, &[1.0, 0.0, 0.0, 1.0], &[0.0; 2]);
        for map in [margins, gaps] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(of(&map, &[0.0, bad, 1.0]).iter().all(|p| p.is_nan()), "{bad}");
            }
            assert_eq!(of(&map, &[-3e38, 3e38, 0.0]), [0.0, 1.0, 0.0]);
        }
    }
}
