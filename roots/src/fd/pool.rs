//! The threads for file work.

use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Runs `work` in the pool for file work. It has at least eight threads however few cores there
/// are: a cold disk is slow, not busy (eight threads scan six times as fast as one).
pub(crate) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).max(8);
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("files-{n}"))
            // While a thread waits for others to hash with it, it takes on further tasks, on its stack.
            .stack_size(8 << 20)
            .build()
            .ok()
    });
    match pool {
        Some(pool) => pool.install(work),
        // No threads to be had: rayon's global pool makes do.
        None => work(),
    }
}
