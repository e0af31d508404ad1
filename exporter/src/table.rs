//! THE metric table: each metric is declared here once, and nowhere else.
//!
//! README's table, both encoders, the list of names that the configuration accepts and the
//! tests read it. Base units; names end in their unit; counters in `_total`.

/// How a metric behaves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Any value at any time.
    Gauge,
    /// A distribution since the series began.
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a value means.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
    /// Things that the name says.
    Count,
    /// 0 or 1.
    Boolean,
    /// Always 1; the labels are the value.
    Info,
}

impl Unit {
    /// The word in README's table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Count => "count",
            Self::Boolean => "0 or 1",
            Self::Info => "always 1",
        }
    }
}

/// One line of the table.
#[derive(PartialEq, Eq, Debug)]
pub struct Metric {
    /// The full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What a value means.
    pub unit: Unit,
    /// Labels of its own, beside those configured.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Metric {
    /// The name in the configuration (`classic = ["probe_rtt"]`): without prefix and unit.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        let name = self.name.strip_prefix(PREFIX).unwrap_or(self.name);
        let name = name.strip_suffix("_total").unwrap_or(name);
        ["_seconds", "_bytes", "_packets"]
            .iter()
            .find_map(|unit| name.strip_suffix(unit))
            .unwrap_or(name)
    }
}

/// What every name begins with.
pub const PREFIX: &str = "netsonde_";

/// Labels of everything that is measured per target.
pub const TARGET: &[&str] = &["probe", "target", "protocol"];

macro_rules! table {
    ($($id:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $id: &Metric = &Metric {
                name: concat!("netsonde_", $name),
                kind: Kind::$kind,
                unit: Unit::$unit,
                labels: &[$($label),*],
                help: $help,
            };
        )+

        /// Every metric, in the order in which it is exported.
        pub const ALL: &[&Metric] = &[$($id),+];
    };
}

table! {
    BUILD_INFO = "build_info", Gauge, Info, ["version", "revision", "rustc"],
        "What is running.";
    CONFIG_INFO = "config_info", Gauge, Info, ["sha256"],
        "The configuration in force.";
    CONFIG_RELOAD_OK = "config_last_reload_successful", Gauge, Boolean, [],
        "Whether the last load or reload of the configuration was taken.";
    CONFIG_RELOAD_TIME = "config_last_reload_success_timestamp_seconds", Gauge, Seconds, [],
        "When a configuration was last taken, since 1970.";
    READY = "ready", Gauge, Boolean, [],
        "Whether the agent measures as configured.";
    COMPONENT_HEALTHY = "component_healthy", Gauge, Boolean, ["component"],
        "Whether a part of the agent works as it should.";
    START_TIME = "process_start_time_seconds", Gauge, Seconds, [],
        "When the agent began to measure, since 1970.";
    PROCESS_MEMORY = "process_resident_memory_bytes", Gauge, Bytes, [],
        "Resident memory of the agent.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, [],
        "CPU time of the agent.";
    PROCESS_FDS = "process_open_fds", Gauge, Count, [],
        "Open file descriptors.";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, Count, [],
        "Limit of open file descriptors.";
    PROCESS_THREADS = "process_threads", Gauge, Count, [],
        "Threads of the agent.";
    EVENTS = "events_total", Counter, Count, ["kind"],
        "Events by kind; the newest are at /api/v1/events.";
    EVENTS_EVICTED = "events_evicted_total", Counter, Count, [],
        "Events that fell out of the list at /api/v1/events.";
    RESULTS_DROPPED = "dropped_results_total", Counter, Count, ["reason"],
        "Results of probes that did not reach the series.";
    PUBLISH_DURATION = "publish_duration_seconds", Gauge, Seconds, [],
        "How long the last tick of the publisher took.";
    EXPORT_SCRAPES = "export_scrapes_total", Counter, Count, ["format"],
        "Scrapes answered, by format.";
    EXPORT_ERRORS = "export_errors_total", Counter, Count, ["sink", "reason"],
        "What a sink failed to deliver.";
    EXPORT_DURATION = "export_last_duration_seconds", Gauge, Seconds, ["sink"],
        "How long the last encoding took.";

    PROBE_RTT = "probe_rtt_seconds", Histogram, Seconds, ["probe", "target", "protocol"],
        "Network round-trip time: (T4-T1)-(T3-T2), or T4-T1 where the protocol has no T2 and T3.";
    PROBE_ROUND_TRIP = "probe_round_trip_seconds", Histogram, Seconds, ["probe", "target", "protocol"],
        "T4-T1, as ping would show it: round-trip time with the reflector's dwell.";
    PROBE_RESPONSE = "probe_response_seconds", Histogram, Seconds, ["probe", "target", "protocol"],
        "From the intended send time to the answer: free of coordinated omission.";
    PROBE_SCHEDULE_ERROR = "probe_schedule_error_seconds", Histogram, Seconds, ["probe", "target", "protocol"],
        "How late probes left.";
    PROBE_LOSS_RUN = "probe_loss_run_packets", Histogram, Packets, ["probe", "target", "protocol"],
        "Lengths of runs of lost packets (RFC 3357).";
    PROBE_DWELL = "probe_reflector_dwell_seconds", Histogram, Seconds, ["probe", "target", "protocol"],
        "Time in the reflector: T3-T2.";
    PROBE_OWD = "probe_one_way_delay_seconds", Histogram, Seconds, ["probe", "target", "protocol", "direction"],
        "One-way delay, only while the clocks are known to agree.";
    PROBE_IPDV = "probe_ipdv_seconds", Histogram, Seconds, ["probe", "target", "protocol", "direction"],
        "Change of the one-way delay between consecutive probes (RFC 3393), signed.";
    PROBE_PDV = "probe_pdv_seconds", Histogram, Seconds, ["probe", "target", "protocol", "direction"],
        "One-way delay above the smallest of its interval (RFC 5481).";

    PROBE_SENT = "probe_sent_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Probes that left send().";
    PROBE_RECEIVED = "probe_received_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Probes answered in time with usable stamps.";
    PROBE_LATE = "probe_late_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Answers to probes that were lost already.";
    PROBE_SEND_ERRORS = "probe_send_errors_total", Counter, Packets, ["probe", "target", "protocol"],
        "Probes that send() refused.";
    PROBE_SKIPPED = "probe_skipped_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Probes never tried: schedule too far behind, or a limit.";
    PROBE_SENT_LATE = "probe_sent_late_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Probes that left late.";
    PROBE_UNCOUNTED = "probe_uncounted_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Opening and closing probes, in no other counter.";
    PROBE_RECEIVE_OVERFLOWS = "probe_receive_overflow_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Replies dropped at the agent's own socket.";
    PROBE_ICMP_ERRORS = "probe_icmp_errors_total", Counter, Packets, ["probe", "target", "protocol"],
        "ICMP errors that named a probe.";
    PROBE_RESETS = "probe_reflector_resets_total", Counter, Count, ["probe", "target", "protocol"],
        "Restarts of the reflector, seen by its sequence.";
    PROBE_OUTAGES = "probe_outages_total", Counter, Count, ["probe", "target", "protocol"],
        "Runs of at least 3 lost packets (RFC 3357).";
    PROBE_REFLECTOR_OVERFLOWS = "probe_reflector_overflow_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Overflows of the reflector's receive buffer, as it reports them.";
    PROBE_REFLECTOR_LIMITED = "probe_reflector_rate_limited_packets_total", Counter, Packets, ["probe", "target", "protocol"],
        "Requests that the reflector's rate limit refused, as it reports them.";
    PROBE_DUPLICATES = "probe_duplicate_packets_total", Counter, Packets, ["probe", "target", "protocol", "direction"],
        "Packets that arrived more than once.";
    PROBE_REORDERED = "probe_reordered_packets_total", Counter, Packets, ["probe", "target", "protocol", "direction"],
        "Packets that arrived out of order (RFC 4737).";
    PROBE_DISCARDED = "probe_discarded_packets_total", Counter, Packets, ["probe", "target", "protocol", "reason"],
        "Probes answered in time without a usable sample.";
    PROBE_UNUSABLE = "probe_unusable_replies_total", Counter, Packets, ["probe", "target", "protocol", "reason"],
        "Replies that fit no probe or were not as the protocol says.";
    PROBE_LOST = "probe_lost_packets_total", Counter, Packets, ["probe", "target", "protocol", "direction"],
        "Probes unanswered when their wait passed, by where they were lost; unattributed settles within seconds.";
    PROBE_SATURATED = "probe_saturated_values_total", Counter, Count, ["probe", "target", "protocol"],
        "Values outside the range of the histograms, clamped.";
    PROBE_STAMPS = "probe_timestamps_total", Counter, Count, ["probe", "target", "protocol", "point", "source"],
        "Samples by who took their stamps; exported once seen.";

    PROBE_UP = "probe_up", Gauge, Boolean, ["probe", "target", "protocol"],
        "Whether the target answers.";
    PROBE_IN_FLIGHT = "probe_in_flight_packets", Gauge, Packets, ["probe", "target", "protocol"],
        "Probes sent and not yet decided.";
    PROBE_LONGEST_OUTAGE = "probe_longest_outage_seconds", Gauge, Seconds, ["probe", "target", "protocol"],
        "Length of the longest outage so far.";
    PROBE_CLOCK_ERROR = "probe_clock_error_bound_seconds", Gauge, Seconds, ["probe", "target", "protocol"],
        "Error bound of one-way delays: both Error Estimates added.";
    PROBE_CLOCKS = "probe_clocks_synchronised", Gauge, Boolean, ["probe", "target", "protocol"],
        "Whether both ends claim synchronised clocks, or it is assumed.";
    PROBE_JITTER = "probe_jitter_seconds", Gauge, Seconds, ["probe", "target", "protocol", "direction"],
        "Interarrival jitter (RFC 3550).";
    PATH_HOPS = "path_hops", Gauge, Count, ["probe", "target", "protocol", "direction"],
        "Hops along the path, from the TTL.";
    TARGET_INFO = "target_info", Gauge, Info, ["probe", "target", "protocol", "address", "az_id", "protocol_requested", "reason"],
        "What may change while a target stays: its address, and why its protocol is used.";

    REFLECTOR_RECEIVED = "reflector_received_packets_total", Counter, Packets, [],
        "Packets that reached the reflector.";
    REFLECTOR_REFLECTED = "reflector_reflected_packets_total", Counter, Packets, [],
        "Packets that the reflector answered.";
    REFLECTOR_DROPPED = "reflector_dropped_packets_total", Counter, Packets, ["reason"],
        "Packets that the reflector did not answer.";
    REFLECTOR_NOTES = "reflector_noted_packets_total", Counter, Packets, ["reason"],
        "Packets that the reflector answered in a particular way.";
    REFLECTOR_SESSIONS = "reflector_sessions", Gauge, Count, [],
        "Sessions in the reflector's table.";
    REFLECTOR_CAPACITY = "reflector_session_capacity", Gauge, Count, [],
        "Size of the reflector's table.";
    REFLECTOR_EXPIRED = "reflector_expired_sessions_total", Counter, Count, [],
        "Sessions that were idle too long.";

    CAPTURE_INFO = "capture_info", Gauge, Info, ["device", "backend", "reason"],
        "What is captured, how, and why so.";
    CAPTURE_FRAMES = "capture_frames_total", Counter, Count, [],
        "Frames analysed.";
    CAPTURE_BYTES = "capture_bytes_total", Counter, Bytes, [],
        "Their octets on the wire.";
    CAPTURE_DROPPED = "capture_dropped_frames_total", Counter, Count, ["reason"],
        "Frames that were not analysed; filtered ones were not wanted, all others are lost to the capture.";
    CAPTURE_UNDECODED = "capture_undecoded_frames_total", Counter, Count, ["reason"],
        "Frames without a packet that can be measured.";
    CAPTURE_UNMEASURED = "capture_unmeasured_frames_total", Counter, Count, ["reason"],
        "Frames that are decoded and in no flow.";
    CAPTURE_DUPLICATES = "capture_duplicates_total", Counter, Count, [],
        "Frames that were captured twice: in flows, and no packets of them.";
    CAPTURE_INTERVALS = "capture_intervals_total", Counter, Count, [],
        "Seconds since the capture began, degraded and interrupted ones included.";
    CAPTURE_DEGRADED = "capture_degraded_intervals_total", Counter, Count, [],
        "Seconds in which the capture lost frames: losses in them may be the capture's own.";
    CAPTURE_INTERRUPTED = "capture_interrupted_intervals_total", Counter, Count, [],
        "Seconds in which there was no device to capture on.";
    CAPTURE_INTERRUPTIONS = "capture_interruptions_total", Counter, Count, [],
        "How often a device went away.";
    CAPTURE_CLOCK_BACK = "capture_clock_back_frames_total", Counter, Count, [],
        "Frames older than the one before them.";
    FLOW_ENTRIES = "flow_table_entries", Gauge, Count, [],
        "Flows in the table.";
    FLOW_CAPACITY = "flow_table_capacity", Gauge, Count, [],
        "Size of the flow table.";
    FLOWS = "flows_total", Counter, Count, [],
        "Flows that were begun.";
    FLOW_ENDED = "flow_ended_total", Counter, Count, ["reason"],
        "Flows that left the table; evicted ones for want of room.";
    FLOW_FORGOTTEN = "flow_forgotten_segments_total", Counter, Count, [],
        "Segments that were not remembered until their ACK for want of room.";
    FLOW_NO_SAMPLE = "flow_rtt_no_sample_total", Counter, Count, ["reason"],
        "What could have given a round-trip time, and why it did not.";
    FLOW_RTT = "flow_rtt_seconds", Histogram, Seconds, ["method", "leg", "group", "service_port"],
        "Round-trip times of passing traffic, between the capture and the near or remote end.";
    FLOW_LATE = "flow_reordering_late_seconds", Histogram, Seconds, ["sender", "group", "service_port"],
        "How long after newer ones reordered segments came.";
    FLOW_PACKETS = "flow_packets_total", Counter, Packets, ["sender", "group", "service_port"],
        "Wire packets of flows.";
    FLOW_BYTES = "flow_bytes_total", Counter, Bytes, ["sender", "group", "service_port"],
        "Octets of their IP packets.";
    FLOW_SEGMENTS = "flow_tcp_segments_total", Counter, Count, ["sender", "group", "service_port"],
        "Wire segments of TCP flows.";
    FLOW_CLASSES = "flow_tcp_classified_frames_total", Counter, Count, ["class", "sender", "group", "service_port"],
        "TCP frames by class; the three retransmissions and out_of_order exclude each other.";
    FLOW_LOST = "flow_lost_segments_total", Counter, Count, ["place", "sender", "group", "service_port"],
        "Segments by where they were lost, as seen from the capture; capture and spurious ones were not.";
    FLOW_TOO_BIG = "flow_too_big_total", Counter, Count, ["group", "service_port"],
        "ICMP errors that say a packet was too big for the path.";
    FLOW_BLACK_HOLES = "flow_black_hole_suspicions_total", Counter, Count, ["group", "service_port"],
        "Full-size segments that did not get through while smaller ones did.";

    SERIES = "series", Gauge, Count, ["family"],
        "Label sets exported, by family.";
    SERIES_OVERFLOW = "series_overflow", Gauge, Count, ["family"],
        "Label sets above the limit of a family: counters and histograms are folded into __other__, gauges left out.";
}

/// The names that `[export.prometheus] classic` accepts.
#[must_use]
pub fn histogram_names() -> Vec<&'static str> {
    ALL.iter()
        .filter(|metric| metric.kind == Kind::Histogram)
        .map(|metric| metric.short_name())
        .collect()
}

/// Whether a label cannot be configured: a metric has it, or Prometheus does.
#[must_use]
pub fn is_reserved_label(name: &str) -> bool {
    matches!(name, "le" | "quantile" | "job" | "instance")
        || name.starts_with("__")
        || ALL.iter().any(|metric| metric.labels.contains(&name))
}

/// README's table.
#[must_use]
pub fn markdown_table() -> String {
    let mut out =
        String::from("| metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in ALL {
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            metric.unit.as_str(),
            metric.labels.join(", "),
            metric.help.trim_end_matches('.'),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_kind_and_unit() {
        for metric in ALL {
            let name = metric.name;
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert_eq!(name.ends_with("_info"), metric.unit == Unit::Info, "{name}");
            let has = |unit: &str| name.trim_end_matches("_total").ends_with(unit);
            assert_eq!(has("_seconds"), metric.unit == Unit::Seconds, "{name}");
            assert_eq!(has("_bytes"), metric.unit == Unit::Bytes, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            if metric.kind == Kind::Histogram {
                assert!(has("_seconds") || has("_packets"), "{name}");
            }
        }
    }

    #[test]
    fn each_is_declared_once() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn what_belongs_to_a_target_has_its_labels() {
        for metric in ALL.iter().filter(|metric| metric.name.contains("_probe_")) {
            assert!(metric.labels.starts_with(TARGET), "{}", metric.name);
        }
    }

    #[test]
    fn labels_of_metrics_are_reserved() {
        for name in [
            "probe",
            "target",
            "direction",
            "reason",
            "le",
            "job",
            "__name__",
        ] {
            assert!(is_reserved_label(name), "{name}");
        }
        for name in ["fleet", "path", "az"] {
            assert!(!is_reserved_label(name), "{name}");
        }
    }

    #[test]
    fn short_names_are_those_of_the_configuration() {
        let names = histogram_names();
        assert!(
            names.contains(&"probe_rtt") && names.contains(&"probe_loss_run"),
            "{names:?}"
        );
        assert_eq!(SERIES.short_name(), "series");
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        assert_eq!(markdown_table().lines().count(), ALL.len() + 2);
        assert!(markdown_table().contains(
            "| `netsonde_probe_rtt_seconds` | histogram | seconds | probe, target, protocol |"
        ));
    }
}
