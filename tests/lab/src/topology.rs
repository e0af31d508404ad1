//! The usual ways to join hosts: directly, by a relay, by a router. Link MTU 9001.
//!
//! Every host's device to the others is `eth0`. Hosts of one link know each other's hardware
//! address from the start (unless told otherwise), so that no probe waits for ARP.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::Result;
use base::Direction;

use crate::host::{DEVICE, Host, Lab};
use crate::relay::frame::{LEFT, RIGHT};
use crate::relay::{Relay, RelayConfig, RelayLog};

/// How links are made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct LinkOptions {
    /// MTU of both ends.
    pub mtu: u16,
    /// Whether hosts find each other by ARP and neighbour discovery.
    pub discover_neighbours: bool,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            mtu: 9_001,
            discover_neighbours: false,
        }
    }
}

/// The hardware address of end `n` of a link.
fn hardware(n: u8) -> String {
    format!("02:00:00:00:00:{n:02x}")
}

/// Joins two hosts by a veth pair and brings both ends up. The ends have the hardware
/// addresses `02:00:00:00:00:N`.
///
/// # Errors
/// When `ip` fails.
pub fn join(left: (&Host, &str, u8), right: (&Host, &str, u8), mtu: u16) -> Result<()> {
    let ((a, a_device, a_n), (b, b_device, b_n)) = (left, right);
    let (a_hardware, b_hardware) = (hardware(a_n), hardware(b_n));
    let b_namespace = b.namespace().name();
    a.ip(&format!(
        "link add {a_device} address {a_hardware} mtu {mtu} type veth peer name {b_device} address {b_hardware} mtu {mtu} netns {b_namespace}\n\
         link set {a_device} up\n"
    ))?;
    b.ip(&format!("link set {b_device} up\n"))?;
    Ok(())
}

/// Gives the hosts on the two ends of one link 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2.
fn address_pair(a: &Host, b: &Host, options: LinkOptions) -> Result<()> {
    for (host, own, other) in [(a, 1u8, 2u8), (b, 2, 1)] {
        host.ip(&format!(
            "address add 10.0.0.{own}/24 dev {DEVICE}\n\
             address add fd00::{own}/64 dev {DEVICE} nodad\n"
        ))?;
        if !options.discover_neighbours {
            let hardware = hardware(other);
            host.ip(&format!(
                "neighbour replace 10.0.0.{other} lladdr {hardware} dev {DEVICE} nud permanent\n\
                 neighbour replace fd00::{other} lladdr {hardware} dev {DEVICE} nud permanent\n"
            ))?;
        }
        let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, own.into());
        host.set_addresses(Ipv4Addr::new(10, 0, 0, own), v6);
    }
    Ok(())
}

/// Two hosts on one veth pair, with the kernel's default offloads.
#[derive(Debug)]
pub struct Direct {
    /// 10.0.0.1, fd00::1.
    pub a: Host,
    /// 10.0.0.2, fd00::2.
    pub b: Host,
}

impl Direct {
    /// Makes both.
    ///
    /// # Errors
    /// When a namespace or a link cannot be made.
    pub fn new(lab: &Lab, options: LinkOptions) -> Result<Self> {
        let (a, b) = (lab.host("a")?, lab.host("b")?);
        join((&a, DEVICE, 1), (&b, DEVICE, 2), options.mtu)?;
        address_pair(&a, &b, options)?;
        Ok(Self { a, b })
    }

    /// Makes both, without IPv6: they know each other and send nothing by themselves.
    ///
    /// # Errors
    /// As [`Direct::new`].
    pub fn silent(lab: &Lab) -> Result<Self> {
        let net = Self::new(lab, LinkOptions::default())?;
        net.a.silence()?;
        net.b.silence()?;
        Ok(net)
    }
}

/// Two hosts with a relay between; forward is from `a` to `b`. The hosts see one link.
#[derive(Debug)]
pub struct Relayed {
    /// 10.0.0.1, fd00::1.
    pub a: Host,
    /// 10.0.0.2, fd00::2.
    pub b: Host,
    /// Where the relay runs; it has no addresses.
    pub between: Host,
    /// The relay. `None` after [`Relayed::stop`].
    pub relay: Option<Relay>,
}

impl Relayed {
    /// Makes the hosts and starts the relay; returns when it is ready.
    ///
    /// # Errors
    /// When a namespace or a link cannot be made or the relay does not start.
    pub fn new(lab: &Lab, options: LinkOptions, config: &RelayConfig) -> Result<Self> {
        Self::with_program(lab, options, config, &crate::relay::process::program()?)
    }

    /// As [`Relayed::new`], with the relay's program at `path`.
    ///
    /// # Errors
    /// As [`Relayed::new`].
    pub fn with_program(
        lab: &Lab,
        options: LinkOptions,
        config: &RelayConfig,
        path: &Path,
    ) -> Result<Self> {
        let (a, b, between) = (lab.host("a")?, lab.host("b")?, lab.host("relay")?);
        // A silent bridge: its kernel must not answer or announce anything.
        between.silence()?;
        join((&a, DEVICE, 1), (&between, LEFT, 0xa1), options.mtu)?;
        join((&between, RIGHT, 0xa2), (&b, DEVICE, 2), options.mtu)?;
        for (host, device) in [
            (&a, DEVICE),
            (&b, DEVICE),
            (&between, LEFT),
            (&between, RIGHT),
        ] {
            host.offloads_off(device)?;
        }
        let relay = Relay::start_program(&between, config, path)?;
        address_pair(&a, &b, options)?;
        Ok(Self {
            a,
            b,
            between,
            relay: Some(relay),
        })
    }

    /// Stops the relay and reads its log.
    ///
    /// # Errors
    /// When it was stopped before or its log is not whole.
    pub fn stop(&mut self) -> Result<RelayLog> {
        let relay = self.relay.take();
        anyhow::Context::context(relay, "the relay was stopped before")?.stop()
    }

    /// Replaces what the relay does, from the next packet on.
    ///
    /// # Errors
    /// When the relay is gone.
    pub fn configure(&mut self, config: &RelayConfig) -> Result<()> {
        let relay = self.relay.as_mut();
        anyhow::Context::context(relay, "the relay was stopped before")?.configure(config)
    }
}

/// Gives two hosts and the router between them their addresses, the hosts their routes: IPv4, and
/// IPv6 if wanted.
fn address_routed(a: &Host, router: &Host, b: &Host, v6: bool) -> Result<()> {
    for (host, net, device, hardware_router) in [
        (a, 1u8, "eth0", hardware(0xfe)),
        (b, 2, "eth1", hardware(0xfd)),
    ] {
        let own = hardware(net);
        router.ip(&format!(
            "address add 10.0.{net}.254/24 dev {device}\n\
             neighbour replace 10.0.{net}.1 lladdr {own} dev {device} nud permanent\n"
        ))?;
        host.ip(&format!(
            "address add 10.0.{net}.1/24 dev {DEVICE}\n\
             neighbour replace 10.0.{net}.254 lladdr {hardware_router} dev {DEVICE} nud permanent\n\
             route add default via 10.0.{net}.254\n"
        ))?;
        let v4 = Ipv4Addr::new(10, 0, net, 1);
        if !v6 {
            host.set_addresses(v4, Ipv6Addr::UNSPECIFIED);
            continue;
        }
        router.ip(&format!(
            "address add fd00:{net}::fe/64 dev {device} nodad\n\
             neighbour replace fd00:{net}::1 lladdr {own} dev {device} nud permanent\n"
        ))?;
        host.ip(&format!(
            "address add fd00:{net}::1/64 dev {DEVICE} nodad\n\
             neighbour replace fd00:{net}::fe lladdr {hardware_router} dev {DEVICE} nud permanent\n\
             route add default via fd00:{net}::fe\n"
        ))?;
        host.set_addresses(v4, Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, 1));
    }
    Ok(())
}

/// Two hosts with a kernel router between, one more hop each way.
#[derive(Debug)]
pub struct Routed {
    /// 10.0.1.1, fd00:1::1.
    pub a: Host,
    /// 10.0.1.254 and fd00:1::fe on `eth0`, 10.0.2.254 and fd00:2::fe on `eth1`.
    pub router: Host,
    /// 10.0.2.1, fd00:2::1.
    pub b: Host,
}

impl Routed {
    /// Makes all three; links of `mtu` bytes.
    ///
    /// # Errors
    /// When a namespace or a link cannot be made.
    pub fn new(lab: &Lab, mtu: u16) -> Result<Self> {
        let (a, b, router) = (lab.host("a")?, lab.host("b")?, lab.router("router")?);
        join((&a, DEVICE, 1), (&router, "eth0", 0xfe), mtu)?;
        join((&b, DEVICE, 2), (&router, "eth1", 0xfd), mtu)?;
        address_routed(&a, &router, &b, true)?;
        Ok(Self { a, router, b })
    }

    /// Limits one direction at the router, by the MTU of its route: the router says "too
    /// big" to the sender. The links keep theirs (a smaller link MTU on one end of a veth
    /// would break the other direction as well).
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn limit(&self, direction: Direction, mtu: u16) -> Result<()> {
        let (net, device) = match direction {
            Direction::Forward => (2, "eth1"),
            Direction::Reverse => (1, "eth0"),
        };
        self.router.ip(&format!(
            "route replace 10.0.{net}.0/24 dev {device} proto kernel scope link src 10.0.{net}.254 mtu {mtu}\n\
             route replace fd00:{net}::/64 dev {device} proto kernel metric 256 mtu {mtu}\n"
        ))?;
        Ok(())
    }
}

/// Two hosts with a router between, and a relay on either side of the router; forward is
/// from `a` to `b`. What is captured on the router was impaired before, and is after.
#[derive(Debug)]
pub struct Chained {
    /// 10.0.1.1.
    pub a: Host,
    /// 10.0.1.254 on `eth0`, 10.0.2.254 on `eth1`.
    pub router: Host,
    /// 10.0.2.1.
    pub b: Host,
    relays: [Relay; 2],
    /// Where the relays run.
    _between: [Host; 2],
}

impl Chained {
    /// Makes the hosts and starts both relays, IPv4 only; returns when they are ready.
    ///
    /// # Errors
    /// When a namespace or a link cannot be made or a relay does not start.
    pub fn new(lab: &Lab, mtu: u16, configs: [&RelayConfig; 2]) -> Result<Self> {
        let (a, b, router) = (lab.host("a")?, lab.host("b")?, lab.router("router")?);
        let between = [lab.host("relay before")?, lab.host("relay after")?];
        for host in &between {
            // Silent bridges: their kernels must not answer or announce anything.
            host.silence()?;
        }
        join((&a, DEVICE, 1), (&between[0], LEFT, 0xa1), mtu)?;
        join((&between[0], RIGHT, 0xa2), (&router, "eth0", 0xfe), mtu)?;
        join((&router, "eth1", 0xfd), (&between[1], LEFT, 0xa3), mtu)?;
        join((&between[1], RIGHT, 0xa4), (&b, DEVICE, 2), mtu)?;
        for (host, device) in [
            (&a, DEVICE),
            (&b, DEVICE),
            (&router, "eth0"),
            (&router, "eth1"),
        ] {
            host.offloads_off(device)?;
        }
        for host in &between {
            host.offloads_off(LEFT)?;
            host.offloads_off(RIGHT)?;
        }
        let relays = [
            Relay::start(&between[0], configs[0])?,
            Relay::start(&between[1], configs[1])?,
        ];
        address_routed(&a, &router, &b, false)?;
        Ok(Self {
            a,
            router,
            b,
            relays,
            _between: between,
        })
    }

    /// Stops both relays and reads their logs, `a`'s first.
    ///
    /// # Errors
    /// When a relay failed.
    pub fn stop(self) -> Result<[RelayLog; 2]> {
        let [first, second] = self.relays;
        Ok([first.stop()?, second.stop()?])
    }
}
