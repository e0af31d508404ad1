//! What people and programs read of a capture: the document, the summary, flows and frames
//! as lines. Pure functions of a [`Report`]; nothing captures, and nothing reads a clock.

mod groups;
pub mod json;
pub mod lines;
pub mod summary;
#[cfg(test)]
mod tests;

use base::{FlowEnd, FlowSummary, GroupKey, Leg, RttMethod, TcpClass, WallNanos};
use capture::{Drops, Written};
use measure::passive::{Counters, Groups};
use record::Summary;
use record::passive::{CaptureStats, GroupStats, Traffic, Windows};

/// The state of a capture, or of an interval of it.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The file, or the devices.
    pub source_name: &'a str,
    /// Which backend was taken.
    pub backend: &'a str,
    /// Why that one.
    pub reason: &'a str,
    /// The filter's words; may be empty.
    pub filter: &'a str,
    /// What is not as it should be.
    pub notes: &'a [String],
    /// What became of the frames.
    pub counters: &'a Counters,
    /// What was not lent.
    pub drops: Drops,
    /// Observations, added up.
    pub stats: &'a CaptureStats,
    /// What all groups add up to, with the traffic of flows that are in the table still.
    pub total: GroupStats,
    /// The traffic of each group, likewise.
    pub traffic: Vec<Traffic>,
    /// How much came when.
    pub windows: &'a Windows,
    /// How flows are grouped.
    pub groups: &'a Groups,
    /// Flows in the table.
    pub active: u64,
    /// The largest flows, the largest first; also of those that ended.
    pub top: Vec<FlowSummary>,
    /// The first and the last frame.
    pub span: Option<(WallNanos, WallNanos)>,
    /// How long a device was watched, in ns; `None`: a file.
    pub watched_ns: Option<u64>,
    /// What became of frames that were to be written.
    pub written: Option<Written>,
    /// Intervals, and those in which the capture lost frames.
    pub intervals: Intervals,
    /// How often a device went away.
    pub interruptions: u64,
}

/// How many intervals there were.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Intervals {
    /// All.
    pub all: u64,
    /// In which the capture dropped frames: their losses may be the capture's.
    pub degraded: u64,
    /// At the end of which there was no device to read.
    pub interrupted: u64,
}

impl Report<'_> {
    /// How long was captured: of a file the time from the first to the last frame.
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        let between = |(first, last): (WallNanos, WallNanos)| last.delta(first).max(0);
        self.watched_ns
            .or_else(|| self.span.map(|span| between(span).cast_unsigned()))
    }

    /// Octets that were on the wire: those of recognised copies were there once.
    #[must_use]
    pub const fn wire_bytes(&self) -> u64 {
        let counters = self.counters;
        counters
            .bytes
            .saturating_sub(counters.capture_duplicate_bytes)
    }

    /// Frames of all classes of retransmission.
    #[must_use]
    pub fn retransmissions(&self) -> u64 {
        retransmitted(&self.total)
    }

    /// TCP segments of both ends.
    #[must_use]
    pub const fn segments(&self) -> u64 {
        self.total.traffic.segments[0] + self.total.traffic.segments[1]
    }

    /// Retransmissions, all three classes, per segment.
    #[must_use]
    pub fn retransmission_ratio(&self) -> Option<f64> {
        let segments = self.segments();
        (segments > 0).then(|| self.retransmissions() as f64 / segments as f64)
    }

    /// The groups with anything in them; none without groups.
    pub fn shown_groups(&self) -> impl Iterator<Item = (GroupKey, &GroupStats, &Traffic)> {
        let grouped = self.groups.count() > 1;
        let all = self.stats.groups().iter().zip(&self.traffic).zip(0..);
        all.filter(move |((stats, traffic), _)| {
            grouped && (!stats.is_empty() || **traffic != Traffic::default())
        })
        .map(|((stats, traffic), number)| (GroupKey(number), stats, traffic))
    }

    /// Flows that had to go before their time.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.counters.ended[FlowEnd::Evicted.index()]
    }
}

/// Frames of all classes of retransmission.
#[must_use]
pub fn retransmitted(stats: &GroupStats) -> u64 {
    let frames = RETRANSMISSIONS.iter().map(|class| stats.frames(*class));
    frames.sum()
}

/// Round trips to the remote end by the method that saw most; never several in one number.
#[must_use]
pub fn best_known(stats: &GroupStats) -> Option<(RttMethod, Summary)> {
    [
        RttMethod::Timestamp,
        RttMethod::Sequence,
        RttMethod::Handshake,
        RttMethod::QuicSpin,
        RttMethod::Dns,
        RttMethod::Icmp,
        RttMethod::Stamp,
    ]
    .into_iter()
    .filter_map(|method| Some((method, stats.rtts(method, Leg::Remote)?.summary())))
    .filter(|(_, summary)| summary.count > 0)
    .max_by_key(|(_, summary)| summary.count)
}

/// The classes that are retransmissions.
pub const RETRANSMISSIONS: [TcpClass; 3] = [
    TcpClass::Retransmission,
    TcpClass::FastRetransmission,
    TcpClass::SpuriousRetransmission,
];

/// The word for an IP protocol; `None`: it has none here.
#[must_use]
pub const fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        46 => "rsvp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmpv6",
        88 => "eigrp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// Adds what one analyser counted to what others did.
pub fn add_counters(to: &mut Counters, from: &Counters) {
    combine(to, from, |to, from| *to += from);
}

/// Takes what was counted before from what was counted since.
pub fn subtract_counters(to: &mut Counters, before: &Counters) {
    combine(to, before, |to, before| *to = to.saturating_sub(before));
}

fn combine(to: &mut Counters, from: &Counters, with: impl Fn(&mut u64, u64)) {
    // Without `..`: a new counter must not be forgotten here.
    let Counters {
        frames,
        bytes,
        measured,
        packets,
        undecoded,
        unmeasured,
        capture_duplicates,
        capture_duplicate_bytes,
        fragments,
        flows,
        ended,
        segments_forgotten,
        no_sample,
        datagrams,
        not_quic,
        clock_back,
    } = from;
    for (to, from) in [
        (&mut to.frames, frames),
        (&mut to.bytes, bytes),
        (&mut to.measured, measured),
        (&mut to.packets, packets),
        (&mut to.capture_duplicates, capture_duplicates),
        (&mut to.capture_duplicate_bytes, capture_duplicate_bytes),
        (&mut to.fragments, fragments),
        (&mut to.flows, flows),
        (&mut to.segments_forgotten, segments_forgotten),
        (&mut to.clock_back, clock_back),
    ] {
        with(to, *from);
    }
    let lists = [
        (&mut to.undecoded[..], &undecoded[..]),
        (&mut to.unmeasured[..], &unmeasured[..]),
        (&mut to.ended[..], &ended[..]),
        (&mut to.no_sample[..], &no_sample[..]),
        (&mut to.datagrams[..], &datagrams[..]),
        (&mut to.not_quic[..], &not_quic[..]),
    ];
    for (to, from) in lists {
        for (to, from) in to.iter_mut().zip(from) {
            with(to, *from);
        }
    }
}
