//! Control messages (cmsg) in safe code: a bounded writer and a bounds-checked reader.
//!
//! Owns: the layout of `struct cmsghdr` on Linux: length (of header and data), level, kind,
//! each message aligned to the size of a pointer. Offsets that the kernel gives are checked
//! like a peer's; reading never panics and never leaves the slice.

/// Length, level, kind.
const HEADER: usize = size_of::<libc::cmsghdr>();
const ALIGN: usize = size_of::<usize>();
const _: () = assert!(HEADER == size_of::<usize>() + 8);

const fn aligned(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Space for control messages, aligned as the kernel wants it.
#[repr(C, align(8))]
#[derive(Copy, Clone)]
pub(crate) struct Control<const N: usize> {
    pub(crate) bytes: [u8; N],
}

impl<const N: usize> Control<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N] }
    }
}

/// Appends control messages to a [`Control`].
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new<const N: usize>(control: &'a mut Control<N>) -> Self {
        Self {
            bytes: &mut control.bytes,
            used: 0,
        }
    }

    /// Appends one message; false (and nothing written) if it does not fit.
    pub(crate) fn push(&mut self, level: i32, kind: i32, data: &[u8]) -> bool {
        let end = self.used + HEADER + data.len();
        let Some(slot) = self.bytes.get_mut(self.used..) else {
            return false;
        };
        if slot.len() < aligned(HEADER + data.len()) {
            return false;
        }
        slot[..ALIGN].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        slot[ALIGN..ALIGN + 4].copy_from_slice(&level.to_ne_bytes());
        slot[ALIGN + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        slot[HEADER..HEADER + data.len()].copy_from_slice(data);
        self.used = aligned(end);
        true
    }

    /// Bytes written, for `msg_controllen`.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }
}

/// One control message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// Walks what the kernel wrote; ends at the first message that does not fit.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let header = self.rest.get(..HEADER)?;
        let len = usize::from_ne_bytes(header[..ALIGN].try_into().ok()?);
        let data = self.rest.get(HEADER..len)?;
        let item = Item {
            level: get_i32(header, ALIGN)?,
            kind: get_i32(header, ALIGN + 4)?,
            data,
        };
        // The last message needs no padding after it. `len` is inside the slice: no overflow.
        self.rest = self.rest.get(aligned(len)..).unwrap_or(&[]);
        Some(item)
    }
}

/// Native-endian integers at an offset, `None` outside the slice.
pub(crate) fn get_i32(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(
        bytes.get(at..)?.get(..4)?.try_into().ok()?,
    ))
}

pub(crate) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    get_i32(bytes, at).map(i32::cast_unsigned)
}

pub(crate) fn get_i64(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_ne_bytes(
        bytes.get(at..)?.get(..8)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut control = Control::<64>::new();
        control.bytes.fill(0xa5);
        let mut writer = Writer::new(&mut control);
        assert!(writer.push(1, 81, &7_u32.to_ne_bytes()));
        assert!(writer.push(0, 8, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
        // 24 + 32 are used; 8 are left, too few for any header.
        assert!(!writer.push(0, 1, &[]));
        let used = writer.used();
        assert_eq!(used, 56);
        let items: Vec<_> = Reader::new(&control.bytes[..used]).collect();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].level, items[0].kind), (1, 81));
        assert_eq!(get_u32(items[0].data, 0), Some(7));
        assert_eq!(items[1].data.len(), 12);
    }

    /// The oracle is libc's own walk over the same bytes.
    #[test]
    fn the_layout_is_that_of_libc() {
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        assert_eq!(HEADER + 5, unsafe { libc::CMSG_LEN(5) } as usize);
        // SAFETY: as above.
        assert_eq!(aligned(HEADER + 5), unsafe { libc::CMSG_SPACE(5) } as usize);
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        for len in [0_usize, 1, HEADER - 1, 41, usize::MAX, usize::MAX - 7] {
            let mut bytes = [0_u8; 40];
            bytes[..ALIGN].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Reader::new(&bytes).next(), None, "length {len}");
        }
        for cut in 0..24 {
            let mut control = Control::<24>::new();
            let used = {
                let mut writer = Writer::new(&mut control);
                assert!(writer.push(1, 2, &[9; 4]));
                writer.used()
            };
            assert_eq!(used, 24);
            let whole = Reader::new(&control.bytes[..cut]).next().is_some();
            assert_eq!(whole, cut >= HEADER + 4, "cut at {cut}");
        }
    }
}
