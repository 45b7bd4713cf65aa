//! RPM bases from real servers, good and bad, with and without a network, and with all kinds of keys. They need
//! root privileges and the stand-in (`tests/standin/generate.py`).

#![allow(clippy::unwrap_used)] // a test may panic

mod mirrors;
mod offline;
#[path = "../common/server.rs"]
mod server;
mod support;
mod trust;
