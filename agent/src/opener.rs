//! The opener: a child process that keeps the few capabilities which this configuration can
//! need again, and opens sockets on a closed list of requests.
//!
//! Forked before the agent has any thread. It reads nothing but these requests, from the
//! agent alone, and sends nothing but descriptors, error numbers and notes for the log back. What the
//! configuration at start does not name is refused. It dies with the agent.

mod pending;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sys::privilege::{CapSet, Capability};
use sys::process::Pid;
use sys::socket::{ProbeSocket, SocketKind, SocketSpec};

use crate::config::{Capture, Config};
use crate::worker::capture as capturing;
use pending::{NOTHING, Pending};

/// Room for bursts of replies and TX stamps, which share it (kernel-and-lab E1).
pub const RECEIVE_BUFFER: usize = 8 << 20;
/// From this rate on the default receive buffer may not do, per second.
const FAST: f64 = 1_000.0;
/// Longest request and longest answer.
const MESSAGE: usize = 1024;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A UDP socket for probes.
    Udp {
        /// IPv6 rather than IPv4.
        ipv6: bool,
        /// Bound to it.
        device: Option<String>,
    },
    /// A raw socket for ICMP echo.
    Icmp {
        /// IPv6 rather than IPv4.
        ipv6: bool,
        /// Bound to it.
        device: Option<String>,
    },
    /// A UDP socket bound to the n-th configured address of the reflector.
    Reflect {
        /// Position in `[reflector] listen`.
        index: u16,
    },
    /// The sockets and programs of a capture group on a device: the first of them, the rest by
    /// [`Request::CaptureNext`].
    Capture {
        /// Which.
        device: String,
    },
    /// The next of what the last [`Request::Capture`] opened.
    CaptureNext,
}

impl Request {
    /// The request for a socket, if such a one can be asked for.
    fn of(spec: &SocketSpec) -> Option<Self> {
        let (ipv6, device) = (spec.ipv6, spec.device.clone());
        match spec.kind {
            SocketKind::Udp => Some(Self::Udp { ipv6, device }),
            SocketKind::IcmpRaw => Some(Self::Icmp { ipv6, device }),
            SocketKind::IcmpPing => None,
        }
    }

    /// One octet each for kind and family, then the device or the index.
    fn encode(&self) -> Vec<u8> {
        let (kind, ipv6, rest) = match self {
            Self::Udp { ipv6, device } => (1, *ipv6, device.clone().unwrap_or_default().into()),
            Self::Icmp { ipv6, device } => (2, *ipv6, device.clone().unwrap_or_default().into()),
            Self::Reflect { index } => (3, false, index.to_be_bytes().to_vec()),
            Self::Capture { device } => (4, false, device.clone().into()),
            Self::CaptureNext => (5, false, Vec::new()),
        };
        let mut bytes = vec![kind, u8::from(ipv6)];
        bytes.extend(rest);
        bytes
    }

    /// The inverse of [`Request::encode`]; `None` for anything else.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[kind, family], rest) = bytes.split_first_chunk::<2>()?;
        let ipv6 = match family {
            0 => false,
            1 => true,
            _ => return None,
        };
        let device = || {
            let name = std::str::from_utf8(rest).ok()?;
            Some((!name.is_empty()).then(|| name.to_owned()))
        };
        match kind {
            1 => device().map(|device| Self::Udp { ipv6, device }),
            2 => device().map(|device| Self::Icmp { ipv6, device }),
            3 if !ipv6 => Some(Self::Reflect {
                index: u16::from_be_bytes(rest.try_into().ok()?),
            }),
            4 if !ipv6 => Some(Self::Capture { device: device()?? }),
            5 if !ipv6 && rest.is_empty() => Some(Self::CaptureNext),
            _ => None,
        }
    }
}

/// What the opener may be asked for: all that the configuration at start can need again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allowed {
    /// Devices of UDP probes; `None` is no device.
    udp: BTreeSet<Option<String>>,
    /// Devices of probes that may use ICMP.
    icmp: BTreeSet<Option<String>>,
    /// Where the reflector listens.
    reflect: Vec<SocketAddr>,
    /// Whether receive buffers beyond the system's limit are wanted.
    large_buffers: bool,
    /// What is captured.
    capture: Option<Capture>,
}

impl Allowed {
    /// From the configuration.
    pub fn by(config: &Config) -> Self {
        let mut allowed = Self::default();
        for probe in &config.probes {
            let device = probe.how.device.clone();
            if probe.how.protocol != crate::config::Choice::Icmp {
                allowed.udp.insert(device.clone());
            }
            if probe.how.protocol.may_use_icmp() {
                allowed.icmp.insert(device);
            }
            allowed.large_buffers |= probe.packets_per_second() >= FAST;
        }
        if let Some(reflector) = &config.reflector {
            allowed.reflect.clone_from(&reflector.listen);
        }
        allowed.capture.clone_from(&config.capture);
        allowed
    }

    /// What of it takes a capability: nothing else is kept.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut needed = Vec::new();
        // SO_BINDTODEVICE takes it before Linux 5.7, raw sockets always.
        if !self.icmp.is_empty() || self.udp.iter().any(Option::is_some) {
            needed.push(Capability::NetRaw);
        }
        if self
            .reflect
            .iter()
            .any(|address| (1..1024).contains(&address.port()))
        {
            needed.push(Capability::NetBindService);
        }
        if self.large_buffers {
            needed.push(Capability::NetAdmin);
        }
        if self.capture.is_some() {
            if !needed.contains(&Capability::NetRaw) {
                needed.push(Capability::NetRaw);
            }
            needed.push(Capability::Bpf);
        }
        needed
    }

    fn permits(&self, request: &Request) -> bool {
        match request {
            Request::Udp { device, .. } => self.udp.contains(device),
            Request::Icmp { device, .. } => self.icmp.contains(device),
            Request::Reflect { index } => usize::from(*index) < self.reflect.len(),
            Request::Capture { device } => self
                .capture
                .as_ref()
                .is_some_and(|capture| capturing::is_wanted(capture, device)),
            Request::CaptureNext => self.capture.is_some(),
        }
    }

    /// Opens what was asked for, by whoever calls: the opener, or the agent itself.
    fn open(&self, request: &Request) -> io::Result<OwnedFd> {
        let (spec, address) = match request {
            Request::Udp { ipv6, device } => (
                SocketSpec {
                    ipv6: *ipv6,
                    kind: SocketKind::Udp,
                    device: device.clone(),
                },
                None,
            ),
            Request::Icmp { ipv6, device } => (
                SocketSpec {
                    ipv6: *ipv6,
                    kind: SocketKind::IcmpRaw,
                    device: device.clone(),
                },
                None,
            ),
            Request::Reflect { index } => {
                let address = self.reflect.get(usize::from(*index)).copied();
                let address = address.ok_or(io::ErrorKind::InvalidInput)?;
                return open_reflect(address);
            }
            // Several descriptors: `Pending` has them.
            Request::Capture { .. } | Request::CaptureNext => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        };
        open(&spec, address, self.large_buffers)
    }
}

/// A UDP socket that the reflector can answer from.
///
/// # Errors
/// When it cannot be opened or bound.
pub fn open_reflect(address: SocketAddr) -> io::Result<OwnedFd> {
    open(&SocketSpec::udp(address.is_ipv6()), Some(address), true)
}

fn open(spec: &SocketSpec, address: Option<SocketAddr>, large: bool) -> io::Result<OwnedFd> {
    let socket = ProbeSocket::open(spec)?;
    if large {
        // Less than asked for is a matter of overflow counters, not of starting.
        let _ = socket.set_receive_buffer(RECEIVE_BUFFER);
    }
    if let Some(address) = address {
        socket.bind(address)?;
    }
    Ok(socket.into_fd())
}

/// Octets of the number in front of each request and of its answer.
const NUMBER: usize = size_of::<u32>();

/// Answers one request: its number, then an errno.
fn answer(allowed: &Allowed, bytes: &[u8]) -> (Vec<u8>, Option<OwnedFd>) {
    let (number, request) = bytes.split_at(bytes.len().min(NUMBER));
    let result = match Request::decode(request) {
        Some(request) if allowed.permits(&request) => allowed.open(&request),
        _ => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
    };
    let errno = match &result {
        Ok(_) => 0,
        Err(error) => sys::call::errno_of(error).unwrap_or(REFUSED),
    };
    ([number, &errno.to_be_bytes()].concat(), result.ok())
}

/// Not an errno: the request is not on the list.
const REFUSED: i32 = -1;

/// Serves until the agent is gone.
fn serve(socket: &OwnedFd, allowed: &Allowed) -> io::Result<()> {
    let mut buffer = [0; MESSAGE];
    let mut pending = Pending::default();
    loop {
        let (len, descriptor) = sys::fdpass::recv(socket, &mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        // The agent has no descriptors to give; what came is closed.
        drop(descriptor);
        let (bytes, fd) = pending
            .answer(allowed, &buffer[..len])
            .unwrap_or_else(|| answer(allowed, &buffer[..len]));
        sys::fdpass::send(socket, &bytes, fd.as_ref().map(AsFd::as_fd))?;
    }
}

/// What the child does before it serves, and its exit code.
fn child(socket: &OwnedFd, allowed: &Allowed, user: Option<(u32, u32)>) -> io::Result<()> {
    let keep = allowed.capabilities();
    let bounding = match user {
        Some((uid, gid)) => sys::privilege::become_user_keeping(uid, gid, &keep)?,
        None => sys::privilege::keep_only(&keep)?,
    };
    sys::privilege::verify_only(&keep, bounding).map_err(io::Error::other)?;
    if let Some(ids) = user {
        crate::privileges::verify_ids(ids)?;
    }
    // After the change of user, which clears it.
    sys::process::set_parent_death_signal(sys::signal::Signal::Kill)?;
    sys::process::set_name("netsonde-opener")?;
    serve(socket, allowed)
}

/// The agent's end. Clones share it; requests take turns.
#[derive(Clone, Debug)]
pub struct Opener {
    allowed: Arc<Allowed>,
    channel: Option<Arc<Mutex<Channel>>>,
    pid: Option<Pid>,
}

/// The way to the opener, and how many requests went over it.
#[derive(Debug)]
struct Channel {
    socket: UnixStream,
    number: u32,
}

impl Channel {
    const fn new(socket: UnixStream) -> Self {
        Self { socket, number: 0 }
    }

    /// The errno, the descriptor and the words that answer this request. What comes for one that was
    /// given up is closed: taken for this one's, it would be another socket than asked for.
    fn ask(&mut self, request: &[u8]) -> io::Result<(Option<i32>, Option<OwnedFd>, String)> {
        self.number = self.number.wrapping_add(1);
        let number = self.number.to_be_bytes();
        sys::fdpass::send(&self.socket, &[&number, request].concat(), None)?;
        let mut buffer = [0; MESSAGE];
        loop {
            let (len, descriptor) = sys::fdpass::recv(&self.socket, &mut buffer)?;
            let Some((answered, rest)) = buffer[..len].split_first_chunk::<NUMBER>() else {
                return Ok((None, None, String::new()));
            };
            if *answered == number {
                let (errno, words) = match rest.split_first_chunk() {
                    Some((errno, words)) => (Some(i32::from_be_bytes(*errno)), words),
                    None => (None, rest),
                };
                let words = String::from_utf8_lossy(words).into_owned();
                return Ok((errno, descriptor, words));
            }
        }
    }
}

impl Opener {
    /// Forks the opener, if there is anything that it could be needed for and is able to do.
    /// Call it while the process has one thread.
    ///
    /// # Errors
    /// When the process cannot be made.
    pub fn fork(config: &Config, user: Option<(u32, u32)>) -> io::Result<Self> {
        let allowed = Allowed::by(config);
        let held = sys::privilege::permitted()?;
        let wanted = CapSet::of(&allowed.capabilities());
        let mut opener = Self {
            allowed: Arc::new(allowed),
            channel: None,
            pid: None,
        };
        if wanted.0 & held.0 == 0 {
            return Ok(opener);
        }
        let (ours, theirs) = sys::fdpass::pair()?;
        let allowed = Arc::clone(&opener.allowed);
        let mut ours = Some(ours);
        let pid = sys::process::fork_child(|| {
            // The agent's end must not stay open here, or its end would never be seen.
            drop(ours.take());
            match child(&theirs, &allowed, user) {
                Ok(()) => 0,
                Err(_) => 1,
            }
        })?;
        let Some(ours) = ours else {
            return Err(io::Error::other("the opener's channel is gone"));
        };
        // A socket of another kind, but the time-out is the socket's own.
        let channel = UnixStream::from(ours);
        channel.set_read_timeout(Some(PATIENCE))?;
        channel.set_write_timeout(Some(PATIENCE))?;
        opener.channel = Some(Arc::new(Mutex::new(Channel::new(channel))));
        opener.pid = Some(pid);
        Ok(opener)
    }

    /// Its process, if there is one.
    pub const fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Whether it has ended.
    pub fn reap(&self) -> bool {
        let ended = |pid| !matches!(sys::process::try_wait(pid), Ok(None));
        self.pid.is_some_and(ended)
    }

    /// Capabilities that the configuration needs later and that nobody holds.
    pub fn missing(&self, held: CapSet) -> Vec<&'static str> {
        self.allowed
            .capabilities()
            .into_iter()
            .filter(|capability| !held.has(*capability))
            .map(Capability::as_str)
            .collect()
    }

    /// A socket for probes: by the opener if it may open such a one, else by ourselves.
    ///
    /// # Errors
    /// When whoever tried could not.
    pub fn socket(&self, spec: &SocketSpec) -> io::Result<OwnedFd> {
        match Request::of(spec) {
            Some(request) if self.can(&request) => self.ask(&request),
            _ => ProbeSocket::open(spec).map(ProbeSocket::into_fd),
        }
    }

    /// A socket for the reflector, in the same way.
    ///
    /// # Errors
    /// When whoever tried could not.
    pub fn reflect(&self, address: SocketAddr) -> io::Result<OwnedFd> {
        let index = self
            .allowed
            .reflect
            .iter()
            .position(|listen| *listen == address);
        match index.and_then(|index| u16::try_from(index).ok()) {
            Some(index) if self.channel.is_some() => self.ask(&Request::Reflect { index }),
            _ => open_reflect(address),
        }
    }

    /// The sockets of a capture group on a device, opened in the same way: for each worker its
    /// socket, its program and its counter, as [`capturing::open`] gives them.
    ///
    /// # Errors
    /// When whoever tried could not.
    pub fn capture(&self, capture: &Capture, device: &str) -> io::Result<capturing::Group> {
        let request = Request::Capture {
            device: device.to_owned(),
        };
        if self.channel.is_none() {
            return capturing::open(capture, device);
        }
        let (first, notes) = self.ask_bytes(&request.encode())?;
        let mut all = vec![Some(first)];
        while all.len() < capturing::descriptors(capture) {
            match self.ask(&Request::CaptureNext) {
                Ok(fd) => all.push(Some(fd)),
                Err(error) if error.raw_os_error() == Some(NOTHING) => all.push(None),
                Err(error) => return Err(error),
            }
        }
        Ok(capturing::Group {
            descriptors: all,
            notes: notes.lines().map(str::to_owned).collect(),
        })
    }

    fn can(&self, request: &Request) -> bool {
        self.channel.is_some() && self.allowed.permits(request)
    }

    fn ask(&self, request: &Request) -> io::Result<OwnedFd> {
        self.ask_bytes(&request.encode()).map(|(fd, _)| fd)
    }

    fn ask_bytes(&self, bytes: &[u8]) -> io::Result<(OwnedFd, String)> {
        let Some(channel) = &self.channel else {
            return Err(io::Error::from(io::ErrorKind::NotConnected));
        };
        // A panic between request and answer would leave an answer behind, which is skipped.
        let mut channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        let (errno, descriptor, words) = channel.ask(bytes)?;
        match (errno, descriptor) {
            (Some(0), Some(fd)) => Ok((fd, words)),
            (Some(REFUSED), _) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the configuration at start did not name it; restart to allow it",
            )),
            (Some(errno), _) if errno > 0 => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the opener is gone; restart the agent",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
