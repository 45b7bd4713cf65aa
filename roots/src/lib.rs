//! Roots: where they come from ([`base`]), how steps run in them ([`sandbox`]), how a directory
//! becomes a tree ([`capture`]) and a tree a directory ([`checkout`]), and how a finished root is
//! handed over ([`publish`]).
//!
//! Nothing here prints, and nothing reads user configuration. A root is hostile: no path inside one
//! is ever resolved with the host's view of symbolic links.

pub mod base;
pub mod cancel;
pub mod capture;
pub mod checkout;
mod fd;
#[doc(hidden)]
pub mod fuzz;
mod normal;
pub mod packages;
pub mod process;
pub mod progress;
pub mod publish;
pub mod sandbox;
pub mod scrub;
pub mod units;
mod unsynced;
mod wait;
pub mod working;

pub use cancel::{Cancel, Cancelled};
pub use progress::{StepEvent, StepSink};
pub use wait::Wait;
