//! What systemd is told (sd_notify(3)): one datagram a change, if it asked for any.
//!
//! Never fails and never waits: a service manager that does not listen costs nothing.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where systemd listens, if it does.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// From the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub fn new(address: Option<&str>) -> Self {
        let open = |address: &str| {
            let address = match address.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(address).ok()?,
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        };
        Self {
            socket: address.and_then(open),
        }
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// It works, and how.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its configuration again; systemd wants the time of that.
    pub fn reloading(&self, now: base::MonoNanos) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.0 / 1000));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_each_change() {
        let name = format!("netsonde-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let systemd = UnixDatagram::bind_addr(&address).unwrap();
        let notify = Notify::new(Some(&format!("@{name}")));
        let mut buffer = [0; 100];
        let mut next = || {
            let len = systemd.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..len]).into_owned()
        };
        notify.ready("20 targets");
        assert_eq!(next(), "READY=1\nSTATUS=20 targets");
        notify.reloading(base::MonoNanos(5_000_000));
        assert_eq!(next(), "RELOADING=1\nMONOTONIC_USEC=5000");
        notify.stopping();
        assert_eq!(next(), "STOPPING=1");
    }

    #[test]
    fn nobody_listens_is_no_error() {
        Notify::new(None).ready("x");
        Notify::new(Some("/nonexistent/socket")).ready("x");
        Notify::new(Some("")).stopping();
    }
}
