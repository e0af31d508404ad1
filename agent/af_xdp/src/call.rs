//! System calls behind safe functions.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Types that the kernel may read and fill byte by byte.
///
/// # Safety
/// Every bit pattern is a value, and no pointer of ours is inside.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers only; the address inside is data to this process.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: integers only.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: integers only.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: integers only.
unsafe impl Plain for libc::xdp_options {}

#[expect(clippy::cast_possible_truncation, reason = "options are a few bytes")]
const fn length<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

/// -1 is an error.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// `setsockopt`.
pub(crate) fn set<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let place = ptr::from_ref(value).cast();
    // SAFETY: `place` is readable for the length of a `T`, plain data.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, place, length::<T>()) };
    check(result).map(drop)
}

/// `getsockopt`; what an old kernel does not fill stays zero.
pub(crate) fn get<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    mut value: T,
) -> io::Result<(T, usize)> {
    let mut len = length::<T>();
    let place = (&raw mut value).cast();
    // SAFETY: `place` is writable for `len` bytes, and any bytes are a valid `T`.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &raw mut len) };
    check(result).map(|_| (value, len as usize))
}

/// The memory that may be pinned, in octets.
pub(crate) fn memory_lock_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable through the call.
    unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    limit.rlim_cur
}
