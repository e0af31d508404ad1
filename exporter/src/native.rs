//! Native histograms for the prometheus crate, which does not know them: the fields are
//! added to its `Histogram` message as protobuf unknown fields.
//!
//! Field numbers of io.prometheus.client.Histogram (client_model, metrics.proto): 5 schema
//! (sint32), 6 zero_threshold (double), 7 zero_count (uint64), 9 negative_span, 10
//! negative_delta (sint64), 12 positive_span, 13 positive_delta, 15 created_timestamp;
//! BucketSpan: 1 offset (sint32), 2 length (uint32). `prometheus` and `protobuf` are
//! pinned by the lock file; a test decodes what is written.

use prometheus::proto;
use record::SeriesSnapshot;
use record::series::{Bucket, Buckets, SCHEMA};

/// A run of neighbouring buckets: how many empty ones lie before it (the first: its
/// index), and its length.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Gap, or index of the first.
    pub offset: i32,
    /// Buckets in the run.
    pub length: u32,
}

/// Gaps up to this long are bridged by empty buckets: a delta of one byte is less than a
/// span.
const BRIDGE: i32 = 2;

/// Spans, and each bucket's count as the difference to the one before.
#[must_use]
pub fn spans(buckets: &Buckets) -> (Vec<Span>, Vec<i64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut deltas = Vec::with_capacity(buckets.len());
    let (mut next, mut before) = (0, 0i64);
    let mut put = |deltas: &mut Vec<i64>, count: i64| {
        deltas.push(count - before);
        before = count;
    };
    for Bucket { index, count } in buckets.iter() {
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= BRIDGE => {
                for _ in 0..gap {
                    put(&mut deltas, 0);
                }
                span.length += gap.unsigned_abs() + 1;
            }
            _ => spans.push(Span {
                offset: gap,
                length: 1,
            }),
        }
        put(&mut deltas, i64::try_from(count).unwrap_or(i64::MAX));
        next = index + 1;
    }
    (spans, deltas)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Adds the native fields of a series to a message. `created_ns` is when it began.
pub fn add(message: &mut proto::Histogram, series: &SeriesSnapshot, created_ns: u64) {
    let fields = message.special_fields.mut_unknown_fields();
    fields.add_varint(5, zigzag(i64::from(SCHEMA)));
    fields.add_fixed64(6, series.unit.zero_threshold().to_bits());
    fields.add_varint(7, series.zero);
    let empty = series.positive.is_empty() && series.negative.is_empty();
    for (buckets, span_field, delta_field) in
        [(&series.negative, 9, 10), (&series.positive, 12, 13)]
    {
        let (mut spans, deltas) = spans(buckets);
        if empty && span_field == 12 {
            // A histogram without any span would be read as a classic one.
            spans.push(Span {
                offset: 0,
                length: 0,
            });
        }
        for span in spans {
            let mut bytes = Vec::with_capacity(8);
            bytes.push(1 << 3);
            varint(&mut bytes, zigzag(i64::from(span.offset)));
            bytes.push(2 << 3);
            varint(&mut bytes, u64::from(span.length));
            fields.add_length_delimited(span_field, bytes);
        }
        if !deltas.is_empty() {
            let mut packed = Vec::with_capacity(deltas.len() * 2);
            for delta in deltas {
                varint(&mut packed, zigzag(delta));
            }
            fields.add_length_delimited(delta_field, packed);
        }
    }
    let mut created = vec![1 << 3];
    varint(&mut created, created_ns / 1_000_000_000);
    created.push(2 << 3);
    varint(&mut created, created_ns % 1_000_000_000);
    fields.add_length_delimited(15, created);
}
