//! A package's header and payload.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::package(data));
