//! What a reflector answers (RFC 8762 section 4.3), stateful, open mode. Sans-I/O: a request
//! becomes its reply in the same buffer.
//!
//! Never answers with more octets than came in, but for TWAMP Light requests of fewer than
//! 44, and those only when told to. Every request is answered or counted with its reason.

mod table;
mod window;

use std::net::{IpAddr, SocketAddr};

use base::{ClockState, MonoNanos, WallNanos};
use wire::Reason;
use wire::report::{self, Report, ReportRequest};
use wire::stamp::{self, ErrorEstimate, ReplyFields, Request, Timestamp};
use wire::tlv::{self, Handled};

use crate::random::Random;
pub use table::Key;
use table::Table;
use window::Place;

/// What a reflector is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Networks that are answered (address, prefix length); all if empty.
    pub allow: Vec<(IpAddr, u8)>,
    /// Answer requests of 14 to 43 octets with 44.
    pub twamp_light: bool,
    /// Shorter requests are dropped.
    pub min_request: usize,
    /// Sessions at once; further ones are not answered.
    pub max_sessions: u32,
    /// A session without requests for so long ends.
    pub idle_ns: u64,
    /// Requests per second and session, 0 for no limit; bursts of a tenth of a second.
    pub rate: u32,
    /// Copy the sender's number instead of counting (RFC 8762 section 4: "stateless").
    pub stateless: bool,
    /// Fill the private TLV; not done while `stateless`.
    pub private_tlv: bool,
    /// For epochs.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            twamp_light: false,
            min_request: stamp::BASE_LEN,
            max_sessions: 16_384,
            idle_ns: 300_000_000_000,
            rate: 0,
            stateless: false,
            private_tlv: true,
            seed: 0,
        }
    }
}

base::closed_list! {
    /// Why a request was not answered.
    Drop {
        /// Shorter than the protocol, or than the configured minimum.
        TooShort = "too_short",
        /// Longer than the reflector's buffer.
        TooLong = "too_long",
        /// Not from an allowed network.
        NotAllowed = "not_allowed",
        /// From port 862 or our own port: two reflectors would answer each other for ever.
        ReflectorLoop = "reflector_loop",
        /// From or to a broadcast, multicast or unspecified address.
        BadAddress = "bad_address",
        /// No room for a new session.
        TableFull = "table_full",
        /// Above the session's rate.
        RateLimited = "rate_limited",
        /// The answer was ready, but the kernel refused to send it.
        SendFailed = "send_failed",
    }
}

/// Where a request came from and how.
#[derive(Copy, Clone, Debug)]
pub struct Arrival {
    /// The sender.
    pub peer: SocketAddr,
    /// The address and port that were probed.
    pub local: SocketAddr,
    /// TTL or hop limit on arrival; `None` becomes 255 in the reply.
    pub ttl: Option<u8>,
    /// T2.
    pub at: WallNanos,
    /// The same moment, for time-outs.
    pub now: MonoNanos,
    /// Datagrams that the reflector's socket has dropped so far.
    pub overflow: u32,
}

/// A reply that is ready but for T3.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Prepared {
    /// Octets of the reply.
    pub len: usize,
    /// Format of the timestamps, as the request's.
    format: stamp::TimestampFormat,
    error_estimate: ErrorEstimate,
    tai_offset: i32,
}

impl Prepared {
    /// Writes T3, as late as can be.
    pub fn stamp(&self, buf: &mut [u8], at: WallNanos) {
        let t3 = Timestamp::encode(at, self.format, self.tai_offset);
        // A prepared reply has at least 44 octets.
        let _ = stamp::patch_send_timestamp(buf, t3, self.error_estimate);
    }
}

/// A stateful STAMP reflector without its sockets.
#[derive(Debug)]
pub struct Reflector {
    config: Config,
    table: Table,
    random: Random,
    /// Sessions begun and ended so far.
    pub begun: u64,
    /// Sessions that ended for idleness.
    pub expired: u64,
    /// Requests whose TLVs were malformed; answered all the same, flagged.
    pub malformed_tlvs: u64,
    /// Senders that started their numbers again in the same session.
    pub sender_restarts: u64,
}

impl Reflector {
    /// A reflector with an empty table.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        // A copied number and counters contradict one another: a sender that sees counters
        // takes the number for a count.
        config.private_tlv &= !config.stateless;
        Self {
            table: Table::new(config.max_sessions),
            random: Random::new(config.seed),
            config,
            begun: 0,
            expired: 0,
            malformed_tlvs: 0,
            sender_restarts: 0,
        }
    }

    /// Sessions now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.table.len()
    }

    /// Ends idle sessions. Cheap: to be called with every batch.
    pub fn sweep(&mut self, now: MonoNanos) {
        self.expired += self.table.sweep(now, self.config.idle_ns);
    }

    /// Turns the request in `buf[..len]` into its reply, or says why not.
    ///
    /// # Errors
    /// The reason, to be counted.
    pub fn answer(
        &mut self,
        buf: &mut [u8],
        len: usize,
        arrival: &Arrival,
        clock: ClockState,
    ) -> Result<Prepared, Drop> {
        self.admit(arrival)?;
        let payload = buf.get(..len).ok_or(Drop::TooLong)?;
        let request = Request::parse(payload).map_err(|_: Reason| Drop::TooShort)?;
        let short = request.is_short();
        if (short && !self.config.twamp_light) || (!short && len < self.config.min_request) {
            return Err(Drop::TooShort);
        }
        let (sequence, timestamp) = (request.sequence(), request.timestamp());
        let (estimate, ssid) = (request.error_estimate(), request.ssid());
        let uncounted = self.config.private_tlv
            && request.tlvs().any(|tlv| {
                tlv.is_ok_and(|tlv| {
                    tlv.kind == report::KIND
                        && ReportRequest::parse(tlv.value).is_ok_and(|ours| ours.uncounted)
                })
            });

        let answered = stamp::Reply::parse(payload)
            .ok()
            .map(|reply| (reply.sender_sequence(), reply.sender_timestamp()));
        let key = Key {
            peer: arrival.peer.ip(),
            peer_port: arrival.peer.port(),
            local: arrival.local.ip(),
            local_port: arrival.local.port(),
            ssid,
        };
        let epoch = self.epoch();
        let (session, fresh) = self
            .table
            .session(key, arrival.now, epoch, arrival.overflow)
            .ok_or(Drop::TableFull)?;
        self.begun += u64::from(fresh);
        if !fresh && is_our_own(session, answered) {
            return Err(Drop::ReflectorLoop);
        }
        let cost_ns = crate::rate::cost_ns(self.config.rate);
        if !session.bucket.admits(cost_ns, BURST_NS, arrival.now) {
            session.rate_limited = session.rate_limited.wrapping_add(1);
            return Err(Drop::RateLimited);
        }
        self.sender_restarts += u64::from(note(session, sequence, timestamp, uncounted));
        let reply_sequence = if self.config.stateless {
            sequence
        } else {
            session.next_reply
        };
        session.next_reply = session.next_reply.wrapping_add(1);
        let report = Report {
            epoch: session.epoch,
            distinct: session.distinct,
            duplicates: session.duplicates,
            out_of_order: session.out_of_order,
            rate_limited: session.rate_limited,
            overflow: arrival.overflow.wrapping_sub(session.overflow_base),
            uncounted_received: session.uncounted,
        };

        // RFC 8762 section 4.3: the reply has the format that the request asked for by its Z
        // flag, so that the two sides need no agreement.
        let format = estimate.format();
        let error_estimate = ErrorEstimate::new(clock.synchronised, format, clock.error_ns);
        let fields = ReplyFields {
            sequence: reply_sequence,
            timestamp: Timestamp::encode(arrival.at, format, clock.tai_offset_s),
            error_estimate,
            ssid,
            receive_timestamp: Timestamp::encode(arrival.at, format, clock.tai_offset_s),
            sender_sequence: sequence,
            sender_timestamp: timestamp,
            sender_error_estimate: estimate,
            sender_ttl: arrival.ttl.unwrap_or(255),
        };
        fields.emit(buf).map_err(|_| Drop::TooLong)?;
        let len = len.max(stamp::BASE_LEN);
        let private_tlv = self.config.private_tlv;
        let walked = tlv::reflect(
            buf.get_mut(stamp::BASE_LEN..len).unwrap_or_default(),
            |kind, value| {
                if kind != report::KIND || !private_tlv || ReportRequest::parse(value).is_err() {
                    return Handled::Unknown;
                }
                if let Ok(value) = value.try_into() {
                    report.emit(value);
                }
                Handled::Understood
            },
        );
        self.malformed_tlvs += u64::from(walked.is_err());
        Ok(Prepared {
            len,
            format,
            error_estimate,
            tai_offset: clock.tai_offset_s,
        })
    }

    fn admit(&self, arrival: &Arrival) -> Result<(), Drop> {
        let (peer, local) = (arrival.peer, arrival.local);
        let from = peer.port();
        if matches!(from, stamp::PORT | 0) || from == local.port() {
            return Err(Drop::ReflectorLoop);
        }
        let unusable = |ip: IpAddr| {
            ip.is_multicast()
                || ip.is_unspecified()
                || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
        };
        if unusable(peer.ip()) || unusable(local.ip()) {
            return Err(Drop::BadAddress);
        }
        let allow = &self.config.allow;
        if !allow.is_empty() && !allow.iter().any(|network| contains(*network, peer.ip())) {
            return Err(Drop::NotAllowed);
        }
        Ok(())
    }

    fn epoch(&mut self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low half of random bits"
        )]
        let epoch = self.random.bits() as u32;
        epoch
    }
}

/// What a session's rate lets through at once.
const BURST_NS: u64 = 100_000_000;
/// Replies that may be on their way back to us in a loop.
const LOOP_WINDOW: u32 = 1024;

/// Whether a request is another reflector's answer to a reply of ours: two of them would
/// answer each other for ever once somebody forged a first packet. A sender's request has
/// zeros there (or padding, which hits our own numbers once in four million).
fn is_our_own(session: &table::Session, answered: Option<(u32, Timestamp)>) -> bool {
    answered.is_some_and(|(number, t1)| {
        t1.0 != [0; 8] && session.next_reply.wrapping_sub(number).wrapping_sub(1) < LOOP_WINDOW
    })
}

/// Counts a request in its session. Returns whether the sender began its numbers anew.
fn note(session: &mut table::Session, sequence: u32, t1: Timestamp, uncounted: bool) -> bool {
    if uncounted {
        // The private TLV tells our sender's opening and closing probes from the others.
        session.uncounted = session.uncounted.wrapping_add(1);
        return false;
    }
    let t1 = u64::from_be_bytes(t1.0);
    let mut place = session.window.insert(sequence);
    // A duplicate or a straggler was sent before the highest number was; a number from the
    // past that was sent after it belongs to a sender that started again.
    let restarted = place != Place::Ahead && t1 > session.highest_t1;
    if restarted {
        session.window.clear();
        place = session.window.insert(sequence);
    }
    match place {
        Place::Ahead => {
            session.highest_t1 = t1;
            session.distinct = session.distinct.wrapping_add(1);
        }
        Place::Behind => {
            session.out_of_order = session.out_of_order.wrapping_add(1);
            session.distinct = session.distinct.wrapping_add(1);
        }
        Place::Duplicate | Place::Forgotten => {
            session.duplicates = session.duplicates.wrapping_add(1);
        }
    }
    restarted
}

/// Whether a network (address, prefix length) contains an address.
#[must_use]
pub fn contains(network: (IpAddr, u8), ip: IpAddr) -> bool {
    let same_head = |a: u128, b: u128, bits: u32, prefix: u8| {
        let drop = bits.saturating_sub(u32::from(prefix));
        drop >= bits || a >> drop == b >> drop
    };
    match (network.0, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => same_head(
            u128::from(net.to_bits()),
            u128::from(ip.to_bits()),
            32,
            network.1,
        ),
        (IpAddr::V6(net), IpAddr::V6(ip)) => same_head(net.to_bits(), ip.to_bits(), 128, network.1),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
