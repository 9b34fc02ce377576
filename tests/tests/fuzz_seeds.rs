//! The fuzz targets with inputs that are the same every time: the committed corpus, and a hundred thousand drawn ones
//! each. `cargo fuzz` goes on where these end (see tests/fuzz/Cargo.toml).
//!
//! `WRITE_CORPUS=1` writes the corpus anew: one sound input of every kind of packet.

use std::fs;
use std::thread;

use barewire_tests::differential::ends;
use barewire_tests::forgery::{KINDS, Packet, draw_kind};
use barewire_tests::fuzz::{TARGETS, Target};
use barewire_tests::sim::Rng;
use barewire_tests::source::workspace;

/// Inputs of each target.
const INPUTS: u64 = 100_000;
const ETHERNET: usize = 14;

/// What a target makes of a packet; `None` if that is of another protocol.
fn input_of(target: &str, packet: &Packet, rng: &mut Rng) -> Option<Vec<u8>> {
    let frame = &packet.frames[0].bytes;
    match target {
        "headers" => Some(frame.clone()),
        "control" | "groups" | "udp" | "tcp" => {
            let (protocols, at): (&[u8], _) = match (target, packet.is_v6()) {
                ("control", false) => (&[1], 34),
                ("control", true) => (&[58], 54),
                ("groups", false) => (&[2], 38),
                ("groups", true) => (&[58], 54),
                ("udp", v6) => (&[17], if v6 { 54 } else { 34 }),
                (_, v6) => (&[6], if v6 { 54 } else { 34 }),
            };
            let protocol = *frame.get(if packet.is_v6() { ETHERNET + 6 } else { ETHERNET + 9 })?;
            let message = frame.get(at..).filter(|_| protocols.contains(&protocol))?;
            let front = match target {
                "tcp" => 0,
                "groups" => 37,
                "control" => 33,
                _ => 32,
            };
            let mut input = vec![0; front];
            rng.fill(&mut input);
            if packet.is_v6() {
                input[..front.min(32)].copy_from_slice(&frame[22..54][..front.min(32)]);
            }
            input.extend(message);
            Some(input)
        }
        "stack" => {
            let frames = packet.frames.iter().filter(|frame| frame.bytes.len() < 0x7ff);
            let row = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes, &[0]].concat();
            Some(frames.flat_map(|frame| row(&frame.bytes)).collect())
        }
        _ => {
            // A datagram in pieces of 256 bytes: kinds, offset in units of eight, length in units of eight.
            let pieces = rng.between(1, 6) as u16;
            let piece = |n: u16| {
                let [high, low] = (n * 32).to_be_bytes();
                [if n + 1 == pieces { 2 } else { 0 }, high, low, 32]
            };
            Some((0..pieces).flat_map(piece).collect())
        }
    }
}

/// Damages an input, or leaves it.
fn damage(rng: &mut Rng, input: &mut Vec<u8>) {
    for _ in 0..rng.pick(&[0, 0, 1, 2, 8]) {
        let at = rng.below(input.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 => input.truncate(at),
            1 => input.insert(at, rng.bits() as u8),
            2 if at + 4 <= input.len() => {
                let piece = input[at..at + 4].to_vec();
                input.extend(piece);
            }
            _ if at < input.len() => input[at] ^= 1 << rng.below(8),
            _ => {}
        }
    }
}

fn run(name: &str, target: Target) {
    let mut rng = Rng::new(name.len() as u64);
    // Packets are drawn slowly: each is used some times.
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for number in 0..INPUTS {
        if number.is_multiple_of(8_192) {
            inputs.clear();
            while inputs.len() < 2_048 {
                let kind = rng.pick(KINDS);
                let mut packet = draw_kind(&mut rng, &ends(number as u32), kind);
                if rng.chance(700) {
                    packet.mutate(&mut rng);
                }
                inputs.extend(input_of(name, &packet, &mut rng));
            }
        }
        let mut input = inputs[rng.below(inputs.len() as u64) as usize].clone();
        if rng.chance(100) {
            input = vec![0; rng.below(200) as usize];
            rng.fill(&mut input);
        }
        damage(&mut rng, &mut input);
        target(&input);
    }
}

#[test]
fn a_hundred_thousand_inputs_of_each_target_break_no_promise() {
    let all = |half: usize| {
        for (name, target) in TARGETS.iter().skip(half).step_by(2) {
            let start = std::time::Instant::now();
            run(name, *target);
            println!("{name}: {:?}", start.elapsed());
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| all(1));
        all(0);
    });
}

#[test]
fn the_corpus_breaks_no_promise() {
    for (name, target) in TARGETS {
        let directory = workspace().join("tests/fuzz/corpus").join(name);
        if std::env::var_os("WRITE_CORPUS").is_some() {
            fs::create_dir_all(&directory).unwrap();
            for kind in KINDS {
                let mut rng = Rng::new(7);
                let packet = draw_kind(&mut rng, &ends(0), kind);
                if let Some(input) = input_of(name, &packet, &mut rng) {
                    fs::write(directory.join(format!("{}.bin", kind.replace(' ', "-"))), input).unwrap();
                }
                // Reassembly knows no kinds.
                if name == "reassembly" {
                    break;
                }
            }
        }
        let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            target(&fs::read(file.unwrap().path()).unwrap());
        }
        target(&[]);
    }
}

#[test]
fn every_target_has_its_file_for_cargo_fuzz() {
    let fuzz = workspace().join("tests/fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let file = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(file.contains(&format!("fuzz_target!(|bytes: &[u8]| barewire_tests::fuzz::{name}(bytes));")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
