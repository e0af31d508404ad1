//! Devices that probes are bound to. A socket stays bound to the device that it was opened
//! on; when that goes away and another one of its name comes, only a new socket reaches it.

use std::collections::{BTreeMap, BTreeSet};

use base::EventKind;

use super::Agent;
use crate::publish::{Note, event};
use crate::targets::Name;

/// The devices of the configuration and their numbers, `None` while they are not there.
#[derive(Debug, Default)]
pub struct Devices {
    seen: BTreeMap<String, Option<u32>>,
}

/// What happened to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Gone(String),
    Back(String),
}

impl Devices {
    /// Compares with what is there now. A device that is looked at for the first time has
    /// not changed, but if it is not there that is told.
    fn look(
        &mut self,
        wanted: &BTreeSet<String>,
        index_of: impl Fn(&str) -> Option<u32>,
    ) -> Vec<Change> {
        self.seen.retain(|name, _| wanted.contains(name));
        let mut changes = Vec::new();
        for name in wanted {
            let now = index_of(name);
            let before = self.seen.insert(name.clone(), now);
            match (before, now) {
                (None | Some(Some(_)), None) => changes.push(Change::Gone(name.clone())),
                (Some(before), Some(_)) if before != now => {
                    changes.push(Change::Back(name.clone()));
                }
                _ => {}
            }
        }
        changes
    }
}

impl Agent {
    /// Looks after the devices; targets of one that came back begin new sessions.
    pub(super) fn watch_devices(&mut self) {
        let wanted = self
            .running
            .values()
            .filter_map(|running| running.wanted.how.device.clone())
            .collect();
        let index_of = |name: &str| sys::device::index(name).ok();
        for change in self.devices.look(&wanted, index_of) {
            let (kind, device, what) = match &change {
                Change::Gone(device) => (EventKind::ComponentDegraded, device, "is not there"),
                Change::Back(device) => (EventKind::ComponentRecovered, device, "is back"),
            };
            let text = format!("device {device} {what}");
            self.note(Note::Event(event(kind, None, "", &text)));
            if matches!(change, Change::Back(_)) {
                self.begin_again(device);
            }
        }
    }

    fn begin_again(&mut self, device: &str) {
        let bound: Vec<(Name, _)> = self
            .running
            .iter()
            .filter(|(_, running)| running.wanted.how.device.as_deref() == Some(device))
            .filter_map(|(name, running)| Some((name.clone(), running.address?)))
            .collect();
        for (name, address) in bound {
            self.begin_session(&name, address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_comes_back_has_another_number() {
        let wanted = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let gone = |name: &str| Change::Gone(name.to_owned());
        let back = |name: &str| Change::Back(name.to_owned());
        let mut devices = Devices::default();
        let mut look = |a: Option<u32>, b: Option<u32>| {
            devices.look(&wanted, |name| if name == "a" { a } else { b })
        };
        assert_eq!(look(Some(1), None), [gone("b")]);
        assert_eq!(look(Some(1), None), []);
        assert_eq!(look(None, Some(2)), [gone("a"), back("b")]);
        assert_eq!(look(Some(7), Some(2)), [back("a")]);
        // Gone and back between two looks.
        assert_eq!(look(Some(7), Some(3)), [back("b")]);
        assert_eq!(look(Some(7), Some(3)), []);
        assert!(devices.look(&BTreeSet::new(), |_| None).is_empty());
        assert!(devices.seen.is_empty());
    }
}
