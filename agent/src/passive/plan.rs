//! From what was typed to what will be done: every rule about the options of `capture` is
//! here, one function each, with an error of one line. Nothing is opened.

mod files;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use base::units::parse_bytes;
use capture::file::CAPTURED_MAX;
use measure::passive::{Classifier, Duplicates, Groups, MOST_FLOWS, Options};
use wire::decode::Layer;

use crate::cli::{
    BackendArg, CaptureArgs, ClassifierArg, DirectionArg, DuplicatesArg, LayerArg, XdpModeArg,
    XdpTakeArg,
};
use crate::exit::Failure;
use crate::passive::live::devices::is_pattern;
pub use crate::ping::plan::Show;
use crate::ping::plan::{counted, optional, ranged};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * S;
/// Flows in memory at most: 3 GB.
pub const MOST: u32 = 1 << 24;
const _: () = assert!(MOST <= MOST_FLOWS);
/// Without a terminal and an end, `--json` of a live capture ends by itself.
const UNATTENDED_NS: u64 = 10 * S;
/// Octets of each frame that are written: headers, not payload.
const SNAPLEN: i64 = 128;
/// What the labels of metrics say of flows that fit no name, and of groups beyond the limit.
const OF_METRICS: [&str; 2] = [crate::worker::capture::NONE, exporter::gather::OTHER];

/// Where frames come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A capture file; `-` is standard input.
    File(PathBuf),
    /// Devices as typed; none: the device of the default route.
    Devices(Vec<String>),
}

/// Frames go to files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WritePlan {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Octets of each frame; 0: all.
    pub snaplen: u32,
    /// When the next file begins.
    pub file_bytes: Option<u64>,
    /// When the first one is overwritten.
    pub files: Option<u32>,
}

/// Everything about one run of `capture`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where frames come from.
    pub input: Input,
    /// How live ones are captured.
    pub backend: BackendArg,
    /// The filter's words.
    pub filter: Vec<String>,
    /// Frames after which the run ends.
    pub count: Option<u64>,
    /// Time after which it ends.
    pub duration_ns: Option<u64>,
    /// Frames go there too.
    pub write: Option<WritePlan>,
    /// A line per flow goes there.
    pub flows: Option<PathBuf>,
    /// A line per frame that shows something goes there.
    pub records: Option<PathBuf>,
    /// What standard output shows.
    pub show: Show,
    /// So many of the largest flows.
    pub top: usize,
    /// In which network namespace.
    pub netns: Option<String>,
    /// Where an XDP program is attached.
    pub xdp_mode: XdpModeArg,
    /// What AF_XDP takes.
    pub xdp_take: XdpTakeArg,
    /// Leave out what this host sends.
    pub ignore_outgoing: bool,
    /// Octets of all rings together.
    pub ring_bytes: u32,
    /// Threads that analyse.
    pub workers: u32,
    /// How frames are analysed; with a random seed already.
    pub options: Options,
}

impl Plan {
    /// Whether frames are written to standard output, which leaves no room there for us.
    #[must_use]
    pub fn writes_to_stdout(&self) -> bool {
        self.write
            .as_ref()
            .is_some_and(|write| write.path.as_os_str() == "-")
    }
}

/// Checks everything that was typed. `terminal`: standard output is one.
///
/// # Errors
/// One line about the first option that is wrong.
pub fn plan(args: &CaptureArgs, terminal: bool) -> Result<Plan, Failure> {
    let input = match &args.read {
        Some(path) => Input::File(path.clone()),
        None => Input::Devices(devices(&args.interfaces)?),
    };
    let live = matches!(input, Input::Devices(_));
    if let Input::Devices(devices) = &input
        && args.backend == BackendArg::Afxdp
    {
        named_for_afxdp(devices)?;
    }
    let write = write(args)?;
    for (option, path) in [("--flows", &args.flows), ("--records", &args.records)] {
        files::named(option, path.as_deref())?;
    }
    files::apart(&[
        ("-r", args.read.as_deref()),
        ("-w", args.write.as_deref()),
        ("--flows", args.flows.as_deref()),
        ("--records", args.records.as_deref()),
    ])?;
    let mut plan = Plan {
        backend: args.backend,
        filter: args.filter.clone(),
        count: counted(args.count, "takes")?,
        duration_ns: optional(args.duration.as_deref(), "--duration", MS, 30 * DAY)?,
        write,
        flows: args.flows.clone(),
        records: args.records.clone(),
        show: Show::Summary,
        top: ranged(args.top, "--top", 0, 1_000)?,
        netns: netns(args.netns.as_deref())?,
        xdp_mode: xdp(args, "--xdp-mode", args.xdp_mode)?.unwrap_or(XdpModeArg::Auto),
        xdp_take: xdp(args, "--xdp-take", args.xdp_take)?.unwrap_or(XdpTakeArg::Mirror),
        ignore_outgoing: args.direction == DirectionArg::In,
        ring_bytes: ring(&args.ring)?,
        workers: workers(args)?,
        options: options(args)?,
        input,
    };
    plan.show = show(args, terminal && !plan.writes_to_stdout(), live);
    if plan.writes_to_stdout() && (args.json || args.json_stream) {
        return Err(Failure::usage(
            "-w - and --json both want standard output; name a file with -w",
        ));
    }
    if live && args.json && !terminal && plan.count.is_none() && plan.duration_ns.is_none() {
        plan.duration_ns = Some(UNATTENDED_NS);
    }
    Ok(plan)
}

fn show(args: &CaptureArgs, terminal: bool, live: bool) -> Show {
    if args.json {
        Show::Json
    } else if args.json_stream {
        Show::JsonStream
    } else if args.quiet || !live {
        Show::Summary
    } else if terminal {
        Show::Table
    } else {
        Show::Lines
    }
}

fn devices(typed: &[String]) -> Result<Vec<String>, Failure> {
    let named: Vec<String> = typed
        .iter()
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    if named.is_empty() && !typed.is_empty() {
        return Err(Failure::usage("-i: no device is named; try -i any"));
    }
    Ok(named)
}

/// What AF_XDP takes never reaches the host: never a device that nobody named.
///
/// # Errors
/// One line.
pub fn named_for_afxdp(devices: &[String]) -> Result<(), Failure> {
    let is_open = |name: &String| name == "auto" || is_pattern(name);
    if devices.is_empty() || devices.iter().any(is_open) {
        return Err(Failure::usage(
            "afxdp takes frames away from the host: name the devices that serve the capture alone, without any or globs",
        ));
    }
    Ok(())
}

fn netns(typed: Option<&str>) -> Result<Option<String>, Failure> {
    match typed.map(str::trim) {
        Some("") => Err(Failure::usage(
            "--netns: no namespace is named; give a process id, or a name that ip netns list shows",
        )),
        typed => Ok(typed.map(str::to_owned)),
    }
}

/// An option that nothing but AF_XDP heeds.
fn xdp<T>(args: &CaptureArgs, option: &str, typed: Option<T>) -> Result<Option<T>, Failure> {
    if typed.is_some() && args.backend != BackendArg::Afxdp {
        return Err(Failure::usage(format!(
            "{option} is for --backend afxdp alone; add that, or leave {option} out"
        )));
    }
    Ok(typed)
}

fn write(args: &CaptureArgs) -> Result<Option<WritePlan>, Failure> {
    let snaplen = args.snaplen.unwrap_or(SNAPLEN);
    let snaplen = ranged(snaplen, "-s", 0, CAPTURED_MAX as i64)?;
    let Some(path) = &args.write else {
        return Ok(None);
    };
    let file_bytes = args.file_size.as_deref().map(file_size).transpose()?;
    let files = args
        .files
        .map(|files| ranged(files, "-W", 1, 1_000_000))
        .transpose()?;
    Ok(Some(WritePlan {
        path: path.clone(),
        snaplen,
        file_bytes,
        files,
    }))
}

fn ring(text: &str) -> Result<u32, Failure> {
    let bytes = parse_bytes(text).map_err(|error| Failure::usage(format!("--ring: {error}")))?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (256 << 10..=1 << 30).contains(bytes))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--ring {text} is out of range; give a size from 256K to 1G"
            ))
        })
}

/// Few, and not one per CPU: the host has other work.
pub fn usual_workers() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cpus / 8).unwrap_or(1).clamp(1, 4)
}

/// Frames in one order, numbers of frames, and a count that is met exactly need one thread.
fn workers(args: &CaptureArgs) -> Result<u32, Failure> {
    let asked = args
        .workers
        .map(|workers| ranged(workers, "--workers", 1, 64))
        .transpose()?;
    let one = args.write.is_some() || args.count.is_some() || args.records.is_some();
    let one_source = match args.backend {
        BackendArg::Auto | BackendArg::Afpacket => None,
        BackendArg::Afxdp => Some("afxdp"),
        BackendArg::Pcap => Some("pcap"),
    };
    match (asked, one_source) {
        (Some(2..), Some(backend)) => Err(Failure::usage(format!(
            "--workers: with --backend {backend} one thread takes all frames of a device"
        ))),
        (Some(2..), None) if one => Err(Failure::usage(
            "--workers: with -w, -c or --records one thread takes all frames",
        )),
        (Some(workers), _) => Ok(workers),
        (None, _) if one => Ok(1),
        (None, _) => Ok(usual_workers()),
    }
}

/// tcpdump counts in millions of bytes; a unit says something else.
fn file_size(text: &str) -> Result<u64, Failure> {
    let bytes = match text.parse::<u64>() {
        Ok(millions) => millions.checked_mul(1_000_000),
        Err(_) => Some(parse_bytes(text).map_err(|error| Failure::usage(format!("-C: {error}")))?),
    };
    bytes
        .filter(|bytes| *bytes >= 1024)
        .ok_or_else(|| Failure::usage(format!("-C {text} is out of range; give a size from 1K")))
}

fn options(args: &CaptureArgs) -> Result<Options, Failure> {
    let flows: u32 = ranged(args.max_flows, "--max-flows", 16, i64::from(MOST))?;
    Ok(Options {
        classifier: match args.classifier {
            ClassifierArg::Tshark => Classifier::Tshark,
            ClassifierArg::Tcptrace => Classifier::Tcptrace,
        },
        layer: match args.layer {
            LayerArg::Inner => Layer::Innermost,
            LayerArg::Outer => Layer::Outermost,
        },
        duplicates: match args.duplicates {
            DuplicatesArg::Apart => Duplicates::Apart,
            DuplicatesArg::Classify => Duplicates::Classify,
        },
        flows,
        segments: flows.saturating_mul(2),
        // Lines of flows have them all.
        details: args.flows.is_some(),
        groups: groups(&args.group_by, &args.group_by_port)?,
        ..Options::new(super::seed())
    })
}

/// `CIDR=NAME`s and `PORT=NAME`s.
///
/// # Errors
/// One line about the first that is none.
pub fn groups(prefixes: &[String], ports: &[String]) -> Result<Groups, Failure> {
    let prefixes = prefixes
        .iter()
        .map(|text| prefix(text))
        .collect::<Result<Vec<_>, _>>()?;
    let ports = ports
        .iter()
        .map(|text| port(text))
        .collect::<Result<Vec<_>, _>>()?;
    one_name("--group-by", &prefixes, |(ip, length, name)| {
        (format!("{ip}/{length}"), name.as_str())
    })?;
    one_name("--group-by-port", &ports, |(port, name)| {
        (port.to_string(), name.as_str())
    })?;
    Groups::new(&prefixes, &ports).map_err(|error| Failure::usage(error.to_string()))
}

/// Nothing is in two groups of one kind.
fn one_name<T>(option: &str, all: &[T], of: impl Fn(&T) -> (String, &str)) -> Result<(), Failure> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    for (key, name) in all.iter().map(of) {
        match known.get(&key) {
            Some(other) if *other != name => {
                return Err(Failure::usage(format!(
                    "{option} '{key}={name}': {key} is '{other}' already; name it once"
                )));
            }
            _ => {
                known.insert(key, name);
            }
        }
    }
    Ok(())
}

fn named<'a>(text: &'a str, option: &str, example: &str) -> Result<(&'a str, String), Failure> {
    let parts = text
        .split_once('=')
        .map(|(of, name)| (of.trim(), name.trim()));
    match parts {
        Some((_, name)) if OF_METRICS.contains(&name) => Err(Failure::usage(format!(
            "{option} '{text}': '{name}' is what metrics say of flows without a name; choose another"
        ))),
        Some((of, name)) if !name.is_empty() && !name.chars().any(char::is_control) => {
            Ok((of, name.to_owned()))
        }
        _ => Err(Failure::usage(format!(
            "{option} '{text}': write {example}"
        ))),
    }
}

fn prefix(text: &str) -> Result<(IpAddr, u8, String), Failure> {
    let (cidr, name) = named(text, "--group-by", "10.0.0.0/16=NAME")?;
    let net = cidr
        .parse::<ipnet::IpNet>()
        .or_else(|_| cidr.parse::<IpAddr>().map(ipnet::IpNet::from))
        .map_err(|_| {
            Failure::usage(format!(
                "--group-by '{text}': '{cidr}' is no network; write 10.0.0.0/16=NAME"
            ))
        })?;
    if net.trunc() != net {
        return Err(Failure::usage(format!(
            "--group-by '{text}': '{cidr}' has bits behind its prefix; write {}={name}",
            net.trunc()
        )));
    }
    Ok((net.addr(), net.prefix_len(), name))
}

fn port(text: &str) -> Result<(u16, String), Failure> {
    let (port, name) = named(text, "--group-by-port", "443=NAME")?;
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((port, name)),
        _ => Err(Failure::usage(format!(
            "--group-by-port '{text}': '{port}' is no port from 1 to 65535; write 443=NAME"
        ))),
    }
}

#[cfg(test)]
mod tests;
