//! The devices of a capture, and which of them are read.
//!
//! One source of each device goes to one worker, in the order of the workers; a device with
//! fewer sources than there are workers is read by the first ones. A device is opened again
//! once nobody reads it any more and there is one of its name.

use std::sync::mpsc::Sender;

use super::slot::Slot;
use super::source::LiveSource;
use super::worker::Order;

/// See the module. Devices are known by their place.
#[derive(Debug, Default)]
pub struct Watched(Vec<Device>);

/// A device of the capture.
#[derive(Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// So many workers read it.
    readers: usize,
    /// Why it is not read; it is waited for.
    pub problem: Option<String>,
}

impl Watched {
    /// Adds a device that nobody reads; gives its place.
    pub fn add(&mut self, name: &str, problem: &str) -> usize {
        self.0.push(Device {
            name: name.to_owned(),
            readers: 0,
            problem: Some(problem.to_owned()),
        });
        self.0.len() - 1
    }

    /// Workers that do not run yet will read it.
    pub fn begin(&mut self, place: usize, sources: Vec<LiveSource>, workers: &mut [Vec<Slot>]) {
        self.read(place, sources.len().min(workers.len()));
        for (worker, source) in workers.iter_mut().zip(sources) {
            worker.push(Slot::new(place, source));
        }
    }

    /// Workers that run read it from now on.
    pub fn give<'w>(
        &mut self,
        place: usize,
        sources: Vec<LiveSource>,
        workers: impl Iterator<Item = &'w Sender<Order>>,
    ) {
        // A worker that is gone is noticed elsewhere.
        let sent = workers
            .zip(sources)
            .filter_map(|(worker, source)| worker.send(Order::Take(place, source)).ok());
        let readers = sent.count();
        self.read(place, readers);
    }

    fn read(&mut self, place: usize, readers: usize) {
        if let Some(device) = self.0.get_mut(place) {
            device.readers = readers;
            device.problem = None;
        }
    }

    /// A worker cannot read it any more. `true`: it is the first one to say so.
    pub fn lost(&mut self, place: usize, why: &str) -> bool {
        let Some(device) = self.0.get_mut(place) else {
            return false;
        };
        device.readers = device.readers.saturating_sub(1);
        let first = device.problem.is_none();
        device.problem = Some(format!("{why}; waiting for it"));
        first
    }

    /// Places and names of those that nobody reads and that are there.
    #[must_use]
    pub fn back(&self) -> Vec<(usize, String)> {
        let waiting = self.0.iter().enumerate().filter(|(_, device)| {
            device.problem.is_some()
                && device.readers == 0
                && sys::device::index(&device.name).is_ok()
        });
        waiting
            .map(|(place, device)| (place, device.name.clone()))
            .collect()
    }

    /// Why one is not read yet.
    pub fn refused(&mut self, place: usize, problem: String) {
        if let Some(device) = self.0.get_mut(place) {
            device.problem = Some(problem);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.0.iter()
    }

    /// The one at this place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Device> {
        self.0.get(place)
    }

    /// Of these names those that are none of its devices yet.
    #[must_use]
    pub fn unknown(&self, names: Vec<String>) -> Vec<String> {
        let mut new = names;
        new.retain(|name| !self.0.iter().any(|device| device.name == *name));
        new
    }

    /// The names, with commas.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|device| device.name.as_str()).collect();
        names.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_lost_once_and_waited_for_until_nobody_reads_it() {
        let mut watched = Watched::default();
        let place = watched.add("lo", "it is new");
        let problem = |watched: &Watched| watched.get(place).and_then(|one| one.problem.clone());
        assert_eq!(watched.back(), [(place, "lo".to_owned())]);
        watched.read(place, 2);
        assert_eq!((problem(&watched), watched.back().len()), (None, 0));
        assert!(watched.lost(place, "it is gone"));
        assert!(watched.back().is_empty(), "one worker reads it still");
        assert!(!watched.lost(place, "it is gone"));
        assert_eq!(
            problem(&watched).as_deref(),
            Some("it is gone; waiting for it")
        );
        assert_eq!(watched.back(), [(place, "lo".to_owned())]);
        let nowhere = watched.add("nosuchdevice0", "it is new");
        assert!(watched.back().iter().all(|(place, _)| *place != nowhere));
        assert_eq!(watched.names(), "lo,nosuchdevice0");
        let names = ["lo", "eth0"].map(str::to_owned).to_vec();
        assert_eq!(watched.unknown(names), ["eth0"]);
    }
}
