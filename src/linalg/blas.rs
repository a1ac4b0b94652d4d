//! OpenBLAS runs on one thread while we call it. Rayon does the parallel work; a second pool would compete for the same cores,
//! and the bits of a sum depend on the number of threads that share it.
//!
//! Other code in the process may use the same library (a system's). So its number of threads is restored afterwards.
#![allow(unsafe_code)] // C functions that take and return an int or a function; no memory is shared.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};

// Named so that the linker keeps it: `ndarray-linalg` calls LAPACK through it.
use openblas_src as _;

unsafe extern "C" {
    fn openblas_set_num_threads(n_threads: c_int);
    fn openblas_get_num_threads() -> c_int;
}

/// A lock: the id of the process whose thread is counting callers, 0 if none is. It is no mutex, because a fork might copy a
/// mutex while a thread holds it that the child does not have.
static COUNTING: AtomicU32 = AtomicU32::new(0);
/// The process that the callers are in.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static CALLERS: AtomicUsize = AtomicUsize::new(0);
/// The number of threads to restore, 0 for none. It is stored before one thread is set, and until the number is restored, so
/// that a child that is forked at any moment finds it here.
static BEFORE: AtomicI32 = AtomicI32::new(0);

/// OpenBLAS runs on one thread as long as any caller holds such a value.
pub struct OneThread(());

impl OneThread {
    /// Sets one thread, unless another caller has done so.
    pub fn enter() -> Self {
        count(|process| {
            if PROCESS.swap(process, Ordering::Relaxed) != process {
                // The process was forked: the earlier callers are not in it, but the number that they set is.
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
                // Another number that was set meanwhile is kept.
                if before != 1 && num_threads() == 1 {
                    set_num_threads(before);
                }
                BEFORE.store(0, Ordering::Relaxed);
            }
        });
    }
}

/// Does some steps as one, given the id of the process. The process does not fork in between.
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
        // A holder in another process means that this one was forked while its parent was counting.
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

/// OpenBLAS sets its number of threads under a lock of its own. A child that is forked meanwhile would find the lock taken for
/// ever. So forks wait until none of our threads is doing this.
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

    /// From now on, forks wait while numbers of threads are set. A fork that begins before the first call does not wait. So call
    /// this before other threads work; otherwise the first use calls it.
    pub fn make_forks_wait() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        if !ASKED.swap(true, Ordering::Relaxed) {
            // SAFETY: POSIX has this function with this signature; the handlers live for ever, and touch only one number.
            // If there is no memory for the handlers, the call fails, and forks do not wait.
            unsafe { pthread_atfork(Some(before), Some(after), Some(after)) };
        }
    }
}

#[cfg(not(unix))]
mod forks {
    /// There are no forks on this system.
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
