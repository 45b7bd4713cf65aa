//! Finished roots handed over to the host's systemd: started, swapped, stopped, looked at.
//!
//! Nothing of ours stays behind to watch them: processes belong to process 1, units are what
//! [`rootbuild_roots::units`] makes of a root, and the mount that they run in is made by a unit too. What is
//! done here is done over the D-Bus, and what happens is pushed by systemd: nothing polls.

mod down;
mod error;
mod follow;
mod journal;
mod manager;
mod mounts;
mod pending;
mod status;
mod survey;
mod up;

pub use down::{down, installed, uninstall};
pub use error::HandoffError;
pub use follow::{Failure, Told};
pub use journal::last_lines;
pub use manager::{Job, Manager, Signal, Signals};
pub use mounts::{Mounted, mounted};
pub use status::{Active, UnitStatus};
pub use survey::{Survey, survey};
pub use up::{Action, Handed, Options, Outcome, State, up};
