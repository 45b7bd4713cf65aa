//! The upper side of an overlay, made by a list of what is done in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::overlay(data));
