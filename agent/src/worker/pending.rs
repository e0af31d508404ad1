//! Stand-in with the agreed shape of the `probe` crate until that is there.
#![allow(
    missing_docs,
    dead_code,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value
)]

pub type OpenSocket =
    Box<dyn FnMut(&sys::socket::SocketSpec) -> std::io::Result<std::os::fd::OwnedFd> + Send>;

pub mod prober {
    use std::net::SocketAddr;

    use base::{Output, ProbeResult, TargetKey};
    use record::results::{Receiver, Sender, channel};

    #[derive(Copy, Clone, Debug)]
    pub struct Message {
        pub target: TargetKey,
        pub output: Output,
    }

    #[derive(Copy, Clone, Debug)]
    pub enum Choice {
        Auto,
        Stamp,
        Icmp,
    }

    #[derive(Copy, Clone, Debug)]
    pub enum ClockTrust {
        Kernel,
        Assume { error_ns: u64 },
    }

    #[derive(Clone, Debug)]
    pub struct TargetSpec {
        pub key: TargetKey,
        pub address: SocketAddr,
        pub protocol: Choice,
        pub interval_ns: u64,
        pub wait_ns: u64,
        pub packet_bytes: Option<u16>,
        pub tos: u8,
        pub ttl: u8,
        pub device: Option<String>,
        pub source_ports: u16,
        pub poisson: bool,
        pub format: wire::stamp::TimestampFormat,
        pub clock: ClockTrust,
    }

    impl TargetSpec {
        pub fn new(key: TargetKey, address: SocketAddr) -> Self {
            Self {
                key,
                address,
                protocol: Choice::Auto,
                interval_ns: 1_000_000_000,
                wait_ns: 1_000_000_000,
                packet_bytes: None,
                tos: 0,
                ttl: 255,
                device: None,
                source_ports: 1,
                poisson: false,
                format: wire::stamp::TimestampFormat::Ntp,
                clock: ClockTrust::Kernel,
            }
        }
    }

    pub struct Options {
        pub realtime: bool,
        pub packets_per_second: u32,
        pub sockets: super::OpenSocket,
        pub records: bool,
    }

    pub struct Prober {
        pub results: Receiver<Message>,
        pub records: Option<Receiver<(TargetKey, ProbeResult)>>,
        sender: Option<Sender<Message>>,
    }

    pub fn spawn(_options: Options) -> std::io::Result<Prober> {
        let (sender, results) = channel(1024);
        Ok(Prober {
            results,
            records: None,
            sender: Some(sender),
        })
    }

    impl Prober {
        pub fn add(&mut self, _spec: TargetSpec) {}
        pub fn remove(&mut self, _key: TargetKey) {}
        pub fn finish(&mut self) {
            self.sender = None;
        }
        pub fn join(self) -> std::thread::Result<()> {
            Ok(())
        }
    }
}
