//! From the link header to the IP header: Ethernet, VLAN tags, MPLS, PPP, cooked headers.

use super::Undecoded;
use super::span::Span;

/// Tags and link headers in one frame or one tunnel; carriers stack two or three.
const MAX_STEPS: usize = 12;
/// Labels in one stack; segment routing stacks about ten.
const MAX_LABELS: usize = 16;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
pub(super) const MPLS: u16 = 0x8847;
/// By RFC 5332 the second codepoint says where the label comes from, not multicast.
const MPLS_UPSTREAM: u16 = 0x8848;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;
/// Before 802.1ad had a number.
const QINQ_OLD: u16 = 0x9100;
const ARP: u16 = 0x0806;
const PPPOE_SESSION: u16 = 0x8864;
/// Transparent Ethernet bridging: what GRE and Geneve call an Ethernet frame.
const BRIDGED: u16 = 0x6558;
/// Enhanced GRE's name of PPP (RFC 2637).
const GRE_PPP: u16 = 0x880b;
/// Below it the field is a length (802.3 clause 3.2.6).
const FIRST_TYPE: u16 = 0x0600;

/// What comes next.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Inside {
    Ethernet,
    /// What an EtherType announces.
    Type(u16),
    /// After MPLS labels.
    Labelled,
    Llc,
    Ppp,
    Cooked,
    Cooked2,
    Loopback,
    /// IPv4 or IPv6 by the first four bits.
    Ip,
    Ipv4,
    Ipv6,
}

/// Walks to the IP header: what it is in, whether it is IPv6's, and where it starts.
pub(super) fn to_ip<'a>(
    mut span: Span<'a>,
    mut inside: Inside,
    mut at: usize,
) -> Result<(Span<'a>, bool, usize), Undecoded> {
    for _ in 0..MAX_STEPS {
        (inside, at) = match inside {
            Inside::Ipv4 => return Ok((span, false, at)),
            Inside::Ipv6 => return Ok((span, true, at)),
            Inside::Ip => match span.u8(at)? >> 4 {
                4 => (Inside::Ipv4, at),
                6 => (Inside::Ipv6, at),
                _ => return Err(Undecoded::IpVersion),
            },
            Inside::Ethernet => (Inside::Type(span.u16(at + 12)?), at + 14),
            Inside::Type(PPPOE_SESSION) => {
                // RFC 2516 section 4: VER, TYPE, CODE, SESSION_ID, LENGTH.
                let length = span.u16(at + 4)?;
                span = span.until(at + 6 + usize::from(length));
                (Inside::Ppp, at + 6)
            }
            Inside::Type(number) => typed(&span, number, at)?,
            Inside::Labelled => labelled(&span, at)?,
            Inside::Llc => llc(&span, at)?,
            Inside::Ppp => ppp(&span, at)?,
            // Both have an EtherType: pcap-linktype(7), LINUX_SLL and LINUX_SLL2.
            Inside::Cooked => (cooked(span.u16(at + 14)?)?, at + 16),
            Inside::Cooked2 => {
                let &[high, low, ..] = span.array::<20>(at)?;
                (cooked(u16::from_be_bytes([high, low]))?, at + 20)
            }
            Inside::Loopback => (family(span.u32(at)?)?, at + 4),
        };
    }
    Err(Undecoded::LinkDepth)
}

fn typed(span: &Span<'_>, number: u16, at: usize) -> Result<(Inside, usize), Undecoded> {
    Ok(match number {
        IPV4 => (Inside::Ipv4, at),
        IPV6 => (Inside::Ipv6, at),
        VLAN | QINQ | QINQ_OLD => (Inside::Type(span.u16(at + 2)?), at + 4),
        MPLS | MPLS_UPSTREAM => {
            for label in 0..MAX_LABELS {
                let at = at + label * 4;
                // RFC 3032 section 2.1: the bit S ends the stack.
                if span.u32(at)? & 0x100 != 0 {
                    return Ok((Inside::Labelled, at + 4));
                }
            }
            return Err(Undecoded::LinkDepth);
        }
        BRIDGED => (Inside::Ethernet, at),
        GRE_PPP => (Inside::Ppp, at),
        ..FIRST_TYPE => (Inside::Llc, at),
        ARP | 0x8035 => return Err(Undecoded::Arp),
        0x88cc => return Err(Undecoded::Lldp),
        0x8808 => return Err(Undecoded::MacControl),
        0x8809 => return Err(Undecoded::SlowProtocol),
        0x888e => return Err(Undecoded::Eapol),
        0x88e5 => return Err(Undecoded::MacSec),
        0x88f7 => return Err(Undecoded::Ptp),
        0x8863 => return Err(Undecoded::PppoeDiscovery),
        _ => return Err(Undecoded::EtherType),
    })
}

/// Nothing says what is under a label: the first four bits do (RFC 4928 section 3), 0 being
/// the control word of a pseudowire (RFC 4385 section 3) or part of a MAC address.
fn labelled(span: &Span<'_>, at: usize) -> Result<(Inside, usize), Undecoded> {
    let first = span.u8(at)? >> 4;
    match first {
        4 => return Ok((Inside::Ipv4, at)),
        6 => return Ok((Inside::Ipv6, at)),
        // RFC 4385 section 5: the associated channel, no payload.
        1 => return Err(Undecoded::MplsPayload),
        _ => {}
    }
    if first == 0 && ethernet_like(span, at + 4) {
        Ok((Inside::Ethernet, at + 4))
    } else if ethernet_like(span, at) {
        Ok((Inside::Ethernet, at))
    } else if span.bytes.len() < at + 18 {
        Err(span.missing(at, 18))
    } else {
        Err(Undecoded::MplsPayload)
    }
}

/// Whether an Ethernet header here would announce something that is common.
fn ethernet_like(span: &Span<'_>, at: usize) -> bool {
    matches!(
        span.u16(at + 12),
        Ok(IPV4 | IPV6 | VLAN | QINQ | ARP | MPLS | PPPOE_SESSION)
    )
}

/// 802.2, and an EtherType by SNAP (RFC 1042).
fn llc(span: &Span<'_>, at: usize) -> Result<(Inside, usize), Undecoded> {
    match span.u16(at)? {
        0x4242 => Err(Undecoded::Stp),
        0xaaaa => match *span.array::<8>(at)? {
            [_, _, 3, 0, 0, 0, high, low] => {
                // A length in place of the type would go round for ever.
                match u16::from_be_bytes([high, low]) {
                    ..FIRST_TYPE => Err(Undecoded::Llc),
                    number => Ok((Inside::Type(number), at + 8)),
                }
            }
            _ => Err(Undecoded::Llc),
        },
        _ => Err(Undecoded::Llc),
    }
}

/// RFC 1661 section 2, with or without the HDLC address and control octets (RFC 1662), the
/// protocol in one octet or two (RFC 1661 section 6.5).
fn ppp(span: &Span<'_>, mut at: usize) -> Result<(Inside, usize), Undecoded> {
    if matches!(span.array(at), Ok([0xff, 0x03])) {
        at += 2;
    }
    let first = span.u8(at)?;
    let (protocol, at) = if first & 1 == 1 {
        (u16::from(first), at + 1)
    } else {
        (span.u16(at)?, at + 2)
    };
    match protocol {
        0x0021 => Ok((Inside::Ipv4, at)),
        0x0057 => Ok((Inside::Ipv6, at)),
        0x0281 | 0x0283 => Ok((Inside::Type(MPLS), at)),
        _ => Err(Undecoded::Ppp),
    }
}

/// A cooked header's protocol: an EtherType, or one of Linux's own numbers below
/// (include/uapi/linux/if_ether.h: `ETH_P_802_3` 1, `ETH_P_802_2` 4).
const fn cooked(number: u16) -> Result<Inside, Undecoded> {
    match number {
        1 => Err(Undecoded::Llc),
        4 => Ok(Inside::Llc),
        ..FIRST_TYPE => Err(Undecoded::EtherType),
        _ => Ok(Inside::Type(number)),
    }
}

/// A loopback frame's family in the order of the machine that wrote it; IPv6 has a number
/// with each system (24 NetBSD, OpenBSD; 28 FreeBSD; 30 macOS; 10 Linux).
const fn family(number: u32) -> Result<Inside, Undecoded> {
    let number = if number > 0xffff {
        number.swap_bytes()
    } else {
        number
    };
    match number {
        2 => Ok(Inside::Ipv4),
        10 | 24 | 28 | 30 => Ok(Inside::Ipv6),
        _ => Err(Undecoded::EtherType),
    }
}
