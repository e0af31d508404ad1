//! A reflector reads any datagram, and what it read is what it writes.
#![no_main]

use base::WallNanos;
use libfuzzer_sys::fuzz_target;
use wire::stamp::{BASE_LEN, Request, RequestFields, TWAMP_LIGHT_REQUEST};

fuzz_target!(|data: &[u8]| {
    let Ok(request) = Request::parse(data) else {
        assert!(data.len() < TWAMP_LIGHT_REQUEST);
        return;
    };
    let estimate = request.error_estimate();
    let near = WallNanos(1_800_000_000_000_000_000);
    let _ = request.timestamp().decode(estimate.format(), 37, near);
    assert_eq!(estimate.error_ns().is_none(), estimate.multiplier() == 0);
    assert!(request.tlvs().count() <= data.len() / 4 + 1);

    let fields = RequestFields {
        sequence: request.sequence(),
        timestamp: request.timestamp(),
        error_estimate: estimate,
        ssid: request.ssid(),
    };
    let mut buf = [0xa5; BASE_LEN];
    fields.emit(&mut buf).expect("room");
    // Up to the SSID all octets are fields; a short request has none.
    let known = if request.is_short() { 14 } else { 16 };
    assert_eq!(buf[..known], data[..known]);
    assert!(buf[known..].iter().all(|octet| *octet == 0));
});
