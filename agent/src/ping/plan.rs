//! From what was typed to what will be done: every rule about the options of `ping` is
//! here, one function each, with an error of one line. Nothing is opened; names are
//! resolved by the function that the caller gives.

pub use probe::prober::Choice;
use std::net::SocketAddr;
use std::path::PathBuf;

use base::units::{format_ns, parse_duration};

use super::host::{self, Family, Host};
use crate::cli::{FormatArg, FragmentArg, PingArgs, ProtocolArg};
use crate::exit::Failure;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * S;

/// Between two STAMP probes unless told otherwise.
pub const STAMP_INTERVAL_NS: u64 = 10 * MS;
/// Between two ICMP probes unless told otherwise: what hosts and networks bear from `ping`.
pub const ICMP_INTERVAL_NS: u64 = 200 * MS;
/// How far clocks may be apart that were declared synchronised without saying how well.
const CLOCK_ERROR_NS: u64 = 10 * US;
/// Without a terminal and an end, `--json` ends by itself.
const UNATTENDED_NS: u64 = 10 * S;
const MAX_SOURCE_PORTS: i64 = 64;
/// A jumbo frame's 9001 bytes, and some room for larger devices.
const MAX_PACKET: i64 = 9216;

/// The smallest IP packet that holds a probe, in bytes.
fn smallest(protocol: Choice, ipv6: bool) -> i64 {
    let ip = if ipv6 { 40 } else { 20 };
    // UDP and ICMP echo headers are 8 bytes each; RFC 8762 section 4.2.1: 44 octets;
    // of an echo's data the first 20 are the probe's own.
    ip + 8 + if protocol == Choice::Icmp { 20 } else { 44 }
}

/// What standard output shows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Show {
    /// The live table, and the summary.
    Table,
    /// A line per second and target, and the summary.
    Lines,
    /// The summary.
    Summary,
    /// One document at the end.
    Json,
    /// A document per second, and one at the end.
    JsonStream,
}

impl Show {
    /// Whether people read it.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Table | Self::Lines | Self::Summary)
    }

    /// Whether something is shown each second.
    #[must_use]
    pub const fn has_intervals(self) -> bool {
        matches!(self, Self::Table | Self::Lines | Self::JsonStream)
    }
}

/// One target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// As typed.
    pub name: String,
    /// Where the probes go.
    pub address: SocketAddr,
}

/// Everything about one run of `ping`.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// At least one.
    pub targets: Vec<Target>,
    /// For all targets.
    pub protocol: Choice,
    /// Probes per target.
    pub count: Option<u64>,
    /// When to stop sending.
    pub deadline_ns: Option<u64>,
    /// As asked for; `None` leaves it to the protocol.
    pub interval_ns: Option<u64>,
    /// When a probe is lost.
    pub wait_ns: u64,
    /// IP packet, as asked for.
    pub packet_bytes: Option<u16>,
    /// TOS or traffic class octet.
    pub tos: u8,
    /// `-M`
    pub fragment: Option<FragmentArg>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// `-I`
    pub device: Option<String>,
    /// Source ports, each at the full rate.
    pub source_ports: u16,
    /// Random send times.
    pub poisson: bool,
    /// Under `SCHED_FIFO`.
    pub realtime: bool,
    /// The clocks are declared to agree to this.
    pub clock_error_ns: Option<u64>,
    /// Of timestamps on the wire.
    pub format: FormatArg,
    /// Ask netsonde reflectors for their counters.
    pub private_tlv: bool,
    /// What standard output shows.
    pub show: Show,
    /// `--records`
    pub records: Option<PathBuf>,
    /// `--hlog`
    pub hlog: Option<PathBuf>,
}

impl Plan {
    /// The interval of a protocol.
    #[must_use]
    pub fn interval_ns(&self, icmp: bool) -> u64 {
        self.interval_ns.unwrap_or(if icmp {
            ICMP_INTERVAL_NS
        } else {
            STAMP_INTERVAL_NS
        })
    }
}

/// Checks everything and resolves the targets.
///
/// # Errors
/// The first rule that is broken, as one line with the usage code.
pub fn plan(
    args: &PingArgs,
    terminal: bool,
    mut resolve: impl FnMut(&Host, Family, u16) -> Result<SocketAddr, Failure>,
) -> Result<Plan, Failure> {
    let protocol = protocol(args.protocol)?;
    let json = args.json || args.json_stream;
    let unattended = args.json && !terminal && args.count.is_none() && args.deadline.is_none();
    let mut plan = Plan {
        targets: Vec::new(),
        protocol,
        count: counted(args.count, "sends")?,
        deadline_ns: optional(args.deadline.as_deref(), "-w", MS, 30 * 24 * HOUR)?
            .or(unattended.then_some(UNATTENDED_NS)),
        interval_ns: optional(args.interval.as_deref(), "-i", 100 * US, HOUR)?,
        wait_ns: duration(&args.wait, "-W", MS, 60 * S)?,
        packet_bytes: None,
        tos: tos(args.dscp, args.tos.as_deref())?,
        fragment: args.fragment,
        ttl: ranged(args.ttl, "-t", 1, 255)?,
        device: args.interface.as_deref().map(device).transpose()?,
        source_ports: source_ports(args.source_ports, protocol)?,
        poisson: args.poisson,
        realtime: args.realtime,
        clock_error_ns: optional(args.clock_error.as_deref(), "--clock-error", 1, S)?
            .or(args.assume_synchronised.then_some(CLOCK_ERROR_NS)),
        format: args.timestamp_format,
        private_tlv: !args.no_private_tlv,
        show: if args.json_stream {
            Show::JsonStream
        } else if json {
            Show::Json
        } else if args.quiet {
            Show::Summary
        } else if terminal {
            Show::Table
        } else {
            Show::Lines
        },
        records: args.records.clone(),
        hlog: args.hlog.clone(),
    };
    let default_port = default_port(args.port)?;
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    for text in &args.hosts {
        let host = host::parse(text)?;
        let port = port(&host, protocol, default_port)?;
        let address = resolve(&host, family, port)?;
        if let Some(bytes) = args.size {
            plan.packet_bytes = Some(size(bytes, protocol, address.is_ipv6())?);
        }
        plan.targets.push(Target {
            name: host.text,
            address,
        });
    }
    Ok(plan)
}

fn protocol(arg: ProtocolArg) -> Result<Choice, Failure> {
    match arg {
        ProtocolArg::Auto => Ok(Choice::Auto),
        ProtocolArg::Stamp => Ok(Choice::Stamp),
        ProtocolArg::Icmp => Ok(Choice::Icmp),
        ProtocolArg::Tcp | ProtocolArg::Udp => Err(Failure::usage(format!(
            "--protocol {} is not in this version, which has stamp and icmp; use one of them",
            arg.as_str()
        ))),
    }
}

fn default_port(port: i64) -> Result<u16, Failure> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            Failure::usage(format!(
                "-p {port} is out of range; give a port from 1 to 65535"
            ))
        })
}

fn port(host: &Host, protocol: Choice, by_default: u16) -> Result<u16, Failure> {
    let Some(port) = host.port else {
        return Ok(by_default);
    };
    match protocol {
        Choice::Stamp => Ok(port),
        Choice::Icmp => Err(Failure::usage(format!(
            "'{}': ICMP has no ports; leave :{port} away",
            host.text
        ))),
        Choice::Auto => Err(Failure::usage(format!(
            "'{}': HOST:PORT means TCP, which is not in this version; for a STAMP reflector use --protocol stamp -p {port} {}",
            host.text, host.name
        ))),
    }
}

/// A `-c` that lets something be done.
///
/// # Errors
/// One line that says what does nothing.
pub fn counted(count: Option<i64>, does: &str) -> Result<Option<u64>, Failure> {
    match count.map(|count| (count, u64::try_from(count))) {
        None => Ok(None),
        Some((1.., Ok(count))) => Ok(Some(count)),
        Some((count, _)) => Err(Failure::usage(format!(
            "-c {count} {does} nothing; give a count from 1 on"
        ))),
    }
}

pub fn duration(text: &str, option: &str, low: u64, high: u64) -> Result<u64, Failure> {
    let ns = parse_duration(text).map_err(|error| Failure::usage(format!("{option}: {error}")))?;
    if (low..=high).contains(&ns) {
        return Ok(ns);
    }
    Err(Failure::usage(format!(
        "{option} {text} is out of range; give a time from {} to {}",
        exact(low),
        exact(high)
    )))
}

pub fn optional(
    text: Option<&str>,
    option: &str,
    low: u64,
    high: u64,
) -> Result<Option<u64>, Failure> {
    text.map(|text| duration(text, option, low, high))
        .transpose()
}

/// A limit as people write it: all limits are whole in some unit.
fn exact(ns: u64) -> String {
    for (unit, scale) in [
        ("d", 24 * HOUR),
        ("h", HOUR),
        ("s", S),
        ("ms", MS),
        ("us", US),
    ] {
        if ns >= scale && ns.is_multiple_of(scale) {
            return format!("{}{unit}", ns / scale);
        }
    }
    format_ns(ns as f64)
}

pub fn ranged<T: TryFrom<i64>>(
    value: i64,
    option: &str,
    low: i64,
    high: i64,
) -> Result<T, Failure> {
    let fits = (low..=high).contains(&value);
    T::try_from(value).ok().filter(|_| fits).ok_or_else(|| {
        Failure::usage(format!(
            "{option} {value} is out of range; give a number from {low} to {high}"
        ))
    })
}

fn tos(dscp: Option<i64>, tos: Option<&str>) -> Result<u8, Failure> {
    if let Some(dscp) = dscp {
        let dscp: u8 = ranged(dscp, "--dscp", 0, 63)?;
        return Ok(dscp << 2);
    }
    let Some(text) = tos else {
        return Ok(0);
    };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let value = match hex {
        Some(digits) if !digits.starts_with('+') => u8::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None => text.parse().ok(),
    };
    value.ok_or_else(|| {
        Failure::usage(format!(
            "-Q {text} is out of range; give an octet from 0 to 255, or 0x00 to 0xff"
        ))
    })
}

fn source_ports(count: i64, protocol: Choice) -> Result<u16, Failure> {
    if count > 1 && protocol == Choice::Icmp {
        return Err(Failure::usage(
            "--source-ports: ICMP has no ports; use --protocol stamp",
        ));
    }
    ranged(count, "--source-ports", 1, MAX_SOURCE_PORTS)
}

fn device(name: &str) -> Result<String, Failure> {
    // IFNAMSIZ is 16 with the final zero.
    let wrong = name.is_empty() || name.len() > 15 || name.contains(['/', ' ', '\0']);
    if wrong {
        return Err(Failure::usage(format!(
            "-I '{name}' is no device name; `ip link` lists them"
        )));
    }
    Ok(name.to_owned())
}

fn size(bytes: i64, protocol: Choice, ipv6: bool) -> Result<u16, Failure> {
    let low = smallest(protocol, ipv6);
    let words = if protocol == Choice::Icmp {
        "ICMP echo"
    } else {
        "STAMP"
    };
    let family = if ipv6 { "IPv6" } else { "IPv4" };
    if bytes < low {
        return Err(Failure::usage(format!(
            "-s {bytes} is too small for {words} over {family}; give an IP packet size from {low} to {MAX_PACKET}"
        )));
    }
    ranged(bytes, "-s", low, MAX_PACKET)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn planned(line: &str, terminal: bool) -> Result<Plan, Failure> {
        let words = ["netsonde", "ping"]
            .into_iter()
            .chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).expect(line);
        let Command::Ping(args) = cli.command else {
            panic!("not ping");
        };
        plan(&args, terminal, host::resolve)
    }

    #[test]
    fn defaults() {
        let plan = planned("127.0.0.1", true).expect("planned");
        assert_eq!(
            plan,
            Plan {
                targets: vec![Target {
                    name: "127.0.0.1".to_owned(),
                    address: "127.0.0.1:862".parse().expect("an address"),
                }],
                protocol: Choice::Auto,
                count: None,
                deadline_ns: None,
                interval_ns: None,
                wait_ns: S,
                packet_bytes: None,
                tos: 0,
                fragment: None,
                ttl: 255,
                device: None,
                source_ports: 1,
                poisson: false,
                realtime: false,
                clock_error_ns: None,
                format: FormatArg::Ntp,
                private_tlv: true,
                show: Show::Table,
                records: None,
                hlog: None,
            }
        );
        assert_eq!(plan.interval_ns(false), 10 * MS);
        assert_eq!(plan.interval_ns(true), 200 * MS);
    }

    #[test]
    fn what_is_shown_and_when_a_run_ends_by_itself() {
        for (line, terminal, show, deadline) in [
            ("::1", true, Show::Table, None),
            ("::1", false, Show::Lines, None),
            ("::1 -q", true, Show::Summary, None),
            ("::1 --json", true, Show::Json, None),
            ("::1 --json", false, Show::Json, Some(10 * S)),
            ("::1 --json -c 5", false, Show::Json, None),
            ("::1 --json -w 3", false, Show::Json, Some(3 * S)),
            ("::1 --json-stream", false, Show::JsonStream, None),
        ] {
            let plan = planned(line, terminal).expect(line);
            assert_eq!((plan.show, plan.deadline_ns), (show, deadline), "{line}");
        }
    }

    #[test]
    fn values_arrive() {
        let plan = planned(
            "127.0.0.1:7 [::1]:8 --protocol stamp -i 0.001 -W 200ms -s 1500 --dscp 46 -M dont \
             -t 64 --source-ports 4 --clock-error 50us --poisson",
            true,
        )
        .expect("planned");
        let addresses: Vec<String> = plan.targets.iter().map(|t| t.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:7", "[::1]:8"]);
        assert_eq!(plan.interval_ns, Some(MS));
        assert_eq!(plan.wait_ns, 200 * MS);
        assert_eq!(plan.packet_bytes, Some(1500));
        assert_eq!(plan.tos, 0xb8);
        assert_eq!(plan.ttl, 64);
        assert_eq!(plan.source_ports, 4);
        assert_eq!(plan.clock_error_ns, Some(50_000));
        assert!(plan.poisson);
        let assumed = planned("::1 --assume-synchronized", true).expect("planned");
        assert_eq!(assumed.clock_error_ns, Some(10_000));
        assert_eq!(planned("::1 -Q 0xb8", true).expect("planned").tos, 184);
    }

    #[test]
    fn each_rule_has_its_line() {
        for (line, wanted) in [
            (
                "::1 --protocol tcp",
                "--protocol tcp is not in this version, which has stamp and icmp",
            ),
            (
                "::1 --protocol udp",
                "--protocol udp is not in this version",
            ),
            ("127.0.0.1:7", "use --protocol stamp -p 7 127.0.0.1"),
            ("127.0.0.1:7 --protocol icmp", "ICMP has no ports"),
            ("::1 -c 0", "-c 0 sends nothing"),
            (
                "::1 -i 99us",
                "-i 99us is out of range; give a time from 100us to 1h",
            ),
            ("::1 -i 61m", "-i 61m is out of range"),
            ("::1 -c -1", "-c -1 sends nothing; give a count from 1 on"),
            ("::1 -i -5ms", "-i: '-5ms' is no duration"),
            ("::1 -w -1", "-w: '-1' is no duration"),
            ("::1 -W -1s", "-W: '-1s' is no duration"),
            ("::1 -p -1", "-p -1 is out of range; give a port"),
            ("::1 -p 65536", "-p 65536 is out of range; give a port"),
            ("::1 -t -4", "-t -4 is out of range; give a number"),
            ("::1 -s -1", "-s -1 is too small"),
            ("::1 --dscp -1", "--dscp -1 is out of range"),
            ("::1 -Q -1", "-Q -1 is out of range"),
            ("::1 --source-ports -1", "--source-ports -1 is out of range"),
            ("::1 --clock-error -1us", "--clock-error: '-1us' is no"),
            ("::1 -i soon", "-i: 'soon' is no duration"),
            (
                "::1 -W 0",
                "-W 0 is out of range; give a time from 1ms to 60s",
            ),
            (
                "::1 -w 0",
                "-w 0 is out of range; give a time from 1ms to 30d",
            ),
            ("::1 -p 0", "-p 0 is out of range"),
            (
                "::1 --dscp 64",
                "--dscp 64 is out of range; give a number from 0 to 63",
            ),
            ("::1 -Q 256", "-Q 256 is out of range"),
            ("::1 -Q 0x+1", "-Q 0x+1 is out of range"),
            (
                "::1 -t 0",
                "-t 0 is out of range; give a number from 1 to 255",
            ),
            ("::1 -t 256", "-t 256 is out of range"),
            ("::1 --source-ports 0", "give a number from 1 to 64"),
            ("::1 --source-ports 65", "give a number from 1 to 64"),
            ("::1 --source-ports 2 --protocol icmp", "ICMP has no ports"),
            (
                "127.0.0.1 -s 71",
                "too small for STAMP over IPv4; give an IP packet size from 72",
            ),
            (
                "::1 -s 91",
                "too small for STAMP over IPv6; give an IP packet size from 92",
            ),
            ("127.0.0.1 -s 47 --protocol icmp", "from 48 to 9216"),
            ("::1 -s 67 --protocol icmp", "from 68 to 9216"),
            (
                "::1 -s 9217",
                "-s 9217 is out of range; give a number from 92 to 9216",
            ),
            ("::1 --clock-error 2s", "give a time from 1ns to 1s"),
            ("::1 -I much-too-long-name", "is no device name"),
            ("1:2:3", "is no target"),
        ] {
            let error = planned(line, true).expect_err(line);
            assert_eq!(error.exit, crate::exit::Exit::Usage, "{line}");
            assert!(error.message.contains(wanted), "{line}: {error}");
            assert!(!error.message.contains('\n'));
        }
        for line in [
            "127.0.0.1 -s 72",
            "::1 -s 92",
            "127.0.0.1 -s 48 --protocol icmp",
            "::1 -i 1h",
        ] {
            planned(line, true).expect(line);
        }
    }
}
