//! Every frame is decoded or has a reason.
#![no_main]

#[path = "../checks/decode.rs"]
mod decode;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| decode::check(data));
