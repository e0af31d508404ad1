//! Writing eBPF instructions: their encoding, and jumps to places that are not known yet.
//!
//! Names are those of linux/bpf.h and linux/bpf_common.h without `BPF_`.

use super::TranslateError;

pub(super) const R0: u8 = 0;
pub(super) const R1: u8 = 1;
pub(super) const R2: u8 = 2;
pub(super) const R3: u8 = 3;
pub(super) const R4: u8 = 4;
pub(super) const R5: u8 = 5;
pub(super) const CONTEXT: u8 = 6;
pub(super) const A: u8 = 7;
pub(super) const X: u8 = 8;
pub(super) const FRAME: u8 = 10;

/// Where loads go, from the frame pointer.
pub(super) const BUFFER: i16 = -8;
/// Scratch word 0.
pub(super) const SCRATCH: i16 = -72;
pub(super) const OTHER_BUFFER: i16 = -80;

// Offsets in struct __sk_buff.
pub(super) const LEN: i16 = 0;
pub(super) const PKT_TYPE: i16 = 4;
pub(super) const IFINDEX: i16 = 40;

pub(super) const PACKET_OUTGOING: i32 = 4;
/// The loopback device is the first of every network namespace.
pub(super) const LOOPBACK_INDEX: i32 = 1;

pub(super) const MAP_LOOKUP: i32 = 1;
pub(super) const SMP_PROCESSOR_ID: i32 = 8;
pub(super) const SKB_LOAD_BYTES: i32 = 26;
pub(super) const SKB_LOAD_BYTES_RELATIVE: i32 = 68;
/// `BPF_HDR_START_NET`.
pub(super) const START_NET: u32 = 1;

// Classes and modes (linux/bpf_common.h, linux/bpf.h).
pub(super) const LDX: u8 = 0x01;
pub(super) const ST: u8 = 0x02;
pub(super) const STX: u8 = 0x03;
pub(super) const ALU: u8 = 0x04;
pub(super) const JMP: u8 = 0x05;
pub(super) const JMP32: u8 = 0x06;
pub(super) const ALU64: u8 = 0x07;
pub(super) const W: u8 = 0x00;
pub(super) const H: u8 = 0x08;
pub(super) const B: u8 = 0x10;
pub(super) const DW: u8 = 0x18;
pub(super) const MEM: u8 = 0x60;
pub(super) const ATOMIC: u8 = 0xc0;
pub(super) const BY_X: u8 = 0x08;
pub(super) const MOV: u8 = 0xb0;
pub(super) const ADD: u8 = 0x00;
pub(super) const AND: u8 = 0x50;
pub(super) const LSH: u8 = 0x60;
pub(super) const XOR: u8 = 0xa0;
pub(super) const TO_BE: u8 = 0xd8;
pub(super) const JA: u8 = 0x00;
pub(super) const JEQ: u8 = 0x10;
pub(super) const JGT: u8 = 0x20;
pub(super) const JGE: u8 = 0x30;
pub(super) const JSET: u8 = 0x40;
pub(super) const JNE: u8 = 0x50;
pub(super) const JLT: u8 = 0xa0;
pub(super) const JLE: u8 = 0xb0;
pub(super) const CALL: u8 = 0x80;
pub(super) const EXIT: u8 = 0x90;

/// Where a jump goes: a classic instruction of the program being translated, the branch that
/// counts and rejects, or the program for frames without a link header.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Classic(usize),
    Reject,
    Raw,
}

pub(super) struct Emitter {
    pub(super) out: Vec<u64>,
    pub(super) jumps: Vec<(usize, Label)>,
}

impl Emitter {
    pub(super) fn emit(&mut self, code: u8, destination: u8, source: u8, offset: i16, value: i32) {
        let registers = u64::from(destination | source << 4) << 8;
        let offset = u64::from(offset.cast_unsigned()) << 16;
        let value = u64::from(value.cast_unsigned()) << 32;
        self.out.push(u64::from(code) | registers | offset | value);
    }

    pub(super) fn constant(&mut self, register: u8, value: u32) {
        self.emit(ALU | MOV, register, 0, 0, value.cast_signed());
    }

    pub(super) fn copy(&mut self, to: u8, from: u8) {
        self.emit(ALU | MOV | BY_X, to, from, 0, 0);
    }

    pub(super) fn address(&mut self, register: u8, offset: i16) {
        self.emit(ALU64 | MOV | BY_X, register, FRAME, 0, 0);
        self.emit(ALU64 | ADD, register, 0, 0, i32::from(offset));
    }

    pub(super) fn call(&mut self, helper: i32) {
        self.emit(JMP | CALL, 0, 0, 0, helper);
    }

    pub(super) fn jump(&mut self, code: u8, register: u8, source: u8, value: i32, label: Label) {
        self.jumps.push((self.out.len(), label));
        self.emit(code, register, source, 0, value);
    }

    /// `size` octets at R2 into `register`; past the end: rejected.
    pub(super) fn load(&mut self, size: u8, register: u8) {
        self.emit(ALU64 | MOV | BY_X, R1, CONTEXT, 0, 0);
        self.address(R3, BUFFER);
        let (octets, bits) = match size {
            W => (4, 32),
            H => (2, 16),
            _ => (1, 0),
        };
        self.constant(R4, octets);
        self.call(SKB_LOAD_BYTES);
        self.jump(JMP | JNE, R0, 0, 0, Label::Reject);
        self.emit(LDX | size | MEM, register, FRAME, BUFFER, 0);
        if bits > 0 {
            self.emit(ALU | TO_BE, register, 0, 0, bits);
        }
    }

    /// Fills in the jumps that go to `label`s known by now.
    pub(super) fn land(
        &mut self,
        known: impl Fn(Label) -> Option<usize>,
    ) -> Result<(), TranslateError> {
        let mut later = Vec::new();
        for (place, label) in std::mem::take(&mut self.jumps) {
            let Some(to) = known(label) else {
                later.push((place, label));
                continue;
            };
            let distance = to as i64 - place as i64 - 1;
            let distance = i16::try_from(distance).map_err(|_| TranslateError::TooFar)?;
            if let Some(instruction) = self.out.get_mut(place) {
                *instruction |= u64::from(distance.cast_unsigned()) << 16;
            }
        }
        self.jumps = later;
        Ok(())
    }
}
