//! Which group a flow's values are added to: by the remote end's address and by service port.

use std::net::IpAddr;

use base::{Address, GroupKey};

/// More pairs than this of a prefix and a port are refused.
pub const MOST_GROUPS: usize = 4096;

/// Groups by prefix and by port; a flow is in exactly one pair of them.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Longest first, so that the first that fits is the most specific.
    prefixes: Vec<(Prefix, u16)>,
    /// Ports in order.
    ports: Vec<(u16, u16)>,
    prefix_names: Vec<String>,
    port_names: Vec<String>,
}

#[derive(Copy, Clone, Debug)]
struct Prefix {
    address: Address,
    high_mask: u64,
    low_mask: u64,
    length: u8,
}

impl Prefix {
    fn new(ip: IpAddr, length: u8) -> Self {
        // A mapped address has 96 bits more in front.
        let length = if ip.is_ipv4() {
            length.min(32) + 96
        } else {
            length.min(128)
        };
        let mask = |bits: u8| u64::MAX.checked_shl(64 - u32::from(bits)).unwrap_or(0);
        let (high_mask, low_mask) = (mask(length.min(64)), mask(length.saturating_sub(64)));
        let address = Address::from(ip);
        Self {
            address: Address {
                high: address.high & high_mask,
                low: address.low & low_mask,
            },
            high_mask,
            low_mask,
            length,
        }
    }

    fn contains(&self, address: Address) -> bool {
        address.high & self.high_mask == self.address.high
            && address.low & self.low_mask == self.address.low
    }
}

/// There were more than [`MOST_GROUPS`] pairs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct TooManyGroups;

impl std::fmt::Display for TooManyGroups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "more than {MOST_GROUPS} groups (prefixes + 1, times ports + 1): name fewer"
        )
    }
}

impl std::error::Error for TooManyGroups {}

impl Groups {
    /// From prefixes and ports with their names; several may share a name.
    ///
    /// # Errors
    /// When there are more pairs than [`MOST_GROUPS`].
    pub fn new(
        prefixes: &[(IpAddr, u8, String)],
        ports: &[(u16, String)],
    ) -> Result<Self, TooManyGroups> {
        let mut groups = Self::default();
        for (ip, length, name) in prefixes {
            let number = number(&mut groups.prefix_names, name);
            groups.prefixes.push((Prefix::new(*ip, *length), number));
        }
        groups
            .prefixes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.length));
        for (port, name) in ports {
            let number = number(&mut groups.port_names, name);
            groups.ports.push((*port, number));
        }
        groups.ports.sort_unstable();
        if groups.count() > MOST_GROUPS {
            return Err(TooManyGroups);
        }
        Ok(groups)
    }

    /// How many groups there are; [`GroupKey`]s are below it. At least one.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.prefix_names.len() + 1) * (self.port_names.len() + 1)
    }

    /// The two names of a group; `None`: fits no prefix, no port.
    #[must_use]
    pub fn names(&self, group: GroupKey) -> (Option<&str>, Option<&str>) {
        let each = self.port_names.len() + 1;
        let (prefix, port) = (usize::from(group.0) / each, usize::from(group.0) % each);
        let name = |names: &'_ [String], at: usize| -> Option<usize> {
            at.checked_sub(1).filter(|at| *at < names.len())
        };
        (
            name(&self.prefix_names, prefix).map(|at| self.prefix_names[at].as_str()),
            name(&self.port_names, port).map(|at| self.port_names[at].as_str()),
        )
    }

    /// The group of a flow between these ends. The remote address decides, the near one if
    /// the remote fits no prefix; likewise the ports.
    #[must_use]
    pub fn of(&self, near: (Address, u16), remote: (Address, u16)) -> GroupKey {
        let prefix = self.prefix(remote.0).or_else(|| self.prefix(near.0));
        let port = self.port(remote.1).or_else(|| self.port(near.1));
        let each = self.port_names.len() as u16 + 1;
        GroupKey(prefix.map_or(0, |n| n + 1) * each + port.map_or(0, |n| n + 1))
    }

    fn prefix(&self, address: Address) -> Option<u16> {
        let fits = self
            .prefixes
            .iter()
            .find(|(prefix, _)| prefix.contains(address));
        fits.map(|(_, number)| *number)
    }

    fn port(&self, port: u16) -> Option<u16> {
        let found = self.ports.binary_search_by_key(&port, |(port, _)| *port);
        found.ok().map(|at| self.ports[at].1)
    }
}

/// The number of a name, new or not.
fn number(names: &mut Vec<String>, name: &str) -> u16 {
    let at = names
        .iter()
        .position(|known| known == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
    // More than 2^16 names are refused as too many groups.
    at.min(usize::from(u16::MAX)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str, port: u16) -> (Address, u16) {
        (text.parse::<IpAddr>().expect("an address").into(), port)
    }

    #[test]
    fn the_most_specific_prefix_and_either_port() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let groups = Groups::new(
            &[
                (ip("10.0.0.0"), 8, "private".into()),
                (ip("10.1.0.0"), 16, "vpc".into()),
                (ip("2001:db8::"), 32, "vpc".into()),
                (ip("0.0.0.0"), 0, "internet".into()),
            ],
            &[(443, "https".into()), (5432, "db".into())],
        )
        .expect("few groups");
        let names = |near, remote| groups.names(groups.of(near, remote));
        let us = end("192.168.0.1", 40_000);
        for (remote, prefix, port) in [
            (end("10.1.2.3", 443), "vpc", Some("https")),
            (end("10.2.2.3", 80), "private", None),
            (end("8.8.8.8", 5432), "internet", Some("db")),
            (end("2001:db8::7", 443), "vpc", Some("https")),
        ] {
            assert_eq!(names(us, remote), (Some(prefix), port));
        }
        assert_eq!(
            names(end("fe80::1", 443), end("2600::1", 50_000)),
            (None, Some("https"))
        );
        assert_eq!(groups.count(), 12);
        assert_eq!(Groups::default().of(us, us), GroupKey(0));
    }

    #[test]
    fn too_many_are_refused() {
        let ports: Vec<_> = (0..70).map(|n| (n, format!("p{n}"))).collect();
        let ip = IpAddr::from([10, 0, 0, 0]);
        let prefixes: Vec<_> = (0..70).map(|n| (ip, 8, format!("n{n}"))).collect();
        assert_eq!(Groups::new(&prefixes, &ports).err(), Some(TooManyGroups));
    }
}
