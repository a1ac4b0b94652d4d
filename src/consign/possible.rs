//! The labels that a pixel may have somewhere in a box of coefficients, and the hyperplanes at which they change.
//!
//! With `k` coefficients that move, `M` hyperplanes cut the box into at most `sum_{i <= k} C(M, i)` cells, and the label map
//! is constant in a cell; points of a hyperplane belong to the side of the lower label. Another upper bound of the number of
//! label maps is the product of the pixels' numbers of labels.

use rayon::prelude::*;

use super::bounds::Slack;
use super::field::Field;
use super::search::MAX_COMPONENTS;
use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// Pixels of a parallel task.
const RUN: usize = 1 << 12;

/// A box of coefficients.
pub struct Coefficients {
    centre: Vec<f64>,
    radius: Vec<f64>,
    reach: Vec<f64>,
}

impl Coefficients {
    /// The box between two corners.
    pub fn between(lower: &[f64], upper: &[f64]) -> Self {
        let of = |f: fn(f64, f64) -> f64| lower.iter().zip(upper).map(|(&a, &b)| f(a, b)).collect();
        Self {
            centre: of(|a, b| 0.5 * (a + b)),
            radius: of(|a, b| 0.5 * (b - a)),
            reach: of(|a, b| a.abs().max(b.abs())),
        }
    }

    /// The middle.
    pub fn centre(&self) -> &[f64] {
        &self.centre
    }

    /// The labels that may win against `leader`, the label at the centre, somewhere in the box.
    pub fn rivals(&self, field: &Field, pixel: usize, leader: usize) -> impl Iterator<Item = usize> {
        (0..field.n_labels())
            .filter(move |&l| l != leader && self.compare(field, pixel, leader, l) != Lead::Always)
    }

    /// Which of two labels is ahead at a pixel.
    fn compare(&self, field: &Field, pixel: usize, label: usize, other: usize) -> Lead {
        let (own, others) = (field.mean(label)[pixel], field.mean(other)[pixel]);
        let (mut lead, mut spread, mut scale) = (own - others, 0.0, own.abs() + others.abs());
        let mut moves = false;
        for (k, (centre, (radius, reach))) in
            self.centre.iter().zip(self.radius.iter().zip(&self.reach)).enumerate()
        {
            let (own, others) = (field.component(k, label)[pixel], field.component(k, other)[pixel]);
            lead += (own - others) * centre;
            spread += (own - others).abs() * radius;
            scale += (own.abs() + others.abs()) * reach;
            moves |= own != 0.0 || others != 0.0;
        }
        let slack = scale * Slack::<MAX_COMPONENTS>::ROUNDINGS;
        // Without a component that moves, the scores are the means, without rounding; of equal ones the lower label is ahead.
        let is_ahead =
            if moves { lead - spread > slack } else { lead > 0.0 || (lead == 0.0 && label < other) };
        let is_behind = if moves { lead + spread < -slack } else { !is_ahead };
        match (is_ahead, is_behind) {
            (true, _) => Lead::Always,
            (_, true) => Lead::Never,
            _ => Lead::Depends,
        }
    }
}

/// Whether a label is ahead of another in a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
    /// In a part of the box, or floats cannot tell.
    Depends,
}

/// The numbers of possible labels, over all pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The number of pixels with each number of possible labels, from 0 on.
    pub n_pixels: Vec<u64>,
    /// Hyperplanes between two labels that may both be the pixel's.
    pub n_hyperplanes: u64,
}

impl Open {
    fn of_nothing(n_labels: usize) -> Self {
        Self { n_pixels: vec![0; n_labels + 1], n_hyperplanes: 0 }
    }

    fn merge(mut self, other: &Self) -> Self {
        self.n_pixels.iter_mut().zip(&other.n_pixels).for_each(|(sum, n)| *sum += n);
        self.n_hyperplanes += other.n_hyperplanes;
        self
    }
}

/// Counts possible labels and hyperplanes.
pub fn count_open(field: &Field, coefficients: &Coefficients, cancel: &Cancel) -> Result<Open> {
    let leaders = field.label_map(&coefficients.centre, cancel)?;
    leaders
        .par_chunks(RUN)
        .enumerate()
        .map(|(run, leaders)| {
            let mut open = Open::of_nothing(field.n_labels());
            for (pixel, &leader) in (run * RUN..).zip(leaders) {
                let (n_possible, n_hyperplanes) =
                    at_pixel(field, coefficients, pixel, leader.into(), cancel)?;
                open.n_pixels[n_possible] += 1;
                open.n_hyperplanes += n_hyperplanes;
            }
            Ok(open)
        })
        .try_reduce(|| Open::of_nothing(field.n_labels()), |one, other| Ok(one.merge(&other)))
}

/// The number of labels that a pixel may have, and of the hyperplanes between them.
fn at_pixel(
    field: &Field,
    coefficients: &Coefficients,
    pixel: usize,
    leader: usize,
    cancel: &Cancel,
) -> Result<(usize, u64)> {
    let compare = |label, other| coefficients.compare(field, pixel, label, other);
    let labels: Vec<usize> =
        std::iter::once(leader).chain(coefficients.rivals(field, pixel, leader)).collect();
    let mut changes = Vec::new();
    let mut beaten = vec![false; labels.len()];
    for (i, &label) in labels.iter().enumerate() {
        cancel.check()?;
        for (j, &other) in labels.iter().enumerate().skip(i + 1) {
            match compare(label, other) {
                Lead::Always => beaten[j] = true,
                Lead::Never => beaten[i] = true,
                Lead::Depends => {
                    memory::push(&mut changes, (i as u16, j as u16), "the hyperplanes of a pixel")?;
                }
            }
        }
    }
    let is_left = |label: u16| !beaten[usize::from(label)];
    let n_hyperplanes = changes.iter().filter(|&&(i, j)| is_left(i) && is_left(j)).count() as u64;
    Ok((beaten.iter().filter(|is_beaten| !**is_beaten).count(), n_hyperplanes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three labels, one coefficient `c` in [-1, 1]. Scores of the pixels:
    /// 0: label 0 wins everywhere; 1: label 0 for c <= 0, else label 1, and label 2 is beaten by label 1 where label 0 is not
    /// ahead; 2: a tie of labels 0 and 1 that do not move, so label 0; 3: each of the labels somewhere.
    fn field() -> Field {
        let mean = [[1.0, 0.5, 0.5, 0.0], [0.0, 0.5, 0.5, 0.1], [0.0, -0.8, 0.0, 0.0]];
        let component = [[0.1, 0.0, 0.0, -1.0], [0.1, 1.0, 0.0, 0.0], [0.1, 0.9, 0.0, 1.0]];
        Field::new(3, 1, mean.concat(), component.concat())
    }

    #[test]
    fn possible_labels_and_hyperplanes() {
        let open = |lower: f64, upper: f64| {
            count_open(&field(), &Coefficients::between(&[lower], &[upper]), &Cancel::default()).unwrap()
        };
        assert_eq!(open(-1.0, 1.0), Open { n_pixels: vec![0, 2, 1, 1], n_hyperplanes: 1 + 3 });
        // Pixel 1: label 1 alone; pixel 3: label 2 alone.
        assert_eq!(open(0.5, 1.0), Open { n_pixels: vec![0, 4, 0, 0], n_hyperplanes: 0 });
    }

    #[test]
    fn any_split_of_the_pixels_gives_the_same() {
        let n = 3 * RUN + 7;
        let plane = |f: fn(usize) -> f64| (0..n).map(f).collect::<Vec<_>>();
        let mean = [plane(|p| (p % 7) as f64), plane(|p| (p % 5) as f64)].concat();
        let component = [plane(|p| (p % 3) as f64), plane(|p| (p % 11) as f64)].concat();
        let field = Field::new(2, 1, mean, component);
        let coefficients = Coefficients::between(&[-1.0], &[0.5]);
        let open = count_open(&field, &coefficients, &Cancel::default()).unwrap();
        let mut expected = Open::of_nothing(2);
        let cancel = Cancel::default();
        let leaders = field.label_map(coefficients.centre(), &cancel).unwrap();
        for (pixel, leader) in leaders.into_iter().enumerate() {
            let (n_possible, n_hyperplanes) =
                at_pixel(&field, &coefficients, pixel, leader.into(), &cancel).unwrap();
            expected.n_pixels[n_possible] += 1;
            expected.n_hyperplanes += n_hyperplanes;
        }
        assert_eq!(open, expected);
        assert_eq!(open.n_pixels.iter().sum::<u64>(), n as u64);
    }
}
