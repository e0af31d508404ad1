//! What can be typed: the commands and options, exactly as they came. Nothing is resolved
//! or checked against the machine here (that is each command's plan), so that parsing is
//! pure and help never fails.
//!
//! Every help text states unit, range and default.

mod capture;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use capture::{
    BackendArg, CaptureArgs, ClassifierArg, DirectionArg, DuplicatesArg, LayerArg, XdpModeArg,
    XdpTakeArg,
};

/// Packet and flow probe for Linux hosts: measures a network path and keeps every
/// measurement as a distribution.
#[derive(Parser, Debug)]
#[command(
    name = "netsonde",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 measured; 1 a target gave no answer at all; 2 usage or configuration; \
3 missing privilege or kernel feature; 4 an assertion was false, or status found an error; 5 incomplete.\n\
A bare number for a duration is seconds; 500us, 10ms, 2m and 1h are taken too."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Probe hosts on a fixed schedule: round trip, one-way delay, loss, duplicates, order
    Ping(Box<PingArgs>),
    /// Answer STAMP (RFC 8762) probes
    Reflect(ReflectArgs),
    /// Watch traffic, live or from a file: flows with round trips, losses, retransmissions
    Capture(Box<CaptureArgs>),
    /// The service: probes, reflector and export from a configuration file
    Agent(AgentArgs),
    /// Ask the running agent whether it is healthy, and why not
    Status(StatusArgs),
}

/// Which probe packets are used.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum ProtocolArg {
    /// STAMP first, ICMP echo if no reflector answers.
    Auto,
    /// STAMP (RFC 8762) over UDP.
    Stamp,
    /// ICMP or ICMPv6 echo.
    Icmp,
    /// Not in this version.
    #[value(hide = true)]
    Tcp,
    /// Not in this version.
    #[value(hide = true)]
    Udp,
}

impl ProtocolArg {
    /// The word on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Stamp => "stamp",
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// May the probes be fragmented on their way?
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum FragmentArg {
    /// Never: larger than the path MTU that the kernel knows is a send error.
    Do,
    /// They may be.
    Dont,
}

/// The format of our timestamps on the wire.
#[derive(Copy, Clone, PartialEq, Eq, ValueEnum, Debug)]
pub enum FormatArg {
    /// 32 bits of seconds since 1900, 32 bits of fraction.
    Ntp,
    /// 32 bits of seconds since 1970, 32 bits of nanoseconds (truncated PTP).
    Ptp,
}

/// `netsonde ping`
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Assertions: KEY OP VALUE with OP one of < <= > >= == !=; KEY is a key of the JSON output, dots go \
down, and _ns may be left out: 'loss_ratio<0.001', 'rtt.p99<2ms', 'duplicates_forward==0', \
'ipdv.forward.p99<=500us'. = means ==. A bare number for a time is seconds, but nanoseconds if \
the key is written with its _ns; a ratio may be a percentage (1% is 0.01). \
What was not measured makes an assertion false.")]
pub struct PingArgs {
    /// Names or addresses; IPv6 with or without brackets; a port (HOST:PORT) only with
    /// --protocol stamp
    #[arg(required = true, value_name = "HOST[:PORT]")]
    pub hosts: Vec<String>,

    /// Probes per target and source port, from 1 [default: no end, or 10 s with --json and no terminal]
    #[arg(
        short = 'c',
        long = "count",
        value_name = "N",
        allow_negative_numbers = true
    )]
    pub count: Option<i64>,

    /// Stop after this time, 1ms to 30d [default: no end]
    #[arg(
        short = 'w',
        long = "deadline",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub deadline: Option<String>,

    /// Time between two probes of a target, 100us to 1h [default: 10ms with STAMP, 200ms with ICMP]
    #[arg(
        short = 'i',
        long = "interval",
        value_name = "TIME",
        allow_hyphen_values = true
    )]
    pub interval: Option<String>,

    /// How long an answer may take before its probe is lost, 1ms to 60s
    #[arg(
        short = 'W',
        long = "wait",
        value_name = "TIME",
        default_value = "1s",
        allow_hyphen_values = true
    )]
    pub wait: String,

    /// Size of the IP packet in bytes, up to 9216; at least 72 (IPv4) or 92 (IPv6) with STAMP,
    /// 48 or 68 with ICMP [default: the smallest that carries what the protocol needs]
    #[arg(
        short = 's',
        long = "size",
        value_name = "BYTES",
        allow_negative_numbers = true
    )]
    pub size: Option<i64>,

    /// Which probe packets; auto tries STAMP, then ICMP echo
    #[arg(long, value_enum, default_value = "auto")]
    pub protocol: ProtocolArg,

    /// UDP port of the STAMP reflector, 1 to 65535
    #[arg(
        short = 'p',
        long,
        value_name = "PORT",
        default_value_t = 862,
        allow_negative_numbers = true
    )]
    pub port: i64,

    /// DSCP of the probes, 0 to 63 [default: 0]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "tos",
        allow_negative_numbers = true
    )]
    pub dscp: Option<i64>,

    /// Whole TOS or traffic class octet of the probes, 0 to 255 or 0x00 to 0xff [default: 0]
    #[arg(
        short = 'Q',
        long = "tos",
        value_name = "TOS",
        allow_hyphen_values = true
    )]
    pub tos: Option<String>,

    /// Fragmentation: do (never, and obey the kernel's path MTU) or dont (allowed)
    /// [default: never, and ignore the kernel's path MTU]
    #[arg(short = 'M', value_name = "do|dont", value_enum)]
    pub fragment: Option<FragmentArg>,

    /// TTL or hop limit of the probes, 1 to 255 (hops forward need 255)
    #[arg(
        short = 't',
        long,
        value_name = "TTL",
        default_value_t = 255,
        allow_negative_numbers = true
    )]
    pub ttl: i64,

    /// IPv4 only
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only
    #[arg(short = '6')]
    pub ipv6: bool,

    /// Send and receive on this device only [default: as the routes say]
    #[arg(short = 'I', long = "interface", value_name = "IFACE")]
    pub interface: Option<String>,

    /// So many sessions per target, each from a port of its own at the full rate, so that the
    /// probes take different paths of a multipath network; 1 to 64
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub source_ports: i64,

    /// Send at random times (Poisson, RFC 2330) with the interval as their mean [default: periodic]
    #[arg(long)]
    pub poisson: bool,

    /// Send under SCHED_FIFO and spin over the last 150us (two fifths of a shorter interval) before each send; needs CAP_SYS_NICE
    /// [default: off]
    #[arg(long)]
    pub realtime: bool,

    /// Take both clocks as synchronised, so that one-way delays are shown [default: ask the kernel]
    #[arg(long, visible_alias = "assume-synchronized")]
    pub assume_synchronised: bool,

    /// How far the clocks may be apart, 1ns to 1s; implies --assume-synchronised [default: 10us]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub clock_error: Option<String>,

    /// Timestamp format on the wire
    #[arg(long, value_enum, default_value = "ntp")]
    pub timestamp_format: FormatArg,

    /// Do not ask a netsonde reflector for its counters [default: ask on one probe a second]
    #[arg(long)]
    pub no_private_tlv: bool,

    /// One JSON document at the end
    #[arg(long)]
    pub json: bool,

    /// One JSON line per second, and the document of --json as the last line
    #[arg(long, conflicts_with = "json")]
    pub json_stream: bool,

    /// Write one JSON line per probe to this file
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,

    /// Write an HDR interval log (V2) to this file: one line per distribution and second
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,

    /// A condition for exit code 0, repeatable: 'loss_ratio<0.001', 'rtt.p99<2ms'
    #[arg(long = "assert", value_name = "EXPR")]
    pub assertions: Vec<String>,

    /// Only the first lines and the summary
    #[arg(short = 'q', long)]
    pub quiet: bool,
}

/// `netsonde reflect`
#[derive(Args, Debug, Clone)]
pub struct ReflectArgs {
    /// Address and UDP port to answer on, repeatable; a bare address means port 862
    /// [default: port 862 of all IPv4 and IPv6 addresses]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<String>,

    /// Answer these source networks only; repeatable, commas taken; any means all [default: any]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub allow: Vec<String>,

    /// Answer requests shorter than 44 bytes (TWAMP Light); the reply is then larger than the request
    #[arg(long)]
    pub twamp_light: bool,

    /// Leave shorter requests unanswered: bytes of UDP payload, 14 to 65507; under 44 needs
    /// --twamp-light [default: 44, or 14 with --twamp-light]
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub min_request: Option<i64>,

    /// Sessions kept at once, 1 to 1000000; new ones are left unanswered when all are in use
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16_384,
        allow_negative_numbers = true
    )]
    pub max_sessions: i64,

    /// Forget a session that was silent for so long, 1s to 1d
    #[arg(
        long,
        value_name = "TIME",
        default_value = "300s",
        allow_hyphen_values = true
    )]
    pub idle_timeout: String,

    /// Packets per second answered per session; 0 means no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub rate: i64,

    /// Keep no sessions: replies carry the sender's own sequence number (RFC 8762 section 4)
    #[arg(long)]
    pub stateless: bool,

    /// Do not answer netsonde's own request for counters
    #[arg(long)]
    pub no_private_tlv: bool,

    /// One JSON document with the counters at the end
    #[arg(long)]
    pub json: bool,
}

/// `netsonde agent`
#[derive(Args, Debug, Clone)]
pub struct AgentArgs {
    /// Configuration file (TOML); conf.d/*.toml beside it are read after it
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Check the configuration, say what it costs, and end
    #[arg(long)]
    pub check: bool,

    /// With --check: print the configuration with all defaults filled in
    #[arg(long, requires = "check")]
    pub print: bool,

    /// Override one key: section.key=value; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// Write one JSON line per probe to this file
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
}

/// `netsonde status`
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    /// One JSON document
    #[arg(long)]
    pub json: bool,

    /// Where the agent listens [default: from --config, else 127.0.0.1:9862]
    #[arg(long, value_name = "ADDR:PORT")]
    pub address: Option<String>,

    /// The agent's configuration file, to find its address
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// A parse error on one line: what is wrong, clap's hint if it has one, where to read on.
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut parts: Vec<String> = Vec::new();
    let mut usage = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("Usage: ") {
            usage = Some(rest);
        } else if !line.is_empty() && usage.is_none() && !line.starts_with("For more information") {
            let line = line.strip_prefix("error: ").unwrap_or(line);
            // What clap lists below a line that ends in a colon belongs to that line.
            match parts.last_mut() {
                Some(last) if last.ends_with(':') || line.starts_with('[') => {
                    last.push(' ');
                    last.push_str(line);
                }
                _ => parts.push(line.to_owned()),
            }
        }
    }
    let command = usage
        .and_then(|usage| usage.split_whitespace().nth(1))
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        .map_or_else(String::new, |word| format!(" {word}"));
    format!("{} (see netsonde{command} --help)", parts.join("; "))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn usage_errors_are_one_line() {
        for (args, wanted) in [
            (
                &["netsonde", "fly"][..],
                "unrecognized subcommand 'fly' (see netsonde --help)",
            ),
            (
                &["netsonde", "ping", "h", "--xdp"],
                "unexpected argument '--xdp' found",
            ),
            (
                &["netsonde", "ping"],
                "the following required arguments were not provided: <HOST[:PORT]>... (see netsonde ping --help)",
            ),
            (
                &["netsonde", "ping", "h", "-c", "many"],
                "invalid value 'many' for '--count <N>': invalid digit found in string",
            ),
            (
                &["netsonde", "ping", "h", "--protocol", "quic"],
                "[possible values: auto, stamp, icmp]",
            ),
        ] {
            let error = Cli::try_parse_from(args).expect_err("must fail");
            let line = one_line(&error);
            assert!(line.contains(wanted), "{line}");
            assert!(!line.contains('\n'));
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn options_of_ping_are_taken() {
        let cli = Cli::try_parse_from([
            "netsonde",
            "ping",
            "a",
            "[::1]:7",
            "-c",
            "5",
            "-i",
            "1ms",
            "-W",
            "0.5",
            "-Q",
            "0x10",
            "-M",
            "do",
            "-4",
            "-I",
            "eth0",
            "--assert",
            "lost==0",
            "--assert",
            "rtt.p99<2ms",
        ])
        .expect("parses");
        let Command::Ping(args) = cli.command else {
            panic!("not ping");
        };
        assert_eq!(args.hosts, ["a", "[::1]:7"]);
        assert_eq!(args.assertions.len(), 2);
        assert_eq!(args.fragment, Some(FragmentArg::Do));
    }

    #[test]
    fn every_option_states_its_default_or_is_a_switch() {
        // An option that takes a value must say what happens without it.
        let command = Cli::command();
        for name in ["ping", "reflect"] {
            let command = command.find_subcommand(name).expect("there");
            for arg in command.get_arguments() {
                let takes_value = arg.get_action().takes_values();
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                let optional_output = ["records", "hlog", "assertions", "hosts"];
                if takes_value && !optional_output.contains(&arg.get_id().as_str()) {
                    assert!(
                        help.contains("[default:") || !arg.get_default_values().is_empty(),
                        "{name} {}: {help}",
                        arg.get_id()
                    );
                }
            }
        }
    }
}
