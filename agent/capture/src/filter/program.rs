//! Classic BPF: checked once, then run on frames without a way to fail.
//!
//! What never happens in [`Program::run`]: a backward jump, an access outside of the frame
//! or of the 16 words of scratch memory, an allocation. The language is that of McCanne and
//! Jacobson (USENIX Winter 1993) with the division rules of the kernel
//! (`Documentation/networking/filter.rst`).

use base::{Frame, LinkType, Passage};

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: an offset that stands for the frame's packet type.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
/// `SKF_AD_OFF + SKF_AD_VLAN_TAG`: the control information of a tag that is not in the frame.
pub(super) const VLAN_TAG: u32 = 0xffff_f000 + 44;
/// `SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT`: 1 if there is such a tag.
pub(super) const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
/// From here on offsets stand for something that is not in the frame (`SKF_LL_OFF`).
const SPECIAL: u32 = 0xffe0_0000;
/// `PACKET_OUTGOING`; anything else has arrived.
const OUTGOING: u32 = 4;

/// One instruction, as in the kernel's `struct sock_filter`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions to leap if true.
    pub jt: u8,
    /// Instructions to leap if false.
    pub jf: u8,
    /// Its constant.
    pub k: u32,
}

/// The parts of `code`.
pub(super) mod code {
    pub(in crate::filter) const LD: u16 = 0;
    pub(in crate::filter) const LDX: u16 = 1;
    pub(in crate::filter) const ST: u16 = 2;
    pub(in crate::filter) const STX: u16 = 3;
    pub(in crate::filter) const ALU: u16 = 4;
    pub(in crate::filter) const JMP: u16 = 5;
    pub(in crate::filter) const RET: u16 = 6;
    pub(in crate::filter) const MISC: u16 = 7;

    pub(in crate::filter) const W: u16 = 0;
    pub(in crate::filter) const H: u16 = 8;
    pub(in crate::filter) const B: u16 = 0x10;
    pub(in crate::filter) const IMM: u16 = 0;
    pub(in crate::filter) const ABS: u16 = 0x20;
    pub(in crate::filter) const IND: u16 = 0x40;
    pub(in crate::filter) const MEM: u16 = 0x60;
    pub(in crate::filter) const LEN: u16 = 0x80;
    pub(in crate::filter) const MSH: u16 = 0xa0;

    pub(in crate::filter) const ADD: u16 = 0;
    pub(in crate::filter) const SUB: u16 = 0x10;
    pub(in crate::filter) const MUL: u16 = 0x20;
    pub(in crate::filter) const DIV: u16 = 0x30;
    pub(in crate::filter) const OR: u16 = 0x40;
    pub(in crate::filter) const AND: u16 = 0x50;
    pub(in crate::filter) const LSH: u16 = 0x60;
    pub(in crate::filter) const RSH: u16 = 0x70;
    pub(in crate::filter) const NEG: u16 = 0x80;
    pub(in crate::filter) const MOD: u16 = 0x90;
    pub(in crate::filter) const XOR: u16 = 0xa0;

    pub(in crate::filter) const JA: u16 = 0;
    pub(in crate::filter) const JEQ: u16 = 0x10;
    pub(in crate::filter) const JGT: u16 = 0x20;
    pub(in crate::filter) const JGE: u16 = 0x30;
    pub(in crate::filter) const JSET: u16 = 0x40;

    pub(in crate::filter) const X: u16 = 8;
    pub(in crate::filter) const A: u16 = 0x10;
    pub(in crate::filter) const TXA: u16 = 0x80;
}

use code::{
    A, ABS, ADD, ALU, AND, B, DIV, H, IMM, IND, JA, JEQ, JGE, JGT, JMP, JSET, LD, LDX, LEN, LSH,
    MEM, MISC, MOD, MSH, MUL, NEG, OR, RET, RSH, ST, STX, SUB, TXA, W, X, XOR,
};

const SCRATCH: usize = 16;

/// Instructions that were found to be a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program(Box<[Instruction]>);

impl Program {
    /// Checks what the kernel's `bpf_check_classic` checks: known instructions, jumps forward
    /// and inside, no division by a constant 0, a return at the end.
    ///
    /// # Errors
    /// What is wrong, in one phrase.
    pub fn new(instructions: impl Into<Box<[Instruction]>>) -> Result<Self, &'static str> {
        let instructions = instructions.into();
        if instructions.len() > INSTRUCTIONS_MAX {
            return Err("the filter is too long for the kernel (4096 instructions)");
        }
        let Some(last) = instructions.last() else {
            return Err("a program of no instruction");
        };
        if last.code & 7 != RET {
            return Err("a program that does not end in a return");
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(instruction, instructions.len() - 1 - at)?;
        }
        Ok(Self(instructions))
    }

    /// What it consists of.
    #[must_use]
    pub const fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Runs it: 0 refuses the frame, other values are how much of it to keep.
    #[must_use]
    #[inline]
    pub fn run(&self, frame: &Frame<'_>) -> u32 {
        self.interpret(frame, frame.bytes, None).unwrap_or(0)
    }

    /// As [`Program::run`] on a frame without its outermost VLAN tag, which is beside it.
    #[must_use]
    #[inline]
    pub fn run_beside(&self, frame: &Frame<'_>, tag: Option<u16>) -> u32 {
        self.interpret(frame, frame.bytes, tag).unwrap_or(0)
    }

    /// As [`Program::run_beside`] on a frame that has its tag in place.
    #[must_use]
    pub fn run_parted(&self, parted: &Parted<'_>) -> u32 {
        self.interpret(&parted.frame, parted, Some(parted.tag))
            .unwrap_or(0)
    }

    /// `None`: a load from outside, or a division by 0.
    #[inline]
    fn interpret<O: Octets + ?Sized>(
        &self,
        frame: &Frame<'_>,
        bytes: &O,
        tag: Option<u16>,
    ) -> Option<u32> {
        const LD_ABS_W: u16 = LD | W | ABS;
        const LD_ABS_H: u16 = LD | H | ABS;
        const LD_ABS_B: u16 = LD | B | ABS;
        const LD_IND_W: u16 = LD | W | IND;
        const LD_IND_H: u16 = LD | H | IND;
        const LD_IND_B: u16 = LD | B | IND;
        const LD_IMM: u16 = LD | IMM;
        const LD_MEM: u16 = LD | MEM;
        const LD_LEN: u16 = LD | W | LEN;
        const LDX_IMM: u16 = LDX | IMM;
        const LDX_MEM: u16 = LDX | MEM;
        const LDX_LEN: u16 = LDX | W | LEN;
        const LDX_MSH: u16 = LDX | B | MSH;
        const JMP_JA: u16 = JMP | JA;
        const RET_A: u16 = RET | A;
        const TAX: u16 = MISC;
        const MISC_TXA: u16 = MISC | TXA;

        let (mut a, mut x) = (0_u32, 0_u32);
        let mut scratch = [0_u32; SCRATCH];
        let mut rest = self.0.iter();
        loop {
            let Instruction { code, jt, jf, k } = *rest.next()?;
            match code {
                LD_ABS_H => a = bytes.half(k).or_else(|| special(frame, tag, k))?,
                LD_ABS_B => a = bytes.octet(k).or_else(|| special(frame, tag, k))?,
                LD_ABS_W => a = bytes.word(k).or_else(|| special(frame, tag, k))?,
                _ if code & 7 == JMP && code != JMP_JA => {
                    let operand = if code & X == 0 { k } else { x };
                    let truth = match code & 0xf0 {
                        JEQ => a == operand,
                        JGT => a > operand,
                        JGE => a >= operand,
                        _ => a & operand != 0,
                    };
                    let leap = if truth { jt } else { jf };
                    if leap > 0 {
                        rest.nth(usize::from(leap) - 1)?;
                    }
                }
                RET => return Some(k),
                RET_A => return Some(a),
                LDX_MSH => x = (bytes.octet(k)? & 0xf) * 4,
                LD_IND_H => a = bytes.half(x.checked_add(k)?)?,
                LD_IND_B => a = bytes.octet(x.checked_add(k)?)?,
                LD_IND_W => a = bytes.word(x.checked_add(k)?)?,
                JMP_JA => {
                    if k > 0 {
                        rest.nth(k as usize - 1)?;
                    }
                }
                LD_IMM => a = k,
                LD_MEM => a = *scratch.get(k as usize)?,
                LD_LEN => a = frame.original_len,
                LDX_IMM => x = k,
                LDX_MEM => x = *scratch.get(k as usize)?,
                LDX_LEN => x = frame.original_len,
                ST => *scratch.get_mut(k as usize)? = a,
                STX => *scratch.get_mut(k as usize)? = x,
                TAX => x = a,
                MISC_TXA => a = x,
                _ if code & 7 == ALU => {
                    let operand = if code & X == 0 { k } else { x };
                    a = arithmetic(code & 0xf0, a, operand)?;
                }
                _ => return None,
            }
        }
    }
}

/// What is loaded from an offset that stands for something outside of the frame. A frame
/// of unknown passage (a file without the flag) is one that arrived.
#[cold]
fn special(frame: &Frame<'_>, tag: Option<u16>, at: u32) -> Option<u32> {
    match at {
        PACKET_TYPE => Some(match frame.passage {
            Passage::Sent => OUTGOING,
            Passage::Received | Passage::Unknown => 0,
        }),
        VLAN_TAG_PRESENT => Some(tag.is_some().into()),
        VLAN_TAG => Some(tag.unwrap_or(0).into()),
        _ => None,
    }
}

fn arithmetic(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => a.checked_div(operand)?,
        MOD => a.checked_rem(operand)?,
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.checked_shl(operand).unwrap_or(0),
        RSH => a.checked_shr(operand).unwrap_or(0),
        _ => a.wrapping_neg(),
    })
}

fn check(instruction: &Instruction, behind: usize) -> Result<(), &'static str> {
    let Instruction { code, jt, jf, k } = *instruction;
    let known = code <= 0xff
        && match code & 7 {
            LD => {
                let offered = matches!(k, PACKET_TYPE | VLAN_TAG | VLAN_TAG_PRESENT);
                if matches!(code & 0xe0, ABS) && k >= SPECIAL && !offered {
                    return Err("it asks for something that is not in the frame");
                }
                let sized = matches!(code & 0x18, W | H | B);
                match code & 0xe0 {
                    ABS | IND => sized,
                    IMM | MEM | LEN => code & 0x18 == W,
                    _ => false,
                }
            }
            LDX => matches!(code & 0xf8, IMM | MEM | LEN) || code & 0xf8 == B | MSH,
            ST | STX => code & 0xf8 == 0,
            ALU => matches!(
                code & 0xf0,
                ADD | SUB | MUL | DIV | OR | AND | LSH | RSH | NEG | MOD | XOR
            ),
            JMP => {
                let far = if code & 0xf0 == JA {
                    k as usize
                } else {
                    usize::from(jt.max(jf))
                };
                if far >= behind {
                    return Err("it jumps backwards or out of the program (protochain does)");
                }
                code == JMP | JA || matches!(code & 0xf0, JEQ | JGT | JGE | JSET)
            }
            RET => matches!(code & 0xf8, 0 | A),
            _ => matches!(code & 0xf8, 0 | TXA),
        };
    if !known {
        return Err("an unknown instruction");
    }
    let memory = matches!(code & 7, ST | STX) || matches!(code & 7, LD | LDX) && code & 0xe0 == MEM;
    if memory && k as usize >= SCRATCH {
        return Err("it stores outside of its memory");
    }
    if code & 7 == ALU && matches!(code & 0xf0, DIV | MOD) && code & X == 0 && k == 0 {
        return Err("it divides by 0");
    }
    Ok(())
}

/// Where a program loads from.
trait Octets {
    fn octet(&self, at: u32) -> Option<u32>;
    fn half(&self, at: u32) -> Option<u32>;
    fn word(&self, at: u32) -> Option<u32>;
}

impl Octets for [u8] {
    #[inline]
    fn octet(&self, at: u32) -> Option<u32> {
        self.get(at as usize).copied().map(u32::from)
    }

    #[inline]
    fn half(&self, at: u32) -> Option<u32> {
        let octets = self.get(at as usize..)?.first_chunk()?;
        Some(u32::from(u16::from_be_bytes(*octets)))
    }

    #[inline]
    fn word(&self, at: u32) -> Option<u32> {
        let octets = self.get(at as usize..)?.first_chunk()?;
        Some(u32::from_be_bytes(*octets))
    }
}

/// Octets in front of an Ethernet frame's outermost tag, and of that tag.
const ADDRESSES: u32 = 12;
const TAG: u32 = 4;

/// A tagged Ethernet frame as a filter in the kernel sees it: its outermost tag beside it.
#[derive(Copy, Clone, Debug)]
pub struct Parted<'a> {
    /// With the tag, but the length is that without.
    frame: Frame<'a>,
    tag: u16,
}

impl<'a> Parted<'a> {
    /// `None` if there is no tag that the kernel takes out (`eth_type_vlan`).
    #[inline]
    #[must_use]
    pub fn of(frame: &Frame<'a>) -> Option<Self> {
        let ([0x81, 0, a, b] | [0x88, 0xa8, a, b]) = *frame.bytes.get(12..)?.first_chunk()? else {
            return None;
        };
        (frame.link == LinkType::Ethernet).then(|| Self {
            frame: Frame {
                original_len: frame.original_len.saturating_sub(TAG),
                ..*frame
            },
            tag: u16::from_be_bytes([a, b]),
        })
    }
}

impl Octets for Parted<'_> {
    fn octet(&self, at: u32) -> Option<u32> {
        let moved = if at < ADDRESSES { 0 } else { TAG };
        self.frame.bytes.octet(at.checked_add(moved)?)
    }

    fn half(&self, at: u32) -> Option<u32> {
        Some(self.octet(at)? << 8 | self.octet(at.checked_add(1)?)?)
    }

    fn word(&self, at: u32) -> Option<u32> {
        Some(self.half(at)? << 16 | self.half(at.checked_add(2)?)?)
    }
}
