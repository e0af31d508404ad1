//! The prober as its callers see it: targets in, results out.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::JoinHandle;

use base::{Output, ProbeResult, Protocol, TargetKey};
use measure::session::{Codec, IcmpCodec, StampCodec};
use record::results;
use sys::poll::Waker;
use sys::socket::SocketKind;

use crate::OpenSocket;
use crate::engine::{Engine, NewPath, NewTarget};
pub use crate::link::AddError;
use crate::link::Link;
pub use crate::target::{Choice, DontFragment, TargetSpec};
pub use measure::session::ClockTrust;

/// Results that may wait for their reader; what does not fit is counted.
const RESULTS: usize = 1 << 16;
/// Single probes that may wait for their reader.
const RECORDS: usize = 1 << 15;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;

/// One result of one target.
#[derive(Copy, Clone, PartialEq, Debug)]
pub struct Message {
    /// Whose.
    pub target: TargetKey,
    /// What.
    pub output: Output,
}

/// What the prober is started with.
pub struct Options {
    /// `SCHED_FIFO`, and the last microseconds before each send spun.
    pub realtime: bool,
    /// Of all targets together; 0 for no limit.
    pub packets_per_second: u32,
    /// Who opens sockets.
    pub sockets: OpenSocket,
    /// Whether single probes are wanted too.
    pub records: bool,
}

/// A request to the thread.
pub(crate) enum Command {
    Add(Box<NewTarget>),
    Remove(TargetKey),
    Finish,
}

/// The running `probe` thread.
pub struct Prober {
    /// Results; `record::results` counts what did not fit.
    pub results: results::Receiver<Message>,
    /// Single probes, if they were asked for.
    pub records: Option<results::Receiver<(TargetKey, ProbeResult)>>,
    commands: mpsc::Sender<Command>,
    waker: Waker,
    thread: JoinHandle<()>,
    sockets: OpenSocket,
    seeds: measure::random::Random,
}

/// Starts the thread, without any target.
///
/// # Errors
/// When the kernel has no descriptors or threads left, or refuses `SCHED_FIFO`
/// (`PermissionDenied`: `CAP_SYS_NICE` or `RLIMIT_RTPRIO` is needed).
pub fn spawn(options: Options) -> io::Result<Prober> {
    let (results_in, results) = results::channel(RESULTS);
    let (records_in, records) = if options.records {
        let (sender, receiver) = results::channel(RECORDS);
        (Some(sender), Some(receiver))
    } else {
        (None, None)
    };
    let (commands, inbox) = mpsc::channel();
    let waker = Waker::new()?;
    let (ready, is_ready) = mpsc::channel();
    let engine_waker = waker.clone();
    let (realtime, limit) = (options.realtime, options.packets_per_second);
    let thread = std::thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            let engine = Engine::new(inbox, engine_waker, results_in, records_in, realtime, limit);
            match engine {
                Ok(mut engine) => {
                    let _ = ready.send(Ok(()));
                    engine.run();
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })?;
    is_ready
        .recv()
        .map_err(|_| io::Error::other("the probe thread did not start"))??;
    let seed = sys::clock::wall_now().0 ^ u64::from(std::process::id()) << 40;
    Ok(Prober {
        results,
        records,
        commands,
        waker,
        thread,
        sockets: options.sockets,
        seeds: measure::random::Random::new(seed),
    })
}

impl Prober {
    /// Opens the target's sockets and begins to probe it.
    ///
    /// # Errors
    /// When a socket cannot be opened or there is no route; nothing is left behind.
    pub fn add(&mut self, spec: TargetSpec) -> Result<(), AddError> {
        let mut paths = Vec::new();
        let mut fallback = None;
        if spec.protocol == Choice::Icmp {
            paths.push(self.icmp_path(&spec)?);
        } else {
            for _ in 0..spec.source_ports.max(1) {
                paths.push(self.stamp_path(&spec)?);
            }
            if spec.protocol == Choice::Auto {
                // Without ICMP sockets, STAMP may still answer.
                let interval_ns = spec.fallback_interval_ns.unwrap_or(spec.interval_ns);
                let icmp = TargetSpec {
                    interval_ns,
                    ..spec.clone()
                };
                fallback = Some(self.icmp_path(&icmp));
            }
        }
        let target = NewTarget {
            spec,
            paths,
            fallback,
        };
        // The thread is gone only if it panicked, which `join` tells.
        let _ = self.commands.send(Command::Add(Box::new(target)));
        self.waker.wake();
        Ok(())
    }

    fn stamp_path(&mut self, spec: &TargetSpec) -> Result<NewPath, AddError> {
        let link = Link::open(spec, SocketKind::Udp, &mut self.sockets)?;
        let bits = self.seeds.bits();
        let codec = StampCodec {
            // RFC 8972 section 3: "a 16-bit non-zero unsigned integer".
            ssid: u16::try_from(bits & 0xffff).unwrap_or(1).max(1),
            format: spec.format,
            payload: spec.payload(ip_header(spec.address) + UDP_HEADER),
            private_tlv: spec.private_tlv,
            equal_sizes: false,
        };
        Ok(NewPath {
            session: spec.session(link.stamped, link.local.port(), bits >> 16),
            codec: Codec::Stamp(codec),
            protocol: Protocol::Stamp,
            link,
        })
    }

    fn icmp_path(&mut self, spec: &TargetSpec) -> Result<NewPath, AddError> {
        let link = Link::open(spec, SocketKind::IcmpRaw, &mut self.sockets).or_else(|raw| {
            // A ping socket needs no privilege, only a group (net.ipv4.ping_group_range).
            Link::open(spec, SocketKind::IcmpPing, &mut self.sockets).map_err(|_| raw)
        })?;
        let bits = self.seeds.bits();
        let codec = IcmpCodec {
            v6: spec.address.is_ipv6(),
            ident: u16::try_from(bits & 0xffff).unwrap_or(1),
            nonce: u32::try_from(bits >> 32).unwrap_or(1),
            payload: spec.payload(ip_header(spec.address) + ICMP_HEADER),
        };
        Ok(NewPath {
            session: spec.session(link.stamped, 0, bits),
            codec: Codec::Icmp(codec),
            protocol: Protocol::Icmp,
            link,
        })
    }

    /// Probes it no longer; what is in flight is forgotten.
    pub fn remove(&mut self, key: TargetKey) {
        let _ = self.commands.send(Command::Remove(key));
        self.waker.wake();
    }

    /// Sends no further counted probe. The thread ends when all are decided and the
    /// closing probes are done.
    pub fn finish(&mut self) {
        let _ = self.commands.send(Command::Finish);
        self.waker.wake();
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn join(self) -> std::thread::Result<()> {
        drop(self.commands);
        self.waker.wake();
        self.thread.join()
    }
}

const fn ip_header(address: SocketAddr) -> usize {
    if address.is_ipv6() { 40 } else { 20 }
}
