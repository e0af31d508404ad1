//! One `validate_x` per rule. A rule gets the value and says what is wrong with it and what
//! would be right; the caller knows the key, the loader the line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use base::units::{parse_bytes, parse_duration};

use super::error::suggest;
use super::text::{Absent, Written};
use super::{Choice, Clocks, Host, Range, Target};
use crate::cli::BackendArg;

/// Most labels of one kind.
const MAX_LABELS: usize = 8;
/// Most targets of one agent.
const MAX_TARGETS: usize = 20_000;
/// Labels that the agent itself sets (DESIGN section 6, and Prometheus' own).
const RESERVED_LABELS: [&str; 16] = [
    "probe",
    "target",
    "protocol",
    "direction",
    "device",
    "reason",
    "address",
    "kind",
    "family",
    "source",
    "why",
    "le",
    "quantile",
    "instance",
    "job",
    "sha256",
];
/// What `vpc` stands for while instance metadata is not read: RFC 1918, RFC 4193,
/// link-local and loopback.
pub(super) const PRIVATE: [&str; 8] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];
/// Clocks that are only said to agree are taken to agree to this.
const ASSUMED_CLOCK_ERROR_NS: u64 = 1_000_000;

/// A value, or what is wrong.
pub(super) type Rule<T> = Result<T, String>;

/// Which of the known words it is.
pub(super) fn validate_word(word: &str, known: &[&str]) -> Rule<usize> {
    known
        .iter()
        .position(|candidate| *candidate == word)
        .ok_or_else(|| suggest(&format!("'{word}' is no known value"), word, known))
}

pub(super) fn validate_absent(section: Option<&Absent>) -> Rule<()> {
    match section {
        None
        | Some(Absent {
            enabled: Some(false),
        }) => Ok(()),
        Some(_) => {
            Err("is not in this version; remove the section, or write enabled = false".into())
        }
    }
}

pub(super) fn validate_address(text: &str) -> Rule<SocketAddr> {
    text.parse().map_err(|_| {
        format!("'{text}' is no address with a port: write 127.0.0.1:9862 or [::1]:9862")
    })
}

pub(super) fn validate_differs(address: SocketAddr, listen: SocketAddr) -> Rule<SocketAddr> {
    if address == listen && address.port() != 0 {
        Err("is the same as agent.listen; leave it empty to serve metrics there".into())
    } else {
        Ok(address)
    }
}

pub(super) fn validate_user(user: &str) -> Rule<Option<String>> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if user.is_empty() {
        Ok(None)
    } else if user.len() <= 32 && user.chars().all(fine) && !user.starts_with('-') {
        Ok(Some(user.to_owned()))
    } else {
        Err(format!("'{user}' is no user name"))
    }
}

pub(super) fn validate_absolute(path: &str) -> Rule<std::path::PathBuf> {
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err(format!("'{path}' is no absolute path"))
    }
}

pub(super) fn validate_level(word: &str) -> Rule<tracing::Level> {
    let known = ["error", "warn", "info", "debug", "trace"];
    let levels = [
        tracing::Level::ERROR,
        tracing::Level::WARN,
        tracing::Level::INFO,
        tracing::Level::DEBUG,
        tracing::Level::TRACE,
    ];
    validate_word(word, &known).map(|index| levels[index])
}

pub(super) fn validate_labels(labels: &BTreeMap<String, String>) -> Rule<()> {
    if labels.len() > MAX_LABELS {
        return Err(format!(
            "has {} labels, at most {MAX_LABELS} are taken",
            labels.len()
        ));
    }
    for (name, value) in labels {
        validate_label_name(name)?;
        validate_label_value(value).map_err(|message| format!("{name}: {message}"))?;
    }
    Ok(())
}

/// A label name as Prometheus takes it, and not one that the agent sets.
pub(super) fn validate_label_name(name: &str) -> Rule<()> {
    let mut chars = name.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') || name.starts_with("__") {
        return Err(format!(
            "'{name}' is no label name: write letters, digits and _, not beginning with a digit or __"
        ));
    }
    if RESERVED_LABELS.contains(&name) {
        return Err(format!(
            "'{name}' is a label that netsonde or Prometheus sets itself; choose another name"
        ));
    }
    Ok(())
}

pub(super) fn validate_label_value(value: &str) -> Rule<()> {
    if value.is_empty() || value.len() > 128 || value.chars().any(char::is_control) {
        return Err(format!(
            "'{}' is no label value: 1 to 128 bytes without control characters",
            value.escape_debug()
        ));
    }
    Ok(())
}

pub(super) fn validate_unique(seen: &mut BTreeSet<String>, text: &str) -> Rule<()> {
    if seen.insert(text.to_owned()) {
        Ok(())
    } else {
        Err(format!("'{text}' is there twice"))
    }
}

pub(super) fn validate_target_count(count: usize) -> Rule<()> {
    if count > MAX_TARGETS {
        return Err(format!(
            "there are {count} targets, at most {MAX_TARGETS} are taken"
        ));
    }
    Ok(())
}

pub(super) fn validate_some(count: usize, what: &str) -> Rule<()> {
    if count == 0 {
        Err(format!("names no {what}"))
    } else {
        Ok(())
    }
}

pub(super) fn validate_protocol(word: &str) -> Rule<Choice> {
    if matches!(word, "tcp" | "udp") {
        return Err(format!(
            "'{word}' is not in this version; write auto, stamp or icmp"
        ));
    }
    let choices = [Choice::Auto, Choice::Stamp, Choice::Icmp];
    validate_word(word, &["auto", "stamp", "icmp"]).map(|index| choices[index])
}

pub(super) fn validate_port(port: u16) -> Rule<u16> {
    if port == 0 {
        Err("0 is no port to send to; write 1 to 65535".into())
    } else {
        Ok(port)
    }
}

/// `HOST`, `HOST:PORT`, `ADDRESS`, `[V6]:PORT`.
pub(super) fn validate_target(text: &str, port: u16, protocol: Choice) -> Rule<Target> {
    validate_label_value(text)?;
    let bare = |host| Target {
        text: text.to_owned(),
        host,
        port,
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        return validate_unicast(address).map(|address| bare(Host::Address(address)));
    }
    let zoned = |host: &str| {
        host.split_once('%')
            .is_some_and(|(address, zone)| address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty())
    };
    if zoned(text) {
        return Ok(bare(Host::Name(text.to_owned())));
    }
    let Some((host, written)) = text.rsplit_once(':') else {
        return validate_host_name(text).map(|name| bare(Host::Name(name)));
    };
    let port = written
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| {
            format!("'{text}' is no target: write HOST, HOST:PORT, 10.0.2.10 or [2001:db8::1]:862")
        })?;
    match protocol {
        Choice::Stamp => {}
        Choice::Icmp => return Err(format!("'{text}' has a port, but ICMP echo has none")),
        // DESIGN section 4: with HOST:PORT `auto` is TCP.
        Choice::Auto => {
            return Err(format!(
                "'{text}' has a port, which with protocol = \"auto\" means TCP, and that is not in this version; write protocol = \"stamp\", or the STAMP port as port = {port}"
            ));
        }
    }
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match inner.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) if address.is_ipv4() || inner.is_some() => {
            Host::Address(validate_unicast(address)?)
        }
        _ if inner.is_some_and(zoned) => Host::Name(inner.unwrap_or(host).to_owned()),
        _ => Host::Name(validate_host_name(host)?),
    };
    Ok(Target {
        text: text.to_owned(),
        host,
        port,
    })
}

pub(super) fn validate_unicast(address: IpAddr) -> Rule<IpAddr> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_multicast() || address.is_unspecified() || broadcast {
        Err(format!("'{address}' is no address of one host"))
    } else {
        Ok(address)
    }
}

/// A host name by RFC 1123 section 2.1, with underscores as DNS has them in practice.
pub(super) fn validate_host_name(name: &str) -> Rule<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    let last = trimmed.rsplit('.').next().unwrap_or("");
    // "whatever the last label is, it must not look like a number", or 10.0.0.300 is a name.
    let numeric = last.bytes().all(|b| b.is_ascii_digit());
    if trimmed.len() <= 253 && trimmed.split('.').all(label) && !numeric {
        Ok(name.to_owned())
    } else {
        Err(format!("'{name}' is neither an address nor a host name"))
    }
}

pub(super) fn validate_between(text: &Written, least: &str, most: &str) -> Rule<u64> {
    let ns = parse_duration(&text.0).map_err(|error| error.to_string())?;
    let bound = |text| parse_duration(text).unwrap_or(0);
    if (bound(least)..=bound(most)).contains(&ns) {
        Ok(ns)
    } else {
        Err(format!("{} is not within {least} to {most}", text.0))
    }
}

pub(super) fn validate_interval(text: &Written) -> Rule<u64> {
    validate_between(text, "100us", "1h")
}

pub(super) fn validate_wait(text: &Written) -> Rule<u64> {
    validate_between(text, "1ms", "60s")
}

pub(super) fn validate_idle(text: &Written) -> Rule<u64> {
    validate_between(text, "1s", "1d")
}

pub(super) fn validate_source_ports(count: u16) -> Rule<u16> {
    if (1..=64).contains(&count) {
        Ok(count)
    } else {
        Err(format!("{count} is not within 1 to 64"))
    }
}

/// The size of the IP packet, headers included.
pub(super) fn validate_size(text: &Written, protocol: Choice, ipv6: bool) -> Rule<u16> {
    let bytes = parse_bytes(&text.0).map_err(|error| error.to_string())?;
    let ip = if ipv6 { 40 } else { 20 };
    // UDP and STAMP's base packet, or the ICMP header and what we recognise ours by.
    let least = ip + 8 + if protocol == Choice::Icmp { 20 } else { 44 };
    match u16::try_from(bytes) {
        Ok(size) if u64::from(size) >= least => Ok(size),
        _ => Err(format!(
            "{} is not within {least} to 65535 (bytes of the IP packet)",
            text.0
        )),
    }
}

/// The DSCP as the TOS octet.
pub(super) fn validate_dscp(dscp: u8) -> Rule<u8> {
    if dscp < 64 {
        Ok(dscp << 2)
    } else {
        Err(format!("{dscp} is not within 0 to 63"))
    }
}

pub(super) fn validate_ttl(ttl: u8) -> Rule<u8> {
    if ttl == 0 {
        Err("0 is not within 1 to 255".into())
    } else {
        Ok(ttl)
    }
}

/// Most pairs of a prefix's and a port's group, those that fit none included: a pair has some
/// sixty series.
const MAX_GROUPS: usize = 64;

pub(super) fn validate_groups(prefixes: &[String], ports: &[String]) -> Rule<()> {
    let groups = crate::passive::plan::groups(prefixes, ports).map_err(|failure| {
        // The command's options have the keys' names.
        let message = failure.message;
        let place = message.find('\'').unwrap_or(0);
        message.get(place..).unwrap_or(&message).to_owned()
    })?;
    if groups.count() > MAX_GROUPS {
        return Err(format!(
            "makes {} pairs of groups ((group_by names + 1) x (group_by_port names + 1)), at most {MAX_GROUPS} are taken",
            groups.count()
        ));
    }
    Ok(())
}

/// A key that nothing but AF_XDP heeds, where it is not as usual.
pub(super) fn validate_for_afxdp(backend: BackendArg, word: &str, usual: &str) -> Rule<()> {
    if backend == BackendArg::Afxdp || word == usual {
        return Ok(());
    }
    Err(format!(
        "'{word}' is for backend = \"afxdp\" alone; add that, or leave it out"
    ))
}

pub(super) fn validate_filter(text: &str) -> Rule<Vec<String>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    match capture::Filter::compile(&words, &[]) {
        Ok(_) => Ok(words),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn validate_flows(flows: u32) -> Rule<u32> {
    if (16..=crate::passive::plan::MOST).contains(&flows) {
        Ok(flows)
    } else {
        Err(format!(
            "{flows} is not within 16 to {}",
            crate::passive::plan::MOST
        ))
    }
}

pub(super) fn validate_ring(text: &Written) -> Rule<u32> {
    let bytes = parse_bytes(&text.0).map_err(|error| error.to_string())?;
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| (256 << 10..=64 << 20).contains(bytes))
        .ok_or_else(|| format!("{} is not within 256K to 64M", text.0))
}

pub(super) fn validate_workers(workers: u32) -> Rule<Option<u32>> {
    match workers {
        0 => Ok(None),
        1..=64 => Ok(Some(workers)),
        _ => Err(format!("{workers} is not within 0 to 64")),
    }
}

/// What to write instead of nothing.
pub(super) const NO_DEVICE: &str = "names no device; write auto, any or the name of one";

/// A device of the capture; a pattern is a name here.
pub(super) fn validate_captured(name: &str) -> Rule<String> {
    validate_device(name)?.ok_or_else(|| NO_DEVICE.to_owned())
}

/// A device name as the kernel's `dev_valid_name` takes it.
pub(super) fn validate_device(name: &str) -> Rule<Option<String>> {
    let fine = |c: char| !c.is_whitespace() && !matches!(c, '/' | ':') && !c.is_control();
    if name.is_empty() {
        Ok(None)
    } else if name.len() <= 15 && name.chars().all(fine) && name != "." && name != ".." {
        Ok(Some(name.to_owned()))
    } else {
        Err(format!("'{}' is no device name", name.escape_debug()))
    }
}

pub(super) fn validate_clock_error(error: &Written, assume: bool) -> Rule<Clocks> {
    if !error.0.is_empty() {
        let error_ns = validate_between(error, "1ns", "10s")?;
        return Ok(Clocks::Agree { error_ns });
    }
    Ok(if assume {
        Clocks::Agree {
            error_ns: ASSUMED_CLOCK_ERROR_NS,
        }
    } else {
        Clocks::Kernel
    })
}

/// A CIDR, an address, `vpc` or `any`.
pub(super) fn validate_range(word: &str) -> Rule<Vec<Range>> {
    let all: &[&str] = match word {
        "vpc" => &PRIVATE,
        "any" => &["0.0.0.0/0", "::/0"],
        _ => &[word],
    };
    all.iter()
        .map(|text| {
            text.parse::<Range>()
                .or_else(|_| text.parse::<IpAddr>().map(Range::from))
                .map_err(|_| {
                    format!("'{text}' is no range: write vpc, any, 10.0.0.0/8 or 2001:db8::/32")
                })
                .and_then(|range| {
                    if range.trunc() == range {
                        Ok(range)
                    } else {
                        Err(format!(
                            "'{text}' has bits behind its prefix; write {}",
                            range.trunc()
                        ))
                    }
                })
        })
        .collect()
}

pub(super) fn validate_no_xdp(word: &str) -> Rule<()> {
    if word == "none" {
        Ok(())
    } else {
        Err(format!("'{word}' is not in this version; write none"))
    }
}

/// RFC 8762 section 4.6: a reflector that takes TWAMP Light takes requests of 14 octets.
pub(super) fn validate_min_request(bytes: Option<u16>, twamp_light: bool) -> Rule<u16> {
    let least = if twamp_light { 14 } else { 44 };
    match bytes {
        None => Ok(least),
        Some(bytes) if (least..=9000).contains(&bytes) => Ok(bytes),
        Some(bytes) if !twamp_light && (14..44).contains(&bytes) => Err(format!(
            "{bytes} is shorter than STAMP's 44 bytes; write twamp_light = true to take that"
        )),
        Some(bytes) => Err(format!("{bytes} is not within {least} to 9000")),
    }
}

pub(super) fn validate_sessions(count: u32) -> Rule<u32> {
    if (1..=1_000_000).contains(&count) {
        Ok(count)
    } else {
        Err(format!("{count} is not within 1 to 1000000"))
    }
}

/// A histogram family, without prefix and unit. `flow_rtt` comes with a later version and
/// is in the defaults.
pub(super) fn validate_family(name: &str) -> Rule<()> {
    let mut known = exporter::table::histogram_names();
    known.push("flow_rtt");
    validate_word(name, &known).map(|_| ())
}

#[cfg(test)]
mod tests;
