//! Waiting for descriptors with nanosecond time-outs (epoll, eventfd).
//!
//! Owns: an epoll instance, level-triggered. A wait never allocates. A signal ends a wait
//! with no events; the caller looks at its clock and waits again.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use crate::call::{check, check_long, check_size, failed};
use crate::clock::timespec;

/// What to wait for. Errors (a filled error queue among them) and hang-ups always count.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Interest {
    /// Data to read.
    Read,
    /// Errors only.
    Errors,
    /// Room to write.
    Write,
}

/// What happened on one descriptor.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The token it was added with.
    pub token: u64,
    /// There is something to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// An error is pending, or the error queue holds something.
    pub error: bool,
    /// The other end is gone.
    pub hang_up: bool,
}

/// Room for the results of one wait.
pub struct Events {
    room: Box<[libc::epoll_event]>,
    filled: usize,
}

impl Events {
    /// Room for `capacity` (at least 1) descriptors at once.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            room: vec![libc::epoll_event { events: 0, u64: 0 }; capacity.clamp(1, 4096)].into(),
            filled: 0,
        }
    }

    /// What the last wait found.
    pub fn iter(&self) -> impl Iterator<Item = Ready> {
        let has = |bits: u32, flag: i32| bits & flag.cast_unsigned() != 0;
        self.room[..self.filled].iter().map(move |event| {
            // The struct is packed: copy before use.
            let (bits, token) = (event.events, event.u64);
            Ready {
                token,
                readable: has(bits, libc::EPOLLIN),
                writable: has(bits, libc::EPOLLOUT),
                error: has(bits, libc::EPOLLERR),
                hang_up: has(bits, libc::EPOLLHUP),
            }
        })
    }
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let fd = check(fd).map_err(|error| failed("epoll_create1", "a poller", error))?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Adds a descriptor. Remove it before it is closed if copies of it live on elsewhere.
    ///
    /// # Errors
    /// When it is there already, or cannot be waited for.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Errors => 0,
            Interest::Write => libc::EPOLLOUT,
        };
        self.control(libc::EPOLL_CTL_ADD, &fd, events, token)
    }

    /// Removes a descriptor.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, &fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: &impl AsFd, events: i32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events.cast_unsigned(),
            u64: token,
        };
        let target = fd.as_fd().as_raw_fd();
        // SAFETY: `event` is readable through the call.
        let result =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, target, &raw mut event) };
        check(result)
            .map(drop)
            .map_err(|error| failed("epoll_ctl", format!("descriptor {target}"), error))
    }

    /// Waits for at most `timeout_ns` (`None`: for ever; 0: not at all) and returns how many
    /// descriptors are ready; 0 also when a signal came.
    ///
    /// # Errors
    /// Only when the kernel lacks `epoll_pwait2` (before 5.11).
    pub fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<usize> {
        events.filled = 0;
        let timeout = timeout_ns.map(timespec);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // By number: the function is younger than some C libraries.
        // SAFETY: `events.room` is writable for its length, `timeout` null or readable, the
        // signal mask null: nothing else is touched.
        let got = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.room.as_mut_ptr(),
                events.room.len(),
                timeout,
                ptr::null::<libc::sigset_t>(),
                size_of::<u64>(),
            )
        };
        match check_long(got) {
            Ok(got) => {
                events.filled = usize::try_from(got).unwrap_or(0).min(events.room.len());
                Ok(events.filled)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ends another thread's wait. Clones wake the same poller.
#[derive(Clone, Debug)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    /// Add it to a [`Poller`] for reading.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        let fd = check(fd).map_err(|error| failed("eventfd", "a waker", error))?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Makes it readable until drained. Cannot fail: a full counter is readable too.
    pub fn wake(&self) {
        let one = 1_u64;
        // SAFETY: `one` is readable for the eight bytes given.
        let _ = unsafe {
            libc::write(
                self.fd.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
    }

    /// Makes it unreadable again; whether anybody had called [`Waker::wake`].
    pub fn drain(&self) -> bool {
        let mut count = 0_u64;
        // SAFETY: `count` is writable for the eight bytes asked for.
        let got = unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                (&raw mut count).cast(),
                size_of::<u64>(),
            )
        };
        check_size(got).is_ok() && count > 0
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;

    #[test]
    fn time_outs_are_kept_to_the_nanosecond_from_below() {
        let poller = Poller::new().expect("epoll");
        let mut events = Events::new(4);
        for timeout_ns in [0, 1, 300_000, 2_500_000] {
            let start = mono_now();
            assert_eq!(poller.wait(&mut events, Some(timeout_ns)).expect("wait"), 0);
            let waited = mono_now().since(start);
            assert!(waited >= timeout_ns, "{waited} < {timeout_ns}");
            // Generous: the host may stall, but a millisecond taken for a second would show.
            assert!(waited < timeout_ns + 1_000_000_000, "{waited}");
        }
    }

    #[test]
    fn a_waker_of_another_thread_ends_an_endless_wait() {
        let poller = Poller::new().expect("epoll");
        let waker = Waker::new().expect("eventfd");
        poller.add(&waker, 77, Interest::Read).expect("add");
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        let mut events = Events::new(4);
        while poller.wait(&mut events, None).expect("wait") == 0 {}
        let ready: Vec<_> = events.iter().collect();
        assert_eq!(ready.len(), 1);
        assert_eq!((ready[0].token, ready[0].readable), (77, true));
        thread.join().expect("the waking thread");
        assert!(waker.drain());
        assert!(!waker.drain());
        assert_eq!(poller.wait(&mut events, Some(0)).expect("wait"), 0);
        waker.wake();
        poller.remove(&waker).expect("remove");
        assert_eq!(poller.wait(&mut events, Some(0)).expect("wait"), 0);
        assert!(poller.remove(&waker).is_err());
    }
}
