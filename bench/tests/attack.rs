//! What `attack` writes, what it counts, and that it leaves nothing. Needs root, and the engine beside the program.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use self::net::{BENCH, alone, namespaces_of, signal, take, temporary};

/// Frames that the kernels of both ends send by themselves: for each other's addresses, and for the metrics.
const OTHERS: u64 = 100;

/// Runs an attack to its end: what it printed, what it wrote, and that its namespaces are gone.
fn attack(args: &[&str]) -> (String, Value) {
    let file = temporary("attack");
    let child = Command::new(BENCH)
        .arg("attack")
        .args(args)
        .args(["--rounds", "1", "--json", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    assert_eq!(namespaces_of(pid), [] as [String; 0]);
    let report = take(&file);
    assert_eq!((&report["schema"], &report["interrupted"]), (&"barewire-bench/2".into(), &false.into()));
    assert_eq!(report["workload"], format!("attack {}", args[0]));
    (text.into_owned(), report)
}

/// How long each part of a flood of SYNs lasts at first, seconds; four times as long when it had no time to begin.
const SECONDS: [&str; 3] = ["0.5", "2", "8"];

/// The only round of each phase.
fn phases(report: &Value) -> [&Value; 3] {
    let servers = report["servers"].as_array().unwrap();
    let names: Vec<&Value> = servers.iter().map(|server| &server["name"]).collect();
    assert_eq!(names, ["calm", "passed", "attack"]);
    [0, 1, 2].map(|phase| {
        assert_eq!(servers[phase]["rounds"].as_array().unwrap().len(), 1, "{report}");
        &servers[phase]["rounds"][0]
    })
}

fn figure(round: &Value, name: &str) -> f64 {
    round["figures"][name]["value"].as_f64().unwrap_or_else(|| panic!("no {name} in {round}"))
}

#[test]
fn a_flood_of_fragments_arrives_frame_by_frame_and_leaves_nothing() {
    let _alone = alone();
    let (text, report) = attack(&["fragments", "--rate", "20000", "--seconds", "0.4"]);
    for told in ["goodput-0.5", "chunks", "attack"] {
        assert!(text.contains(told), "no {told} in {text}");
    }
    for (phase, round) in phases(&report).into_iter().enumerate() {
        for load in ["0.5", "1"] {
            let [sent, arrived] =
                ["sent", "arrived"].map(|name| figure(round, &format!("frames-{name}-{load}")) as u64);
            assert!((sent..=sent + OTHERS).contains(&arrived), "sent {sent}, arrived {arrived}: {round}");
            let trials = round["trials"].as_array().unwrap();
            let measured =
                trials.iter().find(|trial| trial["measure"].as_str().unwrap().ends_with(&format!("-{load}")));
            let requests = measured.unwrap()["sent"].as_u64().unwrap();
            let flood = sent - requests;
            // 20,000 a second, as far as the generator had the time for them.
            assert_eq!(flood > 0, phase > 0, "{round}");
            assert!(flood <= 20_000 * 4 / 10 + 32, "{flood} of the flood: {round}");
            assert_eq!(figure(round, &format!("flood-{load}")) > 0.0, phase > 0, "{round}");
        }
        // What is held of an attack is held for some time after it too.
        assert!(phase < 2 || figure(round, "dropped") > 0.0 && figure(round, "chunks") > 0.0, "{round}");
    }
}

#[test]
fn a_flood_of_syns_arrives_beside_the_streams_and_leaves_nothing() {
    let _alone = alone();
    // The flood has the time that the clients leave, and on a busy machine these may leave none.
    let mut attacks = SECONDS.iter().map(|seconds| attack(&["syn", "--rate", "5000", "--seconds", seconds]));
    let began = |(_, report): &(String, Value)| {
        phases(report)[1..]
            .iter()
            .all(|round| ["send-flood-sent", "receive-flood-sent"].iter().all(|sent| figure(round, sent) > 0.0))
    };
    let (text, report) = attacks.find(began).expect("a flood that begins");
    assert!(text.contains("new connections succeeded"), "{text}");
    for (phase, round) in phases(&report).into_iter().enumerate() {
        for stream in ["send", "receive"] {
            let of = |name: &str| figure(round, &format!("{stream}-{name}")) as u64;
            assert_eq!(of("flood-sent") > 0, phase > 0, "{round}");
            // The stream's own segments come on top.
            assert!(of("frames-arrived") > of("flood-sent"), "{round}");
            assert!(figure(round, stream) > 0.0 && of("engine-received") > 0, "{round}");
        }
        let connects = round["trials"].as_array().unwrap().iter().filter(|trial| trial["measure"] == "connects");
        for trial in connects {
            let [made, succeeded, failed] = ["sent", "completed", "failed"].map(|name| trial[name].as_u64().unwrap());
            assert!(made > 0 && made == succeeded + failed, "{trial}");
        }
    }
}

#[test]
fn an_interrupted_attack_tells_and_writes_what_it_has_and_leaves_nothing() {
    let _alone = alone();
    let file = temporary("attack-int");
    let mut child = Command::new(BENCH)
        .args(["attack", "fragments", "--rate", "20000", "--rounds", "100", "--seconds", "0.1"])
        .args(["--json", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("round 2/")), "it ended before its second round");
    signal(child.id(), "-INT");
    // Or else it would wait for somebody to read what it says.
    lines.for_each(drop);
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(namespaces_of(pid), [] as [String; 0]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Random fragments"), "{output:?}");
    let report = take(&file);
    assert_eq!((&report["interrupted"], &report["rounds_asked"]), (&true.into(), &100.into()));
    for phase in report["servers"].as_array().unwrap() {
        let rounds = phase["rounds"].as_array().unwrap();
        assert!((1..100).contains(&rounds.len()), "{report}");
        assert!(rounds.iter().all(|round| figure(round, "frames-sent-1") > 0.0), "{report}");
    }
}
