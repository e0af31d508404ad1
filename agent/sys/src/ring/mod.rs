//! The receive ring of an `AF_PACKET` socket, version 3 (`TPACKET_V3`).
//!
//! Owns: the mapping, the socket, and who may read which block. A block belongs to the kernel
//! or to us; its status word says to whom, and is the only word that both touch. A [`Ring`]
//! lends the frames of a block to a closure and gives the block back when all were lent.
//! A VLAN tag that the kernel took out of a frame is put back into it, in the ring's memory.
//! Never: a frame that outlives its block, an offset from the ring that is believed unchecked,
//! an allocation or a clock read per frame. Units: bytes; nanoseconds of `CLOCK_REALTIME`.
//! Threads: one ring, one thread; it may be sent to another.
//!
//! Opening the socket needs `CAP_NET_RAW` ([`RingSocket::open`]); nothing else here needs any,
//! so a descriptor may be opened by one process and used by another.

mod block;
mod socket;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::{Frame, WallNanos};

use crate::call::{check, failed};
use block::Cursor;
pub use socket::{Fanout, RingOptions, RingSocket, RingStatistics};

/// `block_status` of a `tpacket_block_desc` (include/uapi/linux/if_packet.h).
const STATUS_AT: usize = 8;

/// A mapped ring.
pub struct Ring {
    socket: RingSocket,
    start: *mut u8,
    options: RingOptions,
    /// The block that the kernel hands over next, or that is being read.
    block: usize,
    /// Where reading stands in it; `None`: it is the kernel's, as far as is known.
    cursor: Option<Cursor>,
    newest: Option<WallNanos>,
    malformed: u64,
}

// SAFETY: the mapping belongs to this value alone and does not care which thread reads it.
unsafe impl Send for Ring {}

/// What a wait saw.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Waited {
    /// A block may be ready.
    Ready,
    /// Nothing within the time.
    Quiet,
    /// The device went down (it may be gone: [`Ring::is_gone`]).
    Down,
}

impl Ring {
    /// Makes the socket's ring and maps it. No privilege is needed.
    ///
    /// # Errors
    /// When the kernel lacks version 3 or the memory, or the socket is no packet socket or has
    /// a ring already.
    pub fn new(socket: RingSocket, options: RingOptions) -> io::Result<Self> {
        // The form that is believed from here on is the one that the kernel was just given.
        socket.configure(&options)?;
        let bytes = options.bytes();
        let raw = socket.as_fd().as_raw_fd();
        // SAFETY: a fresh mapping where the kernel likes; touches no memory of ours. The
        // kernel refuses a length other than the ring's (net/packet/af_packet.c, packet_mmap).
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                raw,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(failed(
                "mmap",
                format!("{bytes} bytes of packet ring"),
                error,
            ));
        }
        Ok(Self {
            socket,
            start: start.cast(),
            options,
            block: 0,
            cursor: None,
            newest: None,
            malformed: 0,
        })
    }

    /// The status word of the present block.
    fn status(&self) -> &AtomicU32 {
        let at = self.block * self.options.block_bytes as usize + STATUS_AT;
        // SAFETY: `block` is below `blocks`, so the word is inside the mapping.
        let place = unsafe { self.start.add(at) };
        // SAFETY: aligned (blocks are pages), inside the mapping, which lives as long as
        // `self`; the kernel writes it as one word, and we by this atomic alone.
        unsafe { AtomicU32::from_ptr(place.cast()) }
    }

    /// Whether the kernel has handed over the present block.
    fn is_ours(&self) -> bool {
        // Acquire: pairs with smp_wmb() before the status is written in prb_close_block() /
        // prb_flush_block() of net/packet/af_packet.c; what the block holds is seen after it.
        self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Whether a frame can be lent without waiting.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.cursor.is_some() || self.is_ours()
    }

    /// Lends what is ready, at most `limit` frames, in slices of at most `N`, and gives back
    /// the blocks that were read to their end. Returns how many frames were lent.
    pub fn lend<const N: usize>(&mut self, limit: usize, lend: impl FnMut(&[Frame<'_>])) -> usize {
        self.lend_wanted::<N>(limit, |_, _| true, lend)
    }

    /// As [`Ring::lend`], without the frames that are not `wanted`; `limit` counts these too.
    /// `wanted` sees what a filter in the kernel sees: a frame without its outermost VLAN tag,
    /// and the control information of that tag, if there was one.
    pub fn lend_wanted<const N: usize>(
        &mut self,
        limit: usize,
        mut wanted: impl FnMut(&Frame<'_>, Option<u16>) -> bool,
        mut lend: impl FnMut(&[Frame<'_>]),
    ) -> usize {
        let (mut looked, mut lent) = (0, 0);
        while looked < limit {
            if self.cursor.is_none() && !self.is_ours() {
                break;
            }
            let block_bytes = self.options.block_bytes as usize;
            // SAFETY: `block` is below `blocks`: inside the mapping.
            let first = unsafe { self.start.add(self.block * block_bytes) };
            // The status word is left out: it is not ours to borrow.
            // SAFETY: inside the block, whose length is more than the header's.
            let after = unsafe { first.add(block::HEADER_AT) };
            // SAFETY: the block is ours by its status word (is_ours(), or an earlier call that
            // has not given it back), so the kernel does not touch it; no other borrow of it
            // is alive, for `self` is borrowed; the slice lives no longer than this turn of the
            // loop, at whose end the block is given back. It is mapped for writing.
            let bytes =
                unsafe { std::slice::from_raw_parts_mut(after, block_bytes - block::HEADER_AT) };
            let mut cursor = self.cursor.take().unwrap_or_else(|| Cursor::new(bytes));
            let vnet = self.options.vnet_header;
            let mut rest = cursor.rest(bytes);
            while looked < limit && !cursor.is_done() {
                let mut batch = [Frame::ethernet(&[], WallNanos(0)); N];
                let mut filled = 0;
                let mut places = batch.iter_mut();
                while looked < limit && filled < N {
                    let Some(found) = cursor.next(&mut rest, vnet) else {
                        break;
                    };
                    looked += 1;
                    let (seen, tag) = found.seen();
                    if wanted(&seen, tag)
                        && let Some(place) = places.next()
                    {
                        *place = found.whole(self.options.cut);
                        filled += 1;
                    }
                }
                let Some(batch) = batch.get(..filled).filter(|batch| !batch.is_empty()) else {
                    continue;
                };
                self.newest = batch.last().map(|frame| frame.at).or(self.newest);
                lent += filled;
                lend(batch);
            }
            if cursor.is_done() {
                self.malformed += u64::from(cursor.malformed());
                self.give_back();
            } else {
                self.cursor = Some(cursor);
            }
        }
        lent
    }

    /// Hands the present block to the kernel and goes on to the next.
    fn give_back(&mut self) {
        // Release: our reads are over before the kernel sees the block as its own; pairs with
        // the check of the status in prb_open_block()'s callers, __packet_lookup_frame_in_block().
        self.status()
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.options.blocks as usize;
        self.cursor = None;
    }

    /// Waits until a block is ready, the device goes down, or the time is over; a signal ends
    /// the wait early.
    ///
    /// # Errors
    /// When the kernel refuses, or the socket has an error other than a device that is down.
    pub fn wait(&self, time: Duration) -> io::Result<Waited> {
        if self.is_ready() {
            return Ok(Waited::Ready);
        }
        let mut entry = libc::pollfd {
            fd: self.socket.as_fd().as_raw_fd(),
            events: libc::POLLIN | libc::POLLERR,
            revents: 0,
        };
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: one pollfd and a timespec that outlive the call; no signal mask.
        let result = unsafe { libc::ppoll(&raw mut entry, 1, &raw const timeout, ptr::null()) };
        match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Waited::Quiet),
            Err(error) => return Err(failed("ppoll", "a packet ring", error)),
            Ok(0) => return Ok(Waited::Quiet),
            Ok(_) => {}
        }
        if entry.revents & libc::POLLERR != 0 {
            // Reading it clears it: the next wait waits again.
            match self.socket.take_error()? {
                0 => {}
                libc::ENETDOWN => return Ok(Waited::Down),
                number => {
                    let error = io::Error::from_raw_os_error(number);
                    return Err(failed("receive on", "a packet ring", error));
                }
            }
        }
        Ok(Waited::Ready)
    }

    /// Whether the device that the socket was bound to does not exist any more. A socket of
    /// all devices has none to lose.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_gone(&self) -> io::Result<bool> {
        self.socket.bound_index().map(|index| index == -1)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &RingSocket {
        &self.socket
    }

    /// What the socket counted since the last call.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn statistics(&self) -> io::Result<RingStatistics> {
        self.socket.statistics()
    }

    /// The capture time of the newest frame that was lent.
    #[must_use]
    pub fn newest(&self) -> Option<WallNanos> {
        self.newest
    }

    /// Frames that were not lent because the ring's own lengths contradict each other.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Its form.
    #[must_use]
    pub fn options(&self) -> RingOptions {
        self.options
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned, once; nothing borrowed from it outlives `self`.
        let _ = unsafe { libc::munmap(self.start.cast(), self.options.bytes()) };
    }
}

#[cfg(test)]
mod tests;
