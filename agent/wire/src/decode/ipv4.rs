//! IPv4 (RFC 791) with options, fragments and lengths of 0; what both versions have alike.

use base::Address;

use super::span::Span;
use super::{Fragment, PacketFlags, Undecoded};

/// RFC 4302, behind either version.
pub(super) const AUTHENTICATION: u8 = 51;

/// An IP header, its extensions included.
#[derive(Copy, Clone, Debug)]
pub(super) struct Ip {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) v6: bool,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) ip_id: u16,
    pub(super) flags: PacketFlags,
    pub(super) ip_len: usize,
    /// Where the layer above starts, and where the packet ends on the wire.
    pub(super) payload: usize,
    pub(super) end: usize,
    pub(super) fragment: Option<Fragment>,
}

impl Ip {
    /// Whether a header of so many octets fits.
    pub(super) fn carries(&self, octets: usize, otherwise: Undecoded) -> Result<(), Undecoded> {
        if self.end.saturating_sub(self.payload) >= octets {
            Ok(())
        } else if self.fragment.is_some() {
            Err(Undecoded::TinyFragment)
        } else {
            Err(otherwise)
        }
    }

    /// Whether the layer above starts in this packet.
    pub(super) fn is_first(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }
}

/// Reads the header at `at`.
pub(super) fn parse(span: &Span<'_>, at: usize) -> Result<Ip, Undecoded> {
    let header = span.array::<20>(at)?;
    let &[first, _, l0, l1, i0, i1, f0, f1, ttl, mut protocol, ..] = header;
    if first >> 4 != 4 {
        return Err(Undecoded::IpVersion);
    }
    let header_len = usize::from(first & 0x0f) * 4;
    if header_len < 20 {
        return Err(Undecoded::IpHeader);
    }
    let mut flags = PacketFlags::none();
    let available = span.end.saturating_sub(at);
    let mut ip_len = usize::from(u16::from_be_bytes([l0, l1]));
    if ip_len == 0 {
        // include/linux/ip.h, iph_totlen(): 0 where it does not fit (BIG TCP); and a tap
        // before a device that segments may see 0 with any length.
        ip_len = available;
        flags = flags.with(PacketFlags::LENGTH_FROM_FRAME);
    }
    if ip_len < header_len {
        return Err(Undecoded::IpLength);
    }
    let (end, clipped) = clip(span, at + ip_len);
    flags = flags.with(clipped);
    let place = u16::from_be_bytes([f0, f1]);
    if place & 0x4000 != 0 {
        flags = flags.with(PacketFlags::DONT_FRAGMENT);
    }
    let ip_id = u16::from_be_bytes([i0, i1]);
    let mut fragment = None;
    if place & 0x3fff != 0 {
        flags = flags.with(PacketFlags::FRAGMENT);
        fragment = Some(Fragment {
            id: u32::from(ip_id),
            // 13 bits of 8 octets each fit 16 bits.
            offset: (place & 0x1fff) << 3,
            more: place & 0x2000 != 0,
        });
    }
    let mut payload = at + header_len;
    if protocol == AUTHENTICATION && fragment.is_none_or(|fragment| fragment.offset == 0) {
        let inside = span.until(end);
        let &[next, units] = inside.array(payload)?;
        protocol = next;
        payload += authentication_len(units);
        if payload > end {
            return Err(Undecoded::IpHeader);
        }
    }
    if payload > end {
        return Err(Undecoded::Short);
    }
    let address = |at: usize| span.u32(at).map(Address::v4);
    Ok(Ip {
        source: address(at + 12)?,
        destination: address(at + 16)?,
        v6: false,
        protocol,
        ttl,
        ip_id,
        flags,
        ip_len,
        payload,
        end,
        fragment,
    })
}

/// The end of a packet that a length puts at `end`.
pub(super) fn clip(span: &Span<'_>, end: usize) -> (usize, PacketFlags) {
    if span.whole && end > span.end {
        (span.end, PacketFlags::CLIPPED)
    } else {
        (end, PacketFlags::none())
    }
}

/// RFC 4302 section 2.2: "in 32-bit words (4-byte units), minus "2"".
pub(super) const fn authentication_len(units: u8) -> usize {
    (units as usize + 2) * 4
}
