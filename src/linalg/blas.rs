//! OpenBLAS runs on one thread while we call it. Rayon does the parallel work; a second pool would compete for the same cores,
//! and the bits of a sum depend on the number of threads that share it.
//!
//! Other code in the process may use the same library (a system's). So its number of threads is restored afterwards.
#![allow(unsafe_code)] // C functions that take and return an int or a function; no memory is shared.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

// Named so that the linker keeps it: `ndarray-linalg` calls LAPACK through it.
use openblas_src as _;

unsafe extern "C" {
    fn openblas_set_num_threads(n_threads: c_int);
    fn openblas_get_num_threads() -> c_int;
}

/// A lock: the id of the process whose thread is counting callers or forks, 0 if none is. It is no mutex, because a fork might
/// copy a mutex while a thread holds it that the child does not have.
static COUNTING: AtomicU32 = AtomicU32::new(0);
/// The process in which a thread waits to fork, 0 if none does. New callers wait meanwhile.
static FORKING: AtomicU32 = AtomicU32::new(0);
/// The process that the callers are in.
static PROCESS: AtomicU32 = AtomicU32::new(0);
static CALLERS: AtomicUsize = AtomicUsize::new(0);
/// The number of threads to restore, 0 for none. It is stored before one thread is set, and until the number is restored, so
/// that a child that is forked at any moment finds it here.
static BEFORE: AtomicI32 = AtomicI32::new(0);

/// OpenBLAS runs on one thread as long as any caller holds such a value.
pub struct OneThread(());

impl OneThread {
    /// Sets one thread, unless another caller has done so. A thread holds at most one such value: while a fork waits for the
    /// first, the second would wait for the fork.
    pub fn enter() -> Self {
        while FORKING.load(Ordering::Relaxed) == std::process::id() {
            pause();
        }
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

/// As long as a decomposition of a small matrix, about. Threads that only yield would take most of the time of those they
/// wait for.
fn pause() {
    std::thread::sleep(Duration::from_micros(50));
}

pub use forks::make_forks_wait;

/// OpenBLAS has locks of its own: one for its number of threads, one for the memory of every call. A child that is forked while
/// one of our threads holds such a lock would find it taken for ever. So forks wait until none of our threads is in OpenBLAS.
/// The threads of OpenBLAS hold no lock either: its own handler ends them before a fork, after ours.
#[cfg(unix)]
mod forks {
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{CALLERS, FORKING, PROCESS, pause, release, take};

    type Handler = Option<extern "C" fn()>;

    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    extern "C" fn before() {
        let process = std::process::id();
        loop {
            // Again in each round, because another fork may have come first and ended.
            FORKING.store(process, Ordering::Relaxed);
            take(process);
            if PROCESS.load(Ordering::Relaxed) != process || CALLERS.load(Ordering::Relaxed) == 0 {
                break;
            }
            release();
            pause();
        }
    }

    extern "C" fn after() {
        FORKING.store(0, Ordering::Relaxed);
        release();
    }

    /// From now on, forks wait while OpenBLAS works for us. A fork that begins before the first call does not wait. So call
    /// this before other threads work; otherwise the first use calls it.
    pub fn make_forks_wait() {
        static ASKED: AtomicBool = AtomicBool::new(false);
        if !ASKED.swap(true, Ordering::Relaxed) {
            // SAFETY: POSIX has this function with this signature; the handlers live for ever, and touch only a few numbers.
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

#[cfg(all(test, unix))]
mod tests {
    use std::sync::Barrier;
    use std::time::Instant;

    use super::*;

    unsafe extern "C" {
        fn fork() -> c_int;
        fn _exit(code: c_int) -> !;
        fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    }

    /// Forks, and waits for the child, which exits with the code that is computed in it.
    fn status_of_child(code: impl FnOnce() -> c_int) -> c_int {
        // SAFETY: the child calls nothing that needs a thread of its parent, and ends without unwinding.
        unsafe {
            let child = fork();
            if child == 0 {
                _exit(code());
            }
            let mut status = -1;
            assert_eq!(waitpid(child, &raw mut status, 0), child);
            status
        }
    }

    #[test]
    fn forks_wait_for_callers_and_their_children_do_not() {
        make_forks_wait();
        let time = Duration::from_millis(200);
        let inside = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _one_thread = OneThread::enter();
                inside.wait();
                std::thread::sleep(time);
            });
            let start = Instant::now();
            inside.wait();
            let n_callers_of_child = || CALLERS.load(Ordering::Relaxed) as c_int;
            assert_eq!(status_of_child(n_callers_of_child), 0);
            assert!(start.elapsed() >= time, "the fork waited only {:?}", start.elapsed());
        });
        // Nobody waits for a fork that is over, in the parent and in the child.
        drop(OneThread::enter());
        let entered = || {
            drop(OneThread::enter());
            0
        };
        assert_eq!(status_of_child(entered), 0);
    }
}
