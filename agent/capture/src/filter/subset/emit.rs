//! The tree to a program: each test is a few instructions with two ways out, and the ways
//! out are where the tree goes on.
//!
//! What the tests mean is what libpcap makes of the same words: ports of IPv6 only where the
//! transport header follows the fixed header, none in fragments that are not the first;
//! `tcp` also behind a fragment header.

use super::super::Slot;
use super::super::program::{Instruction, Program, code};
use super::{End, Expression, Net, Network, Test};

use code::{ABS, ALU, AND, B, H, IND, JA, JEQ, JGE, JGT, JMP, JSET, LD, LDX, MSH, RET, W};

/// What tcpdump keeps of a frame that passes.
const KEEP: u32 = 262_144;

const FRAGMENT_HEADER: u8 = 44;

pub(super) fn program(expression: &Expression, slot: Slot) -> Result<Program, &'static str> {
    let mut emitter = Emitter {
        steps: Vec::new(),
        labels: Vec::new(),
        slot,
    };
    let (pass, refuse) = (emitter.label(), emitter.label());
    emitter.expression(expression, pass, refuse);
    emitter.place(pass);
    emitter.steps.push(Step::Plain(RET, KEEP));
    emitter.place(refuse);
    emitter.steps.push(Step::Plain(RET, 0));
    Program::new(emitter.assemble().ok_or("the filter is too long")?)
}

/// A place that is jumped to before it is known; always behind the jump.
#[derive(Copy, Clone)]
struct Label(usize);

#[derive(Copy, Clone)]
enum Step {
    Plain(u16, u32),
    /// A comparison, and where to go on.
    Branch(u16, u32, Label, Label),
    /// Where to go on in any case.
    Go(Label),
}

struct Emitter {
    steps: Vec<Step>,
    /// The step that each stands before.
    labels: Vec<usize>,
    slot: Slot,
}

impl Emitter {
    fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = self.steps.len();
        }
    }

    fn load(&mut self, size: u16, at: u32) {
        self.steps.push(Step::Plain(LD | size | ABS, at));
    }

    fn branch(&mut self, comparison: u16, k: u32, yes: Label, no: Label) {
        self.steps.push(Step::Branch(JMP | comparison, k, yes, no));
    }

    fn go(&mut self, there: Label) {
        self.steps.push(Step::Go(there));
    }

    /// Goes to `yes` if equal, else on to the next step.
    fn if_equal(&mut self, k: u32, yes: Label) {
        let next = self.label();
        self.branch(JEQ, k, yes, next);
        self.place(next);
    }

    /// Goes to `no` unless equal, else on to the next step.
    fn unless_equal(&mut self, k: u32, no: Label) {
        let next = self.label();
        self.branch(JEQ, k, next, no);
        self.place(next);
    }

    fn expression(&mut self, expression: &Expression, yes: Label, no: Label) {
        match expression {
            Expression::And(first, second) => {
                let next = self.label();
                self.expression(first, next, no);
                self.place(next);
                self.expression(second, yes, no);
            }
            Expression::Or(first, second) => {
                let next = self.label();
                self.expression(first, yes, next);
                self.place(next);
                self.expression(second, yes, no);
            }
            Expression::Not(inner) => self.expression(inner, no, yes),
            Expression::Test(test) => self.test(*test, yes, no),
            // Nothing to decide: the step behind is the one that lets it pass.
            Expression::Anything => {}
        }
    }

    /// Octets before the network header.
    const fn link_bytes(&self) -> u32 {
        match self.slot {
            Slot::Ethernet => 14,
            Slot::Raw => 0,
            Slot::LinuxCooked => 16,
            Slot::LinuxCooked2 => 20,
            Slot::Ppp | Slot::LoopbackLittle | Slot::LoopbackBig => 4,
        }
    }

    fn network(&mut self, network: Network, yes: Label, no: Label) {
        let type_at = match self.slot {
            Slot::Ethernet => 12,
            Slot::LinuxCooked => 14,
            Slot::LinuxCooked2 => 0,
            Slot::Ppp => 2,
            Slot::Raw => {
                self.load(B, 0);
                self.steps.push(Step::Plain(ALU | AND, 0xf0));
                let version = match network {
                    Network::Ipv4 => 0x40,
                    Network::Ipv6 => 0x60,
                    // No nibble has this value.
                    Network::Arp | Network::Rarp => u32::MAX,
                };
                return self.branch(JEQ, version, yes, no);
            }
            Slot::LoopbackLittle | Slot::LoopbackBig => {
                return self.family(network, yes, no);
            }
        };
        let ethertype = match network {
            // RFC 1332 section 2, RFC 5072 section 3.
            Network::Ipv4 if self.slot == Slot::Ppp => 0x0021,
            Network::Ipv6 if self.slot == Slot::Ppp => 0x0057,
            Network::Ipv4 => 0x0800,
            Network::Ipv6 => 0x86dd,
            Network::Arp => 0x0806,
            Network::Rarp => 0x8035,
        };
        self.load(H, type_at);
        self.branch(JEQ, ethertype, yes, no);
    }

    /// The address family of BSD loopback frames.
    fn family(&mut self, network: Network, yes: Label, no: Label) {
        let families: &[u32] = match network {
            Network::Ipv4 => &[2],
            // Linux 10, NetBSD and OpenBSD 24, FreeBSD 28, macOS 30: files travel.
            Network::Ipv6 => &[10, 24, 28, 30],
            Network::Arp | Network::Rarp => &[],
        };
        self.load(W, 0);
        for family in families {
            let family = if self.slot == Slot::LoopbackLittle {
                family.swap_bytes()
            } else {
                *family
            };
            self.if_equal(family, yes);
        }
        self.go(no);
    }

    fn test(&mut self, test: Test, yes: Label, no: Label) {
        match test {
            Test::Network(network) => self.network(network, yes, no),
            Test::Transport { family, number } => self.transport(family, number, yes, no),
            Test::Net {
                end,
                net: Net::V4 { address, mask },
                arp_too,
            } => {
                let ip = self.link_bytes();
                let net = |emitter: &mut Self, networks: &[Network], at, yes, no| {
                    let (matched, other) = (emitter.label(), emitter.label());
                    for network in networks {
                        let next = emitter.label();
                        emitter.network(*network, matched, next);
                        emitter.place(next);
                    }
                    emitter.go(other);
                    emitter.place(matched);
                    emitter.ends(end, at, yes, no, |emitter, at, yes, no| {
                        emitter.load(W, at);
                        emitter.steps.push(Step::Plain(ALU | AND, mask));
                        emitter.branch(JEQ, address, yes, no);
                    });
                    emitter.place(other);
                };
                net(self, &[Network::Ipv4], (ip + 12, ip + 16), yes, no);
                if arp_too {
                    // RFC 826 with addresses of 6 and 4 octets: sender and target protocol address.
                    net(
                        self,
                        &[Network::Arp, Network::Rarp],
                        (ip + 14, ip + 24),
                        yes,
                        no,
                    );
                }
                self.go(no);
            }
            Test::Net {
                end,
                net: Net::V6 { address, mask },
                ..
            } => {
                let ip = self.link_bytes();
                let matched = self.label();
                self.network(Network::Ipv6, matched, no);
                self.place(matched);
                self.ends(end, (ip + 8, ip + 24), yes, no, |emitter, at, yes, no| {
                    for (word, shift) in [96, 64, 32, 0].into_iter().enumerate() {
                        let mask = (mask >> shift) as u32;
                        if mask != 0 {
                            emitter.load(W, at + 4 * word as u32);
                            emitter.steps.push(Step::Plain(ALU | AND, mask));
                            emitter.unless_equal((address >> shift) as u32, no);
                        }
                    }
                    emitter.go(yes);
                });
            }
            Test::Port {
                transport,
                end,
                low,
                high,
            } => self.port(transport, end, (low, high), yes, no),
        }
    }

    /// One test at two places, joined as `end` says.
    fn ends(
        &mut self,
        end: End,
        (source, destination): (u32, u32),
        yes: Label,
        no: Label,
        test: impl Fn(&mut Self, u32, Label, Label),
    ) {
        match end {
            End::Source => test(self, source, yes, no),
            End::Destination => test(self, destination, yes, no),
            End::Either | End::Both => {
                let next = self.label();
                if end == End::Either {
                    test(self, source, yes, next);
                } else {
                    test(self, source, next, no);
                }
                self.place(next);
                test(self, destination, yes, no);
            }
        }
    }

    fn transport(&mut self, family: Option<Network>, number: u8, yes: Label, no: Label) {
        let ip = self.link_bytes();
        if family != Some(Network::Ipv6) {
            let (v4, other) = (self.label(), self.label());
            self.network(Network::Ipv4, v4, other);
            self.place(v4);
            self.load(B, ip + 9);
            self.branch(JEQ, u32::from(number), yes, no);
            self.place(other);
        }
        if family != Some(Network::Ipv4) {
            let v6 = self.label();
            self.network(Network::Ipv6, v6, no);
            self.place(v6);
            self.load(B, ip + 6);
            self.if_equal(u32::from(number), yes);
            self.unless_equal(u32::from(FRAGMENT_HEADER), no);
            self.load(B, ip + 40);
            self.branch(JEQ, u32::from(number), yes, no);
        } else {
            self.go(no);
        }
    }

    fn port(
        &mut self,
        transport: Option<u8>,
        end: End,
        (low, high): (u16, u16),
        yes: Label,
        no: Label,
    ) {
        let ip = self.link_bytes();
        let all = [132, 6, 17];
        let one = transport.map(|number| [number]);
        let numbers: &[u8] = one.as_ref().map_or(&all, |one| one);
        let compare = |emitter: &mut Self, load: u16, at: u32, yes, no| {
            emitter.steps.push(Step::Plain(LD | H | load, at));
            if low == high {
                return emitter.branch(JEQ, u32::from(low), yes, no);
            }
            let next = emitter.label();
            emitter.branch(JGE, u32::from(low), next, no);
            emitter.place(next);
            emitter.branch(JGT, u32::from(high), no, yes);
        };

        let (v4, other, ports) = (self.label(), self.label(), self.label());
        self.network(Network::Ipv4, v4, other);
        self.place(v4);
        self.load(B, ip + 9);
        for number in numbers {
            self.if_equal(u32::from(*number), ports);
        }
        self.go(no);
        self.place(ports);
        // RFC 791: the fragment offset is the lower 13 bits.
        self.load(H, ip + 6);
        let first = self.label();
        self.branch(JSET, 0x1fff, no, first);
        self.place(first);
        self.steps.push(Step::Plain(LDX | B | MSH, ip));
        self.ends(end, (ip, ip + 2), yes, no, |emitter, at, yes, no| {
            compare(emitter, IND, at, yes, no);
        });

        self.place(other);
        let (v6, ports) = (self.label(), self.label());
        self.network(Network::Ipv6, v6, no);
        self.place(v6);
        self.load(B, ip + 6);
        for number in numbers {
            self.if_equal(u32::from(*number), ports);
        }
        self.go(no);
        self.place(ports);
        self.ends(end, (ip + 40, ip + 42), yes, no, |emitter, at, yes, no| {
            compare(emitter, ABS, at, yes, no);
        });
    }

    /// Jumps of comparisons reach 255 instructions; those that go further are followed by
    /// two long jumps, which moves everything behind them: again until all fit.
    fn assemble(&self) -> Option<Vec<Instruction>> {
        let mut far = vec![false; self.steps.len()];
        loop {
            let mut places: Vec<usize> = Vec::with_capacity(self.steps.len());
            let mut end = 0;
            for far in &far {
                places.push(end);
                end += if *far { 3 } else { 1 };
            }
            let leap = |label: Label, next: usize| {
                places.get(*self.labels.get(label.0)?)?.checked_sub(next)
            };
            let go = |label, next| Some(plain(JMP | JA, u32::try_from(leap(label, next)?).ok()?));
            let mut instructions = Vec::with_capacity(end);
            let mut all_fit = true;
            for (step, far) in self.steps.iter().zip(&mut far) {
                let next = instructions.len() + 1;
                match *step {
                    Step::Plain(code, k) => instructions.push(plain(code, k)),
                    Step::Go(there) => instructions.push(go(there, next)?),
                    Step::Branch(code, k, yes, no) if *far => {
                        let branch = Instruction {
                            code,
                            jt: 0,
                            jf: 1,
                            k,
                        };
                        instructions.extend([branch, go(yes, next + 1)?, go(no, next + 2)?]);
                    }
                    Step::Branch(code, k, yes, no) => {
                        let (jt, jf) = (leap(yes, next)?, leap(no, next)?);
                        *far = jt.max(jf) > usize::from(u8::MAX);
                        all_fit &= !*far;
                        let (jt, jf) = (jt as u8, jf as u8);
                        instructions.push(Instruction { code, jt, jf, k });
                    }
                }
            }
            if all_fit {
                return Some(instructions);
            }
        }
    }
}

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction {
        code,
        jt: 0,
        jf: 0,
        k,
    }
}
