//! A temperature for each pixel: `softmax(s u)`, where `u` are logits, or the result of another map for them, and `s` is a
//! number of the pixel, one over its temperature. With `s = 0` all classes are equally probable.
//!
//! The most probable class stays that of `u`, whatever `s` is. If rounding makes the probability of a class with a lower index
//! equally large, it is replaced by the next smaller number.

use multiversion::target::target_cfg_f;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use super::apply::Affine;
use super::objective::{CACHED, Pixels, fold_runs};
use super::ordered::Ordered;
use crate::error::Result;
use crate::maps::{Band, PixelBuffers, PlanesMut, Softmax, Tile, Transform};
use crate::memory;
use crate::num::exp::odds;
use crate::num::real::Real;
use crate::simd::{apply, fused, vectorised};
use crate::threads::Cancel;

/// The logits of some pixels, of which softmax is taken.
pub struct Logits<R> {
    /// Plane after plane.
    planes: Vec<R>,
    /// The class that is to stay the most probable one.
    top: Vec<u16>,
}

impl<R: Real> Logits<R> {
    fn new(planes: Vec<R>, ranked: &Tile<'_, R>) -> Self {
        Self { planes, top: top_of(ranked) }
    }

    fn softmax(&self, at: &Band, buffers: &mut PixelBuffers<R>, out: &mut PlanesMut<'_, R>) {
        let len = self.top.len();
        let tile = Tile::new(&self.planes, len, len, self.planes.len() / len);
        Softmax.apply(&tile, at, buffers, out);
    }
}

/// The class of each pixel's largest number, the lowest of those.
pub(super) fn top_of<R: Real>(ranked: &Tile<'_, R>) -> Vec<u16> {
    let len = ranked.len();
    let (mut top, mut largest) = (vec![0; len], vec![R::neg_infinity(); len]);
    for class in 0..ranked.n_classes() {
        rank(ranked.plane(class), class as u16, &mut largest, &mut top);
    }
    top
}

/// A map that gives logits, on which another map may build.
pub trait Base<R: Real>: Send + Sync {
    /// The logits of the pixels `at`, for which the model gave `given`.
    fn logits(&self, given: &Tile<'_, R>, at: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R>;
}

impl<R: Real> Base<R> for Box<dyn Base<R> + '_> {
    fn logits(&self, given: &Tile<'_, R>, at: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R> {
        (**self).logits(given, at, buffers)
    }
}

impl<R: Real> Base<R> for Affine<R> {
    fn logits(&self, given: &Tile<'_, R>, _: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R> {
        let planes = self.planes(given, buffers);
        if self.keeps_order() {
            return Logits::new(planes, given);
        }
        let tile = Tile::new(&planes, given.len(), given.len(), given.n_classes());
        let Logits { top, .. } = Logits::new(Vec::new(), &tile);
        Logits { planes, top }
    }
}

impl<R: Real> Base<R> for Ordered<R> {
    fn logits(&self, given: &Tile<'_, R>, _: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R> {
        let (planes, top) = self.logits_and_top(given, buffers);
        Logits { planes, top }
    }
}

/// Numbers of the pixels of a batch, `(n, pixels)`.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// The numbers of one image after another.
    pub values: &'a [f32],
    /// The number of pixels of one image.
    pub n_pixels: usize,
}

impl<'a> Field<'a> {
    fn at(&self, band: &Band) -> &'a [f32] {
        &self.values[band.image * self.n_pixels..][..self.n_pixels][band.pixels.clone()]
    }
}

/// Softmax of logits times a number of each pixel.
pub struct Tempered<'a, B> {
    /// Gives the logits.
    pub base: B,
    /// One over the temperature of each pixel.
    pub factors: Field<'a>,
}

impl<R: Real, B: Base<R>> Base<R> for Tempered<'_, B> {
    fn logits(&self, given: &Tile<'_, R>, at: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R> {
        let mut logits = self.base.logits(given, at, buffers);
        let factors = self.factors.at(at);
        logits.planes.chunks_exact_mut(given.len()).for_each(|plane| multiply(plane, factors));
        logits
    }
}

impl<R: Real, B: Base<R>> Transform<R> for Tempered<'_, B> {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        let logits = self.logits(given, at, buffers);
        logits.softmax(at, buffers, out);
        keep_top(&logits.top, out);
    }
}

/// `r softmax(a u) + (1 - r) softmax(b u)`, `r` a number of the pixel.
pub struct Blended<'a, B> {
    /// Gives the logits.
    pub base: B,
    /// `a` and `b`.
    pub factors: [f64; 2],
    /// `r`.
    pub shares: Field<'a>,
}

impl<B> Blended<'_, B> {
    /// The blend, and the class that is to stay the most probable one.
    fn blend<R: Real>(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) -> Vec<u16>
    where
        B: Base<R>,
    {
        let mut first = self.base.logits(given, at, buffers);
        let mut second = Logits { planes: first.planes.clone(), top: first.top.clone() };
        let [a, b] = self.factors.map(R::round_from);
        first.planes.iter_mut().for_each(|u| *u = *u * a);
        second.planes.iter_mut().for_each(|u| *u = *u * b);
        first.softmax(at, buffers, out);
        let mut other = Vec::new();
        let mut other = PlanesMut::new(&mut other, given.n_classes(), given.len());
        second.softmax(at, buffers, &mut other);
        for (run, other) in out.runs().zip(other.runs()) {
            mix(run, other, self.shares.at(at));
        }
        first.top
    }
}

impl<R: Real, B: Base<R>> Base<R> for Blended<'_, B> {
    fn logits(&self, given: &Tile<'_, R>, at: &Band, buffers: &mut PixelBuffers<R>) -> Logits<R> {
        let mut planes = vec![R::zero(); given.n_classes() * given.len()];
        let mut out = PlanesMut::strided(&mut planes, given.len(), given.len());
        let top = self.blend(given, at, buffers, &mut out);
        for p in &mut planes {
            *p = if p.is_nan() { *p } else { p.max(R::min_positive_value()).ln() };
        }
        Logits { planes, top }
    }
}

impl<R: Real, B: Base<R>> Transform<R> for Blended<'_, B> {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        let top = self.blend(given, at, buffers, out);
        keep_top(&top, out);
    }
}

/// Makes sure that no class is more probable than the class in `top`, or equally probable with a lower index.
pub(super) fn keep_top<R: Real>(top: &[u16], out: &mut PlanesMut<'_, R>) {
    let mut largest = vec![R::zero(); top.len()];
    for (class, run) in out.runs().enumerate() {
        find(run, class as u16, top, &mut largest);
    }
    for (class, run) in out.runs().enumerate() {
        lower(run, class as u16, top, &largest);
    }
}

#[apply(vectorised!)]
fn find<R: Real>(run: &[R], class: u16, top: &[u16], largest: &mut [R]) {
    for ((&p, &top), largest) in run.iter().zip(top).zip(largest) {
        *largest = if top == class { p } else { *largest };
    }
}

#[apply(vectorised!)]
fn lower<R: Real>(run: &mut [R], class: u16, top: &[u16], largest: &[R]) {
    // The next smaller number of x is x times that, rounded.
    let below = R::one() - R::epsilon() * R::round_from(0.5);
    for ((p, &top), &largest) in run.iter_mut().zip(top).zip(largest) {
        let most = if class < top { largest * below } else { largest };
        *p = if *p > most { most } else { *p };
    }
}

#[apply(vectorised!)]
fn rank<R: Real>(plane: &[R], class: u16, largest: &mut [R], top: &mut [u16]) {
    for ((&x, largest), top) in plane.iter().zip(largest).zip(top) {
        let is_larger = x > *largest;
        *largest = if is_larger { x } else { *largest };
        *top = if is_larger { class } else { *top };
    }
}

fn multiply<R: Real>(plane: &mut [R], factors: &[f32]) {
    for (x, &factor) in plane.iter_mut().zip(factors) {
        *x = *x * R::round_from(f64::from(factor));
    }
}

fn mix<R: Real>(run: &mut [R], other: &[R], shares: &[f32]) {
    for ((p, &q), &share) in run.iter_mut().zip(other).zip(shares) {
        let share = R::round_from(f64::from(share));
        *p = share * *p + (R::one() - share) * q;
    }
}

/// For each pixel: the log loss `log sum_k e^(s u_k) - s u_y`, and its first and second derivative by `s >= 0`, `(N, 3)`.
/// `logits` is `(K, N)`.
pub fn losses(
    logits: &ArrayView2<'_, f64>,
    labels: &[u16],
    factors: &[f64],
    cancel: &Cancel,
) -> Result<Array2<f64>> {
    let (n_classes, n_pixels) = logits.dim();
    let len = (CACHED / n_classes).max(16);
    let mut cells = memory::filled(0.0, 3 * n_pixels, "the losses of pixels", cancel)?;
    cells.par_chunks_mut(3 * len).enumerate().try_for_each_init(
        Moments::default,
        |moments, (block, cells)| -> Result<()> {
            cancel.check()?;
            let at = block * len..block * len + cells.len() / 3;
            let logits = logits.slice(s![.., at.clone()]);
            moments.find(&logits, &factors[at.clone()]);
            for (j, (cell, i)) in cells.as_chunks_mut::<3>().0.iter_mut().zip(at).enumerate() {
                *cell = moments.losses(j, logits[[usize::from(labels[i]), j]], factors[i]);
            }
            Ok(())
        },
    )?;
    Ok(Array2::from_shape_vec((n_pixels, 3), cells).expect("three for each"))
}

/// For each of some runs of pixels: the sums of weighted losses and derivatives, all of one factor, `(G, 3)`.
pub fn sums(pixels: &Pixels<'_>, ends: &[usize], factor: f64, cancel: &Cancel) -> Result<Array2<f64>> {
    fold_runs(pixels, ends, 3, Moments::default, cancel, |block, moments, sums| {
        moments.find(&block.features, &vec![factor; block.labels.len()]);
        for (j, (&label, &weight)) in block.labels.iter().zip(block.weights).enumerate() {
            let losses = moments.losses(j, block.features[[usize::from(label), j]], factor);
            for (sum, loss) in sums.iter_mut().zip(losses) {
                *sum += weight * loss;
            }
        }
    })
}

/// Replaces logits `(K, N)` by the logarithms of their softmax, in place.
pub fn centre(logits: &mut ArrayViewMut2<'_, f64>, cancel: &Cancel) -> Result<()> {
    let len = (CACHED / logits.nrows()).max(16);
    let blocks: Vec<_> = logits.axis_chunks_iter_mut(Axis(1), len).collect();
    blocks.into_par_iter().try_for_each_init(Moments::default, |moments, mut block| {
        cancel.check()?;
        moments.find(&block.view(), &vec![1.0; block.ncols()]);
        let shifts: Vec<f64> = moments
            .largest
            .iter()
            .zip(&moments.totals)
            .map(|(&largest, total)| largest + total.ln())
            .collect();
        for mut plane in block.rows_mut() {
            subtract(plane.as_slice_mut().expect("row by row"), &shifts);
        }
        Ok(())
    })
}

/// Sums over the classes of pixels: of `e^(s d_k)` with `d_k = u_k - max u`, and of these times `d_k` and its square.
#[derive(Default)]
struct Moments {
    largest: Vec<f64>,
    totals: Vec<f64>,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn find(&mut self, logits: &ArrayView2<'_, f64>, factors: &[f64]) {
        let Self { largest, totals, means, squares } = self;
        for (buffer, start) in [
            (&mut *largest, f64::NEG_INFINITY),
            (&mut *totals, 0.0),
            (&mut *means, 0.0),
            (&mut *squares, 0.0),
        ] {
            buffer.clear();
            buffer.resize(factors.len(), start);
        }
        let planes = || logits.rows().into_iter().map(|row| row.to_slice().expect("row by row"));
        planes().for_each(|plane| maximum(plane, largest));
        for plane in planes() {
            add_moments(plane, largest, factors, totals, means, squares);
        }
    }

    /// The log loss of a pixel's label, and its first two derivatives by s.
    fn losses(&self, j: usize, logit: f64, factor: f64) -> [f64; 3] {
        let (mean, square) = (self.means[j] / self.totals[j], self.squares[j] / self.totals[j]);
        let own = logit - self.largest[j];
        [self.totals[j].ln() - factor * own, mean - own, (square - mean * mean).max(0.0)]
    }
}

#[apply(vectorised!)]
fn subtract(plane: &mut [f64], shifts: &[f64]) {
    for (u, &shift) in plane.iter_mut().zip(shifts) {
        *u -= shift;
    }
}

#[apply(vectorised!)]
fn maximum(plane: &[f64], largest: &mut [f64]) {
    for (&u, largest) in plane.iter().zip(largest) {
        *largest = largest.max(u);
    }
}

#[apply(fused!)]
fn add_moments(
    plane: &[f64],
    largest: &[f64],
    factors: &[f64],
    totals: &mut [f64],
    means: &mut [f64],
    squares: &mut [f64],
) {
    let (fused, len) = (target_cfg_f!(target_feature = "fma"), plane.len());
    let (largest, factors, totals) = (&largest[..len], &factors[..len], &mut totals[..len]);
    let (means, squares) = (&mut means[..len], &mut squares[..len]);
    for j in 0..len {
        let below = plane[j] - largest[j];
        let odds = odds(fused, factors[j] * below);
        totals[j] += odds;
        means[j] += odds * below;
        squares[j] += odds * below * below;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::apply::Features;

    fn tempered<R: Real>(given: &[R], factor: f32) -> Vec<R> {
        let (tile, at) = (Tile::new(given, 1, 1, given.len()), Band { image: 0, pixels: 0..1 });
        let base = Affine::new(&[1.0], &[], Features::Logits);
        let map = Tempered { base, factors: Field { values: &[factor], n_pixels: 1 } };
        let mut buffer = Vec::new();
        let mut out = PlanesMut::new(&mut buffer, given.len(), 1);
        map.apply(&tile, &at, &mut PixelBuffers::default(), &mut out);
        out.runs().map(|run| run[0]).collect()
    }

    #[test]
    fn the_first_of_the_largest_stays_so() {
        for factor in [0.0, 1e-30, 1e-10, 1e-4, 1.0] {
            let found = tempered(&[1.0_f32, 3.0, 3.0, 2.0], factor);
            assert!(found[0] < found[1] && found[1] >= found[2] && found[1] >= found[3], "{found:?}");
            assert!((found.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(tempered(&[3.0_f32, 1.0], 0.0), [0.5; 2]);
        assert_eq!(tempered(&[1.0_f32, 3.0], 0.0), [0.5_f32.next_down(), 0.5]);
        assert_eq!(tempered(&[1.0_f64, 3.0], 0.0), [0.5_f64.next_down(), 0.5]);
    }

    #[test]
    fn what_is_no_logit_stays_none() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(tempered(&[0.0, bad, 1.0], 0.0).iter().any(|p| p.is_nan()), "{bad}");
        }
    }

    #[test]
    fn the_next_smaller_number_is_a_product() {
        for x in [1.0_f32, 1.5, 0.1, f32::from_bits(0x3f7f_ffff), f32::from_bits(0x3f80_0001), 1e-30] {
            assert_eq!(x * (1.0 - f32::EPSILON * 0.5), x.next_down());
        }
    }
}
