//! See `checks/datagram.rs`, which cargo test runs over the corpus.
#![no_main]

#[path = "../checks/datagram.rs"]
mod datagram;

libfuzzer_sys::fuzz_target!(|data: &[u8]| datagram::check(data));
