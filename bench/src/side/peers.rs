//! The tools that are compared: how each is started, and where its samples are.
//!
//! Packets are [`PACKET_BYTES`] of IP for all: 100 octets of UDP payload or of ICMP data.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{Host, Running};
use serde::{Serialize, Serializer};

use super::samples::{self, Samples};

/// Octets of the IP packets.
pub const PACKET_BYTES: u32 = 128;
/// The same without the headers of IPv4 and UDP or ICMP.
const PAYLOAD_BYTES: u32 = PACKET_BYTES - 28;
/// What tools take beyond count times interval.
const SLACK: Duration = Duration::from_secs(30);

/// A tool in one way of use.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tool {
    /// `netsonde ping` at `netsonde reflect`.
    Stamp,
    /// The same with `--realtime`.
    StampRealtime,
    /// `netsonde ping --protocol icmp`.
    Icmp,
    /// iputils.
    Ping,
    /// irtt.
    Irtt,
    /// sockperf, a next message only after the answer.
    SockperfPingPong,
    /// sockperf, sends apart from receives.
    SockperfUnderLoad,
}

impl Tool {
    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stamp => "netsonde, STAMP",
            Self::StampRealtime => "netsonde, STAMP, --realtime",
            Self::Icmp => "netsonde, ICMP",
            Self::Ping => "iputils ping",
            Self::Irtt => "irtt",
            Self::SockperfPingPong => "sockperf ping-pong",
            Self::SockperfUnderLoad => "sockperf under-load",
        }
    }

    /// Ours that does the same over the same protocol, which ratios refer to.
    #[must_use]
    pub const fn counterpart(self) -> Option<Self> {
        match self {
            Self::Stamp | Self::StampRealtime | Self::Icmp => None,
            Self::Ping => Some(Self::Icmp),
            Self::Irtt | Self::SockperfPingPong | Self::SockperfUnderLoad => Some(Self::Stamp),
        }
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What a run asks of a tool.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Load {
    /// Probes.
    pub count: u64,
    /// Between them.
    pub interval_ns: u64,
}

impl Load {
    fn seconds(self) -> f64 {
        self.count as f64 * self.interval_ns as f64 / 1e9
    }
}

/// The programs that are ours or may lie elsewhere.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `netsonde`.
    pub netsonde: PathBuf,
}

/// The far ends of all tools, waiting; they go when this is dropped.
pub struct Servers(#[expect(dead_code, reason = "kept for their Drop")] Vec<Running>);

impl Servers {
    /// Starts all on `host`.
    ///
    /// # Errors
    /// When one does not get ready.
    pub fn start(host: &Host, programs: &Programs) -> Result<Self> {
        let ready = Duration::from_secs(10);
        let at = host.ipv4().to_string();
        let listen = format!("{at}:862");
        let mut reflector = host.spawn(&programs.netsonde, &["reflect", "--listen", &listen])?;
        reflector.wait_line("reflecting", ready)?;
        // No lower bound of intervals: by default it forces 10 ms on its clients.
        let mut irtt = host.spawn("irtt", &["server", "-b", &at, "-i", "0"])?;
        irtt.wait_line("starting IPv4 listener", ready)?;
        let sockperf = host.spawn("sockperf", &["server", "-i", &at])?;
        Ok(Self(vec![reflector, irtt, sockperf]))
    }
}

/// A tool's command line and where its samples will be.
struct Invocation {
    words: Vec<String>,
    /// Its own file; standard output if it writes none.
    file: Option<PathBuf>,
}

fn invocation(
    tool: Tool,
    load: Load,
    to: Ipv4Addr,
    folder: &Path,
    programs: &Programs,
) -> Invocation {
    let netsonde = programs.netsonde.to_string_lossy().into_owned();
    let file = folder.join(match tool {
        Tool::Irtt => "samples.json",
        _ => "samples",
    });
    let path = file.to_string_lossy().into_owned();
    let (count, us) = (load.count, load.interval_ns / 1_000);
    let rate = 1_000_000_000 / load.interval_ns.max(1);
    // sockperf leaves out about half a second of what it did.
    let longer = load.seconds().ceil() as u64 + 1;
    let line = match tool {
        Tool::Stamp | Tool::StampRealtime | Tool::Icmp => {
            let protocol = if tool == Tool::Icmp { "icmp" } else { "stamp" };
            let realtime = if tool == Tool::StampRealtime {
                " --realtime"
            } else {
                ""
            };
            format!(
                "{netsonde} ping {to} --protocol {protocol} -c {count} -i {us}us -s {PACKET_BYTES} --json --records {path}{realtime}"
            )
        }
        Tool::Ping => format!(
            "ping -D -n -c {count} -i {} -s {PAYLOAD_BYTES} {to}",
            load.interval_ns as f64 / 1e9
        ),
        Tool::Irtt => format!(
            "irtt client -q -i {us}us -d {}us -l {PAYLOAD_BYTES} -o {path} {to}",
            us * count
        ),
        Tool::SockperfPingPong => format!(
            "sockperf ping-pong -i {to} -t {longer} --mps={rate} -m {PAYLOAD_BYTES} --full-rtt --full-log {path}"
        ),
        Tool::SockperfUnderLoad => format!(
            "sockperf under-load -i {to} -t {longer} --mps={rate} --reply-every=1 -m {PAYLOAD_BYTES} --full-rtt --full-log {path}"
        ),
    };
    Invocation {
        words: line.split(' ').map(str::to_owned).collect(),
        file: (tool != Tool::Ping).then_some(file),
    }
}

/// The command line as a report shows it, without folders of this machine.
#[must_use]
pub fn shown(tool: Tool, load: Load, to: Ipv4Addr) -> String {
    let programs = Programs {
        netsonde: PathBuf::from("netsonde"),
    };
    invocation(tool, load, to, Path::new(""), &programs)
        .words
        .join(" ")
}

/// Kills a tool that is still there when something failed.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a tool to its end on `from` and reads its samples. Its output goes to files, so that
/// nothing of ours reads along.
///
/// # Errors
/// When it fails, hangs, or writes what it should not.
pub fn run(
    tool: Tool,
    load: Load,
    from: &Host,
    to: Ipv4Addr,
    programs: &Programs,
) -> Result<Samples> {
    let stdout = from.file("stdout")?;
    let stderr = from.file("stderr")?;
    let folder = stdout.parent().context("a folder")?.to_owned();
    let Invocation { words, file } = invocation(tool, load, to, &folder, programs);
    let (program, arguments) = words.split_first().context("a command")?;
    let mut command: Command = from.command(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?);
    let started = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let mut child = Guard(child);
    let rest = Duration::from_secs_f64(load.seconds());
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if started.elapsed() > rest + SLACK {
            bail!("{} did not end", words.join(" "));
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    ensure!(
        status.success(),
        "{}: {status}: {}{}",
        words.join(" "),
        said(&stderr),
        said(&stdout)
    );
    let path = file.as_ref().unwrap_or(&stdout);
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let samples = match tool {
        Tool::Stamp | Tool::StampRealtime | Tool::Icmp => samples::netsonde(&text, load.count),
        Tool::Ping => samples::ping(&text, load.count),
        Tool::Irtt => samples::irtt(&text, load.count, load.interval_ns),
        Tool::SockperfPingPong | Tool::SockperfUnderLoad => {
            samples::sockperf(&text, load.count, load.interval_ns)
        }
    };
    if let Some(file) = &file {
        let _ = std::fs::remove_file(file);
    }
    samples.with_context(|| tool.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_get_the_same_count_interval_and_size() {
        let load = Load {
            count: 10_000,
            interval_ns: 1_000_000,
        };
        let to = Ipv4Addr::new(10, 0, 0, 2);
        let line = |tool| shown(tool, load, to);
        assert_eq!(
            line(Tool::StampRealtime),
            "netsonde ping 10.0.0.2 --protocol stamp -c 10000 -i 1000us -s 128 --json --records samples --realtime"
        );
        assert_eq!(
            line(Tool::Ping),
            "ping -D -n -c 10000 -i 0.001 -s 100 10.0.0.2"
        );
        assert_eq!(
            line(Tool::Irtt),
            "irtt client -q -i 1000us -d 10000000us -l 100 -o samples.json 10.0.0.2"
        );
        assert_eq!(
            line(Tool::SockperfUnderLoad),
            "sockperf under-load -i 10.0.0.2 -t 11 --mps=1000 --reply-every=1 -m 100 --full-rtt --full-log samples"
        );
    }
}
