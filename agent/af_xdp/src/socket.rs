//! The socket: options, the order of the calls that make it, what it says of itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::call::{check, get, memory_lock_limit, set};
use crate::device::Device;
use crate::error::{Error, Step};
use crate::memory::Mapping;
use crate::receive::Part;
use crate::ring::{Consumer, Mapped, Producer};
use crate::rings::{Rings, Slots};
use crate::umem::{Chunk, KERNEL_HEADROOM, Place, Umem};

/// How often, and after what pause, a queue that is taken is asked for again: 100 ms in all.
const RELEASE_TRIES: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(2);

/// How frames get between the device and the packet memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Zero-copy where the driver has it, else copied.
    #[default]
    Auto,
    /// The device writes into the packet memory, or there is no socket.
    ZeroCopy,
    /// The kernel copies: works with every driver and in generic mode.
    Copy,
}

/// What [`Mode`] came to.
#[derive(Debug)]
pub struct Obtained {
    /// `XDP_OPTIONS_ZEROCOPY`, as the kernel tells it.
    pub zero_copy: bool,
    /// Why [`Mode::Auto`] did not get zero-copy.
    pub refused: Option<io::Error>,
}

/// Busy polling of the queue by this socket alone (`SO_PREFER_BUSY_POLL`).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct BusyPoll {
    /// How long one system call may poll the device.
    pub microseconds: u32,
    /// Frames that it may handle meanwhile.
    pub budget: u32,
}

/// How a socket is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Chunks for frames that arrive.
    pub receive_chunks: u32,
    /// Chunks for frames to send; 0: no transmit ring.
    pub send_chunks: u32,
    /// Octets of a chunk: 2048 or 4096. 256 of them and the headroom are in front of the
    /// frame; a longer frame takes several.
    pub chunk_bytes: u32,
    /// Further octets kept free in front of each frame.
    pub headroom: u32,
    /// Slots of the receive ring, a power of two; 0: as many as there are chunks.
    pub receive_slots: u32,
    /// How frames get into the memory.
    pub mode: Mode,
    /// `XDP_USE_SG`: take frames that need more than one chunk (Linux 6.6).
    pub multi_buffer: bool,
    /// Memory in huge pages where there are any.
    pub huge_pages: bool,
    /// Busy polling, off by default.
    pub busy_poll: Option<BusyPoll>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_chunks: 4096,
            send_chunks: 0,
            chunk_bytes: 4096,
            headroom: 0,
            receive_slots: 0,
            mode: Mode::Auto,
            multi_buffer: true,
            huge_pages: false,
            busy_poll: None,
        }
    }
}

/// `XDP_STATISTICS`; what an old kernel does not count is 0.
///
/// In copy mode each frame that the socket did not get is in exactly one of `dropped` and
/// `receive_ring_full`; those of `dropped` that found no chunk are in `fill_ring_empty` too.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames dropped: too long, or no chunk (`rx_dropped`).
    pub dropped: u64,
    /// Frames dropped as the receive ring was full.
    pub receive_ring_full: u64,
    /// Times that the fill ring was found empty; with zero-copy no count of frames.
    pub fill_ring_empty: u64,
    /// Invalid descriptors on the receiving side.
    pub receive_invalid: u64,
    /// Invalid descriptors on the sending side.
    pub send_invalid: u64,
    /// Times that the transmit ring was found empty.
    pub send_ring_empty: u64,
}

/// An AF_XDP socket with a UMEM of its own, bound to one queue.
#[derive(Debug)]
pub struct Socket {
    // Fields end in this order: the socket, then its rings, then the memory they speak of.
    pub(crate) fd: OwnedFd,
    pub(crate) receive: Consumer<Mapped<libc::xdp_desc>>,
    pub(crate) fill: Producer<Mapped<u64>>,
    pub(crate) send: Option<Producer<Mapped<libc::xdp_desc>>>,
    pub(crate) completion: Consumer<Mapped<u64>>,
    pub(crate) umem: Umem,
    /// Chunks to send with.
    pub(crate) free: Vec<Chunk>,
    /// The descriptors of the present batch, and how many the receive ring can hold.
    pub(crate) parts: Vec<Part>,
    pub(crate) slots: usize,
    /// Descriptors that did not fit the memory.
    pub(crate) invalid: u64,
    pub(crate) multi_buffer: bool,
    /// All chunks to send with, wherever they are.
    pub(crate) send_chunks: usize,
    pub(crate) queue: u32,
    pub(crate) obtained: Obtained,
}

impl Socket {
    /// Makes a socket and binds it to a queue of a device of the calling thread's network
    /// namespace. Nothing arrives before an XDP program redirects to it.
    ///
    /// # Errors
    /// When the options contradict each other, the privilege is missing (`CAP_NET_RAW`, and
    /// `CAP_IPC_LOCK` or a memlock limit), or the queue does not exist or is taken.
    pub fn open(device: &str, queue: u32, options: &Options) -> Result<Self, Error> {
        Self::open_on(&Device::find(device)?, queue, options)
    }

    /// As [`Socket::open`], with a device that was looked up before.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open_on(device: &Device, queue: u32, options: &Options) -> Result<Self, Error> {
        check_options(options)?;
        let object = format!("device {} queue {queue}", device.name);
        // SAFETY: plain integers.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let fd = check(fd).map_err(|error| system(Step::Open, &object, error))?;
        // SAFETY: just opened; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };

        let (umem, mut free) = register(fd.as_fd(), options)?;
        let slots = Slots::of(options);
        let rings = Rings::make(fd.as_fd(), &slots).map_err(|error| {
            let slots = format!("{object}: {slots:?}");
            system(Step::Rings, &slots, error)
        })?;
        let to_send = free.split_off(options.receive_chunks as usize);
        let mut socket = Self {
            receive: Consumer::new(rings.receive),
            fill: Producer::new(rings.fill),
            send: rings.send.map(Producer::new),
            completion: Consumer::new(rings.completion),
            umem,
            free: to_send,
            parts: Vec::with_capacity(slots.receive as usize),
            slots: slots.receive as usize,
            invalid: 0,
            multi_buffer: options.multi_buffer,
            send_chunks: options.send_chunks as usize,
            queue,
            obtained: Obtained {
                zero_copy: false,
                refused: None,
            },
            fd,
        };
        // Before the bind: some drivers take their first buffers there.
        for chunk in free {
            let address = socket.umem.give(chunk, Place::Receiving);
            let pushed = socket.fill.push(address);
            debug_assert!(pushed, "the fill ring has a slot for each chunk");
        }
        socket.fill.publish();
        if let Some(busy) = options.busy_poll {
            socket.poll_busily(busy, &object)?;
        }
        socket.bind(device, options, &object)?;
        Ok(socket)
    }

    fn bind(&mut self, device: &Device, options: &Options, object: &str) -> Result<(), Error> {
        let try_with = |mode: u16| {
            let several = if options.multi_buffer {
                libc::XDP_USE_SG
            } else {
                0
            };
            let address = libc::sockaddr_xdp {
                sxdp_family: libc::AF_XDP as u16,
                sxdp_flags: libc::XDP_USE_NEED_WAKEUP | several | mode,
                sxdp_ifindex: device.index,
                sxdp_queue_id: self.queue,
                sxdp_shared_umem_fd: 0,
            };
            let size = size_of_val(&address) as libc::socklen_t;
            let place = ptr::from_ref(&address).cast();
            // SAFETY: `place` is a sockaddr_xdp of `size` bytes that outlives the call.
            check(unsafe { libc::bind(self.fd.as_raw_fd(), place, size) }).map(drop)
        };
        let once = || match options.mode {
            Mode::ZeroCopy => (try_with(libc::XDP_ZEROCOPY), None),
            Mode::Copy => (try_with(libc::XDP_COPY), None),
            // Not left to the kernel, which would not say why. A socket may bind again after
            // a refusal: the rings are its own until it succeeds (xsk_bind).
            Mode::Auto => match try_with(libc::XDP_ZEROCOPY) {
                Ok(()) => (Ok(()), None),
                Err(error) => (try_with(libc::XDP_COPY), Some(error)),
            },
        };
        let (mut bound, mut refused) = once();
        // A queue is freed by deferred work after its socket was closed (xp_release_deferred).
        for _ in 0..RELEASE_TRIES {
            let busy = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
            if !bound.as_ref().is_err_and(busy) {
                break;
            }
            std::thread::sleep(RELEASE_PAUSE);
            (bound, refused) = once();
        }
        bound.map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => Error::Busy {
                object: object.to_owned(),
            },
            _ => system(Step::Bind, object, error),
        })?;
        let empty = libc::xdp_options { flags: 0 };
        let said = get(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_OPTIONS, empty);
        let (said, _) = said.map_err(|error| system(Step::Option("XDP_OPTIONS"), object, error))?;
        self.obtained = Obtained {
            zero_copy: said.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
            refused,
        };
        Ok(())
    }

    fn poll_busily(&self, busy: BusyPoll, object: &str) -> Result<(), Error> {
        let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        for (option, name, value) in [
            (libc::SO_PREFER_BUSY_POLL, "SO_PREFER_BUSY_POLL", 1),
            (
                libc::SO_BUSY_POLL,
                "SO_BUSY_POLL",
                number(busy.microseconds),
            ),
            (
                libc::SO_BUSY_POLL_BUDGET,
                "SO_BUSY_POLL_BUDGET",
                number(busy.budget),
            ),
        ] {
            set(self.fd.as_fd(), libc::SOL_SOCKET, option, &value)
                .map_err(|error| system(Step::Option(name), object, error))?;
        }
        Ok(())
    }

    /// The queue that it is bound to.
    #[must_use]
    pub const fn queue(&self) -> u32 {
        self.queue
    }

    /// Zero-copy or not, and why not.
    #[must_use]
    pub const fn obtained(&self) -> &Obtained {
        &self.obtained
    }

    /// Octets of the memory that is pinned.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.umem.memory().len()
    }

    /// Frames (not descriptors of good frames) that were skipped because a descriptor lay
    /// outside the memory. Always 0, unless the kernel errs.
    #[must_use]
    pub const fn invalid(&self) -> u64 {
        self.invalid
    }

    /// What the kernel counted for this socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let empty = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        let (said, _) = get(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_STATISTICS, empty)?;
        Ok(Statistics {
            dropped: said.rx_dropped,
            receive_ring_full: said.rx_ring_full,
            fill_ring_empty: said.rx_fill_ring_empty_descs,
            receive_invalid: said.rx_invalid_descs,
            send_invalid: said.tx_invalid_descs,
            send_ring_empty: said.tx_ring_empty_descs,
        })
    }

    /// The pending error, which this clears: `ENETDOWN` when the device is gone. Polling does
    /// not show it (`xsk_poll`), so ask when nothing came for a while.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        let (number, _) = get(self.fd.as_fd(), libc::SOL_SOCKET, libc::SO_ERROR, 0)?;
        Ok((number != 0).then(|| io::Error::from_raw_os_error(number)))
    }

    /// Waits until there is something to receive; `false`: the time is over, or a signal came.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&self, most: Duration) -> io::Result<bool> {
        let mut set = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: libc::time_t::try_from(most.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: most.subsec_nanos().into(),
        };
        // SAFETY: `set` is one pollfd, `time` readable, both alive; no signal mask.
        let ready = unsafe { libc::ppoll(&raw mut set, 1, &raw const time, ptr::null()) };
        match check(ready) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn system(step: Step, object: &str, error: io::Error) -> Error {
    Error::System {
        step,
        object: object.to_owned(),
        error,
    }
}

fn check_options(options: &Options) -> Result<(), Error> {
    let wrong = |what| Err(Error::Options(what));
    if ![2048, 4096].contains(&options.chunk_bytes) {
        return wrong("a chunk is 2048 or 4096 bytes");
    }
    if options.headroom > options.chunk_bytes - KERNEL_HEADROOM - 64 {
        return wrong("the headroom leaves no room for a frame");
    }
    if options.receive_chunks == 0 || options.receive_chunks > 1 << 22 {
        return wrong("1 to 4194304 chunks to receive with");
    }
    if options.send_chunks > 1 << 22 {
        return wrong("at most 4194304 chunks to send with");
    }
    if options.receive_slots != 0 && !options.receive_slots.is_power_of_two() {
        return wrong("the receive ring has a power of two of slots");
    }
    Ok(())
}

fn register(fd: BorrowedFd<'_>, options: &Options) -> Result<(Umem, Vec<Chunk>), Error> {
    let chunks = options.receive_chunks + options.send_chunks;
    let bytes = chunks as usize * options.chunk_bytes as usize;
    const HUGE: usize = 2 << 20;
    let memory = if options.huge_pages {
        Mapping::anonymous(bytes.next_multiple_of(HUGE), true)
            .or_else(|_| Mapping::anonymous(bytes, false))
    } else {
        Mapping::anonymous(bytes, false)
    };
    let memory = memory.map_err(|error| system(Step::Memory, &format!("{bytes} bytes"), error))?;
    let mut area = libc::xdp_umem_reg {
        addr: memory.start().as_ptr() as u64,
        len: memory.len() as u64,
        chunk_size: options.chunk_bytes,
        headroom: options.headroom,
        flags: 0,
        tx_metadata_len: 0,
    };
    // Whole chunks only.
    area.len -= area.len % u64::from(options.chunk_bytes);
    set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &area).map_err(|error| {
        // xdp_umem_account_pages: beyond RLIMIT_MEMLOCK it is ENOBUFS.
        if error.raw_os_error() == Some(libc::ENOBUFS) {
            Error::MemoryLock {
                wanted_bytes: area.len,
                limit_bytes: memory_lock_limit(),
            }
        } else {
            system(Step::Register, &format!("{} bytes", area.len), error)
        }
    })?;
    Umem::new(memory, chunks, options.chunk_bytes)
        .ok_or(Error::Options("the chunks do not fit the memory"))
}

#[cfg(test)]
mod tests;
