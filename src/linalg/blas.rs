//! OpenBLAS runs on one thread while we call it: parallelism is rayon's, a second pool would fight for the same cores, and
//! the bits of a sum depend on how many threads share it.
//!
//! The library may be one that others in the process are linked to (a system's), so that their number of threads comes back
//! when we are done.
#![allow(unsafe_code)] // C functions that take and return an int or a function; no memory is shared.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

// Named so that the linker keeps it: `ndarray-linalg` calls LAPACK through it.
use openblas_src as _;

unsafe extern "C" {
    fn openblas_set_num_threads(n_threads: c_int);
    fn openblas_get_num_threads() -> c_int;
}

/// Who counts callers: the id of the process, 0 for nobody. Not a mutex, which a fork may copy while it is taken by a thread
/// that the child does not have.
static COUNTING: AtomicU32 = AtomicU32::new(0);
/// The process that the callers are in.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static CALLERS: AtomicUsize = AtomicUsize::new(0);
/// The number of threads to come back, 0 for none. It stands before one thread is set, and until the number is back: a child
/// that was forked at any moment finds it here.
static BEFORE: AtomicI32 = AtomicI32::new(0);

/// OpenBLAS on one thread, as long as any caller has such a value.
pub struct OneThread(());

impl OneThread {
    /// Sets one thread, if no other caller has.
    pub fn enter() -> Self {
        count(|process| {
            if PROCESS.swap(process, Ordering::Relaxed) != process {
                // Forked: the callers that were are not here. What they set is.
                CALLERS.store(0, Ordering::Relaxed);
                let before = BEFORE.swap(0, Ordering::Relaxed);
                if before != 0 {
                    set_num_threads(before);
                }
            }
            if CALLERS.fetch_add(1, Ordering::Relaxed) == 0 {
                let before = num_threads();
                BEFORE.store(before, Ordering::Relaxed);
                if before != 1 {
                    set_num_threads(1);
                }
            }
        });
        Self(())
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        count(|_| {
            if CALLERS.fetch_sub(1, Ordering::Relaxed) == 1 {
                let before = BEFORE.load(Ordering::Relaxed);
                // Whoever has set another number meanwhile wants that one.
                if before != 1 && num_threads() == 1 {
                    set_num_threads(before);
                }
                BEFORE.store(0, Ordering::Relaxed);
            }
        });
    }
}

/// Does some steps as one, given the id of the process. No fork of the process comes between them.
fn count(steps: impl FnOnce(u32)) {
    make_forks_wait();
    let process = std::process::id();
    take(process);
    steps(process);
    release();
}

/// Waits until nobody else counts.
fn take(process: u32) {
    loop {
        let held = COUNTING.compare_exchange(0, process, Ordering::Acquire, Ordering::Relaxed);
        let Err(holder) = held else { break };
        // A holder of another process is one that was forked away while it counted.
        let is_gone = holder != process
            && COUNTING.compare_exchange(holder, process, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if is_gone {
            break;
        }
        std::thread::yield_now();
    }
}

fn release() {
    COUNTING.store(0, Ordering::Release);
}

pub use forks::make_forks_wait;

/// OpenBLAS sets a number of threads under a lock of its own. A child that is forked meanwhile would find it taken for ever:
/// forks wait until nobody of ours is at it.
#[cfg(unix)]
mod forks {
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicBool, Ordering};

    type Handler = Option<extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    extern "C" fn before() {
        super::take(std::process::id());
    }

    extern "C" fn after() {
        super::release();
    }

    /// From now on forks wait while numbers of threads are set. A fork that has begun before the first number is set knows
    /// nothing of it: call this while no other thread is at work yet, or it is called then.
    pub fn make_forks_wait() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        if !ASKED.swap(true, Ordering::Relaxed) {
            // SAFETY: POSIX has this function with just this signature; the handlers are never gone, and touch one number.
            // Without memory for them it fails, and forks are as they were.
            unsafe { pthread_atfork(Some(before), Some(after), Some(after)) };
        }
    }
}

#[cfg(not(unix))]
mod forks {
    /// Nothing forks here.
    pub fn make_forks_wait() {}
}

/// Number of threads of the library.
pub fn num_threads() -> c_int {
    // SAFETY: OpenBLAS exports this function with just this signature.
    unsafe { openblas_get_num_threads() }
}

/// Sets the number of threads of the library.
pub fn set_num_threads(n_threads: c_int) {
    // SAFETY: as above.
    unsafe { openblas_set_num_threads(n_threads) }
}
