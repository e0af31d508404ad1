//! What a relay is told to do: plain data, read from JSON. All times are nanoseconds.

use std::net::{Ipv4Addr, Ipv6Addr};

use base::Direction;
use serde::{Deserialize, Serialize};

/// Both directions of one relay.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelayConfig {
    /// Every random decision comes from it.
    pub seed: u64,
    /// Which packets are numbered, impaired and logged; all others pass unharmed.
    pub matching: Matching,
    /// From `left` to `right`.
    pub forward: Impairment,
    /// From `right` to `left`.
    pub reverse: Impairment,
    /// Run with this `SCHED_FIFO` priority, for precise delays.
    pub realtime: Option<u8>,
}

impl RelayConfig {
    /// No impairment at all.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// The same impairment in both directions (their random decisions differ).
    #[must_use]
    pub fn both(seed: u64, impairment: &Impairment) -> Self {
        Self {
            seed,
            forward: impairment.clone(),
            reverse: impairment.clone(),
            ..Self::default()
        }
    }

    /// The impairment of one direction.
    #[must_use]
    pub fn of(&self, direction: Direction) -> &Impairment {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Reverse => &self.reverse,
        }
    }
}

/// Which packets a relay numbers, impairs and logs. ARP, neighbour discovery and ICMP
/// errors are never among them.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// UDP and ICMP echo.
    #[default]
    Probes,
    /// UDP with this port on either end.
    UdpPort(u16),
    /// All UDP.
    Udp,
    /// ICMP echo, v4 and v6.
    Echo,
    /// TCP.
    Tcp,
    /// Every IP packet but neighbour discovery and ICMP errors.
    Ip,
}

/// What happens in one direction.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Impairment {
    /// How long every packet is held.
    pub delay: Option<Delay>,
    /// Which packets vanish; any one of these is enough.
    pub loss: Vec<Loss>,
    /// Which packets come more than once.
    pub duplicate: Option<Duplicate>,
    /// Which packets are overtaken by later ones.
    pub reorder: Option<Reorder>,
    /// Which packets have a payload bit flipped.
    pub corrupt: Option<Corrupt>,
    /// Packets larger than this vanish.
    pub mtu: Option<MtuLimit>,
    /// Routers that this direction pretends to have: the TTL falls by so many.
    pub hops: u8,
}

impl Impairment {
    /// Loses this share of the packets at random.
    #[must_use]
    pub fn with_loss(mut self, ratio: f64) -> Self {
        self.loss.push(Loss::Pick(Pick::Ratio(ratio)));
        self
    }

    /// Sends one immediate copy of this share of the packets.
    #[must_use]
    pub fn with_duplicates(mut self, ratio: f64) -> Self {
        self.duplicate = Some(Duplicate {
            pick: Pick::Ratio(ratio),
            copies: 1,
            delay_ns: 0,
        });
        self
    }

    /// Holds this share of the packets until `packets` later ones have passed.
    #[must_use]
    pub fn with_reordering(mut self, ratio: f64, packets: u32) -> Self {
        self.reorder = Some(Reorder {
            pick: Pick::Ratio(ratio),
            packets,
            flush_ns: Reorder::FLUSH_NS,
            extra_delay_ns: 0,
        });
        self
    }

    /// Holds every packet.
    #[must_use]
    pub fn with_delay(mut self, delay: Delay) -> Self {
        self.delay = Some(delay);
        self
    }
}

/// A choice among packets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// Each on its own with this probability.
    Ratio(f64),
    /// Every n-th: the packets n-1, 2n-1, ...
    Every(u64),
    /// Exactly these indices.
    List(Vec<u64>),
    /// The indices from the first to the one before the second.
    Range(u64, u64),
}

/// Ways to lose packets.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// These.
    Pick(Pick),
    /// Two states: in the bad one everything is lost. Probabilities per packet to go into
    /// it and to leave it (Gilbert): mean burst length `1 / leave`.
    Gilbert {
        /// From good to bad.
        enter: f64,
        /// From bad to good.
        leave: f64,
    },
    /// The last `length` packets of every `every`.
    Burst {
        /// Period, in packets.
        every: u64,
        /// Lost of it.
        length: u64,
    },
}

/// How long a packet is held. Order is kept: a packet never leaves before an earlier one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delay {
    /// Always as long.
    Fixed(u64),
    /// Between the two, both included.
    Uniform(u64, u64),
    /// In turn from this list, by index.
    List(Vec<u64>),
}

/// Copies of packets. A lost packet has none; copies have no fate of their own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Duplicate {
    /// Which.
    pub pick: Pick,
    /// How many copies besides the packet itself.
    pub copies: u8,
    /// How long after the packet (or the copy before) a copy leaves.
    #[serde(default)]
    pub delay_ns: u64,
}

/// Packets that later ones overtake.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reorder {
    /// Which.
    pub pick: Pick,
    /// Held until so many later packets of the direction were sent; 0: not held for that.
    #[serde(default)]
    pub packets: u32,
    /// Sent after this long in any case, if nothing else passes.
    #[serde(default = "Reorder::flush_default")]
    pub flush_ns: u64,
    /// Held so much longer, while others overtake.
    #[serde(default)]
    pub extra_delay_ns: u64,
}

impl Reorder {
    /// How long a held packet waits for others by default.
    pub const FLUSH_NS: u64 = 100_000_000;

    fn flush_default() -> u64 {
        Self::FLUSH_NS
    }
}

/// Packets that arrive with one payload bit flipped.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corrupt {
    /// Which.
    pub pick: Pick,
    /// Make the checksum fit again, so that only the content shows it.
    #[serde(default)]
    pub fix_checksum: bool,
    /// The byte of the payload in which the bit lies; any if not given.
    #[serde(default)]
    pub byte: Option<usize>,
}

/// A limit of the packet size.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtuLimit {
    /// The largest IP packet that passes.
    pub bytes: u16,
    /// Who says so to an IPv4 sender; nobody if not given (a black hole).
    #[serde(default)]
    pub icmp_v4: Option<Ipv4Addr>,
    /// Who says so to an IPv6 sender; nobody if not given.
    #[serde(default)]
    pub icmp_v6: Option<Ipv6Addr>,
}
