//! TCP (RFC 9293) and its options: timestamps and window scale (RFC 7323), SACK (RFC 2018),
//! DSACK (RFC 2883).

use super::ipv4::Ip;
use super::span::Span;
use super::{TcpHeader, Undecoded};

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Source port, destination port, what the header says, and its length.
pub(super) fn parse(span: &Span<'_>, ip: &Ip) -> Result<(u16, u16, TcpHeader, usize), Undecoded> {
    let at = ip.payload;
    ip.carries(20, Undecoded::TcpHeader)?;
    let h = span.array::<20>(at)?;
    let header_len = usize::from(h[12] >> 4) * 4;
    if header_len < 20 {
        return Err(Undecoded::TcpHeader);
    }
    ip.carries(header_len, Undecoded::TcpHeader)?;
    let mut header = fixed(h);
    if header_len > 20 {
        let captured = span.bytes.get(at + 20..).unwrap_or_default();
        let options = captured.get(..header_len - 20);
        if options.is_none() {
            header.options |= TcpHeader::CUT;
        }
        read_options(&mut header, options.unwrap_or(captured));
    }
    let [source, destination] = ports(h);
    Ok((source, destination, header, header_len))
}

/// The two ports.
#[inline(always)]
pub(super) fn ports(h: &[u8; 20]) -> [u16; 2] {
    [
        u16::from_be_bytes([h[0], h[1]]),
        u16::from_be_bytes([h[2], h[3]]),
    ]
}

/// What is in every header.
#[inline(always)]
pub(super) fn fixed(h: &[u8; 20]) -> TcpHeader {
    TcpHeader {
        seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
        ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
        tsval: 0,
        tsecr: 0,
        sack: (0, 0),
        window: u16::from_be_bytes([h[14], h[15]]),
        flags: h[13],
        options: 0,
        mss: 0,
        scale: 0,
    }
}

/// RFC 9293 section 3.1: kind alone, or kind, length and value. The list stops counting where
/// a length leads outside of it.
#[inline(never)]
pub(super) fn read_options(header: &mut TcpHeader, mut options: &[u8]) {
    loop {
        let (kind, size) = match *options {
            [] | [END, ..] => return,
            [NOP, ref rest @ ..] => {
                options = rest;
                continue;
            }
            [kind, size, ..] if size >= 2 => (kind, usize::from(size)),
            _ => break,
        };
        let Some((option, rest)) = options.split_at_checked(size) else {
            break;
        };
        options = rest;
        let found = match (kind, option) {
            (MSS, &[_, _, a, b]) => {
                header.mss = u16::from_be_bytes([a, b]);
                TcpHeader::MSS
            }
            (SCALE, &[_, _, shift]) => {
                header.scale = shift;
                TcpHeader::SCALE
            }
            (SACK_PERMITTED, [_, _]) => TcpHeader::SACK_PERMITTED,
            (TIMESTAMPS, &[_, _, a, b, c, d, e, f, g, h]) => {
                header.tsval = u32::from_be_bytes([a, b, c, d]);
                header.tsecr = u32::from_be_bytes([e, f, g, h]);
                TcpHeader::TIMESTAMPS
            }
            (SACK, [_, _, blocks @ ..]) => match sack(blocks, header.ack) {
                Some((first, duplicate)) => {
                    header.sack = first;
                    TcpHeader::SACK | duplicate
                }
                None => TcpHeader::CUT,
            },
            (MSS | SCALE | SACK_PERMITTED | TIMESTAMPS, _) => TcpHeader::CUT,
            _ => 0,
        };
        header.options |= found;
    }
    header.options |= TcpHeader::CUT;
}

/// The first block, and whether it reports a duplicate. RFC 2883 section 4: its octets are
/// below the cumulative acknowledgement, or inside the second block.
fn sack(blocks: &[u8], ack: u32) -> Option<((u32, u32), u8)> {
    let (blocks, []) = blocks.as_chunks::<8>() else {
        return None;
    };
    let mut blocks = blocks.iter().map(|&[a, b, c, d, e, f, g, h]| {
        (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        )
    });
    let first = blocks.next()?;
    let before = |a: u32, b: u32| (a.wrapping_sub(b) as i32) < 0;
    let acknowledged = before(first.0, ack) && !before(ack, first.1);
    let inside = blocks
        .next()
        .is_some_and(|second| !before(first.0, second.0) && !before(second.1, first.1));
    let duplicate = if acknowledged || inside {
        TcpHeader::DSACK
    } else {
        0
    };
    Some((first, duplicate))
}
