//! `lambda* = min |z|_inf` over the `z` that are accurate enough: rays first, then branch and bound.
//!
//! Boxes wait in a heap, the nearest to 0 first (of equals, the one that may be most accurate). A box is dropped if even all
//! its pixels that are not surely wrong are too few. A point at which enough pixels are right, verified by the argmax, is the
//! new best. The nearest box in the heap is a lower bound, the best point an upper bound. A search sees only one image and
//! uses fixed random numbers: its result is a function of the image, whatever else is searched, on any number of threads.

mod branch;
mod problem;
mod rays;

use std::sync::Arc;

use num_rational::BigRational;

use self::problem::Problem;
use super::field::Field;
use crate::error::Result;
use crate::threads::Cancel;

/// The label of pixels that do not count.
pub const VOID: i32 = -1;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Question {
    /// The accuracy.
    pub beta: BigRational,
    /// Whether it must be exceeded.
    pub strict: bool,
    /// Whether all pixels count equally, instead of all labels.
    pub pixelwise: bool,
    /// The largest lambda.
    pub lambda_max: f64,
    /// The largest number of boxes.
    pub node_budget: usize,
}

/// How sure a bracket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing was searched yet.
    Open,
    /// Its ends are within the tolerance.
    Exact,
    /// The budget of boxes was spent: the upper end is valid, but may be too large.
    UpperBound,
    /// No point up to `lambda_max` is accurate enough.
    Infeasible,
    /// The lower end is beyond the bound: the search was given up.
    NotNeeded,
}

/// What is known of `lambda*`.
#[derive(Debug, Clone, PartialEq)]
pub struct Bracket {
    /// It is at least this.
    pub lower: f64,
    /// It is at most this, at `witness`.
    pub upper: f64,
    /// A verified point.
    pub witness: Option<Vec<f64>>,
    /// How the search ended.
    pub status: Status,
    /// Boxes searched.
    pub n_nodes: usize,
}

/// When to stop before the bracket is narrow.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Once `lambda*` is surely beyond a bound.
    Beyond(f64),
    /// Once it is known on which side of a number `lambda*` lies, even if the bracket is narrow before.
    Decided(f64),
}

/// A decomposed image with labels.
#[derive(Debug)]
pub struct Image {
    /// Mean and components.
    pub field: Arc<Field>,
    /// `m_k`.
    pub centre: Vec<f64>,
    /// `h_k`; 0 where a component does not move.
    pub half: Vec<f64>,
    /// The label of each pixel, or [`VOID`].
    pub labels: Vec<i32>,
}

/// A search for one image.
pub trait Search: Send + Sync {
    /// Finds a good upper bound by rays; with [`Stop::Decided`], perhaps no better than asked for.
    fn warm_start(&mut self, stop: Stop, cancel: &Cancel) -> Result<()>;

    /// Narrows the bracket by branch and bound.
    fn refine(&mut self, stop: Stop, cancel: &Cancel) -> Result<()>;

    /// What is known.
    fn bracket(&self) -> Bracket;

    /// The best accuracy that was seen.
    fn achieved(&self) -> BigRational;

    /// The approximate number of bytes that are kept.
    fn n_bytes(&self) -> usize;
}

/// The search for an image; `None` if no pixel counts.
pub fn search(image: &Image, question: &Question, cancel: &Cancel) -> Result<Option<Box<dyn Search>>> {
    macro_rules! smallest_that_fits {
        ($($dimensions:literal),*) => {
            match image.centre.len() {
                $(n if n <= $dimensions => {
                    Ok(Problem::<$dimensions>::new(image, question, cancel)?.map(|p| Box::new(p) as _))
                })*
                n => unreachable!("{n} components were refused before"),
            }
        };
    }
    smallest_that_fits!(1, 2, 3, 4, 5, 6, 8, 16, 64)
}

/// The largest number of components.
pub const MAX_COMPONENTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::philox::{Philox, unit};

    fn question(beta: (i64, i64)) -> Question {
        Question {
            beta: BigRational::new(beta.0.into(), beta.1.into()),
            strict: false,
            pixelwise: false,
            lambda_max: 8.0,
            node_budget: 1_000_000,
        }
    }

    /// Random fields of `n_components` with 3 labels and 30 pixels.
    fn random(key: u128, n_components: usize) -> Image {
        let generator = Philox::new(key);
        let mut next = 0;
        let mut draw = |n: usize| -> Vec<f64> {
            (0..n)
                .map(|_| {
                    next += 1;
                    2.0 * unit(generator.block(next)[0]) - 1.0
                })
                .collect()
        };
        let (mean, components) = (draw(90), draw(90 * n_components));
        let labels = draw(30).iter().map(|x| (1.5 * (x + 1.0)) as i32).collect();
        Image {
            field: Arc::new(Field::new(3, n_components, mean, components)),
            centre: draw(n_components),
            half: vec![1.0; n_components],
            labels,
        }
    }

    fn solve(image: &Image, question: &Question, stop: Stop) -> Bracket {
        let mut search = search(image, question, &Cancel::default()).unwrap().expect("labelled pixels");
        search.warm_start(stop, &Cancel::default()).unwrap();
        search.refine(stop, &Cancel::default()).unwrap();
        search.bracket()
    }

    fn accuracy_at(image: &Image, z: &[f64]) -> f64 {
        let c: Vec<f64> = (0..z.len()).map(|k| image.centre[k] + image.half[k] * z[k]).collect();
        let (mut right, mut counts) = ([0.0; 3], [0.0; 3]);
        let count = |first: usize, found: &[u16]| {
            for (&found, &label) in found.iter().zip(&image.labels[first..]) {
                counts[label as usize] += 1.0;
                right[label as usize] += f64::from(i32::from(found) == label);
            }
        };
        image.field.labels(&c, &Cancel::default(), count).unwrap();
        let shares: Vec<f64> = (0..3).filter(|&l| counts[l] > 0.0).map(|l| right[l] / counts[l]).collect();
        shares.iter().sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn no_point_of_a_grid_is_nearer_than_the_lower_bound() {
        let (mut n_exact, mut n_infeasible) = (0, 0);
        for key in 0..12 {
            let image = random(key, 2);
            for beta in [(9, 20), (11, 20), (13, 20)] {
                let bracket = solve(&image, &question(beta), Stop::Beyond(f64::INFINITY));
                match bracket.status {
                    Status::Exact => n_exact += 1,
                    Status::Infeasible => n_infeasible += 1,
                    status => panic!("{status:?}"),
                }
                if let Some(z) = &bracket.witness {
                    assert!(accuracy_at(&image, z) >= beta.0 as f64 / beta.1 as f64 - 1e-12);
                    assert_eq!(z.iter().fold(0.0_f64, |m, x| m.max(x.abs())), bracket.upper);
                    assert!(bracket.upper - bracket.lower <= 1e-3 * bracket.upper + 1e-6);
                }
                let nearer = bracket.lower.min(8.0) * (1.0 - 1e-9);
                for i in -40..=40 {
                    for j in -40..=40 {
                        let z = [f64::from(i) / 40.0 * nearer, f64::from(j) / 40.0 * nearer];
                        assert!(
                            bracket.lower == 0.0 || accuracy_at(&image, &z) < beta.0 as f64 / beta.1 as f64
                        );
                    }
                }
            }
        }
        assert!(n_exact > 8 && n_infeasible > 3, "{n_exact} exact, {n_infeasible} infeasible");
    }

    #[test]
    fn searches_stop_when_they_may() {
        let mut n_given_up = 0;
        for key in 0..20 {
            let image = random(key, 3);
            let question = question((3, 5));
            let whole = solve(&image, &question, Stop::Beyond(f64::INFINITY));
            let bound = 0.4 * whole.upper.min(4.0);
            let given_up = solve(&image, &question, Stop::Beyond(bound));
            if given_up.status == Status::NotNeeded {
                n_given_up += 1;
                assert!(given_up.lower > bound && whole.upper > bound);
                assert!(given_up.n_nodes <= whole.n_nodes);
            } else {
                assert_eq!(given_up, whole);
            }
            for at in [0.5 * whole.upper, whole.upper, 2.0 * whole.upper] {
                let decided = solve(&image, &question, Stop::Decided(at));
                assert_eq!(decided.upper <= at, whole.upper <= at);
                assert!(decided.upper <= at || decided.lower > at || at >= whole.lower);
            }
        }
        assert!(n_given_up > 5, "{n_given_up}");
    }

    #[test]
    fn budgets_and_frozen_dimensions() {
        let mut image = random(3, 3);
        let short =
            solve(&image, &Question { node_budget: 1, ..question((3, 5)) }, Stop::Beyond(f64::INFINITY));
        assert_eq!(short.status, Status::UpperBound);
        let whole = solve(&image, &question((3, 5)), Stop::Beyond(f64::INFINITY));
        assert!(short.lower <= whole.upper && whole.lower <= short.upper);
        image.half = vec![0.0; 3];
        let frozen = solve(&image, &question((3, 5)), Stop::Beyond(f64::INFINITY));
        assert_eq!(frozen.status, Status::Infeasible);
        let met = accuracy_at(&image, &[0.0; 3]);
        let question = Question { beta: BigRational::from_float(met - 1e-9).unwrap(), ..question((1, 1)) };
        let frozen = solve(&image, &question, Stop::Beyond(f64::INFINITY));
        assert_eq!((frozen.status, frozen.upper, frozen.lower), (Status::Exact, 0.0, 0.0));
    }

    #[test]
    fn interrupted_searches_know_what_they_knew() {
        let mut search = search(&random(1, 3), &question((3, 5)), &Cancel::default()).unwrap().unwrap();
        let stop = Stop::Beyond(f64::INFINITY);
        search.warm_start(stop, &Cancel::default()).unwrap();
        let before = search.bracket();
        let cancel = Cancel::default();
        cancel.set();
        assert!(search.refine(stop, &cancel).is_err());
        assert_eq!(search.bracket().upper, before.upper);
        search.refine(stop, &Cancel::default()).unwrap();
        assert_ne!(search.bracket().status, Status::Open);
    }

    #[test]
    fn void_images_are_no_question() {
        let mut image = random(0, 2);
        image.labels.fill(VOID);
        assert!(search(&image, &question((1, 2)), &Cancel::default()).unwrap().is_none());
    }
}
