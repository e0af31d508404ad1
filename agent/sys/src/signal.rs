//! Signals as data: blocked everywhere, read from a descriptor by one thread.
//!
//! Call [`block`] in `main` before the first thread starts: threads inherit the mask.
//! No handler ever runs.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::call::{check, check_size, failed};

/// The signals that the program knows.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Signal {
    /// Ctrl-C.
    Int,
    /// Please stop.
    Term,
    /// Reload; or the terminal went away.
    Hup,
    /// Ctrl-\.
    Quit,
    /// User-defined.
    Usr1,
    /// User-defined.
    Usr2,
    /// A child ended.
    Child,
    /// The terminal's size changed.
    Winch,
    /// Writing to nobody.
    Pipe,
    /// Cannot be blocked; for [`crate::process::kill`].
    Kill,
}

impl Signal {
    const ALL: [Self; 10] = [
        Self::Int,
        Self::Term,
        Self::Hup,
        Self::Quit,
        Self::Usr1,
        Self::Usr2,
        Self::Child,
        Self::Winch,
        Self::Pipe,
        Self::Kill,
    ];

    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Int => libc::SIGINT,
            Self::Term => libc::SIGTERM,
            Self::Hup => libc::SIGHUP,
            Self::Quit => libc::SIGQUIT,
            Self::Usr1 => libc::SIGUSR1,
            Self::Usr2 => libc::SIGUSR2,
            Self::Child => libc::SIGCHLD,
            Self::Winch => libc::SIGWINCH,
            Self::Pipe => libc::SIGPIPE,
            Self::Kill => libc::SIGKILL,
        }
    }

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|signal| signal.number().cast_unsigned() == number)
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is writable; sigemptyset initialises it.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: `set` was initialised above and the number is a valid signal.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal.number()) };
    }
    // SAFETY: initialised by sigemptyset.
    unsafe { set.assume_init() }
}

fn change_mask(how: i32, signals: &[Signal]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: `set` is readable through the call, and no old mask is asked for.
    let result = unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        let error = io::Error::from_raw_os_error(result);
        Err(failed("pthread_sigmask", "of this thread", error))
    }
}

/// Blocks signals in this thread and those it starts from now on.
///
/// # Errors
/// Never in practice.
pub fn block(signals: &[Signal]) -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, signals)
}

/// Lets signals through again, as for a child that shall die of them.
///
/// # Errors
/// Never in practice.
pub fn unblock(signals: &[Signal]) -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, signals)
}

/// Blocked signals, to be read.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Reads `signals`, which [`block`] must have blocked in every thread.
    ///
    /// # Errors
    /// When the kernel has no descriptor to give.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let set = set_of(signals);
        let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
        // SAFETY: `set` is readable through the call.
        let fd = unsafe { libc::signalfd(-1, &raw const set, flags) };
        let fd = check(fd).map_err(|error| failed("signalfd", "of this process", error))?;
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// The next signal that waits; never blocks.
    ///
    /// # Errors
    /// Never in practice.
    pub fn read(&self) -> io::Result<Option<Signal>> {
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
            // SAFETY: `info` is writable for its own size.
            let got = unsafe {
                libc::read(
                    self.fd.as_raw_fd(),
                    info.as_mut_ptr().cast(),
                    size_of::<libc::signalfd_siginfo>(),
                )
            };
            match check_size(got) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", "signalfd", error)),
            }
            // SAFETY: zeroed before, integers only.
            let info = unsafe { info.assume_init() };
            return Ok(Signal::from_number(info.ssi_signo));
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_of_this_thread_is_read_as_data() {
        let signals = [Signal::Hup, Signal::Usr2];
        block(&signals).expect("block");
        let fd = SignalFd::new(&signals).expect("signalfd");
        assert_eq!(fd.read().expect("read"), None);
        for signal in signals {
            // SAFETY: no pointers; the signal goes to this thread, which blocks it.
            assert_eq!(unsafe { libc::raise(signal.number()) }, 0);
            assert_eq!(fd.read().expect("read"), Some(signal));
            assert_eq!(fd.read().expect("read"), None);
        }
        // Nothing is pending any more, so this kills nobody.
        unblock(&signals).expect("unblock");
    }

    #[test]
    fn numbers_lead_back_to_their_signals() {
        for signal in Signal::ALL {
            let number = signal.number().cast_unsigned();
            assert_eq!(Signal::from_number(number), Some(signal));
        }
        assert_eq!(Signal::from_number(0), None);
    }
}
