//! One flow's record: 184 octets, of which the first 64 are common to all protocols.

use base::{DontFragment, FlowKey, FlowSummary, GroupKey, Sender, SideSummary, WallNanos};

use super::datagram::Datagram;
use super::key::Key;
use super::time::U48;
use crate::passive::tcp::TcpFlow;

/// See the module. With its share of the index less than 192 octets a flow.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: Key,
    /// The newest frame; 0 in a free record.
    pub(crate) last_ns: u64,
    /// The first frame, in units of 1024 ns.
    first: U48,
    pub(crate) group: GroupKey,
    /// The next record in the timer wheel's list, or in the list of free ones.
    pub(crate) link: u32,
    /// TCP: SYN to the handshake's last ACK, in ns; 0: not known. Saturates at 4.29 s.
    pub(crate) initial_rtt_ns: u32,
    pub(crate) body: Body,
}

const _: () = assert!(size_of::<Record>() == 184);

/// What a protocol keeps of a flow.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Body {
    Tcp(TcpFlow),
    Datagram(Datagram),
}

const FIRST_SHIFT: u32 = 10;
/// How much younger than an unanswered flow an answered one counts as when one has to go.
const ANSWERED_START_NS: u64 = 8_000_000_000;

impl Record {
    /// [`Key::mark`]: the record is taken.
    const USED: u32 = 1;
    /// [`Key::mark`]: the near end is the key's higher one.
    const NEAR_IS_HIGHER: u32 = 1 << 1;
    /// [`Key::mark`]: the flow has ended on the wire.
    const CLOSED: u32 = 1 << 2;
    /// [`Key::mark`]: both ends were heard of.
    const ANSWERED: u32 = 1 << 3;
    /// [`Key::mark`]: a packet of the near end had DF; the next bit: of the remote end.
    const DF_SET: u32 = 1 << 4;
    /// [`Key::mark`]: a packet of the near end had no DF; the next bit: of the remote end.
    const DF_CLEAR: u32 = 1 << 6;

    pub(crate) const EMPTY: Self = Self {
        key: Key::EMPTY,
        last_ns: 0,
        first: U48::new(0),
        group: GroupKey(0),
        link: u32::MAX,
        initial_rtt_ns: 0,
        body: Body::Datagram(Datagram::EMPTY),
    };

    /// Begins a flow in a fresh record.
    pub(crate) fn begin(
        &mut self,
        at: WallNanos,
        near_is_higher: bool,
        group: GroupKey,
        body: Body,
    ) {
        let higher = if near_is_higher {
            Self::NEAR_IS_HIGHER
        } else {
            0
        };
        self.key.set_mark(Self::USED | higher);
        self.last_ns = at.0;
        self.first = U48::new(at.0 >> FIRST_SHIFT);
        self.group = group;
        self.initial_rtt_ns = 0;
        self.body = body;
    }

    pub(crate) const fn is_used(&self) -> bool {
        self.key.mark() & Self::USED != 0
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.key.mark() & Self::CLOSED != 0
    }

    pub(crate) const fn close(&mut self) {
        self.key.set_mark(self.key.mark() | Self::CLOSED);
    }

    /// Notes that both ends were heard of.
    pub(crate) const fn set_answered(&mut self) {
        self.key.set_mark(self.key.mark() | Self::ANSWERED);
    }

    /// Notes whether a packet of an end had DF.
    #[inline]
    pub(crate) const fn note_df(&mut self, sender: Sender, set: bool) {
        let bit = if set { Self::DF_SET } else { Self::DF_CLEAR };
        self.key.set_mark(self.key.mark() | bit << sender.index());
    }

    const fn dont_fragment(&self, sender: Sender) -> Option<DontFragment> {
        let mark = self.key.mark() >> sender.index();
        match (mark & Self::DF_SET != 0, mark & Self::DF_CLEAR != 0) {
            (true, true) => Some(DontFragment::Mixed),
            (true, false) => Some(DontFragment::Set),
            (false, true) => Some(DontFragment::Clear),
            (false, false) => None,
        }
    }

    /// Whether nothing was counted yet: the flow begins with the packet at hand.
    pub(crate) fn is_fresh(&self) -> bool {
        Sender::ALL.iter().all(|end| self.packets(*end) == 0)
    }

    /// Whether both ends sent something.
    pub(crate) fn has_both_ends(&self) -> bool {
        Sender::ALL.iter().all(|end| self.packets(*end) > 0)
    }

    const fn packets(&self, sender: Sender) -> u64 {
        match &self.body {
            Body::Tcp(flow) => flow.sides[sender.index()].packets.get(),
            Body::Datagram(flow) => flow.packets(sender),
        }
    }

    /// How much a full table would lose with this flow: what is closed least, then by the
    /// time of its last frame, with a start for what is known to be a conversation. (Whoever
    /// floods with SYNs puts out other SYNs and not connections.) From the first cache line
    /// alone.
    pub(crate) const fn worth(&self) -> u64 {
        let answered = self.initial_rtt_ns > 0 || self.key.mark() & Self::ANSWERED != 0;
        match (self.is_closed(), answered) {
            (true, _) => 0,
            (false, false) => self.last_ns,
            (false, true) => self.last_ns.saturating_add(ANSWERED_START_NS),
        }
    }

    /// Who sent a packet whose source is (or is not) the key's higher end.
    #[inline]
    pub(crate) const fn sender(&self, from_higher: bool) -> Sender {
        let near_is_higher = self.key.mark() & Self::NEAR_IS_HIGHER != 0;
        if from_higher == near_is_higher {
            Sender::Near
        } else {
            Sender::Remote
        }
    }

    /// The whole time of the first frame, to about a microsecond.
    fn first(&self) -> WallNanos {
        // Not farther apart than half of what 48 bits hold; before or, if the clock was set
        // back, after the last frame.
        let last = self.last_ns >> FIRST_SHIFT;
        let age = (last.wrapping_sub(self.first.get()) << 16).cast_signed() >> 16;
        WallNanos(last.wrapping_add_signed(-age) << FIRST_SHIFT)
    }

    /// For people and files.
    pub(crate) fn summary(&self, place: u32) -> FlowSummary {
        let [lower, higher] = self.key.ends();
        let ends = if self.key.mark() & Self::NEAR_IS_HIGHER == 0 {
            [lower, higher]
        } else {
            [higher, lower]
        };
        FlowSummary {
            flow: FlowKey(place),
            group: self.group,
            protocol: self.key.protocol(),
            ends,
            first: self.first(),
            last: WallNanos(self.last_ns),
            rtt_method: match &self.body {
                Body::Tcp(flow) => Some(flow.rtt_method()),
                Body::Datagram(flow) => flow.state.rtt_method(),
            },
            sides: [self.side(Sender::Near), self.side(Sender::Remote)],
        }
    }

    fn side(&self, sender: Sender) -> SideSummary {
        let side = match &self.body {
            Body::Tcp(flow) => flow.summary(sender),
            Body::Datagram(flow) => flow.side(sender),
        };
        SideSummary {
            dont_fragment: self.dont_fragment(sender),
            ..side
        }
    }
}
