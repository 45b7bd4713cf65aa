//! What a playbook reads, and running it inside a root.

mod config;
pub mod event;
pub mod inputs;
pub mod replay;
pub mod run;
mod runtime;
pub mod toolchain;
pub mod trace;
