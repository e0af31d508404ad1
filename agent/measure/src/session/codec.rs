//! A session's packets: what to write into a probe, what a reply says.

use base::{ClockState, Stamp, StampSource, WallNanos};
use wire::icmp::{ECHO_LEN, Echo, EchoPayload};
use wire::report::{self, Report, ReportRequest};
use wire::stamp::{self, ErrorEstimate, RequestFields, Timestamp, TimestampFormat};
use wire::tlv::{self, TlvFlags};

/// Octets of the UDP payload of a STAMP probe that carries the private TLV and nothing more.
pub const REPORT_PAYLOAD: usize = stamp::BASE_LEN + tlv::HEADER_LEN + report::VALUE_LEN;
/// Data octets of an ICMP echo when no size is asked for, as `ping` sends.
pub const ICMP_DATA: usize = 56;
/// The longest payload that a codec writes: 9001 octets of IP packet and a little more.
pub const MAX_PAYLOAD: usize = 9216;

/// What a probe carries beside its base.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Marking {
    /// Nothing, or padding.
    Plain,
    /// The private TLV, asking for a report; the probe is counted.
    Report,
    /// The private TLV, saying that neither side counts this probe.
    Uncounted,
}

/// What a reply says, whatever the protocol.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Reply {
    /// Number of the probe that it answers.
    pub sequence: u32,
    /// The reflector's own number.
    pub reflector_sequence: Option<u32>,
    /// T1 as the reply repeats it.
    pub echo: [u8; 8],
    /// T2 and T3.
    pub reflector: Option<(WallNanos, WallNanos)>,
    /// The reflector's Error Estimate.
    pub estimate: Option<ErrorEstimate>,
    /// TTL or hop limit that the reflector saw.
    pub sender_ttl: Option<u8>,
    /// Our own reflector's counters.
    pub report: Option<Report>,
}

/// Why a datagram is no reply of this session.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Well formed, but another's: not to be counted at all (ICMP sockets see them all).
    Another,
    /// Meant for this port, but not this session: an old run's, or forged.
    Stray,
    /// Not a packet of the protocol.
    Malformed,
}

/// STAMP, open mode (RFC 8762 section 4).
#[derive(Clone, Debug)]
pub struct StampCodec {
    /// Session identifier (RFC 8972 section 3), random per run.
    pub ssid: u16,
    /// Format of T1.
    pub format: TimestampFormat,
    /// UDP payload asked for; `None` is the smallest.
    pub payload: Option<usize>,
    /// Whether to use the private TLV.
    pub private_tlv: bool,
    /// Set when the peer is ours: then every probe has the size of one with the TLV, since
    /// a larger probe once a second would be a biased sample.
    pub equal_sizes: bool,
}

/// ICMP or ICMPv6 echo (RFC 792, RFC 4443 section 4).
#[derive(Clone, Debug)]
pub struct IcmpCodec {
    /// ICMPv6?
    pub v6: bool,
    /// Identifier; a ping socket's kernel puts its own.
    pub ident: u16,
    /// Proof that a reply is to one of ours.
    pub nonce: u32,
    /// Data octets asked for; `None` is [`ICMP_DATA`].
    pub payload: Option<usize>,
}

/// How a session's packets look.
#[derive(Clone, Debug)]
pub enum Codec {
    /// RFC 8762.
    Stamp(StampCodec),
    /// Echo.
    Icmp(IcmpCodec),
}

impl Codec {
    /// Whether probes of this size can carry the private TLV without growing.
    #[must_use]
    pub fn reports_in_counted(&self) -> bool {
        match self {
            Self::Stamp(codec) => {
                codec.private_tlv && codec.payload.is_none_or(|len| len >= REPORT_PAYLOAD)
            }
            Self::Icmp(_) => false,
        }
    }

    /// Writes probe `sequence` into `buf` and returns its length and T1 as written.
    pub fn emit(
        &self,
        buf: &mut [u8; MAX_PAYLOAD],
        sequence: u32,
        marking: Marking,
        t1: WallNanos,
        clock: ClockState,
    ) -> (usize, [u8; 8]) {
        match self {
            Self::Stamp(codec) => codec.emit(buf, sequence, marking, t1, clock),
            Self::Icmp(codec) => codec.emit(buf, sequence, t1),
        }
    }

    /// Number of a probe of ours, from its own packet (behind the UDP header, or from the
    /// ICMP header on).
    #[must_use]
    pub fn sequence_of(&self, sent: &[u8]) -> Option<u32> {
        match self {
            Self::Stamp(_) => stamp::Request::parse(sent)
                .ok()
                .map(|request| request.sequence()),
            Self::Icmp(codec) => EchoPayload::parse(sent.get(ECHO_LEN..)?)
                .ok()
                .filter(|ours| ours.nonce == codec.nonce)
                .map(|ours| ours.sequence),
        }
    }

    /// Reads a datagram. `near` is the present time, which settles the era of NTP.
    ///
    /// # Errors
    /// Why it is no reply of this session.
    pub fn parse(
        &self,
        payload: &[u8],
        near: WallNanos,
        tai_offset: i32,
    ) -> Result<Reply, Refusal> {
        match self {
            Self::Stamp(codec) => codec.parse(payload, near, tai_offset),
            Self::Icmp(codec) => codec.parse(payload),
        }
    }
}

impl StampCodec {
    fn emit(
        &self,
        buf: &mut [u8; MAX_PAYLOAD],
        sequence: u32,
        marking: Marking,
        t1: WallNanos,
        clock: ClockState,
    ) -> (usize, [u8; 8]) {
        let timestamp = Timestamp::encode(t1, self.format, clock.tai_offset_s);
        let error_estimate = ErrorEstimate::new(clock.synchronised, self.format, clock.error_ns);
        let fields = RequestFields {
            sequence,
            timestamp,
            error_estimate,
            ssid: self.ssid,
        };
        let smallest = if self.equal_sizes {
            REPORT_PAYLOAD
        } else {
            stamp::BASE_LEN
        };
        let mut len = self
            .payload
            .unwrap_or(smallest)
            .clamp(stamp::BASE_LEN, MAX_PAYLOAD);
        let marked = self.private_tlv && marking != Marking::Plain;
        if marked {
            len = len.max(REPORT_PAYLOAD);
        }
        // The buffer is never shorter than a base packet.
        let _ = fields.emit(buf);
        let mut at = stamp::BASE_LEN;
        if marked {
            let mut value = [0; report::VALUE_LEN];
            ReportRequest {
                uncounted: marking == Marking::Uncounted,
            }
            .emit(&mut value);
            at += tlv::emit(&mut buf[at..len], TlvFlags::SENT, report::KIND, &value);
        }
        if tlv::emit_padding(&mut buf[at..len]) == 0 {
            // Fewer octets than a TLV header has: plain zeros, which every reflector copies.
            buf[at..len].fill(0);
        }
        (len, timestamp.0)
    }

    fn parse(&self, payload: &[u8], near: WallNanos, tai_offset: i32) -> Result<Reply, Refusal> {
        let reply = stamp::Reply::parse(payload).map_err(|_| Refusal::Malformed)?;
        // RFC 8972 section 3: a reflector that does not support the SSID sends 0.
        if reply.ssid() != self.ssid && reply.ssid() != 0 {
            return Err(Refusal::Stray);
        }
        let estimate = reply.error_estimate();
        let decode = |stamp: Timestamp| stamp.decode(estimate.format(), tai_offset, near);
        let report = self
            .private_tlv
            .then(|| {
                tlv::reflected(reply.extension(), report::KIND)
                    .ok()
                    .flatten()
            })
            .flatten()
            .and_then(|value| Report::parse(value).ok());
        Ok(Reply {
            sequence: reply.sender_sequence(),
            reflector_sequence: Some(reply.sequence()),
            echo: reply.sender_timestamp().0,
            reflector: Some((decode(reply.receive_timestamp()), decode(reply.timestamp()))),
            estimate: Some(estimate),
            sender_ttl: Some(reply.sender_ttl()),
            report,
        })
    }
}

impl IcmpCodec {
    fn emit(&self, buf: &mut [u8; MAX_PAYLOAD], sequence: u32, t1: WallNanos) -> (usize, [u8; 8]) {
        let data = self.payload.unwrap_or(ICMP_DATA).max(EchoPayload::LEN);
        let len = (ECHO_LEN + data).min(MAX_PAYLOAD);
        // Neither can fail: the buffer is longer than both.
        let _ = EchoPayload {
            nonce: self.nonce,
            sequence,
            sent: t1,
        }
        .emit(&mut buf[ECHO_LEN..len]);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ICMP has 16 bits; the payload has all"
        )]
        let _ = wire::icmp::emit_request(self.v6, &mut buf[..len], self.ident, sequence as u16);
        (len, t1.0.to_be_bytes())
    }

    fn parse(&self, payload: &[u8]) -> Result<Reply, Refusal> {
        let echo = Echo::parse(self.v6, payload).map_err(|_| Refusal::Malformed)?;
        let echo = echo.filter(|echo| echo.is_reply).ok_or(Refusal::Another)?;
        let ours = EchoPayload::parse(echo.payload).map_err(|_| Refusal::Another)?;
        if ours.nonce != self.nonce {
            return Err(Refusal::Another);
        }
        Ok(Reply {
            sequence: ours.sequence,
            reflector_sequence: None,
            echo: ours.sent.0.to_be_bytes(),
            reflector: None,
            estimate: None,
            sender_ttl: None,
            report: None,
        })
    }
}

/// T2 and T3 as stamps. Our reflector takes T2 from the kernel and T3 from its own clock;
/// of others that is not known.
#[must_use]
pub(super) fn reflector_stamps(at: (WallNanos, WallNanos)) -> (Stamp, Stamp) {
    (
        Stamp {
            at: at.0,
            source: StampSource::Kernel,
        },
        Stamp {
            at: at.1,
            source: StampSource::User,
        },
    )
}
