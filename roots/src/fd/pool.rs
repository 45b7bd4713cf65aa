//! The threads for file work.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// What the threads of a pool do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Scan, read and hash. At least eight threads however few cores there are: a cold disk is slow,
    /// not busy (eight threads scan six times as fast as one).
    Read,
    /// Make files. File systems take locks and write journals for that: more threads than cores
    /// wait for each other.
    Write,
    /// Give files more names. That is work for processors, and for the journal all at once.
    Link,
}

/// Runs `work` in the pool for file work of that kind.
pub(crate) fn in_pool<R: Send>(kind: Work, work: impl FnOnce() -> R + Send) -> R {
    static POOLS: [OnceLock<Option<ThreadPool>>; 3] = [const { OnceLock::new() }; 3];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (pool, threads, name) = match kind {
        Work::Read => (&POOLS[0], cores.max(8), "read"),
        Work::Write => (&POOLS[1], cores.clamp(2, 8), "write"),
        Work::Link => (&POOLS[2], cores.max(2), "link"),
    };
    let build = || {
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(move |number| format!("{name}-{number}"))
            // While a thread waits for others to hash with it, it takes on further tasks, on its stack.
            .stack_size(8 << 20)
            .build()
            .ok()
    };
    match pool.get_or_init(build) {
        Some(pool) => pool.install(work),
        // No threads to be had: rayon's global pool makes do.
        None => work(),
    }
}
