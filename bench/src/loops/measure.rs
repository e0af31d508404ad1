//! The sans-I/O session and the reflector, with a virtual clock.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use ::measure::reflector::{self, Reflector};
use ::measure::session::{
    Action, ClockTrust, Codec, Config, Datagram, Emission, IcmpCodec, MAX_PAYLOAD, Marking,
    Session, StampCodec, Transmit,
};
use ::wire::report::{self, Report};
use ::wire::stamp::{
    BASE_LEN, ErrorEstimate, ReplyFields, Request, Timestamp, TimestampFormat, patch_send_timestamp,
};
use ::wire::tlv::{self, Handled};
use base::{Counter, MonoNanos, Output, WallNanos};

use super::{Loop, Numbers};

const MS: u64 = 1_000_000;
/// Wall clock at virtual time 0.
const EPOCH: u64 = 1_800_000_000_000_000_000;
const CLOCK: base::ClockState = base::ClockState {
    synchronised: true,
    error_ns: 10_000,
    tai_offset_s: 0,
};

/// What a session handed on, as far as a test wants to know.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Seen {
    /// Counted probes that left.
    pub sent: u64,
    /// Answered in time.
    pub received: u64,
    /// Not answered.
    pub lost: u64,
    /// Values for distributions.
    pub samples: u64,
    /// Everything.
    pub emissions: u64,
}

impl Seen {
    fn note(&mut self, emission: &Emission) {
        self.emissions += 1;
        match emission {
            Emission::Output(Output::Count(Counter::Sent, n)) => self.sent += n,
            Emission::Output(Output::Count(Counter::Received, n)) => self.received += n,
            Emission::Output(Output::Count(Counter::Lost, n)) => self.lost += n,
            Emission::Output(Output::Sample(_)) => self.samples += 1,
            _ => {}
        }
    }
}

/// A session at 1 ms and the far end of its path, which answers at once: a reflector of
/// ours without its table of sessions, so that the cost is the sender's.
pub struct Path {
    session: Session,
    now: u64,
    packet: Box<[u8; MAX_PAYLOAD]>,
    reply: Box<[u8; MAX_PAYLOAD]>,
    number: u32,
    report: Report,
    delays: Numbers,
    /// What came out.
    pub seen: Seen,
}

impl Path {
    fn new(codec: Codec) -> Self {
        let config = Config {
            interval_ns: MS,
            wait_ns: 1_000 * MS,
            count: None,
            poisson: false,
            ttl: 255,
            clock: ClockTrust::Kernel,
            stamped: true,
            opening_first: true,
            first_sequence: 0,
            seed: 1,
            source_port: 40_000,
        };
        Self {
            session: Session::new(config, codec, MonoNanos(10 * MS)),
            now: 10 * MS,
            packet: Box::new([0; MAX_PAYLOAD]),
            reply: Box::new([0; MAX_PAYLOAD]),
            number: 0,
            report: Report {
                epoch: 1,
                ..Report::default()
            },
            delays: Numbers::new(),
            seen: Seen::default(),
        }
    }

    /// STAMP with the private TLV.
    #[must_use]
    pub fn stamp() -> Self {
        Self::new(Codec::Stamp(stamp_codec(false)))
    }

    /// ICMP echo.
    #[must_use]
    pub fn icmp() -> Self {
        Self::new(Codec::Icmp(IcmpCodec {
            v6: false,
            ident: 7,
            nonce: 99,
            payload: None,
        }))
    }

    /// One counted probe: due, written, sent, stamped, answered, measured; with what else
    /// the session wants to send before it.
    pub fn probe(&mut self, also: &mut impl FnMut(Emission)) {
        loop {
            let seen = &mut self.seen;
            let mut out = |emission| {
                seen.note(&emission);
                also(emission);
            };
            match self.session.poll(MonoNanos(self.now), &mut out) {
                Action::Send(transmit) => {
                    self.transfer(&transmit, also);
                    if transmit.kind.is_counted() {
                        return;
                    }
                }
                Action::Wait(until) => self.now = until.0.max(self.now + 1),
                Action::Done => return,
            }
        }
    }

    fn transfer(&mut self, transmit: &Transmit, also: &mut impl FnMut(Emission)) {
        let Self {
            session,
            packet,
            reply,
            delays,
            seen,
            ..
        } = self;
        let mut out = |emission| {
            seen.note(&emission);
            also(emission);
        };
        let t1 = WallNanos(EPOCH + self.now);
        let (len, echo) = session.emit(transmit, packet, t1, CLOCK);
        session.sent(transmit, MonoNanos(self.now), t1, len, echo, &mut out);
        let kernel = t1.offset(2_000);
        session.tx_stamp(transmit.sequence, Some(kernel), None, &mut out);
        for _ in 0..transmit.copies {
            let forward = 5_000 + delays.delay(20_000);
            let dwell = 4_000 + delays.delay(8_000);
            let reverse = 5_000 + delays.delay(20_000);
            let t2 = WallNanos(kernel.0 + forward);
            let t3 = WallNanos(t2.0 + dwell);
            let t4 = WallNanos(t3.0 + reverse);
            reply[..len].copy_from_slice(&packet[..len]);
            match session.codec() {
                Codec::Stamp(_) => {
                    let uncounted = transmit.marking == Marking::Uncounted;
                    let counts = &mut self.report;
                    *if uncounted {
                        &mut counts.uncounted_received
                    } else {
                        &mut counts.distinct
                    } += 1;
                    answer_stamp(&mut reply[..len], self.number, *counts, t2, t3);
                    self.number = self.number.wrapping_add(1);
                }
                Codec::Icmp(_) => answer_icmp(&mut reply[..len]),
            }
            self.now = t4.0 - EPOCH + 1_000;
            let datagram = Datagram {
                payload: &reply[..len],
                kernel: Some(t4),
                hardware: None,
                user: t4.offset(1_000),
                ttl: Some(255),
            };
            black_box(session.receive(&datagram, MonoNanos(self.now), &mut out));
        }
    }
}

fn stamp_codec(equal_sizes: bool) -> StampCodec {
    StampCodec {
        ssid: 77,
        format: TimestampFormat::Ntp,
        payload: None,
        private_tlv: true,
        equal_sizes,
    }
}

fn answer_stamp(reply: &mut [u8], number: u32, report: Report, t2: WallNanos, t3: WallNanos) {
    let Ok(request) = Request::parse(reply) else {
        return;
    };
    let format = request.error_estimate().format();
    let fields = ReplyFields {
        sequence: number,
        timestamp: Timestamp::encode(t3, format, 0),
        error_estimate: ErrorEstimate::new(true, format, 10_000),
        ssid: request.ssid(),
        receive_timestamp: Timestamp::encode(t2, format, 0),
        sender_sequence: request.sequence(),
        sender_timestamp: request.timestamp(),
        sender_error_estimate: request.error_estimate(),
        sender_ttl: 255,
    };
    let _ = fields.emit(reply);
    let _ = tlv::reflect(&mut reply[BASE_LEN..], |kind, value| {
        match value.try_into() {
            Ok(value) if kind == report::KIND => report.emit(value),
            _ => return Handled::Unknown,
        }
        Handled::Understood
    });
}

fn answer_icmp(reply: &mut [u8]) {
    reply[0] = 0;
    let sum = u16::from_be_bytes([reply[2], reply[3]]);
    let (sum, carry) = sum.overflowing_add(0x0800);
    reply[2..4].copy_from_slice(&(sum + u16::from(carry)).to_be_bytes());
}

/// A reflector that answers `sessions` senders in turn.
fn answering(name: &'static str, sessions: u16) -> Loop {
    const PACKETS: u64 = 64;
    let mut template = Box::new([0; MAX_PAYLOAD]);
    let (len, _) = Codec::Stamp(stamp_codec(true)).emit(
        &mut template,
        0,
        Marking::Plain,
        WallNanos(EPOCH),
        CLOCK,
    );
    let mut buf = template.clone();
    let mut reflector = Reflector::new(reflector::Config::default());
    let clock = base::ClockState {
        synchronised: true,
        error_ns: 10_000,
        tai_offset_s: 0,
    };
    let mut requests = 0_u64;
    Loop::new(name, PACKETS, move || {
        for _ in 0..PACKETS {
            let sender = requests % u64::from(sessions);
            #[expect(clippy::cast_possible_truncation, reason = "numbers wrap on the wire")]
            let sequence = (requests / u64::from(sessions)) as u32;
            let port = 20_000 + u16::try_from(sender).unwrap_or(0);
            requests += 1;
            let now = MonoNanos(requests * 10_000);
            let at = WallNanos(EPOCH + now.0);
            buf[..len].copy_from_slice(&template[..len]);
            buf[..4].copy_from_slice(&sequence.to_be_bytes());
            let t1 = Timestamp::encode(at, TimestampFormat::Ntp, 0);
            let estimate = ErrorEstimate::new(true, TimestampFormat::Ntp, 10_000);
            let _ = patch_send_timestamp(&mut buf[..], t1, estimate);
            let arrival = reflector::Arrival {
                peer: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), port)),
                local: SocketAddr::from((Ipv4Addr::new(10, 0, 0, 2), 862)),
                ttl: Some(255),
                at,
                now,
                overflow: 0,
            };
            let answered = reflector.answer(&mut buf[..], len, &arrival, clock);
            let prepared = answered.expect("a good request is answered");
            prepared.stamp(&mut buf[..], at.offset(4_000));
            black_box(&buf);
        }
        reflector.sweep(MonoNanos(requests * 10_000));
    })
}

/// The sender's cost of a probe, the reflector's of an answer.
#[must_use]
pub fn measure() -> Vec<Loop> {
    let (mut stamp, mut icmp) = (Path::stamp(), Path::icmp());
    vec![
        Loop::new("probe/stamp", 1, move || {
            stamp.probe(&mut |emission| {
                black_box(emission);
            });
        }),
        Loop::new("probe/icmp", 1, move || {
            icmp.probe(&mut |emission| {
                black_box(emission);
            });
        }),
        answering("answer/stamp", 1),
        answering("answer/stamp-1000-sessions", 1_000),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_is_sent_answered_and_measured() {
        // Distributions per probe: RTT, round trip, response and schedule error always;
        // with T2 and T3 also dwell and, since both clocks agree, more.
        for (mut path, least) in [(Path::stamp(), 7), (Path::icmp(), 4)] {
            for _ in 0..5_000 {
                path.probe(&mut |_| {});
            }
            let seen = path.seen;
            assert_eq!((seen.sent, seen.received, seen.lost), (5_000, 5_000, 0));
            assert!(seen.samples >= least * 5_000 - 100, "{seen:?}");
        }
    }
}
