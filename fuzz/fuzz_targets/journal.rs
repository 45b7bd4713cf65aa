//! A journal of requests and answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_playbooks::replay::fuzz::journal(data));
