//! One block of the ring: a list of frames in plain bytes.
//!
//! Owns: the position in the list. Every offset and length in it is checked against the
//! block; a list that leads outside ends there, and what it still promised is counted.

use base::{Frame, LinkType, Passage, WallNanos};

/// Where the slice begins that is read here: behind version, offset of private data, and the
/// status word.
pub(super) const HEADER_AT: usize = 12;

/// `struct tpacket3_hdr` (include/uapi/linux/if_packet.h); `sockaddr_ll` follows it.
const FRAME_HEADER: usize = 48;
/// The part of `sockaddr_ll` that is read: family, protocol, index, type, packet type.
const ADDRESS: usize = 11;
/// `struct virtio_net_hdr`, which is directly in front of the frame.
const VNET_HEADER: usize = 10;

/// Where reading stands.
#[derive(Copy, Clone, Debug)]
pub(super) struct Cursor {
    /// Offset of the next frame's header in the slice.
    at: usize,
    left: u32,
    malformed: u32,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*found))
}

fn u16_in(header: &[u8; FRAME_HEADER + ADDRESS], at: usize) -> u16 {
    match header.get(at..) {
        Some([one, two, ..]) => u16::from_ne_bytes([*one, *two]),
        _ => 0,
    }
}

fn u32_in(header: &[u8; FRAME_HEADER + ADDRESS], at: usize) -> u32 {
    match header.get(at..) {
        Some([one, two, three, four, ..]) => u32::from_ne_bytes([*one, *two, *three, *four]),
        _ => 0,
    }
}

/// What frames of this device type begin with (include/uapi/linux/if_arp.h).
pub(super) fn link_of(device_type: u16) -> LinkType {
    match device_type {
        // ARPHRD_ETHER, ARPHRD_LOOPBACK
        1 | 772 => LinkType::Ethernet,
        // ARPHRD_PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE
        512 | 519 | 768 | 769 | 776 | 778 | 823 | 0xfffe => LinkType::Raw,
        _ => LinkType::Other,
    }
}

impl Cursor {
    /// At the first frame of a block, given without its first [`HEADER_AT`] bytes.
    pub(super) fn new(bytes: &[u8]) -> Self {
        // num_pkts and offset_to_first_pkt follow the status word.
        let first = u32_at(bytes, 4).unwrap_or(0) as usize;
        Self {
            at: first.wrapping_sub(HEADER_AT),
            left: u32_at(bytes, 0).unwrap_or(0),
            malformed: 0,
        }
    }

    /// Whether no frame is left.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// How many frames of the block could not be read.
    pub(super) fn malformed(&self) -> u32 {
        self.malformed
    }

    /// The next frame; `None`: no more, or nothing that can be believed.
    #[inline]
    pub(super) fn next<'b>(&mut self, block: &'b [u8], vnet: bool) -> Option<Frame<'b>> {
        while self.left > 0 {
            let Some(rest) = block.get(self.at..) else {
                break;
            };
            let Some(header) = rest.first_chunk::<{ FRAME_HEADER + ADDRESS }>() else {
                break;
            };
            self.left -= 1;
            let next = u32_in(header, 0) as usize;
            // The last frame of a block has 0 here, and nothing comes after it.
            let goes_on = next > 0 || self.left == 0;
            self.at = self.at.saturating_add(next);
            let frame = frame_of(rest, header, vnet);
            if !goes_on {
                self.malformed += self.left;
                self.left = 0;
            }
            match frame {
                Some(frame) => return Some(frame),
                None => self.malformed += 1,
            }
        }
        self.malformed += self.left;
        self.left = 0;
        None
    }
}

/// The frame whose header begins `rest`.
#[inline]
fn frame_of<'b>(
    rest: &'b [u8],
    header: &[u8; FRAME_HEADER + ADDRESS],
    vnet: bool,
) -> Option<Frame<'b>> {
    let seconds = u64::from(u32_in(header, 4));
    let nanos = u64::from(u32_in(header, 8));
    let captured = u32_in(header, 12) as usize;
    let whole = u32_in(header, 16);
    let link_at = usize::from(u16_in(header, 24));
    let network_at = usize::from(u16_in(header, 26));
    let link = link_of(u16_in(header, FRAME_HEADER + 8));
    let passage = match header.last() {
        Some(&libc::PACKET_OUTGOING) => Passage::Sent,
        // For neither end (promiscuous mode, a copy for a capture): as if read from a file.
        Some(&libc::PACKET_OTHERHOST) => Passage::Unknown,
        _ => Passage::Received,
    };

    let bytes = rest.get(link_at..link_at.checked_add(captured)?)?;
    let segment_bytes = if vnet {
        let vnet = rest.get(link_at.checked_sub(VNET_HEADER)?..link_at)?;
        // gso_type and gso_size; of flags, header length and checksum nothing is needed.
        match vnet {
            [_, kind, _, _, low, high, ..] if *kind != 0 => u16::from_ne_bytes([*low, *high]),
            _ => 0,
        }
    } else {
        0
    };
    // Before the IP header such a device has nothing that could be named.
    let skip = if link == LinkType::Raw {
        network_at.checked_sub(link_at)?
    } else {
        0
    };
    let bytes = bytes.get(skip.min(captured)..)?;
    let whole = whole.saturating_sub(u32::try_from(skip).ok()?);
    Some(Frame {
        bytes,
        original_len: whole.max(u32::try_from(bytes.len()).ok()?),
        at: WallNanos(seconds * 1_000_000_000 + nanos),
        segment_bytes,
        link,
        passage,
    })
}
