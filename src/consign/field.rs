//! The fields of an image: a mean and components, and the labels that their argmax gives.

use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// Pixels whose scores are computed together.
const TILE: usize = 256;
/// Pixels between two checks for cancellation.
const RUN: usize = 1 << 16;
/// What errors call the planes.
const PLANES: &str = "the mean and the components of pixels";

/// Scores `mean_l + sum_k c_k u_kl` of some pixels, by planes.
///
/// They are *defined* as float64 sums from the left, each product rounded, and the label of a pixel as the lowest with the
/// largest score: NumPy's `mean + c[0] * u[0] + ...` and `argmax` give the same bits.
#[derive(Debug, Clone)]
pub struct Field {
    n_labels: usize,
    n_pixels: usize,
    n_components: usize,
    /// `(K, pixels)`.
    mean: Vec<f64>,
    /// `(k, K, pixels)`.
    components: Vec<f64>,
}

impl Field {
    /// `mean` is `(K, pixels)`, `components` `(k, K, pixels)`, both in row-major order.
    pub fn new(n_labels: usize, n_components: usize, mean: Vec<f64>, components: Vec<f64>) -> Self {
        let n_pixels = mean.len() / n_labels;
        assert_eq!(mean.len(), n_labels * n_pixels, "planes of one size");
        assert_eq!(components.len(), n_components * mean.len(), "components like the mean");
        Self { n_labels, n_pixels, n_components, mean, components }
    }

    /// K.
    pub fn n_labels(&self) -> usize {
        self.n_labels
    }

    /// Number of pixels.
    pub fn n_pixels(&self) -> usize {
        self.n_pixels
    }

    /// Number of components.
    pub fn n_components(&self) -> usize {
        self.n_components
    }

    /// The mean of one label.
    pub fn mean(&self, label: usize) -> &[f64] {
        &self.mean[label * self.n_pixels..(label + 1) * self.n_pixels]
    }

    /// A component of one label.
    pub fn component(&self, component: usize, label: usize) -> &[f64] {
        let first = (component * self.n_labels + label) * self.n_pixels;
        &self.components[first..first + self.n_pixels]
    }

    /// The field of some of the pixels.
    pub fn select(&self, pixels: &[u32], cancel: &Cancel) -> Result<Self> {
        let n_planes = self.n_labels * pixels.len();
        let mut mean = memory::with_room(n_planes, PLANES)?;
        let mut components = memory::with_room(self.n_components * n_planes, PLANES)?;
        let take = |plane: &[f64], out: &mut Vec<f64>| {
            for pixels in pixels.chunks(RUN) {
                cancel.check()?;
                out.extend(pixels.iter().map(|&pixel| plane[pixel as usize]));
            }
            Ok(())
        };
        for label in 0..self.n_labels {
            take(self.mean(label), &mut mean)?;
        }
        for k in 0..self.n_components {
            for label in 0..self.n_labels {
                take(self.component(k, label), &mut components)?;
            }
        }
        let (n_labels, n_components) = (self.n_labels, self.n_components);
        Ok(Self { n_labels, n_components, n_pixels: pixels.len(), mean, components })
    }

    /// The labels of all pixels.
    pub fn label_map(&self, coefficients: &[f64], cancel: &Cancel) -> Result<Vec<u16>> {
        let mut map = memory::with_room(self.n_pixels, "the labels of pixels")?;
        self.labels(coefficients, cancel, |_, labels| map.extend_from_slice(labels))?;
        Ok(map)
    }

    /// Calls `visit(first pixel, labels of a tile)` for all pixels in order.
    pub fn labels(
        &self,
        coefficients: &[f64],
        cancel: &Cancel,
        mut visit: impl FnMut(usize, &[u16]),
    ) -> Result<()> {
        let (mut scores, mut largest) = ([0.0_f64; TILE], [0.0_f64; TILE]);
        let mut labels = [0_u16; TILE];
        for first in (0..self.n_pixels).step_by(TILE) {
            let pixels = first..(first + TILE).min(self.n_pixels);
            let len = pixels.len();
            cancel.check()?;
            for label in 0..self.n_labels {
                let scores = &mut scores[..len];
                scores.copy_from_slice(&self.mean(label)[pixels.clone()]);
                for (k, &c) in coefficients.iter().enumerate().take(self.n_components) {
                    for (score, &u) in scores.iter_mut().zip(&self.component(k, label)[pixels.clone()]) {
                        *score += c * u;
                    }
                }
                if label == 0 {
                    largest[..len].copy_from_slice(scores);
                    labels[..len].fill(0);
                    continue;
                }
                for ((score, largest), found) in scores.iter().zip(&mut largest).zip(&mut labels) {
                    let is_larger = *score > *largest;
                    *largest = if is_larger { *score } else { *largest };
                    *found = if is_larger { label as u16 } else { *found };
                }
            }
            visit(first, &labels[..len]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_lowest_of_equals() {
        let mean = vec![0.5, 0.1, 0.5, 0.3, 0.5, 0.3];
        let field = Field::new(3, 1, mean, vec![0.0, 0.0, 0.0, 0.0, 1.0, -0.5]);
        let cancel = Cancel::default();
        let labels = |c: f64| field.label_map(&[c], &cancel).unwrap();
        assert_eq!(labels(0.0), [0, 1]);
        assert_eq!(labels(0.25), [2, 1]);
        assert_eq!(labels(-0.25), [0, 2]);
        assert_eq!(field.select(&[1], &cancel).unwrap().mean(2), [0.3]);
        assert_eq!(field.select(&[1, 0], &cancel).unwrap().component(0, 2), [-0.5, 1.0]);
    }
}
