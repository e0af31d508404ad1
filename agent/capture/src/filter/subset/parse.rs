//! Words to a tree, by the rules of pcap-filter(7): `and` and `or` bind equally, from left
//! to right; `not` binds more; a bare value takes the qualifiers of the one before it.

use std::iter::Peekable;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{End, Expression, Net, Network, Test};

/// Tests, and parentheses within each other, that an expression may have: bounds the depth
/// of the tree.
const TESTS_MAX: usize = 500;
const DEPTH_MAX: usize = 50;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

pub(super) fn expression(text: &str) -> Result<Expression, String> {
    let words = words(text);
    if words.is_empty() {
        return Ok(Expression::Anything);
    }
    let mut parser = Parser {
        words: words.into_iter().peekable(),
        last: None,
        tests: 0,
        depth: 0,
    };
    let parsed = parser.chain()?;
    match parser.words.next() {
        None => Ok(parsed),
        Some(word) => Err(format!("\"{word}\" does not belong there")),
    }
}

/// Splits at spaces, and around parentheses and `!`.
fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in text.split_ascii_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['(', ')', '!']) {
            let (before, here) = rest.split_at(at);
            let (mark, behind) = here.split_at(1);
            found.extend((!before.is_empty()).then_some(before));
            found.push(mark);
            rest = behind;
        }
        found.extend((!rest.is_empty()).then_some(rest));
    }
    found
}

/// What a value means, as said before it.
#[derive(Copy, Clone)]
struct Qualifiers {
    protocol: Option<Protocol>,
    end: End,
    kind: Kind,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
}

/// A word that is a test by itself, and may stand before another.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Protocol {
    Network(Network),
    Transport(u8),
}

struct Parser<'a, I: Iterator<Item = &'a str>> {
    words: Peekable<I>,
    /// Qualifiers of the value just before, for a bare one.
    last: Option<Qualifiers>,
    tests: usize,
    depth: usize,
}

impl<'a, I: Iterator<Item = &'a str>> Parser<'a, I> {
    fn take(&mut self, options: &[&str]) -> bool {
        self.words.next_if(|word| options.contains(word)).is_some()
    }

    fn value(&mut self, after: &str) -> Result<&'a str, String> {
        self.words
            .next()
            .ok_or_else(|| format!("something is missing after \"{after}\""))
    }

    fn chain(&mut self) -> Result<Expression, String> {
        let mut left = self.unary()?;
        loop {
            let and = self.take(&["and", "&&"]);
            if !and && !self.take(&["or", "||"]) {
                return Ok(left);
            }
            let (first, second) = (Box::new(left), Box::new(self.unary()?));
            left = if and {
                Expression::And(first, second)
            } else {
                Expression::Or(first, second)
            };
        }
    }

    fn unary(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too deep".to_owned());
        }
        let parsed = if self.take(&["not", "!"]) {
            Expression::Not(Box::new(self.unary()?))
        } else if self.take(&["("]) {
            let inner = self.chain()?;
            if !self.take(&[")"]) {
                return Err("a parenthesis is not closed".to_owned());
            }
            self.last = None;
            inner
        } else {
            self.tests += 1;
            if self.tests > TESTS_MAX {
                return Err("too long".to_owned());
            }
            Expression::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(parsed)
    }

    fn test(&mut self) -> Result<Test, String> {
        let Some(first) = self.words.peek().copied() else {
            return Err("something is missing at the end".to_owned());
        };
        let protocol = protocol(first);
        if protocol.is_some() {
            self.words.next();
        }
        let end = self.end();
        let kind = match self.words.peek().copied() {
            Some("host") => Some(Kind::Host),
            Some("net") => Some(Kind::Net),
            Some("port") => Some(Kind::Port),
            Some("portrange") => Some(Kind::PortRange),
            Some("proto") if end.is_none() => {
                self.words.next();
                self.last = None;
                return self.number(protocol);
            }
            _ => None,
        };
        if kind.is_some() {
            self.words.next();
        }
        let qualifiers = match (protocol, end, kind) {
            (Some(protocol), None, None) => {
                self.last = None;
                return Ok(bare(protocol));
            }
            (None, None, None) => self.last.ok_or_else(|| {
                format!("\"{first}\" is not a word that is built in, and no value can be here")
            })?,
            (protocol, end, kind) => Qualifiers {
                protocol,
                end: end.unwrap_or(End::Either),
                kind: kind.unwrap_or(Kind::Host),
            },
        };
        self.last = Some(qualifiers);
        let value = self.value(first)?;
        test(qualifiers, value)
    }

    /// `src`, `dst`, `src or dst`, `src and dst` (and the other way round).
    fn end(&mut self) -> Option<End> {
        let (first, other) = match self.words.peek().copied()? {
            "src" => (End::Source, "dst"),
            "dst" => (End::Destination, "src"),
            _ => return None,
        };
        self.words.next();
        let both = match self.words.peek().copied() {
            Some("or" | "||") => End::Either,
            Some("and" | "&&") => End::Both,
            _ => return Some(first),
        };
        // `src A or dst B` does not come here: its value stands between.
        self.words.next();
        if self.take(&[other]) {
            Some(both)
        } else {
            Some(first)
        }
    }

    /// `proto N`, `ip proto N`, `ip6 proto N`.
    fn number(&mut self, protocol: Option<Protocol>) -> Result<Test, String> {
        let value = self.value("proto")?;
        let number = match value {
            "tcp" | "\\tcp" => TCP,
            "udp" | "\\udp" => UDP,
            "icmp" | "\\icmp" => 1,
            _ => value
                .parse()
                .map_err(|_| format!("\"{value}\" is no protocol number"))?,
        };
        let family = match protocol {
            None => None,
            Some(Protocol::Network(family @ (Network::Ipv4 | Network::Ipv6))) => Some(family),
            Some(_) => return Err("proto goes with ip or ip6".to_owned()),
        };
        Ok(Test::Transport { family, number })
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    Some(match word {
        "ip" => Protocol::Network(Network::Ipv4),
        "ip6" => Protocol::Network(Network::Ipv6),
        "arp" => Protocol::Network(Network::Arp),
        "rarp" => Protocol::Network(Network::Rarp),
        "tcp" => Protocol::Transport(TCP),
        "udp" => Protocol::Transport(UDP),
        "sctp" => Protocol::Transport(SCTP),
        "icmp" => Protocol::Transport(1),
        "icmp6" => Protocol::Transport(58),
        _ => return None,
    })
}

fn bare(protocol: Protocol) -> Test {
    match protocol {
        Protocol::Network(network) => Test::Network(network),
        // Each is of one family only.
        Protocol::Transport(number) => Test::Transport {
            family: match number {
                1 => Some(Network::Ipv4),
                58 => Some(Network::Ipv6),
                _ => None,
            },
            number,
        },
    }
}

fn test(qualifiers: Qualifiers, value: &str) -> Result<Test, String> {
    let end = qualifiers.end;
    match qualifiers.kind {
        Kind::Port | Kind::PortRange => {
            let transport = match qualifiers.protocol {
                None => None,
                Some(Protocol::Transport(number @ (TCP | UDP | SCTP))) => Some(number),
                Some(_) => return Err("ports go with tcp, udp and sctp only".to_owned()),
            };
            let port = |text: &str| {
                text.parse::<u16>()
                    .map_err(|_| format!("\"{text}\" is no port number"))
            };
            let (low, high) = if qualifiers.kind == Kind::Port {
                (port(value)?, port(value)?)
            } else {
                let (low, high) = value
                    .split_once('-')
                    .ok_or_else(|| format!("\"{value}\" is no range such as 8000-8080"))?;
                let (low, high) = (port(low)?, port(high)?);
                (low.min(high), low.max(high))
            };
            Ok(Test::Port {
                transport,
                end,
                low,
                high,
            })
        }
        Kind::Host | Kind::Net => {
            let net = if qualifiers.kind == Kind::Host {
                host(value)
            } else {
                prefix(value)
            };
            let net = net.ok_or_else(|| {
                format!(
                    "\"{value}\" is no address (names need libpcap), or has bits behind its prefix"
                )
            })?;
            let arp_too = match (qualifiers.protocol, net) {
                (None, Net::V4 { .. }) => true,
                (None, Net::V6 { .. })
                | (Some(Protocol::Network(Network::Ipv4)), Net::V4 { .. })
                | (Some(Protocol::Network(Network::Ipv6)), Net::V6 { .. }) => false,
                _ => return Err(format!("\"{value}\" does not go with the word before it")),
            };
            Ok(Test::Net { end, net, arp_too })
        }
    }
}

fn host(text: &str) -> Option<Net> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(Net::V4 {
            address: address.to_bits(),
            mask: u32::MAX,
        });
    }
    let address = text.parse::<Ipv6Addr>().ok()?;
    Some(Net::V6 {
        address: address.to_bits(),
        mask: u128::MAX,
    })
}

/// An address with a prefix length, or without one a whole address.
fn prefix(text: &str) -> Option<Net> {
    let Some((address, bits)) = text.split_once('/') else {
        return host(text);
    };
    let bits: u32 = bits.parse().ok()?;
    let net = match host(address)? {
        Net::V4 { address, .. } if bits <= 32 => Net::V4 {
            address,
            mask: u32::MAX.checked_shl(32 - bits).unwrap_or(0),
        },
        Net::V6 { address, .. } if bits <= 128 => Net::V6 {
            address,
            mask: u128::MAX.checked_shl(128 - bits).unwrap_or(0),
        },
        _ => return None,
    };
    let clean = match net {
        Net::V4 { address, mask } => address & !mask == 0,
        Net::V6 { address, mask } => address & !mask == 0,
    };
    clean.then_some(net)
}
