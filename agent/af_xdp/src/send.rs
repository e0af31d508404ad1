//! Sending: frames are copied into chunks and queued; `flush` hands them over, `complete`
//! takes back the chunks of those that were sent.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use crate::socket::Socket;
use crate::umem::Place;

/// Why a frame was not queued.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum SendError {
    /// No chunk or slot is free: `flush`, then `complete`.
    Full,
    /// It needs several chunks and the socket is without `multi_buffer`, or it is empty, or
    /// longer than all chunks together.
    Length,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "no chunk is free",
            Self::Length => "the frame does not fit",
        })
    }
}

impl std::error::Error for SendError {}

impl Socket {
    /// Queues a frame; `flush` sends it.
    ///
    /// # Errors
    /// When there is no room now, or never.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), SendError> {
        let chunk_bytes = self.umem.chunk_bytes() as usize;
        let needed = frame.len().div_ceil(chunk_bytes);
        let Some(ring) = &mut self.send else {
            return Err(SendError::Length);
        };
        if needed == 0 || needed > 1 && !self.multi_buffer || needed > self.send_chunks {
            return Err(SendError::Length);
        }
        let slots = u32::try_from(needed).map_err(|_| SendError::Length)?;
        if self.free.len() < needed || ring.free(slots) < slots {
            return Err(SendError::Full);
        }
        for (n, piece) in frame.chunks(chunk_bytes).enumerate() {
            let Some(chunk) = self.free.pop() else {
                return Err(SendError::Full);
            };
            // At most a chunk: it fits.
            let written = self.umem.write(&chunk, piece);
            debug_assert!(written.is_some());
            let more = n + 1 < needed;
            let pushed = ring.push(libc::xdp_desc {
                addr: self.umem.give(chunk, Place::Sending),
                #[expect(clippy::cast_possible_truncation, reason = "at most a chunk")]
                len: piece.len() as u32,
                options: if more { libc::XDP_PKT_CONTD } else { 0 },
            });
            debug_assert!(pushed, "asked before");
        }
        Ok(())
    }

    /// Hands over what was queued; returns how many descriptors the kernel has not taken yet
    /// (its own queue is full: call again later).
    ///
    /// # Errors
    /// When the device is down or gone.
    pub fn flush(&mut self) -> io::Result<u32> {
        let Some(ring) = &mut self.send else {
            return Ok(0);
        };
        ring.publish();
        let mut before = ring.pending();
        while before > 0 && ring.needs_wakeup() {
            // SAFETY: no buffer is passed.
            let sent = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    ptr::null(),
                    0,
                )
            };
            if sent < 0 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    // A system call sends some 32 frames: again as long as it goes on.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                    _ => return Err(error),
                }
            }
            let now = ring.pending();
            if now >= before {
                break;
            }
            before = now;
        }
        Ok(before)
    }

    /// Takes back the chunks of frames that were sent, and says how many.
    pub fn complete(&mut self) -> u32 {
        let done = self.completion.filled(u32::MAX);
        for n in 0..done {
            let Some(address) = self.completion.peek(n) else {
                break;
            };
            match self.umem.take(address, Place::Sending) {
                Some(chunk) => self.free.push(chunk),
                None => self.invalid += 1,
            }
        }
        self.completion.release(done);
        done
    }
}
