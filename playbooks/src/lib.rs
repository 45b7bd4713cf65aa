//! What a playbook reads, and running it inside a root.

pub mod event;
pub mod inputs;
pub mod run;
pub mod toolchain;
