//! APS, adaptive prediction sets: the score of a label is the probability of all labels that are more probable.
//!
//! `s_k = sum of p_j over the j before k`, where `j` comes before `k` if `p_j > p_k`, or if they are equal and `j < k`. The
//! most probable label has score 0. This file computes those sums; [`super::Raps`] makes a score of them, APS being RAPS
//! without a penalty.
//!
//! The score must not depend on the order in which a kernel happens to add. So each probability counts as the nearest
//! multiple of 2^-53 (which changes nothing above 2^-29 in float32): float64 sums up to 1 of such numbers are exact, hence the
//! same in any order, and ordered as the labels are; a sum beyond 1 counts as 1. So the labels before another one may be found
//! by a sort or, if there are few, by comparison. The sets at one lambda need neither: see [`super::ranked`].
//!
//! Romano, Sesia, Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020, without randomisation.

use super::restart;
use crate::maps::{PlanesMut, Tile};
use crate::num::real::Real;
use crate::simd::{apply, vectorised};

/// A probability as a multiple of 2^-53. Probabilities of at least 1/2 are multiples anyway.
#[inline(always)]
pub fn grain(p: f64) -> f64 {
    let rounded = (p + 0.5) - 0.5;
    if p < 0.5 { rounded } else { p }
}

/// The mass and the number of the labels before one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    pub mass: f64,
    pub count: f64,
}

/// Mass and number of the labels before some labels of a tile, one for each pixel.
#[derive(Default)]
pub struct BeforeSome<R> {
    values: Vec<R>,
    codes: Vec<i32>,
    masses: Vec<f64>,
    counts: Vec<f64>,
}

impl<R: Real> BeforeSome<R> {
    /// Computes it for the labels of the pixels `at`, given label and probability of every pixel.
    pub fn compute(&mut self, tile: &Tile<'_, R>, at: &[u32], codes: &[i32], values: &[R]) {
        self.values.clear();
        self.values.extend(at.iter().map(|&j| values[j as usize]));
        self.codes.clear();
        self.codes.extend(at.iter().map(|&j| codes[j as usize]));
        let Self { values, codes, masses, counts } = self;
        restart(masses, at.len(), 0.0);
        restart(counts, at.len(), 0.0);
        for k in 0..tile.n_classes() {
            add_before(tile.plane(k), k as i32, at, codes, values, masses, counts);
        }
    }

    /// Mass and number of the labels before each.
    pub fn iter(&self) -> impl Iterator<Item = Before> + '_ {
        self.masses.iter().zip(&self.counts).map(|(&mass, &count)| Before { mass, count })
    }
}

#[apply(vectorised!)]
fn add_before<R: Real>(
    plane: &[R],
    k: i32,
    at: &[u32],
    codes: &[i32],
    values: &[R],
    masses: &mut [f64],
    counts: &mut [f64],
) {
    let len = at.len();
    let (codes, values) = (&codes[..len], &values[..len]);
    let (masses, counts) = (&mut masses[..len], &mut counts[..len]);
    for i in 0..len {
        let (p, value) = (plane[at[i] as usize], values[i]);
        let is_before = (p > value) | ((p == value) & (k < codes[i]));
        masses[i] += only_if(is_before, grain(p.into()));
        counts[i] += only_if(is_before, 1.0);
    }
}

/// `x` or 0, by bits: the compiler might turn a choice into a branch.
#[inline(always)]
fn only_if(condition: bool, x: f64) -> f64 {
    f64::from_bits(x.to_bits() & u64::from(condition).wrapping_neg())
}

/// Pixels whose sums are in registers at once.
const LANES: usize = 16;

/// With more classes, labels are sorted.
const SORTED: usize = 96;

/// A number for each of some pixels.
type Lanes = [f64; LANES];

/// Mass and number of the labels before each label of some pixels.
#[derive(Default)]
pub struct BeforeAll {
    probabilities: Vec<Lanes>,
    grains: Vec<Lanes>,
    ranking: Vec<(u64, u32)>,
}

impl BeforeAll {
    /// Writes `score` of the mass and number of the labels before each label of a tile.
    pub fn compute<R: Real>(
        &mut self,
        tile: &Tile<'_, R>,
        score: impl Fn(Before) -> f64 + Copy,
        out: &mut PlanesMut<'_, f64>,
    ) {
        if tile.n_classes() > SORTED {
            self.compute_sorted(tile, score, out);
        } else {
            self.compute_compared(tile, score, out);
        }
    }

    fn compute_compared<R: Real>(
        &mut self,
        tile: &Tile<'_, R>,
        score: impl Fn(Before) -> f64,
        out: &mut PlanesMut<'_, f64>,
    ) {
        let n_classes = tile.n_classes();
        self.probabilities.resize(n_classes, Lanes::default());
        self.grains.resize(n_classes, Lanes::default());
        for first in (0..tile.len()).step_by(LANES) {
            let lanes = LANES.min(tile.len() - first);
            for k in 0..n_classes {
                for (l, &p) in tile.plane(k)[first..][..lanes].iter().enumerate() {
                    self.probabilities[k][l] = p.into();
                    self.grains[k][l] = grain(p.into());
                }
            }
            for k in 0..n_classes {
                let (masses, counts) = sum_before(k, &self.probabilities, &self.grains);
                let run = &mut out.padded_run(k)[first..][..LANES];
                for (l, value) in run.iter_mut().enumerate() {
                    *value = score(Before { mass: masses[l], count: counts[l] });
                }
            }
        }
    }
}

impl BeforeAll {
    /// The same, pixel by pixel, by a sort. For many classes this is faster than comparing each two.
    fn compute_sorted<R: Real>(
        &mut self,
        tile: &Tile<'_, R>,
        score: impl Fn(Before) -> f64,
        out: &mut PlanesMut<'_, f64>,
    ) {
        for j in 0..tile.len() {
            self.ranking.clear();
            self.ranking.extend((0..tile.n_classes()).map(|k| {
                // Floats that are not negative are ordered as their bit patterns; adding 0 turns -0 into 0.
                let p: f64 = tile.plane(k)[j].into();
                (!(p + 0.0).to_bits(), k as u32)
            }));
            self.ranking.sort_unstable();
            let mut mass = 0.0;
            for (rank, &(bits, k)) in self.ranking.iter().enumerate() {
                out.padded_run(k as usize)[j] = score(Before { mass, count: rank as f64 });
                mass += grain(f64::from_bits(!bits));
            }
        }
    }
}

/// Compares a label with every other. For some tens of classes this is faster than a sort, because all pixels do the same.
#[apply(vectorised!)]
fn sum_before(class: usize, probabilities: &[Lanes], grains: &[Lanes]) -> (Lanes, Lanes) {
    let own = probabilities[class];
    let (mut masses, mut counts) = (Lanes::default(), Lanes::default());
    for (p, grain) in probabilities[..class].iter().zip(&grains[..class]) {
        for l in 0..LANES {
            masses[l] += only_if(p[l] >= own[l], grain[l]);
            counts[l] += only_if(p[l] >= own[l], 1.0);
        }
    }
    for (p, grain) in probabilities[class + 1..].iter().zip(&grains[class + 1..]) {
        for l in 0..LANES {
            masses[l] += only_if(p[l] > own[l], grain[l]);
            counts[l] += only_if(p[l] > own[l], 1.0);
        }
    }
    (masses, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masses(p: &[f64]) -> Vec<f64> {
        let tile = Tile::new(p, 1, 1, p.len());
        let mut buffer = Vec::new();
        let mut all = PlanesMut::new(&mut buffer, p.len(), 1);
        BeforeAll::default().compute(&tile, |before| before.mass, &mut all);
        let found: Vec<f64> = all.runs().map(|run| run[0]).collect();
        let mut some = BeforeSome::default();
        for (k, &mass) in found.iter().enumerate() {
            some.compute(&tile, &[0], &[k as i32], &p[k..=k]);
            assert_eq!(some.iter().map(|before| before.mass).collect::<Vec<_>>(), [mass]);
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
