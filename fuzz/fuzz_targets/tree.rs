//! A tree as it is stored.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_cache::fuzz::tree(data));
