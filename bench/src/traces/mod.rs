//! Captures for the benches, made once by the bench itself and kept below `target`.
//!
//! * `bulk`: four real TCP flows (cubic, timestamps, SACK, offloads off) that lose 0.5 % of
//!   their data in the lab's relay, captured by tcpdump on the sending host;
//! * `short`: thousands of short real connections;
//! * `million`: a million concurrent flows, synthesised: SYN, SYN-ACK, data, ACK, packet `k`
//!   of every flow before packet `k + 1` of any, in another order each time.
//!
//! The real ones are repeated to a useful size: each copy follows the one before in time, and
//! its client has another address (10.0.COPY.1, checksums adjusted), so its flows are new
//! ones; sequence numbers, gaps and round trips stay as captured. Never: a frame that does
//! not parse, a clock that goes backwards at a seam.

pub mod million;
pub mod pcap;
pub mod repeat;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::Lab;
use lab::relay::{Impairment, RelayConfig};
use lab::tcp::{Place, Scenario, Stack, Traffic};
use serde::{Deserialize, Serialize};

/// Changes when the traces do; those of other versions are made again.
const VERSION: u32 = 1;
const SEED: u64 = 9_862;

/// One of them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// Few bulk flows with loss.
    Bulk,
    /// Thousands of short flows.
    Short,
    /// A million concurrent flows.
    Million,
}

/// What is in a trace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// Of the generator.
    pub version: u32,
    /// All are TCP.
    pub frames: u64,
    /// Octets on the wire.
    pub wire_bytes: u64,
    /// Octets of the file.
    pub file_bytes: u64,
    /// Frames that were really captured; the rest are copies, or synthesised.
    pub captured: u64,
}

impl Trace {
    /// All.
    pub const ALL: [Self; 3] = [Self::Bulk, Self::Short, Self::Million];

    /// In file names and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Short => "short",
            Self::Million => "million",
        }
    }

    /// For people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Bulk => "few bulk TCP flows, 0.5 % loss",
            Self::Short => "short TCP flows",
            Self::Million => "1 M concurrent flows",
        }
    }

    /// Its file.
    #[must_use]
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.pcap", self.name()))
    }

    /// What is in it, if it is there and of this version.
    #[must_use]
    pub fn known(self, folder: &Path) -> Option<Made> {
        let text = std::fs::read_to_string(self.notes(folder)).ok()?;
        let made: Made = serde_json::from_str(&text).ok()?;
        let length = std::fs::metadata(self.path(folder)).ok()?.len();
        (made.version == VERSION && made.file_bytes == length).then_some(made)
    }

    fn notes(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.name()))
    }

    /// Makes it if it is not there. Needs root for the real ones.
    ///
    /// # Errors
    /// When the lab or the disk fails.
    pub fn ensure(self, folder: &Path) -> Result<Made> {
        if let Some(made) = self.known(folder) {
            return Ok(made);
        }
        std::fs::create_dir_all(folder)?;
        let part = folder.join(format!("{}.part", self.name()));
        let (written, captured) = match self {
            Self::Million => (million::write(&part, &million::Plan::default(), SEED)?, 0),
            Self::Bulk => real(&bulk(), 10_000_000, &part)?,
            Self::Short => real(&short(), 4_000_000, &part)?,
        };
        let made = Made {
            version: VERSION,
            frames: written.frames,
            wire_bytes: written.wire_bytes,
            file_bytes: std::fs::metadata(&part)?.len(),
            captured,
        };
        // The notes last: without them the file does not count.
        std::fs::rename(&part, self.path(folder))?;
        std::fs::write(self.notes(folder), serde_json::to_string_pretty(&made)?)?;
        Ok(made)
    }
}

fn real(scenario: &Scenario, frames: u64, to: &Path) -> Result<(pcap::Written, u64)> {
    let folder = to.parent().context("a folder")?.join("captured");
    let lab = Lab::new()?;
    let captured = scenario.run(&lab, &folder)?;
    let result = repeat::write(captured.at(Place::Client)?, frames, to);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn scenario(name: &str, forward: Impairment, traffic: Traffic) -> Scenario {
    Scenario {
        name: name.to_owned(),
        stack: Stack {
            congestion: "cubic",
            ..Stack::default()
        },
        relay: Some(RelayConfig {
            forward,
            ..RelayConfig::new(SEED)
        }),
        second: None,
        mtu: 1_500,
        traffic,
        places: vec![Place::Client],
        // Ethernet, IP, and TCP with its longest options.
        snaplen: 96,
    }
}

fn bulk() -> Scenario {
    let traffic = Traffic::Bulk {
        flows: 4,
        bytes: 150_000_000,
        reverse_bytes: 0,
    };
    scenario("bulk", Impairment::default().with_loss(0.005), traffic)
}

fn short() -> Scenario {
    let traffic = Traffic::Short {
        connections: 20_000,
        at_once: 64,
        request: 300,
        response: 2_000,
    };
    scenario("short", Impairment::default(), traffic)
}
