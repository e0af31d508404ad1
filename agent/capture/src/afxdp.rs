//! AF_XDP: frames go from the driver (or the stack's lowest layer) to a ring of ours and
//! nowhere else. For a device that serves the capture alone, such as the receiving end of a
//! mirror: **a frame that is taken never reaches the host**, and only what arrives is seen.
//!
//! Owns: the XDP program on the device, a socket per queue. What never happens: a program of
//! somebody else is replaced; a setting of the device is changed; native mode is tried by
//! [`Attach::Auto`] where attaching is not known to leave the device alone.
//!
//! Several queues: the device spreads frames by their outer header, so the two directions of
//! a mirrored flow come by different queues (kernel-and-lab E5). One source therefore has
//! all queues of a device and merges them by the time in front of each frame; it belongs to
//! one worker. [`AfXdpSource::open_each`] makes one source per queue, for traffic whose
//! outer flow is the flow. What the merge cannot see is a frame that its queue has taken but
//! not shown yet: order between queues is right to within one run of the driver (64 frames).
//!
//! Times: the program's, of `CLOCK_MONOTONIC`, moved to `CLOCK_REALTIME` by an offset that is
//! read at most every 10 ms; where the driver has no room for them, one clock read a batch.
//! While a queue brings more than 2 million frames a second, up to 8 in a row share a time
//! ([`Options::exact_times`] forbids that; several queues in one source never do it).
//! Frames have no [`Passage`](base::Passage): none of them is of this host's conversations.
//!
//! Accounts: what the device gave to XDP while the source was open = lent + `Filtered` (by
//! the filter, or left to the host) + `RedirectFailed` (left to the host as the queue has no
//! socket) + the drops of the sockets, exactly, once the rings are empty. With zero-copy,
//! frames that found no buffer are in the device's own counters only.
//!
//! A VLAN tag that is beside a frame is lost, in native and in generic mode: a program sees what
//! is in the frame. A device takes the outermost tag out of it while its `rx-vlan-offload` is
//! on (`ethtool -K DEVICE rxvlan off`); a veth shows what the other end has beside.
//!
//! In generic mode the program runs after GRO: merged packets are one frame
//! (`ethtool -K DEVICE gro off` keeps them apart).

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use af_xdp::Socket;
use base::{Frame, WallNanos};
use ebpf::xdp::XdpCapture;
use sys::clock::mono_now;
use sys::poll::{Events, Interest, Poller};

pub use af_xdp::BusyPoll;
pub use ebpf::xdp::{Wanted, XdpMode};
pub use options::{Attach, Options, Queues, Transfer};

use crate::source::{BATCH, DropReason, Drops, Polled, Source, SourceError};

mod lend;
mod open;
mod options;
mod stamp;

use lend::{Lender, Taken};
use stamp::{Pace, SHARED};

/// Frames that one call of [`Source::poll`] lends at most, by and large.
const FRAMES_PER_POLL: usize = 256;
/// After a full batch the rings are looked at for so long before the thread sleeps: to be
/// woken for each run of the driver would cost the core that receives more than the frames.
const SPIN_NS: u64 = 50_000;
/// Calls without waiting and without frames after which the sockets are asked for errors.
const QUIET_CALLS: u32 = 256;
/// Queues of one source at most.
pub const MAX_QUEUES: usize = 64;

/// A filter: the first octets of a frame, and how many it had on the wire.
pub type Filter = Box<dyn FnMut(&[u8], u32) -> bool + Send>;

/// The program, shared by the sources of one device; locked once a tick, never per frame.
type Shared = Arc<Mutex<XdpCapture>>;

/// Frames of a device by AF_XDP.
pub struct AfXdpSource {
    // Sockets go before the program, whose map then forgets them.
    sockets: Vec<Socket>,
    program: Shared,
    /// Whether this one of the sources of a device reports the program's counters.
    reports_program: bool,
    device: String,
    mode: XdpMode,
    notes: Vec<String>,
    lender: Lender,
    /// `None`: each frame has a time of its own.
    pace: Option<Pace>,
    poller: Poller,
    events: Events,
    /// The last call that found frames found a full batch.
    busy: bool,
    /// Calls in a row that found nothing and did not wait.
    quiet_calls: u32,
    /// The device is gone: the error number.
    gone: Option<i32>,
}

impl std::fmt::Debug for AfXdpSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AfXdpSource")
            .field("device", &self.device)
            .field("mode", &self.mode)
            .field("queues", &self.queues().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl AfXdpSource {
    /// Takes all asked-for queues of a device in one source.
    ///
    /// # Errors
    /// When the device has an XDP program already (which stays), the queues are taken, a
    /// privilege is missing, or the memory cannot be locked.
    pub fn open(options: &Options) -> Result<Self, SourceError> {
        let opened = open::Opened::new(options)?;
        let program = Arc::new(Mutex::new(opened.program));
        let source = Self::of(opened.sockets, &program, options, opened.mode, opened.notes)?;
        source.arm(true)?;
        Ok(source)
    }

    /// One source per queue, each for a worker of its own. The two directions of a tunnelled
    /// flow may then be in different ones. The program goes with the last of them.
    ///
    /// # Errors
    /// As [`AfXdpSource::open`].
    pub fn open_each(options: &Options) -> Result<Vec<Self>, SourceError> {
        let opened = open::Opened::new(options)?;
        let program = Arc::new(Mutex::new(opened.program));
        let mut sources: Vec<Self> = Vec::with_capacity(opened.sockets.len());
        for socket in opened.sockets {
            let notes = opened.notes.clone();
            let mut source = Self::of(vec![socket], &program, options, opened.mode, notes)?;
            source.reports_program = sources.is_empty();
            sources.push(source);
        }
        if let Some(first) = sources.first() {
            first.arm(true)?;
        }
        Ok(sources)
    }

    fn of(
        sockets: Vec<Socket>,
        program: &Shared,
        options: &Options,
        mode: XdpMode,
        notes: Vec<String>,
    ) -> Result<Self, SourceError> {
        let system = |error| SourceError::System {
            operation: "wait for frames",
            object: options.device.clone(),
            error,
        };
        let poller = Poller::new().map_err(system)?;
        for (token, socket) in (0..).zip(&sockets) {
            poller
                .add(socket.as_fd(), token, Interest::Read)
                .map_err(system)?;
        }
        let one = sockets.len() == 1 && !options.exact_times;
        let pace = one.then(Pace::default);
        Ok(Self {
            events: Events::new(sockets.len()),
            sockets,
            program: Arc::clone(program),
            reports_program: true,
            device: options.device.clone(),
            mode,
            notes,
            lender: Lender::new(options.whole_frames),
            pace,
            poller,
            busy: false,
            quiet_calls: 0,
            gone: None,
        })
    }

    /// Calls `filter` for each frame; those it refuses are counted and not lent. They do not
    /// go back to the host.
    pub fn set_filter(&mut self, filter: Filter) {
        self.lender.filter = Some(filter);
    }

    /// What was obtained, and why not more; for the first lines of a run.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the program is attached.
    #[must_use]
    pub const fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Whether all queues are zero-copy.
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.sockets
            .iter()
            .all(|socket| socket.obtained().zero_copy)
    }

    /// The queues.
    pub fn queues(&self) -> impl Iterator<Item = u32> {
        self.sockets.iter().map(Socket::queue)
    }

    /// Octets of packet memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.sockets.iter().map(Socket::memory_bytes).sum()
    }

    /// Begins (`true`) or ends taking frames from the host. After the end [`Source::poll`]
    /// lends what still waits. A source begins when it is opened.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn arm(&self, on: bool) -> Result<(), SourceError> {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        program.arm(on).map_err(open::load_error)
    }

    fn gone(&self, number: i32) -> SourceError {
        SourceError::System {
            operation: "receive frames: the device is gone",
            object: self.device.clone(),
            error: std::io::Error::from_raw_os_error(number),
        }
    }

    /// When the pace of the only queue changes: at most once a millisecond.
    fn share_times(&self, fast: bool) {
        let mut program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = if fast { SHARED } else { 0 };
        for queue in self.queues() {
            // Refused, each frame goes on to have its own time, or the device is gone.
            let _ = program.share_times(queue, frames);
        }
    }

    /// Looks at the rings again for a moment, where frames came fast until now.
    fn spin(&mut self, wait: Duration, lend: &mut impl FnMut(&[Frame<'_>])) -> Taken {
        if !self.busy || wait.is_zero() {
            return Taken::default();
        }
        let begin = mono_now();
        loop {
            let taken = self.lender.drain(&mut self.sockets, lend);
            if taken.frames > 0 || mono_now().since(begin) >= SPIN_NS {
                return taken;
            }
            std::hint::spin_loop();
        }
    }

    /// Waits, and looks at the sockets' errors.
    fn wait(&mut self, wait: Duration) -> Result<(), SourceError> {
        let ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let system = |error| SourceError::System {
            operation: "wait for frames",
            object: self.device.clone(),
            error,
        };
        let ready = self
            .poller
            .wait(&mut self.events, Some(ns))
            .map_err(system)?;
        let trouble = |ready: sys::poll::Ready| ready.error || ready.hang_up;
        if ready > 0 && !self.events.iter().any(trouble) {
            return Ok(());
        }
        // xsk_notifier gives the sockets of a device that is unregistered ENETDOWN, but
        // xsk_poll does not show it: so whenever nothing came, ask.
        for socket in &self.sockets {
            if let Some(error) = socket.take_error().map_err(system)? {
                self.gone = error.raw_os_error();
                return Err(self.gone(error.raw_os_error().unwrap_or(0)));
            }
        }
        Ok(())
    }
}

impl Source for AfXdpSource {
    fn poll(
        &mut self,
        wait: Duration,
        mut lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError> {
        let mut taken = self.lender.drain(&mut self.sockets, &mut lend);
        if taken.frames == 0 {
            if let Some(number) = self.gone {
                return Err(self.gone(number));
            }
            self.quiet_calls += 1;
            if wait.is_zero() && self.quiet_calls < QUIET_CALLS {
                return Ok(Polled::Quiet);
            }
            taken = self.spin(wait, &mut lend);
            if taken.frames == 0 {
                if self.pace.as_mut().is_some_and(Pace::rest) {
                    self.share_times(false);
                }
                self.wait(wait)?;
                taken = self.lender.drain(&mut self.sockets, &mut lend);
            }
        }
        self.busy = taken.frames >= BATCH;
        let newest = self.lender.newest_stamp;
        if let Some(fast) = self
            .pace
            .as_mut()
            .and_then(|pace| pace.saw(taken.frames, newest))
        {
            self.share_times(fast);
        }
        self.quiet_calls = 0;
        Ok(if taken.frames == 0 {
            Polled::Quiet
        } else {
            Polled::Frames(taken.lent)
        })
    }

    fn drops(&mut self) -> Result<Drops, SourceError> {
        let mut drops = Drops::default();
        drops.add(DropReason::Filtered, self.lender.filtered);
        if self.reports_program {
            let program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
            let verdicts = program.verdicts().map_err(open::load_error)?;
            drops.add(DropReason::Filtered, verdicts.passed + verdicts.unjudged);
            drops.add(DropReason::RedirectFailed, verdicts.no_socket);
        }
        for socket in &self.sockets {
            let said = socket.statistics().map_err(|error| SourceError::System {
                operation: "XDP_STATISTICS",
                object: self.device.clone(),
                error,
            })?;
            // A copied frame without a chunk is in both (xsk_buff_alloc, __xsk_rcv).
            let no_chunk = said.fill_ring_empty.min(said.dropped);
            drops.add(DropReason::FillRingEmpty, no_chunk);
            drops.add(DropReason::KernelDropped, said.dropped - no_chunk);
            drops.add(DropReason::ReceiveRingFull, said.receive_ring_full);
            let invalid = said.receive_invalid + socket.invalid();
            drops.add(DropReason::InvalidDescriptor, invalid);
        }
        Ok(drops)
    }

    fn newest(&self) -> Option<WallNanos> {
        self.lender.newest
    }
}
