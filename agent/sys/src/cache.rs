//! The processor's caches and pages, for big tables that are looked up at random.

use std::mem::MaybeUninit;

use base::Memory;

/// Octets that come into the cache together, on all machines that this runs on.
const LINE: usize = 64;

/// [`Memory`] as this machine has it.
#[derive(Copy, Clone, Default, Debug)]
pub struct HostMemory;

impl Memory for HostMemory {
    #[inline]
    fn fetch<T>(&self, value: &T) {
        let start = std::ptr::from_ref(value).cast::<u8>();
        let mut at = 0;
        while at < size_of::<T>() {
            prefetch(start.wrapping_add(at));
            at += LINE;
        }
        // A value that does not begin with a line may end in one more.
        if align_of::<T>() < LINE {
            prefetch(start.wrapping_add(size_of::<T>().saturating_sub(1)));
        }
    }

    fn prefer_huge_pages<T>(&self, room: &mut [MaybeUninit<T>]) {
        // A kernel without huge pages is slower and as right.
        let _ = crate::map::advise_huge(room);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch(address: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; the processor ignores it for an address that is not mapped.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn prefetch(address: *const u8) {
    // SAFETY: a hint; the processor ignores it for an address that is not mapped.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(readonly, nostack, preserves_flags))
    };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn prefetch(_address: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_changes_nothing() {
        let mut values: Vec<u64> = Vec::with_capacity(1 << 20);
        HostMemory.prefer_huge_pages(values.spare_capacity_mut());
        values.extend(0..1 << 20);
        for value in values.iter().step_by(997) {
            HostMemory.fetch(value);
        }
        assert!(values.iter().copied().eq(0..1 << 20));
        HostMemory.fetch(&());
        HostMemory.fetch(&[0u8; 200]);
    }
}
