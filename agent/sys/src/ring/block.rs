//! One block of the ring: a list of frames in plain bytes.
//!
//! Owns: the position in the list, and the room of each frame that was found, which no other
//! frame shares. Every offset and length is checked against that room; a list that leads
//! outside of the block ends there, and what it still promised is counted.
//!
//! A frame's outermost VLAN tag is not in it but in its header: the kernel took it out
//! (`skb_vlan_untag`), or it was never put in (`__vlan_hwaccel_put_tag`). [`Found::whole`]
//! puts it where Ethernet has it, by moving the two addresses in front of it.

use std::ops::Range;

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
/// All that is read of a frame's header.
const HEADER: usize = FRAME_HEADER + ADDRESS;

/// The two addresses of an Ethernet frame.
const ADDRESSES: usize = 12;
/// A VLAN tag: its type and its control information (IEEE 802.1Q, 9.3).
pub(super) const TAG: usize = 4;
/// The type of a tag of which the kernel does not say it.
const ETH_P_8021Q: u16 = 0x8100;

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

fn u16_in(header: &[u8; HEADER], at: usize) -> u16 {
    match header.get(at..) {
        Some([one, two, ..]) => u16::from_ne_bytes([*one, *two]),
        _ => 0,
    }
}

fn u32_in(header: &[u8; HEADER], at: usize) -> u32 {
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

    /// What is left of a block.
    pub(super) fn rest<'b>(&self, block: &'b mut [u8]) -> &'b mut [u8] {
        block.get_mut(self.at..).unwrap_or_default()
    }

    /// The next frame, taken off the start of what is left; `None`: no more, or nothing that
    /// can be believed.
    #[inline]
    pub(super) fn next<'b>(&mut self, rest: &mut &'b mut [u8], vnet: bool) -> Option<Found<'b>> {
        while self.left > 0 {
            let here = std::mem::take(rest);
            let Some(next) = u32_at(here, 0).filter(|_| here.len() >= HEADER) else {
                break;
            };
            self.left -= 1;
            let next = next as usize;
            // The last frame of a block has 0 here, and nothing comes after it.
            let room = if next > 0 { next } else { here.len() };
            let (slot, behind) = here.split_at_mut(room.min(here.len()));
            *rest = behind;
            self.at = self.at.saturating_add(next);
            if next == 0 {
                self.malformed += self.left;
                self.left = 0;
            }
            match Found::new(slot, vnet) {
                Some(found) => return Some(found),
                None => self.malformed += 1,
            }
        }
        self.malformed += self.left;
        self.left = 0;
        None
    }
}

/// The VLAN tag that the kernel has beside a frame.
#[derive(Copy, Clone)]
struct Tag {
    kind: u16,
    control: u16,
}

/// A frame as the kernel left it in the ring.
pub(super) struct Found<'b> {
    /// From its header to the next one.
    slot: &'b mut [u8],
    start: usize,
    end: usize,
    tag: Option<Tag>,
    original_len: u32,
    at: WallNanos,
    segment_bytes: u16,
    link: LinkType,
    passage: Passage,
}

impl<'b> Found<'b> {
    #[inline]
    fn new(slot: &'b mut [u8], vnet: bool) -> Option<Self> {
        let header = slot.first_chunk::<HEADER>()?;
        let seconds = u64::from(u32_in(header, 4));
        let nanos = u64::from(u32_in(header, 8));
        let captured = u32_in(header, 12) as usize;
        let whole = u32_in(header, 16);
        let status = u32_in(header, 20);
        let link_at = usize::from(u16_in(header, 24));
        let network_at = usize::from(u16_in(header, 26));
        let link = link_of(u16_in(header, FRAME_HEADER + 8));
        let passage = match header.last() {
            Some(&libc::PACKET_OUTGOING) => Passage::Sent,
            // For neither end (promiscuous mode, a copy for a capture): as if read from a file.
            Some(&libc::PACKET_OTHERHOST) => Passage::Unknown,
            _ => Passage::Received,
        };
        let tag = if status & libc::TP_STATUS_VLAN_VALID == 0 || link != LinkType::Ethernet {
            None
        } else {
            // Room for it is what RingSocket::configure() asked the kernel for.
            link_at.checked_sub(HEADER + TAG)?;
            let named = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            Some(Tag {
                kind: if named {
                    u16_in(header, 36)
                } else {
                    ETH_P_8021Q
                },
                control: u32_in(header, 32) as u16,
            })
        };

        let end = link_at.checked_add(captured)?;
        slot.get(link_at..end)?;
        let segment_bytes = if vnet {
            let vnet = slot.get(link_at.checked_sub(VNET_HEADER)?..link_at)?;
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
        let skipped = skip.min(captured);
        let whole = whole.saturating_sub(u32::try_from(skip).ok()?);
        Some(Self {
            slot,
            start: link_at + skipped,
            end,
            tag,
            original_len: whole.max(u32::try_from(captured - skipped).ok()?),
            at: WallNanos(seconds * 1_000_000_000 + nanos),
            segment_bytes,
            link,
            passage,
        })
    }

    /// What a filter in the kernel would see: the frame without its outermost tag, and the
    /// control information of that beside it.
    #[inline]
    pub(super) fn seen(&self) -> (Frame<'_>, Option<u16>) {
        let bytes = self.slot.get(self.start..self.end).unwrap_or_default();
        (self.frame(bytes), self.tag.map(|tag| tag.control))
    }

    /// The frame with its tag in place; one that became longer by that is cut at `most`.
    #[inline]
    pub(super) fn whole(mut self, most: u32) -> Frame<'b> {
        let slot = std::mem::take(&mut self.slot);
        let bytes = if let Some(tag) = self.tag {
            self.original_len = self.original_len.saturating_add(TAG as u32);
            put_back(slot, self.start..self.end, tag, most as usize)
        } else {
            slot.get(self.start..self.end).unwrap_or_default()
        };
        self.frame(bytes)
    }

    #[inline]
    fn frame<'a>(&self, bytes: &'a [u8]) -> Frame<'a> {
        Frame {
            bytes,
            original_len: self.original_len,
            at: self.at,
            segment_bytes: self.segment_bytes,
            link: self.link,
            passage: self.passage,
        }
    }
}

/// The frame at `place` with its tag: the addresses move into the room in front of it.
#[inline(never)]
fn put_back(slot: &mut [u8], place: Range<usize>, tag: Tag, most: usize) -> &[u8] {
    let first = place.start.saturating_sub(TAG);
    if place.len() >= ADDRESSES
        && let Some(room) = slot.get_mut(first..)
        && let Some(room) = room.first_chunk_mut::<{ TAG + ADDRESSES }>()
    {
        room.copy_within(TAG.., 0);
        let [.., a, b, c, d] = room;
        [*a, *b] = tag.kind.to_be_bytes();
        [*c, *d] = tag.control.to_be_bytes();
        let end = place.end.min(first.saturating_add(most));
        return slot.get(first..end).unwrap_or_default();
    }
    // Cut before the tag's place.
    slot.get(place).unwrap_or_default()
}
