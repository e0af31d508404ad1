//! One target of a run, its numbers, and those of the second that runs.

use base::{Counter, EventKind, LossTotals, Output, SessionEvent};
use record::TargetStats;

use super::plan::Target;
use crate::output::words;

/// So many sends refused in a row are news; a full queue now and then is not.
const REFUSED: u64 = 3;

/// One target and its numbers.
pub struct Tracked {
    /// Who it is.
    pub target: Target,
    /// Since the run began.
    pub total: TargetStats,
    /// Since the last whole second, where that is shown.
    pub interval: TargetStats,
    loss_before: LossTotals,
    /// Its first line was written.
    pub announced: bool,
    /// It was down at least once, so that "up" is news.
    was_down: bool,
    was_up: bool,
    /// Sends refused since the last that was not, with the newest reason.
    refused: u64,
    errno: i32,
}

impl Tracked {
    /// A target without numbers.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self {
            target,
            total: TargetStats::new(),
            interval: TargetStats::new(),
            loss_before: LossTotals::default(),
            announced: false,
            was_down: false,
            was_up: false,
            refused: 0,
            errno: 0,
        }
    }

    /// Fills in what an interval takes from the whole run: present values as they are now,
    /// and loss by place since the interval before. A loss that was unattributed and found
    /// its direction meanwhile counts in the interval that learned it.
    pub fn close_interval(&mut self) {
        let (now, before) = (self.total.loss, self.loss_before);
        self.interval.loss = LossTotals {
            lost: now.lost.saturating_sub(before.lost),
            local: now.local.saturating_sub(before.local),
            forward: now.forward.saturating_sub(before.forward),
            reverse: now.reverse.saturating_sub(before.reverse),
            unattributed: now.unattributed.saturating_sub(before.unattributed),
            directed: now.directed,
        };
        self.loss_before = now;
        self.interval.gauges = self.total.gauges;
        self.interval.protocol = self.total.protocol;
    }

    /// A line for people when this host begins to refuse what is sent, and when it ends.
    pub fn sending(&mut self, output: &Output) -> Option<String> {
        let text = match output {
            Output::Errno(errno) => {
                self.errno = *errno;
                return None;
            }
            Output::Count(Counter::SendErrors, by) => {
                let before = self.refused;
                self.refused += by;
                if before >= REFUSED || self.refused < REFUSED {
                    return None;
                }
                format!("this host cannot send: {}", words::errno(self.errno))
            }
            Output::Count(Counter::Sent, _) => {
                if std::mem::take(&mut self.refused) < REFUSED {
                    return None;
                }
                "this host sends again".to_owned()
            }
            _ => return None,
        };
        Some(format!("{}: {text}\n", self.target.name))
    }

    /// Whether anything at all happened in the interval.
    #[must_use]
    pub fn stirred(&self) -> bool {
        [
            Counter::Sent,
            Counter::Received,
            Counter::Lost,
            Counter::Late,
            Counter::SendErrors,
            Counter::Skipped,
        ]
        .iter()
        .any(|counter| self.interval.counter(*counter) > 0)
    }

    /// An event as a line for people, if it is news to them.
    pub fn news(&mut self, event: &SessionEvent) -> Option<String> {
        let change = |what: &str| format!("{what} changed from {} to {}", event.old, event.new);
        let text = match event.kind {
            EventKind::TargetDown => {
                self.was_down = true;
                let what = if self.was_up {
                    "no longer answers"
                } else {
                    "does not answer"
                };
                what.to_owned()
            }
            EventKind::TargetUp => {
                let what = if std::mem::replace(&mut self.was_up, true) {
                    "answers again"
                } else {
                    "answers now"
                };
                if !self.was_down {
                    return None;
                }
                what.to_owned()
            }
            EventKind::HopsForwardChanged => change("hops forward"),
            EventKind::HopsReverseChanged => change("hops reverse"),
            EventKind::ClockStepped => {
                "the clock of this host was set; probes in flight are discarded".to_owned()
            }
            EventKind::ReflectorReset => {
                "the reflector restarted, or forgot this session".to_owned()
            }
            EventKind::LimitReached => "a limit of packets per second bites".to_owned(),
            _ => return None,
        };
        Some(format!("{}: {text}\n", self.target.name))
    }
}
