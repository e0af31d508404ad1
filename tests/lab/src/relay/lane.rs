//! One direction of the relay: what waits, what is held, what leaves, what was counted.
//!
//! Never: a frame that is in no counter, an impairment of what does not match. Does no I/O
//! but the sends of [`Lane::send`]; time comes in with the frames and as an argument.

mod send;

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use base::Direction;
use sys::packet::{FrameBatch, SEND_BATCH};
use sys::socket::ErrorBatch;
use wire::frame::Frame;

use super::config::{Matching, RelayConfig};
use super::fate::Decider;
use super::frame::{flip_bit, lower_ttl, matches, too_big_answer};
use super::log::{DirectionTotals, Record, Verdict};

/// Frames that are received at once.
pub(super) const BATCH: usize = 64;

/// The wall clock, in the nanoseconds of the kernel's stamps.
pub(super) fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// A packet of ours to keep: it waits, is held, or has copies.
struct Packet {
    frame: Vec<u8>,
    record: Record,
    /// Copies still to be made of it.
    copies: u8,
}

/// Bytes that leave now: in the batch that was just received, or kept by us.
enum Slot {
    Batch(usize),
    Kept(Vec<u8>),
}

struct Leaving {
    slot: Slot,
    /// `None` for what only passes.
    record: Option<Record>,
}

/// What waits for a time: ordered by that, then by arrival.
struct Waiting {
    due_ns: u64,
    ticket: u64,
    packet: Packet,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due_ns, self.ticket).cmp(&(other.due_ns, other.ticket))
    }
}

/// What waits for others to pass.
struct Held {
    still: u32,
    flush_ns: u64,
    packet: Packet,
}

/// One direction: its counters and what it keeps.
pub(super) struct Lane {
    direction: Direction,
    decider: Decider,
    next_index: u64,
    next_order: u64,
    next_ticket: u64,
    /// When the last packet is due that keeps its place.
    last_due_ns: u64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    held: Vec<Held>,
    leaving: Vec<Leaving>,
    /// When frames really left, from the error queue of the socket they left by.
    pub(super) stamps: ErrorBatch,
    pub(super) totals: DirectionTotals,
}

impl Lane {
    pub(super) fn new(direction: Direction, config: &RelayConfig) -> Self {
        let plan = config.of(direction).clone();
        Self {
            direction,
            decider: Decider::new(config.seed, direction, plan),
            next_index: 0,
            next_order: 0,
            next_ticket: 0,
            last_due_ns: 0,
            waiting: BinaryHeap::new(),
            held: Vec::new(),
            leaving: Vec::with_capacity(2 * BATCH),
            stamps: ErrorBatch::new(SEND_BATCH, 64),
            totals: DirectionTotals::default(),
        }
    }

    /// Another plan from the next packet on; its indices start at 0.
    pub(super) fn configure(&mut self, config: &RelayConfig) {
        let plan = config.of(self.direction).clone();
        self.decider = Decider::new(config.seed, self.direction, plan);
    }

    fn wait_until(&mut self, due_ns: u64, mut packet: Packet) {
        packet.record.due_ns = due_ns;
        self.next_ticket += 1;
        self.waiting.push(Reverse(Waiting {
            due_ns,
            ticket: self.next_ticket,
            packet,
        }));
    }

    /// A kept packet leaves, with its copies; then whatever waited for it to pass.
    fn depart(&mut self, packet: Packet) {
        let mut ready = VecDeque::from([packet]);
        while let Some(Packet {
            frame,
            record,
            copies,
        }) = ready.pop_front()
        {
            let plan = &self.decider.impairment().duplicate;
            let copy_delay_ns = plan.as_ref().map_or(0, |plan| plan.delay_ns);
            let original = Slot::Kept(frame.clone());
            self.leaving.push(Leaving {
                slot: original,
                record: Some(record),
            });
            for copy in 1..=copies {
                self.totals.copies += 1;
                let packet = Packet {
                    frame: frame.clone(),
                    record: Record { copy, ..record },
                    copies: 0,
                };
                if copy_delay_ns > 0 {
                    let due_ns = record.due_ns + copy_delay_ns * u64::from(copy);
                    self.wait_until(due_ns, packet);
                } else {
                    self.leaving.push(Leaving {
                        slot: Slot::Kept(packet.frame),
                        record: Some(packet.record),
                    });
                }
            }
            if record.copy == 0 {
                self.passed_by(record.index, &mut ready);
            }
        }
    }

    /// Packet `index` left: what is held for later ones to pass has one less to wait for.
    fn passed_by(&mut self, index: u64, ready: &mut VecDeque<Packet>) {
        for held in &mut self.held {
            if index > held.packet.record.index {
                held.still = held.still.saturating_sub(1);
            }
        }
        while let Some(at) = self.held.iter().position(|held| held.still == 0) {
            ready.push_back(self.held.remove(at).packet);
        }
    }

    /// Everything whose time has come.
    pub(super) fn release(&mut self, now_ns: u64) {
        while self
            .waiting
            .peek()
            .is_some_and(|Reverse(first)| first.due_ns <= now_ns)
        {
            if let Some(Reverse(first)) = self.waiting.pop() {
                self.depart(first.packet);
            }
        }
        while let Some(at) = self.held.iter().position(|held| held.flush_ns <= now_ns) {
            let free = self.held.remove(at);
            self.depart(free.packet);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let waiting = self.waiting.peek().map(|Reverse(first)| first.due_ns);
        let held = self.held.iter().map(|held| held.flush_ns).min();
        waiting.into_iter().chain(held).min()
    }

    /// Decides on frame `i` of a batch; returns an ICMP answer to its sender, if any.
    pub(super) fn accept(
        &mut self,
        batch: &mut FrameBatch,
        i: usize,
        matching: Matching,
    ) -> Option<Vec<u8>> {
        let received = batch.get(i);
        if received.truncated {
            // Longer than any link of the lab: not ours to cut.
            self.totals.passed += 1;
            self.totals.refused += 1;
            return None;
        }
        let parsed = Frame::parse(received.bytes);
        let Some(frame) = parsed
            .ok()
            .filter(|frame| matches(matching, received.bytes, frame))
        else {
            self.totals.passed += 1;
            self.leaving.push(Leaving {
                slot: Slot::Batch(i),
                record: None,
            });
            return None;
        };
        let in_ns = received.at.map_or_else(wall_ns, |at| at.0);
        let mut record = Record::new(
            self.direction,
            self.next_index,
            in_ns,
            received.bytes,
            &frame,
        );
        self.next_index += 1;
        self.totals.matched += 1;
        let fate = self.decider.decide();
        let plan = self.decider.impairment();
        if let Some(limit) = plan
            .mtu
            .as_ref()
            .filter(|limit| record.ip_len > limit.bytes)
        {
            let answer = too_big_answer(received.bytes, &frame, limit);
            record.verdict = Verdict::TooBig;
            self.totals.too_big += 1;
            self.finished(record);
            return answer;
        }
        if fate.lost {
            record.verdict = Verdict::Lost;
            self.totals.lost += 1;
            self.finished(record);
            return None;
        }
        if plan.hops > 0 {
            lower_ttl(batch.bytes_mut(i), &frame, plan.hops);
        }
        if let (Some(draw), Some(corrupt)) = (fate.corrupt, &plan.corrupt) {
            let bytes = batch.bytes_mut(i);
            record.corrupted = flip_bit(bytes, &frame, draw, corrupt.byte, corrupt.fix_checksum);
            self.totals.corrupted += u64::from(record.corrupted);
        }
        let mut due_ns = self.last_due_ns.max(in_ns + fate.delay_ns);
        if let Some(reorder) = plan.reorder.as_ref().filter(|_| fate.reordered) {
            record.reordered = true;
            self.totals.reordered += 1;
            let packet = Packet {
                frame: batch.get(i).bytes.to_vec(),
                record,
                copies: fate.copies,
            };
            due_ns += reorder.extra_delay_ns;
            if reorder.packets > 0 {
                let flush_ns = due_ns + reorder.flush_ns;
                self.held.push(Held {
                    still: reorder.packets,
                    flush_ns,
                    packet,
                });
            } else {
                self.wait_until(due_ns, packet);
            }
            return None;
        }
        let waits = due_ns > in_ns;
        if waits {
            self.last_due_ns = due_ns;
        }
        if !waits && fate.copies == 0 && self.held.is_empty() {
            // The way of nearly every packet: nothing is copied.
            self.leaving.push(Leaving {
                slot: Slot::Batch(i),
                record: Some(record),
            });
            return None;
        }
        let packet = Packet {
            frame: batch.get(i).bytes.to_vec(),
            record,
            copies: fate.copies,
        };
        if waits {
            self.wait_until(due_ns, packet);
        } else {
            self.depart(packet);
        }
        None
    }

    /// A record that will never leave joins the queue without bytes, so that the log keeps
    /// the order of decisions.
    fn finished(&mut self, record: Record) {
        self.leaving.push(Leaving {
            slot: Slot::Kept(Vec::new()),
            record: Some(record),
        });
    }
}
