//! Prometheus' two exposition formats, and which one a scraper gets.
//!
//! Pure. Text 0.0.4 carries classic buckets (or only `+Inf`), delimited protobuf carries
//! native histograms beside them.

use prometheus::{Encoder, ProtobufEncoder, TextEncoder};
use record::Snapshot;

use crate::Encoding;
use crate::gather;
use crate::http::ExportStats;

/// An exposition format.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// Text 0.0.4.
    Text,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// For the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// From the `Accept` header: protobuf if it is named as delimited `MetricFamily`
    /// messages and text/plain is not preferred to it; else text.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let (mut protobuf, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range
                .split(';')
                .map(|part| part.trim().to_ascii_lowercase());
            let media = parts.next().unwrap_or_default();
            let (mut quality, mut delimited, mut family) = (1.0, false, true);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("encoding", value)) => delimited = value == "delimited",
                    Some(("proto", value)) => family = value == "io.prometheus.client.metricfamily",
                    _ => {}
                }
            }
            if media == "application/vnd.google.protobuf" && delimited && family {
                protobuf = f64::max(protobuf, quality);
            } else if media == "text/plain" {
                text = f64::max(text, quality);
            }
        }
        if protobuf > 0.0 && protobuf >= text {
            Self::Protobuf
        } else {
            Self::Text
        }
    }
}

/// The body of a scrape.
///
/// # Errors
/// When the encoder refuses a family, which no snapshot can cause.
pub fn encode(
    snapshot: &Snapshot,
    encoding: &Encoding,
    stats: &ExportStats,
    format: Format,
) -> prometheus::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut result = Ok(());
    gather::families(
        snapshot,
        encoding,
        stats,
        format == Format::Protobuf,
        &mut |family| {
            if result.is_ok() {
                let one = std::slice::from_ref(&family);
                result = match format {
                    Format::Text => TextEncoder::new().encode(one, &mut body),
                    Format::Protobuf => ProtobufEncoder::new().encode(one, &mut body),
                };
            }
        },
    );
    result?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation() {
        for (accept, format) in [
            // What Prometheus 2.42 sends with and without native histograms.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Text,
            ),
            // Prometheus 3 with and without.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.3,*/*;q=0.2",
                Format::Protobuf,
            ),
            ("text/plain;version=0.0.4;q=0.6,*/*;q=0.2", Format::Text),
            (
                "text/plain, application/vnd.google.protobuf;encoding=delimited;q=0.4",
                Format::Text,
            ),
            (
                "application/vnd.google.protobuf;encoding=text",
                Format::Text,
            ),
            (
                "application/vnd.google.protobuf;encoding=delimited;q=0",
                Format::Text,
            ),
            (
                "application/vnd.google.protobuf;proto=other;encoding=delimited",
                Format::Text,
            ),
            ("application/vnd.google.protobuf", Format::Text),
            ("text/html,*/*", Format::Text),
            (";;,=,q=q", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }
}
