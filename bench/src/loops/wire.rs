//! Packets alone: writing and reading them.

use std::hint::black_box;

use ::wire::icmp::{ECHO_LEN, Echo, EchoPayload, emit_request};
use ::wire::report::{self, Report, ReportRequest};
use ::wire::stamp::{
    BASE_LEN, ErrorEstimate, Reply, ReplyFields, Request, RequestFields, Timestamp, TimestampFormat,
};
use ::wire::tlv::{self, Handled, TlvFlags};
use base::WallNanos;

use super::Loop;

const PACKETS: u64 = 64;
/// Not a constant to the compiler, which would encode it at compile time.
fn now() -> WallNanos {
    black_box(WallNanos(1_800_000_000_123_456_789))
}

const FORMAT: TimestampFormat = TimestampFormat::Ntp;
/// A probe with the private TLV and 20 octets of padding: 128 octets of IP packet.
const LONG: usize = 100;

fn estimate() -> ErrorEstimate {
    ErrorEstimate::new(true, FORMAT, 12_345)
}

fn request(sequence: u32) -> RequestFields {
    RequestFields {
        sequence,
        timestamp: Timestamp::encode(now().offset(i64::from(sequence)), FORMAT, 0),
        error_estimate: estimate(),
        ssid: 77,
    }
}

fn reply(sequence: u32) -> ReplyFields {
    let sent = request(sequence);
    ReplyFields {
        sequence,
        timestamp: Timestamp::encode(now().offset(9_000), FORMAT, 0),
        error_estimate: estimate(),
        ssid: sent.ssid,
        receive_timestamp: Timestamp::encode(now().offset(4_000), FORMAT, 0),
        sender_sequence: sequence,
        sender_timestamp: sent.timestamp,
        sender_error_estimate: sent.error_estimate,
        sender_ttl: 255,
    }
}

fn extended() -> [u8; LONG] {
    let mut packet = [0; LONG];
    // It fits: the sizes are constants above.
    let _ = request(1).emit(&mut packet);
    let mut value = [0; report::VALUE_LEN];
    ReportRequest { uncounted: false }.emit(&mut value);
    let mut at = BASE_LEN;
    at += tlv::emit(&mut packet[at..], TlvFlags::SENT, report::KIND, &value);
    let _ = tlv::emit_padding(&mut packet[at..]);
    packet
}

/// Repeats `each` for every packet of a pass, with its number.
fn per_packet(name: &'static str, mut each: impl FnMut(u32) + 'static) -> Loop {
    let mut sequence = 0_u32;
    Loop::new(name, PACKETS, move || {
        for _ in 0..PACKETS {
            sequence = sequence.wrapping_add(1);
            each(sequence);
        }
    })
}

/// STAMP requests and replies, the TLVs of a reply, ICMP echo.
#[must_use]
pub fn wire() -> Vec<Loop> {
    let mut base = [0; BASE_LEN];
    let mut emitted = [0; BASE_LEN];
    let mut parsed = [0; BASE_LEN];
    let _ = reply(3).emit(&mut parsed);
    let mut asked = [0; BASE_LEN];
    let _ = request(3).emit(&mut asked);
    let template = extended();
    let mut reflected = template;
    let mut echo = [0; ECHO_LEN + 56];
    let mut answer = echo;
    let _ = emit_echo(&mut answer, 1);
    answer[0] = 0;
    // Type 8 became 0: RFC 1624's update of the checksum, without a carry here.
    let sum = u16::from_be_bytes([answer[2], answer[3]]);
    let (sum, carry) = sum.overflowing_add(0x0800);
    answer[2..4].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());

    vec![
        per_packet("emit/stamp-request", move |sequence| {
            let _ = black_box(request(sequence).emit(black_box(&mut base)));
        }),
        per_packet("parse/stamp-request", move |_| {
            if let Ok(request) = Request::parse(black_box(&asked)) {
                black_box((request.sequence(), request.timestamp(), request.ssid()));
            }
        }),
        per_packet("emit/stamp-reply", move |sequence| {
            let _ = black_box(reply(sequence).emit(black_box(&mut emitted)));
        }),
        per_packet("parse/stamp-reply", move |_| {
            if let Ok(reply) = Reply::parse(black_box(&parsed)) {
                let format = reply.error_estimate().format();
                black_box((
                    reply.sequence(),
                    reply.sender_sequence(),
                    reply.receive_timestamp().decode(format, 0, now()),
                    reply.timestamp().decode(format, 0, now()),
                    reply.sender_ttl(),
                ));
            }
        }),
        per_packet("reflect/stamp-tlvs", move |sequence| {
            reflected.copy_from_slice(black_box(&template));
            let report = Report {
                distinct: sequence,
                ..Report::default()
            };
            let _ = black_box(tlv::reflect(&mut reflected[BASE_LEN..], |kind, value| {
                if kind != report::KIND {
                    return Handled::Unknown;
                }
                if let Ok(value) = value.try_into() {
                    report.emit(value);
                }
                Handled::Understood
            }));
        }),
        per_packet("emit/icmp-echo", move |sequence| {
            let _ = black_box(emit_echo(black_box(&mut echo), sequence));
        }),
        per_packet("parse/icmp-echo", move |_| {
            if let Ok(Some(echo)) = Echo::parse(false, black_box(&answer)) {
                let _ = black_box(EchoPayload::parse(echo.payload));
            }
        }),
    ]
}

fn emit_echo(buf: &mut [u8], sequence: u32) -> Result<(), ::wire::Reason> {
    EchoPayload {
        nonce: 99,
        sequence,
        sent: now(),
    }
    .emit(&mut buf[ECHO_LEN..])?;
    #[expect(clippy::cast_possible_truncation, reason = "ICMP has 16 bits")]
    emit_request(false, buf, 7, sequence as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packets_are_what_the_loops_say() {
        let packet = extended();
        let request = Request::parse(&packet).expect("whole");
        let kinds: Vec<u8> = request
            .tlvs()
            .map(|tlv| tlv.expect("well formed").kind)
            .collect();
        assert_eq!(kinds, [report::KIND, tlv::EXTRA_PADDING]);
    }

    #[test]
    fn the_echo_reply_is_one() {
        let mut packet = [0; ECHO_LEN + 56];
        emit_echo(&mut packet, 1).expect("fits");
        packet[0] = 0;
        let sum = u16::from_be_bytes([packet[2], packet[3]]);
        let (sum, carry) = sum.overflowing_add(0x0800);
        packet[2..4].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
        let echo = Echo::parse(false, &packet).expect("good checksum");
        assert!(echo.expect("an echo").is_reply);
    }
}
