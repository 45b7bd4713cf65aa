//! The definition.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild::fuzz::definition(data));
