//! Blocks written by hand into memory that stands in for the ring; the kernel's own are in
//! the lab's trials.

use std::net::UdpSocket;

use base::{LinkType, Passage};

use super::*;

const BLOCK: usize = 4096;
const ETHER: u16 = 1;

/// A frame as the kernel would write it at the start of `room`; returns its length with the
/// padding behind it.
fn write_frame(room: &mut [u8], payload: &[u8], device_type: u16, sent: bool, gso: u16) -> usize {
    let link_at = 48 + 20 + 12;
    let length = (link_at + payload.len()).next_multiple_of(8);
    let mut put = |at: usize, bytes: &[u8]| room[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(length as u32).to_ne_bytes());
    put(4, &7_u32.to_ne_bytes());
    put(8, &9_u32.to_ne_bytes());
    put(12, &(payload.len() as u32).to_ne_bytes());
    put(16, &(payload.len() as u32 + 100).to_ne_bytes());
    put(24, &(link_at as u16).to_ne_bytes());
    put(26, &(link_at as u16 + 14).to_ne_bytes());
    put(48 + 8, &device_type.to_ne_bytes());
    put(48 + 10, &[if sent { 4 } else { 0 }]);
    put(link_at - 10, &[0, u8::from(gso > 0), 0, 0]);
    put(link_at - 6, &gso.to_ne_bytes());
    put(link_at, payload);
    length
}

/// A block of frames whose payloads count up from `first`, handed over to us.
fn write_block(block: &mut [u8], first: u8, frames: u8) {
    let mut at = 48;
    let mut last = at;
    for i in 0..frames {
        last = at;
        at += write_frame(&mut block[at..], &[first + i; 20], ETHER, i % 2 == 1, 0);
    }
    block[last..last + 4].fill(0);
    block[12..16].copy_from_slice(&u32::from(frames).to_ne_bytes());
    block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
    block[8..12].copy_from_slice(&libc::TP_STATUS_USER.to_ne_bytes());
}

struct Fake {
    ring: Ring,
}

impl Fake {
    fn new(blocks: u32) -> Self {
        let options = RingOptions {
            block_bytes: BLOCK as u32,
            blocks,
            retire_ms: 1,
            vnet_header: true,
            cut: 4096,
        };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping; touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), options.bytes(), rights, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a descriptor");
        let ring = Ring {
            socket: RingSocket::from(std::os::fd::OwnedFd::from(socket)),
            start: start.cast(),
            options,
            block: 0,
            cursor: None,
            newest: None,
            malformed: 0,
        };
        Self { ring }
    }

    /// What the kernel does to a block that is its own.
    fn block(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: inside the mapping (callers: index below the number of blocks).
        let first = unsafe { self.ring.start.add(index * BLOCK) };
        // SAFETY: one block of the mapping; the ring is borrowed, so nothing reads it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(first, BLOCK) }
    }

    fn lend(&mut self, limit: usize) -> Vec<u8> {
        let mut seen = Vec::new();
        let lent = self.ring.lend::<4>(limit, |frames| {
            assert!(!frames.is_empty() && frames.len() <= 4);
            seen.extend(frames.iter().map(|frame| frame.bytes[0]));
        });
        assert_eq!(lent, seen.len());
        seen
    }
}

#[test]
fn blocks_are_lent_in_turn_and_given_back_when_read() {
    let mut fake = Fake::new(3);
    assert_eq!(fake.lend(100), []);
    let mut next = 0;
    // Twice around and one more.
    for turn in 0..7 {
        let index = turn % 3;
        write_block(fake.block(index), next, 6);
        let expected: Vec<u8> = (next..next + 6).collect();
        assert_eq!(fake.lend(5), expected[..5], "the limit holds");
        assert_ne!(fake.block(index)[8], 0, "not read to the end: still ours");
        assert_eq!(fake.lend(100), expected[5..]);
        assert_eq!(fake.block(index)[8], 0, "the kernel's again");
        assert_eq!(fake.lend(100), []);
        next += 6;
    }
    // Several at once.
    write_block(fake.block(1), 1, 2);
    write_block(fake.block(2), 3, 2);
    assert_eq!(fake.lend(100), [1, 2, 3, 4]);
    assert_eq!(fake.ring.newest(), Some(WallNanos(7_000_000_009)));
    assert_eq!(fake.ring.malformed(), 0);
}

#[test]
fn a_frame_says_what_it_is() {
    let mut block = vec![0; BLOCK];
    for (device_type, sent, gso, link) in [
        (ETHER, false, 0, LinkType::Ethernet),
        (772, true, 1448, LinkType::Ethernet),
        (0xfffe, true, 0, LinkType::Raw),
        (803, false, 0, LinkType::Other),
    ] {
        write_frame(&mut block[48..], &[0xa5; 60], device_type, sent, gso);
        block[12..16].copy_from_slice(&1_u32.to_ne_bytes());
        block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        let seen = &mut block[block::HEADER_AT..];
        let mut cursor = Cursor::new(seen);
        let mut rest = cursor.rest(seen);
        let frame = cursor.next(&mut rest, true).expect("a frame").whole(4096);
        let skipped = if link == LinkType::Raw { 14 } else { 0 };
        assert_eq!(frame.bytes, &[0xa5; 60][skipped..]);
        assert_eq!(frame.original_len as usize, 160 - skipped);
        assert_eq!(frame.at, WallNanos(7_000_000_009));
        assert_eq!((frame.segment_bytes, frame.link), (gso, link));
        let passage = if sent {
            Passage::Sent
        } else {
            Passage::Received
        };
        assert_eq!(frame.passage, passage);
        assert!(cursor.next(&mut rest, true).is_none() && cursor.is_done());
        assert_eq!(cursor.malformed(), 0);
    }
}

/// What the header says of a tag: its type and control information.
fn write_tag(frame: &mut [u8], status: u32, kind: u16, control: u16) {
    frame[20..24].copy_from_slice(&status.to_ne_bytes());
    frame[32..36].copy_from_slice(&u32::from(control).to_ne_bytes());
    frame[36..38].copy_from_slice(&kind.to_ne_bytes());
}

#[test]
fn a_tag_comes_back_to_its_place() {
    const BOTH: u32 = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
    let octets: Vec<u8> = (1..=60).collect();
    let tagged =
        |kind: [u8; 2], control: [u8; 2]| [&octets[..12], &kind, &control, &octets[12..]].concat();
    for (device_type, status, kind, control, expected) in [
        (ETHER, 0, 0x8100, 7, octets.clone()),
        (ETHER, BOTH, 0x8100, 7, tagged([0x81, 0], [0, 7])),
        (
            ETHER,
            BOTH,
            0x88a8,
            0xe123,
            tagged([0x88, 0xa8], [0xe1, 0x23]),
        ),
        // A priority tag of VLAN 0 is a tag.
        (ETHER, BOTH, 0x8100, 0, tagged([0x81, 0], [0, 0])),
        // The kernel did not say the type.
        (
            ETHER,
            libc::TP_STATUS_VLAN_VALID,
            0,
            9,
            tagged([0x81, 0], [0, 9]),
        ),
        // Nothing to put it into.
        (803, BOTH, 0x8100, 7, octets.clone()),
    ] {
        for cut in [4096, 64, 63, 61, 20] {
            let mut block = vec![0; BLOCK];
            // Neighbours on both sides: nothing of theirs may change.
            let mut at = 48;
            for (gso, payload) in [(0, &[0xa5; 20][..]), (1448, &octets), (3, &[0x5a; 20])] {
                if gso == 1448 {
                    write_frame(&mut block[at..], payload, device_type, true, gso);
                    write_tag(&mut block[at..], status, kind, control);
                    at += u32::from_ne_bytes(*block[at..].first_chunk().expect("four")) as usize;
                } else {
                    at += write_frame(&mut block[at..], payload, ETHER, false, gso);
                }
            }
            block[12..16].copy_from_slice(&3_u32.to_ne_bytes());
            block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
            let seen = &mut block[block::HEADER_AT..];
            let mut cursor = Cursor::new(seen);
            let mut rest = cursor.rest(seen);
            let mut found: Vec<_> = std::iter::from_fn(|| cursor.next(&mut rest, true)).collect();
            let in_kernel = (expected != octets).then_some(control);
            assert_eq!(found[1].seen().1, in_kernel);
            assert_eq!(found[1].seen().0.bytes, octets);
            assert_eq!(found[1].seen().0.original_len, 160);
            let frames: Vec<_> = found.drain(..).map(|found| found.whole(cut)).collect();
            // What was not made longer is not cut: that is the filter's.
            let kept = match in_kernel {
                Some(_) => expected.len().min(cut as usize),
                None => 60,
            };
            assert_eq!(frames[1].bytes, &expected[..kept]);
            assert_eq!(frames[1].original_len as usize, 100 + expected.len());
            assert_eq!(frames[1].segment_bytes, 1448);
            assert_eq!(frames[0].bytes, [0xa5; 20]);
            assert_eq!(frames[2].bytes, [0x5a; 20]);
            assert_eq!((frames[0].segment_bytes, frames[2].segment_bytes), (0, 3));
            assert_eq!(cursor.malformed(), 0);
        }
    }
}

#[test]
fn a_tag_has_no_place_in_a_frame_cut_before_it() {
    let mut block = vec![0; BLOCK];
    for (kept, expected) in [
        (11, &[3; 11][..]),
        (12, &[3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0x81, 0, 0, 7]),
    ] {
        write_frame(&mut block[48..], &vec![3; kept], ETHER, false, 0);
        write_tag(&mut block[48..], libc::TP_STATUS_VLAN_VALID, 0, 7);
        block[12..16].copy_from_slice(&1_u32.to_ne_bytes());
        block[16..20].copy_from_slice(&48_u32.to_ne_bytes());
        let seen = &mut block[block::HEADER_AT..];
        let mut cursor = Cursor::new(seen);
        let mut rest = cursor.rest(seen);
        let frame = cursor.next(&mut rest, true).expect("a frame").whole(4096);
        assert_eq!(frame.bytes, expected);
        assert_eq!(frame.original_len as usize, kept + 100 + 4);
    }
}

#[test]
fn only_what_is_wanted_is_lent_and_all_that_was_looked_at_counts() {
    let mut fake = Fake::new(2);
    write_block(fake.block(0), 0, 20);
    write_block(fake.block(1), 20, 20);
    let (mut seen, mut refused) = (Vec::new(), 0);
    for round in 1..=10 {
        let wanted = |frame: &Frame<'_>, _| {
            let wanted = frame.bytes[0].is_multiple_of(3);
            refused += u64::from(!wanted);
            wanted
        };
        fake.ring.lend_wanted::<4>(4, wanted, |frames| {
            seen.extend(frames.iter().map(|frame| frame.bytes[0]));
        });
        assert_eq!(seen.len() as u64 + refused, round * 4);
    }
    let expected: Vec<u8> = (0..40).filter(|first| first % 3 == 0).collect();
    assert_eq!(seen, expected);
    assert_eq!(fake.lend(100), []);
    assert_eq!((fake.block(0)[8], fake.block(1)[8]), (0, 0));
}

#[test]
fn whatever_the_ring_says_frames_lie_inside_and_are_accounted_for() {
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut lent, mut refused, mut tagged) = (0, 0, 0);
    for _ in 0..20_000 {
        let mut block = vec![0; BLOCK];
        let frames = 1 + random() % 12;
        write_block(&mut block, 1, frames as u8);
        for _ in 0..random() % 4 {
            // A header byte of some frame, mostly.
            let at = 8 + (random() % (frames * 104 + 40)) as usize;
            block[at] = random() as u8;
        }
        let promised = u32::from_ne_bytes(*block[12..].first_chunk().expect("four"));
        let seen = &mut block[block::HEADER_AT..];
        let inside = seen.as_ptr_range();
        let mut cursor = Cursor::new(seen);
        let mut rest = cursor.rest(seen);
        let mut count = 0;
        while let Some(found) = cursor.next(&mut rest, true) {
            tagged += u32::from(found.seen().1.is_some());
            let frame = found.whole(4096);
            let range = frame.bytes.as_ptr_range();
            assert!(inside.start <= range.start && range.end <= inside.end);
            assert!(frame.original_len as usize >= frame.bytes.len());
            count += 1;
        }
        assert!(cursor.is_done());
        assert_eq!(count + cursor.malformed(), promised);
        lent += u64::from(count);
        refused += u64::from(cursor.malformed() > 0);
    }
    assert!(lent > 10_000 && refused > 1_000, "{lent} {refused}");
    assert!(tagged > 100, "{tagged}");
}
