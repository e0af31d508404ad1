//! The `probe` thread as the supervisor sees it: targets in, results out. The one file of
//! the agent that knows the shape of the prober.

use std::net::SocketAddr;

use base::{ProbeResult, TargetKey};
use probe::prober;
use record::results::Receiver;

use crate::config::{Clocks, How};
use crate::opener::Opener;
use crate::targets::Wanted;

/// One result of one target.
pub type Message = prober::Message;

/// The ring that the publisher reads.
pub type Results = Receiver<Message>;

/// Results of single probes, for `--records`.
pub type Records = Receiver<(TargetKey, ProbeResult)>;

/// See the module.
pub struct Probes {
    prober: prober::Prober,
}

/// What the prober is started with.
pub struct Options {
    /// Under `SCHED_FIFO`.
    pub realtime: bool,
    /// Of all targets together.
    pub packets_per_second: Option<u32>,
    /// Whether single results are wanted.
    pub records: bool,
    /// Who opens sockets.
    pub opener: Opener,
}

impl Probes {
    /// Starts the thread; it has no target yet.
    ///
    /// # Errors
    /// When there can be no thread, or it cannot do what it needs for all targets.
    pub fn start(options: Options) -> std::io::Result<(Self, Results, Option<Records>)> {
        let opener = options.opener;
        let mut prober = prober::spawn(prober::Options {
            realtime: options.realtime,
            packets_per_second: options.packets_per_second.unwrap_or(0),
            sockets: Box::new(move |spec| opener.socket(spec)),
            records: options.records,
        })?;
        let results = std::mem::replace(&mut prober.results, record::results::channel(1).1);
        let records = prober.records.take();
        Ok((Self { prober }, results, records))
    }

    /// Probes a target from now on.
    ///
    /// # Errors
    /// Why it cannot be: its socket does not open, or there is no route.
    pub fn add(
        &mut self,
        key: TargetKey,
        address: SocketAddr,
        wanted: &Wanted,
    ) -> Result<(), String> {
        let spec = spec(key, address, &wanted.how);
        self.prober.add(spec).map_err(|error| {
            let denied = error.source.kind() == std::io::ErrorKind::PermissionDenied;
            let way_out = if denied && wanted.how.protocol.may_use_icmp() {
                "; restart with CAP_NET_RAW, or widen net.ipv4.ping_group_range"
            } else {
                ""
            };
            format!("{error}{way_out}")
        })
    }

    /// No longer; probes in flight are forgotten.
    pub fn remove(&mut self, key: TargetKey) {
        self.prober.remove(key);
    }

    /// Sends no further counted probe; the thread ends once all are decided.
    pub fn finish(&mut self) {
        self.prober.finish();
    }

    /// Waits for the thread to end; false if it died.
    pub fn join(self) -> bool {
        self.prober.join().is_ok()
    }
}

/// Bytes that the prober keeps for a target.
pub fn memory_bytes(how: &How) -> usize {
    let anywhere = SocketAddr::from(([0; 4], 0));
    spec(TargetKey(0), anywhere, how).memory_bytes()
}

fn spec(key: TargetKey, address: SocketAddr, how: &How) -> prober::TargetSpec {
    let mut spec = prober::TargetSpec::new(key, address);
    // A service measures from the first second; what answers is found out beside.
    spec.opening_first = false;
    spec.protocol = how.protocol;
    spec.interval_ns = how.interval_ns;
    spec.wait_ns = how.wait_ns;
    spec.packet_bytes = how.packet_bytes;
    spec.tos = how.tos;
    spec.ttl = how.ttl;
    spec.device.clone_from(&how.device);
    spec.source_ports = how.source_ports;
    spec.poisson = how.poisson;
    spec.format = if how.ptp {
        wire::stamp::TimestampFormat::Ptp
    } else {
        wire::stamp::TimestampFormat::Ntp
    };
    spec.clock = match how.clocks {
        Clocks::Kernel => prober::ClockTrust::Kernel,
        Clocks::Agree { error_ns } => prober::ClockTrust::Assume { error_ns },
    };
    spec
}

/// A result, for tests of who reads them.
#[cfg(test)]
pub fn message(target: TargetKey, output: base::Output) -> Message {
    Message { target, output }
}
