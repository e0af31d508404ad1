//! Which targets run, and what a new configuration changes about them. Pure: the
//! supervisor carries out what a [`Plan`] says.
//!
//! A target is known by its probe's name and its own text. One that would measure as it
//! does now is left alone, so that its histograms and counters go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use record::snapshot::Labels;

use crate::config::{Choice, Config, Host, How};

/// Probe name and target text: what the series are labelled with.
pub type Name = (Arc<str>, Arc<str>);

/// A target as configured.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted {
    /// Where it is.
    pub host: Host,
    /// STAMP port.
    pub port: u16,
    /// How it is probed.
    pub how: How,
    /// Labels of its probe.
    pub labels: Labels,
}

impl Wanted {
    /// Whether both measure alike; labels do not matter for that.
    fn measures_as(&self, other: &Self) -> bool {
        (&self.host, self.port, &self.how) == (&other.host, other.port, &other.how)
    }

    /// The word for the protocol as configured.
    pub const fn protocol(&self) -> &'static str {
        match self.how.protocol {
            Choice::Auto => "auto",
            Choice::Stamp => "stamp",
            Choice::Icmp => "icmp",
        }
    }
}

/// Labels as snapshots hold them.
pub fn labels(of: &BTreeMap<String, String>) -> Labels {
    of.iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// All targets of a configuration, in its order.
pub fn wanted(config: &Config) -> Vec<(Name, Wanted)> {
    let mut all = Vec::new();
    for probe in &config.probes {
        let name: Arc<str> = probe.name.as_str().into();
        // The agent's labels are on every series anyway.
        let own = probe
            .labels
            .iter()
            .filter(|(name, value)| config.agent.labels.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Labels>();
        for target in &probe.targets {
            let wanted = Wanted {
                host: target.host.clone(),
                port: target.port,
                how: probe.how.clone(),
                labels: Arc::clone(&own),
            };
            all.push(((Arc::clone(&name), target.text.as_str().into()), wanted));
        }
    }
    all
}

/// What changes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// No longer there, or measured otherwise.
    pub remove: Vec<Name>,
    /// New, or measured otherwise.
    pub add: Vec<(Name, Wanted)>,
    /// Measured as before under other labels.
    pub relabel: Vec<(Name, Wanted)>,
    /// How many go on untouched.
    pub kept: usize,
}

/// From what runs to what is wanted.
pub fn plan(running: &BTreeMap<Name, Wanted>, wanted: Vec<(Name, Wanted)>) -> Plan {
    let mut plan = Plan::default();
    let mut gone: BTreeMap<&Name, &Wanted> = running.iter().collect();
    for (name, new) in wanted {
        match gone.remove(&name) {
            Some(old) if !old.measures_as(&new) => {
                plan.remove.push(name.clone());
                plan.add.push((name, new));
            }
            Some(old) if old.labels != new.labels => plan.relabel.push((name, new)),
            Some(_) => plan.kept += 1,
            None => plan.add.push((name, new)),
        }
    }
    plan.remove.extend(gone.into_keys().cloned());
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<(Name, Wanted)> {
        wanted(&Config::parse("f", text).unwrap())
    }

    fn names(of: &[Name]) -> Vec<String> {
        of.iter()
            .map(|(probe, target)| format!("{probe}/{target}"))
            .collect()
    }

    fn change(old: &str, new: &str) -> Plan {
        plan(&all(old).into_iter().collect(), all(new))
    }

    const OLD: &str =
        "[[probe]]\nname='a'\ntargets=['x','y']\n[[probe]]\nname='b'\ntargets=['x']\n";

    #[test]
    fn the_same_configuration_changes_nothing() {
        let plan = change(OLD, OLD);
        assert_eq!(plan.kept, 3);
        assert_eq!(
            plan,
            Plan {
                kept: 3,
                ..Plan::default()
            }
        );
        // Nor does the order, nor another way to write the same.
        let other = "[[probe]]\nname='b'\ntargets=['x']\ninterval='1000ms'\n[[probe]]\nname='a'\ntargets=['y','x']\n";
        assert_eq!(change(OLD, other).kept, 3);
    }

    #[test]
    fn only_the_difference_is_touched() {
        let new = "[[probe]]\nname='a'\ntargets=['x','z']\n[[probe]]\nname='b'\ntargets=['x']\ninterval='2s'\n";
        let plan = change(OLD, new);
        assert_eq!(plan.kept, 1);
        assert_eq!(names(&plan.remove), ["b/x", "a/y"]);
        let added: Vec<Name> = plan.add.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names(&added), ["a/z", "b/x"]);
        assert!(plan.relabel.is_empty());
    }

    #[test]
    fn labels_change_without_a_new_session() {
        let new = OLD.replace("name='b'", "name='b'\nlabels={path='dx'}");
        let plan = change(OLD, &new);
        assert_eq!((plan.kept, plan.relabel.len()), (2, 1));
        assert_eq!(plan.relabel[0].1.labels[0], ("path".into(), "dx".into()));
        // A label of the agent is not repeated on each probe.
        let plan = change(OLD, &format!("[agent.labels]\nfleet='f'\n{OLD}"));
        assert_eq!(plan.kept, 3);
    }

    #[test]
    fn another_port_or_address_is_another_session() {
        let old = "[[probe]]\nname='a'\ntargets=['x']\n";
        assert_eq!(change(old, &format!("{old}port=99\n")).add.len(), 1);
        assert_eq!(change(old, "").remove.len(), 1);
    }
}
