//! The Python binding, the only module that uses PyO3. A function views the arrays, releases the GIL and calls a kernel.
//!
//! There is no public API here. `python/conformask` wraps these functions and documents them for users.

// PyO3 hands arguments over by value.
#![allow(clippy::needless_pass_by_value)]

mod adapt;
mod arrays;
mod binned;
mod calibration;
mod consign;
mod kernels;
mod objects;
mod profile;
mod run;
mod scale;

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::Memory { .. } => PyMemoryError::new_err(error.to_string()),
            Error::Threads { .. } | Error::Lapack { .. } | Error::Changed { .. } => {
                PyRuntimeError::new_err(error.to_string())
            }
            error => PyValueError::new_err(error.to_string()),
        }
    }
}

/// The kernels of conformask. Private: use `conformask.kernels`.
// No function here needs the GIL to be safe: shared data are frozen, atomic, or under a lock of their own. Objects that change
// in place (`BinnedProfile`, `ConsignSearch`) are borrowed by one thread at a time, and a second one gets an error.
#[pymodule(gil_used = false)]
mod _core {
    #[pymodule_export]
    use super::adapt::{
        BinaryValues, binary_counts, binary_cutoffs, binary_descriptions, binary_masks, mass_cutoffs,
        mass_shares, smooth_rates,
    };
    #[pymodule_export]
    use super::binned::BinnedProfile;
    #[pymodule_export]
    use super::calibration::calibration_counts;
    #[pymodule_export]
    use super::consign::{ConsignDecomposition, ConsignSearch};
    #[pymodule_export]
    use super::kernels::{
        agreeing_pixels, coverage, data_pointer, distinct_counts, label_hits, mask_coverage,
        pairwise_correlation, sample_masks, set_size, smallest_probability, threshold, threshold_packed,
        true_label_scores, truncated_svd, weighted_quantile,
    };
    #[pymodule_export]
    use super::objects::{Lambdas, Loss, Score};
    #[pymodule_export]
    use super::profile::{ExactProfile, corrected_lambdas, repeats_between, repeats_within};
    #[pymodule_export]
    use super::run::{environment_threads, get_num_threads, most_threads, set_num_threads};
    #[pymodule_export]
    use super::scale::{
        ScalerMap, centre_logits, draw_pixels, log_loss_gradients, log_loss_hessian_products,
        log_loss_hessians, pixel_features, probabilities, tempered_losses, tempered_sums,
    };

    use numpy::{PyArray1, PyArrayMethods};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // NumPy's C API is looked up at its first use, under a lock. Use it now: a process forked while another thread
        // looks it up would find that lock taken for ever.
        drop(PyArray1::<f32>::zeros(module.py(), 1, false).readonly());
        // For the same reason: before this point, none of our threads can be in OpenBLAS.
        crate::linalg::blas::make_forks_wait();
        // The code that makes profiles on other devices must agree with the kernels.
        module.add("ACTIVATION_CELLS", crate::score::N_CELLS)?;
        module.add("ACTIVATION_CELL_BITS", crate::score::CELL_BITS)?;
        module.add("CALIBRATION_UNIT", crate::metric::bins::UNIT)?;
        module.add("MASKED_HINT", crate::error::MASKED_HINT)?;
        module.add("MISSING_HINT", crate::error::MISSING_HINT)?;
        module.add("OTHERS_HINT", crate::error::OTHERS_HINT)?;
        module.add("N_BINS", crate::risk::binned::N_BINS)?;
        module.add("SOFTMAX_TAIL_DOUBLE", crate::num::exp::DOUBLE_TAIL)?;
        module.add("SOFTMAX_TAIL_SINGLE", crate::num::exp::SINGLE_TAIL)?;
        module.add("SUM_TOLERANCE", crate::maps::normalisation::TOLERANCE)?;
        module.add("SUM_TOLERANCE_BFLOAT16", crate::maps::normalisation::COARSE_TOLERANCE)?;
        module.add("SUM_SLACK", crate::maps::normalisation::SLACK)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
