//! Segmentations drawn from a set: coefficients uniform in the box, then the argmax, only at pixels that may change.

use ndarray::{ArrayViewMut2, Axis};
use rayon::prelude::*;

use super::field::Field;
use super::possible::Coefficients;
use crate::error::Result;
use crate::memory;
use crate::num::philox::{Philox, unit};
use crate::threads::Cancel;

/// Draws `out` `(m, pixels)`. Coefficient `k` of sample `j` is decided by random number `j * n_components + k`.
pub fn sample<T: Copy + Send + Sync + TryFrom<u16>>(
    field: &Field,
    lower: &[f64],
    upper: &[f64],
    generator: Philox,
    mut out: ArrayViewMut2<'_, T>,
    cancel: &Cancel,
) -> Result<()> {
    let class = |label: u16| T::try_from(label).ok().expect("labels fit");
    let coefficients = Coefficients::between(lower, upper);
    let common = field.label_map(coefficients.centre(), cancel)?;
    let changing = may_change(field, &coefficients, &common, cancel)?;
    let part = field.select(&changing, cancel)?;
    let n = lower.len();
    out.axis_iter_mut(Axis(0)).into_par_iter().enumerate().try_for_each(|(sample, mut out)| {
        cancel.check()?;
        for (out, &label) in out.iter_mut().zip(&common) {
            *out = class(label);
        }
        let coefficients: Vec<f64> = (0..n)
            .map(|k| {
                let t = (sample * n + k) as u64;
                let share = unit(generator.block(t / 4)[(t % 4) as usize]);
                (lower[k] + (upper[k] - lower[k]) * share).min(upper[k])
            })
            .collect();
        part.labels(&coefficients, cancel, |first, labels| {
            for (&pixel, &label) in changing[first..].iter().zip(labels) {
                out[pixel as usize] = class(label);
            }
        })
    })
}

/// The pixels whose label may differ from the one at the centre.
fn may_change(
    field: &Field,
    coefficients: &Coefficients,
    common: &[u16],
    cancel: &Cancel,
) -> Result<Vec<u32>> {
    let mut changing = Vec::new();
    for (pixel, &leader) in common.iter().enumerate() {
        cancel.check()?;
        if coefficients.rivals(field, pixel, leader.into()).next().is_some() {
            memory::push(&mut changing, pixel as u32, "the pixels that change")?;
        }
    }
    Ok(changing)
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn only_what_may_change_is_drawn() {
        // Pixel 0 never changes; pixel 1 is label 1 where c > 0; pixel 2 is a tie that does not move, of which label 0 is.
        let mean = vec![0.9, 0.5, 0.5, 0.1, 0.5, 0.5];
        let components = vec![0.0, -0.5, 0.0, 0.0, 0.5, 0.0];
        let field = Field::new(2, 1, mean, components);
        let mut out = Array2::<u8>::zeros((2000, 3));
        sample(&field, &[-1.0], &[3.0], Philox::new(3), out.view_mut(), &Cancel::default()).unwrap();
        assert!(out.column(0).iter().chain(out.column(2)).all(|&label| label == 0));
        let share = out.column(1).iter().filter(|&&label| label == 1).count();
        assert!((1430..1570).contains(&share), "{share} of 2000, expected 1500");
        let coefficients = Coefficients::between(&[-1.0], &[3.0]);
        assert_eq!(may_change(&field, &coefficients, &[0, 1, 0], &Cancel::default()), Ok(vec![1]));
    }
}
