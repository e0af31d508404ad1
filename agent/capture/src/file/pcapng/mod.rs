//! pcapng: blocks in sections, each section with its own byte order and interfaces.
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>

mod fields;

use base::{Frame, LinkType, Passage, WallNanos};

use super::{CAPTURED_MAX, Stop, Walked, cooked_passage};
use crate::BATCH;
use fields::{Fields, Resolution};

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

/// For the tests, which reckon it in another way.
#[cfg(test)]
pub(super) fn nanoseconds(resolution: u8, units: u64) -> u64 {
    Resolution::parse(resolution).nanoseconds(units)
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

/// epb_flags (pack_flags has the same code): bits 0 and 1 are the direction.
fn passage(options: Fields<'_>) -> Passage {
    let flags = options
        .options(0)
        .find(|(code, _)| *code == 2)
        .and_then(|(_, value)| value.u32(0));
    match flags.unwrap_or(0) & 3 {
        1 => Passage::Received,
        2 => Passage::Sent,
        _ => Passage::Unknown,
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

    /// The common case at once, an enhanced packet block that is whole and right: fills
    /// in the frame, and returns what is behind it. Of anything else [`Section::block`] says what it is.
    #[inline]
    fn common<'a>(&self, bytes: &'a [u8], place: &mut Frame<'a>) -> Option<&'a [u8]> {
        let (head, body) = bytes.split_first_chunk::<28>()?;
        let fields = Fields {
            bytes: &[],
            swapped: self.swapped,
        };
        let (
            [
                kind,
                length,
                interface,
                high,
                low,
                captured_octets,
                original,
            ],
            _,
        ) = head.as_chunks::<4>()
        else {
            return None;
        };
        let (length, captured) = (fields.order(*length), fields.order(*captured_octets));
        let whole = length as usize;
        if fields.order(*kind) != ENHANCED_PACKET || !length.is_multiple_of(4) || whole > BLOCK_MAX
        {
            return None;
        }
        let (octets, rest) = body.split_at_checked(captured as usize)?;
        if octets.len() > CAPTURED_MAX {
            return None;
        }
        let (tail, behind) = rest.split_at_checked(whole.checked_sub(28 + octets.len())?)?;
        let (options, trailing) = tail.split_last_chunk::<4>()?;
        if fields.order(*trailing) != length {
            return None;
        }
        let interface = self.interfaces.get(fields.order(*interface) as usize)?;
        let padding = octets.len().wrapping_neg() % 4;
        let passage = match options.get(padding..) {
            None | Some([]) => Passage::Unknown,
            Some(bytes) => passage(Fields { bytes, ..fields }),
        };
        *place = Frame {
            bytes: octets,
            original_len: fields.order(*original).max(captured),
            at: interface.time(fields.order(*high), fields.order(*low)),
            segment_bytes: 0,
            link: interface.link,
            passage,
        };
        Some(behind)
    }

    /// Fills a batch from whole blocks at the beginning of `bytes`.
    pub(super) fn walk<'a>(&mut self, bytes: &'a [u8], frames: &mut [Frame<'a>; BATCH]) -> Walked {
        let mut rest = bytes;
        let mut filled = 0;
        let mut stop = None;
        for place in frames {
            // To the next block with a frame.
            let found = loop {
                if let Some(behind) = self.common(rest, place) {
                    rest = behind;
                    break true;
                }
                match self.block(rest, place) {
                    Ok((behind, true)) => {
                        rest = behind;
                        break true;
                    }
                    Ok((behind, false)) => rest = behind,
                    Err(why) => {
                        stop = Some(why);
                        break false;
                    }
                }
            };
            if !found {
                break;
            }
            cooked_passage(place);
            self.last = place.at;
            filled += 1;
        }
        Walked {
            used: bytes.len() - rest.len(),
            frames: filled,
            stop,
        }
    }

    /// One block: what is behind it, and whether it was a frame.
    #[inline]
    fn block<'a>(
        &mut self,
        bytes: &'a [u8],
        place: &mut Frame<'a>,
    ) -> Result<(&'a [u8], bool), Stop> {
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
        let Some((block, behind)) = bytes.split_at_checked(whole) else {
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
        match kind {
            ENHANCED_PACKET | PACKET => *place = self.timed(body, kind).ok_or(short)??,
            SIMPLE_PACKET => *place = self.simple(body).ok_or(short)??,
            INTERFACE => {
                self.interface(body).ok_or(short)??;
                return Ok((behind, false));
            }
            SECTION => {
                self.swapped = swapped;
                self.interfaces.clear();
                return Ok((behind, false));
            }
            _ => return Ok((behind, false)),
        }
        Ok((behind, true))
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

    /// Section 4.3; and appendix A, obsolete, where the drops count shares the word of the
    /// interface.
    #[inline]
    fn timed<'a>(&self, body: Fields<'a>, kind: u32) -> Option<Result<Frame<'a>, Stop>> {
        let (head, rest) = body.bytes.split_first_chunk::<20>()?;
        let ([interface, high, low, captured, original], _) = head.as_chunks::<4>() else {
            return None;
        };
        let [mut interface, high, low, captured, original] =
            [interface, high, low, captured, original].map(|octets| body.order(*octets));
        if kind == PACKET {
            interface = u32::from(body.u16(0)?);
        }
        let interface = match self.of(interface) {
            Ok(interface) => interface,
            Err(stop) => return Some(Err(stop)),
        };
        let length = captured as usize;
        if length > CAPTURED_MAX {
            return Some(Err(Stop::Corrupt("a record of impossible length")));
        }
        let bytes = rest.get(..length)?;
        let options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let passage = passage(Fields {
            bytes: options,
            ..body
        });
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
