//! pcapng: blocks in sections, each section with its own byte order and interfaces.
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>

use base::{Frame, LinkType, Passage, WallNanos};

use super::{CAPTURED_MAX, Stop, Walked};
use crate::BATCH;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Section 4.1: "Byte-Order Magic".
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Octets of blocks that are read at once and not passed over: packets with generous options.
const BLOCK_MAX: usize = CAPTURED_MAX + (64 << 10);

/// Interfaces of one section; more are no capture of any use.
const INTERFACES_MAX: usize = 1 << 16;

/// The section that is being read.
#[derive(Debug, Default)]
pub(super) struct Section {
    swapped: bool,
    interfaces: Vec<Interface>,
    links: Vec<LinkType>,
    /// Of the packet before: for packets without a time.
    last: WallNanos,
}

#[derive(Copy, Clone, Debug)]
struct Interface {
    link: LinkType,
    snaplen: u32,
    resolution: Resolution,
    offset_ns: i64,
}

/// What one unit of a time stamp is (if_tsresol).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Resolution {
    /// So many nanoseconds.
    Nanoseconds(u64),
    /// A nanosecond is so many units.
    PerNanosecond(u64),
    /// 2^-n seconds.
    Binary(u8),
}

impl Resolution {
    /// Section 4.2: "If the Most Significant Bit is equal to zero, the remaining bits
    /// indicates the resolution of the timestamp as a negative power of 10 [...] if equal to
    /// one [...] of 2".
    fn parse(octet: u8) -> Self {
        let exponent = octet & 0x7f;
        if octet & 0x80 != 0 {
            Self::Binary(exponent)
        } else if exponent <= 9 {
            Self::Nanoseconds(10_u64.pow(u32::from(9 - exponent)))
        } else {
            // Finer than 10^-28 s: no 64 bits reach one nanosecond.
            let units = 10_u64.checked_pow(u32::from(exponent - 9));
            Self::PerNanosecond(units.unwrap_or(u64::MAX))
        }
    }

    #[inline]
    fn nanoseconds(self, units: u64) -> u64 {
        match self {
            Self::Nanoseconds(each) => units.saturating_mul(each),
            Self::PerNanosecond(units_each) => units / units_each,
            Self::Binary(exponent) => {
                let ns = u128::from(units) * 1_000_000_000;
                let ns = ns.checked_shr(u32::from(exponent)).unwrap_or(0);
                u64::try_from(ns).unwrap_or(u64::MAX)
            }
        }
    }
}

impl Interface {
    #[inline]
    fn time(&self, high: u32, low: u32) -> WallNanos {
        let ns = self
            .resolution
            .nanoseconds(u64::from(high) << 32 | u64::from(low));
        WallNanos(ns.saturating_add_signed(self.offset_ns))
    }
}

/// Reads numbers in the order of the section.
#[derive(Copy, Clone)]
struct Fields<'a> {
    bytes: &'a [u8],
    swapped: bool,
}

impl<'a> Fields<'a> {
    #[inline]
    fn u16(self, at: usize) -> Option<u16> {
        let octets = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.swapped {
            u16::from_be_bytes(octets)
        } else {
            u16::from_le_bytes(octets)
        })
    }

    #[inline]
    fn u32(self, at: usize) -> Option<u32> {
        let octets = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.swapped {
            u32::from_be_bytes(octets)
        } else {
            u32::from_le_bytes(octets)
        })
    }

    /// The options from `at` on. A list that breaks ends there: what came before counts,
    /// since the block's own lengths are right.
    fn options(self, mut at: usize) -> impl Iterator<Item = (u16, Fields<'a>)> {
        std::iter::from_fn(move || {
            let code = self.u16(at)?;
            let length = usize::from(self.u16(at + 2)?);
            let bytes = self.bytes.get(at + 4..)?.get(..length)?;
            at += 4 + length.next_multiple_of(4);
            // opt_endofopt
            (code != 0).then_some((code, Fields { bytes, ..self }))
        })
    }
}

/// Whether a file (its first four octets are enough) is of this format; the type of the
/// section header block reads the same in both byte orders.
pub(super) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&SECTION.to_le_bytes())
}

impl Section {
    pub(super) fn links(&self) -> &[LinkType] {
        &self.links
    }

    /// Fills a batch from whole blocks at the beginning of `bytes`.
    pub(super) fn walk<'a>(&mut self, bytes: &'a [u8], frames: &mut [Frame<'a>; BATCH]) -> Walked {
        let mut used = 0;
        let mut filled = 0;
        let stop = loop {
            let Some(place) = frames.get_mut(filled) else {
                break None;
            };
            let rest = bytes.get(used..).unwrap_or_default();
            match self.block(rest) {
                Ok((length, frame)) => {
                    used += length;
                    if let Some(frame) = frame {
                        *place = frame;
                        filled += 1;
                    }
                }
                Err(stop) => break Some(stop),
            }
        };
        Walked {
            used,
            frames: filled,
            stop,
        }
    }

    /// One block: its length, and the frame if it has one.
    #[inline]
    fn block<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Frame<'a>>), Stop> {
        let needs = |bytes| Stop::Needs {
            bytes,
            cut: "the file ends within a block",
        };
        let fields = Fields {
            bytes,
            swapped: self.swapped,
        };
        let (Some(mut kind), Some(mut length)) = (fields.u32(0), fields.u32(4)) else {
            return Err(needs(8));
        };
        let mut swapped = self.swapped;
        if kind == SECTION {
            // Its length can be read only when its byte order is known.
            let order = Fields {
                bytes,
                swapped: false,
            }
            .u32(8)
            .ok_or(needs(12))?;
            swapped = match order {
                BYTE_ORDER => false,
                order if order.swap_bytes() == BYTE_ORDER => true,
                _ => return Err(Stop::Corrupt("a section without byte order")),
            };
            let fields = Fields { bytes, swapped };
            (kind, length) = (SECTION, fields.u32(4).ok_or(needs(8))?);
        }
        // Section 3.1: "This value MUST be a multiple of 4."
        if length < 12 || length % 4 != 0 {
            return Err(Stop::Corrupt("a block of impossible length"));
        }
        let whole = length as usize;
        if whole > BLOCK_MAX {
            return Err(match kind {
                SECTION | INTERFACE | PACKET | SIMPLE_PACKET | ENHANCED_PACKET => {
                    Stop::Corrupt("a block of impossible length")
                }
                _ => Stop::Skip(u64::from(length)),
            });
        }
        let Some(block) = bytes.get(..whole) else {
            return Err(needs(whole));
        };
        let block = Fields {
            bytes: block,
            swapped,
        };
        if block.u32(whole - 4) != Some(length) {
            return Err(Stop::Corrupt("a block whose two lengths differ"));
        }
        let body = Fields {
            bytes: block.bytes.get(8..whole - 4).unwrap_or_default(),
            swapped,
        };
        let short = Stop::Corrupt("a block too short for what it is");
        let frame = match kind {
            ENHANCED_PACKET => Some(self.enhanced(body).ok_or(short)??),
            SIMPLE_PACKET => Some(self.simple(body).ok_or(short)??),
            PACKET => Some(self.packet(body).ok_or(short)??),
            INTERFACE => {
                self.interface(body).ok_or(short)??;
                None
            }
            SECTION => {
                self.swapped = swapped;
                self.interfaces.clear();
                None
            }
            _ => None,
        };
        if let Some(frame) = frame {
            self.last = frame.at;
        }
        Ok((whole, frame))
    }

    /// Section 4.2. `None`: too short.
    fn interface(&mut self, body: Fields<'_>) -> Option<Result<(), Stop>> {
        let link = LinkType::from_pcap(body.u16(0)?);
        let mut interface = Interface {
            link,
            snaplen: body.u32(4)?,
            // "If this option is not present, a resolution of 10^-6 is assumed".
            resolution: Resolution::Nanoseconds(1000),
            offset_ns: 0,
        };
        for (code, value) in body.options(8) {
            match (code, value.bytes) {
                // if_tsresol
                (9, &[octet]) => interface.resolution = Resolution::parse(octet),
                // if_tsoffset: 64 bits, signed, seconds.
                (14, octets) => {
                    if let Ok(octets) = <[u8; 8]>::try_from(octets) {
                        let seconds = if value.swapped {
                            i64::from_be_bytes(octets)
                        } else {
                            i64::from_le_bytes(octets)
                        };
                        interface.offset_ns = seconds.saturating_mul(1_000_000_000);
                    }
                }
                _ => {}
            }
        }
        if self.interfaces.len() >= INTERFACES_MAX {
            return Some(Err(Stop::Corrupt("more interfaces than can be")));
        }
        self.interfaces.push(interface);
        if !self.links.contains(&link) {
            self.links.push(link);
        }
        Some(Ok(()))
    }

    fn of(&self, number: u32) -> Result<&Interface, Stop> {
        self.interfaces.get(number as usize).ok_or(Stop::Corrupt(
            "a packet of an interface that was not described",
        ))
    }

    /// Section 4.3.
    #[inline]
    fn enhanced<'a>(&self, body: Fields<'a>) -> Option<Result<Frame<'a>, Stop>> {
        self.timed(body, body.u32(0)?)
    }

    /// Appendix A, obsolete: the drops count shares the word of the interface.
    fn packet<'a>(&self, body: Fields<'a>) -> Option<Result<Frame<'a>, Stop>> {
        self.timed(body, u32::from(body.u16(0)?))
    }

    /// What both have after the interface: time, lengths, octets, options.
    #[inline]
    fn timed<'a>(&self, body: Fields<'a>, interface: u32) -> Option<Result<Frame<'a>, Stop>> {
        let interface = match self.of(interface) {
            Ok(interface) => interface,
            Err(stop) => return Some(Err(stop)),
        };
        let (high, low) = (body.u32(4)?, body.u32(8)?);
        let (captured, original) = (body.u32(12)?, body.u32(16)?);
        let length = captured as usize;
        if length > CAPTURED_MAX {
            return Some(Err(Stop::Corrupt("a record of impossible length")));
        }
        let bytes = body.bytes.get(20..)?.get(..length)?;
        let options = 20 + length.next_multiple_of(4);
        let mut passage = Passage::Unknown;
        if options < body.bytes.len() {
            for (code, value) in body.options(options) {
                // epb_flags (pack_flags has the same code): bits 0 and 1 are the direction.
                if code == 2
                    && let Some(flags) = value.u32(0)
                {
                    passage = match flags & 3 {
                        1 => Passage::Received,
                        2 => Passage::Sent,
                        _ => Passage::Unknown,
                    };
                }
            }
        }
        Some(Ok(Frame {
            bytes,
            original_len: original.max(captured),
            at: interface.time(high, low),
            segment_bytes: 0,
            link: interface.link,
            passage,
        }))
    }

    /// Section 4.4: no captured length ("the SnapLen value MUST be used"), no time, always of
    /// the first interface.
    fn simple<'a>(&self, body: Fields<'a>) -> Option<Result<Frame<'a>, Stop>> {
        let interface = match self.of(0) {
            Ok(interface) => interface,
            Err(stop) => return Some(Err(stop)),
        };
        let original = body.u32(0)?;
        let octets = body.bytes.get(4..)?;
        // 0: "there is no limit".
        let limit = match interface.snaplen {
            0 => original,
            snaplen => original.min(snaplen),
        };
        let bytes = octets.get(..limit as usize)?;
        Some(Ok(Frame {
            bytes,
            original_len: original,
            at: self.last,
            segment_bytes: 0,
            link: interface.link,
            passage: Passage::Unknown,
        }))
    }
}
