//! The agent's protocol, both directions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rootbuild_playbooks::replay::fuzz::agent(data));
