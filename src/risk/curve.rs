//! The summed loss as a function of lambda. The time grows with the number of jumps of the losses, not with the number of
//! images times lambdas.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, ToPrimitive, Zero};
use rayon::prelude::*;

use crate::error::Result;
use crate::loss::Loss;
use crate::memory;
use crate::num::exact::SMALLEST;
use crate::profile::{ExactProfile, ImageProfile};
use crate::threads::Cancel;

/// What errors call the numbers.
const WHAT: &str = "the points of a risk curve";

/// Losses of at least `2^-(DIGITS - 53)` are whole multiples of `2^-DIGITS`. The sum over the largest number of images fits 128
/// bits.
const DIGITS: u32 = 96;
const LEAST: f64 = 1.0 / (1_u64 << (DIGITS - f64::MANTISSA_DIGITS)) as f64;
const MOST_IMAGES: usize = 1 << 30;

/// The exact changes of a sum of losses at each of some lambdas, from the last to the first.
struct Changes {
    /// In units of `2^-DIGITS`.
    wholes: Vec<i128>,
    /// The changes from losses below [`LEAST`], in units of `2^-SMALLEST`.
    tiny: Vec<(usize, BigInt)>,
}

impl Changes {
    fn new(n_lambdas: usize, cancel: &Cancel) -> Result<Self> {
        Ok(Self { wholes: memory::filled(0, n_lambdas, WHAT, cancel)?, tiny: Vec::new() })
    }

    /// Adds a loss at some lambdas.
    fn add(&mut self, lambdas: Range<usize>, loss: f64) {
        if loss >= LEAST {
            let whole = (loss * (1_u128 << DIGITS) as f64) as i128;
            self.wholes[lambdas.end - 1] += whole;
            if lambdas.start > 0 {
                self.wholes[lambdas.start - 1] -= whole;
            }
        } else if loss > 0.0 {
            let whole = BigRational::from_float(loss).expect("finite") * (BigInt::one() << SMALLEST);
            let whole = whole.to_integer();
            if lambdas.start > 0 {
                self.tiny.push((lambdas.start - 1, -&whole));
            }
            self.tiny.push((lambdas.end - 1, whole));
        }
    }

    fn joined(mut self, mut other: Self) -> Self {
        self.wholes.iter_mut().zip(other.wholes).for_each(|(sum, whole)| *sum += whole);
        self.tiny.append(&mut other.tiny);
        self
    }
}

/// `sum(share * loss) / total` at lambdas that do not descend, correctly rounded; a share of 1 each by default. Images on which
/// the loss is undefined lose nothing.
pub fn loss_sums(
    profile: &ExactProfile,
    loss: &Loss,
    lambdas: &[f64],
    shares: Option<&[BigRational]>,
    total: &BigRational,
    cancel: &Cancel,
) -> Result<Vec<f64>> {
    let images = profile.images();
    let (one, mut by_share) = (BigRational::one(), HashMap::<&BigRational, Vec<&Arc<ImageProfile>>>::new());
    match shares {
        None => {
            by_share.insert(&one, memory::collected(images.iter(), WHAT)?);
        }
        Some(shares) => {
            for (share, image) in shares.iter().zip(images).filter(|(share, _)| !share.is_zero()) {
                memory::reserve_entry(&mut by_share, WHAT)?;
                memory::push(by_share.entry(share).or_default(), image, WHAT)?;
            }
        }
    }
    let mut denominator = BigInt::one();
    for share in by_share.keys() {
        cancel.check()?;
        denominator *= BigRational::new(share.denom().clone(), denominator.clone()).numer();
    }
    // In units of 2^-SMALLEST over the denominator.
    let mut sums = memory::filled(BigInt::zero(), lambdas.len(), WHAT, cancel)?;
    for (share, images) in by_share {
        let factor = share.numer() * (&denominator / share.denom());
        for images in images.chunks(MOST_IMAGES) {
            let changes = changes(profile, images, loss, lambdas, cancel)?;
            let mut tiny = changes.tiny;
            tiny.sort_unstable_by_key(|(place, _)| *place);
            let (mut whole, mut rest) = (0, BigInt::zero());
            for (place, (sum, change)) in sums.iter_mut().zip(changes.wholes).enumerate().rev() {
                cancel.check()?;
                whole += change;
                while let Some((_, change)) = tiny.pop_if(|(at, _)| *at == place) {
                    rest += change;
                }
                if whole != 0 || !rest.is_zero() {
                    *sum += ((BigInt::from(whole) << (SMALLEST - DIGITS)) + &rest) * &factor;
                }
            }
        }
    }
    let denominator = (denominator << SMALLEST) * total.numer();
    let mut found = memory::with_room(sums.len(), WHAT)?;
    for sum in sums {
        cancel.check()?;
        found.push(BigRational::new_raw(sum * total.denom(), denominator.clone()).to_f64().expect("a float"));
    }
    Ok(found)
}

fn changes(
    profile: &ExactProfile,
    images: &[&Arc<ImageProfile>],
    loss: &Loss,
    lambdas: &[f64],
    cancel: &Cancel,
) -> Result<Changes> {
    let found = images
        .par_iter()
        // About one for each thread, because they may be large.
        .with_min_len(images.len().div_ceil(2 * rayon::current_num_threads()).max(1))
        .try_fold(
            || None,
            |found, image| {
                let mut changes = match found {
                    Some(changes) => changes,
                    None => Changes::new(lambdas.len(), cancel)?,
                };
                image.for_each_step(profile.coding(), loss, lambdas, cancel, |run, value| {
                    changes.add(run, value);
                })?;
                Ok(Some(changes))
            },
        )
        .try_reduce(
            || None,
            |left, right| match (left, right) {
                (Some(left), Some(right)) => Ok(Some(left.joined(right))),
                (left, right) => Ok(left.or(right)),
            },
        )?;
    found.map_or_else(|| Changes::new(lambdas.len(), cancel), Ok)
}
