//! How many labelled pixels of an image have a class in their set, class by class, at lambdas that were fixed beforehand.
//!
//! Losses that may rise with lambda, such as precision, depend on the superfluous classes of sets, which do not follow from
//! the critical values of true labels. So the critical values of all labels are sorted between the lambdas as maps are read.

use std::sync::Arc;

use super::Coding;
use crate::error::Result;
use crate::memory;
use crate::threads::Cancel;

/// What errors call the counts.
const COUNTS: &str = "the counts of classes at lambdas";

/// Counts for some pixels of one image.
#[derive(Debug, Clone)]
pub struct Held {
    lambdas: Arc<[f64]>,
    /// For each class: the number of labels that enter at each lambda, and of those that no lambda holds.
    entering: Vec<u64>,
}

impl Held {
    /// Nothing counted yet, at lambdas that ascend.
    pub fn new(lambdas: Arc<[f64]>, n_classes: usize, cancel: &Cancel) -> Result<Self> {
        let entering = memory::filled(0, (lambdas.len() + 1).saturating_mul(n_classes), COUNTS, cancel)?;
        Ok(Self { lambdas, entering })
    }

    /// Counts a label of a class.
    #[inline(always)]
    pub fn add(&mut self, class: usize, coding: Coding, stored: f64) {
        let at = self.place(class, coding, stored);
        self.entering[at] += 1;
    }

    /// Moves a counted label of a class to those that every set holds.
    #[inline(always)]
    pub fn promote(&mut self, class: usize, coding: Coding, stored: f64) {
        let at = self.place(class, coding, stored);
        self.entering[at] -= 1;
        self.entering[class * (self.lambdas.len() + 1)] += 1;
    }

    #[inline(always)]
    fn place(&self, class: usize, coding: Coding, stored: f64) -> usize {
        let critical = coding.decode(stored);
        // A critical value below 0, of a probability above 1, is in from the start.
        class * (self.lambdas.len() + 1) + self.lambdas.partition_point(|&lambda| lambda < critical)
    }

    /// Adds the counts of other pixels.
    pub fn merge(&mut self, other: &Self) {
        self.entering.iter_mut().zip(&other.entering).for_each(|(sum, count)| *sum += count);
    }

    /// How many pixels hold each class at each lambda, `(K, L)`.
    pub fn finish(self) -> Result<Box<[u64]>> {
        let n_lambdas = self.lambdas.len();
        let mut held =
            memory::with_room(self.entering.len() - self.entering.len() / (n_lambdas + 1), COUNTS)?;
        for entering in self.entering.chunks_exact(n_lambdas + 1) {
            let mut sum = 0;
            held.extend(entering[..n_lambdas].iter().map(|count| {
                sum += count;
                sum
            }));
        }
        Ok(held.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_count_from_the_first_lambda_that_holds_them() {
        let mut held = Held::new([0.0, 0.25, 0.5].into(), 2, &Cancel::default()).unwrap();
        for p in [1.0, 1.001, 0.75, 0.749, 0.5, 0.1] {
            held.add(1, Coding::Complement, p);
        }
        held.promote(1, Coding::Complement, 0.1);
        held.merge(&held.clone());
        assert_eq!(*held.finish().unwrap(), [0, 0, 0, 6, 8, 12]);
    }
}
