//! The receivers: their command lines, when they are ready, and what they counted.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Host, Running};
use serde::Serialize;

/// Which processor a receiver has.
const PROCESSOR: &str = "1";
/// A limit, never a wait.
const PATIENCE: Duration = Duration::from_secs(120);
/// 128 MB of frames are written to nowhere sooner.
const SETTLES: Duration = Duration::from_secs(30);
/// Longer than any receiver sleeps over a frame: tcpdump has a block retired after 1 s.
const QUIET: Duration = Duration::from_millis(1_500);

/// One of them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// AF_PACKET, full analysis, rings of 64 MB.
    AfPacket,
    /// AF_XDP, full analysis.
    AfXdp,
    /// Writes to nowhere, 128 MB.
    Tcpdump,
    /// Writes to nowhere, 128 MB.
    Dumpcap,
    /// `rxonly` on net_af_xdp, copy mode.
    Testpmd,
}

/// What a receiver counted.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counted {
    /// Frames that it got.
    pub captured: u64,
    /// Frames that it says it lost.
    pub dropped: u64,
}

impl Receiver {
    /// Ours first.
    pub const ALL: [Self; 5] = [
        Self::AfPacket,
        Self::AfXdp,
        Self::Tcpdump,
        Self::Dumpcap,
        Self::Testpmd,
    ];

    /// In tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfPacket => "netsonde, AF_PACKET",
            Self::AfXdp => "netsonde, AF_XDP",
            Self::Tcpdump => "tcpdump",
            Self::Dumpcap => "dumpcap",
            Self::Testpmd => "DPDK testpmd, net_af_xdp",
        }
    }

    /// Whether it attaches an XDP program of its own.
    #[must_use]
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::AfXdp | Self::Testpmd)
    }

    /// The one place for command lines.
    #[must_use]
    pub fn words(self, device: &str, netsonde: &Path) -> Vec<String> {
        let netsonde = netsonde.to_string_lossy();
        let line = match self {
            Self::AfPacket => {
                format!("{netsonde} capture -i {device} --backend afpacket --json --duration 600")
            }
            Self::AfXdp => {
                format!("{netsonde} capture -i {device} --backend afxdp --json --duration 600")
            }
            Self::Tcpdump => format!("tcpdump -n -i {device} -B 131072 -s 96 -Z root -w /dev/null"),
            Self::Dumpcap => format!("dumpcap -q -i {device} -B 128 -s 96 -w /dev/null"),
            // Its main thread only waits; the other polls.
            Self::Testpmd => format!(
                "dpdk-testpmd -l 0-1 --no-huge -m 2048 --no-pci --no-telemetry --vdev net_af_xdp0,iface={device} \
                 -- --total-num-mbufs=65536 --rxd=2048 --forward-mode=rxonly --auto-start"
            ),
        };
        line.split_whitespace().map(str::to_owned).collect()
    }

    /// Starts it on a host; returns when it captures.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(self, host: &Host, device: &str, netsonde: &Path) -> Result<Running> {
        let words = self.words(device, netsonde);
        let mut arguments: Vec<&str> = Vec::new();
        if self != Self::Testpmd {
            arguments.extend(["-c", PROCESSOR]);
        } else {
            // It pins its threads itself.
            // It writes by the block into a pipe, and would not say that it is ready.
            arguments.extend(["-c", "0-1", "stdbuf", "-oL"]);
        }
        arguments.extend(words.iter().map(String::as_str));
        let mut running = host.spawn("taskset", &arguments)?;
        match self {
            Self::Tcpdump => drop(running.wait_error_line("listening on", PATIENCE)?),
            Self::Dumpcap => drop(running.wait_error_line("File: ", PATIENCE)?),
            Self::Testpmd => drop(running.wait_line("Press enter to exit", PATIENCE)?),
            // Its first line names the backend.
            Self::AfPacket | Self::AfXdp => drop(running.wait_error_line(device, PATIENCE)?),
        }
        Ok(running)
    }

    /// Waits until it has read what is in its rings: until it uses the processor no more. Who
    /// polls always does, and is never behind for long.
    ///
    /// # Errors
    /// When it is gone.
    pub fn settle(self, running: &Running) -> Result<()> {
        let path = format!("/proc/{}/stat", running.pid());
        let limit = Instant::now() + SETTLES;
        let mut before = String::new();
        loop {
            let stat = std::fs::read_to_string(&path).with_context(|| self.name())?;
            // Fields 14 and 15 of proc(5), 12 and 13 behind the name.
            let (_, fields) = stat.rsplit_once(") ").context("no name")?;
            let used: Vec<&str> = fields.split(' ').skip(11).take(2).collect();
            let used = used.join(" ");
            if used == before || (self.is_polling() && !before.is_empty()) {
                return Ok(());
            }
            ensure!(Instant::now() < limit, "{} does not settle", self.name());
            before = used;
            std::thread::sleep(QUIET);
        }
    }

    const fn is_polling(self) -> bool {
        matches!(self, Self::Testpmd)
    }

    /// Ends it and reads what it counted.
    ///
    /// # Errors
    /// When it fails or does not say.
    pub fn stop(self, mut running: Running) -> Result<Counted> {
        let finished = if self == Self::Testpmd {
            running.write("\n")?;
            running.finish(PATIENCE)?
        } else {
            running.stop("INT", PATIENCE)?
        };
        let said = format!("{}\n{}", finished.stdout, finished.stderr);
        ensure!(finished.code() == 0, "{}: {said}", self.name());
        self.parse(&finished.stdout, &finished.stderr)
            .with_context(|| format!("{}: {said}", self.name()))
    }

    fn parse(self, stdout: &str, stderr: &str) -> Option<Counted> {
        match self {
            Self::Tcpdump => Some(Counted {
                captured: before(stderr, " packets captured")?,
                dropped: before(stderr, " packets dropped by kernel")?,
            }),
            // Packets received/dropped on interface 'eth0': 10/0 (pcap:0/...
            Self::Dumpcap => {
                let (_, rest) = stderr.split_once("received/dropped on interface")?;
                let (_, rest) = rest.split_once(": ")?;
                let (captured, rest) = rest.split_once('/')?;
                let digits = rest.find(|c: char| !c.is_ascii_digit())?;
                Some(Counted {
                    captured: captured.trim().parse().ok()?,
                    dropped: rest[..digits].parse().ok()?,
                })
            }
            Self::Testpmd => {
                let (_, all) = stdout.rsplit_once("Accumulated forward statistics")?;
                Some(Counted {
                    captured: after(all, "RX-packets:")?,
                    dropped: after(all, "RX-dropped:")?,
                })
            }
            Self::AfPacket | Self::AfXdp => {
                let report: serde_json::Value = serde_json::from_str(stdout).ok()?;
                let drops = report["capture_drops"].as_object()?;
                Some(Counted {
                    captured: report["frames"].as_u64()?,
                    dropped: drops.values().filter_map(serde_json::Value::as_u64).sum(),
                })
            }
        }
    }
}

/// The number in front of these words.
fn before(text: &str, words: &str) -> Option<u64> {
    let (head, _) = text.split_once(words)?;
    head.rsplit(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// The number behind these words.
fn after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Where the programs of ours are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    /// The release build; without it only peers run.
    pub netsonde: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_what_it_got() {
        let tcpdump = "tcpdump: listening on eth0\n3000000 packets captured\n\
                       3000001 packets received by filter\n17 packets dropped by kernel\n";
        let counted = |captured, dropped| Some(Counted { captured, dropped });
        assert_eq!(Receiver::Tcpdump.parse("", tcpdump), counted(3_000_000, 17));
        let dumpcap = "Packets captured: 12\nPackets received/dropped on interface 'eth0': \
                       12/3 (pcap:3/dumpcap:0/flushed:0/ps_ifdrop:0) (80.0%)\n";
        assert_eq!(Receiver::Dumpcap.parse("", dumpcap), counted(12, 3));
        let testpmd = "  ++ Accumulated forward statistics for all ports++\n  \
                       RX-packets: 20000000       RX-dropped: 5             RX-total: 20000005\n";
        assert_eq!(Receiver::Testpmd.parse(testpmd, ""), counted(20_000_000, 5));
        let ours = r#"{"frames":7,"capture_drops":{"ring_full":2,"filtered":0}}"#;
        assert_eq!(Receiver::AfPacket.parse(ours, ""), counted(7, 2));
    }
}
