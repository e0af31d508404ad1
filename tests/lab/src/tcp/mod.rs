//! Real TCP between two hosts, impaired by a relay and captured on its way: material for
//! passive measurement, with the relay's log as the truth.
//!
//! A [`Scenario`] says what the kernels do, what the relay does and what is sent; running it
//! gives captures by tcpdump (nanoseconds, TCP only but for one last marker) and the log.
//! What two runs share is the relay's decisions, not the frames: kernels have timers.

pub mod scenarios;
pub mod tap;
pub mod traffic;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host::{DEVICE, Host, Lab};
use crate::relay::{Matching, RelayConfig, RelayLog};
use crate::topology::{Chained, Direct, LinkOptions, Relayed};
use tap::Tap;
pub use traffic::Traffic;

/// Where the server listens.
pub const PORT: u16 = 5_001;

/// Where a capture is taken.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// On the client's host, which sends most of the data.
    Client,
    /// On the router between two relays.
    Middle,
    /// On the server's host.
    Server,
}

impl Place {
    /// In file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Middle => "middle",
            Self::Server => "server",
        }
    }
}

/// What the two kernels do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Stack {
    /// Congestion control: the default differs between machines, so it is named.
    pub congestion: &'static str,
    /// TCP timestamps (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// Receive buffer of the server in bytes, if not the kernel's choice.
    pub receive_buffer: Option<usize>,
}

impl Default for Stack {
    fn default() -> Self {
        Self {
            congestion: "cubic",
            timestamps: true,
            sack: true,
            receive_buffer: None,
        }
    }
}

/// One run.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Names its files.
    pub name: String,
    /// What the kernels do.
    pub stack: Stack,
    /// What the relay does to TCP; `None`: a plain link with the kernel's default offloads,
    /// so that captures hold frames larger than the wire's.
    pub relay: Option<RelayConfig>,
    /// What a second relay does, between a router and the server; the first is then between
    /// the client and the router.
    pub second: Option<RelayConfig>,
    /// MTU of all links.
    pub mtu: u16,
    /// What is sent.
    pub traffic: Traffic,
    /// Where it is captured.
    pub places: Vec<Place>,
    /// Octets kept of each frame; 0: all.
    pub snaplen: u32,
}

/// What a run left.
#[derive(Debug)]
pub struct Captured {
    /// One capture per place, in the order of the scenario.
    pub files: Vec<(Place, PathBuf)>,
    /// What the relay did; empty without one.
    pub log: RelayLog,
    /// What the second relay did; empty without one.
    pub second: RelayLog,
}

impl Captured {
    /// The capture taken there.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, place: Place) -> Result<&Path> {
        let found = self.files.iter().find(|(known, _)| *known == place);
        found
            .map(|(_, path)| path.as_path())
            .with_context(|| format!("no capture at {place:?}"))
    }
}

impl Scenario {
    /// Runs it and leaves `NAME-PLACE.pcap` in `folder`.
    ///
    /// # Errors
    /// When something cannot be made, traffic does not end in time, or a capture or the relay
    /// lost frames that it should not have.
    pub fn run(&self, lab: &Lab, folder: &Path) -> Result<Captured> {
        self.run_inner(lab, folder)
            .with_context(|| format!("scenario {}", self.name))
    }

    fn run_inner(&self, lab: &Lab, folder: &Path) -> Result<Captured> {
        std::fs::create_dir_all(folder)?;
        let options = LinkOptions {
            mtu: self.mtu,
            ..LinkOptions::default()
        };
        let config = |config: &RelayConfig| RelayConfig {
            matching: Matching::Tcp,
            ..config.clone()
        };
        let captured = match (&self.relay, &self.second) {
            (Some(first), Some(second)) => {
                let net = Chained::new(lab, self.mtu, [&config(first), &config(second)])?;
                let files = self.traffic_between(&net.a, &net.b, Some(&net.router), folder)?;
                let [log, second] = net.stop()?;
                Captured { files, log, second }
            }
            (Some(relay), None) => {
                let mut net = Relayed::new(lab, options, &config(relay))?;
                let files = self.traffic_between(&net.a, &net.b, None, folder)?;
                let log = net.stop()?;
                let second = RelayLog::default();
                Captured { files, log, second }
            }
            (None, _) => {
                let net = Direct::new(lab, options)?;
                let files = self.traffic_between(&net.a, &net.b, None, folder)?;
                let (log, second) = (RelayLog::default(), RelayLog::default());
                Captured { files, log, second }
            }
        };
        for totals in captured.log.totals.iter().chain(&captured.second.totals) {
            ensure!(totals.own_failures() == 0, "a relay failed: {totals:?}");
        }
        Ok(captured)
    }

    fn traffic_between(
        &self,
        client: &Host,
        server: &Host,
        middle: Option<&Host>,
        folder: &Path,
    ) -> Result<Vec<(Place, PathBuf)>> {
        for host in [client, server] {
            self.prepare(host)?;
        }
        let mut taps = Vec::new();
        for place in &self.places {
            let (host, device) = match place {
                Place::Client => (client, DEVICE),
                Place::Server => (server, DEVICE),
                Place::Middle => (middle.context("there is no router")?, "eth0"),
            };
            let path = folder.join(format!("{}-{}.pcap", self.name, place.name()));
            taps.push(Tap::start(host, device, self.snaplen, path)?);
        }
        let to = SocketAddr::from((server.ipv4(), PORT));
        self.traffic.run(client, server, to, self.stack)?;
        let paths = Tap::stop_all(client, server, taps)?;
        Ok(self.places.iter().copied().zip(paths).collect())
    }

    fn prepare(&self, host: &Host) -> Result<()> {
        let word = |on: bool| if on { "1" } else { "0" };
        host.sysctl("net/ipv4/tcp_timestamps", word(self.stack.timestamps))?;
        host.sysctl("net/ipv4/tcp_sack", word(self.stack.sack))?;
        // Nothing is learnt from one connection for the next.
        host.sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        // Thousands of short connections need more than the usual ports.
        host.sysctl("net/ipv4/ip_local_port_range", "10000 65000")
    }
}
