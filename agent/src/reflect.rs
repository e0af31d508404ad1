//! `netsonde reflect`: listens, says that it is ready, and answers until told to stop.
//!
//! [`plan`] is pure; [`listen`] opens the sockets, all or none (but for IPv6 where it is
//! disabled and nobody asked for it); the answering is `probe::reflector`'s, on its thread.
//! This thread waits for signals: SIGUSR1 prints the counters, SIGINT and SIGTERM end.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use base::units::parse_duration;
use ipnet::IpNet;
use sys::socket::{ProbeSocket, SocketSpec};

use crate::cli::ReflectArgs;
use crate::exit::Failure;
use crate::output::words;
use crate::ping::preflight::{IPV6_IS_OFF, ipv6_is_off};

mod run;
pub use run::reflect;

/// RFC 8762 section 4.1: the port that a reflector listens on by default.
const PORT: u16 = 862;
const SECOND_NS: u64 = 1_000_000_000;
const SHORTEST_STAMP: i64 = 44;
const SHORTEST_TWAMP: i64 = 14;
const LONGEST_UDP: i64 = 65_507;
const WITHOUT_IPV6: &str = "netsonde: IPv6 is disabled on this host; reflecting on IPv4 only";

/// What will be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where to answer.
    pub listen: Vec<SocketAddr>,
    /// Nobody asked for these addresses: IPv6 may be missing.
    pub by_default: bool,
    /// Source networks that are answered; all if empty.
    pub allow: Vec<(IpAddr, u8)>,
    /// Answer short requests.
    pub twamp_light: bool,
    /// Bytes of UDP payload.
    pub min_request: u16,
    /// At once.
    pub max_sessions: u32,
    /// When a silent session is forgotten.
    pub idle_ns: u64,
    /// Per session; 0 is no limit.
    pub packets_per_second: u32,
    /// Without sessions.
    pub stateless: bool,
    /// Answer requests for counters.
    pub private_tlv: bool,
}

/// Checks everything that can be checked without a socket.
///
/// # Errors
/// The first rule that is broken, as one line with the usage code.
pub fn plan(args: &ReflectArgs) -> Result<Plan, Failure> {
    let listen = if args.listen.is_empty() {
        vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)),
        ]
    } else {
        args.listen
            .iter()
            .map(|text| address(text))
            .collect::<Result<_, _>>()?
    };
    Ok(Plan {
        listen,
        by_default: args.listen.is_empty(),
        allow: args
            .allow
            .iter()
            .map(|text| networks(text))
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        twamp_light: args.twamp_light,
        min_request: min_request(args.min_request, args.twamp_light)?,
        max_sessions: ranged(args.max_sessions, "--max-sessions", 1, 1_000_000)?,
        idle_ns: idle(&args.idle_timeout)?,
        packets_per_second: ranged(args.rate, "--rate", 0, u32::MAX)?,
        stateless: args.stateless,
        private_tlv: !args.no_private_tlv,
    })
}

/// An address with or without a port; port 0 lets the kernel choose.
fn address(text: &str) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, PORT))
        .map_err(|_| {
            Failure::usage(format!(
                "--listen '{text}' is no address; write 0.0.0.0:862, 10.0.0.1 or [::]:862"
            ))
        })
}

/// A CIDR, an address, or `any`, which means the same as in the configuration.
fn networks(text: &str) -> Result<Vec<(IpAddr, u8)>, Failure> {
    if text == "any" {
        return Ok(vec![
            (Ipv4Addr::UNSPECIFIED.into(), 0),
            (Ipv6Addr::UNSPECIFIED.into(), 0),
        ]);
    }
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            Failure::usage(format!(
                "--allow '{text}' is no network; write any, 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
            ))
        })?;
    Ok(vec![(net.network(), net.prefix_len())])
}

fn ranged(value: i64, option: &str, low: u32, high: u32) -> Result<u32, Failure> {
    u32::try_from(value)
        .ok()
        .filter(|value| (low..=high).contains(value))
        .ok_or_else(|| {
            Failure::usage(format!(
                "{option} {value} is out of range; give a number from {low} to {high}"
            ))
        })
}

fn min_request(bytes: Option<i64>, twamp_light: bool) -> Result<u16, Failure> {
    let by_default = if twamp_light {
        SHORTEST_TWAMP
    } else {
        SHORTEST_STAMP
    };
    let bytes = bytes.unwrap_or(by_default);
    if (SHORTEST_TWAMP..SHORTEST_STAMP).contains(&bytes) && !twamp_light {
        return Err(Failure::usage(format!(
            "--min-request {bytes} would answer with more than came in; add --twamp-light if that is wanted"
        )));
    }
    u16::try_from(bytes)
        .ok()
        .filter(|_| (SHORTEST_TWAMP..=LONGEST_UDP).contains(&bytes))
        .ok_or_else(|| {
            Failure::usage(format!(
                "--min-request {bytes} is out of range; give bytes from {SHORTEST_TWAMP} to {LONGEST_UDP}"
            ))
        })
}

fn idle(text: &str) -> Result<u64, Failure> {
    let ns =
        parse_duration(text).map_err(|error| Failure::usage(format!("--idle-timeout: {error}")))?;
    if (SECOND_NS..=86_400 * SECOND_NS).contains(&ns) {
        return Ok(ns);
    }
    Err(Failure::usage(format!(
        "--idle-timeout {text} is out of range; give a time from 1s to 1d"
    )))
}

/// A socket that is bound, with the address that it really has.
pub type Bound = (SocketAddr, OwnedFd);

/// Opens and binds every socket; says on `notes` what it goes without.
///
/// # Errors
/// One line with the exit code that fits.
pub fn listen(plan: &Plan, notes: &mut impl Write) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for address in &plan.listen {
        if address.is_ipv6() && ipv6_is_off() {
            if !plan.by_default {
                return Err(Failure::privilege(format!(
                    "cannot listen on UDP {address}: {IPV6_IS_OFF}; listen on an IPv4 address"
                ))
                .into());
            }
            without_ipv6(notes);
            continue;
        }
        match bind(*address) {
            Ok(socket) => bound.push(socket),
            Err(error) if plan.by_default && address.is_ipv6() && no_ipv6(&error) => {
                without_ipv6(notes);
            }
            Err(error) => return Err(refused(*address, &error).into()),
        }
    }
    Ok(bound)
}

/// That nobody reads notes is no reason not to listen.
fn without_ipv6(notes: &mut impl Write) {
    let _ = writeln!(notes, "{WITHOUT_IPV6}");
}

fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = ProbeSocket::open(&SocketSpec::udp(address.is_ipv6()))?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok((address, socket.into_fd()))
}

fn errno_name(error: &io::Error) -> String {
    sys::call::errno_of(error).map_or_else(String::new, words::errno_name)
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(errno_name(error).as_str(), "EAFNOSUPPORT" | "EADDRNOTAVAIL")
}

/// Why an address could not be bound, and the way out.
fn refused(address: SocketAddr, error: &io::Error) -> Failure {
    let port = address.port();
    let what = format!("cannot listen on UDP {address}");
    match errno_name(error).as_str() {
        "EADDRINUSE" => Failure::usage(format!(
            "{what}: the port is in use; ss -ulnp 'sport = :{port}' shows by whom, or take another with --listen"
        )),
        "EACCES" | "EPERM" => Failure::privilege(format!(
            "{what}: ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE; run as root, or setcap cap_net_bind_service+ep on the binary, or take a port like --listen {}",
            SocketAddr::new(address.ip(), 8620)
        )),
        "EADDRNOTAVAIL" => Failure::usage(format!(
            "{what}: this host has no such address; `ip address` lists them"
        )),
        "EAFNOSUPPORT" => Failure::privilege(format!(
            "{what}: IPv6 is disabled on this host; listen on an IPv4 address"
        )),
        _ => Failure::incomplete(format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::exit::Exit;

    fn planned(line: &str) -> Result<Plan, Failure> {
        let words = ["netsonde", "reflect"]
            .into_iter()
            .chain(line.split_whitespace());
        let Command::Reflect(args) = Cli::try_parse_from(words).expect(line).command else {
            panic!("not reflect");
        };
        plan(&args)
    }

    #[test]
    fn defaults_and_values() {
        let plan = planned("").expect("planned");
        let listen: Vec<String> = plan.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["0.0.0.0:862", "[::]:862"]);
        assert!(plan.by_default && plan.private_tlv && plan.allow.is_empty());
        assert_eq!((plan.min_request, plan.idle_ns), (44, 300 * SECOND_NS));
        let plan = planned(
            "--listen 10.0.0.1 --listen [::1]:0 --listen ::1 --allow 10.1.2.3/8,2001:db8::1 \
             --twamp-light --rate 100 --stateless --no-private-tlv --idle-timeout 5",
        )
        .expect("planned");
        let listen: Vec<String> = plan.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["10.0.0.1:862", "[::1]:0", "[::1]:862"]);
        let allow: Vec<String> = plan
            .allow
            .iter()
            .map(|(ip, len)| format!("{ip}/{len}"))
            .collect();
        assert_eq!(allow, ["10.0.0.0/8", "2001:db8::1/128"]);
        assert_eq!((plan.min_request, plan.idle_ns), (14, 5 * SECOND_NS));
        let any = planned("--allow any,192.0.2.0/24").expect("planned").allow;
        let any: Vec<String> = any.iter().map(|(ip, len)| format!("{ip}/{len}")).collect();
        assert_eq!(any, ["0.0.0.0/0", "::/0", "192.0.2.0/24"]);
        assert!(plan.stateless && !plan.private_tlv && !plan.by_default);
    }

    #[test]
    fn each_rule_has_its_line() {
        for (line, wanted) in [
            ("--listen db:862", "--listen 'db:862' is no address"),
            ("--listen 1.2.3.4:99999", "is no address"),
            ("--allow 10.0.0.0/33", "--allow '10.0.0.0/33' is no network"),
            ("--min-request 43", "add --twamp-light"),
            ("--min-request 13", "give bytes from 14 to 65507"),
            ("--min-request 65508", "give bytes from 14 to 65507"),
            ("--max-sessions 0", "give a number from 1 to 1000000"),
            ("--max-sessions -1", "--max-sessions -1 is out of range"),
            ("--rate -1", "--rate -1 is out of range"),
            ("--min-request -1", "--min-request -1 is out of range"),
            ("--idle-timeout -5s", "--idle-timeout: '-5s' is no duration"),
            ("--allow all", "write any, 10.0.0.0/8"),
            ("--idle-timeout 999ms", "give a time from 1s to 1d"),
            (
                "--idle-timeout soon",
                "--idle-timeout: 'soon' is no duration",
            ),
        ] {
            let error = planned(line).expect_err(line);
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.message.contains(wanted), "{line}: {error}");
        }
        assert_eq!(
            planned("--min-request 20 --twamp-light")
                .expect("planned")
                .min_request,
            20
        );
    }

    #[test]
    fn a_port_in_use_is_told_and_nothing_is_half_open() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let plan =
            planned(&format!("--listen 127.0.0.1:0 --listen 127.0.0.1:{port}")).expect("planned");
        let error = listen(&plan, &mut Vec::new()).expect_err("in use");
        let (exit, text) = crate::exit::explain(&error);
        assert_eq!(exit, Exit::Usage);
        let text = text.expect("said");
        assert!(
            text.contains(&format!(
                "cannot listen on UDP 127.0.0.1:{port}: the port is in use"
            )),
            "{text}"
        );
    }

    #[test]
    fn refusals_name_the_way_out() {
        let address: SocketAddr = "0.0.0.0:862".parse().expect("an address");
        let refusal = |errno| refused(address, &io::Error::from_raw_os_error(errno));
        let privilege = refusal(13);
        assert_eq!(privilege.exit, Exit::Privilege);
        assert!(privilege.message.contains("CAP_NET_BIND_SERVICE"));
        assert!(privilege.message.ends_with("--listen 0.0.0.0:8620"));
        assert_eq!(refusal(99).exit, Exit::Usage);
        assert_eq!(refusal(97).exit, Exit::Privilege);
        assert!(no_ipv6(&io::Error::from_raw_os_error(97)));
    }
}
