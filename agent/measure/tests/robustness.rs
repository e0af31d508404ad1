//! The check of the fuzz target for datagram protocols on its committed seeds, and on random
//! octets and pieces of the seeds.

extern crate netsonde_measure as measure;

#[path = "../../../tests/fuzz/checks/datagram.rs"]
mod datagram;

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fuzz/corpus/datagram"
    );
    std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("readable"))
        .collect()
}

#[test]
fn every_seed() {
    let seeds = seeds();
    assert!(seeds.len() > 5);
    for seed in seeds {
        datagram::check(&seed);
    }
}

#[test]
fn any_octets() {
    let seeds = seeds();
    proptest::proptest!(|(
        random in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        seed in 0..seeds.len(),
        at in proptest::num::usize::ANY,
    )| {
        datagram::check(&random);
        let mut mixed = seeds[seed].clone();
        let at = at % mixed.len();
        for (octet, other) in mixed[at..].iter_mut().zip(&random).take(3) {
            *octet = *other;
        }
        datagram::check(&mixed);
    });
}
