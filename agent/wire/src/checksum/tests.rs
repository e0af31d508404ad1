use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

/// The example of RFC 1071 section 3: the sum is 0xddf2.
#[test]
fn rfc1071_example() {
    let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(internet(&octets), !0xddf2);
}

/// The example of RFC 1624 section 4, where the method of RFC 1141 gives 0xffff.
#[test]
fn rfc1624_example() {
    assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn odd_and_empty() {
    assert_eq!(internet(&[]), 0xffff);
    assert_eq!(internet(&[0x12]), !0x1200);
    assert_eq!(
        internet(&[0x12, 0x34, 0x56]),
        internet(&[0x12, 0x34, 0x56, 0])
    );
    // Nothing overflows: the longest packet of all ones.
    assert_eq!(internet(&vec![0xff; 65_535]), !0xff00);
}

#[test]
fn a_udp_checksum_of_zero_means_none() {
    let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let segment = [0x9c, 0x40, 0x03, 0x5e, 0, 8, 0, 0];
    assert!(verify_transport(v4, v4, 17, &segment));
    // RFC 8200 §8.1: "IPv6 receivers must discard UDP packets containing a zero checksum".
    assert!(!verify_transport(v6, v6, 17, &segment));
    // TCP and ICMPv6 have no such value.
    assert!(!verify_transport(v4, v4, 6, &segment));

    // A datagram whose sum is all ones: the source port makes up the difference.
    let mut segment = segment;
    let check = transport(v4, v4, 17, &segment);
    let port = u16_at(&segment, 0);
    let port = fold(u64::from(port) + u64::from(check));
    segment[..2].copy_from_slice(&port.to_be_bytes());
    assert_eq!(transport(v4, v4, 17, &segment), 0xffff);
}

proptest! {
    #[test]
    fn verify_finds_what_internet_made(mut octets in proptest::collection::vec(any::<u8>(), 2..100), flip in any::<prop::sample::Index>()) {
        octets[0] = 0;
        octets[1] = 0;
        let check = internet(&octets);
        octets[..2].copy_from_slice(&check.to_be_bytes());
        prop_assert!(verify(&octets));
        let at = flip.index(octets.len());
        octets[at] ^= 0x10;
        prop_assert!(!verify(&octets));
    }

    #[test]
    fn updates_agree_with_starting_over(
        octets in proptest::collection::vec(any::<u8>(), 40),
        at in 0_usize..16,
        new in proptest::collection::vec(any::<u8>(), 1..9),
    ) {
        // The packet has something else that is not zero, as every header has: with all
        // zeros the two forms of zero could differ.
        let mut octets = octets;
        octets[39] |= 1;
        let old_check = internet(&octets);
        let at = at * 2;
        let mut changed = octets.clone();
        // A changed odd octet at the end must be the packet's last; keep it even here.
        let new = &new[..new.len() & !1];
        changed[at..at + new.len()].copy_from_slice(new);
        changed[39] |= 1;
        let old = &octets[at..at + new.len()];
        let new = &changed[at..at + new.len()];
        prop_assert_eq!(update_bytes(old_check, old, new), internet(&changed));
        if let ([o1, o2, ..], [n1, n2, ..]) = (old, new) {
            let stepwise = update(
                old_check,
                u16::from_be_bytes([*o1, *o2]),
                u16::from_be_bytes([*n1, *n2]),
            );
            prop_assert_eq!(stepwise, update_bytes(old_check, &old[..2], &new[..2]));
        }
    }

    #[test]
    fn transport_round_trip(source: [u8; 16], destination: [u8; 16], mut segment in proptest::collection::vec(any::<u8>(), 8..100), v6: bool) {
        let address = |octets: [u8; 16]| if v6 {
            IpAddr::V6(octets.into())
        } else {
            IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        };
        let (source, destination) = (address(source), address(destination));
        for (protocol, at) in [(17, 6), (58, 2)] {
            segment[at..at + 2].fill(0);
            let check = transport(source, destination, protocol, &segment);
            segment[at..at + 2].copy_from_slice(&check.to_be_bytes());
            prop_assert!(verify_transport(source, destination, protocol, &segment));
            prop_assert!(!verify_transport(source, destination, protocol ^ 1, &segment));
        }
    }

    #[test]
    fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..50), other in proptest::collection::vec(any::<u8>(), 0..50), check: u16, protocol: u8) {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let _ = (verify(&octets), update_bytes(check, &octets, &other));
        let _ = verify_transport(v4, v6, protocol, &octets);
        let _ = transport(v4, v6, protocol, &octets);
    }
}
