use super::*;

fn plan() -> Plan {
    Plan {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 2],
        source: Ipv4Addr::new(10, 1, 255, 255),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        port: 443,
        frame_bytes: 61,
        flows: 60_000,
        rate: None,
    }
}

/// One run of the program, in memory: no live frames.
fn once(generator: &mut Generator) -> Vec<u8> {
    let mut out = vec![0; 256];
    let program = generator.ebpf.program(PROGRAM).expect("a program");
    let program: &Xdp = program.try_into().expect("of XDP");
    let result = program.test_run(TestRunOptions {
        data_in: Some(&generator.template),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    });
    let result = result.expect("runs");
    assert_eq!(result.return_value, 3, "XDP_TX");
    out.truncate(result.data_size_out as usize);
    out
}

fn u16_at(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn folded(mut sum: u32) -> u32 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum
}

#[test]
fn flows_take_turns_and_every_checksum_fits() {
    let mut generator = match Generator::load(&plan()) {
        Ok(generator) => generator,
        Err(error) => {
            eprintln!("ignored: {error}");
            return;
        }
    };
    let mut set = |flow: u32, round: u32| {
        let state = State {
            flow,
            round,
            ..generator.state().expect("a state")
        };
        let map = generator.ebpf.map_mut(STATE).expect("a map");
        let mut map: Array<_, State> = Array::try_from(map).expect("an array");
        map.set(0, state, 0).expect("writable");
        once(&mut generator)
    };
    // First and last port, the next address, and a sequence number that wraps.
    for (flow, round, source, port) in [
        (0, 0, [10, 1, 255, 255], 10_000),
        (49_999, 1, [10, 1, 255, 255], 59_999),
        (50_000, 1 << 30, [10, 2, 0, 0], 10_000),
        (59_999, u32::MAX, [10, 2, 0, 0], 19_999),
    ] {
        let frame = set(flow, round);
        assert_eq!(frame.len(), 61);
        assert_eq!(frame[26..30], source);
        assert_eq!(u16_at(&frame, 34), port);
        let sequence = u32::from(u16_at(&frame, 38)) << 16 | u32::from(u16_at(&frame, 40));
        assert_eq!(sequence, round.wrapping_mul(7));
        assert_eq!(folded(words(&frame[14..34])), 0xffff, "IP");
        let pseudo = words(&frame[26..34]) + 6 + 27;
        assert_eq!(folded(words(&frame[34..]) + pseudo), 0xffff, "TCP");
    }
    let state = generator.state().expect("a state");
    assert_eq!((state.flow, state.sent), (0, 4), "after the last the first");
    assert_eq!(state.round, 0, "and its next segment");
}
