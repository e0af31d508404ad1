//! The result of a system call, with what was tried and on what.
//!
//! Owns: the one way in which errors of this crate are built. The kind of the original
//! error stays; its number is found again by [`errno_of`].

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What failed, on what, and why; inside the [`io::Error`]s of this crate.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {source}")]
pub struct CallError {
    /// The call or option, in the kernel's own words.
    pub operation: &'static str,
    /// The descriptor, device, address, user... it was tried on.
    pub object: String,
    /// The kernel's answer.
    pub source: io::Error,
}

/// An [`io::Error`] of the same kind that says what failed on what.
pub(crate) fn failed(
    operation: &'static str,
    object: impl Into<String>,
    source: io::Error,
) -> io::Error {
    io::Error::new(
        source.kind(),
        CallError {
            operation,
            object: object.into(),
            source,
        },
    )
}

/// The kernel's error number behind an error, whether wrapped by this crate or bare.
#[must_use]
pub fn errno_of(error: &io::Error) -> Option<i32> {
    error.raw_os_error().or_else(|| {
        let inner = error.get_ref()?.downcast_ref::<CallError>()?;
        inner.source.raw_os_error()
    })
}

/// -1 is an error, anything else the result.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// As [`check`], for calls that return a long.
pub(crate) fn check_long(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// As [`check`], for calls that return a size.
pub(crate) fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Types that the kernel may fill or read byte by byte as socket options.
///
/// # Safety
/// Every bit pattern is a value, there is no padding, and no pointer is inside.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: an integer: every bit pattern is a value.
unsafe impl Plain for i32 {}
// SAFETY: an integer: every bit pattern is a value.
unsafe impl Plain for u32 {}
// SAFETY: an array of plain values has no padding.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// setsockopt of a plain value; `name` is for the error.
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    name: &'static str,
    value: T,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "options are a few bytes")]
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and is `len` bytes of plain data.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    check(result)
        .map(drop)
        .map_err(|error| failed(name, format!("on socket {}", fd.as_raw_fd()), error))
}

/// getsockopt of a plain value; what the kernel does not fill keeps `value`.
pub(crate) fn get_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    name: &'static str,
    mut value: T,
) -> io::Result<T> {
    #[expect(clippy::cast_possible_truncation, reason = "options are a few bytes")]
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes and any bytes are a valid `T` (Plain).
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    match check(result) {
        Ok(_) => Ok(value),
        Err(error) => Err(failed(name, format!("on socket {}", fd.as_raw_fd()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_and_object_and_keeps_number_and_kind() {
        let error = failed(
            "bind",
            "127.0.0.1:862",
            io::Error::from_raw_os_error(libc::EACCES),
        );
        assert_eq!(errno_of(&error), Some(libc::EACCES));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().starts_with("bind 127.0.0.1:862: "));
        assert_eq!(
            errno_of(&io::Error::from_raw_os_error(libc::EAGAIN)),
            Some(libc::EAGAIN)
        );
        assert_eq!(errno_of(&io::Error::other("x")), None);
    }
}
