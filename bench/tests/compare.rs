//! Comparisons: what they write, whom they take in, and what they leave behind. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use self::net::{BENCH, alone, bench, take, temporary};

/// Runs a comparison. What it printed, and what it wrote.
fn compare(name: &str, args: &[&str]) -> (String, Value) {
    let file = temporary(name);
    let output =
        Command::new(BENCH).arg("compare").args(args).args(["--json", file.to_str().unwrap()]).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    let report = take(&file);
    assert_eq!(report["schema"], "barewire-bench/2");
    (text.into_owned(), report)
}

fn names(report: &Value) -> Vec<&str> {
    report["servers"].as_array().unwrap().iter().map(|server| server["name"].as_str().unwrap()).collect()
}

fn baselines(report: &Value) -> Vec<&str> {
    let marked = report["servers"].as_array().unwrap().iter().filter(|server| server["baseline"] == true);
    marked.map(|server| server["name"].as_str().unwrap()).collect()
}

/// The best of a figure over all rounds of a server.
fn best(report: &Value, server: &str, figure: &str) -> f64 {
    let server = report["servers"].as_array().unwrap().iter().find(|found| found["name"] == server).unwrap();
    let values = server["rounds"].as_array().unwrap().iter().map(|round| &round["figures"][figure]["value"]);
    values.filter_map(Value::as_f64).fold(0.0, f64::max)
}

#[test]
fn a_comparison_of_udp_servers_writes_every_trial_of_every_round() {
    let _alone = alone();
    let (text, report) =
        compare("udp", &["udp", "--only", "kernel-epoll,xdp-tx", "--rounds", "1", "--seconds", "0.05"]);
    for told in ["kernel-epoll", "peak Mpps", "buffers", "batches of 64", "commit"] {
        assert!(text.contains(told), "no {told} in {text}");
    }
    assert_eq!(report["workload"], "compare udp");
    assert_eq!((names(&report), baselines(&report)), (vec!["kernel-epoll", "xdp-tx"], vec!["kernel-epoll"]));
    for server in report["servers"].as_array().unwrap() {
        let rounds = server["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 1);
        assert!(rounds[0]["figures"]["peak"]["value"].as_f64().unwrap() > 0.0, "{report}");
        assert!(rounds[0]["ready"].as_str().unwrap().starts_with("ready"), "{report}");
        let trials = rounds[0]["trials"].as_array().unwrap();
        let of = |name: &str| trials.iter().filter(|trial| trial["measure"] == name).count();
        assert!(of("search") > 5 && of("overload") == 1 && of("latency") == 1 && of("warm-up") == 0, "{report}");
        let answered = trials.iter().filter(|trial| trial["completed"].as_u64() > Some(0));
        for histogram in answered.map(|trial| &trial["latency"]["histogram"]) {
            assert!(histogram.as_str().unwrap().starts_with("HISTFAAA"), "{histogram}");
        }
    }
}

#[test]
fn a_comparison_of_tcp_servers_writes_every_measure_of_every_round() {
    let _alone = alone();
    let (text, report) =
        compare("tcp", &["tcp", "--only", "kernel-epoll,kernel-spin", "--rounds", "2", "--seconds", "0.4", "--full"]);
    assert!(text.contains("rr-1000 k/s") && text.contains("kernel-spin") && text.contains("commit"), "{text}");
    assert_eq!(report["workload"], "compare tcp");
    assert_eq!((names(&report), baselines(&report)), (vec!["kernel-epoll", "kernel-spin"], vec!["kernel-epoll"]));
    for server in report["servers"].as_array().unwrap() {
        let rounds = server["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        for measure in ["rr-1", "rr-64", "rr-1000", "crr-1", "crr-16", "send", "receive"] {
            assert!(best(&report, server["name"].as_str().unwrap(), measure) > 0.0, "{measure} of {server}");
            let trial = rounds[1]["trials"].as_array().unwrap().iter().find(|trial| trial["measure"] == measure);
            assert_eq!(trial.unwrap()["failed"], 0, "{measure} of {server}");
            let nearest_ns = report["machine"]["cores_ns"].as_f64().unwrap();
            assert!(nearest_ns > 0.0 && trial.unwrap()["cores_ns"].as_f64() >= Some(nearest_ns), "{report}");
            let figure_ns = &rounds[1]["figures"][measure]["cores_ns"];
            assert_eq!(*figure_ns, trial.unwrap()["cores_ns"], "{measure} of {server}");
        }
    }
}

#[test]
fn any_command_can_be_compared_with_the_address_at_its_kernel_or_to_itself() {
    let _alone = alone();
    let sockets = format!("sockets={BENCH} serve kernel-spin --address {{address}}:{{port}}");
    let loop_ = format!("loop='{BENCH}' serve bare-af-xdp --interface {{interface}} --address {{address}}:{{port}}");
    let args = ["udp", "--rounds", "1", "--seconds", "0.05", "--only", "sockets,loop", "--peer", &sockets];
    let (text, report) = compare("peer", &[&args[..], &["--peer", &loop_, "--peer-owns-address", "loop"]].concat());
    assert_eq!(names(&report), ["sockets", "loop"]);
    assert!(best(&report, "sockets", "peak") > 0.0 && best(&report, "loop", "peak") > 0.0, "{text}");
    assert!(text.contains("serve bare-af-xdp --interface bw0 --address 10.77.0.2:7"), "{text}");

    let sockets = format!("sockets={BENCH} serve tcp-spin --address {{address}}:{{port}}");
    let args = ["tcp", "--rounds", "1", "--seconds", "0.2", "--only", "sockets", "--peer", &sockets];
    let (text, report) = compare("peer-tcp", &args);
    // How much came of it in so short a time is no matter: it was connected to.
    assert!(report["servers"][0]["rounds"][0]["figures"]["rr-1"].is_object(), "{text}");
}

#[test]
fn another_build_is_the_baseline_and_one_round_is_too_few_for_a_verdict() {
    let _alone = alone();
    // What matters here is only that it is started as the engine is.
    let build = temporary("build");
    let serve = format!("#!/bin/sh\nexec '{BENCH}' serve bare-af-xdp --interface bw0 --address 10.77.0.2:7\n");
    std::fs::write(&build, serve).unwrap();
    std::fs::set_permissions(&build, std::fs::Permissions::from_mode(0o755)).unwrap();
    let args = ["udp", "--baseline", build.to_str().unwrap(), "--rounds", "1", "--seconds", "0.05"];
    let (text, report) = compare("baseline", &[&args[..], &["--only", "baseline,bare-af-xdp"]].concat());
    std::fs::remove_file(&build).unwrap();
    assert_eq!((names(&report), baselines(&report)), (vec!["baseline", "bare-af-xdp"], vec!["baseline"]));
    assert!(text.contains("Ratios to `baseline`"), "{text}");
    assert!(report["servers"][0]["rounds"][0]["figures"]["peak"]["value"].is_number(), "{text}");
}

#[test]
fn a_command_that_ends_or_never_answers_is_a_failure_that_tells_what_it_said() {
    let _alone = alone();
    for (peer, told) in [
        ("gone=sh -c 'echo no such luck >&2; exit 3'", "no such luck"),
        ("deaf=sleep 60", "did not answer within 10 s"),
        ("none=/no/such/program", "/no/such/program"),
    ] {
        let name = peer.split('=').next().unwrap();
        let output = bench(&["compare", "udp", "--rounds", "1", "--only", name, "--peer", peer]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(told), "{peer}: {error}");
    }
}

#[test]
fn each_bad_argument_of_a_comparison_says_so() {
    let cases: [(&[&str], i32, &str); 8] = [
        (&["udp", "--size", "8900"], 2, "--mtu 1500"),
        (&["udp", "--size", "8900", "--mtu", "9000", "--only", "xdp-tx"], 2, "longer than a page"),
        (&["tcp", "--ipv6", "--only", "smoltcp"], 2, "IPv4 only"),
        (&["udp", "--only", "nginx"], 2, "kernel-epoll"),
        (&["udp", "--peer", "mine"], 2, "name=command"),
        (&["udp", "--peer", "xdp-tx=cmd"], 2, "another name"),
        (&["udp", "--peer", "a=cmd", "--peer-owns-address", "b"], 2, "no --peer has this name"),
        (&["udp", "--baseline", "/no/such/file"], 1, "another `barewire` program"),
    ];
    for (args, code, hint) in cases {
        let output = bench(&[&["compare"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && error.contains(hint), "{args:?}: {error}");
    }
}
