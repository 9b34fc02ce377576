//! The engine and Linux are asked the same: valid packets of every kind, and such with one to three fields changed. What
//! they answer is the same, or `differential.md` says why not. Needs root.
//!
//! `CASES=100000 SEED=2` asks more, or other questions; `differential.md` then may lack some rows.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use barewire_tests::differential::{Asker, Difference, Linux, Table, ends, lab};
use barewire_tests::forgery::{KINDS, Packet, draw_kind};
use barewire_tests::lab::Lab;
use barewire_tests::sim::Rng;

const CASES: u32 = 4_000;
const SEED: u64 = 1;
/// Beyond the limit of 1,000 errors a second.
const PACE: Duration = Duration::from_micros(1_100);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Case `number`. One in eight is as it should be.
fn case(seed: u64, number: u32) -> Packet {
    let mut rng = Rng::new(seed << 32 | u64::from(number));
    let kind = KINDS[number as usize % KINDS.len()];
    let mut packet = draw_kind(&mut rng, &ends(number), kind);
    if !rng.chance(125) {
        packet.mutate(&mut rng);
    }
    packet
}

#[test]
fn the_engine_answers_as_linux_does_but_for_what_the_table_explains() {
    let cases = number("CASES").map_or(CASES, |cases| cases as u32);
    let seed = number("SEED").unwrap_or(SEED);
    let packets: Vec<Packet> = (0..cases).map(|number| case(seed, number)).collect();
    let (linux, engine) = thread::scope(|scope| {
        let linux = scope.spawn(|| {
            let lab = lab();
            let _linux = Linux::start(&lab);
            let mut asker = Asker::new(&lab, Duration::ZERO);
            let start = std::time::Instant::now();
            let answers = packets.iter().map(|packet| asker.ask(packet)).collect::<Vec<_>>();
            eprintln!("linux {:?} {}", start.elapsed(), asker.repeated);
            answers
        });
        let lab = lab();
        let (gateway, gateway_6) = (Lab::PEER.to_string(), Lab::PEER_6.to_string());
        let options = ["--address", Lab::ADDRESS_6, "--gateway", &gateway, "--gateway", &gateway_6];
        let engine = lab.start(&[&options[..], &["--udp-checksum", "verify", "--idle", "poll"]].concat());
        let mut asker = Asker::new(&lab, PACE);
        let answers: Vec<String> = packets.iter().map(|packet| asker.ask(packet)).collect();
        eprintln!("engine {}", asker.repeated);
        println!("{:#?}", engine.metrics().that_are_not_zero());
        (linux.join().expect("Linux was asked"), answers)
    });
    let table = Table::parse(include_str!("../differential.md"));
    let mut unnamed: BTreeMap<Difference, u32> = BTreeMap::new();
    let mut same = 0;
    for ((packet, linux), engine) in packets.iter().zip(linux).zip(engine) {
        if linux == engine {
            same += 1;
            continue;
        }
        let difference = Difference { kind: packet.kind, changed: packet.changed.clone(), linux, engine };
        if !table.names(&difference) {
            *unnamed.entry(difference).or_default() += 1;
        }
    }
    println!("{same} of {cases} answered alike");
    for (row, count) in table.counts() {
        println!("{count:5} {row}");
    }
    for Difference { kind, changed, linux, engine } in unnamed.keys() {
        eprintln!("{kind} | {} | {linux} | {engine}", changed.join(", "));
    }
    assert!(unnamed.is_empty(), "{} differences that differential.md does not name", unnamed.len());
    if (cases, seed) == (CASES, SEED) {
        assert_eq!(table.unseen(), Vec::<String>::new(), "rows that nothing needs any more");
    }
}
