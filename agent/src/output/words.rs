//! Numbers of the kernel and of ICMP in words.

/// The symbol of an `errno`, or its number. The numbers are those of every Linux that this
/// program is built for (`asm-generic/errno*.h`).
#[must_use]
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        6 => "ENXIO",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        19 => "ENODEV",
        22 => "EINVAL",
        90 => "EMSGSIZE",
        97 => "EAFNOSUPPORT",
        98 => "EADDRINUSE",
        99 => "EADDRNOTAVAIL",
        100 => "ENETDOWN",
        101 => "ENETUNREACH",
        105 => "ENOBUFS",
        111 => "ECONNREFUSED",
        112 => "EHOSTDOWN",
        113 => "EHOSTUNREACH",
        _ => return format!("errno {errno}"),
    };
    name.to_owned()
}

/// An `errno` for people: `No buffer space available (ENOBUFS)`.
#[must_use]
pub fn errno(errno: i32) -> String {
    if errno == 0 {
        return "for an unknown reason".to_owned();
    }
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    format!("{text} ({})", errno_name(errno))
}

/// An ICMP or ICMPv6 error in words.
#[must_use]
pub fn icmp(v6: bool, kind: u8, code: u8) -> String {
    let known = if v6 {
        icmp6_known(kind, code)
    } else {
        icmp4_known(kind, code)
    };
    let name = if v6 { "ICMPv6" } else { "ICMP" };
    known.map_or_else(|| format!("{name} type {kind} code {code}"), str::to_owned)
}

/// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1, RFC 1191.
const fn icmp4_known(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 6) => "network unknown",
        (3, 7) => "host unknown",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 13) => "communication administratively prohibited",
        (4, 0) => "source quench",
        (5, _) => "redirect",
        (11, 0) => "TTL exceeded in transit",
        (11, 1) => "fragment reassembly time exceeded",
        (12, _) => "parameter problem",
        _ => return None,
    })
}

/// RFC 4443 section 3.
const fn icmp6_known(kind: u8, code: u8) -> Option<&'static str> {
    Some(match (kind, code) {
        (1, 0) => "no route to destination",
        (1, 1) => "communication administratively prohibited",
        (1, 2) => "beyond scope of source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed policy",
        (1, 6) => "reject route to destination",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded in transit",
        (3, 1) => "fragment reassembly time exceeded",
        (4, _) => "parameter problem",
        _ => return None,
    })
}

/// `1 probe`, `2 probes`.
#[must_use]
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_have_their_symbol() {
        assert_eq!(errno(105), "No buffer space available (ENOBUFS)");
        assert_eq!(errno_name(4242), "errno 4242");
        // The table against the standard library's own.
        for (number, kind) in [
            (1, std::io::ErrorKind::PermissionDenied),
            (98, std::io::ErrorKind::AddrInUse),
            (99, std::io::ErrorKind::AddrNotAvailable),
            (100, std::io::ErrorKind::NetworkDown),
            (101, std::io::ErrorKind::NetworkUnreachable),
            (111, std::io::ErrorKind::ConnectionRefused),
            (113, std::io::ErrorKind::HostUnreachable),
        ] {
            assert_eq!(std::io::Error::from_raw_os_error(number).kind(), kind);
        }
    }

    #[test]
    fn icmp_errors_are_told_apart_by_family() {
        assert_eq!(icmp(false, 3, 3), "port unreachable");
        assert_eq!(icmp(true, 1, 4), "port unreachable");
        assert_eq!(icmp(false, 1, 4), "ICMP type 1 code 4");
        assert_eq!(icmp(true, 3, 3), "ICMPv6 type 3 code 3");
    }
}
