//! From logits, or from scores of any sum, to probabilities, tile by tile.
//!
//! `p_k = e^(x_k - m) / sum_j e^(x_j - m)` with `m` the largest logit (exactly 0 in the tail, see [`crate::num::exp`]), or
//! `p_k = (x_k / m) / sum_j (x_j / m)`. Sums are compensated (Kahan): of 150 classes the float32 result is within
//! some units in its last place. A logit of minus infinity masks its class, whose probability is then exactly 0, if another
//! logit of the pixel is finite. A pixel with any other number that is not finite becomes NaN in all classes, and so does
//! one whose scores sum to 0.

use super::{Band, PixelBuffers, PlanesMut, Tile, Transform, stream};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// Softmax of logits.
pub struct Softmax;

/// Scores over their sum.
pub struct Normalise;

impl<R: Real> Transform<R> for Softmax {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        _: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        shares(given, R::neg_infinity(), exponentials, buffers, out);
    }
}

impl<R: Real> Transform<R> for Normalise {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        _: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        // The largest number is at least 0 here. If no score is above 0, there is nothing to divide by.
        shares(given, R::zero(), ratios, buffers, out);
    }
}

/// Odds of one class from its plane and the largest numbers, added to the sums.
type Odds<R> = fn(&[R], &[R], &mut [R], &mut [R], &mut [R]);

/// Finds the largest number of each pixel, at least `least`, makes odds of it and the others, and divides by their sum.
fn shares<R: Real>(
    given: &Tile<'_, R>,
    least: R,
    odds: Odds<R>,
    buffers: &mut PixelBuffers<R>,
    out: &mut PlanesMut<'_, R>,
) {
    let [largest, sums, lost] = buffers.fill(given.len(), [least, R::zero(), R::zero()]);
    stream!(given, |planes, _k| maximum(planes, largest));
    for (k, run) in out.runs().enumerate() {
        odds(given.plane(k), largest, sums, lost, run);
    }
    invert(sums);
    for run in out.runs() {
        scale(run, sums);
    }
}

#[apply(vectorised!)]
fn maximum<R: Real, const N: usize>(planes: [&[R]; N], largest: &mut [R]) {
    let planes = planes.map(|plane| &plane[..largest.len()]);
    for (j, largest) in largest.iter_mut().enumerate() {
        for plane in &planes {
            *largest = if plane[j] > *largest { plane[j] } else { *largest };
        }
    }
}

#[apply(vectorised!)]
fn exponentials<R: Real>(plane: &[R], largest: &[R], sums: &mut [R], lost: &mut [R], out: &mut [R]) {
    let len = plane.len();
    let (largest, out) = (&largest[..len], &mut out[..len]);
    let (sums, lost) = (&mut sums[..len], &mut lost[..len]);
    for j in 0..len {
        let x = plane[j] - largest[j];
        out[j] = x.exp_of_nonpositive();
        (sums[j], lost[j]) = compensated(sums[j], lost[j], out[j]);
    }
}

#[apply(vectorised!)]
fn ratios<R: Real>(plane: &[R], largest: &[R], sums: &mut [R], lost: &mut [R], out: &mut [R]) {
    let len = plane.len();
    let (largest, out) = (&largest[..len], &mut out[..len]);
    let (sums, lost) = (&mut sums[..len], &mut lost[..len]);
    for j in 0..len {
        out[j] = plane[j] / largest[j];
        (sums[j], lost[j]) = compensated(sums[j], lost[j], out[j]);
    }
}

/// A sum and its rounding error, after one more number.
#[inline(always)]
fn compensated<R: Real>(sum: R, lost: R, x: R) -> (R, R) {
    let x = x - lost;
    let total = sum + x;
    (total, (total - sum) - x)
}

#[apply(vectorised!)]
fn invert<R: Real>(sums: &mut [R]) {
    for sum in sums {
        *sum = R::one() / *sum;
    }
}

#[apply(vectorised!)]
fn scale<R: Real>(run: &mut [R], factors: &[R]) {
    for (value, &factor) in run.iter_mut().zip(factors) {
        *value = *value * factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<R: Real>(transform: &impl Transform<R>, given: &[R]) -> Vec<R> {
        let (tile, at) = (Tile::new(given, 1, 1, given.len()), Band { image: 0, pixels: 0..1 });
        let mut buffer = Vec::new();
        let mut out = PlanesMut::new(&mut buffer, given.len(), 1);
        transform.apply(&tile, &at, &mut PixelBuffers::default(), &mut out);
        out.runs().map(|run| run[0]).collect()
    }

    fn softmax(logits: &[f32]) -> Vec<f32> {
        of(&Softmax, logits)
    }

    #[test]
    fn softmax_is_within_a_millionth() {
        // Equal logits, and a sum in which a plain float32 sum would lose all but the first term.
        let mut long = vec![0.0_f32; 150];
        long[1..].fill(-16.7);
        for logits in [vec![2.0, 1.0, 0.0, -3.0], vec![0.3; 150], vec![-1e4, 1e4, 88.0], long] {
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let odds: Vec<f64> = logits.iter().map(|x| (f64::from(*x) - f64::from(largest)).exp()).collect();
            let sum: f64 = odds.iter().sum();
            for (found, odds) in softmax(&logits).into_iter().zip(odds) {
                assert!((f64::from(found) - odds / sum).abs() < 2e-7, "{found} for {}", odds / sum);
            }
        }
    }

    #[test]
    fn logits_may_be_as_large_as_floats_are() {
        assert_eq!(softmax(&[3e38, -3e38, 0.0]), [1.0, 0.0, 0.0]);
        assert_eq!(softmax(&[-3e38, -3e38]), [0.5, 0.5]);
    }

    #[test]
    fn what_is_no_logit_makes_the_pixel_nan() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(softmax(&[0.0, bad, 1.0]).iter().all(|p| p.is_nan()), "{bad}");
            assert!(softmax(&[0.0, bad, f32::NEG_INFINITY]).iter().all(|p| p.is_nan()), "{bad}");
        }
        assert!(softmax(&[f32::NEG_INFINITY; 3]).iter().all(|p| p.is_nan()));
    }

    #[test]
    fn minus_infinity_masks_a_class() {
        const MASKED: f32 = f32::NEG_INFINITY;
        let [first, second] = softmax(&[0.0, 1.0])[..] else { unreachable!() };
        assert_eq!(softmax(&[MASKED, 0.0, MASKED, 1.0]), [0.0, first, 0.0, second]);
        assert_eq!(softmax(&[MASKED, -3e38]), [0.0, 1.0]);
    }

    #[test]
    fn scores_over_their_sum() {
        assert_eq!(of(&Normalise, &[1.0_f64, 0.0, 3.0]), [0.25, 0.0, 0.75]);
        assert!(of(&Normalise, &[0.0_f64; 3]).iter().all(|p| p.is_nan()));
        for tiny in [1e-40_f32, 3e38] {
            let found = of(&Normalise, &[tiny, 3.0 * (tiny / 4.0)]);
            assert!(
                (found[0] - 4.0 / 7.0).abs() < 1e-4 && (found[0] + found[1] - 1.0).abs() < 1e-6,
                "{found:?}"
            );
        }
        assert!(!(of(&Normalise, &[-1.0_f32, -2.0])[0] >= 0.0));
    }
}
