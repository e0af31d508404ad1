//! Frames put together from the inside out.

pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const FROM_V6: &str = "2001:db8::1";

/// Timestamps as Linux writes them.
pub(super) const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7];

pub(super) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(super) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[2; 12], &kind.to_be_bytes(), payload])
}

pub(super) fn vlan(kind: u16, payload: &[u8]) -> Vec<u8> {
    join(&[&[0, 7], &kind.to_be_bytes(), payload])
}

/// With options of a multiple of four octets.
pub(super) fn tcp(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = (20 + options.len()) / 4;
    let head = [
        0x9c,
        0x40,
        1,
        0xbb,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        (words as u8) << 4,
        0x18,
        0x10,
        0,
        0,
        0,
        0,
        0,
    ];
    join(&[&head, options, payload])
}

pub(super) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    join(&[
        &40001u16.to_be_bytes(),
        &port.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
        payload,
    ])
}

pub(super) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, 0x4000, &[], payload)
}

/// With flags and fragment offset, and options of a multiple of four octets.
pub(super) fn ipv4_with(protocol: u8, place: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let total = ((header + payload.len()) as u16).to_be_bytes();
    let place = place.to_be_bytes();
    let head = [
        0x40 | (header / 4) as u8,
        0,
        total[0],
        total[1],
        0x12,
        0x34,
        place[0],
        place[1],
        61,
        protocol,
        0,
        0,
    ];
    join(&[&head, &[192, 0, 2, 1], &[198, 51, 100, 7], options, payload])
}

pub(super) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let address = |text: &str| {
        text.parse::<std::net::Ipv6Addr>()
            .expect("an address")
            .octets()
    };
    join(&[
        &[0x60, 0, 0, 0, length[0], length[1], next, 62],
        &address(FROM_V6),
        &address("2001:db8:1::7"),
        payload,
    ])
}

/// An extension header that has the common form, of eight octets.
pub(super) fn extension(next: u8, payload: &[u8]) -> Vec<u8> {
    join(&[&[next, 0, 1, 4, 0, 0, 0, 0], payload])
}

pub(super) fn fragment_header(next: u8, place: u16, payload: &[u8]) -> Vec<u8> {
    join(&[
        &[next, 0],
        &place.to_be_bytes(),
        &0xcafe_0001u32.to_be_bytes(),
        payload,
    ])
}

/// The IP packet that [`super::assert_usual`] knows.
pub(super) fn tcp_v4() -> Vec<u8> {
    ipv4(6, &tcp(&[], b"hello"))
}

pub(super) fn usual() -> Vec<u8> {
    ethernet(IPV4, &tcp_v4())
}

pub(super) fn vxlan(frame: &[u8]) -> Vec<u8> {
    join(&[&[8, 0, 0, 0, 0, 0x12, 0x34, 0], frame])
}

pub(super) fn geneve(kind: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    join(&[
        &[(options.len() / 4) as u8, 0],
        &kind.to_be_bytes(),
        &[0, 0x56, 0x78, 0],
        options,
        payload,
    ])
}

pub(super) fn gre(flags: u16, kind: u16, rest: &[u8]) -> Vec<u8> {
    join(&[&flags.to_be_bytes(), &kind.to_be_bytes(), rest])
}
