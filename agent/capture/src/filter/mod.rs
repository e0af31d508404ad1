//! Filters in tcpdump's expression language.
//!
//! Owns: one classic BPF [`Program`] for each link type, the same whether it is attached to
//! a socket or run here. libpcap compiles them (feature `pcap`); what it does not take, and
//! everything without it, goes to a subset that is built in ([`SUBSET`]) and means the same
//! as in libpcap. Programs run without allocation, in time bounded by their length, and a
//! load from outside of the captured octets refuses the frame, as it does in the kernel.
//!
//! As with tcpdump, a filter looks at the outermost packet, a tagged frame matches only
//! after `vlan`, `and` and `or` bind equally from left to right, and names of hosts are
//! looked up when the filter is compiled (by libpcap only). In live frames of a packet socket
//! the outermost VLAN tag is beside the frame and not in it, for the kernel's filters as for
//! ours ([`Filter::program`]): there a tagged frame matches without `vlan` too.

mod filtered;
#[cfg(feature = "pcap")]
mod library;
mod outer;
mod program;
mod subset;
#[cfg(test)]
mod tests;

use base::{Frame, LinkType};

pub use filtered::Filtered;
pub use program::{Instruction, Parted, Program};

/// What is built in, for messages.
pub const SUBSET: &str = "host A, net A/B, port N, portrange N-M, proto N, tcp, udp, sctp, icmp, icmp6, ip, ip6, arp; before them src, dst, ip, ip6, tcp, udp; and, or, not, parentheses";

/// Why an expression is no filter: one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FilterError {
    /// Nobody understands it.
    #[error("filter \"{text}\": {why}; built in are: {SUBSET}")]
    Expression {
        /// The words, joined.
        text: String,
        /// What libpcap or, without it, the built-in parser says.
        why: String,
    },
    /// It is right, but says nothing of frames that begin so.
    #[error("filter \"{text}\" on {link} frames: {why}")]
    Link {
        /// The words, joined.
        text: String,
        /// Which frames.
        link: &'static str,
        /// What libpcap says.
        why: String,
    },
}

/// One expression, compiled for every link type that it can be compiled for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    text: String,
    built_in: bool,
    /// By [`Slot`].
    programs: [Option<Program>; Slot::COUNT],
    /// Of Ethernet frames whose outermost VLAN tag is beside them; `None`: as of others.
    beside: Option<Program>,
}

base::closed_list! {
    /// What a program is compiled for: the link types that can be decoded, with loopback in
    /// both byte orders.
    Slot {
        /// DLT 1.
        Ethernet = "Ethernet",
        /// DLT 12.
        Raw = "raw IP",
        /// DLT 113.
        LinuxCooked = "Linux cooked",
        /// DLT 276.
        LinuxCooked2 = "Linux cooked v2",
        /// DLT 9 with its address and control octets.
        Ppp = "PPP",
        /// DLT 0 of a little-endian machine.
        LoopbackLittle = "loopback",
        /// DLT 108, and DLT 0 of a big-endian machine.
        LoopbackBig = "loopback",
    }
}

impl Slot {
    fn of_link(link: LinkType) -> &'static [Self] {
        match link {
            LinkType::Ethernet => &[Self::Ethernet],
            LinkType::Raw => &[Self::Raw],
            LinkType::LinuxCooked => &[Self::LinuxCooked],
            LinkType::LinuxCooked2 => &[Self::LinuxCooked2],
            LinkType::Ppp => &[Self::Ppp],
            LinkType::Loopback => &[Self::LoopbackLittle, Self::LoopbackBig],
            _ => &[],
        }
    }

    #[inline]
    fn of_frame(frame: &Frame<'_>) -> Option<Self> {
        Some(match frame.link {
            LinkType::Ethernet => Self::Ethernet,
            LinkType::Raw => Self::Raw,
            LinkType::LinuxCooked => Self::LinuxCooked,
            LinkType::LinuxCooked2 => Self::LinuxCooked2,
            LinkType::Ppp => Self::Ppp,
            // The address family is a small number: the order shows in the first octet.
            LinkType::Loopback if frame.bytes.first() == Some(&0) => Self::LoopbackBig,
            LinkType::Loopback => Self::LoopbackLittle,
            _ => return None,
        })
    }
}

/// What libpcap says of an expression that no frame can match.
const NOTHING: &str = "expression rejects all packets";

/// Compiles for one link type.
type Compiler = fn(&str, Slot) -> Result<Program, String>;

impl Filter {
    /// Compiles the trailing words of a command. They must make sense on all of `links`, or,
    /// if none are named, on at least one of all; frames of link types on which they make
    /// none (`ether host` on raw IP) are refused. No words let everything pass.
    ///
    /// # Errors
    /// When neither libpcap nor the built-in parser understands them.
    pub fn compile(words: &[String], links: &[LinkType]) -> Result<Self, FilterError> {
        let text = words.join(" ");
        #[cfg(feature = "pcap")]
        {
            let first = Self::with(&text, links, false, library::compile);
            // An expression that libpcap cannot do and the subset can is not known; should
            // there be one, it is no reason to refuse it. What no frame can match is.
            if let Err(error) = &first
                && !error.to_string().contains(NOTHING)
                && let Ok(filter) = Self::with(&text, links, true, subset::compile)
            {
                return Ok(filter);
            }
            first
        }
        #[cfg(not(feature = "pcap"))]
        Self::with(&text, links, true, subset::compile)
    }

    /// As [`Filter::compile`], by the built-in parser alone.
    ///
    /// # Errors
    /// When the expression is outside of [`SUBSET`].
    pub fn built_in(words: &[String], links: &[LinkType]) -> Result<Self, FilterError> {
        Self::with(&words.join(" "), links, true, subset::compile)
    }

    fn with(
        text: &str,
        links: &[LinkType],
        built_in: bool,
        compiler: Compiler,
    ) -> Result<Self, FilterError> {
        let mut programs = [const { None }; Slot::COUNT];
        let (mut refused, mut nothing) = (None, false);
        for (slot, program) in Slot::ALL.iter().zip(&mut programs) {
            match compiler(text, *slot) {
                Ok(compiled) => *program = Some(compiled),
                Err(why) => {
                    nothing |= *slot == Slot::Ethernet && why.contains(NOTHING);
                    let wanted = links.iter().any(|link| Slot::of_link(*link).contains(slot));
                    if refused.is_none() || wanted {
                        refused = Some((*slot, why, wanted));
                    }
                }
            }
        }
        let text = text.to_owned();
        let whole = programs
            .get(Slot::Ethernet.index())
            .and_then(Option::as_ref);
        // The built-in parser knows no `vlan`. What is wrong for another reason stays so.
        let beside = if built_in || whole.is_none() && !nothing {
            None
        } else {
            match outer::program(&text, whole, compiler) {
                Err(why) if whole.is_some() => return Err(FilterError::Expression { text, why }),
                program => program.ok().flatten(),
            }
        };
        match refused {
            // `ip and vlan`: nothing is both in a file, but it can be on a device.
            Some((_, why, wanted))
                if programs.iter().all(Option::is_none) && (wanted || beside.is_none()) =>
            {
                Err(FilterError::Expression { text, why })
            }
            Some((slot, why, true)) => Err(FilterError::Link {
                text,
                link: slot.as_str(),
                why,
            }),
            _ => Ok(Self {
                text,
                built_in,
                programs,
                beside,
            }),
        }
    }

    /// The words, joined.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the built-in parser compiled it, not libpcap.
    #[must_use]
    pub const fn is_built_in(&self) -> bool {
        self.built_in
    }

    /// The program for sockets of devices with this link type (`SO_ATTACH_FILTER`); `None`
    /// if the filter says nothing of them. The kernel runs it on frames whose outermost
    /// VLAN tag it has taken out, and `vlan` asks for that tag, as in tcpdump's own.
    #[must_use]
    pub fn program(&self, link: LinkType) -> Option<&Program> {
        let slot = Slot::of_link(link).first()?;
        let usual = || self.programs.get(slot.index())?.as_ref();
        match slot {
            Slot::Ethernet => self.beside.as_ref().or_else(usual),
            _ => usual(),
        }
    }

    /// The instructions of [`Filter::program`].
    #[must_use]
    pub fn instructions(&self, link: LinkType) -> Option<&[Instruction]> {
        self.program(link).map(Program::instructions)
    }

    /// Whether a frame passes.
    #[must_use]
    #[inline]
    pub fn matches(&self, frame: &Frame<'_>) -> bool {
        Slot::of_frame(frame)
            .and_then(|slot| self.programs.get(slot.index())?.as_ref())
            .is_some_and(|program| program.run(frame) != 0)
    }
    /// Whether a frame passes that is without its outermost VLAN tag, of which the control
    /// information is beside it, if it had one: what [`Filter::program`] does in the kernel.
    #[must_use]
    #[inline]
    pub fn matches_beside(&self, frame: &Frame<'_>, tag: Option<u16>) -> bool {
        match &self.beside {
            Some(program) if frame.link == LinkType::Ethernet => {
                program.run_beside(frame, tag) != 0
            }
            _ => self.matches(frame),
        }
    }
    /// Whether a live frame passes that has its tag in place, as one of libpcap or AF_XDP: as
    /// [`Filter::matches_beside`] of the same frame. A frame from a file takes
    /// [`Filter::matches`], as with tcpdump.
    #[must_use]
    #[inline]
    pub fn matches_live(&self, frame: &Frame<'_>) -> bool {
        match Parted::of(frame) {
            None => self.matches_beside(frame, None),
            Some(parted) => self
                .program(LinkType::Ethernet)
                .is_some_and(|program| program.run_parted(&parted) != 0),
        }
    }
}
