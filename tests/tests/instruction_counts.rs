//! Holds what the stack costs a packet, in instructions, to the committed figures.
//!
//! Instructions do not depend on what else the machine does, so they show a few percent where time cannot.
//! callgrind runs a harness (`src/bin/stack_cost.rs` or `tcp_cost.rs`, built as a release) twice on every path, with
//! few and with many packets; the difference has no start-up in it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packets of the two runs: full bursts, and enough for two decimals.
const PACKETS: [u32; 2] = [640, 6400];

/// A change by more than this has to be meant.
const TOLERANCE: f64 = 0.03;

/// Set to 1 to write the measured figures down instead of comparing them.
const UPDATE: &str = "UPDATE_INSTRUCTION_COUNTS";

const HEADER: &str = "\
# Instructions that the stack spends on a packet, from receive to transmit, in a release build (x86-64).
# Measured and compared by tests/tests/instruction_counts.rs, which says how; the paths are described in
# tests/src/bin/stack_cost.rs and, of TCP (a request and its response), in tcp_cost.rs. To accept a change:
#   UPDATE_INSTRUCTION_COUNTS=1 cargo test -p barewire-tests --test instruction_counts
";

#[test]
fn a_packet_costs_as_many_instructions_as_are_written_down() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instruction_counts.toml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let written: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let harnesses = ["stack_cost", "tcp_cost"].map(Harness::build);
    let harness = |path: &str| &harnesses[usize::from(path.starts_with("tcp_"))];
    let measured: Vec<(&str, f64)> =
        written.keys().map(|path| (path.as_str(), harness(path).instructions_per_packet(path))).collect();
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        fs::write(&file, render(&measured)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let mut complaints = String::new();
    for (path, now) in measured {
        let before = written[path].as_float().unwrap_or_else(|| panic!("{path} in {}: no number", file.display()));
        let change = now / before - 1.0;
        println!("{path:<30} {now:8.1} instructions a packet ({:+.1} %)", change * 100.0);
        if change.abs() > TOLERANCE {
            let _ = writeln!(complaints, "{path}: {before:.1} -> {now:.1} ({:+.1} %)", change * 100.0);
        }
    }
    assert!(
        complaints.is_empty(),
        "instructions a packet changed by more than {:.0} %:\n{complaints}If that is meant, or better, write it down: \
         {UPDATE}=1 cargo test -p barewire-tests --test instruction_counts\n\
         To see where they go: valgrind --tool=callgrind --toggle-collect='HARNESS::turn*' HARNESS --packets 6400 PATH, \
         then callgrind_annotate; HARNESS is {} or {}",
        TOLERANCE * 100.0,
        harnesses[0].program.display(),
        harnesses[1].program.display()
    );
}

/// What a longer header, or a tag, may add to an echo of the same payload.
const DEARER: [(&str, &str, f64); 2] = [("udp_echo_ipv6", "udp_echo_64", 1.10), ("udp_echo_vlan", "udp_echo_64", 1.05)];

#[test]
fn an_echo_over_ipv6_costs_at_most_a_tenth_more_and_one_on_a_vlan_a_twentieth() {
    let harness = Harness::build("stack_cost");
    let mut complaints = String::new();
    for (path, plain, most) in DEARER {
        let [dear, plain_cost] = [path, plain].map(|path| harness.instructions_per_packet(path));
        let ratio = dear / plain_cost;
        println!("{path:<30} {ratio:8.3} of {plain} ({dear:.1} of {plain_cost:.1} instructions; at most {most})");
        if ratio > most {
            let _ = writeln!(complaints, "{path} costs {ratio:.3} of {plain}, and may cost {most}");
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

#[test]
fn the_count_repeats_exactly_and_does_not_depend_on_the_environment() {
    let harness = Harness::build("stack_cost");
    let count = |padding: usize| harness.collected("udp_echo_64", PACKETS[0], padding);
    let first = count(0);
    assert_eq!([count(0), count(1), count(5_000)], [first; 3]);
}

/// A program that takes packets through the stack in a function called `turn`, which callgrind collects in.
struct Harness {
    name: &'static str,
    program: PathBuf,
}

impl Harness {
    /// Builds a harness as it would be shipped.
    fn build(name: &'static str) -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "--package", "barewire-tests", "--bin", name]);
        cargo.arg("--manifest-path").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        // Incremental builds inline less: a twentieth more instructions.
        cargo.env("CARGO_INCREMENTAL", "0");
        let status = cargo.status().expect("cargo runs this test, so it can be run");
        assert!(status.success(), "cargo could not build the harness: {cargo:?}");
        // The test build of the same program lies in `debug`, beside `release`.
        let debug = Path::new(env!("CARGO_BIN_EXE_stack_cost"));
        let profiles = debug.ancestors().nth(2).expect("target/debug/stack_cost");
        Self { name, program: profiles.join("release").join(name) }
    }

    fn instructions_per_packet(&self, path: &str) -> f64 {
        let [few, many] = PACKETS.map(|packets| self.collected(path, packets, 0));
        (many - few) as f64 / f64::from(PACKETS[1] - PACKETS[0])
    }

    /// Instructions within the measured function, with `padding` bytes more of environment.
    fn collected(&self, path: &str, packets: u32, padding: usize) -> u64 {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        valgrind.arg(format!("--toggle-collect={}::turn*", self.name));
        valgrind.arg(&self.program).args(["--packets", &packets.to_string(), path]).env("PADDING", "x".repeat(padding));
        let output = valgrind.output().unwrap_or_else(|error| {
            panic!("valgrind: {error}: `deploy/setup.sh test` installs what the tests need");
        });
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{valgrind:?}:\n{text}");
        let collected = text.lines().find_map(|line| line.split("Collected : ").nth(1)).unwrap_or_default();
        let collected = collected.trim().parse().unwrap_or_else(|_| panic!("no count of instructions in:\n{text}"));
        assert!(collected > 0, "callgrind met no function {}::turn in {}", self.name, self.program.display());
        collected
    }
}

fn render(measured: &[(&str, f64)]) -> String {
    measured.iter().fold(HEADER.to_string(), |mut text, (path, instructions)| {
        let _ = writeln!(text, "{path} = {instructions:.1}");
        text
    })
}
