//! Any score, with the parameters that the Python package allows.

use arbitrary::{Result, Unstructured};

use _core::maps::Inputs;
use _core::score::{BaseSpec, Settings, Spec};

/// Any score for maps of such inputs.
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
