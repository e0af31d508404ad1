//! Socket addresses as the kernel writes them, in safe code.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::control::get_u32;

/// `sizeof(struct sockaddr_in6)`, the longest address that appears here.
pub(crate) const ADDRESS_BYTES: usize = 28;

/// Bytes of an address, aligned as `struct sockaddr`.
#[repr(C, align(4))]
#[derive(Copy, Clone)]
pub(crate) struct Address {
    pub(crate) bytes: [u8; ADDRESS_BYTES],
}

impl Address {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; ADDRESS_BYTES],
        }
    }
}

/// The address in `bytes`; `None` if it is of another family or cut.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope = get_u32(bytes, 24)?;
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Writes `address` and returns its length for the kernel.
pub(crate) fn encode(address: SocketAddr, into: &mut Address) -> usize {
    let bytes = &mut into.bytes;
    bytes.fill(0);
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "families are below 50")]
    match address {
        SocketAddr::V4(v4) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            16
        }
        SocketAddr::V6(v6) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            28
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// socket2 is the independent encoder.
    #[test]
    fn addresses_are_as_socket2_writes_them() {
        for text in [
            "127.0.0.2:862",
            "255.1.2.3:65535",
            "[::1]:1",
            "[fe80::1%7]:862",
        ] {
            let address: SocketAddr = text.parse().expect("an address");
            let mut ours = Address::new();
            let len = encode(address, &mut ours);
            let theirs = socket2::SockAddr::from(address);
            assert_eq!(len, theirs.len() as usize);
            // SAFETY: socket2 gives a pointer to `len` initialised bytes that live with `theirs`.
            let theirs = unsafe { std::slice::from_raw_parts(theirs.as_ptr().cast::<u8>(), len) };
            assert_eq!(&ours.bytes[..len], theirs);
            assert_eq!(decode(&ours.bytes[..len]), Some(address));
            for cut in 0..len.min(8) {
                assert_eq!(decode(&ours.bytes[..cut]), None);
            }
        }
        assert_eq!(decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
