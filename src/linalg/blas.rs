//! OpenBLAS runs on one thread: parallelism is rayon's, and a second pool would fight for the same cores.
#![allow(unsafe_code)] // Two C functions that take and return an int; no memory is shared.

use std::ffi::c_int;
use std::sync::Once;

// Named so that the linker keeps it: `ndarray-linalg` calls LAPACK through it.
use openblas_src as _;

unsafe extern "C" {
    fn openblas_set_num_threads(n_threads: c_int);
    fn openblas_get_num_threads() -> c_int;
}

/// Sets the copy of OpenBLAS that this crate is linked to (NumPy has its own) to one thread, once. The functions of
/// [`dense`](super::dense) do so first of all. Where processes are forked it must have been done before: a child would wait
/// for ever for a thread that it does not have.
pub fn use_one_thread() {
    static DONE: Once = Once::new();
    // SAFETY: OpenBLAS exports this function with just this signature.
    DONE.call_once(|| unsafe { openblas_set_num_threads(1) });
}

/// Number of threads of that copy.
pub fn num_threads() -> usize {
    // SAFETY: as above.
    let n_threads = unsafe { openblas_get_num_threads() };
    n_threads.max(0) as usize
}
