//! TCP: what each segment is, how long round trips take, where segments are lost.
//!
//! One call per segment of a flow whose record was found; everything goes to a closure. The
//! state is fixed in size ([`state`]); segments that wait for their ACK are cells of the shared
//! pool ([`outstanding`]). Classes by tshark's definitions ([`classify`]) or by tcptrace's
//! ([`tcptrace`]); round trips and places of losses do not depend on that choice.

mod classify;
mod outstanding;
mod plain;
mod repeats;
pub(crate) mod state;
mod tcptrace;

use base::{Leg, LossPlace, RttMethod, Sender, TcpClass, TcpClasses};
use wire::decode::TcpHeader;

pub(crate) use classify::Segment;
pub(crate) use outstanding::Ack;
use outstanding::Finding;
pub(crate) use repeats::Repeats;
use state::Notes;
pub(crate) use state::TcpFlow;

use super::Classifier;
use crate::flow::pool::Pool;

base::closed_list! {
    /// ACKs that gave no round-trip time, and why.
    NoSample {
        /// Of a segment that was sent more than once (Karn).
        Ambiguous = "ambiguous",
        /// It had waited for the repair of a loss.
        AfterLoss = "after_loss",
        /// The capture's clock went back.
        ClockBack = "clock_back",
    }
}

/// What a segment showed.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Shown {
    /// A round-trip time.
    Rtt(RttMethod, Leg, u64),
    /// Segments of a sender, lost or not, at a place.
    Loss(Sender, LossPlace, u32),
    /// It came late: octets and nanoseconds behind the newest.
    Late(u32, u64),
    /// A full-size packet is stuck while smaller ones pass.
    BlackHole,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) classifier: Classifier,
    pub(crate) no_sample: [u64; NoSample::COUNT],
    pub(crate) repeats: Repeats,
}

/// What a SYN means for a record that exists.
pub(crate) fn begins_anew(flow: &TcpFlow, sender: Sender, tcp: &TcpHeader) -> bool {
    let s = sender.index();
    let syn = tcp.has(TcpHeader::SYN) && !tcp.has(TcpHeader::ACK);
    // The same SYN again is a retransmission: `next_seq` of a connection that did not get
    // farther is its sequence number + 1 (and what it carried).
    syn && flow.notes[s].has(Notes::SEQ)
        && !(flow.notes[s].has(Notes::SYN) && flow.sides[s].isn_is(tcp.seq))
}

impl TcpFlow {
    /// Takes a segment in which nothing is amiss, if it is one: `None` for any other, which
    /// [`TcpFlow::segment`] must take; else the ACK if it has news.
    #[inline(always)]
    pub(crate) fn plain(
        &mut self,
        shared: &mut Shared,
        sender: Sender,
        segment: &Segment<'_>,
    ) -> Option<Option<Ack>> {
        plain::is_plain(self, sender, segment)
            .then(|| plain::take(self, &mut shared.pool, sender, segment))
    }

    /// What the ACK of a plain segment shows.
    #[inline(never)]
    pub(crate) fn plain_ack(
        &mut self,
        shared: &mut Shared,
        flow: u32,
        sender: Sender,
        ack: Ack,
        show: &mut impl FnMut(Shown),
    ) {
        let Shared {
            pool,
            no_sample,
            repeats,
            ..
        } = shared;
        let mut find = |finding| sort(finding, flow, no_sample, repeats, show);
        outstanding::acknowledge(self, pool, sender, ack, &mut find);
    }

    /// Any segment. `initial_rtt_ns` is the record's, `flow` its place; the classes come back,
    /// the rest goes to `show`.
    #[inline(never)]
    pub(crate) fn segment(
        &mut self,
        shared: &mut Shared,
        initial_rtt_ns: &mut u32,
        flow: u32,
        sender: Sender,
        segment: &Segment<'_>,
        show: &mut impl FnMut(Shown),
    ) -> TcpClasses {
        let tcp = segment.tcp;
        if tcp.has(TcpHeader::SYN) {
            self.syn(sender, tcp);
        } else if *initial_rtt_ns == 0 && tcp.has(TcpHeader::ACK) {
            *initial_rtt_ns = self.initial_rtt(sender, segment);
        }
        let classes = classify::classify(self, sender, segment, *initial_rtt_ns);
        let Shared {
            pool,
            no_sample,
            repeats,
            ..
        } = shared;
        if tcp.options & TcpHeader::DSACK != 0 && repeats.take(flow, tcp.sack.0) {
            outstanding::duplicate_sack(self, sender, &mut |finding| {
                if let Finding::Loss(sender, place, segments) = finding {
                    show(Shown::Loss(sender, place, segments));
                }
            });
        }
        let mut find = |finding| sort(finding, flow, no_sample, repeats, show);
        if tcp.has(TcpHeader::ACK) {
            outstanding::acknowledge(self, pool, sender, Ack::of(segment), &mut find);
        }
        let overlap = outstanding::sent(
            self,
            pool,
            sender,
            segment,
            classes,
            *initial_rtt_ns,
            &mut find,
        );
        let shown = match shared.classifier {
            Classifier::Tshark => classes,
            Classifier::Tcptrace => tcptrace::classify(self, sender, segment, overlap),
        };
        classify::remember(self, sender, segment, classes);
        if tcp.options & TcpHeader::TIMESTAMPS != 0 {
            self.sides[sender.index()].tsval = tcp.tsval;
        }
        shown
    }

    /// The handshake's last ACK: the time since the latest SYN, both legs; 0 if this is not
    /// it.
    #[cold]
    fn initial_rtt(&self, sender: Sender, segment: &Segment<'_>) -> u32 {
        let (mine, theirs) = (
            &self.notes[sender.index()],
            &self.notes[sender.other().index()],
        );
        let (fwd, rev) = (
            &self.sides[sender.index()],
            &self.sides[sender.other().index()],
        );
        if !(mine.has(Notes::SYN) && theirs.has(Notes::SYN))
            || mine.has(Notes::ACK)
            || segment.tcp.ack != rev.next_seq
        {
            return 0;
        }
        let ns = fwd.seen_at.until(segment.at);
        ns.clamp(1, i64::from(u32::MAX)) as u32
    }

    /// Frees what the pool holds for this flow.
    pub(crate) fn end(&mut self, shared: &mut Shared, show: &mut impl FnMut(Shown)) {
        for sender in Sender::ALL {
            outstanding::give_up(self, &mut shared.pool, sender, &mut |finding| {
                if let Finding::Loss(sender, place, segments) = finding {
                    show(Shown::Loss(sender, place, segments));
                }
            });
        }
    }

    /// Whether both ends have said that they are done.
    pub(crate) const fn is_closed(&self, tcp: &TcpHeader) -> bool {
        tcp.has(TcpHeader::RST) || (self.notes[0].has(Notes::FIN) && self.notes[1].has(Notes::FIN))
    }
}

/// Where a finding goes.
#[inline]
fn sort(
    finding: Finding,
    flow: u32,
    no_sample: &mut [u64; NoSample::COUNT],
    repeats: &mut Repeats,
    show: &mut impl FnMut(Shown),
) {
    match finding {
        Finding::Rtt(method, leg, ns) => show(Shown::Rtt(method, leg, ns)),
        Finding::Loss(sender, place, segments) => show(Shown::Loss(sender, place, segments)),
        Finding::Late(bytes, ns) => show(Shown::Late(bytes, ns)),
        Finding::BlackHole => show(Shown::BlackHole),
        Finding::Repeated(seq) => repeats.put(flow, seq),
        Finding::Disproved(seq) => _ = repeats.take(flow, seq),
        Finding::Ambiguous => no_sample[NoSample::Ambiguous.index()] += 1,
        Finding::AfterLoss => no_sample[NoSample::AfterLoss.index()] += 1,
        Finding::ClockBack => no_sample[NoSample::ClockBack.index()] += 1,
    }
}

/// Retransmissions of all kinds.
pub(crate) const fn is_retransmission(classes: TcpClasses) -> bool {
    classes.contains(TcpClass::Retransmission)
        || classes.contains(TcpClass::FastRetransmission)
        || classes.contains(TcpClass::SpuriousRetransmission)
}

#[cfg(test)]
mod tests;
