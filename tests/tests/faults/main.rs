//! The real binary while its system calls fail, while it is killed, while power is lost, and while many of it
//! work on one store.
//!
//! `ROOTBUILD_FAULTS=all` lets every call fail once instead of a sample; `ROOTBUILD_ROUNDS` is the number of
//! kills, `ROOTBUILD_MINUTES` how long many work on one store, `ROOTBUILD_POWER_CUTS` the number of power cuts.

mod bases;
mod calls;
mod damage;
mod every;
mod floor;
mod kills;
mod launch;
mod many;
mod mounts;
mod played;
mod power;
mod project;
mod supervise;
mod syncs;
mod whole;
