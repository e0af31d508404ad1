//! Whose XDP program is on a device: `RTM_GETLINK` for its number, then its name.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A program on a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The kernel's number, as `bpftool prog show id` takes it.
    pub program: u32,
    /// Its name; empty where the privilege to ask is missing.
    pub name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program id {}", self.program)?;
        if !self.name.is_empty() {
            write!(f, " \"{}\"", self.name)?;
        }
        Ok(())
    }
}

/// `nlmsghdr` and `ifinfomsg` (linux/netlink.h, linux/rtnetlink.h) in one.
#[repr(C)]
struct Request {
    len: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    family: u8,
    pad: u8,
    device_kind: u16,
    index: u32,
    device_flags: u32,
    change: u32,
}

const HEADER: usize = 16;
const IFLA_XDP: u16 = 43;
/// Program numbers inside IFLA_XDP: of the one mode, of native, generic, offloaded.
const IFLA_XDP_IDS: std::ops::RangeInclusive<u16> = 4..=7;

/// The program on a device of the calling thread's network namespace.
///
/// # Errors
/// When the kernel does not answer.
pub fn owner(index: u32) -> io::Result<Option<Owner>> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let request = Request {
        len: size_of::<Request>() as u32,
        kind: libc::RTM_GETLINK,
        flags: libc::NLM_F_REQUEST as u16,
        sequence: 1,
        port: 0,
        family: 0,
        pad: 0,
        device_kind: 0,
        index,
        device_flags: 0,
        change: 0,
    };
    let place = (&raw const request).cast();
    // SAFETY: `request` is readable for its size.
    let sent = unsafe { libc::send(fd.as_raw_fd(), place, size_of::<Request>(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0u8; 32 * 1024];
    // SAFETY: `answer` is writable for its length.
    let got = unsafe { libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    answer.truncate(got);
    Ok(program_in(&answer).map(|program| Owner {
        program,
        name: name_of(program),
    }))
}

/// The number of the XDP program in an answer to RTM_GETLINK.
fn program_in(answer: &[u8]) -> Option<u32> {
    let attributes = answer.get(HEADER + 16..)?;
    let xdp = Attributes(attributes)
        .find(|(kind, _)| *kind == IFLA_XDP)?
        .1;
    Attributes(xdp)
        .filter(|(kind, _)| IFLA_XDP_IDS.contains(kind))
        .find_map(|(_, value)| Some(u32::from_ne_bytes(value.try_into().ok()?)))
        .filter(|program| *program != 0)
}

/// `struct nlattr`s: length with header, type, value, padded to four octets.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (len, rest) = self.0.split_first_chunk::<2>()?;
        let (kind, _) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_ne_bytes(*len));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The upper two bits are flags (NLA_F_NESTED).
        Some((u16::from_ne_bytes(*kind) & 0x3fff, value))
    }
}

fn name_of(program: u32) -> String {
    let all = aya::programs::loaded_programs().filter_map(Result::ok);
    let mut found = all.filter(|info| info.id() == program);
    let name = found
        .next()
        .and_then(|info| info.name_as_str().map(str::to_owned));
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_to_their_end_and_no_further() {
        let mut bytes = vec![0; HEADER + 16];
        // Type 3 with one octet and three of padding, then IFLA_XDP with ATTACHED and PROG_ID.
        bytes.extend([5, 0, 3, 0, b'x', 0, 0, 0]);
        bytes.extend([20, 0, 43, 0x80]);
        bytes.extend([5, 0, 2, 0, 1, 0, 0, 0]);
        bytes.extend([8, 0, 4, 0, 0x39, 0x30, 0, 0]);
        assert_eq!(program_in(&bytes), Some(12_345));
        for cut in 0..bytes.len() {
            assert_eq!(program_in(&bytes[..cut]), None, "{cut}");
        }
        bytes[HEADER + 16] = 0;
        assert_eq!(program_in(&bytes), None, "a length of 0 ends it");
    }

    #[test]
    fn the_loopback_device_has_none() {
        assert_eq!(owner(1).expect("an answer"), None);
    }
}
