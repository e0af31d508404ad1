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
        let seen = &block[block::HEADER_AT..];
        let mut cursor = Cursor::new(seen);
        let frame = cursor.next(seen, true).expect("a frame");
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
        assert!(cursor.next(seen, true).is_none() && cursor.is_done());
        assert_eq!(cursor.malformed(), 0);
    }
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
    let (mut lent, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut block = vec![0; BLOCK];
        let frames = 1 + random() % 12;
        write_block(&mut block, 1, frames as u8);
        for _ in 0..random() % 4 {
            // A header byte of some frame, mostly.
            let at = 8 + (random() % (frames * 104 + 40)) as usize;
            block[at] = random() as u8;
        }
        let seen = &block[block::HEADER_AT..];
        let promised = u32::from_ne_bytes(*block[12..].first_chunk().expect("four"));
        let mut cursor = Cursor::new(seen);
        let mut count = 0;
        while let Some(frame) = cursor.next(seen, true) {
            let inside = seen.as_ptr_range();
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
}
