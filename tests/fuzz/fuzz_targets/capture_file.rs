//! Any octets as a capture file give frames in order and one end.
#![no_main]

#[path = "../checks/capture_file.rs"]
mod capture_file;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| capture_file::check(data));
