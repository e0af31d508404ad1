//! SIGHUP: another configuration without another process. Reading it, and opening the
//! reflector's new sockets, is done before anything is changed, so that a refused
//! configuration leaves all as it was. The capture keeps its sockets and rings: other threads
//! go on where the ones before ended, and so do its counters. What can fail afterwards fails
//! alone and is told: a target that cannot be probed is a problem of that target, and a
//! reflector or a capture whose new threads do not start, after the old ones were stopped, is
//! a failed component.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use base::EventKind;
use record::snapshot::{ConfigInfo, Health};

use super::{Agent, Running};
use crate::config::{Capture, Config};
use crate::exit::Failure;
use crate::publish::{Note, event};
use crate::startup::reflect_sockets;
use crate::targets;
use crate::worker::capture as capturing;

/// Keys that are read at start only, and differ.
fn restart_only(old: &Config, new: &Config) -> Vec<&'static str> {
    let (a, b) = (&old.agent, &new.agent);
    [
        ("agent.listen", a.listen != b.listen),
        ("agent.metrics_listen", a.metrics_listen != b.metrics_listen),
        ("agent.user", a.user != b.user),
        (
            "agent.state_directory",
            a.state_directory != b.state_directory,
        ),
        ("agent.log", a.log != b.log),
        ("agent.realtime", a.realtime != b.realtime),
        (
            "limits.packets_per_second",
            old.packets_per_second != new.packets_per_second,
        ),
        ("export.prometheus", old.prometheus != new.prometheus),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}

/// What becomes of another `[capture]`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum CaptureChange {
    /// There is none.
    None,
    /// It is taken over.
    Now,
    /// It needs other sockets than the opener may open.
    AtStart,
}

impl CaptureChange {
    fn of(running: Option<&Capture>, new: Option<&Capture>) -> Self {
        match (running, new) {
            (None, None) => Self::None,
            (Some(running), Some(new)) if running == new => Self::None,
            (Some(_), None) => Self::Now,
            (Some(running), Some(new)) if capturing::same_sockets(running, new) => Self::Now,
            _ => Self::AtStart,
        }
    }
}

impl Agent {
    /// Reads the configuration again and takes over what changed.
    pub(super) fn reload(&mut self) {
        self.notify.reloading(sys::clock::mono_now());
        let prepared = Config::load(&self.path, &self.overrides)
            .map_err(|error| error.to_string())
            .and_then(|config| {
                let sockets = self
                    .sockets_for(&config)
                    .map_err(|failure| failure.message)?;
                Ok((config, sockets))
            });
        match prepared {
            Ok((config, sockets)) => self.take_over(config, sockets),
            Err(error) => {
                self.info.last_reload_ok = false;
                self.info.last_reload_error.clone_from(&error);
                self.rejected(&error, "the configuration before stays in force");
            }
        }
        self.note(Note::Config(self.info.clone()));
        self.notify.ready(&self.status());
    }

    /// Sockets for the reflector as it is to be; `None` if it does not change.
    fn sockets_for(&self, config: &Config) -> Result<Option<Vec<(SocketAddr, OwnedFd)>>, Failure> {
        if config.reflector == self.config.reflector {
            return Ok(None);
        }
        let mut held: Vec<&(SocketAddr, OwnedFd)> = self.reflect.iter().collect();
        reflect_sockets(config, |address| {
            // Each once: port 0 may be there several times.
            match held.iter().position(|(listen, _)| *listen == address) {
                Some(index) => held.swap_remove(index).1.try_clone(),
                None => self.opener.reflect(address),
            }
        })
        .map(Some)
    }

    fn take_over(&mut self, config: Config, sockets: Option<Vec<(SocketAddr, OwnedFd)>>) {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let mut later = restart_only(&self.config, &config);
        let running = self.capture.as_ref().map(capturing::Capturing::config);
        let capture_changes = CaptureChange::of(running, config.capture.as_ref());
        if capture_changes == CaptureChange::AtStart {
            later.push("capture");
        }
        let before = std::mem::replace(&mut self.config, config);
        let running = self
            .running
            .iter()
            .map(|(name, Running { wanted, .. })| (name.clone(), wanted.clone()))
            .collect();
        let plan = targets::plan(&running, targets::wanted(&self.config));
        let mut said = format!(
            "{}: {} targets added, {} removed, {} relabelled, {} kept",
            self.config.sha256,
            plan.add.len(),
            plan.remove.len(),
            plan.relabel.len(),
            plan.kept
        );
        if !later.is_empty() {
            said = format!(
                "{said}; takes effect at the next start: {}",
                later.join(", ")
            );
        }
        self.note(Note::Labels(targets::labels(&self.config.agent.labels)));
        self.apply(plan);
        self.order();
        if let Some(sockets) = sockets
            && let Err(error) = self.reflect(sockets)
        {
            let detail = format!("it could not be started again: {error}; restart the agent");
            self.health("reflector", Health::Failed, detail);
        }
        if capture_changes == CaptureChange::Now
            && let Err(error) = self.capture_again()
        {
            self.note(Note::Capture(None));
            let detail = format!("it could not be started again: {error}; restart the agent");
            self.health("capture", Health::Failed, detail);
        }
        self.info = ConfigInfo {
            sha256: self.config.sha256.clone(),
            path: std::mem::take(&mut self.info.path),
            last_reload_ok: true,
            last_reload_error: String::new(),
            last_success_at: sys::clock::wall_now(),
            last_valid_in_force: false,
        };
        self.keep_valid();
        let old = before.sha256;
        self.note(Note::Event(event(
            EventKind::ConfigReloaded,
            None,
            &old,
            &said,
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let parse = |text: &str| Config::parse("f", text).unwrap();
        let old = parse("");
        assert!(restart_only(&old, &parse("[[probe]]\ntargets=['a']\n[reflector]\n")).is_empty());
        let new = "[agent]\nlisten='127.0.0.1:1'\nrealtime=true\nlog='warn'\n\
            [limits]\npackets_per_second=1\n[export.prometheus]\nnative=false\n";
        assert_eq!(
            restart_only(&old, &parse(new)),
            [
                "agent.listen",
                "agent.log",
                "agent.realtime",
                "limits.packets_per_second",
                "export.prometheus"
            ]
        );
    }

    #[test]
    fn another_capture_is_taken_over_if_its_sockets_are_the_same() {
        let of = |text: &str| {
            let config = Config::parse("f", &format!("[capture]\n{text}\n")).unwrap();
            config.capture.unwrap()
        };
        let running = of("interface = 'eth0'");
        let grouped = of("interface = 'eth0'\ngroup_by = ['10.0.0.0/8=vpc']");
        let filtered = of("interface = 'eth0'\nfilter = 'tcp'");
        for (old, new, wanted) in [
            (None, None, CaptureChange::None),
            (Some(&running), Some(&running), CaptureChange::None),
            (Some(&running), None, CaptureChange::Now),
            (Some(&running), Some(&grouped), CaptureChange::Now),
            (Some(&running), Some(&filtered), CaptureChange::AtStart),
            // Privileges are gone by now.
            (None, Some(&running), CaptureChange::AtStart),
        ] {
            assert_eq!(CaptureChange::of(old, new), wanted, "{old:?} {new:?}");
        }
    }
}
