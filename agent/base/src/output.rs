//! The plain values that a probe session hands on: small, `Copy`, without names.
//!
//! A session emits [`Output`]s to a closure; the prober puts them on a bounded ring; the
//! publisher (or `ping`) owns what they add up to.

use std::net::IpAddr;

use crate::{Stamp, StampPoint, StampSource, closed_list};

closed_list! {
    /// How a target is probed.
    Protocol {
        /// RFC 8762 over UDP.
        Stamp = "stamp",
        /// ICMP or ICMPv6 echo.
        Icmp = "icmp",
    }
}

closed_list! {
    /// What is kept as a distribution. Values are nanoseconds, but for `LossRun`.
    Quantity {
        /// (T4 - T1) - (T3 - T2), or T4 - T1 where the protocol has no T2 and T3.
        Rtt = "rtt",
        /// T4 - T1: what `ping` would show.
        RoundTrip = "round_trip",
        /// T4 minus the intended send time.
        Response = "response",
        /// T3 - T2.
        Dwell = "reflector_dwell",
        /// T2 - T1; signed; only while the clocks are known to agree.
        ForwardDelay = "forward_delay",
        /// T4 - T3; signed; only while the clocks are known to agree.
        ReverseDelay = "reverse_delay",
        /// Change of the forward delay between consecutive probes (RFC 3393); signed.
        ForwardIpdv = "forward_ipdv",
        /// Change of the reverse delay between consecutive probes (RFC 3393); signed.
        ReverseIpdv = "reverse_ipdv",
        /// Forward delay above the smallest of its evaluation interval (RFC 5481).
        ForwardPdv = "forward_pdv",
        /// Reverse delay above the smallest of its evaluation interval (RFC 5481).
        ReversePdv = "reverse_pdv",
        /// How late a probe left: T1 minus the intended time.
        ScheduleError = "schedule_error",
        /// Lengths of runs of lost packets (RFC 3357), in packets.
        LossRun = "loss_run",
    }
}

impl Quantity {
    /// Whether values may be negative.
    #[must_use]
    pub const fn is_signed(self) -> bool {
        matches!(
            self,
            Self::ForwardDelay | Self::ReverseDelay | Self::ForwardIpdv | Self::ReverseIpdv
        )
    }
}

/// One value of one distribution.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Which distribution.
    pub quantity: Quantity,
    /// Nanoseconds (packets for [`Quantity::LossRun`]).
    pub value: i64,
}

closed_list! {
    /// What is counted per target. Counted probes only, unless a line says otherwise.
    ///
    /// `Sent = Received + Lost + (the Discarded… probes) + in flight`, at every moment.
    Counter {
        /// Left `send()`.
        Sent = "sent",
        /// Answered in time with usable stamps.
        Received = "received",
        /// Unanswered when the wait passed; once per probe. By direction: [`LossTotals`].
        Lost = "lost",
        /// Answers to probes that were lost already.
        Late = "late",
        /// A second copy of one reply (same reflector sequence), or of an unattributable one.
        DuplicatesReverse = "duplicates_reverse",
        /// A probe that reached the reflector more than once.
        DuplicatesForward = "duplicates_forward",
        /// RFC 4737 over the order of arrival at the reflector.
        ReorderedForward = "reordered_forward",
        /// RFC 4737 over the order of arrival of the replies.
        ReorderedReverse = "reordered_reverse",
        /// `send()` refused it; not in `Sent`.
        SendErrors = "send_errors",
        /// Never tried: the schedule was too far behind, or a limit bit; not in `Sent`.
        Skipped = "skipped",
        /// Left more than 50 us (or a tenth of the interval, if more) after their time; in `Sent`.
        SentLate = "sent_late",
        /// Opening and closing probes; not in `Sent`.
        Uncounted = "uncounted",
        /// Answered, but the kernel's TX stamp was lost: no sample.
        DiscardedTxStampLost = "tx_stamp_lost",
        /// In flight while the wall clock was set: no sample.
        DiscardedClockStep = "clock_step",
        /// T3 before T2: no sample.
        DiscardedNegativeDwell = "negative_dwell",
        /// T3 - T2 longer than T4 - T1: no sample.
        DiscardedExcessiveDwell = "excessive_dwell",
        /// T1 and T4 of different clocks, or T4 before T1: no sample.
        DiscardedMixedClocks = "mixed_clocks",
        /// In flight when its session ended (another address, a device that came back): no
        /// verdict. Counted by the agent; a session cannot know.
        DiscardedSessionEnded = "session_ended",
        /// Replies (not probes) that fit no probe of this session: other SSID, unknown
        /// sequence, or a T1 that we did not send.
        StrayReplies = "stray_replies",
        /// Replies shorter than the protocol allows or otherwise malformed.
        MalformedReplies = "malformed_replies",
        /// Replies whose size is not the request's.
        ResizedReplies = "resized_replies",
        /// Replies dropped at our own socket (`SO_RXQ_OVFL`).
        ReceiveOverflows = "receive_overflows",
        /// ICMP errors that named one of our probes.
        IcmpErrors = "icmp_errors",
        /// The reflector's sequence fell back.
        ReflectorResets = "reflector_resets",
        /// Runs of at least 3 lost packets (RFC 3357), counted when they end or the run ends.
        Outages = "outages",
        /// Overflows of the reflector's own receive buffer, as it reports them.
        ReflectorOverflows = "reflector_overflows",
        /// Requests that the reflector's rate limit refused, as it reports them.
        ReflectorRateLimited = "reflector_rate_limited",
    }
}

impl Counter {
    /// Neither received nor lost: answered, but no sample could be taken, or nobody waited.
    pub const DISCARDED: &'static [Self] = &[
        Self::DiscardedTxStampLost,
        Self::DiscardedClockStep,
        Self::DiscardedNegativeDwell,
        Self::DiscardedExcessiveDwell,
        Self::DiscardedMixedClocks,
        Self::DiscardedSessionEnded,
    ];
}

closed_list! {
    /// What has a present value per target.
    Gauge {
        /// 1 while the target answers, 0 while it does not.
        Up = "up",
        /// Hops to the reflector, from the TTL it saw.
        HopsForward = "hops_forward",
        /// Hops back, from the TTL of the reply.
        HopsReverse = "hops_reverse",
        /// Interarrival jitter at the reflector (RFC 3550 section 6.4.1), ns.
        JitterForward = "jitter_forward",
        /// Interarrival jitter at the sender (RFC 3550 section 6.4.1), ns.
        JitterReverse = "jitter_reverse",
        /// Error bound of one-way delays: both Error Estimates added, ns.
        ClockError = "clock_error",
        /// 1 while both ends claim synchronised clocks (or it is assumed), else 0.
        ClockSynchronised = "clock_synchronised",
        /// Probes sent and not yet decided.
        InFlight = "in_flight",
        /// Length of the longest outage so far, ns.
        LongestOutage = "longest_outage",
        /// Wall time at which the longest outage began, ns since 1970.
        LongestOutageAt = "longest_outage_at",
        /// Size of the IP packets of counted probes, bytes.
        PacketBytes = "packet_bytes",
    }
}

/// Loss by place, cumulative since the target was added: `lost = local + forward +
/// reverse + unattributed`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct LossTotals {
    /// All lost probes.
    pub lost: u64,
    /// Never left this host (no TX stamp), or replies dropped at our own socket.
    pub local: u64,
    /// Between us and the reflector. 0 and meaningless unless `directed`.
    pub forward: u64,
    /// Between the reflector and us. 0 and meaningless unless `directed`.
    pub reverse: u64,
    /// What cannot be told.
    pub unattributed: u64,
    /// Whether the reflector's answers tell directions apart.
    pub directed: bool,
}

/// Something that happened to a session; the publisher adds names and makes it an event.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct SessionEvent {
    /// What.
    pub kind: crate::EventKind,
    /// The value before.
    pub old: i64,
    /// The value after.
    pub new: i64,
}

/// One thing that a session hands on.
#[derive(Copy, Clone, PartialEq, Debug)]
pub enum Output {
    /// A value for a distribution.
    Sample(Sample),
    /// A counter rose by so much.
    Count(Counter, u64),
    /// A sample used a stamp of this source at this point.
    Stamped(StampPoint, StampSource),
    /// A present value changed.
    Gauge(Gauge, f64),
    /// The newest loss totals of this target (they replace the ones before).
    Loss(LossTotals),
    /// Something happened.
    Event(SessionEvent),
    /// How this target is probed, and why; once at the start, again after a fall-back.
    Protocol(Protocol, Why),
    /// `send()` failed with this `errno`; beside the count.
    Errno(i32),
    /// An ICMP error that named one of our probes; beside the count.
    Icmp {
        /// Type (of ICMP or ICMPv6, by the family of `from`).
        kind: u8,
        /// Code.
        code: u8,
        /// Who sent it.
        from: IpAddr,
    },
    /// All probes of this target are decided and its closing probes are done.
    Finished,
}

closed_list! {
    /// Why a protocol is used.
    Why {
        /// It was asked for by name.
        Requested = "requested",
        /// The first STAMP probes were answered.
        StampAnswered = "stamp_answered",
        /// An ICMP error said that no STAMP reflector listens there.
        StampRefused = "stamp_refused",
        /// Three STAMP probes had no answer.
        StampSilent = "stamp_silent",
    }
}

/// What became of one counted probe.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Answered in time; its samples are in the distributions.
    Received,
    /// Unanswered when the wait passed.
    Lost,
    /// As `Lost`, and no TX stamp came: it never left this host.
    LostLocal,
    /// Answered in time, but no sample: one of [`Counter::DISCARDED`].
    Discarded(Counter),
    /// An answer after the probe was lost; a second line for that probe.
    Late,
    /// A further answer; a further line for that probe.
    Duplicate,
}

impl Verdict {
    /// The word in `--records`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Lost => "lost",
            Self::LostLocal => "lost_local",
            Self::Discarded(counter) => counter.as_str(),
            Self::Late => "late",
            Self::Duplicate => "duplicate",
        }
    }
}

/// One line of `--records`: a counted probe at its verdict.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// Number of the probe on the wire.
    pub sequence: u32,
    /// The reflector's number of the reply.
    pub reflector_sequence: Option<u32>,
    /// The source port it left from, 0 for ICMP.
    pub source_port: u16,
    /// T1 to T4, by [`StampPoint::index`].
    pub stamps: [Option<Stamp>; 4],
    /// Whether the sources of T2 and T3 are known: those of a foreign reflector are not.
    pub reflector_sources_known: bool,
    /// (T4-T1)-(T3-T2), only with [`Verdict::Received`].
    pub rtt_ns: Option<i64>,
    /// T1 minus the intended time.
    pub schedule_error_ns: Option<i64>,
    /// TTL or hop limit that the reflector saw.
    pub ttl_forward: Option<u8>,
    /// TTL or hop limit of the reply.
    pub ttl_reverse: Option<u8>,
    /// What became of it.
    pub verdict: Verdict,
}
