//! The classic format: a header of 24 octets, then records of 16 and the octets captured.
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html>

use base::{Frame, LinkType, Passage, WallNanos};

use super::{CAPTURED_MAX, Stop, Walked, cooked_passage};
use crate::BATCH;

/// Octets of the file header.
pub(super) const HEADER_BYTES: usize = 24;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Alexey Kuznetzov's: microseconds, and eight octets more in each record.
const MODIFIED: u32 = 0xa1b2_cd34;

/// What the file header says about the records.
#[derive(Copy, Clone, Debug)]
pub(super) struct Header {
    swapped: bool,
    modified: bool,
    ns_per_fraction: u64,
    link: LinkType,
}

/// Whether a file (its first four octets are enough) is of this format.
pub(super) fn begins(bytes: &[u8]) -> bool {
    magic(bytes).is_some()
}

/// The magic number in our order, and whether the file is of the other one.
fn magic(bytes: &[u8]) -> Option<(u32, bool)> {
    let little = u32::from_le_bytes(*bytes.first_chunk()?);
    [(little, false), (little.swap_bytes(), true)]
        .into_iter()
        .find(|(number, _)| matches!(*number, MICROSECONDS | NANOSECONDS | MODIFIED))
}

#[inline(always)]
fn word<const SWAPPED: bool>(octets: [u8; 4]) -> u32 {
    if SWAPPED {
        u32::from_be_bytes(octets)
    } else {
        u32::from_le_bytes(octets)
    }
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, swapped) = magic(bytes)?;
        let network = *bytes.get(20..HEADER_BYTES)?.first_chunk()?;
        let network = if swapped {
            word::<true>(network)
        } else {
            word::<false>(network)
        };
        Some(Self {
            swapped,
            modified: magic == MODIFIED,
            ns_per_fraction: if magic == NANOSECONDS { 1 } else { 1000 },
            // "LinkType": the lower 16 bits; above are the FCS length and reserved bits.
            link: LinkType::from_pcap((network & 0xffff) as u16),
        })
    }

    pub(super) const fn link(&self) -> LinkType {
        self.link
    }

    /// Fills a batch from whole records at the beginning of `bytes`.
    #[inline]
    pub(super) fn walk<'a>(&self, bytes: &'a [u8], frames: &mut [Frame<'a>; BATCH]) -> Walked {
        let walked = match (self.swapped, self.modified) {
            (false, false) => self.records::<false, 16>(bytes, frames),
            (true, false) => self.records::<true, 16>(bytes, frames),
            (false, true) => self.records::<false, 24>(bytes, frames),
            (true, true) => self.records::<true, 24>(bytes, frames),
        };
        if matches!(self.link, LinkType::LinuxCooked | LinkType::LinuxCooked2) {
            frames
                .iter_mut()
                .take(walked.frames)
                .for_each(cooked_passage);
        }
        walked
    }

    #[inline]
    fn records<'a, const SWAPPED: bool, const HEAD: usize>(
        &self,
        bytes: &'a [u8],
        frames: &mut [Frame<'a>; BATCH],
    ) -> Walked {
        let mut rest = bytes;
        let mut filled = 0;
        let mut stop = None;
        for frame in frames {
            let Some((head, behind)) = rest.split_first_chunk::<HEAD>() else {
                stop = Some(Stop::Needs {
                    bytes: HEAD,
                    cut: "the file ends within a record's header",
                });
                break;
            };
            let ([seconds, fraction, captured, original, ..], _) = head.as_chunks::<4>() else {
                break;
            };
            let [seconds, fraction, captured, original] =
                [*seconds, *fraction, *captured, *original].map(word::<SWAPPED>);
            let captured_bytes = captured as usize;
            let Some((octets, next)) = behind.split_at_checked(captured_bytes) else {
                stop = Some(if captured_bytes > CAPTURED_MAX {
                    IMPOSSIBLE
                } else {
                    Stop::Needs {
                        bytes: HEAD + captured_bytes,
                        cut: "the file ends within a record",
                    }
                });
                break;
            };
            if captured_bytes > CAPTURED_MAX {
                stop = Some(IMPOSSIBLE);
                break;
            }
            *frame = Frame {
                bytes: octets,
                original_len: original.max(captured),
                at: WallNanos(
                    u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.ns_per_fraction,
                ),
                segment_bytes: 0,
                link: self.link,
                passage: Passage::Unknown,
            };
            rest = next;
            filled += 1;
        }
        Walked {
            used: bytes.len() - rest.len(),
            frames: filled,
            stop,
        }
    }
}

const IMPOSSIBLE: Stop = Stop::Corrupt("a record of impossible length");
