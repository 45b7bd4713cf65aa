//! The lock file of a Debian base.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::debian_lock(data));
