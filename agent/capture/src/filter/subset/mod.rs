//! The part of tcpdump's language that works without libpcap, and means the same there.
//!
//! Owns: words to a tree ([`parse`]), and the tree to a program ([`emit`]).

mod emit;
mod parse;

use super::Slot;
use super::program::Program;

/// What a frame must be.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Expression {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test(Test),
    /// No words.
    Anything,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Test {
    /// The EtherType, or what says the same.
    Network(Network),
    /// The protocol above IP; `None`: either family.
    Transport { family: Option<Network>, number: u8 },
    /// An address; `arp_too`: that in an ARP packet as well.
    Net { end: End, net: Net, arp_too: bool },
    /// A port of TCP, UDP or SCTP, or of one of them.
    Port {
        transport: Option<u8>,
        end: End,
        low: u16,
        high: u16,
    },
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Network {
    Ipv4,
    Ipv6,
    Arp,
    Rarp,
}

/// Which end must match.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum End {
    Source,
    Destination,
    Either,
    Both,
}

/// A prefix, with the bits behind it 0.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Net {
    V4 { address: u32, mask: u32 },
    V6 { address: u128, mask: u128 },
}

/// The program, or what is wrong.
pub(super) fn compile(text: &str, slot: Slot) -> Result<Program, String> {
    let expression = parse::expression(text)?;
    emit::program(&expression, slot).map_err(str::to_owned)
}
