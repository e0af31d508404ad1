//! Classic BPF to eBPF.
//!
//! The same machine otherwise: A and X of 32 bits, 16 scratch words, loads in network byte
//! order (linux/filter.h; kernel: net/core/filter.c, bpf_convert_filter). Two things differ.
//! Loads are helper calls, not `BPF_LD_ABS`: a load past the end must end in the counting
//! branch, and `BPF_LD_ABS` leaves the program by itself. And the length returned is at most
//! the snaplen.
//!
//! Registers: R6 the context, R7 A, R8 X; the stack has a load buffer and the scratch words.

mod emit;

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Classic, FilterOptions, Programs, TranslateError};
use emit::*;

/// Which classic instructions can be reached: the verifier refuses those that cannot.
fn reachable(classic: &[Classic]) -> Result<Vec<bool>, TranslateError> {
    let mut reached = vec![false; classic.len()];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    // Jumps go forward only, so one pass is enough.
    for (at, instruction) in classic.iter().enumerate() {
        if !reached.get(at).copied().unwrap_or(false) {
            continue;
        }
        let skip: &[usize] = match (instruction.code & 7, instruction.code & 0xf0) {
            (5, 0) => &[instruction.k as usize],
            (5, _) => &[instruction.jt.into(), instruction.jf.into()],
            (6, _) => &[],
            _ => &[0],
        };
        for skip in skip {
            let next = at.saturating_add(1).saturating_add(*skip);
            *reached.get_mut(next).ok_or(TranslateError::Outside(at))? = true;
        }
    }
    Ok(reached)
}

/// Translates; `rejected` is the array that counts, one line for each CPU.
pub(super) fn translate(
    programs: Programs<'_>,
    options: FilterOptions,
    rejected: Option<BorrowedFd<'_>>,
) -> Result<Vec<u64>, TranslateError> {
    let mut emitter = Emitter {
        out: Vec::with_capacity(256),
        jumps: Vec::new(),
    };
    let out = &mut emitter;
    out.emit(ALU64 | MOV | BY_X, CONTEXT, R1, 0, 0);
    if options.loopback_once {
        out.emit(LDX | W | MEM, R0, CONTEXT, IFINDEX, 0);
        out.emit(JMP | JNE, R0, 0, 4, LOOPBACK_INDEX);
        out.emit(LDX | W | MEM, R0, CONTEXT, PKT_TYPE, 0);
        out.emit(JMP | JNE, R0, 0, 2, PACKET_OUTGOING);
        out.constant(R0, 0);
        out.emit(JMP | EXIT, 0, 0, 0, 0);
    }
    out.constant(A, 0);
    out.constant(X, 0);
    for word in 0..8 {
        out.emit(ST | DW | MEM, FRAME, 0, SCRATCH + word * 8, 0);
    }
    match programs {
        Programs::All => {
            out.constant(R0, options.snaplen);
            out.emit(JMP | EXIT, 0, 0, 0, 0);
        }
        Programs::One(classic) => program(out, Some(classic), options.snaplen)?,
        Programs::Either { ethernet, raw } => {
            which(out);
            program(out, ethernet, options.snaplen)?;
            let start = out.out.len();
            out.land(|label| (label == Label::Raw).then_some(start))?;
            program(out, raw, options.snaplen)?;
        }
    }
    let reject = out.out.len();
    if !out.jumps.is_empty() {
        count(out, rejected);
        out.constant(R0, 0);
        out.emit(JMP | EXIT, 0, 0, 0, 0);
        out.land(|_| Some(reject))?;
    }
    Ok(emitter.out)
}

/// Goes to [`Label::Raw`] if the frame begins with what the kernel takes for its network
/// header, and goes on if something is in front of that. A frame of less than 8 octets is
/// nothing either way.
fn which(out: &mut Emitter) {
    for (buffer, relative) in [(BUFFER, false), (OTHER_BUFFER, true)] {
        out.emit(ALU64 | MOV | BY_X, R1, CONTEXT, 0, 0);
        out.constant(R2, 0);
        out.address(R3, buffer);
        out.constant(R4, 8);
        out.constant(R5, START_NET);
        let helper = if relative {
            SKB_LOAD_BYTES_RELATIVE
        } else {
            SKB_LOAD_BYTES
        };
        out.call(helper);
    }
    out.emit(LDX | DW | MEM, R1, FRAME, BUFFER, 0);
    out.emit(LDX | DW | MEM, R2, FRAME, OTHER_BUFFER, 0);
    out.jump(JMP | JEQ | BY_X, R1, R2, 0, Label::Raw);
}

/// One classic program; none rejects.
fn program(
    out: &mut Emitter,
    classic: Option<&[Classic]>,
    snaplen: u32,
) -> Result<(), TranslateError> {
    let Some(classic) = classic else {
        out.jump(JMP | JA, 0, 0, 0, Label::Reject);
        return Ok(());
    };
    if classic.is_empty() || classic.len() > 4096 {
        return Err(TranslateError::Length(classic.len()));
    }
    let reached = reachable(classic)?;
    let mut at = vec![None; classic.len()];
    for (index, instruction) in classic.iter().enumerate() {
        if reached.get(index).copied().unwrap_or(false) {
            if let Some(place) = at.get_mut(index) {
                *place = Some(out.out.len());
            }
            one(out, index, *instruction, snaplen)?;
        }
    }
    // The next program's instructions have the same numbers: all of these are known now.
    out.land(|label| match label {
        Label::Classic(index) => at.get(index).copied().flatten(),
        Label::Reject | Label::Raw => None,
    })
}

/// Adds one to this CPU's line of the array.
fn count(out: &mut Emitter, array: Option<BorrowedFd<'_>>) {
    let Some(array) = array else { return };
    out.call(SMP_PROCESSOR_ID);
    out.emit(STX | W | MEM, FRAME, R0, BUFFER, 0);
    out.address(R2, BUFFER);
    // BPF_LD_IMM64 with BPF_PSEUDO_MAP_FD: two places.
    out.emit(0x18, R1, 1, 0, array.as_raw_fd());
    out.emit(0, 0, 0, 0, 0);
    out.call(MAP_LOOKUP);
    out.emit(JMP | JEQ, R0, 0, 2, 0);
    out.constant(R1, 1);
    out.emit(STX | DW | ATOMIC, R0, R1, 0, i32::from(ADD));
}

fn scratch(at: usize, k: u32) -> Result<i16, TranslateError> {
    match i16::try_from(k) {
        Ok(word @ 0..16) => Ok(SCRATCH + word * 4),
        _ => Err(TranslateError::Constant { at, k }),
    }
}

/// One reachable instruction.
fn one(out: &mut Emitter, at: usize, classic: Classic, snaplen: u32) -> Result<(), TranslateError> {
    let Classic { code, k, .. } = classic;
    let unknown = TranslateError::Unknown { at, code };
    let value = k.cast_signed();
    let size = (code & 0x18) as u8;
    match code {
        // ld [k], ldh, ldb; kernel data has "negative" offsets.
        0x20 | 0x28 | 0x30 if k >= 0xffff_f000 => ancillary(out, at, k)?,
        0x20 | 0x28 | 0x30 => {
            if k > i32::MAX as u32 {
                return Err(TranslateError::Constant { at, k });
            }
            out.constant(R2, k);
            out.load(size, A);
        }
        // ld [x + k] and the like
        0x40 | 0x48 | 0x50 => {
            out.copy(R2, X);
            out.emit(ALU | ADD, R2, 0, 0, value);
            out.load(size, A);
        }
        // ldx 4*([k]&0xf)
        0xb1 => {
            out.constant(R2, k);
            out.load(B, X);
            out.emit(ALU | AND, X, 0, 0, 0xf);
            out.emit(ALU | LSH, X, 0, 0, 2);
        }
        0x00 => out.constant(A, k),
        0x01 => out.constant(X, k),
        0x80 => out.emit(LDX | W | MEM, A, CONTEXT, LEN, 0),
        0x81 => out.emit(LDX | W | MEM, X, CONTEXT, LEN, 0),
        0x60 => out.emit(LDX | W | MEM, A, FRAME, scratch(at, k)?, 0),
        0x61 => out.emit(LDX | W | MEM, X, FRAME, scratch(at, k)?, 0),
        0x02 => out.emit(STX | W | MEM, FRAME, A, scratch(at, k)?, 0),
        0x03 => out.emit(STX | W | MEM, FRAME, X, scratch(at, k)?, 0),
        0x07 => out.copy(X, A),
        0x87 => out.copy(A, X),
        // ret #k
        0x06 if k == 0 => out.jump(JMP | JA, 0, 0, 0, Label::Reject),
        0x06 => {
            out.constant(R0, k.min(snaplen));
            out.emit(JMP | EXIT, 0, 0, 0, 0);
        }
        // ret a
        0x16 => {
            out.jump(JMP32 | JEQ, A, 0, 0, Label::Reject);
            out.copy(R0, A);
            out.emit(JMP32 | JLE, R0, 0, 1, snaplen.cast_signed());
            out.constant(R0, snaplen);
            out.emit(JMP | EXIT, 0, 0, 0, 0);
        }
        _ if code & 7 == 4 => arithmetic(out, at, classic)?,
        _ if code & 7 == 5 => branch(out, at, classic)?,
        _ => return Err(unknown),
    }
    Ok(())
}

/// `SKF_AD_OFF`: what the kernel knows of a frame that is not in it.
fn ancillary(out: &mut Emitter, at: usize, k: u32) -> Result<(), TranslateError> {
    let field = |out: &mut Emitter, offset: i16| out.emit(LDX | W | MEM, A, CONTEXT, offset, 0);
    match k - 0xffff_f000 {
        // SKF_AD_PROTOCOL, and SKF_AD_VLAN_TPID: in network byte order.
        0 => {
            field(out, 16);
            out.emit(ALU | TO_BE, A, 0, 0, 16);
        }
        60 => {
            field(out, 28);
            out.emit(ALU | TO_BE, A, 0, 0, 16);
        }
        4 => field(out, PKT_TYPE),
        8 => field(out, IFINDEX),
        20 => field(out, 8),
        24 => field(out, 12),
        32 => field(out, 44),
        44 => field(out, 24),
        48 => field(out, 20),
        36 => {
            out.call(SMP_PROCESSOR_ID);
            out.copy(A, R0);
        }
        40 => out.emit(ALU | XOR | BY_X, A, X, 0, 0),
        _ => return Err(TranslateError::Constant { at, k }),
    }
    Ok(())
}

fn arithmetic(out: &mut Emitter, at: usize, classic: Classic) -> Result<(), TranslateError> {
    let Classic { code, k, .. } = classic;
    let operation = (code & 0xf0) as u8;
    let by_x = code & 8 != 0;
    if code > 0xff || operation > XOR {
        return Err(TranslateError::Unknown { at, code });
    }
    match operation {
        // neg
        0x80 => out.emit(ALU | operation, A, 0, 0, 0),
        // div, mod: by 0 a classic program ends and rejects.
        0x30 | 0x90 if by_x => {
            out.jump(JMP32 | JEQ, X, 0, 0, Label::Reject);
            out.emit(ALU | operation | BY_X, A, X, 0, 0);
        }
        0x30 | 0x90 if k == 0 => return Err(TranslateError::Constant { at, k }),
        // lsh, rsh
        0x60 | 0x70 if !by_x && k >= 32 => return Err(TranslateError::Constant { at, k }),
        _ if by_x => out.emit(ALU | operation | BY_X, A, X, 0, 0),
        _ => out.emit(ALU | operation, A, 0, 0, k.cast_signed()),
    }
    Ok(())
}

fn branch(out: &mut Emitter, at: usize, classic: Classic) -> Result<(), TranslateError> {
    let Classic { code, jt, jf, k } = classic;
    let target = |skip: usize| Label::Classic(at + 1 + skip);
    if code == 5 {
        if k > 0 {
            out.jump(JMP | JA, 0, 0, 0, target(k as usize));
        }
        return Ok(());
    }
    let operation = (code & 0xf0) as u8;
    let by_x = code & 8 != 0;
    let opposite = match operation {
        JEQ => Some(JNE),
        JGT => Some(JLE),
        JGE => Some(JLT),
        JSET => None,
        _ => return Err(TranslateError::Unknown { at, code }),
    };
    if code > 0xff {
        return Err(TranslateError::Unknown { at, code });
    }
    let mut test = |operation: u8, label: Label| {
        let (flag, source, value) = if by_x {
            (BY_X, X, 0)
        } else {
            (0, 0, k.cast_signed())
        };
        out.jump(JMP32 | operation | flag, A, source, value, label);
    };
    match (jt, jf, opposite) {
        (0, 0, _) => {}
        (0, _, Some(opposite)) => test(opposite, target(jf.into())),
        (_, 0, _) => test(operation, target(jt.into())),
        _ => {
            test(operation, target(jt.into()));
            out.jump(JMP | JA, 0, 0, 0, target(jf.into()));
        }
    }
    Ok(())
}
