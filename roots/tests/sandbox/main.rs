//! What a sandbox promises, each promise a test, in real sandboxes over a root that borrows the host's
//! `/usr`. They need root privileges and systemd-nspawn.

#![allow(clippy::unwrap_used)] // a test may panic

mod boot;
mod harness;
mod life;
mod network;
mod payload;
mod root;
