//! Frames as the kernel's filters see them: without their outermost VLAN tag.
//!
//! The kernel takes that tag out of a frame and keeps it beside. `vlan` in a filter then is a
//! question about what is kept there, and the tests behind it must not look further, since
//! nothing is in the way; without such a tag all is as in a file. So there are two programs, one
//! for each case, and what is kept beside the frame decides. The first is libpcap's for the same
//! words with the first `vlan` asking `SKF_AD_VLAN_TAG_PRESENT` (kernel: linux/filter.h), which
//! it cannot do by itself for frames of no open device.
//!
//! As libpcap does it for an open device, with two exceptions (libpcap 1.10.3): of a frame
//! without a tag beside it, what follows `vlan` is 4 octets further on, as in a file, also where
//! the test before `vlan` decided alone (`A and vlan or B`); and the number in `ip and vlan 7` is
//! compared with the tag, not with 1.

use super::{
    Compiler, NOTHING, Slot,
    program::{
        Instruction, Program, VLAN_TAG, VLAN_TAG_PRESENT,
        code::{ABS, B, JA, JEQ, JMP, LD, RET},
    },
};

/// Words behind which `vlan` is that of an inner frame, or nothing.
const INNER: [&str; 4] = ["geneve", "vxlan", "mpls", "pppoes"];

/// The program for both cases, with `whole` as that for frames as they are in a file, of which
/// `None` refuses all; `None`: the words do not ask for the tag, and `whole` does for both.
///
/// # Errors
/// What libpcap says.
pub(super) fn program(
    text: &str,
    whole: Option<&Program>,
    compiler: Compiler,
) -> Result<Option<Program>, String> {
    let Some(text) = beside(text) else {
        return Ok(None);
    };
    let beside = match compiler(&text, Slot::Ethernet) {
        Ok(program) => Some(program),
        Err(why) if why.contains(NOTHING) => None,
        Err(why) => return Err(why),
    };
    if beside.is_none() && whole.is_none() {
        return Err(NOTHING.to_owned());
    }
    let program = either(beside.as_ref(), whole).map_err(str::to_owned)?;
    Ok(Some(program))
}

/// The same words about a frame whose tag is beside it; `None`: they do not ask for it.
fn beside(text: &str) -> Option<String> {
    let (from, to) = words(text).find_map(|(from, to)| match text.get(from..to)? {
        "vlan" => Some(Some((from, to))),
        word if INNER.contains(&word) => Some(None),
        _ => None,
    })??;
    let (before, behind) = (text.get(..from)?, text.get(to..)?);
    let present = format!("ether[{VLAN_TAG_PRESENT}:1] = 1");
    Some(match number(behind) {
        None => format!("{before} ({present}) {behind}"),
        Some((number, behind)) => {
            format!("{before} ({present} and ether[{VLAN_TAG}:2] & 0xfff = {number}) {behind}")
        }
    })
}

/// The number at the start, which may be in parentheses, and what is behind it.
fn number(text: &str) -> Option<(&str, &str)> {
    let mut rest = text.trim_ascii_start();
    if let Some(inside) = rest.strip_prefix('(') {
        let (number, behind) = number(inside)?;
        return Some((number, behind.trim_ascii_start().strip_prefix(')')?));
    }
    let (_, to) = words(rest).next()?;
    let found = rest.get(..to)?;
    rest = rest.get(to..)?;
    found
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some((found, rest))
}

/// Places of words, as libpcap divides them (scanner.l); one with a backslash is no keyword.
fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let inside = |octet: &u8| octet.is_ascii_alphanumeric() || b"-_.:\\/".contains(octet);
    let octets = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + octets.get(at..)?.iter().position(inside)?;
        let word = octets.get(from..)?;
        at = from
            + word
                .iter()
                .position(|octet| !inside(octet))
                .unwrap_or(word.len());
        Some((from, at))
    })
}

/// One program of two: for frames whose tag is beside them, and for others; none refuses all.
fn either(beside: Option<&Program>, whole: Option<&Program>) -> Result<Program, &'static str> {
    let plain = |code, k| Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let nothing = [plain(RET, 0)];
    let or_nothing = |program: Option<&'_ Program>| {
        program.map_or(nothing.to_vec(), |some| some.instructions().to_vec())
    };
    let (beside, whole) = (or_nothing(beside), or_nothing(whole));
    let start = [
        plain(LD | B | ABS, VLAN_TAG_PRESENT),
        Instruction {
            jt: 1,
            ..plain(JMP | JEQ, 1)
        },
        plain(JMP | JA, beside.len() as u32),
    ];
    Program::new([&start[..], &beside, &whole].concat())
}

#[cfg(all(test, feature = "pcap"))]
mod tests;
