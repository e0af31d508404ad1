//! Socket filters that count what they reject.
//!
//! A classic filter (what libpcap compiles tcpdump's language to) drops what it rejects
//! without a trace: no counter of the socket has it. So the classic program is translated to
//! an eBPF program that does the same and counts; see `translate`.
//!
//! Owns: the program of one socket and its counters, one cache line for each CPU, in an array
//! that is mapped for reading. A per-CPU map would need a call that kernels before 5.19 refuse
//! to those without `CAP_BPF`, and whoever captures has dropped it. Units: frames, bytes.

mod translate;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::bpf::{MappedArray, create_array, load_socket_filter};
use crate::{LoadError, raise_memory_limit};

/// Bytes of one CPU's counters: a cache line.
const LINE: u32 = 64;

/// One instruction of a classic filter, as `struct sock_filter` and `struct bpf_insn` have it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Classic {
    /// Class, size, mode, operation.
    pub code: u16,
    /// Instructions to skip if true.
    pub jt: u8,
    /// Instructions to skip if false.
    pub jf: u8,
    /// Constant or offset.
    pub k: u32,
}

/// Why a classic program cannot be translated. The kernel would not take most of these either.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TranslateError {
    /// No instruction, or more than the kernel's 4096.
    #[error("a filter of {0} instructions (1 to 4096 are possible)")]
    Length(usize),
    /// An instruction that has no meaning.
    #[error("instruction {at} of the filter (code {code:#x}) is not known")]
    Unknown {
        /// Its place.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A jump past the end, or no return there.
    #[error("instruction {0} of the filter leads past its end")]
    Outside(usize),
    /// A constant that the instruction cannot have: division by 0, a shift of 32 or more, a
    /// scratch place past 15, kernel data that is not offered.
    #[error("instruction {at} of the filter cannot have the constant {k:#x}")]
    Constant {
        /// Its place.
        at: usize,
        /// The constant.
        k: u32,
    },
    /// The translation has a jump longer than eBPF's.
    #[error("the filter is too long to be translated")]
    TooFar,
}

/// Why a filter was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The classic program is not right.
    #[error(transparent)]
    Translate(#[from] TranslateError),
    /// The kernel did not take the translation.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// What a filter does besides filtering.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FilterOptions {
    /// Bytes of an accepted frame that are kept; its length is kept beside.
    pub snaplen: u32,
    /// Take what goes over the loopback device once, as it arrives, and do not count the other
    /// sight of it.
    pub loopback_once: bool,
}

/// What decides about frames, by what they begin with: a socket of all devices sees both.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Programs<'a> {
    /// Every frame is accepted.
    All,
    /// All frames begin alike, and this program is for them.
    One(&'a [Classic]),
    /// For frames with an Ethernet header, and for those that begin with the IP header;
    /// without a program frames are rejected.
    Either {
        /// With an Ethernet header.
        ethernet: Option<&'a [Classic]>,
        /// With none.
        raw: Option<&'a [Classic]>,
    },
}

/// A loaded filter.
pub struct Filter {
    program: OwnedFd,
    rejected: Option<Rejected>,
}

impl Filter {
    /// Loads the translation; [`Programs::All`] makes a program that only cuts.
    ///
    /// # Errors
    /// When a program is not right, or privilege, memory or a kernel feature is missing.
    pub fn load(programs: Programs<'_>, options: FilterOptions) -> Result<Self, FilterError> {
        raise_memory_limit();
        if programs == Programs::All {
            let program = translate::translate(programs, options, None)?;
            return Ok(Self {
                program: load_socket_filter(&program)?,
                rejected: None,
            });
        }
        // Before anything is made: whether it can be translated.
        translate::translate(programs, options, None)?;
        let array = create_array(possible_cpus(), LINE)?;
        let program = translate::translate(programs, options, Some(array.as_fd()))?;
        let program = load_socket_filter(&program)?;
        let rejected = Rejected::from_fd(array).map_err(|error| LoadError::System {
            operation: "mmap of a BPF array",
            error,
        })?;
        Ok(Self {
            program,
            rejected: Some(rejected),
        })
    }

    /// The descriptor for `SO_ATTACH_BPF`.
    #[must_use]
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Its descriptor and the counter, for whoever uses the socket. Once attached the program
    /// lives on in the socket.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Option<Rejected>) {
        (self.program, self.rejected)
    }
}

/// How many frames a filter rejected.
pub struct Rejected {
    array: MappedArray,
    cpus: u32,
}

impl Rejected {
    /// From a descriptor that came from another process.
    ///
    /// # Errors
    /// When it is not such an array.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let cpus = possible_cpus();
        let array = MappedArray::map(fd, cpus as usize * LINE as usize)?;
        Ok(Self { array, cpus })
    }

    /// The descriptor, to pass on; the other side begins with [`Rejected::from_fd`].
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn to_fd(&self) -> io::Result<OwnedFd> {
        self.array.fd().try_clone_to_owned()
    }

    /// Frames rejected since the filter was loaded.
    #[must_use]
    pub fn count(&self) -> u64 {
        let lines = (0..self.cpus as usize).map(|cpu| self.array.counter(cpu * LINE as usize));
        lines.fold(0, u64::wrapping_add)
    }
}

/// One more than the highest CPU number that this machine may have.
fn possible_cpus() -> u32 {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    highest(&text).map_or(8192, |highest| highest.saturating_add(1))
}

/// The last number of a list such as `0-3,8-11`.
fn highest(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests;
