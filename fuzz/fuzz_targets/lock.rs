//! The lock file of an rpm base.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::lock(data));
