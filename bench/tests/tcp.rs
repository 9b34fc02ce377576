//! The load generator against the kernel's own TCP sockets, in network namespaces of the test's own. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::process::Command;

use serde_json::Value;

use self::net::{BENCH, Net, alone, ip, trial};

/// Where echo, discard and chargen are.
const ECHO: &str = "10.77.0.2:7";
const DISCARD: &str = "10.77.0.2:9";
const CHARGEN: &str = "10.77.0.2:19";

/// A figure of a report.
fn number(report: &Value, name: &str) -> f64 {
    trial(report)[name].as_f64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// Counters of the server's TCP: connections accepted, connections now, segments out.
fn server_tcp(net: &Net) -> [u64; 3] {
    ["PassiveOpens", "CurrEstab", "OutSegs"].map(|name| net.server_counter("Tcp", name))
}

fn latency_is_ordered(report: &Value) {
    let latency = &trial(report)["latency"];
    let quantiles: Vec<u64> = ["p50_ns", "p90_ns", "p99_ns", "max_ns"].map(|q| latency[q].as_u64().unwrap()).to_vec();
    assert!(quantiles[0] > 0 && quantiles.is_sorted(), "{report}");
    assert_eq!(latency["samples"], trial(report)["completed"], "{report}");
}

#[test]
fn all_three_measure_over_ipv6() {
    let _alone = alone();
    let net = Net::new("six");
    let _server = net.serve_at("tcp-epoll", "[fd00:77::2]:7");
    let short = ["--duration", "0.3", "--warmup", "0.1"];
    let [echo, discard] = ["[fd00:77::2]:7", "[fd00:77::2]:9"];
    let source = ["--source", "fd00:77::1"];
    for (args, figure) in [
        (&["tcp-rr", echo, "--connections", "8"][..], "completed"),
        (&[&["tcp-crr", echo][..], &source].concat(), "completed"),
        (&["tcp-stream", discard, "--direction", "send"], "bytes"),
    ] {
        let report = net.measure(&[args, &short].concat());
        assert_eq!(report["network"]["family"], "ipv6", "{report}");
        assert!(number(&report, figure) > 0.0, "{report}");
    }
}

#[test]
fn every_request_has_its_response_over_one_connection_and_over_many_of_any_size() {
    let _alone = alone();
    let net = Net::new("rr");
    let _server = net.serve("tcp-epoll");
    for (connections, size) in [("1", "64"), ("1", "1"), ("64", "64"), ("300", "7"), ("2", "300000")] {
        let before = server_tcp(&net);
        let report = net.measure(
            &[
                &["tcp-rr", ECHO, "--connections", connections, "--size", size][..],
                &["--duration", "0.6", "--warmup", "0.1"],
            ]
            .concat(),
        );
        let after = server_tcp(&net);
        assert_eq!(after[0] - before[0], connections.parse::<u64>().unwrap(), "{report}");
        assert_eq!(number(&report, "failed"), 0.0);
        let transactions = number(&report, "completed");
        // Each response takes a segment at least, and the warm-up has some more.
        assert!(transactions > 0.0 && (after[2] - before[2]) as f64 > transactions, "{report}");
        let rate = transactions / number(&report, "seconds");
        assert!((rate / number(&report, "completed_per_s") - 1.0).abs() < 1e-6, "{report}");
        assert!((0.0..=1.0).contains(&number(&report, "idle")), "{report}");
        latency_is_ordered(&report);
    }
}

#[test]
fn every_connection_is_accepted_closed_by_both_ends_and_nobody_runs_out_of_ports() {
    let _alone = alone();
    let net = Net::new("crr");
    ip(&["netns", "exec", &net.client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"], "");
    ip(&["-n", &net.client, "address", "add", "10.77.0.11/24", "dev", "bw0"], "");
    let _server = net.serve("tcp-epoll");
    let (before, resets) = (server_tcp(&net), net.server_counter("Tcp", "OutRsts"));
    for source in ["10.77.0.1", "10.77.0.1,10.77.0.11"] {
        let arguments = ["tcp-crr", ECHO, "--connections", "16", "--duration", "1", "--warmup", "0.1"];
        let report = net.measure(&[&arguments[..], &["--source", source]].concat());
        assert!(number(&report, "completed") > 0.0 && number(&report, "failed") == 0.0, "{report}");
        latency_is_ordered(&report);
        let accepted = (server_tcp(&net)[0] - before[0]) as f64;
        assert!(accepted >= number(&report, "completed"), "{accepted} accepted: {report}");
    }
    // No connection is left, and none was cut off.
    assert_eq!(server_tcp(&net)[1], 0);
    assert_eq!(net.server_counter("Tcp", "OutRsts"), resets);
    assert_eq!(net.server_counter("Tcp", "EstabResets"), 0);
}

#[test]
fn streams_go_both_ways_and_their_bytes_are_those_of_the_interface() {
    let _alone = alone();
    let net = Net::new("str");
    let _server = net.serve("tcp-epoll");
    let bytes = |direction: &str| -> u64 {
        let path = format!("/sys/class/net/bw0/statistics/{direction}_bytes");
        ip(&["netns", "exec", &net.client, "cat", &path], "").trim().parse().unwrap()
    };
    for (target, direction, counter) in [(DISCARD, "send", "tx"), (CHARGEN, "receive", "rx")] {
        for connections in ["1", "3"] {
            let before = bytes(counter);
            let report = net.measure(
                &[
                    &["tcp-stream", target, "--direction", direction, "--connections", connections][..],
                    &["--duration", "0.6", "--warmup", "0.1"],
                ]
                .concat(),
            );
            let on_the_wire = (bytes(counter) - before) as f64;
            let counted = number(&report, "bytes");
            assert!(counted > 0.0 && counted < on_the_wire, "{on_the_wire} bytes on the wire: {report}");
            let gbps = counted * 8e-9 / number(&report, "seconds");
            assert!(
                (gbps / report["servers"][0]["rounds"][0]["figures"]["goodput"]["value"].as_f64().unwrap() - 1.0).abs()
                    < 1e-6,
                "{report}"
            );
        }
    }
}

#[test]
fn a_server_that_is_none_a_port_that_is_no_echo_and_ports_that_ran_out_are_failures_that_say_so() {
    let _alone = alone();
    let net = Net::new("terr");
    let _server = net.serve("tcp-spin");
    let fails = |args: &[&str], hint: &str| {
        let words = [&["netns", "exec", &net.client, BENCH][..], args, &["--duration", "3", "--warmup", "0"]].concat();
        let output = Command::new("ip").args(words).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(hint), "{args:?}: {error}");
    };
    fails(&["tcp-rr", "10.77.0.2:8"], "does the server run");
    fails(&["tcp-crr", "10.77.0.2:8"], "no connection to 10.77.0.2:8 succeeds");
    fails(&["tcp-stream", "10.77.0.2:8", "--direction", "send"], "does the server run");
    fails(&["tcp-rr", CHARGEN], "not an echo");
    fails(&["tcp-crr", CHARGEN], "not an echo");
    fails(&["tcp-crr", ECHO, "--source", "10.77.0.99"], "--source");
}
