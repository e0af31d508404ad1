//! TCP: what each segment is, how long round trips take, where segments are lost.
//!
//! One call per segment of a flow whose record was found; everything goes to a closure. The
//! state is fixed in size ([`state`]); segments that wait for their ACK are cells of the shared
//! pool ([`outstanding`]). Classes by tshark's definitions ([`classify`]) or by tcptrace's
//! ([`tcptrace`]); round trips and places of losses do not depend on that choice.

mod classify;
mod detail;
mod outstanding;
mod plain;
mod repeats;
pub(crate) mod state;
mod tcptrace;

use base::{Leg, LossPlace, RttMethod, Sender, TcpClass, TcpClasses};
use wire::decode::TcpHeader;

pub(crate) use classify::Segment;
pub(crate) use detail::Detail;
use detail::Repeat;
pub(crate) use outstanding::Ack;
use outstanding::{Finding, Overlap};
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
    /// By place; `None`: nobody asked.
    pub(crate) details: Option<Box<[Detail]>>,
}

impl Shared {
    /// Whether an end acknowledges the most that it ever did once more, which may be a
    /// duplicate by tcptrace's definitions although older ACKs came between.
    #[cold]
    fn is_repeat(&mut self, place: u32, sender: Sender, tcp: &TcpHeader) -> bool {
        of_place(&mut self.details, place).is_some_and(|detail| detail.is_highest(sender, tcp.ack))
    }

    /// A flow begins at a place.
    pub(crate) fn begin(&mut self, place: u32) {
        if let Some(detail) = of_place(&mut self.details, place) {
            *detail = Detail::default();
        }
    }
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
        flow: u32,
        sender: Sender,
        segment: &Segment<'_>,
    ) -> Option<Option<Ack>> {
        let detailed = shared.details.is_some();
        let news = self.sides[sender.index()].last_ack != segment.tcp.ack;
        let plain = plain::is_plain(self, sender, segment)
            && !(detailed && news && shared.is_repeat(flow, sender, segment.tcp));
        plain.then(|| plain::take(self, &mut shared.pool, sender, segment))
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
            details,
            ..
        } = shared;
        let mut detail = of_place(details, flow);
        let mut find = |finding| {
            sample(&mut detail, &finding);
            sort(finding, flow, no_sample, repeats, show);
        };
        let exact = outstanding::acknowledge(self, pool, sender, ack, &mut find);
        if let Some(detail) = detail {
            let sent = self.sides[sender.index()].next_seq;
            detail.acknowledged(sender, ack.to, sent, exact);
        }
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
            details,
            classifier,
        } = shared;
        let mut detail = of_place(details, flow);
        if tcp.options & TcpHeader::DSACK != 0 && repeats.take(flow, tcp.sack.0) {
            outstanding::duplicate_sack(self, sender, &mut |finding| {
                if let Finding::Loss(sender, place, segments) = finding {
                    show(Shown::Loss(sender, place, segments));
                }
            });
        }
        let mut find = |finding| {
            sample(&mut detail, &finding);
            sort(finding, flow, no_sample, repeats, show);
        };
        let exact = tcp.has(TcpHeader::ACK)
            && outstanding::acknowledge(self, pool, sender, Ack::of(segment), &mut find);
        let overlap = outstanding::sent(
            self,
            pool,
            sender,
            segment,
            classes,
            *initial_rtt_ns,
            &mut find,
        );
        let shown = match detail {
            Some(detail) => self.detailed(
                detail,
                *classifier,
                sender,
                segment,
                classes,
                exact,
                overlap,
            ),
            None => classes,
        };
        classify::remember(self, sender, segment, classes);
        if tcp.options & TcpHeader::TIMESTAMPS != 0 {
            self.sides[sender.index()].tsval = tcp.tsval;
        }
        shown
    }

    /// The classes of a segment by the classifier in use, and all that is counted of them.
    #[expect(
        clippy::too_many_arguments,
        reason = "one segment and what was found out"
    )]
    #[cold]
    fn detailed(
        &self,
        detail: &mut Detail,
        classifier: Classifier,
        sender: Sender,
        segment: &Segment<'_>,
        classes: TcpClasses,
        exact: bool,
        overlap: Overlap,
    ) -> TcpClasses {
        let tcp = segment.tcp;
        detail.first(sender, tcp.seq);
        let ack = if !tcp.has(TcpHeader::ACK) {
            Repeat::No
        } else if detail.is_highest(sender, tcp.ack)
            && self.sides[sender.index()].last_ack == tcp.ack
        {
            detail.repeat(self, sender, segment)
        } else {
            let sent = detail::later(self.sides[sender.index()].next_seq, segment.end());
            detail.acknowledged(sender, tcp.ack, sent, exact);
            Repeat::No
        };
        let probe = tcptrace::is_probe(self, sender, segment);
        let (repeated, late) = if probe {
            (0, false)
        } else {
            detail.seen(self, sender, segment, overlap)
        };
        let (classes, triple) = match classifier {
            Classifier::Tshark => {
                let second = self.notes[sender.index()].dup_acks == 2;
                (classes, second && classes.contains(TcpClass::DuplicateAck))
            }
            Classifier::Tcptrace => {
                let found = tcptrace::Found {
                    repeated,
                    late,
                    ack,
                };
                let classes = tcptrace::classify(self, sender, segment, found);
                (classes, ack == Repeat::Triple)
            }
        };
        detail.count(sender, classes, repeated, triple);
        classes
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

#[inline]
fn of_place(details: &mut Option<Box<[Detail]>>, place: u32) -> Option<&mut Detail> {
    details.as_mut()?.get_mut(place as usize)
}

/// Counts a round trip by sequence numbers.
#[inline]
fn sample(detail: &mut Option<&mut Detail>, finding: &Finding) {
    if let (Some(detail), Finding::Rtt(RttMethod::Sequence, leg, _)) = (detail, finding) {
        detail.sample(match leg {
            Leg::Remote => Sender::Near,
            Leg::Near => Sender::Remote,
        });
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
