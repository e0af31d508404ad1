//! Compiling with libpcap.

use pcap::{Capture, Linktype};

use super::Slot;
use super::program::{Instruction, Program};

/// The DLT number of a slot.
const fn dlt(slot: Slot) -> i32 {
    match slot {
        Slot::Ethernet => 1,
        Slot::Raw => 12,
        Slot::LinuxCooked => 113,
        Slot::LinuxCooked2 => 276,
        Slot::Ppp => 9,
        // libpcap takes DLT 0 to be in the order of this machine.
        Slot::LoopbackLittle if cfg!(target_endian = "little") => 0,
        Slot::LoopbackBig if cfg!(target_endian = "big") => 0,
        Slot::LoopbackLittle | Slot::LoopbackBig => 108,
    }
}

/// libpcap's program, or what it says.
pub(super) fn compile(text: &str, slot: Slot) -> Result<Program, String> {
    let says = |error: pcap::Error| match error {
        pcap::Error::PcapError(message) => message,
        other => other.to_string(),
    };
    let dead = Capture::dead(Linktype(dlt(slot))).map_err(says)?;
    let compiled = dead.compile(text, true).map_err(says)?;
    let instructions: Option<Vec<_>> = compiled
        .get_instructions()
        .iter()
        // The crate shows the fields of an instruction only as text.
        .map(|instruction| parse(&instruction.to_string()))
        .collect();
    let instructions = instructions.ok_or("its program cannot be read")?;
    Program::new(instructions).map_err(str::to_owned)
}

fn parse(text: &str) -> Option<Instruction> {
    let mut words = text.split(' ');
    Some(Instruction {
        code: words.next()?.parse().ok()?,
        jt: words.next()?.parse().ok()?,
        jf: words.next()?.parse().ok()?,
        k: words.next()?.parse().ok()?,
    })
}
