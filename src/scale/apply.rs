//! Fitted maps in front of a score: probabilities are made as logits are read.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ArrayViewMut3, s};

use super::tempered::{keep_top, top_of};
use crate::error::Result;
use crate::maps::normalisation::{SLACK, TOLERANCE, check};
use crate::maps::{
    Band, PixelBuffers, PlanesMut, ScoreMaps, Scratch, Softmax, Tile, Transform, bands_mut, visit_bands,
};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};
use crate::threads::Cancel;

/// A smaller probability gets the logarithm of this one.
const LEAST: f64 = 1e-12;

/// The features `u` of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Features {
    /// The logits.
    Logits,
    /// The logarithms of their softmax.
    LogSoftmax,
    /// The logarithms of the given probabilities.
    Logarithms,
}

impl Features {
    /// `u` of a tile, plane after plane.
    pub(super) fn planes<R: Real>(self, given: &Tile<'_, R>, buffers: &mut PixelBuffers<R>) -> Vec<R> {
        let (n_classes, len) = (given.n_classes(), given.len());
        let mut planes: Vec<R> =
            (0..n_classes).flat_map(|class| given.plane(class).iter().copied()).collect();
        if self == Self::Logarithms {
            let [sums] = buffers.fill(len, [R::zero()]);
            planes.chunks_exact(len).for_each(|plane| accumulate(plane, sums));
            planes.chunks_exact_mut(len).for_each(|plane| logarithms(plane, sums));
        }
        if self == Self::LogSoftmax {
            // Computed from the logits: the logarithm of a probability of 0 would lose their information.
            take_largest(&mut planes, len, buffers);
            let [sums] = buffers.fill(len, [R::zero()]);
            planes.chunks_exact(len).for_each(|plane| add_exponentials(plane, sums));
            for sum in &mut *sums {
                *sum = sum.ln();
            }
            planes.chunks_exact_mut(len).for_each(|plane| subtract(plane, sums));
        }
        planes
    }
}

/// Subtracts the largest number of each pixel: later rounding errors then depend on the differences of the numbers, not on
/// their size.
fn take_largest<R: Real>(planes: &mut [R], len: usize, buffers: &mut PixelBuffers<R>) {
    let [largest] = buffers.fill(len, [R::neg_infinity()]);
    planes.chunks_exact(len).for_each(|plane| raise(plane, largest));
    planes.chunks_exact_mut(len).for_each(|plane| subtract(plane, largest));
}

/// Softmax of `W u + b`.
#[derive(Debug, Clone)]
pub struct Affine<R> {
    weight: Vec<R>,
    bias: Vec<R>,
    features: Features,
}

impl<R: Real> Affine<R> {
    /// `weight` holds 1, K or K x K numbers (row by row), `bias` K or none.
    pub fn new(weight: &[f64], bias: &[f64], features: Features) -> Self {
        let rounded = |values: &[f64]| values.iter().map(|&value| R::round_from(value)).collect();
        Self { weight: rounded(weight), bias: rounded(bias), features }
    }

    /// Whether adding a constant to all classes of a pixel changes nothing.
    fn is_scalar(&self) -> bool {
        self.weight.len() == 1 && self.bias.is_empty()
    }

    /// Whether classes are ranked as in the given numbers.
    pub(super) fn keeps_order(&self) -> bool {
        self.is_scalar() && self.weight[0] > R::zero()
    }

    /// `W u + b` of a tile, plane after plane.
    pub(super) fn planes(&self, given: &Tile<'_, R>, buffers: &mut PixelBuffers<R>) -> Vec<R> {
        let (n_classes, len) = (given.n_classes(), given.len());
        let mut planes = self.features.planes(given, buffers);
        if self.weight.len() == n_classes * n_classes {
            let weight = ArrayView2::from_shape((n_classes, n_classes), &self.weight).expect("K x K numbers");
            let features = ArrayView2::from_shape((n_classes, len), &planes).expect("K planes");
            let mut mixed = vec![R::zero(); planes.len()];
            let mut out = ArrayViewMut2::from_shape((n_classes, len), &mut mixed).expect("K planes");
            general_mat_mul(R::one(), &weight, &features, R::zero(), &mut out);
            planes = mixed;
        } else {
            if self.is_scalar() {
                take_largest(&mut planes, len, buffers);
            }
            for (k, plane) in planes.chunks_exact_mut(len).enumerate() {
                multiply(plane, self.weight[k % self.weight.len()]);
            }
        }
        for (plane, &bias) in planes.chunks_exact_mut(len).zip(&self.bias) {
            add(plane, bias);
        }
        planes
    }
}

impl<R: Real> Transform<R> for Affine<R> {
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    ) {
        let planes = self.planes(given, buffers);
        let tile = Tile::new(&planes, given.len(), given.len(), given.n_classes());
        Softmax.apply(&tile, at, buffers, out);
        if self.keeps_order() {
            keep_top(&top_of(given), out); // rounding may make probabilities equal
        }
    }
}

/// Writes the probabilities that are made of maps; `out` is `(n, K, pixels)`.
pub fn probabilities<R: Real>(
    maps: &ScoreMaps<'_, R>,
    out: ArrayViewMut3<'_, R>,
    cancel: &Cancel,
) -> Result<()> {
    visit_bands(maps, bands_mut(out), cancel, |work: &mut Work<R>, band, mut out| {
        let mut reader = maps.tiles(band.image, &mut work.scratch);
        for pixels in band.runs(reader.tile_len()) {
            cancel.check()?;
            let mut out = out.slice_mut(s![.., band.offset_of(&pixels)]);
            let tile = reader.read(pixels.clone());
            work.sums.clear();
            work.sums.resize(tile.len(), R::zero());
            let mut signs = R::Bits::default();
            for (class, mut out) in out.rows_mut().into_iter().enumerate() {
                let out = out.as_slice_mut().expect("the pixels of a class are contiguous");
                signs |= copy_and_add(tile.plane(class), out, &mut work.sums);
            }
            check(&tile, &work.sums, signs, None, &maps.place(band.image, pixels))?;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Work<R> {
    scratch: Scratch<R>,
    sums: Vec<R>,
}

#[apply(vectorised!)]
fn copy_and_add<R: Real>(plane: &[R], out: &mut [R], sums: &mut [R]) -> R::Bits {
    let mut signs = R::Bits::default();
    for ((&p, out), sum) in plane.iter().zip(out).zip(sums) {
        signs |= p.bits();
        *out = p;
        *sum += p;
    }
    signs
}

#[apply(vectorised!)]
fn accumulate<R: Real>(plane: &[R], sums: &mut [R]) {
    for (&p, sum) in plane.iter().zip(sums) {
        *sum += p;
    }
}

/// Numbers that are no probabilities become NaN.
fn logarithms<R: Real>(plane: &mut [R], sums: &[R]) {
    let (least, tolerance) = (R::round_from(LEAST), R::round_from(TOLERANCE + SLACK));
    for (p, &sum) in plane.iter_mut().zip(sums) {
        let is_share = *p >= R::zero() && (sum - R::one()).abs() <= tolerance;
        *p = if is_share { p.max(least).ln() } else { R::nan() };
    }
}

#[apply(vectorised!)]
fn raise<R: Real>(plane: &[R], largest: &mut [R]) {
    for (&x, largest) in plane.iter().zip(largest) {
        *largest = largest.max(x);
    }
}

#[apply(vectorised!)]
fn add_exponentials<R: Real>(plane: &[R], sums: &mut [R]) {
    for (&x, sum) in plane.iter().zip(sums) {
        *sum += x.exp_of_nonpositive();
    }
}

#[apply(vectorised!)]
fn subtract<R: Real>(plane: &mut [R], shifts: &[R]) {
    for (x, &shift) in plane.iter_mut().zip(shifts) {
        *x = *x - shift;
    }
}

#[apply(vectorised!)]
fn multiply<R: Real>(plane: &mut [R], factor: R) {
    for x in plane {
        *x = *x * factor;
    }
}

#[apply(vectorised!)]
fn add<R: Real>(plane: &mut [R], shift: R) {
    for x in plane {
        *x += shift;
    }
}
