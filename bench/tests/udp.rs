//! The load generator against the kernel's own UDP sockets, in network namespaces of the test's own. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use self::net::{BENCH, Net, bench, ip, trial};

/// Runs `udp` in the client's namespace and reads its JSON.
fn udp(net: &Net, args: &[&str]) -> Value {
    net.measure(&[&["udp", "--interface", "bw0", "--target", "10.77.0.2:7"], args].concat())
}

/// Frames that the server's end of the veth dropped before the kernel's UDP saw them.
fn server_drops(net: &Net) -> u64 {
    let text = ip(&["netns", "exec", &net.server, "ethtool", "-S", "bw0"], "");
    let drops = text.lines().filter(|line| line.contains("rx_queue") && line.contains("drops"));
    drops.filter_map(|line| line.rsplit_once(": ")?.1.trim().parse::<u64>().ok()).sum()
}

/// Sends for a second and holds the result against the counters of the server's kernel.
fn every_frame_is_accounted_for(net: &Net, args: &[&str]) {
    let counters = || {
        let at_socket = net.server_counter("Udp", "InDatagrams") + net.server_counter("Udp", "InErrors");
        (at_socket + server_drops(net), net.server_counter("Udp", "OutDatagrams"))
    };
    let (arrived_before, answered_before) = counters();
    let report = udp(net, args);
    let (arrived_after, answered_after) = counters();
    let figures = trial(&report);
    let count = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {figures}"));
    assert!(count("sent") > 0 && count("completed") > 0, "{figures}");
    assert_eq!(count("sent"), arrived_after - arrived_before, "sent and arrived: {figures}");
    assert!(count("completed") <= answered_after - answered_before, "more received than answered: {figures}");
    assert_eq!(count("sent"), count("completed") + count("lost"), "{figures}");
    assert_eq!(net.server_counter("Udp", "InCsumErrors"), 0, "checksums");
    let latency = &figures["latency"];
    assert!(latency["p50_ns"].as_u64().unwrap() > 0 && latency["p50_ns"].as_u64() <= latency["max_ns"].as_u64());
}

#[test]
fn every_frame_of_both_senders_is_accounted_for_with_a_valid_checksum() {
    let net = Net::new("acc");
    let _server = net.serve("kernel-epoll");
    // Fills the neighbor table, so that no datagram is sent for ARP while it is counted.
    udp(&net, &["--rate", "1000", "--duration", "0.1"]);
    for sender in ["live-frames", "kernel"] {
        every_frame_is_accounted_for(&net, &["--sender", sender, "--rate", "20000", "--duration", "1"]);
    }
    for len in ["62", "63", "1514"] {
        every_frame_is_accounted_for(&net, &["--rate", "20000", "--duration", "0.2", "--size", len]);
    }
    every_frame_is_accounted_for(&net, &["--sender", "kernel", "--closed-loop", "--window", "8", "--duration", "0.2"]);
    every_frame_is_accounted_for(&net, &["--rate", "max", "--duration", "0.2"]);
}

/// The kernel counts the datagrams of each family by itself.
fn server_counter_v6(net: &Net, name: &str) -> u64 {
    let text = ip(&["netns", "exec", &net.server, "cat", "/proc/net/snmp6"], "");
    let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    text.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn every_frame_over_ipv6_has_a_valid_checksum_and_comes_back() {
    let net = Net::new("six");
    let _server = net.serve_at("kernel-epoll", "[fd00:77::2]:7");
    let at = ["udp", "--interface", "bw0", "--target", "[fd00:77::2]:7"];
    // Fills the neighbor table, so that no datagram is sent to find the neighbor while it is counted.
    net.measure(&[&at[..], &["--rate", "1000", "--duration", "0.1"]].concat());
    for args in [&["--sender", "live-frames"][..], &["--sender", "kernel"], &["--size", "1514"], &["--size", "83"]] {
        let before = server_counter_v6(&net, "Udp6InDatagrams") + server_drops(&net);
        let report = net.measure(&[&at[..], &["--rate", "10000", "--duration", "0.5"], args].concat());
        let arrived = server_counter_v6(&net, "Udp6InDatagrams") + server_drops(&net) - before;
        let figures = trial(&report);
        assert_eq!(
            (report["network"]["family"].as_str(), figures["sent"].as_u64()),
            (Some("ipv6"), Some(arrived)),
            "{args:?}"
        );
        assert!(figures["completed"].as_u64() > Some(0), "{args:?}: {figures}");
        assert_eq!(server_counter_v6(&net, "Udp6InCsumErrors"), 0, "{args:?}");
    }
}

#[test]
fn what_live_frames_say_they_sent_is_what_the_driver_at_the_other_end_counts() {
    let net = Net::new("sink");
    let mut sink = net.serve_with(&["xdp-drop", "--interface", "bw0"]);
    let sent: u64 = ["max", "50000"]
        .map(|rate| {
            let report = udp(&net, &["--rate", rate, "--duration", "0.3"]);
            let figures = trial(&report);
            let adherence = &figures["adherence"];
            assert_eq!(adherence.is_null(), rate == "max", "{report}");
            assert!(rate == "max" || adherence["lag_p50_ns"].as_u64() <= adherence["lag_max_ns"].as_u64(), "{report}");
            figures["sent"].as_u64().unwrap()
        })
        .iter()
        .sum();
    let said = sink.stop();
    let dropped: u64 = said.trim().strip_prefix("dropped ").unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    assert!(sent > 0 && dropped == sent, "sent {sent}, counted {dropped}");
}

#[test]
fn requests_come_from_as_many_ports_as_asked_for_with_valid_checksums() {
    let net = Net::new("flows");
    for (target, own) in [("10.77.0.2:7", "10.77.0.1"), ("[fd00:77::2]:7", "fd00:77::1")] {
        let _server = net.serve_at("kernel-epoll", target);
        let at = ["udp", "--interface", "bw0", "--target", target];
        // Fills the neighbor table.
        net.measure(&[&at[..], &["--rate", "1000", "--duration", "0.1"]].concat());
        let capture = Command::new("ip")
            .args(["netns", "exec", &net.server, "tcpdump", "-lnni", "bw0", "-c", "2000", "-B", "65536"])
            .args(["udp", "and", "dst", "port", "7"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        sleep(Duration::from_secs(1));
        let report = net
            .measure(&[&at[..], &["--rate", "5000", "--duration", "20", "--count", "6000", "--flows", "500"]].concat());
        let output = capture.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let source = |line: &str| Some(line.split_whitespace().nth(2)?.strip_prefix(own)?.to_owned());
        let sources: HashSet<String> = text.lines().filter_map(source).collect();
        assert_eq!(sources.len(), 500, "{report}");
        assert!(sources.contains(".9007") && sources.contains(".9506"), "{sources:?}");
        assert!(trial(&report)["completed"].as_u64() > Some(0), "{report}");
    }
    assert_eq!(net.server_counter("Udp", "InCsumErrors"), 0);
    assert_eq!(server_counter_v6(&net, "Udp6InCsumErrors"), 0);
}

#[test]
fn a_flood_outside_namespaces_made_for_it_is_refused() {
    let output = bench(&["udp", "--interface", "lo", "--target", "127.0.0.1:7"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{error}");
    let net = Net::new("own");
    let other = format!("bt{}-other", std::process::id());
    ip(&["netns", "add", &other], "");
    ip(&["-n", &net.client, "link", "set", "bw0", "netns", &other], "");
    ip(&["-n", &other, "address", "add", "10.77.0.1/24", "dev", "bw0"], "");
    ip(&["-n", &other, "link", "set", "bw0", "up"], "");
    let args = ["netns", "exec", &other, BENCH, "udp", "--interface", "bw0", "--target", "10.77.0.2:7"];
    let output = Command::new("ip").args(args).output().unwrap();
    ip(&["netns", "delete", &other], "");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--i-own-this-target"), "{error}");
}

#[test]
fn each_bad_argument_says_what_to_do_and_exits_with_2() {
    let base = ["udp", "--interface", "bw0", "--target", "10.77.0.2:7"];
    let cases: [(&[&str], &str); 16] = [
        (&["--flows", "2", "--sender", "own-stack"], "--source"),
        (&["--source", "10.99.0.0/20", "--sender", "kernel"], "--flows"),
        (&["--source", "8.8.8.0/24"], "198.18.0.0/15"),
        (&["--source", "10.77.0.0/24"], "server's own address"),
        (&["--source", "fd00:99::/118"], "IP version"),
        (&["--source", "10.0.0.0/8"], "longer prefix"),
        (&["--arrivals", "poisson"], "--rate"),
        (&["--arrivals", "poisson", "--rate", "5000000"], "8388608"),
        (&["--arrivals", "burst", "--sender", "kernel"], "--rate"),
        (&["--size", "61"], "62"),
        (&["--size", "8900"], "--sender kernel"),
        (&["--rate", "fast"], "max"),
        (&["--duration", "0"], "3600"),
        (&["--closed-loop"], "--sender kernel"),
        (&["--core", "4096"], "may use"),
        (&["--sender", "pigeon"], "live-frames"),
    ];
    for (args, hint) in cases {
        let output = bench(&[&base[..], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(hint), "{args:?}: {error}");
    }
}

#[test]
fn each_bad_argument_of_an_attack_says_so_and_exits_with_2() {
    let cases: [(&[&str], &str); 2] =
        [(&["attack", "syn", "--rate", "0"], "1e7"), (&["attack", "fragments", "--seconds", "0"], "60")];
    for (args, hint) in cases {
        let output = bench(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains(hint), "{args:?}: {error}");
    }
}

#[test]
fn a_missing_interface_and_a_silent_target_are_failures_that_say_what_to_look_at() {
    let net = Net::new("err");
    let run = |interface: &str, target: &str| {
        let args = ["netns", "exec", &net.client, BENCH, "udp", "--interface", interface, "--target", target];
        let output = Command::new("ip").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = run("nope", "10.77.0.2:7");
    assert!(code == Some(1) && error.contains("ip link"), "{code:?} {error}");
    let (code, error) = run("bw0", "10.77.0.99:7");
    assert!(code == Some(1) && error.contains("ARP") && error.contains("ping"), "{code:?} {error}");
}
