//! From a definition to roots: plan, engine and command line.

pub mod bazel;
pub mod bug;
pub mod cli;
pub mod definition;
pub mod engine;
pub mod event;
pub mod exit;
#[doc(hidden)]
pub mod fuzz;
pub mod generation;
pub mod host;
pub mod logs;
pub mod plan;
pub mod render;
pub mod room;
pub mod sbom;
pub mod signals;
pub mod sinks;
pub mod units;
pub mod upkeep;
