//! One target of a run, its numbers, and those of the second that runs.

use base::{EventKind, LossTotals, SessionEvent};
use record::TargetStats;

use super::plan::Target;

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

    /// An event as a line for people, if it is news to them.
    pub fn news(&mut self, event: &SessionEvent) -> Option<String> {
        let change = |what: &str| format!("{what} changed from {} to {}", event.old, event.new);
        let text = match event.kind {
            EventKind::TargetDown => {
                self.was_down = true;
                "no longer answers".to_owned()
            }
            EventKind::TargetUp if self.was_down => "answers again".to_owned(),
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
