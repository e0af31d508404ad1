//! Which devices a capture is of: names, globs, `any`, the device of the default route.
//!
//! `any` and globs leave out, by their names and by their kinds, bridges, teams, VLANs, tunnels
//! and what containers have: frames of those are seen on another device too. A network card
//! that is a member of a bridge or a bond has a card's name and is taken, and so is the bond:
//! their frames are then captured twice. A device that is named is taken, whatever it is. The
//! rules are pure; what there is comes as an argument.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::exit::Failure;

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Words as typed, or the one device of the default route.
    words: Vec<String>,
}

impl Wanted {
    /// From the words of `-i`; without any (or `auto`) the device of the default route.
    ///
    /// # Errors
    /// When there is no default route.
    pub fn new(typed: &[String]) -> Result<Self, Failure> {
        let mut words = Vec::new();
        for word in typed {
            if word != "auto" {
                words.push(word.clone());
            }
        }
        if words.is_empty() {
            words.push(default_device().ok_or_else(|| {
                Failure::usage("there is no default route, so no device to choose; name one with -i, or -i any")
            })?);
        }
        Ok(Self { words })
    }

    /// Whether devices that come later can be among them.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.words.iter().any(|word| is_pattern(word))
    }

    /// Whether this one was named as such.
    #[must_use]
    pub fn names(&self, device: &str) -> bool {
        self.words.iter().any(|word| word == device)
    }

    /// The devices, each once, in the order of the words. A name without a device stays: it
    /// may come, or be one that only libpcap knows.
    #[must_use]
    pub fn resolve(&self, there: &[String], leave_out: impl Fn(&str) -> bool) -> Vec<String> {
        let mut chosen: Vec<String> = Vec::new();
        let mut take = |name: &str| {
            if !chosen.iter().any(|known| known == name) {
                chosen.push(name.to_owned());
            }
        };
        for word in &self.words {
            if !is_pattern(word) {
                take(word);
                continue;
            }
            let fitting = there
                .iter()
                .filter(|name| word == "any" || glob(word.as_bytes(), name.as_bytes()));
            for name in fitting.filter(|name| !leave_out(name)) {
                take(name);
            }
        }
        chosen
    }

    /// For messages.
    #[must_use]
    pub fn text(&self) -> String {
        self.words.join(",")
    }
}

/// Whether devices that nobody named can fit.
#[must_use]
pub fn is_pattern(word: &str) -> bool {
    word == "any" || word.contains(['*', '?'])
}

/// `*` and `?`, as a shell has them.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|at| glob(rest, &name[at..])),
        (Some((b'?', rest)), Some((_, name))) => glob(rest, name),
        (Some((one, rest)), Some((other, name))) => one == other && glob(rest, name),
        _ => false,
    }
}

/// By what programs that make such devices call them; all of their frames pass a device that
/// is taken, or stay within the host.
fn is_inner(name: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "veth",
        "docker",
        "br-",
        "bridge",
        "virbr",
        "vnet",
        "tap",
        "cni",
        "cali",
        "lxc",
        "lxd",
        "flannel",
        "cilium",
        "weave",
        "kube-",
        "nodelocaldns",
        "dummy",
        "ifb",
        "vxlan",
        "geneve",
        "gre",
        "erspan",
        "ip6gre",
        "ip6tnl",
        "ip_vti",
        "ip6_vti",
        "tunl",
        "sit",
        "antrea",
        "ovs-",
        "genev_sys",
        "vxlan_sys",
        "podman",
        "nerdctl",
        "nlmon",
        "team",
        "azv",
    ];
    // The AWS VPC CNI: eni and eleven hexadecimal digits.
    let of_vpc_cni = name
        .strip_prefix("eni")
        .is_some_and(|rest| rest.len() == 11 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
    // A VLAN is seen on the device below it.
    let vlan = name.contains('.') || name.starts_with("vlan");
    of_vpc_cni || vlan || BEGINNINGS.iter().any(|begin| name.starts_with(begin))
}

/// Whether a pattern leaves a device out: by its name, or by its kind where /sys shows it.
#[must_use]
pub fn is_left_out(name: &str) -> bool {
    is_inner(name) || is_inner_there(name)
}

/// By its kind. A mounted /sys may be of another network namespace, which has its own
/// devices: one of the same name and number is taken for the same.
fn is_inner_there(name: &str) -> bool {
    if name.contains('/') {
        return false;
    }
    let folder = std::path::Path::new("/sys/class/net").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    let number = read("ifindex").trim().parse().ok();
    number.is_some()
        && number == sys::device::index(name).ok()
        && is_inner_kind(&read("uevent"), &read("type"))
}

/// By `uevent` and `type` of a device: the kernel's name for its kind (`SET_NETDEV_DEVTYPE` of
/// its driver) and its hardware type (linux/if_arp.h).
fn is_inner_kind(uevent: &str, hardware: &str) -> bool {
    const KINDS: &[&str] = &["bridge", "vlan", "vxlan", "geneve", "bareudp"];
    // IPIP and IPv6 in IPv6 tunnels, SIT, GRE over IPv4 and over IPv6.
    const HARDWARE: &[&str] = &["768", "769", "776", "778", "823"];
    let kind = uevent
        .lines()
        .find_map(|line| line.strip_prefix("DEVTYPE="));
    kind.is_some_and(|kind| KINDS.contains(&kind)) || HARDWARE.contains(&hardware.trim())
}

/// The device of the default route.
fn default_device() -> Option<String> {
    // Documentation addresses are nobody's: only the default route leads there.
    let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    sys::device::outgoing_device(v4).or_else(|| sys::device::outgoing_device(v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Wanted {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Wanted::new(&words).expect("named")
    }

    const HOST: &[&str] = &[
        "lo",
        "eth0",
        "eth1",
        "docker0",
        "veth12ab",
        "eth0.100",
        "br-1",
        "eni0123456789a",
        "ens5",
        "wg0",
        "eni1",
    ];

    fn resolved(words: &[&str]) -> Vec<String> {
        let there: Vec<String> = HOST.iter().map(|name| (*name).to_owned()).collect();
        of(words).resolve(&there, is_inner)
    }

    #[test]
    fn any_is_what_a_host_owns() {
        assert_eq!(
            resolved(&["any"]),
            ["lo", "eth0", "eth1", "ens5", "wg0", "eni1"]
        );
    }

    #[test]
    fn a_named_device_is_taken_whatever_it_is() {
        assert_eq!(resolved(&["docker0", "any"])[..2], ["docker0", "lo"]);
        assert_eq!(resolved(&["nothere"]), ["nothere"]);
        assert_eq!(resolved(&["eth0", "eth0"]), ["eth0"]);
    }

    /// As Linux 6.1 shows them.
    #[test]
    fn kinds_are_what_the_kernel_says() {
        let bridge = "DEVTYPE=bridge\nINTERFACE=lan\nIFINDEX=7\n";
        assert!(is_inner_kind(bridge, "1\n"));
        assert!(is_inner_kind(
            "INTERFACE=x\nDEVTYPE=vxlan\nIFINDEX=7\n",
            "1\n"
        ));
        assert!(is_inner_kind("INTERFACE=to-b\nIFINDEX=8\n", "778\n"));
        let card = "INTERFACE=bridge\nIFINDEX=2\n";
        assert!(!is_inner_kind(card, "1\n"));
        // Packets of these are seen nowhere else as they are.
        for kind in ["wireguard", "wlan", "bond"] {
            assert!(!is_inner_kind(&format!("DEVTYPE={kind}\n"), "65534\n"));
        }
        assert!(!is_inner_kind("", ""));
        assert!(!is_left_out("lo") && !is_left_out("nosuch0") && is_left_out("veth0"));
        assert!(!is_inner_there("../../../etc"));
    }

    #[test]
    fn globs_are_a_shells() {
        assert_eq!(resolved(&["eth*"]), ["eth0", "eth1"]);
        assert_eq!(resolved(&["e*5", "?o"]), ["ens5", "lo"]);
        assert_eq!(resolved(&["x*"]), [""; 0]);
        assert!(of(&["e*"]).is_open() && of(&["any"]).is_open());
        assert!(!of(&["eth0"]).is_open());
    }
}
