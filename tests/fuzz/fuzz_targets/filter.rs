//! Any instructions and any words are a filter or none.
#![no_main]

#[path = "../checks/filter.rs"]
mod filter;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| filter::check(data));
