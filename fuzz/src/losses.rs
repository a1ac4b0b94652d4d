//! Any loss.

use _core::loss::Weighting;
use arbitrary::{Result, Unstructured};

use crate::twins::{LossTwin, ratio, weights};

/// Any loss of K classes.
pub fn any(u: &mut Unstructured<'_>, n_classes: usize) -> Result<LossTwin> {
    let weights: Vec<_> = [ratio(1, 1)].into_iter().chain(weights()).collect();
    let kind: u8 = u.arbitrary()?;
    let weighting = match kind % 4 {
        0 => Weighting::Pooled(vec![true; n_classes]),
        1 => Weighting::Pooled((0..n_classes).map(|_| u.arbitrary()).collect::<Result<_>>()?),
        2 => Weighting::PerClass(vec![ratio(1, 1); n_classes]),
        _ => {
            let weight = |_| Ok(u.choose(&weights)?.clone());
            Weighting::PerClass((0..n_classes).map(weight).collect::<Result<_>>()?)
        }
    };
    let tolerances = [ratio(0, 1), ratio(1, 10), ratio(3, 10), ratio(1, 2), ratio(1, 1), ratio(1, 1 << 50)];
    let tolerance = if kind & 0x30 == 0x30 { Some(u.choose(&tolerances)?.clone()) } else { None };
    Ok(LossTwin { weighting, tolerance })
}
