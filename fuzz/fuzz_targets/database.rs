//! The databases of package managers, which are made equal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::database(data));
