//! The memory that recvmmsg writes to: allocated once, reused for every call.
//!
//! Owns: headers, vectors, names, control and payload bytes of a fixed number of messages.
//! Never allocates after [`Slots::new`]. The pointers between the parts are written anew
//! before every call, so that none outlives a move of the owner.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::address::{ADDRESS_BYTES, Address};
use crate::control::Control;

/// Enough for every control message that the options of this crate can produce at once:
/// stamps 64, error with offender 64, packet information 40, and eight of 24.
const CONTROL_BYTES: usize = 384;

pub(crate) struct Slots {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Box<[Address]>,
    controls: Box<[Control<CONTROL_BYTES>]>,
    payloads: Box<[u8]>,
    bytes_each: usize,
    filled: usize,
}

// SAFETY: the raw pointers inside headers and vectors are rewritten by `fill` before each
// use and never read otherwise; all that they point to is owned by the same value.
unsafe impl Send for Slots {}

/// One received message.
pub(crate) struct Message<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) flags: i32,
}

impl Slots {
    pub(crate) fn new(messages: usize, bytes_each: usize) -> Self {
        let messages = messages.clamp(1, 1024);
        let bytes_each = bytes_each.max(1);
        // SAFETY: all zero is a valid mmsghdr: null pointers with zero lengths.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let vector = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            headers: vec![header; messages].into(),
            vectors: vec![vector; messages].into(),
            names: vec![Address::new(); messages].into(),
            controls: vec![Control::new(); messages].into(),
            payloads: vec![0; messages * bytes_each].into(),
            bytes_each,
            filled: 0,
        }
    }

    /// recvmmsg; the messages of the call before are gone, also when it fails.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an address is 28 bytes, and at most 1024 messages are asked for"
    )]
    pub(crate) fn fill(&mut self, fd: BorrowedFd<'_>, flags: i32) -> io::Result<usize> {
        self.filled = 0;
        let parts = self
            .headers
            .iter_mut()
            .zip(self.vectors.iter_mut())
            .zip(self.names.iter_mut().zip(self.controls.iter_mut()))
            .zip(self.payloads.chunks_exact_mut(self.bytes_each));
        for (((header, vector), (name, control)), payload) in parts {
            vector.iov_base = payload.as_mut_ptr().cast();
            vector.iov_len = payload.len();
            header.msg_len = 0;
            header.msg_hdr.msg_name = name.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = ADDRESS_BYTES as u32;
            header.msg_hdr.msg_iov = ptr::from_mut(vector);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.bytes.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            header.msg_hdr.msg_flags = 0;
        }
        loop {
            // SAFETY: every header points to memory of `self` of the length given beside it,
            // written just above; `self` is borrowed mutably through the call.
            let got = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    self.headers.len() as u32,
                    flags as _,
                    ptr::null_mut(),
                )
            };
            if let Ok(got) = usize::try_from(got) {
                self.filled = got.min(self.headers.len());
                return Ok(self.filled);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    pub(crate) const fn filled(&self) -> usize {
        self.filled
    }

    /// What the last [`Slots::fill`] got. The kernel's lengths are bounded by ours.
    pub(crate) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        self.headers[..self.filled]
            .iter()
            .zip(self.names.iter().zip(self.controls.iter()))
            .zip(self.payloads.chunks_exact(self.bytes_each))
            .map(|((header, (name, control)), payload)| Message {
                payload: &payload[..payload.len().min(header.msg_len as usize)],
                name: &name.bytes[..ADDRESS_BYTES.min(header.msg_hdr.msg_namelen as usize)],
                control: &control.bytes[..CONTROL_BYTES.min(header.msg_hdr.msg_controllen as _)],
                flags: header.msg_hdr.msg_flags,
            })
    }
}
