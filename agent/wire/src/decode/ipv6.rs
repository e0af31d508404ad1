//! IPv6 (RFC 8200) with extension headers, fragments, jumbograms (RFC 2675) and BIG TCP.

use base::Address;

use super::ipv4::{AUTHENTICATION, Ip, authentication_len, clip};
use super::span::Span;
use super::{Fragment, PacketFlags, Undecoded};

const HEADER: usize = 40;
/// RFC 8200 section 4.1 foresees seven; more is an attack or a mistake.
const MAX_EXTENSIONS: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// The option of the hop-by-hop header that replaces the length.
const JUMBO: u8 = 0xc2;

/// Reads the header at `at` and its extensions.
pub(super) fn parse(span: &Span<'_>, at: usize) -> Result<Ip, Undecoded> {
    let header = span.array::<HEADER>(at)?;
    let &[first, _, _, _, l0, l1, mut protocol, ttl, ..] = header;
    if first >> 4 != 6 {
        return Err(Undecoded::IpVersion);
    }
    // Routers do not fragment.
    let mut flags = PacketFlags::DONT_FRAGMENT;
    let available = span.end.saturating_sub(at + HEADER);
    let mut length = usize::from(u16::from_be_bytes([l0, l1]));
    if length == 0 && protocol != NO_NEXT_HEADER {
        length = match jumbo(span, at + HEADER, protocol)? {
            Some(length) => length,
            // BIG TCP without the option.
            None if available > usize::from(u16::MAX) => {
                flags = flags.with(PacketFlags::LENGTH_FROM_FRAME);
                available
            }
            None => return Err(Undecoded::IpLength),
        };
    }
    let (end, clipped) = clip(span, at + HEADER + length);
    flags = flags.with(clipped);
    let inside = span.until(end);
    let mut payload = at + HEADER;
    let mut fragment: Option<Fragment> = None;
    let mut seen = 0;
    // Behind the header of a later fragment is data, whatever Next Header says.
    while fragment.is_none_or(|fragment| fragment.offset == 0) {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let &[next, units] = inside.array(payload)?;
                protocol = next;
                (usize::from(units) + 1) * 8
            }
            AUTHENTICATION => {
                let &[next, units] = inside.array(payload)?;
                protocol = next;
                authentication_len(units)
            }
            FRAGMENT => {
                let &[next, _, p0, p1, id @ ..] = inside.array::<8>(payload)?;
                protocol = next;
                let place = u16::from_be_bytes([p0, p1]);
                // RFC 6946: an atomic fragment is whole.
                if place & 0xfff9 != 0 {
                    flags = flags.with(PacketFlags::FRAGMENT);
                    fragment = Some(Fragment {
                        id: u32::from_be_bytes(id),
                        offset: place & 0xfff8,
                        more: place & 1 != 0,
                    });
                }
                8
            }
            _ => break,
        };
        seen += 1;
        if seen > MAX_EXTENSIONS {
            return Err(Undecoded::IpExtensions);
        }
        payload += length;
        if payload > end {
            return Err(Undecoded::IpHeader);
        }
    }
    let address = |at: usize| span.array(at).copied().map(Address::v6);
    Ok(Ip {
        source: address(at + 8)?,
        destination: address(at + 24)?,
        v6: true,
        protocol,
        ttl,
        ip_id: 0,
        flags,
        ip_len: HEADER + length,
        payload,
        end,
        fragment,
    })
}

/// The length that a Jumbo Payload option gives. RFC 2675 section 2: only where the length
/// field is 0, only above 65 535, aligned to 4n + 2; it is the first option, which is where
/// Linux writes it.
fn jumbo(span: &Span<'_>, at: usize, protocol: u8) -> Result<Option<usize>, Undecoded> {
    if protocol != HOP_BY_HOP {
        return Ok(None);
    }
    let &[_, _, kind, size, length @ ..] = span.array::<8>(at)?;
    if (kind, size) != (JUMBO, 4) {
        return Ok(None);
    }
    match u32::from_be_bytes(length) {
        // With the header it has to fit 32 bits, as the packet of any link does.
        length @ 0x1_0000..=0xffff_ff00 => Ok(Some(length as usize)),
        _ => Err(Undecoded::IpLength),
    }
}
