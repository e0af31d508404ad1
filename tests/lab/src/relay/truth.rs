//! What happened to a session of probes, computed from the relay's log alone: what a report
//! is held against. Give it a log restricted to one session's counted probes
//! ([`RelayLog::counted`], [`RelayLog::filtered`]).
//!
//! Assumes a reflector that answers every request it gets, once, and no loss but the
//! relay's. A request whose payload was corrupted counts as arrived; exclude such runs.

use std::collections::{BTreeMap, BTreeSet};

use base::Direction::{self, Forward, Reverse};

use super::log::{Record, RelayLog};
use super::reordering::reordered;

/// Numbers of one session, as the sender should report them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth {
    /// Distinct probes that reached the relay.
    pub probes: u64,
    /// Probes with an answer.
    pub answered: u64,
    /// Probes that never reached the reflector.
    pub lost_forward: u64,
    /// Probes that reached it and had no answer.
    pub lost_reverse: u64,
    /// Further arrivals of one probe at the reflector.
    pub duplicates_forward: u64,
    /// Further arrivals of one reply at the sender (copies by the relay, not replies to
    /// copies).
    pub duplicates_reverse: u64,
    /// Of `duplicates_forward`, those of which the sender cannot know, since not every reply
    /// to the probe was delivered.
    pub hidden_duplicates: u64,
    /// RFC 4737 over arrivals at the reflector, of answered probes only.
    pub reordered_forward: u64,
    /// RFC 4737 over arrivals of replies at the sender, by the order in which the replies
    /// came into the relay.
    pub reordered_reverse: u64,
}

impl Truth {
    /// Reads it off a log.
    #[must_use]
    pub fn of(log: &RelayLog) -> Self {
        let arrivals = probes_left(log, Forward);
        // Distinct replies delivered, by probe: a copy made on the way back has its index.
        let mut replies: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for record in log.of(Reverse).filter(|record| record.left()) {
            if let Some(probe) = record.probe() {
                replies.entry(probe).or_default().insert(record.index);
            }
        }
        let probes: BTreeSet<u32> = log.of(Forward).filter_map(Record::probe).collect();
        let answered = |probe: &u32| replies.contains_key(probe);
        let further = |direction| {
            let copies = log.copies(direction).count();
            u64::try_from(copies).unwrap_or(u64::MAX)
        };
        let hidden = arrivals
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|(probe, times)| {
                let known = replies.get(probe).map_or(0, |replies| replies.len() as u64);
                // With no reply at all the probe is lost, with its copies.
                times.saturating_sub(known.max(1))
            });
        let forward_order = log.output(Forward).into_iter().filter_map(|record| {
            let probe = record.probe().filter(answered)?;
            Some((probe, record.index))
        });
        Self {
            probes: probes.len() as u64,
            answered: replies.len() as u64,
            lost_forward: (probes.len() - arrivals.len()) as u64,
            lost_reverse: arrivals.keys().filter(|probe| !answered(probe)).count() as u64,
            duplicates_forward: further(Forward),
            duplicates_reverse: further(Reverse),
            hidden_duplicates: hidden.sum(),
            reordered_forward: reordered(forward_order.map(|(_, index)| index)),
            reordered_reverse: reordered(log.output(Reverse).iter().map(|record| record.index)),
        }
    }
}

/// How often each probe left in a direction.
fn probes_left(log: &RelayLog, direction: Direction) -> BTreeMap<u32, u64> {
    let mut times = BTreeMap::new();
    for record in log.of(direction).filter(|record| record.left()) {
        if let Some(probe) = record.probe() {
            *times.entry(probe).or_default() += 1;
        }
    }
    times
}

/// How long the relay really held each probe and its reply together, by probe: the first
/// delivered reply and the arrival that it answers. Probes with copies are left out, since
/// which arrival a reply answers cannot be told.
#[must_use]
pub fn held_both_ways_ns(log: &RelayLog) -> BTreeMap<u32, [u64; 2]> {
    let single = |direction| {
        let mut held: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for record in log.of(direction) {
            if let (Some(probe), Some(ns)) = (record.probe(), record.held_ns()) {
                held.entry(probe).or_default().push(ns);
            }
        }
        held.retain(|_, all| all.len() == 1);
        held
    };
    let reverse = single(Reverse);
    single(Forward)
        .into_iter()
        .filter_map(|(probe, forward)| Some((probe, [forward[0], reverse.get(&probe)?[0]])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::log::Verdict;

    fn record(direction: Direction, index: u64, probe: u32, order: Option<u64>) -> Record {
        Record {
            direction,
            index,
            verdict: if order.is_some() {
                Verdict::Forwarded
            } else {
                Verdict::Lost
            },
            copy: 0,
            reordered: false,
            corrupted: false,
            in_ns: 1_000,
            due_ns: 1_000,
            out_ns: order.map_or(0, |order| 1_100 + order),
            out_order: order.unwrap_or(0),
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 2].into(),
            ports: (1, 862),
            protocol: 17,
            ttl: 255,
            ip_len: 72,
            sequence: Some(if direction == Forward {
                probe
            } else {
                900 + probe
            }),
            sender_sequence: if direction == Forward { 0 } else { probe },
            ssid: 1,
            echo_sequence: None,
            uncounted: None,
            tcp: None,
        }
    }

    #[test]
    fn a_run_by_hand() {
        let copy = |record: Record| Record { copy: 1, ..record };
        let log = RelayLog {
            records: vec![
                // Probe 0 is well. 1 is lost forward, 2 reverse.
                record(Forward, 0, 0, Some(0)),
                record(Reverse, 0, 0, Some(0)),
                record(Forward, 1, 1, None),
                record(Forward, 2, 2, Some(1)),
                record(Reverse, 1, 2, None),
                // 3 is overtaken by 4 on the way out.
                record(Forward, 3, 3, Some(3)),
                record(Forward, 4, 4, Some(2)),
                record(Reverse, 2, 4, Some(1)),
                record(Reverse, 3, 3, Some(2)),
                // 5 arrives twice and one of its two replies is lost: hidden.
                record(Forward, 5, 5, Some(4)),
                copy(record(Forward, 5, 5, Some(5))),
                record(Reverse, 4, 5, None),
                record(Reverse, 5, 5, Some(3)),
                // The reply to 6 comes twice.
                record(Forward, 6, 6, Some(6)),
                record(Reverse, 6, 6, Some(4)),
                copy(record(Reverse, 6, 6, Some(5))),
            ],
            ..RelayLog::default()
        };
        let truth = Truth {
            probes: 7,
            answered: 5,
            lost_forward: 1,
            lost_reverse: 1,
            duplicates_forward: 1,
            duplicates_reverse: 1,
            hidden_duplicates: 1,
            reordered_forward: 1,
            reordered_reverse: 0,
        };
        assert_eq!(Truth::of(&log), truth);
        let held = held_both_ways_ns(&log);
        let probes: Vec<u32> = held.keys().copied().collect();
        assert_eq!(probes, [0, 3, 4], "without the lost and the copied");
        assert_eq!(held[&3], [103, 102]);
    }
}
