//! Advice to the kernel about memory and files that are walked or looked up in bulk.
//!
//! Owns: nothing. Advice never changes what memory or a file holds, and a kernel that does
//! not take it costs speed only. Units: bytes.
//!
//! Capture files are read and not mapped, on purpose: a mapped file that another process
//! truncates (the ring of `tcpdump -W` does just that) kills the reader with SIGBUS, and
//! `read` into a buffer that stays in the second-level cache is faster besides (8-9 ns for
//! a record of 144 bytes from the page cache, against 10-15 ns for a mapping, its page
//! faults included, with and without `MADV_POPULATE_READ`).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::call::{check, failed};

/// Asks for huge pages (`MADV_HUGEPAGE`) behind the whole pages inside of `table`: fewer
/// misses of the address cache in tables that are looked up at random. Before they are
/// first written to is best.
///
/// # Errors
/// When this kernel has no transparent huge pages; the table is as usable as before.
pub fn advise_huge<T>(table: &mut [T]) -> io::Result<()> {
    // SAFETY: an integer in, an integer out.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(4096);
    let inside = table.as_mut_ptr_range();
    let first = inside.start.addr().next_multiple_of(page);
    let end = inside.end.addr() / page * page;
    let Some(length) = end.checked_sub(first).filter(|length| *length > 0) else {
        return Ok(());
    };
    let start = inside.start.cast::<libc::c_void>().with_addr(first);
    // SAFETY: the range lies inside of `table`, which is borrowed mutably, and the advice
    // changes only how pages are backed, never what they hold.
    let result = unsafe { libc::madvise(start, length, libc::MADV_HUGEPAGE) };
    check(result)
        .map(drop)
        .map_err(|error| failed("madvise", format!("{length} bytes MADV_HUGEPAGE"), error))
}

/// Says that a file will be read from front to back (`POSIX_FADV_SEQUENTIAL`): the kernel
/// then reads further ahead. A pipe takes no advice, which is no error.
pub fn advise_sequential(file: impl AsFd) {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: plain integers; the descriptor is borrowed for the call.
    let _ = unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_SEQUENTIAL) };
}

/// Lets the kernel give up what it holds of a file (`POSIX_FADV_DONTNEED`): all that is on
/// the disk already.
pub fn advise_unneeded(file: impl AsFd) {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: plain integers; the descriptor is borrowed for the call.
    let _ = unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The flags of the mapping around `address` (`hg`: huge pages were advised).
    fn flags_at(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("smaps");
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|word| word.split_once('-'));
            let parse = |text| usize::from_str_radix(text, 16).ok();
            if let Some((Some(low), Some(high))) = range.map(|(a, b)| (parse(a), parse(b))) {
                inside = (low..high).contains(&address);
            } else if let Some(flags) = line.strip_prefix("VmFlags:")
                && inside
            {
                return flags.to_owned();
            }
        }
        panic!("no mapping holds {address:#x}");
    }

    #[test]
    fn the_inside_is_advised_and_keeps_its_values() {
        // Not whole pages: the first and the last page belong to others too.
        let mut table: Vec<u64> = (0..1_000_003).collect();
        let middle = (&raw const table[500_000]).addr();
        assert!(!flags_at(middle).split(' ').any(|flag| flag == "hg"));
        advise_huge(&mut table[1..]).expect("transparent huge pages");
        assert!(flags_at(middle).split(' ').any(|flag| flag == "hg"));
        assert!((0..1_000_003).eq(table.iter().copied()));
    }

    #[test]
    fn less_than_a_page_is_left_alone() {
        advise_huge::<u64>(&mut []).expect("nothing to do");
        advise_huge(&mut [0_u8; 100]).expect("nothing to do");
    }
}
