//! The options of `netsonde capture`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where frames come from.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum BackendArg {
    /// AF_PACKET on devices that it can do, libpcap on others.
    Auto,
    /// The kernel's packet socket: sees both directions, takes nothing from the host.
    Afpacket,
    /// AF_XDP: fastest, but the frames never reach the host, and only arriving ones are seen.
    Afxdp,
    /// libpcap, for odd devices.
    Pcap,
}

/// Where the XDP program of AF_XDP is attached.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum XdpModeArg {
    /// Native where that is known not to interrupt the device, else generic.
    Auto,
    /// In the driver; many (ena among them) reset the device for it.
    Native,
    /// In the stack.
    Generic,
}

/// Which frames AF_XDP takes away from the host.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum XdpTakeArg {
    /// VXLAN (4789) and Geneve (6081): what a traffic mirror sends.
    Mirror,
    /// All IPv4 and IPv6.
    Ip,
    /// Every frame.
    All,
}

/// Which way frames go.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum DirectionArg {
    /// Those that arrive.
    In,
    /// Both.
    Inout,
}

/// Whose definitions of retransmissions and the like.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum ClassifierArg {
    /// By time and sequence numbers, as tshark.
    Tshark,
    /// By octets seen before, as tcptrace.
    Tcptrace,
}

/// What happens to packets that were captured twice.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum DuplicatesArg {
    /// They are counted, and nothing else.
    Apart,
    /// They are packets as any other, as in tshark.
    Classify,
}

/// Which header names a flow where tunnels give a choice.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum LayerArg {
    /// The innermost: the packet inside VXLAN, Geneve, GRE, ERSPAN, IP-in-IP.
    Inner,
    /// The outermost: the tunnel itself.
    Outer,
}

/// `netsonde capture`
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Shows flows, not packets; packets go to a pcapng file with -w. Devices are only watched: nothing \
is sent, and promiscuous mode is never entered. In a flow, near is this host's end, or the end \
that began the flow where the capture does not say which way frames went; the near leg of a round \
trip is between the capture and that end.\n\
Assertions: KEY OP VALUE with OP one of < <= > >= == !=; KEY is a key of the JSON output, dots go \
down, and _ns may be left out: 'tcp.retransmission_ratio<1%', 'rtt.handshake.remote.p99<20ms', \
'capture_drops.ring_full==0'. What was not measured makes an assertion false.")]
pub struct CaptureArgs {
    /// Which packets, in tcpdump's words: 'tcp port 443 and host 10.0.0.1' [default: all]
    #[arg(value_name = "FILTER")]
    pub filter: Vec<String>,

    /// Devices, repeatable, commas and globs taken; any means all but those of containers,
    /// bridges and tunnels [default: the device of the default route]
    #[arg(
        short = 'i',
        long = "interface",
        value_name = "IFACE",
        value_delimiter = ',',
        conflicts_with = "read"
    )]
    pub interfaces: Vec<String>,

    /// Read a pcap or pcapng file instead; - is standard input
    #[arg(short = 'r', long = "read", value_name = "FILE")]
    pub read: Option<PathBuf>,

    /// How live frames are captured
    #[arg(long, value_enum, default_value = "auto", conflicts_with = "read")]
    pub backend: BackendArg,

    /// Where the XDP program of --backend afxdp is attached [default: auto]
    #[arg(long, value_enum)]
    pub xdp_mode: Option<XdpModeArg>,

    /// Which frames --backend afxdp takes; they never reach the host [default: mirror]
    #[arg(long, value_enum)]
    pub xdp_take: Option<XdpTakeArg>,

    /// Which way frames go as seen from this host
    #[arg(
        short = 'Q',
        long = "direction",
        value_enum,
        default_value = "inout",
        conflicts_with = "read"
    )]
    pub direction: DirectionArg,

    /// Memory of all capture rings together, 256K to 1G (in the agent to 64M)
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64M",
        conflicts_with = "read"
    )]
    pub ring: String,

    /// Threads that analyse, 1 to 64; with -w, -c, --records, and backends afxdp and pcap one
    /// [default: 1 per 8 CPUs, at most 4]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        conflicts_with = "read"
    )]
    pub workers: Option<i64>,

    /// Stop after so many frames that passed the filter, from 1 [default: no end]
    #[arg(
        short = 'c',
        long = "count",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub count: Option<i64>,

    /// Stop after this time, 1ms to 30d; of a file, in its own time [default: no end, or 10 s with --json and no terminal]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub duration: Option<String>,

    /// Write the frames to this file in pcapng; - is standard output
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// With -w: bytes of each frame that are written, 0 to 524288; 0 means all [default: 128]
    #[arg(
        short = 's',
        long = "snaplen",
        value_name = "BYTES",
        requires = "write",
        allow_negative_numbers = true
    )]
    pub snaplen: Option<i64>,

    /// With -w: begin the next file after this size, from 1K (1M is 2^20; a bare number, as with
    /// tcpdump, is millions of bytes) [default: one file]
    #[arg(
        short = 'C',
        long = "file-size",
        value_name = "SIZE",
        requires = "write",
        allow_hyphen_values = true
    )]
    pub file_size: Option<String>,

    /// With -C: after so many files overwrite the first, 1 to 1000000 [default: no limit]
    #[arg(
        short = 'W',
        long = "files",
        value_name = "N",
        requires = "file_size",
        allow_negative_numbers = true
    )]
    pub files: Option<i64>,

    /// Taken for tcpdump's sake: names are never looked up anyway
    #[arg(short = 'n', action = clap::ArgAction::Count)]
    pub numeric: u8,

    /// Taken for tcpdump's sake: promiscuous mode is never entered anyway
    #[arg(short = 'p', long = "no-promiscuous-mode", hide = true)]
    pub no_promiscuous: bool,

    /// Taken for tcpdump's sake: lines are never held back anyway
    #[arg(short = 'l', hide = true)]
    pub line_buffered: bool,

    /// Taken for tcpdump's sake: frames are written every second anyway
    #[arg(short = 'U', hide = true)]
    pub packet_buffered: bool,

    /// Write one JSON line per flow at its end to this file
    #[arg(long, value_name = "FILE")]
    pub flows: Option<PathBuf>,

    /// Write one JSON line per frame with a TCP class, a round trip or a loss to this file; flow is
    /// the number of its flow in --flows (another one may get it after its end), null for losses alone
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,

    /// One JSON document at the end
    #[arg(long)]
    pub json: bool,

    /// One JSON line per second, and the document of --json as the last line
    #[arg(long, conflicts_with = "json")]
    pub json_stream: bool,

    /// Whose definitions of retransmissions and the like
    #[arg(long, value_enum, default_value = "tshark")]
    pub classifier: ClassifierArg,

    /// Packets that were captured twice (a mirror, two devices)
    #[arg(long, value_enum, default_value = "apart")]
    pub duplicates: DuplicatesArg,

    /// Which header names a flow where there are tunnels
    #[arg(long, value_enum, default_value = "inner")]
    pub layer: LayerArg,

    /// Flows in memory at once, 16 to 16777216, under 192 bytes each; threads share them out evenly;
    /// the oldest idle one goes when all of its thread are in use, which is counted
    #[arg(
        long,
        value_name = "N",
        default_value_t = 131_072,
        allow_negative_numbers = true
    )]
    pub max_flows: i64,

    /// Capture in this network namespace: a process's, or one of ip-netns(8) by name [default: our own]
    #[arg(long, value_name = "PID|NAME", conflicts_with = "read")]
    pub netns: Option<String>,

    /// So many of the largest flows are shown, 0 to 1000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        allow_negative_numbers = true
    )]
    pub top: i64,

    /// Add flows up by their remote address too: repeatable, commas taken [default: no groups]
    #[arg(long, value_name = "CIDR=NAME", value_delimiter = ',')]
    pub group_by: Vec<String>,

    /// Add flows up by their service port too: repeatable, commas taken [default: no groups]
    #[arg(long, value_name = "PORT=NAME", value_delimiter = ',')]
    pub group_by_port: Vec<String>,

    /// A condition for exit code 0, repeatable: 'tcp.retransmission_ratio<1%'
    #[arg(long = "assert", value_name = "EXPR")]
    pub assertions: Vec<String>,

    /// Only the first line and the summary
    #[arg(short = 'q', long)]
    pub quiet: bool,
}
