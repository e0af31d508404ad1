//! The packet memory: chunks of equal size, each owned by one place at a time.
//!
//! A [`Chunk`] is the right to use one of them. It cannot be copied: giving it to the kernel
//! consumes it, and it comes back only from a descriptor that the kernel returned. Where
//! `debug_assertions` are on, a table checks that no chunk comes back that was not given.

use std::ptr::NonNull;

use crate::memory::Mapping;

/// What the kernel keeps free in front of a received frame (`XDP_PACKET_HEADROOM`), for the
/// program's metadata among others.
pub(crate) const KERNEL_HEADROOM: u32 = 256;

/// The right to use a chunk.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Chunk(u32);

/// Who has a chunk that is not in our hands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Nobody: its `Chunk` exists here.
    #[cfg(debug_assertions)]
    Ours,
    /// The fill ring, the kernel's pool or the receive ring.
    Receiving,
    /// The transmit ring, the device or the completion ring.
    Sending,
}

/// Octets of a chunk that lie inside it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    chunk: u32,
    /// From the start of the chunk.
    at: u32,
    len: u32,
}

impl Span {
    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }
}

/// The memory and the state of its chunks.
#[derive(Debug)]
pub(crate) struct Umem {
    memory: Mapping,
    chunk_bytes: u32,
    chunks: u32,
    #[cfg(debug_assertions)]
    places: Box<[Place]>,
}

impl Umem {
    /// `chunk_bytes` is a power of two, and `memory` has room for `chunks` of them.
    pub(crate) fn new(
        memory: Mapping,
        chunks: u32,
        chunk_bytes: u32,
    ) -> Option<(Self, Vec<Chunk>)> {
        let wanted = u64::from(chunks) * u64::from(chunk_bytes);
        if !chunk_bytes.is_power_of_two() || wanted > memory.len() as u64 {
            return None;
        }
        let umem = Self {
            memory,
            chunk_bytes,
            chunks,
            #[cfg(debug_assertions)]
            places: vec![Place::Ours; chunks as usize].into(),
        };
        Some((umem, (0..chunks).map(Chunk).collect()))
    }

    pub(crate) const fn memory(&self) -> &Mapping {
        &self.memory
    }

    pub(crate) const fn chunk_bytes(&self) -> u32 {
        self.chunk_bytes
    }

    /// Gives a chunk to the kernel; the result is the address of its start.
    #[expect(clippy::needless_pass_by_value, reason = "the right to use it ends")]
    pub(crate) fn give(&mut self, chunk: Chunk, place: Place) -> u64 {
        #[cfg(debug_assertions)]
        if let Some(now) = self.places.get_mut(chunk.0 as usize) {
            debug_assert_eq!(*now, Place::Ours, "chunk {} has two owners", chunk.0);
            *now = place;
        }
        let _ = place;
        u64::from(chunk.0) * u64::from(self.chunk_bytes)
    }

    /// Takes back the chunk that the kernel's address lies in; `None`: there is no such.
    pub(crate) fn take(&mut self, address: u64, place: Place) -> Option<Chunk> {
        let chunk = self.chunk_of(address)?;
        #[cfg(debug_assertions)]
        if let Some(now) = self.places.get_mut(chunk as usize) {
            debug_assert_eq!(*now, place, "chunk {chunk} came back from elsewhere");
            *now = Place::Ours;
        }
        let _ = place;
        Some(Chunk(chunk))
    }

    fn chunk_of(&self, address: u64) -> Option<u32> {
        let chunk = address >> self.chunk_bytes.trailing_zeros();
        u32::try_from(chunk)
            .ok()
            .filter(|chunk| *chunk < self.chunks)
    }

    /// The octets of a descriptor, if they lie inside one chunk.
    pub(crate) fn span(&self, address: u64, len: u32) -> Option<Span> {
        let chunk = self.chunk_of(address)?;
        // Below the chunk's size, so it fits.
        #[expect(clippy::cast_possible_truncation)]
        let at = (address & u64::from(self.chunk_bytes - 1)) as u32;
        (len <= self.chunk_bytes - at).then_some(Span { chunk, at, len })
    }

    /// The `len` octets in front of a span, if they lie inside the chunk.
    pub(crate) fn before(&self, span: Span, len: u32) -> Option<Span> {
        let at = span.at.checked_sub(len)?;
        Some(Span {
            chunk: span.chunk,
            at,
            len,
        })
    }

    fn pointer(&self, span: Span) -> NonNull<u8> {
        let offset = span.chunk as usize * self.chunk_bytes as usize + span.at as usize;
        // SAFETY: spans are made by `span` and `before` alone, inside a chunk of this memory.
        unsafe { self.memory.start().add(offset) }
    }

    /// The octets of a span.
    ///
    /// # Safety
    /// The kernel has given the chunk back and does not get it again while the slice lives.
    pub(crate) unsafe fn bytes(&self, span: Span) -> &[u8] {
        // SAFETY: inside the mapping; mapped zeroed, so initialised; nobody writes (caller).
        unsafe { NonNull::slice_from_raw_parts(self.pointer(span), span.len()).as_ref() }
    }

    /// Asks the processor to fetch what lies at a span.
    #[inline]
    pub(crate) fn prefetch(&self, span: Span) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at = self.pointer(span).as_ptr().cast::<i8>();
            // SAFETY: a hint that reads nothing; the pointer is inside the mapping.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = span;
    }

    /// Copies `bytes` to the start of a chunk; `None`: they do not fit.
    pub(crate) fn write(&mut self, chunk: &Chunk, bytes: &[u8]) -> Option<()> {
        let len = u32::try_from(bytes.len()).ok()?;
        let span = self.span(u64::from(chunk.0) * u64::from(self.chunk_bytes), len)?;
        let to = self.pointer(span).as_ptr();
        // SAFETY: inside one chunk, whose token the caller holds: neither the kernel nor a
        // slice of ours is there, and `bytes` is other memory.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn umem() -> (Umem, Vec<Chunk>) {
        let memory = Mapping::anonymous(8192, false).expect("memory");
        Umem::new(memory, 4, 2048).expect("fits")
    }

    #[test]
    fn descriptors_are_checked_against_their_chunk() {
        let (umem, _) = umem();
        assert!(umem.span(0, 2048).is_some());
        assert!(umem.span(6144, 2048).is_some());
        assert!(umem.span(6145, 2048).is_none(), "beyond the memory");
        assert!(umem.span(256, 1793).is_none(), "into the next chunk");
        assert!(umem.span(256, 1792).is_some());
        assert!(umem.span(8192, 0).is_none());
        assert!(umem.span(u64::MAX, 1).is_none());
        assert!(umem.span(0, u32::MAX).is_none());
        let frame = umem.span(2048 + 256, 60).expect("inside");
        assert!(umem.before(frame, 256).is_some());
        assert!(umem.before(frame, 257).is_none(), "into the chunk before");
    }

    #[test]
    fn a_chunk_goes_and_comes_back() {
        let (mut umem, mut chunks) = umem();
        let chunk = chunks.pop().expect("four");
        umem.write(&chunk, &[7; 2048]).expect("fits");
        assert!(umem.write(&chunk, &[7; 2049]).is_none());
        let address = umem.give(chunk, Place::Sending);
        assert_eq!(address, 6144);
        let chunk = umem.take(address + 300, Place::Sending).expect("known");
        assert_eq!(chunk, Chunk(3));
        assert!(umem.take(8192, Place::Sending).is_none());
        let span = umem.span(6144 + 2047, 1).expect("inside");
        // SAFETY: no kernel is involved.
        assert_eq!(unsafe { umem.bytes(span) }, [7]);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "came back from elsewhere")]
    fn a_chunk_that_was_not_given_is_noticed() {
        let (mut umem, _chunks) = umem();
        let _ = umem.take(0, Place::Receiving);
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let memory = || Mapping::anonymous(8192, false).expect("memory");
        assert!(Umem::new(memory(), 5, 2048).is_none());
        assert!(Umem::new(memory(), 2, 3000).is_none());
    }
}
