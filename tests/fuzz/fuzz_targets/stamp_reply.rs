//! A sender reads any datagram, and what it read is what it writes.
#![no_main]

use base::WallNanos;
use libfuzzer_sys::fuzz_target;
use wire::report::{self, Report, ReportRequest};
use wire::stamp::{BASE_LEN, Reply, ReplyFields, TWAMP_LIGHT_REPLY};
use wire::tlv;

fuzz_target!(|data: &[u8]| {
    let Ok(reply) = Reply::parse(data) else {
        assert!(data.len() < TWAMP_LIGHT_REPLY);
        return;
    };
    let near = WallNanos(1_800_000_000_000_000_000);
    let format = reply.error_estimate().format();
    for stamp in [reply.timestamp(), reply.receive_timestamp()] {
        let _ = stamp.decode(format, 37, near);
    }
    let mut buf = [0xa5; BASE_LEN];
    ReplyFields {
        sequence: reply.sequence(),
        timestamp: reply.timestamp(),
        error_estimate: reply.error_estimate(),
        ssid: reply.ssid(),
        receive_timestamp: reply.receive_timestamp(),
        sender_sequence: reply.sender_sequence(),
        sender_timestamp: reply.sender_timestamp(),
        sender_error_estimate: reply.sender_error_estimate(),
        sender_ttl: reply.sender_ttl(),
    }
    .emit(&mut buf)
    .expect("room");
    assert_eq!(buf[..38], data[..38]);
    assert_eq!((buf[38], buf[39], buf[40]), (0, 0, data[40]));
    assert_eq!(buf[41..], [0, 0, 0]);

    let Ok(Some(value)) = tlv::reflected(reply.extension(), report::KIND) else {
        return;
    };
    // Nothing is believed when any TLV up to the end or an M says that integrity failed.
    assert!(reply.tlvs().flatten().any(|tlv| tlv.value == value));
    let _ = ReportRequest::parse(value);
    if let Ok(report) = Report::parse(value) {
        let mut again = [0xa5; report::VALUE_LEN];
        report.emit(&mut again);
        assert_eq!(Report::parse(&again), Ok(report));
    }
});
