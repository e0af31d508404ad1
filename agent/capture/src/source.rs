//! The trait that every backend implements, and what it counts.

use std::time::Duration;

use base::{Frame, WallNanos};

/// Frames that one call of the closure gets at most.
pub const BATCH: usize = 32;

base::closed_list! {
    /// Why frames that were seen were not lent.
    DropReason {
        /// The filter refused them.
        Filtered = "filtered",
        /// The ring had no room: the reader was too slow (`tp_drops`).
        RingFull = "ring_full",
        /// AF_XDP: the fill ring was empty (`rx_fill_ring_empty_descs`).
        FillRingEmpty = "fill_ring_empty",
        /// AF_XDP: the receive ring was full (`rx_ring_full`).
        ReceiveRingFull = "receive_ring_full",
        /// AF_XDP: dropped by the kernel for another reason (`rx_dropped`).
        KernelDropped = "kernel_dropped",
        /// AF_XDP: invalid descriptors (`rx_invalid_descs`).
        InvalidDescriptor = "invalid_descriptor",
        /// Redirecting failed (the XDP program's own counter).
        RedirectFailed = "redirect_failed",
        /// A record whose lengths contradict each other.
        Malformed = "malformed",
    }
}

/// Frames that were not lent, by reason, since the source began.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Drops([u64; DropReason::COUNT]);

impl Drops {
    /// Adds to one reason.
    pub const fn add(&mut self, reason: DropReason, frames: u64) {
        self.0[reason.index()] += frames;
    }

    /// The count of one reason.
    #[must_use]
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason.index()]
    }

    /// All reasons but [`DropReason::Filtered`]: what the capture lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        DropReason::ALL
            .iter()
            .filter(|reason| !matches!(reason, DropReason::Filtered))
            .map(|reason| self.get(*reason))
            .sum()
    }
}

/// What a call of [`Source::poll`] came to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Polled {
    /// So many frames were lent.
    Frames(usize),
    /// Nothing came within the time.
    Quiet,
    /// There will be no more.
    End,
}

/// Why a source cannot go on, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A system call failed.
    #[error("{operation} on {object}: {error}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On which device or file.
        object: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file ends or breaks before its end; all before it was lent.
    #[error("{file}: {what} at byte {at}")]
    Corrupt {
        /// Which file.
        file: String,
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A file that is no capture file, or one that cannot be read, and the way out.
    #[error("{file}: {why}")]
    NotACapture {
        /// Which file.
        file: String,
        /// What it is, and what to do.
        why: String,
    },
    /// Something that this kernel, driver or build does not have, and the way out.
    #[error("{0}")]
    Unsupported(String),
}

/// A backend: lends batches of frames.
pub trait Source {
    /// Waits at most `wait` for frames, then lends what there is in slices of at most
    /// [`BATCH`], in order of capture; returns after at most some hundreds of frames, so that
    /// the caller's clock does not stand still.
    ///
    /// # Errors
    /// When the device is gone, or the file is corrupt from here on.
    fn poll(
        &mut self,
        wait: Duration,
        lend: impl FnMut(&[Frame<'_>]),
    ) -> Result<Polled, SourceError>;

    /// What was not lent so far. May ask the kernel: once per tick, not per batch.
    ///
    /// # Errors
    /// When the kernel does not answer.
    fn drops(&mut self) -> Result<Drops, SourceError>;

    /// The capture time of the newest frame that was lent.
    fn newest(&self) -> Option<WallNanos>;
}
