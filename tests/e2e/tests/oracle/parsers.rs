//! The readers of both oracles on captures whose answers are known: what a person read off
//! tshark 4.0.17 and tcptrace 6.6.7 once.

use anyhow::{Result, ensure};
use base::TcpClass::{
    self, AckedUnseen, DuplicateAck, FastRetransmission, LostSegment, OutOfOrder, Retransmission,
    SpuriousRetransmission, WindowUpdate,
};
use libtest_mimic::Trial;
use netsonde_e2e::trial;

use crate::captures::{missing_public, public};
use crate::tcptrace::{self, connections};
use crate::tshark::{self, Word};

/// A capture, its frames, and tshark's counts: all retransmissions, fast, spurious, out of
/// order, duplicate ACKs, lost segments, ACKed unseen, window updates.
type Counts = (&'static str, u64, [u64; 8]);

const TSHARK: &[Counts] = &[
    (
        "zeek_tcp_retransmit-fast009.pcap",
        39,
        [3, 1, 0, 0, 5, 0, 0, 0],
    ),
    (
        "zeek_tcp_retransmit-timeout.pcapng",
        3,
        [1, 0, 1, 0, 0, 0, 0, 0],
    ),
    ("zeek_tcp_reassembly.pcap", 117, [20, 3, 0, 0, 21, 8, 7, 0]),
    ("zeek_tcp_ssh-dups.pcap", 377, [166, 92, 0, 0, 114, 0, 0, 0]),
    (
        "zeek_tcp_fin_retransmission.pcap",
        5,
        [2, 0, 0, 0, 0, 0, 0, 0],
    ),
    ("zeek_tcp_option-sack.pcap", 4, [3, 0, 0, 0, 0, 0, 0, 0]),
    ("zeek_tcp_timestamp.pcap", 878, [0; 8]),
    (
        "sv_syn_retransmit_with_ts.pcap",
        254,
        [18, 2, 0, 1, 53, 0, 0, 25],
    ),
];

/// A capture's only connection, and tcptrace's numbers for either end.
type Lines = (&'static str, &'static [(&'static str, (u64, u64))]);

const TCPTRACE: &[Lines] = &[
    (
        "zeek_tcp_retransmit-fast009.pcap",
        &[
            ("rexmt data pkts", (0, 3)),
            ("rexmt data bytes", (0, 4_290)),
            ("duplicate acks", (0, 0)),
            ("RTT samples", (2, 1)),
            ("post-loss acks", (0, 1)),
        ],
    ),
    (
        "zeek_tcp_reassembly.pcap",
        &[
            ("rexmt data pkts", (14, 3)),
            ("rexmt data bytes", (5_559, 3)),
            ("outoforder pkts", (3, 0)),
            ("duplicate acks", (12, 0)),
            ("triple dupacks", (1, 0)),
            ("RTT samples", (24, 1)),
            ("ambiguous acks", (0, 1)),
            ("post-loss acks", (3, 0)),
        ],
    ),
    (
        "zeek_tcp_ssh-dups.pcap",
        &[
            ("rexmt data pkts", (74, 92)),
            ("rexmt data bytes", (11_117, 12_821)),
            ("duplicate acks", (24, 96)),
            ("triple dupacks", (7, 32)),
            ("RTT samples", (1, 1)),
            ("ambiguous acks", (23, 31)),
        ],
    ),
    (
        "zeek_tcp_timestamp.pcap",
        &[("duplicate acks", (0, 1)), ("RTT samples", (2, 183))],
    ),
    (
        "zeek_tcp_handshake-reorder.pcap",
        &[("rexmt data pkts", (0, 0)), ("RTT samples", (4, 2))],
    ),
    (
        "sv_syn_retransmit_with_ts.pcap",
        &[
            ("rexmt data pkts", (1, 18)),
            ("rexmt data bytes", (1, 26_064)),
            ("duplicate acks", (0, 54)),
            ("triple dupacks", (0, 2)),
            ("RTT samples", (2, 10)),
            ("ambiguous acks", (1, 2)),
            ("post-loss acks", (0, 12)),
        ],
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let needs_tshark = || missing_public().or_else(tshark::missing);
    let needs_tcptrace = || missing_public().or_else(tcptrace::missing);
    vec![
        trial("parsers::tshark", needs_tshark, tshark_counts),
        trial("parsers::tshark_frames", needs_tshark, tshark_frames),
        trial("parsers::tcptrace", needs_tcptrace, tcptrace_lines),
    ]
}

fn tshark_counts() -> Result<()> {
    for (name, frames, counts) in TSHARK {
        let word = Word::of(&public(name))?;
        let count = |class: TcpClass| word.count(class);
        let special = count(FastRetransmission) + count(SpuriousRetransmission);
        let got = [
            count(Retransmission) + special,
            count(FastRetransmission),
            count(SpuriousRetransmission),
            count(OutOfOrder),
            count(DuplicateAck),
            count(LostSegment),
            count(AckedUnseen),
            count(WindowUpdate),
        ];
        ensure!(word.frames == *frames, "{name}: {} frames", word.frames);
        ensure!(got == *counts, "{name}: {got:?}, known {counts:?}");
    }
    Ok(())
}

fn tshark_frames() -> Result<()> {
    let word = Word::of(&public("zeek_tcp_retransmit-fast009.pcap"))?;
    let of = |frame: u64| word.classes.get(&frame).cloned().unwrap_or_default();
    ensure!(of(32) == [FastRetransmission].into(), "{:?}", of(32));
    ensure!(of(34) == [Retransmission].into() && of(36) == of(34));
    let word = Word::of(&public("zeek_tcp_timestamp.pcap"))?;
    ensure!(word.doubtful.is_empty());
    // 183 of the data, 2 of what the other side sent, as tcptrace counts them.
    ensure!(
        word.ack_rtts.len() == 185,
        "{} samples",
        word.ack_rtts.len()
    );
    Ok(())
}

fn tcptrace_lines() -> Result<()> {
    for (name, lines) in TCPTRACE {
        let all = connections(&public(name))?;
        ensure!(all.len() == 1, "{name}: {} connections", all.len());
        for (line, wanted) in *lines {
            let got = all[0].pair(line);
            ensure!(got == *wanted, "{name}: {line} {got:?}, known {wanted:?}");
        }
    }
    Ok(())
}
