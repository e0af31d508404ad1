//! The XDP program of AF_XDP capture.
//!
//! Owns: the program, its maps and the link that attaches it. The rule is in
//! `xdp_capture.bpf.c`. The link is a `bpf_link` and nothing else: it goes with the process,
//! however that dies, and cannot take the place of somebody else's program.
//!
//! Order of use: [`XdpCapture::load`], [`XdpCapture::attach`], a socket per queue by
//! [`XdpCapture::set_socket`], then [`XdpCapture::arm`]: before that all frames pass and
//! nothing is counted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, MapError, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, Pod};

use crate::error::{LoadError, raise_memory_limit};

mod link;
mod owner;

pub use link::AttachError;
pub use owner::{Owner, owner};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../objects/xdp_capture.bpf.o");
const PROGRAM: &str = "xdp_capture";

/// Octets in front of a redirected frame: the time, `CLOCK_MONOTONIC` nanoseconds, in the
/// order of the machine.
pub const STAMP_BYTES: usize = 8;

/// Where the program runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum XdpMode {
    /// In the driver, before the host's stack has seen the frame.
    Native,
    /// In the stack, after GRO: works with every driver, slower.
    Generic,
}

impl XdpMode {
    /// The word for messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Which frames are redirected; they do not reach the host any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Every frame: the device serves nothing but the capture.
    All,
    /// IPv4 and IPv6; ARP and the rest stay with the host, so that it keeps its address.
    Ip,
    /// UDP to these ports, and GRE if so: tunnels that end here (mirrors). All else stays
    /// with the host. Fragments but the first carry no port and stay with the host too.
    Tunnels {
        /// UDP destination ports.
        udp_ports: Vec<u16>,
        /// IP protocol 47.
        gre: bool,
    },
}

impl Wanted {
    /// VXLAN (4789) and Geneve (6081): VPC Traffic Mirroring and Gateway Load Balancer.
    #[must_use]
    pub fn mirror() -> Self {
        Self::Tunnels {
            udp_ports: vec![4789, 6081],
            gre: false,
        }
    }
}

/// How the program is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpOptions {
    /// Which frames are redirected.
    pub wanted: Wanted,
    /// TCP to these ports stays with the host whatever is wanted: 22, so that ssh survives.
    pub spare_tcp_ports: Vec<u16>,
    /// Put the time in front of each frame.
    pub stamps: bool,
    /// Receive queues of the device.
    pub queues: u32,
}

/// What the program counted since it was loaded, while it was armed; every frame is in one
/// of the first four.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Verdicts {
    /// Given to a socket.
    pub redirected: u64,
    /// Not wanted, left to the host.
    pub passed: u64,
    /// Could not be judged (cut short, a later fragment), left to the host.
    pub unjudged: u64,
    /// Wanted, but its queue has no socket; left to the host.
    pub no_socket: u64,
    /// Of those redirected: without the time, as the driver has no room for it.
    pub unstamped: u64,
}

// SAFETY: `repr(C)` integers without padding.
unsafe impl Pod for Verdicts {}

/// Words of a table of ports, a bit each.
const PORT_WORDS: u32 = 1024;

/// The loaded program.
#[derive(Debug)]
pub struct XdpCapture {
    // The link goes first: nothing is redirected into maps that are gone.
    link: Option<OwnedFd>,
    ebpf: Ebpf,
}

impl XdpCapture {
    /// Loads the program.
    ///
    /// # Errors
    /// When privilege, memory or a kernel feature is missing.
    pub fn load(options: &XdpOptions) -> Result<Self, LoadError> {
        raise_memory_limit();
        let mut want = match &options.wanted {
            Wanted::All => 1,
            Wanted::Ip => 2,
            Wanted::Tunnels { gre, udp_ports } => {
                u32::from(!udp_ports.is_empty()) * 4 + u32::from(*gre) * 8
            }
        };
        want += u32::from(!options.spare_tcp_ports.is_empty()) * 16;
        let stamp = u32::from(options.stamps);
        let queues = options.queues.max(1);
        let mut ebpf = EbpfLoader::new()
            .override_global("want", &want, true)
            .override_global("stamp", &stamp, true)
            .map_max_entries("sockets", queues)
            .map_max_entries("shares", queues)
            .map_max_entries("clocks", queues)
            .load(OBJECT)
            .map_err(|error| LoadError::of_object(PROGRAM, error))?;
        program_mut(&mut ebpf)?
            .load()
            .map_err(|error| LoadError::of_program(PROGRAM, error))?;
        let mut made = Self { link: None, ebpf };
        if let Wanted::Tunnels { udp_ports, .. } = &options.wanted {
            made.set_ports(0, udp_ports)?;
        }
        made.set_ports(PORT_WORDS, &options.spare_tcp_ports)?;
        Ok(made)
    }

    fn set_ports(&mut self, first_word: u32, ports: &[u16]) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("ports").ok_or_else(missing)?;
        let mut map: Array<_, u64> = Array::try_from(map).map_err(map_error)?;
        for port in ports {
            let word = first_word + u32::from(port >> 6);
            let bits = map.get(&word, 0).map_err(map_error)? | 1 << (port & 63);
            map.set(word, bits, 0).map_err(map_error)?;
        }
        Ok(())
    }

    /// Attaches it to a device of the calling thread's network namespace, for as long as this
    /// lives. `device` is for the error.
    ///
    /// # Errors
    /// When another program is there, or the driver cannot.
    pub fn attach(&mut self, device: &str, index: u32, mode: XdpMode) -> Result<(), AttachError> {
        let program = program(&self.ebpf).and_then(|program| {
            program
                .fd()
                .map_err(|error| LoadError::of_program(PROGRAM, error))
        });
        let fd = program.map_err(AttachError::Load)?.as_fd();
        self.link = Some(link::attach(fd, device, index, mode)?);
        Ok(())
    }

    /// Takes it off the device.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Gives the frames of a queue to a socket that is bound to it.
    ///
    /// # Errors
    /// When there is no such queue, or the socket is none of AF_XDP.
    pub fn set_socket(&mut self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("sockets").ok_or_else(missing)?;
        let mut map = XskMap::try_from(map).map_err(map_error)?;
        map.set(queue, socket, 0).map_err(map_error)
    }

    /// Lets so many further frames of a queue, in a row and in one tick of the kernel, have
    /// the time of the one before; 0, as at the start: each has its own.
    ///
    /// # Errors
    /// When there is no such queue.
    pub fn share_times(&mut self, queue: u32, frames: u32) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("shares").ok_or_else(missing)?;
        let mut map: Array<_, u32> = Array::try_from(map).map_err(map_error)?;
        map.set(queue, frames, 0).map_err(map_error)
    }

    /// Begins or ends redirecting (and counting).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn arm(&mut self, on: bool) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("armed").ok_or_else(missing)?;
        let mut map: Array<_, u32> = Array::try_from(map).map_err(map_error)?;
        map.set(0, u32::from(on), 0).map_err(map_error)
    }

    /// What it counted.
    ///
    /// # Errors
    /// When the kernel refuses, as before Linux 5.19 without `CAP_BPF`.
    pub fn verdicts(&self) -> Result<Verdicts, LoadError> {
        let map = self.ebpf.map("capture_verdicts").ok_or_else(missing)?;
        let map: PerCpuArray<_, Verdicts> = PerCpuArray::try_from(map).map_err(map_error)?;
        let each = map.get(&0, 0).map_err(map_error)?;
        Ok(each.iter().fold(Verdicts::default(), |sum, cpu| Verdicts {
            redirected: sum.redirected + cpu.redirected,
            passed: sum.passed + cpu.passed,
            unjudged: sum.unjudged + cpu.unjudged,
            no_socket: sum.no_socket + cpu.no_socket,
            unstamped: sum.unstamped + cpu.unstamped,
        }))
    }
}

fn missing() -> LoadError {
    LoadError::Object(format!("{PROGRAM} lacks a program or map"))
}

fn map_error(error: MapError) -> LoadError {
    match error {
        MapError::SyscallError(error) => LoadError::System {
            operation: error.call,
            error: error.io_error,
        },
        other => LoadError::Object(format!("{PROGRAM}: {other}")),
    }
}

fn program(ebpf: &Ebpf) -> Result<&Xdp, LoadError> {
    let program = ebpf.program(PROGRAM).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}

fn program_mut(ebpf: &mut Ebpf) -> Result<&mut Xdp, LoadError> {
    let program = ebpf.program_mut(PROGRAM).ok_or_else(missing)?;
    program.try_into().map_err(|_| missing())
}

#[cfg(test)]
mod tests;
