//! Sessions of targets: begun when an address is known, ended when a plan says so, begun
//! again when the address changes or a socket can be opened at last.

use std::net::SocketAddr;
use std::sync::Arc;

use base::{EventKind, TargetKey};

use super::{Agent, RETRY_NS, Running};
use crate::config::Host;
use crate::publish::{Note, Slot, SlotId, event};
use crate::targets::{self, Name, Plan};
use crate::worker::resolve::Answer;

impl Agent {
    /// Carries out what changes about the targets.
    pub(super) fn apply(&mut self, plan: Plan) {
        for name in plan.remove {
            let Some(gone) = self.running.remove(&name) else {
                continue;
            };
            self.end_session(gone.key);
            self.resolver.remove(gone.slot);
            self.note(Note::Remove(gone.slot));
        }
        for (name, wanted) in plan.relabel {
            if let Some(running) = self.running.get_mut(&name) {
                let note = Note::Relabel(running.slot, Arc::clone(&wanted.labels));
                running.wanted = wanted;
                self.note(note);
            }
        }
        for (name, wanted) in plan.add {
            let slot = SlotId(self.next_slot);
            self.next_slot += 1;
            let series = Box::new(Slot::new(&name, &wanted, &self.bounds));
            self.note(Note::Add(slot, series));
            let (host, port) = (wanted.host.clone(), wanted.port);
            let running = Running {
                slot,
                wanted,
                key: None,
                address: None,
            };
            self.running.insert(name.clone(), running);
            match host {
                Host::Address(ip) => self.begin_session(&name, SocketAddr::new(ip, port)),
                Host::Name(host) => {
                    self.note(Note::Problem(
                        slot,
                        "its name has not resolved yet".to_owned(),
                    ));
                    self.resolver.add(slot, &host, port);
                }
            }
        }
    }

    /// Snapshots list targets as the configuration does.
    pub(super) fn order(&self) {
        let order = targets::wanted(&self.config)
            .iter()
            .filter_map(|(name, _)| self.running.get(name))
            .map(|running| running.slot)
            .collect();
        self.note(Note::Order(order));
    }

    pub(super) fn begin_session(&mut self, name: &Name, address: SocketAddr) {
        let Some(running) = self.running.get_mut(name) else {
            return;
        };
        let key = TargetKey(self.next_key);
        self.next_key += 1;
        let before = running.key.replace(key);
        running.address = Some(address);
        if let Some(records) = &self.records {
            // As below: its first result must find it.
            records.name(key, &name.1);
        }
        let (slot, wanted) = (running.slot, running.wanted.clone());
        // Before its first result can come.
        self.note(Note::Session(slot, key, address.ip().to_string()));
        if let Err(why) = self.probes.add(key, address, &wanted) {
            self.over(key);
            self.note(Note::Problem(slot, why.clone()));
            if self.unopened.insert(name.clone()) {
                self.tell(EventKind::ComponentDegraded, name, "", &why);
            }
            if let Some(running) = self.running.get_mut(name) {
                running.key = None;
            }
        } else if self.unopened.remove(name) {
            self.tell(
                EventKind::ComponentRecovered,
                name,
                "",
                "it is probed again",
            );
        }
        self.end_session(before);
    }

    /// An event of one target.
    fn tell(&self, kind: EventKind, (probe, target): &Name, old: &str, new: &str) {
        let happened = event(kind, Some((&**probe, &**target)), old, new);
        self.note(Note::Event(happened));
    }

    /// What could not be probed may be possible by now: a device or route that came back.
    pub(super) fn retry(&mut self) {
        let now = sys::clock::mono_now();
        if self.unopened.is_empty() || now < self.next_retry {
            return;
        }
        self.next_retry = now.plus(RETRY_NS);
        for name in self.unopened.clone() {
            match self.running.get(&name).map(|running| running.address) {
                Some(Some(address)) => self.begin_session(&name, address),
                _ => {
                    self.unopened.remove(&name);
                }
            }
        }
    }

    fn end_session(&mut self, key: Option<TargetKey>) {
        if let Some(key) = key {
            self.probes.remove(key);
            self.over(key);
        }
    }

    /// Nobody needs this number any more.
    fn over(&self, key: TargetKey) {
        self.note(Note::EndSession(key));
        if let Some(records) = &self.records {
            records.end(key);
        }
    }

    /// A name has an address, or none, or another one.
    pub(super) fn resolved(&mut self, answer: Answer) {
        let (Answer::Address(slot, _) | Answer::Failed(slot, _) | Answer::Recovered(slot)) = answer;
        let found = self
            .running
            .iter()
            .find(|(_, running)| running.slot == slot);
        // An answer for a target that a reload removed is nobody's.
        let Some((name, running)) = found else {
            return;
        };
        let (name, before) = (name.clone(), running.address);
        match answer {
            Answer::Address(_, address) => {
                if let Some(before) = before {
                    let (old, new) = (before.ip().to_string(), address.ip().to_string());
                    self.tell(EventKind::AddressChanged, &name, &old, &new);
                }
                self.begin_session(&name, address);
            }
            Answer::Failed(_, why) => {
                let old = before.map_or_else(String::new, |address| address.ip().to_string());
                self.tell(EventKind::ResolveFailed, &name, &old, &why);
                if before.is_none() {
                    self.note(Note::Problem(
                        slot,
                        format!("its name does not resolve: {why}"),
                    ));
                }
            }
            Answer::Recovered(_) => {}
        }
    }
}
