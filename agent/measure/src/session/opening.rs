//! Finding out what kind of reflector answers (kernel-and-lab R1).
//!
//! The opening probe goes out twice with one number. A stateful reflector answers with two
//! numbers of its own, a stateless one twice with the probe's. Our own reflector fills the
//! private TLV, and that is enough.

use base::MonoNanos;

/// What is known of the reflector.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Reflector {
    /// Nothing yet.
    Unknown,
    /// Copies our numbers, or could not be told: no directions.
    Undirected,
    /// Numbers its replies.
    Stateful,
    /// Ours: reports what it counted.
    Reporting,
}

/// Attempts while nothing at all is heard: `auto` then falls back.
pub const SILENT_ATTEMPTS: u32 = 3;
/// Attempts once something was heard.
const HEARD_ATTEMPTS: u32 = 12;
/// Between attempts while nothing is heard.
const SILENT_SPACING_NS: u64 = 333_000_000;
/// After the last attempt, at most: a patient `wait` must not keep `auto` from its fall-back.
const SILENT_PATIENCE_NS: u64 = 1_000_000_000;
/// Between attempts at least and at most, once something was heard.
const MIN_SPACING_NS: u64 = 2_000_000;
const MAX_SPACING_NS: u64 = 2_000_000_000;

/// The search for the kind of reflector.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    /// When to send the next pair; `None` when the search has ended or rests.
    pub(super) due: Option<MonoNanos>,
    attempts: u32,
    heard: bool,
    /// Of the newest pair: its index and the first number that it was answered with.
    pair: Option<(u64, Option<u32>)>,
    same_number: u32,
    /// Of the newest answer.
    round_trip_ns: u64,
}

impl Opening {
    pub(super) fn new(start: MonoNanos) -> Self {
        Self {
            due: Some(start),
            attempts: 0,
            heard: false,
            pair: None,
            same_number: 0,
            round_trip_ns: 0,
        }
    }

    /// No search: the protocol has no directions.
    pub(super) fn none() -> Self {
        Self {
            due: None,
            ..Self::new(MonoNanos(0))
        }
    }

    /// The target answers, be it an opening probe or another: from here on it is worth the
    /// full number of attempts, after which the search has an end in any case.
    pub(super) fn target_answers(&mut self, now: MonoNanos, round_trip_ns: u64) {
        self.round_trip_ns = round_trip_ns;
        if !self.heard {
            let due = self.due.unwrap_or(now);
            self.heard = true;
            // The other copy is about to come; if it does not, ask again soon.
            self.due = Some(due.min(now.plus(self.spacing())));
        }
    }

    /// Long enough for both replies of a pair, since a new pair makes an older one void.
    fn spacing(&self) -> u64 {
        if self.heard {
            self.round_trip_ns
                .saturating_mul(4)
                .clamp(MIN_SPACING_NS, MAX_SPACING_NS)
        } else {
            SILENT_SPACING_NS
        }
    }

    pub(super) fn sent(&mut self, index: u64, now: MonoNanos, wait_ns: u64) {
        self.attempts += 1;
        self.pair = Some((index, None));
        let spacing = self.spacing();
        let attempts = if self.heard {
            HEARD_ATTEMPTS
        } else {
            SILENT_ATTEMPTS
        };
        self.due = Some(now.plus(if self.attempts < attempts {
            spacing
        } else {
            wait_ns.min(SILENT_PATIENCE_NS)
        }));
    }

    /// Whether all attempts are spent, so that `due` is when to give up.
    pub(super) fn spent(&self) -> bool {
        self.attempts
            >= if self.heard {
                HEARD_ATTEMPTS
            } else {
                SILENT_ATTEMPTS
            }
    }

    /// The highest of the numbers that the newest pair was answered with: the two replies may
    /// have changed places on the way back.
    pub(super) fn highest_number(&self, reflector_sequence: u32) -> u32 {
        match self.pair {
            Some((_, Some(first))) if first.wrapping_sub(reflector_sequence) < 1 << 31 => first,
            _ => reflector_sequence,
        }
    }

    pub(super) fn heard(&self) -> bool {
        self.heard
    }

    /// A reply to opening probe `index`. Says the kind of reflector once it is known.
    pub(super) fn answered(
        &mut self,
        index: u64,
        sequence: u32,
        reflector_sequence: u32,
        reporting: bool,
        now: MonoNanos,
    ) -> Option<Reflector> {
        if reporting {
            return Some(Reflector::Reporting);
        }
        match &mut self.pair {
            Some((pair, first @ None)) if *pair == index => {
                *first = Some(reflector_sequence);
                None
            }
            Some((pair, Some(first))) if *pair == index => {
                if *first != reflector_sequence {
                    return Some(Reflector::Stateful);
                }
                // Twice our own number. A reply that was doubled on the way back looks the
                // same once, so it takes two pairs.
                if reflector_sequence == sequence {
                    self.same_number += 1;
                    self.pair = None;
                    self.due = Some(now);
                    return (self.same_number >= 2).then_some(Reflector::Undirected);
                }
                None
            }
            _ => None,
        }
    }
}
