//! The engine and Linux are asked the same: valid packets of every kind, and such with one to three fields changed. What
//! they answer is the same, or `differential.md` says why not. Needs root.
//!
//! `CASES=100000 SEED=2` asks more, or other questions; `differential.md` then may lack some rows.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use barewire_tests::differential::{Asker, Difference, Linux, Table, ends, lab};
use barewire_tests::forgery::{KINDS, Packet, draw_kind};
use barewire_tests::lab::Lab;
use barewire_tests::sim::Rng;
use barewire_tests::source::workspace;

const CASES: u32 = 10_000;
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

/// What both said about a packet.
struct Case<'a> {
    packet: &'a Packet,
    linux: String,
    engine: String,
}

impl Case<'_> {
    fn difference(&self) -> Option<Difference> {
        let Self { packet: Packet { kind, changed, .. }, linux, engine } = self;
        let difference = Difference { kind, changed: changed.clone(), linux: linux.clone(), engine: engine.clone() };
        (linux != engine).then_some(difference)
    }
}

/// How many cases were answered alike, and the differences that the table does not name, the second time either: the
/// engine's errors have a limit for each receiver, by a table of hashes, so that one may have been held back.
fn compare(table: &Table, cases: Vec<Case<'_>>, engine: &mut Asker) -> (usize, BTreeSet<Difference>) {
    let (differing, same): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.difference().is_some());
    let unnamed: Vec<_> =
        differing.into_iter().filter(|case| !case.difference().is_some_and(|found| table.names(&found))).collect();
    if !unnamed.is_empty() {
        thread::sleep(Duration::from_secs(2));
    }
    let again = unnamed.into_iter().filter_map(|case| {
        let frames = &case.packet.frames;
        Case { engine: engine.ask(case.packet), ..case }
            .difference()
            .inspect(|_| frames.iter().for_each(|frame| println!("{:02x?}", frame.bytes)))
    });
    (same.len(), again.filter(|found| !table.names(found)).collect())
}

#[test]
fn the_engine_answers_as_linux_does_but_for_what_the_table_explains() {
    let cases = number("CASES").map_or(CASES, |cases| cases as u32);
    let seed = number("SEED").unwrap_or(SEED);
    let packets: Vec<Packet> = (0..cases).map(|number| case(seed, number)).collect();
    let table = Table::parse(&std::fs::read_to_string(workspace().join("tests/differential.md")).unwrap());
    let (same, unnamed) = thread::scope(|scope| {
        let linux = scope.spawn(|| {
            let lab = lab();
            let _linux = Linux::start(&lab);
            let mut asker = Asker::new(&lab, Duration::ZERO);
            packets.iter().map(|packet| asker.ask(packet)).collect::<Vec<_>>()
        });
        let lab = lab();
        let (gateway, gateway_6) = (Lab::PEER.to_string(), Lab::PEER_6.to_string());
        let options = ["--address", Lab::ADDRESS_6, "--gateway", &gateway, "--gateway", &gateway_6];
        let engine = lab.start(&[&options[..], &["--udp-checksum", "verify", "--idle", "poll"]].concat());
        let mut asker = Asker::new(&lab, PACE);
        let answers: Vec<String> = packets.iter().map(|packet| asker.ask(packet)).collect();
        println!("{:#?}", engine.metrics().that_are_not_zero());
        let linux = linux.join().expect("Linux was asked");
        let all: Vec<Case<'_>> = packets
            .iter()
            .zip(linux)
            .zip(answers)
            .map(|((packet, linux), engine)| Case { packet, linux, engine })
            .collect();
        compare(&table, all, &mut asker)
    });
    println!("{same} of {cases} answered alike");
    for (row, count) in table.counts() {
        println!("{count:5} {row}");
    }
    for Difference { kind, changed, linux, engine } in &unnamed {
        println!("{kind} | {} | {linux} | {engine}", changed.join(", "));
    }
    assert!(unnamed.is_empty(), "{} differences that differential.md does not name", unnamed.len());
    if (cases, seed) == (CASES, SEED) {
        assert_eq!(table.unseen(), Vec::<String>::new(), "rows that nothing needs any more");
    }
}
