//! Mapped memory, unmapped when dropped.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A mapping that this process owns. Only raw pointers into it are given out: the kernel
/// writes there too.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; whoever holds it decides who
// touches it, and it is never shared by reference between threads (no Sync).
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed memory of our own, in huge pages if asked for.
    pub(crate) fn anonymous(len: usize, huge: bool) -> io::Result<Self> {
        let huge = if huge { libc::MAP_HUGETLB } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | huge;
        // SAFETY: a new mapping where the kernel likes; no memory of ours is touched.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        Self::of(start, len)
    }

    /// A ring of a socket.
    pub(crate) fn ring(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a new mapping where the kernel likes; no memory of ours is touched.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                offset,
            )
        };
        Self::of(start, len)
    }

    fn of(start: *mut libc::c_void, len: usize) -> io::Result<Self> {
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Octets.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Where it begins.
    pub(crate) const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// A pointer to `bytes` octets at `offset`, if they lie inside and `offset` has the
    /// alignment of `T` (a mapping begins at a page).
    pub(crate) fn at<T>(&self, offset: u64, bytes: usize) -> Option<NonNull<T>> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(bytes)?;
        if end > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping.
        Some(unsafe { self.start.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of` with this length, and all pointers into it live in fields of
        // the same owner, which goes now.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_stay_inside() {
        let mapping = Mapping::anonymous(8192, false).expect("memory");
        assert_eq!(mapping.len(), 8192);
        assert!(mapping.at::<u64>(8184, 8).is_some());
        assert!(mapping.at::<u64>(8185, 1).is_none(), "alignment");
        assert!(mapping.at::<u64>(8192, 1).is_none());
        assert!(mapping.at::<u8>(u64::MAX, 2).is_none());
    }
}
