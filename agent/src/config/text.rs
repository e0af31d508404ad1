//! The configuration as it is written: every key, optional, with its default. Nothing is
//! interpreted here; [`super::resolve`] does that. Serialising it gives the effective
//! configuration, which reads back as itself.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A quantity as written: `"10ms"`, `2` or `0.5`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written(pub String);

impl From<&str> for Written {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"10ms\", or a number")
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// One word or several: `"eth0"`, `"eth0,eth1"`, `["eth0", "eth1"]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Words(pub Vec<String>);

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [word] => serializer.serialize_str(word),
            words => words.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                let words = text.split(',').map(str::trim);
                let words = words.filter(|word| !word.is_empty());
                Ok(Words(words.map(str::to_owned).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A section that this version does not have; only whether it is switched off is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Absent {
    /// `enabled`, as written.
    pub enabled: Option<bool>,
}

impl<'de> Deserialize<'de> for Absent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Section;
        impl<'de> Visitor<'de> for Section {
            type Value = Absent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a section")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Absent, A::Error> {
                let mut absent = Absent::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "enabled" {
                        absent.enabled = Some(map.next_value()?);
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    }
                }
                Ok(absent)
            }
        }
        deserializer.deserialize_any(Section)
    }
}

/// The whole file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Text {
    /// `error` or `warn`.
    pub on_unknown_key: String,
    /// `[agent]`.
    pub agent: Agent,
    /// `[limits]`.
    pub limits: Limits,
    /// `[[probe]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<Probe>,
    /// `[reflector]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reflector: Option<Reflector>,
    /// `[export]`.
    pub export: Export,
    /// `[capture]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// `[mtu]`: not in this version.
    #[serde(skip_serializing)]
    pub mtu: Option<Absent>,
    /// `[history]`: not in this version.
    #[serde(skip_serializing)]
    pub history: Option<Absent>,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            on_unknown_key: "error".into(),
            agent: Agent::default(),
            limits: Limits::default(),
            probe: Vec::new(),
            reflector: None,
            export: Export::default(),
            capture: None,
            mtu: None,
            history: None,
        }
    }
}

/// `[agent]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Agent {
    /// Page and API.
    pub listen: String,
    /// Metrics and health alone; empty: on `listen`.
    pub metrics_listen: String,
    /// Whom to become when started as root; empty: stay.
    pub user: String,
    /// What must outlive a restart.
    pub state_directory: String,
    /// Least level that is logged.
    pub log: String,
    /// Probe thread under `SCHED_FIFO`.
    pub realtime: bool,
    /// On every series.
    pub labels: BTreeMap<String, String>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9862".into(),
            metrics_listen: String::new(),
            user: "netsonde".into(),
            state_directory: "/var/lib/netsonde".into(),
            log: "info".into(),
            realtime: false,
            labels: BTreeMap::new(),
        }
    }
}

/// `[limits]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// All probes of this agent together; 0: none.
    pub packets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packets_per_second: 1000,
        }
    }
}

/// One `[[probe]]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// Label `probe`; empty: `probe-N` by position.
    pub name: String,
    /// `HOST`, or `HOST:PORT` with `stamp`.
    pub targets: Vec<String>,
    /// `auto`, `stamp` or `icmp`.
    pub protocol: String,
    /// STAMP port.
    pub port: u16,
    /// Between two probes of one target.
    pub interval: Written,
    /// How long an answer is waited for.
    pub wait: Written,
    /// Source ports, each probed from at every interval.
    pub source_ports: u16,
    /// IP packet; absent: the smallest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Written>,
    /// DSCP, 0 to 63.
    pub dscp: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bind to this device; empty: by route.
    pub device: String,
    /// Random intervals (RFC 2330) instead of even ones.
    pub poisson: bool,
    /// `ntp` or `ptp`.
    pub timestamp_format: String,
    /// Take the clocks as agreeing although the kernel does not say so.
    pub assume_synchronised: bool,
    /// Take the clocks as agreeing to this; empty: ask the kernel.
    pub clock_error: Written,
    /// On this probe's series.
    pub labels: BTreeMap<String, String>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            name: String::new(),
            targets: Vec::new(),
            protocol: "auto".into(),
            port: wire::stamp::PORT,
            interval: "1s".into(),
            wait: "1s".into(),
            source_ports: 1,
            size: None,
            dscp: 0,
            ttl: 255,
            device: String::new(),
            poisson: false,
            timestamp_format: "ntp".into(),
            assume_synchronised: false,
            clock_error: Written::default(),
            labels: BTreeMap::new(),
        }
    }
}

/// `[reflector]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Reflector {
    /// Off although present.
    pub enabled: bool,
    /// Where it answers.
    pub listen: Vec<String>,
    /// Whom it answers.
    pub allow: Vec<String>,
    /// Also answer requests of 14 to 43 bytes.
    pub twamp_light: bool,
    /// Smallest request answered; absent: 44, or 14 with `twamp_light`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_request: Option<u16>,
    /// Sessions at once; further ones get no answer.
    pub max_sessions: u32,
    /// A session is forgotten after this silence.
    pub idle_timeout: Written,
    /// Per session; 0: none.
    pub packets_per_second: u32,
    /// `none`; other values are not in this version.
    pub xdp: String,
}

impl Default for Reflector {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: vec![format!("0.0.0.0:{}", wire::stamp::PORT)],
            allow: vec!["vpc".into()],
            twamp_light: false,
            min_request: None,
            max_sessions: 4096,
            idle_timeout: "15m".into(),
            packets_per_second: 0,
            xdp: "none".into(),
        }
    }
}

/// `[capture]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Capture {
    /// Off although present.
    pub enabled: bool,
    /// Devices; `auto`: that of the default route, `any`, globs.
    pub interface: Words,
    /// `auto`, `afpacket`, `afxdp` or `pcap`.
    pub backend: String,
    /// In tcpdump's words; empty: everything.
    pub filter: String,
    /// `in`, or `inout`.
    pub direction: String,
    /// Where the XDP program is attached: `auto`, `native`, `generic`.
    pub xdp_mode: String,
    /// What AF_XDP takes: `mirror`, `ip`, `all`.
    pub xdp_take: String,
    /// `CIDR=NAME`.
    pub group_by: Vec<String>,
    /// `PORT=NAME`.
    pub group_by_port: Vec<String>,
    /// Which header names a flow: `inner` or `outer`.
    pub layer: String,
    /// Whose definitions: `tshark` or `tcptrace`.
    pub classifier: String,
    /// What happens to packets that were captured twice: `apart` or `classify`.
    pub duplicates: String,
    /// Flows in memory at once.
    pub max_flows: u32,
    /// Memory of all rings together.
    pub ring: Written,
    /// Threads; 0: one per 8 CPUs, at most 4.
    pub workers: u32,
    /// The host serves nothing but the capture: workers are pinned to CPUs.
    pub dedicated: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            enabled: true,
            interface: Words(vec!["auto".into()]),
            backend: "auto".into(),
            filter: String::new(),
            direction: "inout".into(),
            xdp_mode: "auto".into(),
            xdp_take: "mirror".into(),
            group_by: Vec::new(),
            group_by_port: Vec::new(),
            layer: "inner".into(),
            classifier: "tshark".into(),
            duplicates: "apart".into(),
            max_flows: 131_072,
            ring: "32M".into(),
            workers: 0,
            dedicated: false,
        }
    }
}

/// `[export]`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Export {
    /// `[export.prometheus]`.
    pub prometheus: Prometheus,
    /// `[export.cloudwatch]`: not in this version.
    #[serde(skip_serializing)]
    pub cloudwatch: Option<Absent>,
}

/// `[export.prometheus]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Prometheus {
    /// Layout of the classic buckets.
    pub buckets: String,
    /// Families that get classic buckets beside native ones.
    pub classic: Vec<String>,
    /// Native histograms.
    pub native: bool,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            buckets: "ec2-dense".into(),
            classic: vec!["probe_rtt".into(), "flow_rtt".into()],
            native: true,
        }
    }
}
