//! tshark's word on a capture: classes and acknowledgements, frame by frame.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base::TcpClass;
use lab::Running;
use netsonde_e2e::missing_program;

use crate::ours::Classes;

const PATIENCE: Duration = Duration::from_secs(120);

/// `tcp.analysis.*`, and what we call it.
const FIELDS: [(&str, TcpClass); 15] = [
    ("retransmission", TcpClass::Retransmission),
    ("fast_retransmission", TcpClass::FastRetransmission),
    ("spurious_retransmission", TcpClass::SpuriousRetransmission),
    ("out_of_order", TcpClass::OutOfOrder),
    ("duplicate_ack", TcpClass::DuplicateAck),
    ("lost_segment", TcpClass::LostSegment),
    ("ack_lost_segment", TcpClass::AckedUnseen),
    ("zero_window", TcpClass::ZeroWindow),
    ("zero_window_probe", TcpClass::ZeroWindowProbe),
    ("zero_window_probe_ack", TcpClass::ZeroWindowProbeAck),
    ("keep_alive", TcpClass::KeepAlive),
    ("keep_alive_ack", TcpClass::KeepAliveAck),
    ("window_update", TcpClass::WindowUpdate),
    ("window_full", TcpClass::WindowFull),
    ("reused_ports", TcpClass::PortReuse),
];

/// Classes after which round trips of a stream are not what they seem.
const DOUBTFUL: [TcpClass; 8] = [
    TcpClass::Retransmission,
    TcpClass::FastRetransmission,
    TcpClass::SpuriousRetransmission,
    TcpClass::OutOfOrder,
    TcpClass::LostSegment,
    TcpClass::AckedUnseen,
    TcpClass::ZeroWindowProbe,
    TcpClass::KeepAlive,
];

/// What it needs.
pub(crate) fn missing() -> Option<String> {
    missing_program("tshark", "tshark")
}

/// An acknowledgement of exactly one segment's end.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct AckRtt {
    pub(crate) frame: u64,
    pub(crate) stream: u64,
    pub(crate) ns: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Word {
    /// Frames with TCP.
    pub(crate) frames: u64,
    /// Classes by frame; the retransmissions exclude each other.
    pub(crate) classes: BTreeMap<u64, Classes>,
    /// In the order of frames.
    pub(crate) ack_rtts: Vec<AckRtt>,
    /// Streams by frame.
    pub(crate) streams: BTreeMap<u64, u64>,
    /// Streams in which something was sent again, or not seen.
    pub(crate) doubtful: BTreeSet<u64>,
}

impl Word {
    /// Asks tshark.
    pub(crate) fn of(capture: &Path) -> Result<Self> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(capture);
        command.args(["-Y", "tcp", "-T", "fields"]);
        // The defaults, written down: a user's own profile must not matter.
        for preference in [
            "tcp.analyze_sequence_numbers:TRUE",
            "tcp.fastrt_supersedes_ooo:TRUE",
            "tcp.relative_sequence_numbers:TRUE",
        ] {
            command.args(["-o", preference]);
        }
        command.args(["-e", "frame.number", "-e", "tcp.stream"]);
        command.args(["-e", "tcp.analysis.ack_rtt"]);
        for (field, _) in FIELDS {
            command.args(["-e", &format!("tcp.analysis.{field}")]);
        }
        let finished = Running::start(&mut command)?.finish(PATIENCE)?;
        ensure!(finished.code() == 0, "tshark: {}", finished.stderr);
        let mut word = Self::default();
        for line in finished.stdout.lines() {
            word.add(line)
                .with_context(|| format!("tshark's {line:?}"))?;
        }
        Ok(word)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [frame, stream, ack_rtt, flags @ ..] = columns.as_slice() else {
            anyhow::bail!("too few columns");
        };
        ensure!(flags.len() == FIELDS.len());
        self.frames += 1;
        let frame = frame.parse()?;
        // A packet that quotes another has the fields of both; the first is its own.
        let first = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
        let stream = first(stream).parse()?;
        self.streams.insert(frame, stream);
        let mut classes: Classes = FIELDS
            .iter()
            .zip(flags)
            .filter(|(_, flag)| !flag.is_empty())
            .map(|((_, class), _)| *class)
            .collect();
        // The flag of all retransmissions is set for the special ones too.
        if classes.contains(&TcpClass::FastRetransmission)
            || classes.contains(&TcpClass::SpuriousRetransmission)
        {
            classes.remove(&TcpClass::Retransmission);
        }
        if DOUBTFUL.iter().any(|class| classes.contains(class)) {
            self.doubtful.insert(stream);
        }
        if !classes.is_empty() {
            self.classes.insert(frame, classes);
        }
        if !ack_rtt.is_empty() {
            let ns = seconds_to_ns(&first(ack_rtt))?;
            self.ack_rtts.push(AckRtt { frame, stream, ns });
        }
        Ok(())
    }

    /// How many frames have this class.
    pub(crate) fn count(&self, class: TcpClass) -> u64 {
        let with = self.classes.values().filter(|set| set.contains(&class));
        with.count() as u64
    }
}

/// Of tshark's `0.002056835`.
pub(crate) fn seconds_to_ns(text: &str) -> Result<u64> {
    let (seconds, rest) = text.split_once('.').context("no fraction")?;
    ensure!(rest.len() == 9, "no nanoseconds: {text}");
    Ok(seconds.parse::<u64>()? * 1_000_000_000 + rest.parse::<u64>()?)
}

/// Where a segment is in its connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) length: u32,
    pub(crate) acknowledged: u32,
}

/// Every TCP segment, by frame.
pub(crate) fn segments(capture: &Path) -> Result<BTreeMap<u64, Segment>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture);
    command.args(["-Y", "tcp", "-T", "fields", "-e", "frame.number"]);
    command.args(["-e", "tcp.srcport", "-e", "tcp.dstport"]);
    command.args(["-e", "tcp.seq_raw", "-e", "tcp.len", "-e", "tcp.ack_raw"]);
    let finished = Running::start(&mut command)?.finish(PATIENCE)?;
    ensure!(finished.code() == 0, "tshark: {}", finished.stderr);
    let segment = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [frame, from, to, sequence, length, acknowledged] = columns.as_slice() else {
            anyhow::bail!("tshark's {line:?}");
        };
        let segment = Segment {
            ports: (from.parse()?, to.parse()?),
            sequence: sequence.parse()?,
            length: length.parse()?,
            acknowledged: acknowledged.parse()?,
        };
        Ok((frame.parse()?, segment))
    };
    finished.stdout.lines().map(segment).collect()
}
