//! Where we differ from tshark on purpose: data, each with its reason.

/// A frame of a public capture.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Difference {
    /// The capture.
    pub(crate) capture: &'static str,
    /// As tshark counts them, from 1.
    pub(crate) frame: u64,
    /// Our classes, as records name them, separated by commas.
    pub(crate) ours: &'static str,
    /// tshark's.
    pub(crate) theirs: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

/// A difference that any capture may have.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Rule {
    /// Our classes.
    pub(crate) ours: &'static str,
    /// tshark's.
    pub(crate) theirs: &'static str,
    /// Why.
    pub(crate) why: &'static str,
}

/// At most this share of all frames may differ.
pub(crate) const LIMIT: f64 = 0.001;

/// tshark puts IP fragments together and shows the packet at the last one; we take the
/// transport header where it is, in the first, and count the others by their octets.
const FRAGMENTS: &str = "tshark shows a fragmented packet at its last fragment, we at its first";
/// tshark wants two duplicate ACKs before it says fast; none were captured here. It says so
/// because the FIN acknowledges octets that were not captured.
const NO_DUPLICATE_ACK: &str = "no duplicate ACK was captured, so nothing says fast";
/// After one ACK of octets that were not captured tshark says no more of others, here for
/// longer than until the other end is heard of again.
const SAID_AGAIN: &str = "an ACK of octets that were not captured, after others that were";

const fn known(
    capture: &'static str,
    frame: u64,
    ours: &'static str,
    theirs: &'static str,
    why: &'static str,
) -> Difference {
    Difference {
        capture,
        frame,
        ours,
        theirs,
        why,
    }
}

const ERSPAN: &str = "zeek_erspan.pcap";
const REASSEMBLY: &str = "zeek_tcp_reassembly.pcap";

/// Of public captures.
pub(crate) const KNOWN: &[Difference] = &[
    known(ERSPAN, 215, "acked_unseen", "", SAID_AGAIN),
    known(ERSPAN, 226, "lost_segments", "", FRAGMENTS),
    known(ERSPAN, 231, "", "lost_segments", FRAGMENTS),
    known(ERSPAN, 243, "lost_segments", "", FRAGMENTS),
    known(ERSPAN, 244, "", "lost_segments", FRAGMENTS),
    known(ERSPAN, 255, "lost_segments", "", FRAGMENTS),
    known(ERSPAN, 260, "", "lost_segments", FRAGMENTS),
    known(ERSPAN, 265, "lost_segments", "", FRAGMENTS),
    known(ERSPAN, 269, "", "lost_segments", FRAGMENTS),
    known(
        "zeek_ipv4_fragmented-4.pcap",
        6,
        "lost_segments",
        "",
        FRAGMENTS,
    ),
    known(
        REASSEMBLY,
        8,
        "retransmissions,acked_unseen",
        "fast_retransmissions,acked_unseen",
        NO_DUPLICATE_ACK,
    ),
    known(
        REASSEMBLY,
        10,
        "retransmissions,acked_unseen",
        "fast_retransmissions,acked_unseen",
        NO_DUPLICATE_ACK,
    ),
    known(
        REASSEMBLY,
        12,
        "retransmissions",
        "fast_retransmissions",
        NO_DUPLICATE_ACK,
    ),
    known(REASSEMBLY, 105, "acked_unseen", "", SAID_AGAIN),
];

/// Streams whose times cannot be compared: capture, stream, why.
pub(crate) const OTHER_TIMES: &[(&str, u64, &str)] = &[(ERSPAN, 4, FRAGMENTS)];

/// Of fresh captures, whose frames are never the same twice.
pub(crate) const RULES: &[Rule] = &[];
