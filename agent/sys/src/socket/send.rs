//! Sending, with an id for the transmit stamp or from a chosen source address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::ProbeSocket;
use super::address::{self, Address};
use crate::call::check_size;
use crate::control::{Control, Writer};

/// include/uapi/asm-generic/socket.h, since Linux 6.13.
const SCM_TS_OPT_ID: i32 = 81;

impl ProbeSocket {
    /// Sends to the connected address. With `own_id` the transmit stamp carries it
    /// (only if [`super::StampMode::own_ids`]).
    ///
    /// A pending error of an *earlier* packet is consumed and the packet is sent all the
    /// same; what was said about the earlier one is in the error queue.
    ///
    /// # Errors
    /// As sendmsg(2), without allocation: the packet was not sent. [`super::is_soft`] tells
    /// whether the socket is still good. `WouldBlock` when the send buffer is full.
    pub fn send(&self, payload: &[u8], own_id: Option<u32>) -> io::Result<usize> {
        let mut control = Control::<32>::new();
        let mut writer = Writer::new(&mut control);
        if let Some(id) = own_id {
            writer.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, &id.to_ne_bytes());
        }
        let used = writer.used();
        send_past_pending_error(self.as_fd(), payload, None, &mut control.bytes[..used])
    }

    /// Sends to `to` from the address `from` (of this host), by the device `ifindex` (0: as
    /// the routes say).
    ///
    /// # Errors
    /// As [`ProbeSocket::send`].
    pub fn send_reply(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
        ifindex: u32,
    ) -> io::Result<usize> {
        self.send_reply_tos(payload, to, from, ifindex, None)
    }

    /// As [`ProbeSocket::send_reply`], with a TOS or traffic class for this packet.
    ///
    /// # Errors
    /// As [`ProbeSocket::send`].
    pub fn send_reply_tos(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: Option<IpAddr>,
        ifindex: u32,
        tos: Option<u8>,
    ) -> io::Result<usize> {
        let mut control = Control::<64>::new();
        let mut writer = Writer::new(&mut control);
        match from {
            Some(IpAddr::V4(from)) => {
                // struct in_pktinfo: device, source address, unused.
                let mut info = [0; 12];
                info[..4].copy_from_slice(&ifindex.to_ne_bytes());
                info[4..8].copy_from_slice(&from.octets());
                writer.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(from)) => {
                // struct in6_pktinfo: source address, device.
                let mut info = [0; 20];
                info[..16].copy_from_slice(&from.octets());
                info[16..].copy_from_slice(&ifindex.to_ne_bytes());
                writer.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if let Some(tos) = tos {
            let (level, kind) = if self.ipv6 {
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
            } else {
                (libc::IPPROTO_IP, libc::IP_TOS)
            };
            writer.push(level, kind, &i32::from(tos).to_ne_bytes());
        }
        let used = writer.used();
        send_past_pending_error(self.as_fd(), payload, Some(to), &mut control.bytes[..used])
    }
}

/// A send may fail with the error of an earlier packet and send nothing (kernel-and-lab E2).
/// The failing call consumes that error, so a second one tells whether it was meant for us.
fn send_past_pending_error(
    fd: BorrowedFd<'_>,
    payload: &[u8],
    to: Option<SocketAddr>,
    control: &mut [u8],
) -> io::Result<usize> {
    match send_message(fd, payload, to, control) {
        Err(error) if error.raw_os_error().is_some_and(may_be_pending) => {
            send_message(fd, payload, to, control)
        }
        result => result,
    }
}

/// Errors that ICMP leaves on a socket (net/ipv4/icmp.c icmp_err_convert, net/ipv6/icmp.c
/// icmpv6_err_convert). Others, such as a local firewall's EPERM, are about this very packet,
/// and a second try would hide what the firewall did.
const fn may_be_pending(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EMSGSIZE
            | libc::EHOSTDOWN
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::ENONET
            | libc::EPROTO
            | libc::EACCES
    )
}

fn send_message(
    fd: BorrowedFd<'_>,
    payload: &[u8],
    to: Option<SocketAddr>,
    control: &mut [u8],
) -> io::Result<usize> {
    let mut name = Address::new();
    let name_len = to.map_or(0, |to| address::encode(to, &mut name));
    let mut vector = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    if name_len > 0 {
        header.msg_name = name.bytes.as_mut_ptr().cast();
        #[expect(clippy::cast_possible_truncation, reason = "28 at most")]
        {
            header.msg_namelen = name_len as u32;
        }
    }
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = if control.is_empty() {
        ptr::null_mut()
    } else {
        control.as_mut_ptr().cast()
    };
    header.msg_controllen = control.len() as _;
    loop {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: name, vector, payload and control live through the call, with the lengths
        // given; sendmsg only reads them.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, flags) };
        match check_size(sent) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
