//! Transforms between the array and a score: from a model's numbers to probabilities, tile by tile.

use super::tile::padded;
use super::{Band, Tile};
use crate::num::real::Real;

/// A map from a model's numbers to probabilities: softmax, normalisation, or a fitted scaler. It needs no array of its own,
/// because probabilities are made as the maps are read.
pub trait Transform<R: Real>: Send + Sync {
    /// Writes the probabilities of the pixels `at`, for which the model gave `given`.
    ///
    /// A pixel with an invalid number must become NaN in some class: the checks then look at the given numbers, and name
    /// the bad one.
    fn apply(
        &self,
        given: &Tile<'_, R>,
        at: &Band,
        buffers: &mut PixelBuffers<R>,
        out: &mut PlanesMut<'_, R>,
    );
}

/// Buffers of one number for each pixel of a tile, reused from tile to tile.
#[derive(Default)]
pub struct PixelBuffers<R>(Vec<Vec<R>>);

impl<R: Copy> PixelBuffers<R> {
    /// `N` buffers of `len` numbers, each filled with its own.
    pub fn fill<const N: usize>(&mut self, len: usize, with: [R; N]) -> [&mut [R]; N] {
        self.0.resize_with(self.0.len().max(N), Vec::new);
        let mut buffers = self.0.iter_mut().zip(with).map(|(buffer, value)| {
            buffer.clear();
            buffer.resize(len, value);
            buffer.as_mut_slice()
        });
        std::array::from_fn(|_| buffers.next().expect("N of them"))
    }
}

/// Values of all classes of some pixels, to be written to.
pub struct PlanesMut<'a, T> {
    data: &'a mut [T],
    stride: usize,
    len: usize,
}

impl<'a, T: Copy + Default> PlanesMut<'a, T> {
    /// Planes of `len` pixels in a buffer. What was in it may still be there.
    pub fn new(buffer: &'a mut Vec<T>, n_classes: usize, len: usize) -> Self {
        let stride = padded(len);
        buffer.resize(n_classes * stride, T::default());
        Self { data: buffer, stride, len }
    }

    /// Planes `stride` values apart. The last may end with the data.
    pub(crate) fn strided(data: &'a mut [T], stride: usize, len: usize) -> Self {
        Self { data, stride, len }
    }

    /// One run for each class, a value for each pixel.
    pub fn runs(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.data.chunks_mut(self.stride).map(|run| &mut run[..self.len])
    }

    /// The run of a class of planes in a buffer, with the padding behind it: whole vectors fit.
    pub(crate) fn padded_run(&mut self, class: usize) -> &mut [T] {
        &mut self.data[class * self.stride..][..self.stride]
    }

    /// The tile of them.
    pub fn into_tile(self) -> Tile<'a, T> {
        Tile::new(self.data, self.stride, self.len, self.data.len() / self.stride)
    }
}
