//! `--flows FILE` and `--records FILE`: one JSON line per flow, one per frame.
//!
//! Written by hand, since there may be millions.

use std::fmt::Write as _;

use base::{
    DontFragment, FlowEnd, FlowKey, FlowSummary, GroupKey, Leg, LossPlace, Observation, RttMethod,
    Sender, TcpClasses, TcpDetail, WallNanos,
};
use measure::passive::Groups;

use super::protocol;

/// A flow as JSON, without a line end; `end` is `null` for one that goes on.
pub fn flow(text: &mut String, flow: &FlowSummary, end: Option<FlowEnd>, groups: &Groups) {
    let _ = write!(text, "{{\"flow\":{},\"protocol\":", flow.flow.0);
    word_or_null(text, protocol(flow.protocol));
    let _ = write!(text, ",\"protocol_number\":{}", flow.protocol);
    for sender in Sender::ALL {
        let key = sender.as_str();
        let (address, port) = flow.ends[sender.index()];
        let side = &flow.sides[sender.index()];
        let _ = write!(
            text,
            ",\"{key}\":{{\"address\":\"{address}\",\"port\":{port},\"packets\":{},\"bytes\":{},\"retransmitted_frames\":{}",
            side.packets, side.bytes, side.retransmissions
        );
        number(text, "mss", side.mss);
        number(
            text,
            "largest_packet_bytes",
            (side.packets > 0).then_some(side.largest_packet_bytes),
        );
        text.push_str(",\"dont_fragment\":");
        word_or_null(text, side.dont_fragment.map(DontFragment::as_str));
        detail(text, side.detail.as_ref());
        text.push('}');
    }
    // A side's estimate is of the leg to its peer.
    let rtt = |sender: Sender| flow.sides[sender.index()].rtt_ns;
    let learnt = Sender::ALL.into_iter().any(|sender| rtt(sender).is_some());
    let method = flow.rtt_method.filter(|_| learnt);
    text.push_str(",\"rtt\":{\"method\":");
    word_or_null(text, method.map(RttMethod::as_str));
    number(text, "near_ns", rtt(Sender::Remote));
    number(text, "remote_ns", rtt(Sender::Near));
    let _ = write!(
        text,
        "}},\"first_at\":\"{}\",\"last_at\":\"{}\",\"duration_ns\":{},\"end\":",
        flow.first.rfc3339(),
        flow.last.rfc3339(),
        flow.last.delta(flow.first).max(0)
    );
    word_or_null(text, end.map(FlowEnd::as_str));
    text.push_str(",\"group\":");
    group(text, flow.group, groups);
    text.push('}');
}

/// What is counted of a TCP connection where it was asked for; else `null`s.
fn detail(text: &mut String, detail: Option<&TcpDetail>) {
    number(
        text,
        "retransmitted_bytes",
        detail.map(|of| of.retransmitted_bytes),
    );
    let mut count = |key, count: fn(&TcpDetail) -> u32| number(text, key, detail.map(count));
    count("out_of_order", |of| of.out_of_order);
    count("duplicate_acks", |of| of.duplicate_acks);
    count("triple_duplicate_acks", |of| of.triple_duplicate_acks);
    count("zero_windows", |of| of.zero_windows);
    count("zero_window_probes", |of| of.zero_window_probes);
    count("rtt_samples", |of| of.rtt_samples);
}

/// The names of a group.
fn group(text: &mut String, group: GroupKey, groups: &Groups) {
    let (prefix, port) = groups.names(group);
    for (begin, name) in [("{\"prefix\":", prefix), (",\"port\":", port)] {
        text.push_str(begin);
        match name {
            Some(name) => {
                let _ = write!(text, "{}", serde_json::Value::from(name));
            }
            None => text.push_str("null"),
        }
    }
    text.push('}');
}

fn word_or_null(text: &mut String, word: Option<&str>) {
    match word {
        Some(word) => quoted(text, word),
        None => text.push_str("null"),
    }
}

fn quoted(text: &mut String, word: &str) {
    let _ = write!(text, "\"{word}\"");
}

fn number(text: &mut String, key: &str, value: Option<impl std::fmt::Display>) {
    let _ = write!(text, ",\"{key}\":");
    or_null(text, value);
}

fn or_null(text: &mut String, value: Option<impl std::fmt::Display>) {
    match value {
        Some(value) => {
            let _ = write!(text, "{value}");
        }
        None => text.push_str("null"),
    }
}

/// What one frame showed; filled until the next frame comes.
#[derive(Debug, Default)]
pub struct FrameRecord {
    number: u64,
    at: Option<WallNanos>,
    flow: Option<FlowKey>,
    classes: TcpClasses,
    sender: Option<Sender>,
    rtt: Vec<(RttMethod, Leg, u64)>,
    loss: Vec<(Sender, LossPlace, u32)>,
}

impl FrameRecord {
    /// Takes an observation; what the frame before showed is appended to `text` as a line
    /// when another begins. `at` is when the frame was captured.
    pub fn take(
        &mut self,
        number: u64,
        at: Option<WallNanos>,
        observation: &Observation,
        text: &mut String,
    ) {
        let shows = matches!(
            observation,
            Observation::Rtt { .. } | Observation::Tcp { .. } | Observation::Loss { .. }
        );
        if !shows {
            return;
        }
        if number != self.number {
            self.flush(text);
            self.number = number;
            self.at = at;
        }
        match *observation {
            Observation::Rtt {
                flow,
                method,
                leg,
                ns,
                ..
            } => {
                self.flow = Some(flow);
                self.rtt.push((method, leg, ns));
            }
            Observation::Tcp {
                flow,
                sender,
                classes,
                ..
            } => {
                self.flow = Some(flow);
                self.sender = Some(sender);
                for class in classes.iter() {
                    self.classes.insert(class);
                }
            }
            Observation::Loss {
                flow,
                sender,
                place,
                segments,
                ..
            } => {
                self.flow = Some(flow);
                self.loss.push((sender, place, segments));
            }
            _ => {}
        }
    }

    /// Appends the line of the frame that is being filled, if it shows anything.
    pub fn flush(&mut self, text: &mut String) {
        if self.classes.is_empty() && self.rtt.is_empty() && self.loss.is_empty() {
            return;
        }
        let _ = write!(text, "{{\"frame\":{},\"at\":", self.number);
        match self.at.take() {
            Some(at) => quoted(text, &at.rfc3339()),
            None => text.push_str("null"),
        }
        number(text, "flow", self.flow.take().map(|flow| flow.0));
        text.push_str(",\"sender\":");
        word_or_null(text, self.sender.map(Sender::as_str));
        text.push_str(",\"classes\":[");
        for (at, class) in self.classes.iter().enumerate() {
            text.push_str(comma(at));
            quoted(text, class.as_str());
        }
        text.push_str("],\"rtt\":[");
        for (at, (method, leg, ns)) in self.rtt.drain(..).enumerate() {
            let _ = write!(
                text,
                "{}{{\"method\":\"{}\",\"leg\":\"{}\",\"ns\":{ns}}}",
                comma(at),
                method.as_str(),
                leg.as_str()
            );
        }
        text.push_str("],\"loss\":[");
        for (at, (sender, place, segments)) in self.loss.drain(..).enumerate() {
            let _ = write!(
                text,
                "{}{{\"sender\":\"{}\",\"place\":\"{}\",\"segments\":{segments}}}",
                comma(at),
                sender.as_str(),
                place.as_str()
            );
        }
        text.push_str("]}\n");
        self.classes = TcpClasses::NONE;
        self.sender = None;
    }
}

const fn comma(at: usize) -> &'static str {
    if at == 0 { "" } else { "," }
}
