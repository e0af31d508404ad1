//! The blocks of a pcapng file, in little-endian order.
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html>

use base::{Frame, LinkType, Passage, WallNanos};

use super::WriteOptions;
use crate::{DropReason, Drops};

/// Octets of the block that [`statistics`] writes.
pub(super) const STATISTICS: usize = 24 + 5 * 12 + 4;

/// The LINKTYPE number; `None`: not known which.
pub(super) const fn link_number(link: LinkType) -> Option<u16> {
    match link {
        LinkType::Ethernet => Some(1),
        LinkType::Raw => Some(101),
        LinkType::LinuxCooked => Some(113),
        LinkType::LinuxCooked2 => Some(276),
        LinkType::Loopback => Some(0),
        LinkType::Ppp => Some(9),
        LinkType::Other => None,
    }
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn put_halves(out: &mut Vec<u8>, first: u16, second: u16) {
    put(out, u32::from(second) << 16 | u32::from(first));
}

/// "The upper 32 bits [...] and the lower 32 bits", whatever the byte order.
fn put_time(out: &mut Vec<u8>, at: WallNanos) {
    put(out, (at.0 >> 32) as u32);
    put(out, at.0 as u32);
}

fn pad(out: &mut Vec<u8>, length: usize) {
    out.resize(out.len() + (length.next_multiple_of(4) - length), 0);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Words that a user gave may be long: what does not fit is cut.
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    put_halves(out, code, value.len() as u16);
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Writes type, both lengths, and between them what `body` writes.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out, kind);
    put(out, 0);
    body(out);
    let length = (out.len() - start + 4) as u32;
    put(out, length);
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Section 4.1, with shb_userappl.
pub(super) fn section(out: &mut Vec<u8>) {
    block(out, 0x0a0d_0d0a, |out| {
        put(out, 0x1a2b_3c4d);
        put_halves(out, 1, 0);
        // "-1: the size of the section is not specified".
        put(out, u32::MAX);
        put(out, u32::MAX);
        let application = concat!("netsonde ", env!("CARGO_PKG_VERSION"));
        option(out, 4, application.as_bytes());
        put(out, 0);
    });
}

/// Section 4.2: if_name, if_tsresol (nanoseconds), if_filter.
pub(super) fn interface(out: &mut Vec<u8>, link: u16, options: &WriteOptions) {
    block(out, 1, |out| {
        put_halves(out, link, 0);
        put(out, options.snaplen);
        option(out, 2, options.device.as_bytes());
        option(out, 9, &[9]);
        if !options.filter.is_empty() {
            // "The first octet [...] keeps a code of the filter used": 0 is the text of libpcap.
            option(out, 11, format!("\0{}", options.filter).as_bytes());
        }
        put(out, 0);
    });
}

/// Most octets that [`packet`] writes for so many of a frame.
pub(super) const fn packet_bytes(captured: usize) -> usize {
    32 + captured.next_multiple_of(4) + 12
}

/// Section 4.3, with epb_flags where the passage is known.
pub(super) fn packet(out: &mut Vec<u8>, interface: u32, frame: &Frame<'_>, octets: &[u8]) {
    block(out, 6, |out| {
        put(out, interface);
        put_time(out, frame.at);
        put(out, octets.len() as u32);
        put(out, frame.original_len);
        out.extend_from_slice(octets);
        pad(out, octets.len());
        let flags = match frame.passage {
            Passage::Unknown => return,
            Passage::Received => 1,
            Passage::Sent => 2,
        };
        put_halves(out, 2, 4);
        put(out, flags);
        put(out, 0);
    });
}

/// Section 4.6, of the first interface: isb_starttime, isb_endtime, isb_ifrecv,
/// isb_filteraccept, isb_osdrop.
pub(super) fn statistics(
    out: &mut Vec<u8>,
    begun: WallNanos,
    ended: WallNanos,
    seen: u64,
    drops: &Drops,
) {
    block(out, 5, |out| {
        put(out, 0);
        put_time(out, ended);
        for (code, at) in [(2, begun), (3, ended)] {
            put_halves(out, code, 8);
            put_time(out, at);
        }
        let accepted = seen.saturating_sub(drops.get(DropReason::Filtered));
        for (code, count) in [(4, seen), (6, accepted), (7, drops.lost())] {
            option(out, code, &count.to_le_bytes());
        }
        put(out, 0);
    });
}
