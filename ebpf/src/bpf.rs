//! The few bpf(2) calls for programs that are made at run time, which aya does not load.
//!
//! Owns: nothing but the descriptors it returns.

use std::ffi::{c_long, c_uint};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::LoadError;

const MAP_CREATE: c_uint = 0;
const PROG_LOAD: c_uint = 5;
const MAP_TYPE_ARRAY: u32 = 2;
const MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;

/// `union bpf_attr` for `BPF_MAP_CREATE`, as far as it is used (include/uapi/linux/bpf.h);
/// the kernel takes the rest as 0.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, likewise.
#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// Makes a descriptor of the result of a command that returns one.
fn opened(result: c_long) -> io::Result<OwnedFd> {
    let raw = i32::try_from(result).unwrap_or(-1);
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened `raw` for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn call<T>(command: c_uint, attributes: &T) -> io::Result<OwnedFd> {
    let size = c_uint::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `attributes` is the structure that `command` reads, `size` its size, and it and
    // all that it points at outlive the call (callers: create_array, load_socket_filter).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attributes), size) };
    opened(result)
}

/// An array that may be mapped, of `entries` values of `value_bytes`.
pub(crate) fn create_array(entries: u32, value_bytes: u32) -> Result<OwnedFd, LoadError> {
    let attributes = MapCreate {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: value_bytes,
        max_entries: entries,
        map_flags: MMAPABLE,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: *b"filter_rejected\0",
    };
    call(MAP_CREATE, &attributes).map_err(|error| LoadError::System {
        operation: "BPF_MAP_CREATE",
        error,
    })
}

/// Loads a socket filter.
pub(crate) fn load_socket_filter(program: &[u64]) -> Result<OwnedFd, LoadError> {
    let try_with = |log: &mut [u8]| {
        let attributes = ProgramLoad {
            prog_type: PROG_TYPE_SOCKET_FILTER,
            insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
            insns: program.as_ptr().addr() as u64,
            license: c"Dual MIT/GPL".as_ptr().addr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_size: u32::try_from(log.len()).unwrap_or(0),
            log_buf: if log.is_empty() {
                0
            } else {
                log.as_mut_ptr().addr() as u64
            },
            kern_version: 0,
            prog_flags: 0,
            prog_name: *b"packet_filter\0\0\0",
        };
        call(PROG_LOAD, &attributes)
    };
    let error = match try_with(&mut []) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    if error.raw_os_error() == Some(libc::EPERM) {
        return Err(LoadError::System {
            operation: "BPF_PROG_LOAD",
            error,
        });
    }
    // Once more for the verifier's reason; a log that is cut gives ENOSPC and still its start.
    let mut log = vec![0; 1 << 20];
    let error = match try_with(&mut log) {
        Ok(fd) => return Ok(fd),
        Err(again) if again.raw_os_error() == Some(libc::ENOSPC) => error,
        Err(again) => again,
    };
    let said = String::from_utf8_lossy(&log).into_owned();
    let reason = said
        .trim_end_matches('\0')
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !line.starts_with("processed "))
        .unwrap_or("no reason given");
    Err(LoadError::Refused {
        program: "packet_filter",
        reason: format!("{error}: {reason}"),
    })
}

/// The counters of such an array, mapped for reading: no call and no privilege to read them.
pub(crate) struct MappedArray {
    start: *const u8,
    bytes: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping is only read, by atomic loads, and lives as long as this value.
unsafe impl Send for MappedArray {}
// SAFETY: as for Send; shared reads are atomic.
unsafe impl Sync for MappedArray {}

impl MappedArray {
    /// Maps the first `bytes` bytes.
    pub(crate) fn map(fd: OwnedFd, bytes: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping where the kernel likes; touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            start: start.cast_const().cast(),
            bytes,
            fd,
        })
    }

    /// The 64-bit counter at this byte; 0 past the end or off alignment.
    pub(crate) fn counter(&self, at: usize) -> u64 {
        if !at.is_multiple_of(8) || at.checked_add(8).is_none_or(|end| end > self.bytes) {
            return 0;
        }
        // SAFETY: `at` was just checked to be inside the mapping.
        let place = unsafe { self.start.add(at) };
        // SAFETY: aligned (the mapping begins on a page), inside, alive as long as `self`; the
        // kernel side writes it by atomic additions alone.
        let counter = unsafe { std::sync::atomic::AtomicU64::from_ptr(place.cast_mut().cast()) };
        // Relaxed: a count, which orders nothing.
        counter.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.fd)
    }
}

impl Drop for MappedArray {
    fn drop(&mut self) {
        // SAFETY: exactly what mmap returned, once, and no reference into it is left.
        let _ = unsafe { libc::munmap(self.start.cast_mut().cast(), self.bytes) };
    }
}
