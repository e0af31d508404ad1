//! Receiving: a batch borrows the socket, lends its frames, and gives their chunks back to
//! the fill ring when it is dropped.

use std::os::fd::AsRawFd;
use std::ptr;

use crate::socket::Socket;
use crate::umem::{Place, Span, Umem};

/// One descriptor of the present batch, checked.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Part {
    /// As the kernel wrote it: the chunk to give back.
    address: u64,
    span: Option<Span>,
    /// The frame ends here.
    last: bool,
}

impl Socket {
    /// Takes at most `limit` frames that wait; never blocks. Dropping the batch gives their
    /// chunks back to the kernel.
    pub fn receive(&mut self, limit: u32) -> Batch<'_> {
        self.parts.clear();
        let mut frames = 0;
        let mut whole = 0;
        let mut filled = self.receive.filled(limit);
        loop {
            while frames < limit
                && let Some(descriptor) = self.receive.peek(self.parts_len())
            {
                // A frame that fills the ring never ends: cut it, rather than wait for ever.
                let endless = whole == 0 && self.parts.len() + 1 == self.slots;
                let last = descriptor.options & libc::XDP_PKT_CONTD == 0 || endless;
                let span = self.umem.span(descriptor.addr, descriptor.len);
                if let Some(span) = span {
                    self.umem.prefetch(span);
                }
                self.parts.push(Part {
                    address: descriptor.addr,
                    span,
                    last,
                });
                if last {
                    frames += 1;
                    whole = self.parts.len();
                }
            }
            // What was known is used up: look again, so that less than `limit` means all.
            let again = if frames < limit {
                self.receive.filled(u32::MAX)
            } else {
                filled
            };
            if again == filled {
                break;
            }
            filled = again;
        }
        self.parts.truncate(whole);
        Batch {
            socket: self,
            frames,
            left: 0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the slots of a ring"
    )]
    const fn parts_len(&self) -> u32 {
        self.parts.len() as u32
    }

    /// Tells the kernel that the fill ring has chunks again, where it asked for that.
    fn wake_receiver(&self) {
        // The result says what the kernel's poll came to; a device that is gone shows in
        // `take_error`.
        // SAFETY: no buffer is passed, so nothing is written.
        unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
    }
}

/// Frames that were received, lent until this is dropped.
#[derive(Debug)]
pub struct Batch<'a> {
    socket: &'a mut Socket,
    frames: u32,
    /// Descriptors at the end that stay for the next call.
    left: usize,
}

impl Batch<'_> {
    /// Whether nothing waited.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// How many frames there are, those included that are skipped as invalid.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.frames
    }

    /// Leaves the last descriptors, as [`Frames::left`] counts them, for the next
    /// [`Socket::receive`]: their frames come again.
    pub const fn leave(&mut self, left: usize) {
        self.left = left;
    }

    /// The frames, in the order of their arrival.
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            umem: &self.socket.umem,
            parts: &self.socket.parts,
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let socket = &mut *self.socket;
        let taken = socket.parts.len().saturating_sub(self.left);
        socket.parts.truncate(taken);
        if socket.parts.is_empty() {
            return;
        }
        let count = socket.parts_len();
        let mut valid = true;
        for part in socket.parts.drain(..) {
            valid &= part.span.is_some();
            if part.last {
                socket.invalid += u64::from(!valid);
                valid = true;
            }
            // An address outside the memory has no chunk to give back.
            let Some(chunk) = socket.umem.take(part.address, Place::Receiving) else {
                continue;
            };
            let address = socket.umem.give(chunk, Place::Receiving);
            let pushed = socket.fill.push(address);
            debug_assert!(pushed, "the fill ring has a slot for each chunk");
        }
        socket.receive.release(count);
        socket.fill.publish();
        if socket.fill.needs_wakeup() {
            socket.wake_receiver();
        }
    }
}

/// The frames of a batch.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    umem: &'a Umem,
    parts: &'a [Part],
}

impl Frames<'_> {
    /// Descriptors of the frames that were not taken yet.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.parts.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Chunks<'a>;

    fn next(&mut self) -> Option<Chunks<'a>> {
        loop {
            let end = self.parts.iter().position(|part| part.last)? + 1;
            let (parts, rest) = self.parts.split_at(end);
            self.parts = rest;
            // A frame with a descriptor outside the memory is skipped; the batch counts it.
            if parts.iter().all(|part| part.span.is_some()) {
                return Some(Chunks {
                    umem: self.umem,
                    parts,
                });
            }
        }
    }
}

/// A received frame: its octets, in one chunk or several.
#[derive(Copy, Clone, Debug)]
pub struct Chunks<'a> {
    umem: &'a Umem,
    parts: &'a [Part],
}

impl<'a> Chunks<'a> {
    fn bytes(&self, span: Span) -> &'a [u8] {
        // SAFETY: the batch that 'a borrows has the chunk from the kernel and gives it back
        // when it is dropped, after 'a.
        unsafe { self.umem.bytes(span) }
    }

    /// Octets of the whole frame.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.parts
            .iter()
            .filter_map(|part| part.span)
            .map(Span::len)
            .sum()
    }

    /// Whether there is not a single octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the whole frame is in [`Chunks::first`].
    #[must_use]
    #[inline]
    pub const fn is_single(&self) -> bool {
        self.parts.len() == 1
    }

    /// The first chunk: all of most frames, and the headers of the others.
    #[must_use]
    #[inline]
    pub fn first(&self) -> &'a [u8] {
        match self.parts.first().and_then(|part| part.span) {
            Some(span) => self.bytes(span),
            None => &[],
        }
    }

    /// All chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let chunks = *self;
        let spans = self.parts.iter().filter_map(|part| part.span);
        spans.map(move |span| chunks.bytes(span))
    }

    /// The `N` octets in front of the frame, where an XDP program puts metadata; `None`:
    /// there is no room for so many. What the program did not write is from before.
    #[must_use]
    #[inline]
    pub fn metadata<const N: usize>(&self) -> Option<[u8; N]> {
        let span = self.parts.first()?.span?;
        let before = self.umem.before(span, u32::try_from(N).ok()?)?;
        self.bytes(before).try_into().ok()
    }
}

#[cfg(test)]
mod tests;
