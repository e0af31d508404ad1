//! Passing messages and descriptors between two processes of ours (SCM_RIGHTS).
//!
//! A pair of sequenced-packet sockets: messages keep their borders, the end of the other
//! process is seen as an empty message. Blocking. One descriptor per message; more than one
//! are closed at once, so that a peer cannot fill our table.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::call::{check, check_size, failed};
use crate::control::{Control, Reader, Writer, get_i32};

/// Two connected ends, close-on-exec (fork keeps both).
///
/// # Errors
/// When the kernel has no descriptor to give.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) };
    check(result).map_err(|error| failed("socketpair", "SOCK_SEQPACKET", error))?;
    // SAFETY: a new descriptor that nobody else owns.
    let left = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: a new descriptor that nobody else owns.
    let right = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((left, right))
}

fn header(
    bytes: *mut u8,
    len: usize,
    vector: &mut libc::iovec,
    control: &mut [u8],
) -> libc::msghdr {
    vector.iov_base = bytes.cast();
    vector.iov_len = len;
    // SAFETY: all zero is a valid msghdr: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    if !control.is_empty() {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
    }
    header
}

const NO_VECTOR: libc::iovec = libc::iovec {
    iov_base: std::ptr::null_mut(),
    iov_len: 0,
};

/// Sends one message (not empty: that would read as the end), with a descriptor if given.
///
/// # Errors
/// `BrokenPipe` when the other end is gone.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if bytes.is_empty() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut control = Control::<24>::new();
    let mut writer = Writer::new(&mut control);
    if let Some(descriptor) = descriptor {
        let number = descriptor.as_raw_fd().to_ne_bytes();
        writer.push(libc::SOL_SOCKET, libc::SCM_RIGHTS, &number);
    }
    let used = writer.used();
    let mut vector = NO_VECTOR;
    let header = header(
        bytes.as_ptr().cast_mut(),
        bytes.len(),
        &mut vector,
        &mut control.bytes[..used],
    );
    loop {
        // SAFETY: vector, bytes and control live through the call; sendmsg only reads them.
        let sent = unsafe {
            libc::sendmsg(
                socket.as_fd().as_raw_fd(),
                &raw const header,
                libc::MSG_NOSIGNAL,
            )
        };
        match check_size(sent) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("sendmsg", "to the other process", error)),
        }
    }
}

/// Waits for one message; its length (0: the other end is gone) and its descriptor.
///
/// # Errors
/// When the message was longer than `buffer`, or as recvmsg(2).
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = Control::<24>::new();
    let mut vector = NO_VECTOR;
    let mut header = header(
        buffer.as_mut_ptr(),
        buffer.len(),
        &mut vector,
        &mut control.bytes,
    );
    let got = loop {
        // SAFETY: vector, buffer and control live through the call with the lengths given.
        let got = unsafe {
            libc::recvmsg(
                socket.as_fd().as_raw_fd(),
                &raw mut header,
                libc::MSG_CMSG_CLOEXEC,
            )
        };
        match check_size(got) {
            Ok(got) => break got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("recvmsg", "from the other process", error)),
        }
    };
    let used = control.bytes.len().min(header.msg_controllen as _);
    let descriptor = take_descriptors(&control.bytes[..used]);
    if header.msg_flags & libc::MSG_TRUNC != 0 {
        let error = io::Error::from_raw_os_error(libc::EMSGSIZE);
        return Err(failed("recvmsg", "from the other process", error));
    }
    Ok((got, descriptor))
}

/// The first descriptor; any further ones (alignment leaves room for two) are closed.
fn take_descriptors(control: &[u8]) -> Option<OwnedFd> {
    let mut first = None;
    for item in Reader::new(control) {
        if (item.level, item.kind) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            continue;
        }
        for at in (0..item.data.len()).step_by(4) {
            let Some(number) = get_i32(item.data, at).filter(|number| *number >= 0) else {
                continue;
            };
            // SAFETY: the kernel has just put this descriptor into our table for us alone.
            let owned = unsafe { OwnedFd::from_raw_fd(number) };
            first.get_or_insert(owned);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_file_crosses_with_its_message() {
        let (left, right) = pair().expect("a pair");
        let path = std::env::temp_dir().join(format!("netsonde-fdpass-{}", std::process::id()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .expect("a file");
        std::fs::remove_file(&path).expect("unlink");
        file.write_all(b"through the wall").expect("write");
        send(&left, b"open", Some(file.as_fd())).expect("send");
        send(&left, b"none", None).expect("send");
        let mut buffer = [0; 16];
        let (len, descriptor) = recv(&right, &mut buffer).expect("recv");
        assert_eq!(&buffer[..len], b"open");
        let mut copy = File::from(descriptor.expect("a descriptor"));
        copy.rewind().expect("rewind");
        let mut text = String::new();
        copy.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through the wall");
        let (len, descriptor) = recv(&right, &mut buffer).expect("recv");
        assert_eq!((&buffer[..len], descriptor.is_none()), (&b"none"[..], true));
        assert!(send(&left, b"", None).is_err());
        send(&left, &[7; 17], None).expect("send");
        let error = recv(&right, &mut buffer).expect_err("too long");
        assert_eq!(crate::call::errno_of(&error), Some(libc::EMSGSIZE));
        drop(left);
        assert_eq!(recv(&right, &mut buffer).expect("end").0, 0);
        let error = send(&right, b"x", None).expect_err("nobody");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
