//! One verdict per probe: late, doubled, forged, discarded, lost here.

use base::{Counter, EventKind, Gauge, Quantity, Verdict};

use super::super::*;
use super::world::{Attempt, MS, START, US, World, config, world};

#[test]
fn a_late_answer_counts_once_and_never_as_received() {
    let mut world = world(config(300), true, 3);
    // 100..110 come 150 ms after the wait, twice; 200..205 come doubled in time.
    world.reverse.script = Some(Box::new(|packet| match packet.sequence {
        100..110 if packet.counted => Some(vec![150 * MS, 160 * MS]),
        200..205 if packet.counted => Some(vec![MS, 2 * MS]),
        _ => Some(vec![200 * US]),
    }));
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::Late), 10);
    assert_eq!(world.count(Counter::Lost), 10);
    assert_eq!(world.count(Counter::Received), 290);
    assert_eq!(world.count(Counter::DuplicatesReverse), 15);
    let of = |verdict| {
        let mut list: Vec<u32> = world
            .results
            .iter()
            .filter(|result| result.verdict == verdict)
            .map(|result| result.sequence)
            .collect();
        list.sort_unstable();
        list
    };
    assert_eq!(of(Verdict::Lost), (100..110).collect::<Vec<_>>());
    assert_eq!(of(Verdict::Late), (100..110).collect::<Vec<_>>());
    let doubled: Vec<u32> = (100..110).chain(200..205).collect();
    assert_eq!(of(Verdict::Duplicate), doubled);
    assert!(
        world
            .sampled(Quantity::Rtt)
            .iter()
            .all(|rtt| *rtt < 10 * MS as i64)
    );
}

#[test]
fn a_reply_that_was_read_late_is_judged_by_its_stamps() {
    // The process is stopped; nobody polls. Of two replies that wait in the socket one came
    // in time, by the kernel's stamps, and one did not.
    let mut world = world(config(2), true, 3);
    world.forward.script = Some(Box::new(|packet| packet.counted.then(Vec::new)));
    world.run_until(START + 30 * MS);
    let sent: Vec<u32> = {
        let mut list: Vec<u32> = world.counted.iter().copied().collect();
        list.sort_unstable();
        list
    };
    assert_eq!(sent.len(), 2);
    let reply = |world: &World, sequence: u32| {
        let mut reply = vec![0; 80];
        reply[..4].copy_from_slice(&(sequence + 1).to_be_bytes());
        let slot = world.session.slots.copy(FIRST_INDEX + u64::from(sequence));
        let slot = slot.expect("in flight");
        let t2 = wire::stamp::Timestamp::encode(
            slot.sent_wall.offset(3_000),
            wire::stamp::TimestampFormat::Ntp,
            0,
        );
        reply[4..12].copy_from_slice(&t2.0);
        reply[12..14].copy_from_slice(&1u16.to_be_bytes());
        reply[16..24].copy_from_slice(&t2.0);
        reply[24..28].copy_from_slice(&sequence.to_be_bytes());
        reply[28..36].copy_from_slice(&slot.echo);
        (reply, slot.sent_wall)
    };
    world.now += 500 * MS;
    for (sequence, after) in [(sent[0], 90 * MS), (sent[1], 110 * MS)] {
        let (packet, sent_at) = reply(&world, sequence);
        let datagram = Datagram {
            payload: &packet,
            kernel: Some(sent_at.offset(after.cast_signed())),
            hardware: None,
            user: world.wall(),
            ttl: Some(60),
        };
        let now = MonoNanos(world.now);
        world.emit(|session, mut out| {
            assert!(session.receive(&datagram, now, &mut out));
        });
    }
    world.run();
    assert_eq!(world.count(Counter::Received), 1);
    assert_eq!(
        (world.count(Counter::Lost), world.count(Counter::Late)),
        (1, 1)
    );
}

#[test]
fn forged_replies_are_strays_and_nothing_else() {
    let mut world = world(config(200), true, 3);
    let mut genuine = None;
    world.run_until(START + 50 * MS);
    // Take a genuine reply to a probe in flight, and forge from it.
    world.reverse.script = Some(Box::new(|packet| packet.counted.then(Vec::new)));
    world.run_until(START + 60 * MS);
    let sequence = *world.counted.iter().max().expect("sent some");
    let slot = world.session.slots.copy(FIRST_INDEX + u64::from(sequence));
    if let Some(slot) = slot {
        let mut reply = vec![0u8; 80];
        reply[..4].copy_from_slice(&9_999u32.to_be_bytes());
        reply[14..16].copy_from_slice(&77u16.to_be_bytes());
        reply[24..28].copy_from_slice(&sequence.to_be_bytes());
        reply[28..36].copy_from_slice(&slot.echo);
        genuine = Some(reply);
    }
    let genuine = genuine.expect("in flight");
    let before = (
        world.counts.clone(),
        world.results.len(),
        world.events.len(),
    );
    let samples = world.samples.clone();
    let state = format!("{:?}", world.session);
    let mut wrong_echo = genuine.clone();
    wrong_echo[35] ^= 1;
    let mut wrong_ssid = genuine.clone();
    wrong_ssid[15] ^= 1;
    let mut unknown = genuine.clone();
    unknown[24..28].copy_from_slice(&(sequence + 1_000).to_be_bytes());
    let mut ancient = genuine.clone();
    ancient[24..28].copy_from_slice(&(sequence.wrapping_sub(1 << 20)).to_be_bytes());
    for forged in [&wrong_echo, &wrong_ssid, &unknown, &ancient] {
        assert!(!world.datagram(forged));
    }
    assert_eq!(world.count(Counter::StrayReplies), 4);
    world.counts.remove(&Counter::StrayReplies);
    assert_eq!(
        before,
        (
            world.counts.clone(),
            world.results.len(),
            world.events.len()
        )
    );
    assert_eq!(samples, world.samples);
    assert_eq!(
        state,
        format!("{:?}", world.session),
        "and the session is as it was"
    );
}

#[test]
fn a_lost_tx_stamp_discards_the_sample_and_is_no_loss() {
    let mut world = world(config(400), true, 3);
    world.attempt = Some(Box::new(|transmit| match transmit.sequence {
        100..110 => Attempt::StampLost,
        200..203 => Attempt::StampLostInOverflow,
        300..307 => Attempt::DroppedHere,
        _ => Attempt::Sent,
    }));
    world.forward.script = Some(Box::new(|packet| {
        (packet.counted && packet.sequence == 202).then(Vec::new)
    }));
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::DiscardedTxStampLost), 12);
    assert_eq!(world.count(Counter::Lost), 8);
    // 202 went out with a doubtful stamp and was lost on the way.
    assert_eq!((world.loss.local, world.loss.forward), (7, 1));
    assert_eq!(world.count(Counter::Received), 380);
    assert_eq!(world.happened(EventKind::ComponentDegraded), 0);
}

#[test]
fn doubtful_stamps_make_plain_losses() {
    let mut world = world(config(300), true, 3);
    world.attempt = Some(Box::new(|transmit| match transmit.sequence {
        100..120 => Attempt::StampLostInOverflow,
        _ => Attempt::Sent,
    }));
    world.forward.script = Some(Box::new(|packet| {
        (100..120).contains(&packet.sequence).then(Vec::new)
    }));
    world.run();
    world.check_sums();
    assert_eq!((world.loss.local, world.loss.forward), (0, 20));
}

#[test]
fn a_path_without_stamps_falls_back_to_the_user_clock_and_says_so() {
    for wait in [20 * MS, 100 * MS, 1_000 * MS] {
        let config = Config {
            wait_ns: wait,
            ..config(300)
        };
        let mut world = world(config, true, 3);
        world.stamps = false;
        world.run();
        world.check_sums();
        assert_eq!(world.count(Counter::Received), 300, "wait {wait}");
        assert_eq!(world.happened(EventKind::ComponentDegraded), 1);
        let user = world.stamped.get(&(StampPoint::T1, StampSource::User));
        assert_eq!(user, Some(&300));
        assert_eq!(
            world.stamped.get(&(StampPoint::T1, StampSource::Kernel)),
            None
        );
        assert_eq!(
            world.stamped.get(&(StampPoint::T4, StampSource::Kernel)),
            Some(&300)
        );
    }
}

#[test]
fn stamps_that_come_after_the_replies_are_waited_for() {
    let mut world = world(config(300), true, 3);
    world.stamp_delay = 3 * MS;
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::Received), 300);
    assert_eq!(world.happened(EventKind::ComponentDegraded), 0);
    let kernel = world.stamped.get(&(StampPoint::T1, StampSource::Kernel));
    assert_eq!(kernel, Some(&300));
}

#[test]
fn without_stamps_asked_for_there_is_no_waiting_and_no_local_loss() {
    let config = Config {
        stamped: false,
        ..config(300)
    };
    let mut world = world(config, true, 3);
    world.stamps = false;
    world.forward.impairment.loss = 0.1;
    world.run();
    world.check_sums();
    assert_eq!(world.happened(EventKind::ComponentDegraded), 0);
    assert_eq!(world.loss.local, 0);
    assert_eq!(world.loss.forward, world.truly_lost().0);
}

#[test]
fn a_device_that_stamps_all_it_sends_shows_what_never_reached_it() {
    // Nobody answers ARP: no packet leaves, so that no stamp was ever seen.
    for (certain, local) in [(true, 300), (false, 0)] {
        let mut world = world(config(300), true, 3);
        if certain {
            world.session.stamps_are_certain();
        }
        world.stamps = false;
        world.forward.impairment.loss = 1.0;
        world.run();
        world.check_sums();
        assert_eq!((world.loss.lost, world.loss.local), (300, local));
    }
    // A driver that promises what it does not keep costs nothing where answers come.
    let mut world = world(config(300), true, 3);
    world.session.stamps_are_certain();
    world.stamps = false;
    world.run();
    world.check_sums();
    assert_eq!(world.count(Counter::Received), 300);
    assert_eq!(world.loss.local, 0);
}

#[test]
fn runs_of_loss_have_their_written_lengths() {
    let mut world = world(config(600), true, 3);
    // Runs of 1, 2, 3 (an outage), 20 (the longest) and, at the end of the run, 5.
    let lost = |n: u32| matches!(n, 50 | 60 | 61 | 100..103 | 300..320) || n > 595;
    world.forward.script = Some(Box::new(move |packet| {
        (packet.counted && lost(packet.sequence)).then(Vec::new)
    }));
    world.run();
    world.check_sums();
    assert_eq!(world.counted.iter().max(), Some(&600));
    assert_eq!(world.sampled(Quantity::LossRun), [1, 2, 3, 20, 5]);
    assert_eq!(world.count(Counter::Outages), 3);
    let at = world.truth.t1[&300] - 2_000;
    // The last run lasts until the measurement ends; it is the longest in time.
    let longest = world.gauges[&Gauge::LongestOutage];
    let began = world.gauges[&Gauge::LongestOutageAt];
    assert!(longest >= 20e6, "{longest}");
    assert!(began >= at as f64 - 512.0, "{began} {at}");
}
