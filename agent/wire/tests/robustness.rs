//! The checks of the fuzz targets on their committed seeds, and on random octets.

extern crate netsonde_wire as wire;

#[path = "../../../tests/fuzz/checks/dns.rs"]
mod dns;
#[path = "../../../tests/fuzz/checks/quic.rs"]
mod quic;

fn replay(target: &str, check: fn(&[u8])) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("{folder}/{target}")).expect("the corpus") {
        check(&std::fs::read(entry.expect("an entry").path()).expect("readable"));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn seeds_of_quic() {
    replay("quic", quic::check);
}

#[test]
fn seeds_of_dns() {
    replay("dns", dns::check);
}

#[test]
fn any_octets() {
    proptest::proptest!(|(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        version in proptest::sample::select(vec![0, 1, 0x6b33_43cf, 0x1a2a_3a4a, 7]),
    )| {
        dns::check(&bytes);
        quic::check(&bytes);
        if let Some(field) = bytes.get_mut(3..7) {
            field.copy_from_slice(&u32::to_be_bytes(version));
        }
        quic::check(&bytes);
    });
}
