//! Configuration in two steps: typed text ([`text`]) with where each value was written
//! ([`tree`], [`de`]), then resolved values ([`resolve`]) that the agent runs on.
//!
//! Owns the reading of files. Never touches the network and never looks at this host: a
//! configuration that is valid here is valid on every host. Durations are nanoseconds.

mod de;
pub mod error;
pub mod report;
mod resolve;
mod rules;
pub mod saved;
pub mod text;
mod tree;

pub use probe::prober::Choice;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use measure::passive::{Classifier, Duplicates, Groups};
use serde::Deserialize as _;
use sha2::{Digest as _, Sha256};
use wire::decode::Layer;

use crate::cli::{BackendArg, XdpModeArg, XdpTakeArg};

pub use error::ConfigError;
use text::Text;
use tree::Node;

/// What the agent runs on.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// Probes per second of all targets together; `None`: no limit.
    pub packets_per_second: Option<u32>,
    /// `[[probe]]`, in order; names are unique.
    pub probes: Vec<Probe>,
    /// `[reflector]`, if it is on.
    pub reflector: Option<Reflector>,
    /// `[capture]`, if it is on.
    pub capture: Option<Capture>,
    /// `[export.prometheus]`.
    pub prometheus: Prometheus,
    /// One line for each thing that is odd but allowed.
    pub warnings: Vec<String>,
    /// The effective configuration as TOML; reads back as this configuration.
    pub effective: String,
    /// SHA-256 of `effective`, in hex.
    pub sha256: String,
}

/// `[agent]`, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// Page and API.
    pub listen: SocketAddr,
    /// Metrics and health alone.
    pub metrics_listen: Option<SocketAddr>,
    /// Whom to become when started as root.
    pub user: Option<String>,
    /// What must outlive a restart.
    pub state_directory: PathBuf,
    /// Least level that is logged.
    pub log: tracing::Level,
    /// Probe thread under `SCHED_FIFO`.
    pub realtime: bool,
    /// On every series.
    pub labels: BTreeMap<String, String>,
}

/// Where a target is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// Written as an address.
    Address(IpAddr),
    /// To be resolved while running.
    Name(String),
}

/// One target of a probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// As configured: the label.
    pub text: String,
    /// Where.
    pub host: Host,
    /// STAMP port.
    pub port: u16,
}

/// What is known about the clocks of both ends.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Clocks {
    /// What the kernels say.
    Kernel,
    /// They agree to this many nanoseconds, says the user.
    Agree {
        /// Bound of the error.
        error_ns: u64,
    },
}

/// One `[[probe]]`, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Label `probe`.
    pub name: String,
    /// At least one; no two alike.
    pub targets: Vec<Target>,
    /// How.
    pub how: How,
    /// Labels of its series: the agent's, overlaid with its own.
    pub labels: BTreeMap<String, String>,
}

impl Probe {
    /// Packets per second of all its targets; each source port is a session of its own.
    pub fn packets_per_second(&self) -> f64 {
        let sessions = self.targets.len() as f64 * f64::from(self.how.sessions());
        sessions * 1e9 / self.how.interval_ns as f64
    }
}

impl How {
    /// Sessions of one target: one a source port, ICMP has one.
    pub fn sessions(&self) -> u16 {
        if self.protocol == Choice::Icmp {
            1
        } else {
            self.source_ports
        }
    }
}

/// All that decides what a probe sends; two probes that agree in it measure alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct How {
    /// Which packets.
    pub protocol: Choice,
    /// Between two probes of one target.
    pub interval_ns: u64,
    /// How long an answer is waited for.
    pub wait_ns: u64,
    /// Source ports, each probed from at every interval.
    pub source_ports: u16,
    /// IP packet; `None`: the smallest.
    pub packet_bytes: Option<u16>,
    /// TOS or traffic class octet.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bind to this device.
    pub device: Option<String>,
    /// Random intervals.
    pub poisson: bool,
    /// Timestamps in PTP's format instead of NTP's.
    pub ptp: bool,
    /// What is known about the clocks.
    pub clocks: Clocks,
}

/// An address range, or a word that stands for some.
pub type Range = ipnet::IpNet;

/// `[reflector]`, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reflector {
    /// Where it answers; at least one.
    pub listen: Vec<SocketAddr>,
    /// Whom it answers.
    pub allow: Vec<Range>,
    /// Also answer short requests.
    pub twamp_light: bool,
    /// Smallest request answered.
    pub min_request: u16,
    /// Sessions at once.
    pub max_sessions: u32,
    /// A session is forgotten after this silence.
    pub idle_ns: u64,
    /// Per session; 0: none.
    pub packets_per_second: u32,
}

/// `[capture]`, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// Devices as written; `auto` is left out: none means that of the default route.
    pub interface: Vec<String>,
    /// How frames are captured.
    pub backend: BackendArg,
    /// The filter's words.
    pub filter: Vec<String>,
    /// Leave out what this host sends.
    pub ignore_outgoing: bool,
    /// Where an XDP program is attached.
    pub xdp_mode: XdpModeArg,
    /// What AF_XDP takes.
    pub xdp_take: XdpTakeArg,
    /// `CIDR=NAME`, checked.
    pub group_by: Vec<String>,
    /// `PORT=NAME`, checked.
    pub group_by_port: Vec<String>,
    /// Which header names a flow.
    pub layer: Layer,
    /// Whose definitions.
    pub classifier: Classifier,
    /// What happens to packets that were captured twice.
    pub duplicates: Duplicates,
    /// Flows in memory at once, of all workers.
    pub max_flows: u32,
    /// Octets of all rings together.
    pub ring_bytes: u32,
    /// Threads; `None`: by the number of CPUs.
    pub workers: Option<u32>,
    /// Workers are pinned.
    pub dedicated: bool,
}

impl Capture {
    /// How flows are grouped.
    pub fn groups(&self) -> Groups {
        // Checked when it was read.
        crate::passive::plan::groups(&self.group_by, &self.group_by_port).unwrap_or_default()
    }
}

/// `[export.prometheus]`, resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prometheus {
    /// `ec2-dense` or `decade`.
    pub buckets: Buckets,
    /// Families that get classic buckets beside native ones.
    pub classic: Vec<String>,
    /// Native histograms.
    pub native: bool,
}

/// A layout of classic buckets.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Buckets {
    /// Dense where EC2's paths are.
    Ec2Dense,
    /// Three a decade.
    Decade,
}

impl Prometheus {
    /// The upper bounds of the classic buckets.
    pub fn bounds(&self) -> record::series::ClassicBounds {
        use record::series::{ClassicBounds, classic};
        match self.buckets {
            Buckets::Ec2Dense => ClassicBounds::new(&classic::EC2_DENSE),
            Buckets::Decade => ClassicBounds::new(&classic::DECADE),
        }
    }
}

impl Config {
    /// Reads the file, `conf.d/*.toml` beside it in order of their names, and the
    /// overrides; then resolves.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut tree = Node::empty(&path.display().to_string());
        for path in files(path)? {
            tree.merge(Node::parse(&path.display().to_string(), &read(&path)?)?);
        }
        for assignment in overrides {
            tree.set(assignment)?;
        }
        Self::from_tree(&tree)
    }

    /// Reads one text that has been merged already.
    ///
    /// # Errors
    /// The first thing that is wrong.
    #[cfg(test)]
    pub fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        Self::from_tree(&Node::parse(source, text)?)
    }

    fn from_tree(tree: &Node) -> Result<Self, ConfigError> {
        let (text, mut warnings) = typed(tree)?;
        let mut config = resolve::resolve(&text).map_err(|mut error| {
            error.origin.get_or_insert_with(|| tree.locate(&error.key));
            error
        })?;
        warnings.append(&mut config.warnings);
        config.warnings = warnings;
        config.effective = toml::to_string(&text)
            .map_err(|error| ConfigError::at("", format!("cannot be written as TOML: {error}")))?;
        config.sha256 = Sha256::digest(config.effective.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(config)
    }
}

/// The tree as typed text, and a warning for each unknown key if only that was asked for.
fn typed(tree: &Node) -> Result<(Text, Vec<String>), ConfigError> {
    let policy = tree.get("on_unknown_key").map(|node| &node.value);
    let unknown = de::Unknown {
        warn: matches!(policy, Some(tree::Value::String(word)) if word == "warn"),
        warnings: RefCell::default(),
    };
    let text = Text::deserialize(de::At {
        node: tree,
        path: String::new(),
        unknown: &unknown,
    })?;
    Ok((text, unknown.warnings.into_inner()))
}

/// What decides about privileges, as the present configuration says it even if it is
/// otherwise wrong. A configuration that was saved has no say in it: it lies where the
/// service's user can write, and is read by root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// `agent.user`.
    pub user: Option<String>,
    /// `agent.state_directory`.
    pub state_directory: PathBuf,
    /// `agent.realtime`.
    pub realtime: bool,
}

impl Kept {
    /// From what can be read of the files and the overrides; else the defaults.
    pub fn of(path: &Path, overrides: &[String]) -> Self {
        let mut tree = Node::empty("");
        for path in files(path).unwrap_or_else(|_| vec![path.to_owned()]) {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if let Ok(part) = Node::parse("", &text) {
                tree.merge(part);
            }
        }
        for assignment in overrides {
            // What cannot be set is what is wrong with it.
            let _ = tree.set(assignment);
        }
        let value = |key: &str| Some(&tree.get("agent")?.get(key)?.value);
        let default = text::Agent::default();
        let text = |key: &str, default: String| match value(key) {
            Some(tree::Value::String(text)) => text.clone(),
            _ => default,
        };
        Self {
            user: rules::validate_user(&text("user", default.user.clone()))
                .unwrap_or(Some(default.user)),
            state_directory: text("state_directory", default.state_directory).into(),
            realtime: match value("realtime") {
                Some(tree::Value::Boolean(realtime)) => *realtime,
                _ => default.realtime,
            },
        }
    }

    /// As a part that overrides another.
    fn node(&self) -> Result<Node, ConfigError> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let user = quoted(self.user.as_deref().unwrap_or(""));
        let folder = quoted(&self.state_directory.to_string_lossy());
        let realtime = self.realtime;
        let text =
            format!("[agent]\nuser = {user}\nstate_directory = {folder}\nrealtime = {realtime}\n");
        Node::parse("", &text)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let way_out = match error.kind() {
            std::io::ErrorKind::NotFound => "; give an existing file to --config",
            std::io::ErrorKind::PermissionDenied => "; let the agent's user read it",
            std::io::ErrorKind::InvalidData => "; it must be UTF-8",
            _ => "",
        };
        ConfigError::of(
            &path.display().to_string(),
            format!("cannot be read: {error}{way_out}"),
        )
    })
}

/// The main file and then what lies in `conf.d` beside it, in the order of the names.
fn files(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = main
        .parent()
        .unwrap_or_else(|| Path::new(""))
        .join("conf.d");
    let broken = |error: std::io::Error| {
        ConfigError::of(
            &folder.display().to_string(),
            format!("cannot be listed: {error}"),
        )
    };
    let mut parts = Vec::new();
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(broken)?.path();
                if path.extension().is_some_and(|end| end == "toml") {
                    parts.push(path);
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(broken(error)),
    }
    parts.sort();
    parts.insert(0, main.to_owned());
    Ok(parts)
}

#[cfg(test)]
mod tests;
