//! One thread pool of our own, rebuilt in a process that was forked, and the flag that stops long work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// The environment variable that sets the number of threads.
pub const THREADS_VARIABLE: &str = "CONFORMASK_NUM_THREADS";

/// Threads for each processor, at most.
const TIMES: usize = 4;

struct Current {
    process: u32,
    n_threads: usize,
    pool: Arc<ThreadPool>,
}

static POOL: Mutex<Option<Current>> = Mutex::new(None);
static REQUESTED: Mutex<Option<usize>> = Mutex::new(None);

/// The pool of this process.
///
/// A fork copies the pool but not its threads: a child builds its own. The child must not find the lock taken, so
/// callers that can be forked take it only where no fork can happen (Python: while holding the GIL, as `os.fork` does).
pub fn pool() -> Result<Arc<ThreadPool>> {
    let mut slot = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    let (process, n_threads) = (std::process::id(), num_threads());
    if let Some(current) = slot.as_ref()
        && current.process == process
        && current.n_threads == n_threads
    {
        return Ok(Arc::clone(&current.pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|index| format!("conformask-{index}"))
        .build()
        .map_err(|error| Error::Threads { n_threads, reason: error.to_string() })?;
    let fresh = Current { process, n_threads, pool: Arc::new(pool) };
    let pool = Arc::clone(&fresh.pool);
    if let Some(stale) = slot.replace(fresh)
        && stale.process != process
    {
        // The pool's threads are the parent's: there is nothing to stop here, and stopping would signal missing threads.
        std::mem::forget(stale);
    }
    Ok(pool)
}

/// The number of threads: the one that was set, else that of the environment, else what affinity and cgroup allow.
pub fn num_threads() -> usize {
    let requested = *REQUESTED.lock().unwrap_or_else(PoisonError::into_inner);
    requested.or_else(environment_threads).unwrap_or_else(processors)
}

/// The number of threads in the environment, if it is an allowed one.
pub fn environment_threads() -> Option<usize> {
    let n_threads = std::env::var(THREADS_VARIABLE).ok()?.trim().parse().ok()?;
    (1..=most_threads()).contains(&n_threads).then_some(n_threads)
}

/// The number that affinity and cgroup allow, determined at the first use, because this takes longer than many a kernel. A
/// forked process determines it again, as its affinity may differ.
fn processors() -> usize {
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let process = u64::from(std::process::id()) << 32;
    let known = KNOWN.load(Ordering::Relaxed);
    if known & !u64::from(u32::MAX) == process {
        return (known & u64::from(u32::MAX)) as usize;
    }
    let found = std::thread::available_parallelism().map_or(1, usize::from);
    KNOWN.store(process | found.min(u32::MAX as usize) as u64, Ordering::Relaxed);
    found
}

/// The largest number of threads that may be set: four times the processors that affinity and cgroup allow.
pub fn most_threads() -> usize {
    TIMES * processors()
}

/// Sets the number of threads of all kernels; `None` returns to the default.
pub fn set_num_threads(n_threads: Option<usize>) {
    *REQUESTED.lock().unwrap_or_else(PoisonError::into_inner) = n_threads;
}

/// A flag that long work checks between tasks.
#[derive(Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// Asks the work to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Fails once the work was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
