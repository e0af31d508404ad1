//! `netsonde status`: one question to the running agent, its answer in words or as JSON.
//!
//! A plain HTTP/1.1 request over std; nothing waits longer than two seconds.

mod client;
mod show;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::cli::StatusArgs;
use crate::config::Config;
use crate::exit::{Exit, Failure};

/// What the agent listens on unless told otherwise.
const DEFAULT: &str = "127.0.0.1:9862";

/// `netsonde status`.
///
/// # Errors
/// When the agent cannot be asked: one line with the address that was tried.
pub fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let address = address(args)?;
    let body = client::get(address, "/api/v1/status")?;
    let document: serde_json::Value = serde_json::from_slice(&body).map_err(|_| {
        Failure::new(
            Exit::NoAnswer,
            format!("{address} answers, but not as netsonde does; is --address right?"),
        )
    })?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{document:#}")?;
    } else {
        write!(out, "{}", show::show(&document, address))?;
    }
    Ok(if show::healthy(&document) {
        Exit::Measured
    } else {
        Exit::Assertion
    })
}

/// Where to ask: `--address`, or what the configuration says, or the default.
fn address(args: &StatusArgs) -> Result<SocketAddr, Failure> {
    let text = match (&args.address, &args.config) {
        (Some(address), _) => address.clone(),
        (None, Some(path)) => {
            let config =
                Config::load(path, &[]).map_err(|error| Failure::usage(error.to_string()))?;
            config.agent.listen.to_string()
        }
        (None, None) => DEFAULT.to_owned(),
    };
    let address: SocketAddr = text.parse().map_err(|_| {
        Failure::usage(format!(
            "--address '{text}' is no address with a port: write 127.0.0.1:9862 or [::1]:9862"
        ))
    })?;
    Ok(reachable(address))
}

/// An agent that listens on every address is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_ask() {
        let ask = |text: &str| {
            address(&StatusArgs {
                json: false,
                address: Some(text.to_owned()),
                config: None,
            })
        };
        assert_eq!(ask("0.0.0.0:1").unwrap().to_string(), "127.0.0.1:1");
        assert_eq!(ask("[::]:1").unwrap().to_string(), "[::1]:1");
        assert_eq!(ask("10.0.0.1:1").unwrap().to_string(), "10.0.0.1:1");
        let error = ask("here").unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("'here' is no address"));
    }
}
