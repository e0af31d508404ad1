//! What sockets have: replies, TX stamps, ICMP errors.

use base::{Counter, Output, Why};
use measure::session::{Datagram, Emission};
use sys::clock;
use sys::socket::ErrorItem;

use super::outbox::{forward, keep};
use super::{BATCH, Engine, ROUNDS};

impl Engine {
    /// Reads replies, then stamps and errors, and judges them in the other order: a reply
    /// never precedes its stamp that way.
    pub(super) fn read_path(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            let replies = path.link.receive(&mut self.replies).unwrap_or(0);
            let mut errors = 0;
            let mut refused = false;
            loop {
                let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                    return;
                };
                let read = path.link.receive_errors(&mut self.errors).unwrap_or(0);
                errors += read;
                refused |= self.take_errors(index);
                if read < BATCH {
                    break;
                }
            }
            if replies > 0 {
                // A step that happened before these stamps is known by now.
                if self.steps.stepped() {
                    self.clock_stepped();
                }
                self.take_replies(index);
            }
            let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
                return;
            };
            if path.link.nearly_full(replies + errors) {
                path.session.stamps_doubtful();
            }
            if refused && self.fall_back(index, Why::StampRefused) {
                return;
            }
            if replies + errors == 0 {
                return;
            }
            let now = clock::mono_now();
            self.poll_path(index, now);
            if replies < BATCH {
                return;
            }
        }
    }

    /// Returns whether the target's host says that nobody listens.
    pub(super) fn take_errors(&mut self, index: usize) -> bool {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let Some(target) = self.targets.get(&path.target) else {
            return false;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let mut refused = false;
        for item in self.errors.iter() {
            match item {
                ErrorItem::Stamp {
                    id,
                    kernel,
                    hardware,
                    packet,
                } => {
                    let codec = path.session.codec();
                    if let Some(sequence) = path.link.sequence_of(id, packet, codec) {
                        let mut out = |emission| forward(outbox, key, emission);
                        path.session.tx_stamp(sequence, kernel, hardware, &mut out);
                    }
                }
                ErrorItem::Icmp {
                    kind,
                    code,
                    offender,
                    ..
                } => {
                    let from = offender.unwrap_or(path.link.local.ip());
                    let mut out = |emission| forward(outbox, key, emission);
                    path.session.icmp_error(kind, code, from, &mut out);
                    // RFC 792: type 3 code 3; RFC 4443 section 3.1: type 1 code 4. Of the target
                    // itself: anybody on the way can send one.
                    refused |= offender == Some(path.link.peer)
                        && matches!((from.is_ipv4(), kind, code), (true, 3, 3) | (false, 1, 4));
                }
                // What this host refuses, `send()` has told.
                ErrorItem::Local { .. } | ErrorItem::Unknown => {}
            }
        }
        refused
    }

    pub(super) fn take_replies(&mut self, index: usize) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get_mut(&path.target) else {
            return;
        };
        let (outbox, key) = (&mut self.outbox, target.key);
        let (now, user) = (clock::mono_now(), clock::wall_now());
        let mut loss = None;
        for received in self.replies.iter() {
            let mut out = |emission| keep(&mut loss, outbox, key, emission);
            if let Some(dropped) = received.overflow.map(|total| path.link.dropped(total))
                && dropped > 0
            {
                path.session.overflowed(dropped, &mut out);
            }
            if received.truncated {
                out(Emission::Output(Output::Count(
                    Counter::MalformedReplies,
                    1,
                )));
                continue;
            }
            let datagram = Datagram {
                payload: received.payload,
                kernel: received.kernel,
                hardware: received.hardware,
                user,
                ttl: received.ttl,
            };
            let ours = path.session.receive(&datagram, now, &mut out);
            if ours && !target.chosen {
                target.chosen = true;
                outbox.output(key, Output::Protocol(path.protocol, Why::StampAnswered));
                target.fallback = None;
            }
        }
        if let Some(output) = loss {
            self.merge(index, output);
        }
    }
}
