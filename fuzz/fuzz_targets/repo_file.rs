//! yum's `.repo` files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_roots::fuzz::repo_file(data));
