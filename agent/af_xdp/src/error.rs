//! What may fail while a socket is made, and what the user can do about it.

use std::fmt;
use std::io;

/// What was tried.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Opening the socket: `CAP_NET_RAW`, a kernel with AF_XDP.
    Open,
    /// Memory for the packets.
    Memory,
    /// `XDP_UMEM_REG`: pins that memory.
    Register,
    /// Sizes of the rings, and mapping them.
    Rings,
    /// Binding to a queue of the device.
    Bind,
    /// A socket option.
    Option(&'static str),
    /// Asking about a device.
    Device(&'static str),
    /// Telling the kernel that there is work.
    Wake,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open an AF_XDP socket",
            Self::Memory => "map packet memory",
            Self::Register => "register packet memory (XDP_UMEM_REG)",
            Self::Rings => "make the rings",
            Self::Bind => "bind the AF_XDP socket",
            Self::Option(name) | Self::Device(name) => name,
            Self::Wake => "wake the kernel",
        })
    }
}

/// Why there is no socket.
#[derive(Debug)]
pub enum Error {
    /// Options that contradict each other.
    Options(&'static str),
    /// A system call failed.
    System {
        /// What was tried.
        step: Step,
        /// On which device and queue, or how much.
        object: String,
        /// What the system said.
        error: io::Error,
    },
    /// The packet memory does not fit under `RLIMIT_MEMLOCK`, and `CAP_IPC_LOCK` is missing.
    MemoryLock {
        /// Octets that were to be pinned.
        wanted_bytes: u64,
        /// The limit in octets.
        limit_bytes: u64,
    },
    /// Somebody else has an AF_XDP socket on the queue.
    Busy {
        /// On which device and queue.
        object: String,
    },
}

impl Error {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { error, .. } => error.raw_os_error(),
            Self::MemoryLock { .. } => Some(libc::ENOBUFS),
            Self::Busy { .. } => Some(libc::EBUSY),
            Self::Options(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(what) => write!(f, "AF_XDP options: {what}"),
            Self::System {
                step,
                object,
                error,
            } => {
                let hint = match (step, error.raw_os_error()) {
                    (Step::Open, Some(libc::EAFNOSUPPORT)) => {
                        " (this kernel is without CONFIG_XDP_SOCKETS)"
                    }
                    (Step::Open, Some(libc::EPERM)) => " (needs CAP_NET_RAW)",
                    _ => "",
                };
                write!(f, "{step}, {object}: {error}{hint}")
            }
            Self::MemoryLock {
                wanted_bytes,
                limit_bytes,
            } => write!(
                f,
                "cannot pin {wanted_bytes} bytes of packet memory: the memlock limit is {limit_bytes} \
                 bytes; raise it (LimitMEMLOCK=infinity, ulimit -l) or give CAP_IPC_LOCK"
            ),
            Self::Busy { object } => write!(
                f,
                "another AF_XDP socket has {object}: end that program, or name other queues"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}
