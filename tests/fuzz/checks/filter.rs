//! Any instructions and any words as a filter: no panic, no load from outside; words that
//! the built-in parser takes mean what libpcap makes of them.
//!
//! Input: one octet. 0: one octet, how many instructions of 8 octets follow, then a frame.
//! Otherwise words, a line feed, and a frame; the octet chooses the link type.

use base::{Frame, LinkType, WallNanos};
use capture::Filter;
use capture::filter::{Instruction, Program};

fn instructions(rest: &[u8]) {
    let Some((&count, rest)) = rest.split_first() else {
        return;
    };
    let (code, bytes) = rest.split_at(rest.len().min(usize::from(count) * 8));
    let (code, _) = code.as_chunks::<8>();
    let code: Vec<_> = code
        .iter()
        .map(|&[a, b, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_le_bytes([a, b]),
            jt,
            jf,
            k: u32::from_le_bytes([k0, k1, k2, k3]),
        })
        .collect();
    let Ok(program) = Program::new(code.clone()) else {
        return;
    };
    assert_eq!(program.instructions(), code);
    let frame = Frame::ethernet(bytes, WallNanos(0));
    let all = program.run(&frame);
    assert_eq!(program.run(&frame), all);
    // What returns a constant returns one of its own.
    let constant = code.iter().all(|one| one.code != 0x16);
    assert!(!constant || all == 0 || code.iter().any(|one| one.code & 7 == 6 && one.k == all));
}

fn words(kind: u8, rest: &[u8]) {
    let mut parts = rest.splitn(2, |octet| *octet == b'\n');
    let (Some(text), Some(bytes)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let words = [text.to_owned()];
    let Ok(ours) = Filter::built_in(&words, &[]) else {
        return;
    };
    // Only what it takes goes to libpcap, which would look names up.
    let theirs = Filter::compile(&words, &[]);
    let link = LinkType::ALL[usize::from(kind) % LinkType::COUNT];
    // Long enough that no load is from outside: libpcap orders them in its own way.
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().max(200), 0);
    for bytes in [bytes, &padded] {
        let frame = Frame {
            link,
            ..Frame::ethernet(bytes, WallNanos(0))
        };
        let matched = ours.matches(&frame);
        assert!(!matched || link != LinkType::Other);
        if bytes.len() < 200 {
            continue;
        }
        match &theirs {
            // The families of IPv6 on loopback differ by system: libpcap knows its own.
            Ok(theirs) if link != LinkType::Loopback => {
                assert_eq!(matched, theirs.matches(&frame), "{text}");
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.to_string().contains("rejects all packets"), "{error}");
                assert!(!matched || link == LinkType::Loopback, "{text}");
            }
        }
    }
}

pub(crate) fn check(data: &[u8]) {
    match data.split_first() {
        None => {}
        Some((0, rest)) => instructions(rest),
        Some((&kind, rest)) => words(kind, rest),
    }
}
