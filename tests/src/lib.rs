//! Helpers of the end-to-end tests: a project on disk, the real binary, the EL7-shaped stand-in.

mod bin;
mod host;
mod machine;
mod project;
mod standin;

pub use bin::{Ran, rootbuild_binary};
pub use host::TestHost;
pub use machine::machine_archive;
pub use project::{Project, shared_store};
pub use standin::{Standin, source, standin};

/// Says why a test didn't run, in a form that can be counted (`grep -c '^skipped: '`).
pub fn skipped(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
}

/// Whether this process is root; what isn't, is skipped with a line that says so.
#[must_use]
pub fn privileged(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "needs root");
    }
    root
}
