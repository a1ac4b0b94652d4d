//! Long work without the GIL, on our own threads, that stops on Ctrl-C.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Result;
use crate::threads::{self, Cancel};

/// How often a running kernel lets Python look for signals.
const POLL: Duration = Duration::from_millis(50);

/// Runs a job on the pool without the GIL. Meanwhile the calling thread waits and checks for signals; on Ctrl-C it asks the
/// job to stop, and raises. A panic, which is a bug of ours, becomes a `RuntimeError`.
pub fn run<T: Send>(py: Python<'_>, job: impl FnOnce(&Cancel) -> Result<T> + Send) -> PyResult<T> {
    // With the GIL held, as `threads::pool` asks.
    let pool = threads::pool()?;
    let cancel = Cancel::default();
    py.detach(|| {
        pool.in_place_scope(|scope| {
            let (sender, receiver) = channel();
            let cancel = &cancel;
            scope.spawn(move |_| {
                let result = catch_unwind(AssertUnwindSafe(|| job(cancel)));
                // The receiver may have left on a signal; then the result is not needed.
                let _ = sender.send(result);
            });
            loop {
                match receiver.recv_timeout(POLL) {
                    Ok(Ok(result)) => return Ok(result?),
                    Ok(Err(panic)) => return Err(internal_error(panic.as_ref())),
                    Err(RecvTimeoutError::Timeout) => {
                        #[allow(clippy::redundant_closure_for_method_calls)]
                        // the method alone is not general enough
                        let signals = Python::attach(|py| py.check_signals());
                        if let Err(signal) = signals {
                            cancel.set();
                            return Err(signal);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => unreachable!("the job sends before it ends"),
                }
            }
        })
    })
}

/// With so few elements, work is done before signals would be checked.
const SHORT: usize = 1 << 18;

/// Runs a job on so many elements; in the calling thread if they are few, because starting it on the pool takes longer.
pub fn run_if_long<T: Send>(
    py: Python<'_>,
    n_elements: usize,
    job: impl FnOnce(&Cancel) -> Result<T> + Send,
) -> PyResult<T> {
    if n_elements > SHORT {
        return run(py, job);
    }
    catch_unwind(AssertUnwindSafe(|| job(&Cancel::default())))
        .map_err(|panic| internal_error(panic.as_ref()))
        .and_then(|result| Ok(result?))
}

fn internal_error(panic: &(dyn Any + Send)) -> PyErr {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown");
    PyRuntimeError::new_err(format!("internal error in conformask, please report it: {message}"))
}

/// Number of threads that the kernels use.
#[pyfunction]
pub fn get_num_threads() -> usize {
    threads::num_threads()
}

/// The number of threads that the environment sets; `None` if it sets none.
#[pyfunction]
pub fn environment_threads() -> Option<usize> {
    threads::environment_threads()
}

/// The largest number of threads that may be set.
#[pyfunction]
pub fn most_threads() -> usize {
    threads::most_threads()
}

/// Sets the number of threads that the kernels use; `None` returns to the default.
#[pyfunction]
#[pyo3(signature = (n_threads=None))]
pub fn set_num_threads(n_threads: Option<usize>) -> PyResult<()> {
    if n_threads == Some(0) {
        return Err(PyValueError::new_err("n_threads must be at least 1, got 0"));
    }
    threads::set_num_threads(n_threads);
    Ok(())
}
