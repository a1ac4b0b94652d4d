//! APS, adaptive prediction sets: the score of a label is the probability of all labels that are more probable.
//!
//! `s_k = sum of p_j over the j before k`, where `j` comes before `k` if `p_j > p_k`, or if they are equal and `j < k`. The
//! most probable label has score 0. This file computes those sums; [`super::Raps`] makes a score of them, APS being RAPS
//! without a penalty.
//!
//! The score must not depend on the order in which a kernel happens to add. So each probability counts as the nearest
//! multiple of 2^-53 (which changes nothing above 2^-29 in float32): float64 sums up to 1 of such numbers are exact, hence the
//! same in any order, and ordered as the labels are; a sum beyond 1 counts as 1. No sort is needed: the labels before another
//! are found by comparison.
//!
//! Romano, Sesia, Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020, without randomisation.

use multiversion::multiversion;

use super::restart;
use crate::maps::Tile;
use crate::real::Real;

/// Pixels whose sums are in registers at once.
const LANES: usize = 16;

/// A probability as a multiple of 2^-53, which one of at least 1/2 is anyway.
#[inline(always)]
fn grain<R: Real>(p: R) -> f64 {
    let p: f64 = p.into();
    if p < 0.5 { (p + 0.5) - 0.5 } else { p }
}

/// The mass and the number of the labels before one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    pub mass: f64,
    pub count: u32,
}

/// What is before the label `class`, of probability `value`, at pixel `j`.
pub fn before<R: Real>(tile: &Tile<'_, R>, j: usize, class: usize, value: R) -> Before {
    let mut found = Before { mass: 0.0, count: 0 };
    for k in 0..tile.n_classes() {
        let p = tile.plane(k)[j];
        if p > value || (p == value && k < class) {
            found.mass += grain(p);
            found.count += 1;
        }
    }
    found
}

/// The scores of all labels of a tile.
#[derive(Default)]
pub struct Criticals<R> {
    values: Vec<f64>,
    stride: usize,
    len: usize,
    n_classes: usize,
    block: Vec<Block<R>>,
}

impl<R: Real> Criticals<R> {
    /// Computes them: `score` of what is before each label.
    pub fn compute(&mut self, tile: &Tile<'_, R>, score: impl Fn(Before) -> f64) -> Tile<'_, f64> {
        (self.len, self.n_classes) = (tile.len(), tile.n_classes());
        self.stride = tile.len().next_multiple_of(LANES);
        self.values.resize(self.n_classes * self.stride, 0.0);
        restart(&mut self.block, self.n_classes, Block::default());
        for first in (0..tile.len()).step_by(LANES) {
            let lanes = LANES.min(tile.len() - first);
            for (k, block) in self.block.iter_mut().enumerate() {
                for (l, &p) in tile.plane(k)[first..][..lanes].iter().enumerate() {
                    (block.p[l], block.grains[l]) = (p, grain(p));
                }
            }
            sum_before(&mut self.block);
            for (k, block) in self.block.iter().enumerate() {
                let run = &mut self.values[k * self.stride + first..][..LANES];
                for (l, value) in run.iter_mut().enumerate() {
                    *value = score(Before { mass: block.masses[l], count: block.counts[l] });
                }
            }
        }
        Tile::new(&self.values, self.stride, self.len, self.n_classes)
    }
}

/// One label at some pixels.
#[derive(Clone, Copy, Default)]
struct Block<R> {
    p: [R; LANES],
    grains: [f64; LANES],
    masses: [f64; LANES],
    counts: [u32; LANES],
}

/// Compares every label with every other: for some tens of classes faster than a sort, as all pixels do the same.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn sum_before<R: Real>(labels: &mut [Block<R>]) {
    for k in 0..labels.len() {
        let own = labels[k].p;
        let (mut masses, mut counts) = ([0.0; LANES], [0; LANES]);
        for other in &labels[..k] {
            for l in 0..LANES {
                let is_before = other.p[l] >= own[l];
                masses[l] += if is_before { other.grains[l] } else { 0.0 };
                counts[l] += u32::from(is_before);
            }
        }
        for other in &labels[k + 1..] {
            for l in 0..LANES {
                let is_before = other.p[l] > own[l];
                masses[l] += if is_before { other.grains[l] } else { 0.0 };
                counts[l] += u32::from(is_before);
            }
        }
        (labels[k].masses, labels[k].counts) = (masses, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masses(p: &[f64]) -> Vec<f64> {
        let tile = Tile::new(p, 1, 1, p.len());
        let mut criticals = Criticals::default();
        let all = criticals.compute(&tile, |before| before.mass);
        let found: Vec<f64> = (0..p.len()).map(|k| all.plane(k)[0]).collect();
        for (k, &mass) in found.iter().enumerate() {
            assert_eq!(before(&tile, 0, k, p[k]).mass, mass);
        }
        found
    }

    #[test]
    fn by_hand() {
        assert_eq!(masses(&[0.5, 0.375, 0.125]), [0.0, 0.5, 0.875]);
        assert_eq!(masses(&[0.25, 0.25, 0.25, 0.25]), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(masses(&[0.125, 0.25, 0.5, 0.125]), [0.75, 0.5, 0.0, 0.875]);
    }

    #[test]
    fn sums_do_not_depend_on_the_order_of_the_classes() {
        let mut p: Vec<f64> = (1..40).map(|k| 1.0 / f64::from(k * k * k)).collect();
        let total: f64 = p.iter().sum();
        for p in &mut p {
            *p /= total;
        }
        let forward = masses(&p);
        p.reverse();
        let mut backward = masses(&p);
        backward.reverse();
        assert_eq!(forward, backward);
        assert!(forward.is_sorted());
    }
}
