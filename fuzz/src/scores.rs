//! Any score, with the parameters that the border lets through, and twins of those that look at each pixel alone.

use arbitrary::{Result, Unstructured};

use _core::maps::Inputs;
use _core::score::{BaseSpec, Settings, Spec};

/// Any score of maps that are handed over so.
pub fn any(u: &mut Unstructured<'_>, inputs: Inputs) -> Result<Spec> {
    let kind: u8 = u.arbitrary()?;
    let base = if inputs == Inputs::CriticalValues {
        BaseSpec::Given { max: *u.choose(&[1.0, 1.0, 1.25, 1e300, 1e-300])? }
    } else if kind & 1 == 0 {
        BaseSpec::Lac { include_top1: kind & 2 != 0 }
    } else {
        let penalty = *u.choose(&[0.0, 0.0, 0.01, 0.3, 1.0, 1e6, 1e-12])?;
        BaseSpec::Raps { penalty, k_reg: *u.choose(&[None, Some(1), Some(2), Some(40), Some(usize::MAX)])? }
    };
    if kind & 0x0c != 0x0c {
        return Ok(Spec::Pixelwise(base));
    }
    let settings = Settings {
        weight: *u.choose(&[0.0, 0.3, 0.5, 1.0, 1e-9])?,
        window: *u.choose(&[1, 3, 5, 7, 21, 101])?,
        include_top1: kind & 0x10 != 0,
        probabilities: kind & 0x20 != 0 && inputs != Inputs::CriticalValues,
    };
    Ok(Spec::Sacp(base, settings))
}

/// The lowest of the most probable classes.
fn top1(probabilities: &[f64]) -> usize {
    let largest = probabilities.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    probabilities.iter().position(|&p| p == largest).unwrap_or(0)
}

/// The lambda from which on the set of a pixel holds a class, by the definition; `None` of what has no twin.
pub fn critical(probabilities: &[f64], class: usize, spec: Spec) -> Option<f64> {
    let p = probabilities[class];
    match spec {
        Spec::Pixelwise(BaseSpec::Lac { include_top1 }) => {
            let is_first = include_top1 && class == top1(probabilities);
            Some(if is_first { 0.0 } else { (1.0 - p).max(0.0) })
        }
        Spec::Pixelwise(BaseSpec::Raps { penalty, k_reg }) => {
            let n_classes = probabilities.len();
            let before = |k: &usize| probabilities[*k] > p || (probabilities[*k] == p && *k < class);
            let unit = 2_f64.powi(-53);
            let (mut mass, mut rank) = (0_u64, 1);
            for k in (0..n_classes).filter(before) {
                mass += (probabilities[k] / unit).round_ties_even() as u64;
                rank += 1;
            }
            let k_reg = k_reg.unwrap_or((n_classes / 2).max(1));
            let excess = |rank: usize| penalty * rank.saturating_sub(k_reg) as f64;
            Some(((mass as f64 * unit).min(1.0) + excess(rank)).min(1.0 + excess(n_classes)))
        }
        Spec::Pixelwise(BaseSpec::Given { .. }) => Some(p),
        Spec::Sacp(..) => None,
    }
}
