//! The archive of a base: read, and unpacked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::archive(data));
