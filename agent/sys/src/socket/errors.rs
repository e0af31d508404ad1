//! What comes through a socket's error queue: transmit stamps, ICMP errors, local errors.
//!
//! Owns: the meaning of `struct sock_extended_err`. Nothing is allocated after
//! [`ErrorBatch::new`].

use std::net::{IpAddr, SocketAddr};

use base::WallNanos;

use super::address;
use super::batch::stamps;
use super::slots::{Message, Slots};
use crate::control::{Item, Reader, get_u32};

/// `sizeof(struct sock_extended_err)`; the offender's address follows.
const EXTENDED_ERR_BYTES: usize = 16;
/// `ee_info` of a stamp taken as the packet left for the device; linux/errqueue.h.
const SCM_TSTAMP_SND: u32 = 0;

/// include/uapi/linux/if_packet.h: the error queue of a packet socket.
const PACKET_TX_TIMESTAMP: i32 = 16;

/// One item of the error queue.
#[derive(Copy, Clone, Debug)]
pub enum ErrorItem<'a> {
    /// When a packet left.
    Stamp {
        /// The own id given to send, or the kernel's count.
        id: u32,
        /// The kernel's stamp, of `CLOCK_REALTIME`.
        kernel: Option<WallNanos>,
        /// The device's stamp, of the device's clock. With both, two items may come.
        hardware: Option<WallNanos>,
        /// The packet, from its link layer header on; empty where ids are our own.
        packet: &'a [u8],
    },
    /// An ICMP or ICMPv6 error about a packet that this socket sent.
    Icmp {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// What the kernel makes of it.
        errno: i32,
        /// The next hop's MTU, for type 3 code 4 and ICMPv6 type 2.
        info: u32,
        /// Who sent the error.
        offender: Option<IpAddr>,
        /// Where the quoted packet was going (port 0 for ICMP sockets).
        to: Option<SocketAddr>,
        /// What is quoted of our packet: from the UDP payload on, or from the ICMP header on.
        payload: &'a [u8],
    },
    /// This host itself refused the packet: EMSGSIZE with the MTU, ENOBUFS of a queue.
    Local {
        /// Why.
        errno: i32,
        /// The MTU, for EMSGSIZE.
        info: u32,
        /// The packet, from the same point on as in [`ErrorItem::Icmp`].
        payload: &'a [u8],
    },
    /// Something that was not asked for.
    Unknown,
}

/// Room for a number of error queue items, allocated once.
pub struct ErrorBatch {
    pub(crate) slots: Slots,
}

impl ErrorBatch {
    /// Room for `messages` (1 to 1024) items that quote up to `bytes_each` bytes.
    #[must_use]
    pub fn new(messages: usize, bytes_each: usize) -> Self {
        Self {
            slots: Slots::new(messages, bytes_each),
        }
    }

    /// Items that the last receive got.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.filled()
    }

    /// Whether the last receive got none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the last receive got, in the order of the queue.
    pub fn iter(&self) -> impl Iterator<Item = ErrorItem<'_>> {
        self.slots.messages().map(|message| item(&message))
    }
}

fn item<'a>(message: &Message<'a>) -> ErrorItem<'a> {
    let mut at = (None, None);
    let mut error = None;
    for Item { level, kind, data } in Reader::new(message.control) {
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => at = stamps(data),
            (libc::IPPROTO_IP, libc::IP_RECVERR)
            | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            | (libc::SOL_PACKET, PACKET_TX_TIMESTAMP) => {
                error = Extended::parse(data);
            }
            _ => {}
        }
    }
    let Some(error) = error else {
        return ErrorItem::Unknown;
    };
    match error.origin {
        libc::SO_EE_ORIGIN_TIMESTAMPING if error.info == SCM_TSTAMP_SND => ErrorItem::Stamp {
            id: error.data,
            kernel: at.0,
            hardware: at.1,
            packet: message.payload,
        },
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => ErrorItem::Icmp {
            kind: error.kind,
            code: error.code,
            errno: error.errno,
            info: error.info,
            offender: error.offender,
            to: address::decode(message.name),
            payload: message.payload,
        },
        libc::SO_EE_ORIGIN_LOCAL => ErrorItem::Local {
            errno: error.errno,
            info: error.info,
            payload: message.payload,
        },
        _ => ErrorItem::Unknown,
    }
}

/// struct sock_extended_err: errno u32, origin u8, type u8, code u8, pad u8, info u32,
/// data u32; SO_EE_OFFENDER is a sockaddr right behind.
struct Extended {
    errno: i32,
    origin: u8,
    kind: u8,
    code: u8,
    info: u32,
    data: u32,
    offender: Option<IpAddr>,
}

impl Extended {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            errno: get_u32(bytes, 0)?.cast_signed(),
            origin: *bytes.get(4)?,
            kind: *bytes.get(5)?,
            code: *bytes.get(6)?,
            info: get_u32(bytes, 8)?,
            data: get_u32(bytes, 12)?,
            offender: bytes
                .get(EXTENDED_ERR_BYTES..)
                .and_then(address::decode)
                .map(|address| address.ip()),
        })
    }
}
