//! Targets and their paths: added, removed, fallen back, and added up.

use std::cmp::Reverse;

use base::{
    EventKind, Gauge, LossTotals, MonoNanos, Output, Protocol, SessionEvent, TargetKey, Why,
};
use measure::session::{Codec, Config, Session};
use sys::clock;
use sys::poll::Interest;

use super::Engine;
use super::outbox::Merged;
use crate::link::{AddError, Link};
use crate::target::{Choice, TargetSpec};

/// A session with its socket, ready to run.
pub(crate) struct NewPath {
    pub(crate) session: Config,
    pub(crate) codec: Codec,
    pub(crate) protocol: Protocol,
    pub(crate) link: Link,
}

/// A target, ready to run.
pub(crate) struct NewTarget {
    pub(crate) spec: TargetSpec,
    pub(crate) paths: Vec<NewPath>,
    pub(crate) fallback: Option<Result<NewPath, AddError>>,
}

pub(super) struct Path {
    pub(super) target: usize,
    pub(super) session: Session,
    pub(super) link: Link,
    pub(super) protocol: Protocol,
    /// The heap's entry that counts; others are out of date.
    pub(super) wake: MonoNanos,
    pub(super) loss: LossTotals,
    pub(super) up: bool,
    pub(super) in_flight: f64,
    /// IP packet of the last counted probe, as published; 0 before the first.
    pub(super) packet_bytes: usize,
    pub(super) done: bool,
}

pub(super) struct Target {
    pub(super) key: TargetKey,
    pub(super) paths: Vec<usize>,
    pub(super) fallback: Option<Result<NewPath, AddError>>,
    pub(super) chosen: bool,
    pub(super) wanted: Choice,
}

impl Engine {
    pub(super) fn add(&mut self, new: NewTarget) {
        let id = self.next_target;
        self.next_target += 1;
        let mut target = Target {
            key: new.spec.key,
            paths: Vec::with_capacity(new.paths.len()),
            fallback: new.fallback,
            chosen: false,
            wanted: new.spec.protocol,
        };
        for path in new.paths {
            if target.wanted != Choice::Auto && !target.chosen {
                target.chosen = true;
                self.outbox
                    .output(target.key, Output::Protocol(path.protocol, Why::Requested));
            }
            target.paths.push(self.add_path(id, path));
        }
        self.targets.insert(id, target);
    }

    pub(super) fn add_path(&mut self, target: usize, new: NewPath) -> usize {
        let now = clock::mono_now();
        self.interval_ns = self.interval_ns.min(new.session.interval_ns);
        let index = self
            .paths
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.paths.len());
        // Fails only when the kernel is out of memory; then replies stay unread, which must
        // not pass for loss without a word.
        if let Err(error) = self.poller.add(&new.link, index as u64, Interest::Read)
            && let Some(target) = self.targets.get(&target)
        {
            let errno = sys::call::errno_of(&error).unwrap_or(0);
            self.outbox.output(target.key, Output::Errno(errno));
            let degraded = SessionEvent {
                kind: EventKind::ComponentDegraded,
                old: 0,
                new: 1,
            };
            self.outbox.output(target.key, Output::Event(degraded));
        }
        let mut session = Session::new(new.session, new.codec, now);
        if new.link.stamps_certain {
            session.stamps_are_certain();
        }
        let path = Path {
            target,
            session,
            link: new.link,
            protocol: new.protocol,
            wake: now,
            loss: LossTotals::default(),
            up: false,
            in_flight: 0.0,
            packet_bytes: 0,
            done: false,
        };
        if index == self.paths.len() {
            self.paths.push(Some(path));
        } else {
            self.paths[index] = Some(path);
        }
        self.due.push(Reverse((now, index)));
        index
    }

    pub(super) fn drop_path(&mut self, index: usize) {
        if let Some(path) = self.paths.get_mut(index).and_then(Option::take) {
            let _ = self.poller.remove(&path.link);
        }
    }

    pub(super) fn remove(&mut self, key: TargetKey) {
        let found = self
            .targets
            .iter()
            .find(|(_, target)| target.key == key)
            .map(|(id, _)| *id);
        let Some(target) = found.and_then(|id| self.targets.remove(&id)) else {
            return;
        };
        for index in target.paths {
            self.drop_path(index);
        }
    }

    pub(super) fn finish(&mut self) {
        self.finishing = true;
        let now = clock::mono_now();
        for (index, path) in self.paths.iter_mut().enumerate() {
            if let Some(path) = path {
                path.session.finish();
                path.wake = now;
                self.due.push(Reverse((now, index)));
            }
        }
    }

    pub(super) fn path_done(&mut self, index: usize) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        path.done = true;
        let Some(target) = self.targets.get(&path.target) else {
            return;
        };
        let done = |index: &usize| self.paths[*index].as_ref().is_none_or(|path| path.done);
        if target.paths.iter().all(done) {
            self.outbox.output(target.key, Output::Finished);
        }
    }

    /// `auto`: STAMP does not answer; from here on ICMP echo.
    pub(super) fn fall_back(&mut self, index: usize, why: Why) -> bool {
        let Some(path) = self.paths.get(index).and_then(Option::as_ref) else {
            return false;
        };
        let id = path.target;
        let Some(target) = self.targets.get_mut(&id) else {
            return false;
        };
        // A run that ends finds nothing out any more.
        if target.chosen || target.wanted != Choice::Auto || self.finishing {
            return false;
        }
        target.chosen = true;
        match target.fallback.take() {
            Some(Ok(fallback)) => {
                self.outbox
                    .output(target.key, Output::Protocol(Protocol::Icmp, why));
                for index in std::mem::take(&mut target.paths) {
                    self.drop_path(index);
                }
                let index = self.add_path(id, fallback);
                if let Some(target) = self.targets.get_mut(&id) {
                    target.paths.push(index);
                }
                true
            }
            Some(Err(error)) => {
                let errno = sys::call::errno_of(&error.source).unwrap_or(0);
                self.outbox.output(target.key, Output::Errno(errno));
                self.outbox
                    .output(target.key, Output::Protocol(Protocol::Stamp, why));
                false
            }
            None => false,
        }
    }

    /// What several source ports say of one target, as one.
    pub(super) fn merge(&mut self, index: usize, output: Merged) {
        let Some(path) = self.paths.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(target) = self.targets.get(&path.target) else {
            return;
        };
        if let Some(loss) = output.loss {
            path.loss = loss;
        }
        if let Some(up) = output.up {
            path.up = up > 0.0;
        }
        if let Some(in_flight) = output.in_flight {
            path.in_flight = in_flight;
        }
        let key = target.key;
        let paths = || {
            target
                .paths
                .iter()
                .filter_map(|index| self.paths[*index].as_ref())
        };
        if output.loss.is_some() {
            let total = paths().fold(
                LossTotals {
                    directed: true,
                    ..LossTotals::default()
                },
                add,
            );
            self.outbox.output(key, Output::Loss(total));
        }
        if output.up.is_some() {
            let up = paths().any(|path| path.up);
            self.outbox
                .output(key, Output::Gauge(Gauge::Up, f64::from(u8::from(up))));
        }
        if output.in_flight.is_some() {
            let sum = paths().map(|path| path.in_flight).sum();
            self.outbox.output(key, Output::Gauge(Gauge::InFlight, sum));
        }
    }
}

fn add(total: LossTotals, path: &Path) -> LossTotals {
    let loss = path.loss;
    LossTotals {
        lost: total.lost + loss.lost,
        local: total.local + loss.local,
        forward: total.forward + loss.forward,
        reverse: total.reverse + loss.reverse,
        unattributed: total.unattributed + loss.unattributed,
        directed: total.directed && (loss.directed || loss.lost == 0),
    }
}
