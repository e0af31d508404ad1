//! See `checks/dns.rs`, which cargo test runs over the corpus.
#![no_main]

#[path = "../checks/dns.rs"]
mod dns;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dns::check(data));
