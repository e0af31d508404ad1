//! Making the rings of a socket: their sizes, and mapping them.

use std::io;
use std::os::fd::BorrowedFd;

use crate::call::{get, set};
use crate::memory::Mapping;
use crate::ring::Mapped;
use crate::socket::Options;

/// Slots of each ring.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) fill: u32,
    pub(crate) completion: u32,
    pub(crate) receive: u32,
    /// 0: no such ring.
    pub(crate) send: u32,
}

impl Slots {
    pub(crate) fn of(options: &Options) -> Self {
        let fill = options.receive_chunks.next_power_of_two();
        let send = match options.send_chunks {
            0 => 0,
            chunks => chunks.next_power_of_two(),
        };
        Self {
            fill,
            // The kernel wants one even where nothing is sent.
            completion: send.max(1),
            receive: match options.receive_slots {
                0 => fill,
                slots => slots,
            },
            send,
        }
    }
}

/// The four rings of a socket, mapped.
pub(crate) struct Rings {
    pub(crate) fill: Mapped<u64>,
    pub(crate) completion: Mapped<u64>,
    pub(crate) receive: Mapped<libc::xdp_desc>,
    pub(crate) send: Option<Mapped<libc::xdp_desc>>,
}

impl Rings {
    pub(crate) fn make(fd: BorrowedFd<'_>, slots: &Slots) -> io::Result<Self> {
        for (option, slots) in [
            (libc::XDP_UMEM_FILL_RING, slots.fill),
            (libc::XDP_UMEM_COMPLETION_RING, slots.completion),
            (libc::XDP_RX_RING, slots.receive),
            (libc::XDP_TX_RING, slots.send),
        ] {
            if slots > 0 {
                set(fd, libc::SOL_XDP, option, &slots)?;
            }
        }
        let none = || libc::xdp_ring_offset {
            producer: 0,
            consumer: 0,
            desc: 0,
            flags: 0,
        };
        let empty = libc::xdp_mmap_offsets {
            rx: none(),
            tx: none(),
            fr: none(),
            cr: none(),
        };
        let (offsets, filled) = get(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, empty)?;
        if filled < size_of::<libc::xdp_mmap_offsets>() {
            // Before Linux 5.4 there were no flags, and no need-wakeup.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let fill = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        Ok(Self {
            fill: ring(fd, &offsets.fr, slots.fill, fill)?,
            completion: ring(fd, &offsets.cr, slots.completion, completion)?,
            receive: ring(fd, &offsets.rx, slots.receive, libc::XDP_PGOFF_RX_RING)?,
            send: match slots.send {
                0 => None,
                slots => Some(ring(fd, &offsets.tx, slots, libc::XDP_PGOFF_TX_RING)?),
            },
        })
    }
}

fn ring<T: Copy>(
    fd: BorrowedFd<'_>,
    offsets: &libc::xdp_ring_offset,
    slots: u32,
    at: libc::off_t,
) -> io::Result<Mapped<T>> {
    let bytes = Mapped::<T>::bytes(offsets, slots).ok_or(io::ErrorKind::InvalidData)?;
    let mapping = Mapping::ring(fd, bytes, at)?;
    Mapped::new(mapping, offsets, slots).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
