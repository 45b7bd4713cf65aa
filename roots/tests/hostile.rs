//! Roots that mean harm: nothing leads out of one, nothing in one makes us wait, and none takes more than it may.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

#[path = "hostile/bombs.rs"]
mod bombs;
#[path = "hostile/mounts.rs"]
mod mounts;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/outside.rs"]
mod outside;
#[path = "hostile/swaps.rs"]
mod swaps;
