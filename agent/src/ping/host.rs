//! What a target may be called on the command line, and which address that is.
//!
//! Parsing is pure; [`resolve`] asks the system's resolver and blocks.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::exit::Failure;

/// A target as typed: a name or an address, perhaps with a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// As typed, for output.
    pub text: String,
    /// The name or address alone, without brackets.
    pub name: String,
    /// The port behind it.
    pub port: Option<u16>,
}

/// Which addresses are wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Family {
    /// The first that the resolver gives.
    Any,
    /// `-4`
    V4,
    /// `-6`
    V6,
}

impl Family {
    fn accepts(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// `name`, `name:port`, `192.0.2.1`, `192.0.2.1:port`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:port`, each IPv6 address perhaps with `%zone`.
///
/// # Errors
/// One line that says what is wrong with the text.
pub fn parse(text: &str) -> Result<Host, Failure> {
    let wrong = |why: &str| Failure::usage(format!("'{text}' is no target: {why}"));
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inner, tail) = rest
            .split_once(']')
            .ok_or_else(|| wrong("the closing bracket is missing"))?;
        if !is_ipv6(inner) {
            return Err(wrong("brackets are for IPv6 addresses"));
        }
        match tail.strip_prefix(':') {
            Some(port) => (inner, Some(port)),
            None if tail.is_empty() => (inner, None),
            None => return Err(wrong("only :PORT may follow the bracket")),
        }
    } else if is_ipv6(text) {
        (text, None)
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(wrong("it is no IPv6 address, and has more than one colon"));
            }
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(wrong("the port is no number from 1 to 65535")),
    };
    if name.is_empty() {
        return Err(wrong("the name is empty"));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(wrong("a name has no spaces and no slashes"));
    }
    Ok(Host {
        text: text.to_owned(),
        name: name.to_owned(),
        port,
    })
}

fn is_ipv6(text: &str) -> bool {
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

/// The address of `host` in the wanted family, with `port`.
///
/// # Errors
/// A [`Failure`] with the usage code when there is none.
pub fn resolve(host: &Host, family: Family, port: u16) -> Result<SocketAddr, Failure> {
    let found: Vec<SocketAddr> = (host.name.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| {
            Failure::usage(format!(
                "cannot resolve '{}': {}; check the name, or give an address",
                host.name,
                resolver_words(&error)
            ))
        })?
        .collect();
    let address = found
        .iter()
        .copied()
        .find(|address| family.accepts(address))
        .ok_or_else(|| match family {
            Family::V4 => Failure::usage(format!(
                "'{}' has no IPv4 address; leave -4 away to use IPv6",
                host.name
            )),
            Family::V6 => Failure::usage(format!(
                "'{}' has no IPv6 address; leave -6 away to use IPv4",
                host.name
            )),
            Family::Any => Failure::usage(format!("'{}' has no address", host.name)),
        })?;
    check_unicast(host, address.ip())?;
    Ok(address)
}

fn check_unicast(host: &Host, address: IpAddr) -> Result<(), Failure> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    if address.is_multicast() || broadcast || address.is_unspecified() {
        return Err(Failure::usage(format!(
            "'{}' is {address}, which is no single host; give the address of one host",
            host.text
        )));
    }
    Ok(())
}

/// The resolver's reason without the wrapping that the standard library adds.
fn resolver_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_as_people_write_them() {
        for (text, name, port) in [
            ("db", "db", None),
            ("db.internal:7", "db.internal", Some(7)),
            ("10.0.0.2", "10.0.0.2", None),
            ("10.0.0.2:862", "10.0.0.2", Some(862)),
            ("2001:db8::1", "2001:db8::1", None),
            ("::1", "::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:65535", "2001:db8::1", Some(65535)),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[fe80::1%eth0]:9", "fe80::1%eth0", Some(9)),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1", None),
        ] {
            let host = parse(text).expect(text);
            assert_eq!((host.name.as_str(), host.port), (name, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_says_why() {
        for (text, why) in [
            ("", "empty"),
            (":7", "empty"),
            ("db:", "port"),
            ("db:0", "port"),
            ("db:65536", "port"),
            ("db:http", "port"),
            ("[::1", "bracket is missing"),
            ("[::1]7", "may follow"),
            ("[10.0.0.1]:7", "for IPv6"),
            ("1:2:3", "more than one colon"),
            ("a b", "spaces"),
            ("10.0.0.0/24", "slashes"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.message.contains(why), "{text}: {error}");
            assert_eq!(error.exit, crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn literals_resolve_to_themselves_in_their_family() {
        let v4 = parse("127.0.0.1").expect("parses");
        assert_eq!(
            resolve(&v4, Family::Any, 862).expect("resolves"),
            "127.0.0.1:862".parse().expect("an address")
        );
        let error = resolve(&v4, Family::V6, 862).expect_err("no IPv6");
        assert!(error.message.contains("-6") || error.message.contains("resolve"));
        let v6 = parse("[::1]:9").expect("parses");
        assert_eq!(
            resolve(&v6, Family::Any, 9).expect("resolves").to_string(),
            "[::1]:9"
        );
        for many in ["224.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1"] {
            let host = parse(many).expect("parses");
            assert!(resolve(&host, Family::Any, 1).is_err(), "{many}");
        }
    }
}
