//! How critical values are stored, ordered and compared.

use std::ops::RangeInclusive;

use crate::num::real::Real;

/// How critical values are stored: without loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coding {
    /// As a probability `p`; the critical value is `1.0 - f64(p)`.
    Complement,
    /// As they are.
    Direct {
        /// The largest: the smallest lambda at which every set is full.
        max: f64,
    },
}

impl Coding {
    /// The critical value.
    #[inline(always)]
    pub fn decode(self, stored: f64) -> f64 {
        match self {
            Self::Complement => 1.0 - stored,
            Self::Direct { .. } => stored,
        }
    }

    /// The smallest lambda at which every set is full.
    pub fn lambda_max(self) -> f64 {
        match self {
            Self::Complement => 1.0,
            Self::Direct { max } => max,
        }
    }

    /// Whether the value is a stored value of a positive critical value.
    pub fn holds(self, stored: f64) -> bool {
        match self {
            Self::Complement => (0.0..1.0).contains(&stored),
            Self::Direct { max } => 0.0 < stored && stored <= max,
        }
    }

    /// A whole number that orders stored values by their critical values, as finely as they are stored. (Near lambda = 1 critical
    /// values crowd, but the stored probabilities do not.)
    #[inline(always)]
    pub fn key(self, stored: f64) -> u64 {
        // Non-negative floats are ordered as their bit patterns; adding 0 turns -0 into 0.
        match self {
            Self::Complement => 1.0_f64.to_bits() - (stored.min(1.0) + 0.0).to_bits(),
            Self::Direct { .. } => (stored + 0.0).to_bits(),
        }
    }

    /// The critical value behind a key.
    pub fn decode_key(self, key: u64) -> f64 {
        match self {
            Self::Complement => self.decode(f64::from_bits(1.0_f64.to_bits() - key)),
            Self::Direct { .. } => f64::from_bits(key),
        }
    }

    /// The keys of all positive critical values.
    pub fn keys(self) -> RangeInclusive<u64> {
        match self {
            Self::Complement => 1..=1.0_f64.to_bits(),
            Self::Direct { max } => 1..=max.to_bits(),
        }
    }

    /// The keys of critical values above `lambda`.
    pub fn keys_above(self, lambda: f64) -> RangeInclusive<u64> {
        let keys = self.keys();
        let last_in = match self {
            Self::Complement => 1.0_f64.to_bits() - self.cutoff::<f64>(lambda).min(1.0).to_bits(),
            Self::Direct { .. } => lambda.max(0.0).to_bits().min(*keys.end()),
        };
        last_in + 1..=*keys.end()
    }

    /// The stored values whose keys are in a range: from the first of these on, below the second.
    pub fn between<R: Real>(self, keys: &RangeInclusive<u64>) -> [R; 2] {
        if keys.is_empty() {
            return [R::zero(); 2];
        }
        let (first, last) = match self {
            Self::Complement => {
                let one = 1.0_f64.to_bits();
                (one - keys.end(), one - keys.start())
            }
            Self::Direct { .. } => (*keys.start(), *keys.end()),
        };
        [f64::from_bits(first), f64::from_bits(last).next_up()].map(R::at_least)
    }

    /// The distance to the largest critical value, as a share of the latter. It does not rise with the critical value.
    #[inline(always)]
    pub fn missing(self, stored: f64) -> f64 {
        match self {
            Self::Complement => stored,
            Self::Direct { max } => (1.0 - stored / max).max(0.0),
        }
    }

    /// The keys of probabilities, or of critical values as a share of the largest, down to 2^-16.
    pub fn usual_keys(self) -> RangeInclusive<u64> {
        const SPAN: u64 = 16 << 52;
        match self {
            Self::Complement => 1..=SPAN,
            Self::Direct { max } => max.to_bits().saturating_sub(SPAN).max(1)..=max.to_bits(),
        }
    }

    /// The last stored value that is in at `lambda`: the smallest probability of the type `R`, or the largest critical value.
    pub fn cutoff<R: Real>(self, lambda: f64) -> R {
        match self {
            Self::Complement => R::smallest(|p| self.decode(p) <= lambda),
            Self::Direct { .. } => R::largest(|s| s <= lambda),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoff_is_the_float64_definition() {
        let cutoff = |lambda| Coding::Complement.cutoff::<f32>(lambda);
        for lambda in [0.0, 1e-9, 0.3, 0.5, 0.7, 0.999_999_999, 1.0, 0.1 + 0.2] {
            let p = cutoff(lambda);
            let below = f32::from_bits(p.to_bits().saturating_sub(1));
            assert!(1.0 - f64::from(p) <= lambda, "{lambda}");
            assert!(p == 0.0 || 1.0 - f64::from(below) > lambda, "{lambda}");
        }
        assert_eq!(cutoff(1.0), 0.0);
        assert_eq!(Coding::Complement.cutoff::<f64>(0.0), 1.0);
        assert_eq!(cutoff(-0.5), 1.5);
        assert_eq!(cutoff(f64::NEG_INFINITY), f32::INFINITY);
    }

    #[test]
    fn ranges_of_keys_are_ranges_of_values() {
        let values = [0.0_f32, f32::MIN_POSITIVE, 0.1, 0.3, 0.3_f32.next_up(), 0.5, 0.7, 1.0_f32.next_down()];
        for coding in [Coding::Complement, Coding::Direct { max: 1.0 }] {
            let keys: Vec<_> = values.iter().map(|&p| coding.key(p.into())).collect();
            let bounds = || keys.iter().flat_map(|&key| [key.max(2) - 1, key.max(1), key + 1]);
            for (start, end) in bounds().flat_map(|start| bounds().map(move |end| (start, end))) {
                let range = start.min(1.0_f64.to_bits())..=end.min(1.0_f64.to_bits());
                let [low, high] = coding.between::<f32>(&range);
                for (&p, key) in values.iter().zip(&keys) {
                    assert_eq!((low..high).contains(&p), range.contains(key), "{coding:?} {p} {range:?}");
                }
            }
        }
    }

    #[test]
    fn keys_above_lambda_are_of_larger_values() {
        let values = [0.0, f64::MIN_POSITIVE, 0.1, 0.3, 0.5, 0.7, 1.0_f64.next_down()];
        for coding in [Coding::Complement, Coding::Direct { max: 1.0 }] {
            for lambda in values.iter().flat_map(|&p| [p, 1.0 - p, (1.0 - p).next_up()]).chain([2.0]) {
                let above = coding.keys_above(lambda);
                let [low, high] = coding.between::<f64>(&above);
                for &p in values.iter().filter(|&&p| coding.holds(p)) {
                    let is_above = coding.decode(p) > lambda;
                    assert_eq!(above.contains(&coding.key(p)), is_above, "{p} {lambda}");
                    assert_eq!((low..high).contains(&p), is_above, "{p} {lambda}");
                }
            }
        }
    }

    #[test]
    fn direct_values_are_in_up_to_lambda() {
        let coding = Coding::Direct { max: 1.25 };
        for lambda in [0.0, 0.1, 0.5, 1.0, 1.25, 2.0] {
            let last = coding.cutoff::<f32>(lambda);
            assert!(f64::from(last) <= lambda && f64::from(last.next_up()) > lambda, "{lambda}");
        }
        assert_eq!(coding.cutoff::<f32>(-0.5), f32::NEG_INFINITY);
        assert_eq!(coding.decode_key(coding.key(0.7)), 0.7);
        assert!(coding.key(0.7) < coding.key(0.700_000_1) && coding.keys().contains(&coding.key(1.25)));
        assert!(coding.holds(1.25) && !coding.holds(1.26) && !coding.holds(0.0));
    }
}
