//! What is to be probed and how, as the caller says it.

use std::net::SocketAddr;

use base::TargetKey;
use measure::session::{ClockTrust, Config, MAX_PAYLOAD};
use wire::stamp::TimestampFormat;

/// Which protocol.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// STAMP, or ICMP echo where no reflector answers.
    Auto,
    /// STAMP.
    Stamp,
    /// ICMP echo.
    Icmp,
}

impl Choice {
    /// The word in configurations and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stamp => "stamp",
            Self::Icmp => "icmp",
        }
    }

    /// Whether it can need an ICMP socket.
    #[must_use]
    pub const fn may_use_icmp(self) -> bool {
        matches!(self, Self::Auto | Self::Icmp)
    }
}

/// What happens to packets that are larger than the path's MTU.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DontFragment {
    /// DF is set and the kernel's cached path MTU ignored (`IP_PMTUDISC_PROBE`).
    Probe,
    /// DF is set and the kernel's path MTU obeyed.
    Do,
    /// May be fragmented.
    Dont,
}

/// A target.
#[derive(Clone, PartialEq, Debug)]
pub struct TargetSpec {
    /// Names its results.
    pub key: TargetKey,
    /// Where; the port is STAMP's.
    pub address: SocketAddr,
    /// Which protocol.
    pub protocol: Choice,
    /// Between intended sends, 100 us at least.
    pub interval_ns: u64,
    /// The interval of ICMP echo when `Auto` falls back to it; `None` is `interval_ns`.
    pub fallback_interval_ns: Option<u64>,
    /// A probe unanswered for so long is lost.
    pub wait_ns: u64,
    /// Octets of the IP packet; `None` is the protocol's smallest.
    pub packet_bytes: Option<u16>,
    /// TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What about fragments.
    pub fragment: DontFragment,
    /// Bind to this device.
    pub device: Option<String>,
    /// So many source ports, each a session of its own with the full rate (UDP only).
    pub source_ports: u16,
    /// Poisson instead of periodic.
    pub poisson: bool,
    /// Counted probes per source port.
    pub count: Option<u64>,
    /// Format of our timestamps.
    pub format: TimestampFormat,
    /// Ask our own reflector for its counters.
    pub private_tlv: bool,
    /// Which one-way delays count.
    pub clock: ClockTrust,
    /// Counted probes wait until it is known what answers (`ping`), or start at once.
    pub opening_first: bool,
}

impl TargetSpec {
    /// A target with the defaults of DESIGN section 4.
    #[must_use]
    pub const fn new(key: TargetKey, address: SocketAddr) -> Self {
        Self {
            key,
            address,
            protocol: Choice::Auto,
            interval_ns: 10_000_000,
            fallback_interval_ns: None,
            wait_ns: 1_000_000_000,
            packet_bytes: None,
            tos: 0,
            ttl: 255,
            fragment: DontFragment::Probe,
            device: None,
            source_ports: 1,
            poisson: false,
            count: None,
            format: TimestampFormat::Ntp,
            private_tlv: true,
            clock: ClockTrust::Kernel,
            opening_first: true,
        }
    }

    /// Payload octets behind `headers` octets of IP and transport header.
    pub(crate) fn payload(&self, headers: usize) -> Option<usize> {
        self.packet_bytes
            .map(|bytes| usize::from(bytes).saturating_sub(headers).min(MAX_PAYLOAD))
    }

    pub(crate) fn session(&self, stamped: bool, source_port: u16, seed: u64) -> Config {
        Config {
            interval_ns: self.interval_ns,
            wait_ns: self.wait_ns,
            count: self.count,
            poisson: self.poisson,
            ttl: self.ttl,
            clock: self.clock,
            stamped,
            opening_first: self.opening_first || self.protocol == Choice::Auto,
            first_sequence: 0,
            seed,
            source_port,
        }
    }

    /// Bytes that the prober keeps for a target like this.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let config = self.session(true, 0, 0);
        let per_path =
            measure::session::Session::memory_bytes(&config) + size_of::<crate::link::Link>();
        per_path * usize::from(self.source_ports.max(1))
    }
}
