//! From text to values: which rule applies to which key, and what is odd but allowed.

//! From text to values: one `validate_x` per rule. A rule gets the value and says what is
//! wrong with it and what would be right; the caller knows the key, the loader the line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::error::ConfigError;
use super::rules::*;
use super::text::{self, Text};
use super::{
    Agent, Buckets, Capture, Choice, Classifier, Config, Duplicates, Host, How, Layer, Probe,
    Prometheus, Reflector,
};
use crate::cli::{BackendArg, XdpModeArg, XdpTakeArg};

trait AtKey<T> {
    fn at(self, key: &str) -> Result<T, ConfigError>;
}

impl<T> AtKey<T> for Rule<T> {
    fn at(self, key: &str) -> Result<T, ConfigError> {
        self.map_err(|message| ConfigError::at(key, message))
    }
}

pub(super) fn resolve(text: &Text) -> Result<Config, ConfigError> {
    validate_word(&text.on_unknown_key, &["error", "warn"]).at("on_unknown_key")?;
    for (key, section) in [
        ("mtu", &text.mtu),
        ("history", &text.history),
        ("export.cloudwatch", &text.export.cloudwatch),
    ] {
        validate_absent(section.as_ref()).at(key)?;
    }
    let agent = agent(&text.agent)?;
    let mut warnings = Vec::new();
    let mut names = BTreeSet::new();
    let mut probes = Vec::new();
    for (index, written) in text.probe.iter().enumerate() {
        let key = format!("probe[{index}]");
        let probe = probe(&key, index, written, &agent.labels)?;
        validate_unique(&mut names, &probe.name).at(&format!("{key}.name"))?;
        warnings.extend(odd_probe(&probe));
        probes.push(probe);
    }
    validate_target_count(probes.iter().map(|probe| probe.targets.len()).sum()).at("probe")?;
    let packets_per_second =
        (text.limits.packets_per_second > 0).then_some(text.limits.packets_per_second);
    warnings.extend(odd_rate(&probes, packets_per_second));
    let reflector = match &text.reflector {
        Some(section) if section.enabled => {
            if section.allow.iter().any(|word| word == "vpc") {
                warnings.push(format!(
                    "reflector.allow: instance metadata is not read in this version, 'vpc' means the private ranges {}",
                    PRIVATE.join(" ")
                ));
            }
            Some(reflector(section)?)
        }
        _ => None,
    };
    let capture = match &text.capture {
        Some(section) if section.enabled => {
            let capture = capture(section)?;
            warnings.extend(odd_capture(&capture));
            Some(capture)
        }
        _ => None,
    };
    Ok(Config {
        agent,
        packets_per_second,
        probes,
        reflector,
        capture,
        prometheus: prometheus(&text.export.prometheus)?,
        warnings,
        effective: String::new(),
        sha256: String::new(),
    })
}

fn agent(text: &text::Agent) -> Result<Agent, ConfigError> {
    let listen = validate_address(&text.listen).at("agent.listen")?;
    let metrics_listen = if text.metrics_listen.is_empty() {
        None
    } else {
        let address = validate_address(&text.metrics_listen)
            .and_then(|address| validate_differs(address, listen))
            .at("agent.metrics_listen")?;
        Some(address)
    };
    validate_labels(&text.labels).at("agent.labels")?;
    Ok(Agent {
        listen,
        metrics_listen,
        user: validate_user(&text.user).at("agent.user")?,
        state_directory: validate_absolute(&text.state_directory).at("agent.state_directory")?,
        log: validate_level(&text.log).at("agent.log")?,
        realtime: text.realtime,
        labels: text.labels.clone(),
    })
}

fn probe(
    key: &str,
    index: usize,
    text: &text::Probe,
    agent_labels: &BTreeMap<String, String>,
) -> Result<Probe, ConfigError> {
    let at = |name: &str| format!("{key}.{name}");
    let name = if text.name.is_empty() {
        format!("probe-{}", index + 1)
    } else {
        validate_label_value(&text.name).at(&at("name"))?;
        text.name.clone()
    };
    let protocol = validate_protocol(&text.protocol).at(&at("protocol"))?;
    let port = validate_port(text.port).at(&at("port"))?;
    validate_some(
        text.targets.len(),
        "target, for instance targets = [\"10.0.2.10\"]",
    )
    .at(&at("targets"))?;
    let mut targets = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, text) in text.targets.iter().enumerate() {
        let key = at(&format!("targets[{index}]"));
        let target = validate_target(text, port, protocol).at(&key)?;
        validate_unique(&mut seen, &target.text).at(&key)?;
        targets.push(target);
    }
    let ipv6 = targets
        .iter()
        .any(|target| matches!(target.host, Host::Address(IpAddr::V6(_))));
    let packet_bytes = match &text.size {
        Some(size) => Some(validate_size(size, protocol, ipv6).at(&at("size"))?),
        None => None,
    };
    validate_labels(&text.labels).at(&at("labels"))?;
    let mut labels = agent_labels.clone();
    labels.extend(text.labels.clone());
    Ok(Probe {
        name,
        targets,
        how: How {
            protocol,
            interval_ns: validate_interval(&text.interval).at(&at("interval"))?,
            wait_ns: validate_wait(&text.wait).at(&at("wait"))?,
            source_ports: validate_source_ports(text.source_ports).at(&at("source_ports"))?,
            packet_bytes,
            tos: validate_dscp(text.dscp).at(&at("dscp"))?,
            ttl: validate_ttl(text.ttl).at(&at("ttl"))?,
            device: validate_device(&text.device).at(&at("device"))?,
            poisson: text.poisson,
            ptp: validate_word(&text.timestamp_format, &["ntp", "ptp"])
                .at(&at("timestamp_format"))?
                == 1,
            clocks: validate_clock_error(&text.clock_error, text.assume_synchronised)
                .at(&at("clock_error"))?,
        },
        labels,
    })
}

fn reflector(text: &text::Reflector) -> Result<Reflector, ConfigError> {
    validate_some(
        text.listen.len(),
        "address, for instance listen = [\"0.0.0.0:862\"]",
    )
    .at("reflector.listen")?;
    let mut listen = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, address) in text.listen.iter().enumerate() {
        let key = format!("reflector.listen[{index}]");
        let address = validate_address(address).at(&key)?;
        // Port 0 is a different port each time.
        if address.port() != 0 {
            validate_unique(&mut seen, &address.to_string()).at(&key)?;
        }
        listen.push(address);
    }
    let mut allow = Vec::new();
    for (index, word) in text.allow.iter().enumerate() {
        allow.extend(validate_range(word).at(&format!("reflector.allow[{index}]"))?);
    }
    validate_some(allow.len(), "range, for instance allow = [\"vpc\"]").at("reflector.allow")?;
    validate_no_xdp(&text.xdp).at("reflector.xdp")?;
    Ok(Reflector {
        listen,
        allow,
        twamp_light: text.twamp_light,
        min_request: validate_min_request(text.min_request, text.twamp_light)
            .at("reflector.min_request")?,
        max_sessions: validate_sessions(text.max_sessions).at("reflector.max_sessions")?,
        idle_ns: validate_idle(&text.idle_timeout).at("reflector.idle_timeout")?,
        packets_per_second: text.packets_per_second,
    })
}

fn capture(text: &text::Capture) -> Result<Capture, ConfigError> {
    let word = |key: &str, word: &str, known: &[&str]| {
        validate_word(word, known).at(&format!("capture.{key}"))
    };
    let mut interface = Vec::new();
    for (index, name) in text.interface.0.iter().enumerate() {
        if name != "auto" {
            let key = format!("capture.interface[{index}]");
            interface.push(validate_captured(name).at(&key)?);
        }
    }
    if text.interface.0.is_empty() {
        return Err(NO_DEVICE.to_owned()).at("capture.interface");
    }
    for (key, words) in [
        ("group_by", (&text.group_by[..], &[][..])),
        ("group_by_port", (&[][..], &text.group_by_port[..])),
        ("group_by", (&text.group_by[..], &text.group_by_port[..])),
    ] {
        validate_groups(words.0, words.1).at(&format!("capture.{key}"))?;
    }
    let backends = [
        BackendArg::Auto,
        BackendArg::Afpacket,
        BackendArg::Afxdp,
        BackendArg::Pcap,
    ];
    let modes = [XdpModeArg::Auto, XdpModeArg::Native, XdpModeArg::Generic];
    let takes = [XdpTakeArg::Mirror, XdpTakeArg::Ip, XdpTakeArg::All];
    let layers = [Layer::Innermost, Layer::Outermost];
    let classifiers = [Classifier::Tshark, Classifier::Tcptrace];
    let duplicates = [Duplicates::Apart, Duplicates::Classify];
    let backend = word(
        "backend",
        &text.backend,
        &["auto", "afpacket", "afxdp", "pcap"],
    )?;
    if backends[backend] == BackendArg::Afxdp {
        crate::passive::plan::named_for_afxdp(&text.interface.0)
            .map_err(|failure| failure.message)
            .at("capture.interface")?;
    }
    let xdp_mode = modes[word("xdp_mode", &text.xdp_mode, &["auto", "native", "generic"])?];
    let xdp_take = takes[word("xdp_take", &text.xdp_take, &["mirror", "ip", "all"])?];
    // Their defaults are what a configuration prints, whatever the backend.
    for (key, word, usual) in [
        ("xdp_mode", &text.xdp_mode, "auto"),
        ("xdp_take", &text.xdp_take, "mirror"),
    ] {
        validate_for_afxdp(backends[backend], word, usual).at(&format!("capture.{key}"))?;
    }
    Ok(Capture {
        interface,
        backend: backends[backend],
        filter: validate_filter(&text.filter).at("capture.filter")?,
        ignore_outgoing: word("direction", &text.direction, &["inout", "in"])? == 1,
        xdp_mode,
        xdp_take,
        group_by: text.group_by.clone(),
        group_by_port: text.group_by_port.clone(),
        layer: layers[word("layer", &text.layer, &["inner", "outer"])?],
        classifier: classifiers[word("classifier", &text.classifier, &["tshark", "tcptrace"])?],
        duplicates: duplicates[word("duplicates", &text.duplicates, &["apart", "classify"])?],
        max_flows: validate_flows(text.max_flows).at("capture.max_flows")?,
        ring_bytes: validate_ring(&text.ring).at("capture.ring")?,
        workers: validate_workers(text.workers).at("capture.workers")?,
        dedicated: text.dedicated,
    })
}

fn odd_capture(capture: &Capture) -> Vec<String> {
    let mut odd = Vec::new();
    if capture.backend == BackendArg::Afxdp && !capture.dedicated {
        odd.push(
            "capture.backend: frames that afxdp takes never reach this host, and only those that arrive are seen; dedicated = true says that the device serves the capture alone".to_owned(),
        );
    }
    if capture.xdp_mode == XdpModeArg::Native {
        odd.push(
            "capture.xdp_mode: attaching native XDP resets many devices (ena goes down and up), which interrupts their traffic".to_owned(),
        );
    }
    odd
}

fn prometheus(text: &text::Prometheus) -> Result<Prometheus, ConfigError> {
    let layouts = [Buckets::Ec2Dense, Buckets::Decade];
    let buckets =
        validate_word(&text.buckets, &["ec2-dense", "decade"]).at("export.prometheus.buckets")?;
    for (index, family) in text.classic.iter().enumerate() {
        validate_family(family).at(&format!("export.prometheus.classic[{index}]"))?;
    }
    if !text.native && text.classic.is_empty() {
        return Err(ConfigError::at(
            "export.prometheus.native",
            "no histogram would be left: keep native = true or name families in classic",
        ));
    }
    Ok(Prometheus {
        buckets: layouts[buckets],
        classic: text.classic.clone(),
        native: text.native,
    })
}

fn odd_probe(probe: &Probe) -> Option<String> {
    (probe.how.ttl != 255 && probe.how.protocol != Choice::Icmp).then(|| {
        format!(
            "probe '{}': with ttl = {} hops cannot be told from the received TTL (RFC 8762 sends 255)",
            probe.name, probe.how.ttl
        )
    })
}

fn odd_rate(probes: &[Probe], limit: Option<u32>) -> Option<String> {
    let wanted: f64 = probes.iter().map(Probe::packets_per_second).sum();
    let limit = limit?;
    (wanted > f64::from(limit)).then(|| {
        format!(
            "limits.packets_per_second: the probes want {wanted:.0} packets/s and {limit} are allowed; what exceeds it is skipped and counted"
        )
    })
}
