//! See `checks/quic.rs`, which cargo test runs over the corpus.
#![no_main]

#[path = "../checks/quic.rs"]
mod quic;

libfuzzer_sys::fuzz_target!(|data: &[u8]| quic::check(data));
