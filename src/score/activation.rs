//! How many classes the sets of an image hold at any lambda, without the maps, to within a bracket.
//!
//! The critical values of all classes at all labelled pixels are counted on a grid of their keys (see [`Coding::key`]): 128
//! cells for each halving of the probability, down to 2^-40. At a lambda all cells below it are in and all above are out;
//! the cell that holds it is the bracket.

use super::Coding;

/// Keys of one cell: 2^45, so that 7 bits of a probability's mantissa distinguish cells.
pub const CELL_BITS: u32 = 45;

/// Probabilities below 2^-40 share the last cell.
pub const N_CELLS: usize = 40 * 128 + 1;

/// Counts for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// Labels that are always in.
    pub always: u64,
    /// Labels by critical value.
    pub cells: Box<[u64]>,
}

impl Default for Activations {
    fn default() -> Self {
        Self { always: 0, cells: vec![0; N_CELLS].into() }
    }
}

impl Activations {
    /// Counts a label.
    #[inline(always)]
    pub fn add(&mut self, coding: Coding, stored: f64) {
        if coding.decode(stored) > 0.0 {
            self.cells[cell(coding, stored)] += 1;
        } else {
            self.always += 1;
        }
    }

    /// Moves a counted label to those that are always in.
    #[inline(always)]
    pub fn promote(&mut self, coding: Coding, stored: f64) {
        if coding.decode(stored) > 0.0 {
            self.cells[cell(coding, stored)] -= 1;
            self.always += 1;
        }
    }

    /// Adds the counts of other pixels.
    pub fn merge(&mut self, other: &Self) {
        self.always += other.always;
        self.cells.iter_mut().zip(&other.cells).for_each(|(l, r)| *l += r);
    }

    /// Bounds, from below and above, of the number of labels in the sets at `lambda`.
    pub fn bracket(&self, coding: Coding, lambda: f64) -> (u64, u64) {
        let sum = |cells: &[u64]| cells.iter().sum::<u64>();
        if lambda >= coding.lambda_max() {
            let all = self.always + sum(&self.cells);
            return (all, all);
        }
        let cell = cell(coding, coding.cutoff(lambda));
        let lower = self.always + sum(&self.cells[..cell]);
        (lower, lower + self.cells[cell])
    }
}

/// The cell of a stored value, by its distance to the largest critical value as a share of the latter.
#[inline(always)]
fn cell(coding: Coding, stored: f64) -> usize {
    ((Coding::Complement.key(coding.missing(stored)) >> CELL_BITS) as usize).min(N_CELLS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_hold_the_truth_and_close_at_the_ends() {
        let coding = Coding::Complement;
        let probabilities = [0.0, 1e-30, 1e-7, 0.003, 0.1, 0.1001, 0.25, 0.5, 0.75, 1.0, 1.0005];
        let mut counts = Activations::default();
        for p in probabilities {
            counts.add(coding, p);
        }
        for lambda in [0.0, 0.25, 0.3, 0.5, 0.899_95, 0.9, 0.97, 0.999_999, 1.0] {
            let truth = probabilities.iter().filter(|&&p| 1.0 - p <= lambda).count() as u64;
            let (lower, upper) = counts.bracket(coding, lambda);
            assert!(lower <= truth && truth <= upper, "{lambda}: {truth} not in {lower}..={upper}");
            assert!(upper - lower <= 2, "{lambda}");
        }
        assert_eq!(counts.bracket(coding, 1.0), (11, 11));
        counts.promote(coding, 0.003);
        assert_eq!(counts.always, 3);
    }

    #[test]
    fn brackets_of_critical_values() {
        let coding = Coding::Direct { max: 1.5 };
        let criticals = [0.0, 1e-9, 0.3, 0.75, 1.0, 1.2, 1.499_999_9, 1.5];
        let mut counts = Activations::default();
        for critical in criticals {
            counts.add(coding, critical);
        }
        for lambda in [0.0, 1e-10, 0.3, 0.74, 0.75, 1.1, 1.499_999_9, 1.5] {
            let truth = criticals.iter().filter(|&&critical| critical <= lambda).count() as u64;
            let (lower, upper) = counts.bracket(coding, lambda);
            assert!(lower <= truth && truth <= upper && upper - lower <= 1, "{lambda}");
        }
        assert_eq!(counts.bracket(coding, 1.5), (8, 8));
    }
}
