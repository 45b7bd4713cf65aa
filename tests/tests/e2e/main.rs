//! The product as a user meets it: the real binary, real nspawn, real ansible-core, real rpm.
//! One binary, so that bases and toolchains are built once for all tests.

mod ansible;
mod archive;
mod bad_input;
mod bazel;
mod bootstrap;
mod caching;
mod changes;
mod collect;
mod debian;
mod debian_lock;
mod downloads;
mod el7;
mod example;
mod explain;
mod handoff;
mod init;
mod inputs;
mod interrupted;
mod linked;
mod lock;
mod names;
mod network;
mod real_el7;
mod repos;
mod sbom;
mod services;
mod specs;
mod support;
