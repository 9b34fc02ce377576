//! Frames of mixed sizes and from many sources, as they arrive at the other end of a veth. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use self::net::{Net, bench, ip, trial};

/// Where the echo is, our own stack's address on its link, and what the kernel calls checksums that were wrong.
const FAMILIES: [(&str, &str); 2] = [("10.77.0.2:7", "10.77.0.21/24"), ("[fd00:77::2]:7", "fd00:77::21/64")];

/// Datagrams with a wrong checksum that the server's kernel saw.
fn wrong_checksums(net: &Net) -> u64 {
    let text = ip(&["netns", "exec", &net.server, "cat", "/proc/net/snmp6"], "");
    let v6 = text.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors")?.trim().parse::<u64>().ok());
    net.server_counter("Udp", "InCsumErrors") + net.server_counter("Ip", "InHdrErrors") + v6.unwrap()
}

/// What `udp` reports of a load, and the last `count` of its frames as tcpdump tells them at the server's end.
fn captured(net: &Net, count: usize, args: &[&str]) -> (Value, Vec<String>) {
    // Before the load a few datagrams may come that only look for the neighbor.
    let before = 40;
    let capture = Command::new("ip")
        .args(["netns", "exec", &net.server, "tcpdump", "-elnni", "bw0", "-c", &(count + before).to_string()])
        .args(["-B", "65536", "udp", "and", "dst", "port", "7"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    sleep(Duration::from_secs(1));
    let report = net.measure(&[&["udp", "--interface", "bw0"], args].concat());
    let output = capture.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (report, text.lines().skip(before).map(str::to_owned).collect())
}

/// The length of the frame, from `ethertype IPv4 (0x0800), length 62: 10.77.0.1.9007 > ...`.
fn frame_len(line: &str) -> u64 {
    line.split_once(", length ").unwrap().1.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn a_mix_arrives_with_its_weights_and_valid_checksums_by_every_sender_over_both_families() {
    let net = Net::new("mix");
    for (target, own) in FAMILIES {
        let _server = net.serve_at("kernel-epoll", target);
        let least: u64 = if target.starts_with('[') { 82 } else { 62 };
        for sender in [&["live-frames"][..], &["kernel"], &["own-stack", "--address", own]] {
            let load = ["--target", target, "--size", "imix", "--rate", "4000", "--duration", "20", "--count", "2400"];
            let (report, frames) = captured(&net, 1200, &[&load[..], &["--sender"], sender].concat());
            let mut seen = BTreeMap::new();
            frames.iter().for_each(|line| *seen.entry(frame_len(line)).or_insert(0) += 1);
            assert_eq!(seen, BTreeMap::from([(least, 700), (590, 400), (1514, 100)]), "{sender:?} {report}");
            let trial = trial(&report);
            let mix: Vec<_> = trial["mix"].as_array().unwrap().iter().map(|one| one["weight"].as_u64()).collect();
            assert_eq!(mix, [Some(7), Some(4), Some(1)], "{report}");
            assert_eq!(trial["size_bytes"], ((7 * least + 4 * 590 + 1514) as f64 / 12.0).round() as u64, "{report}");
            // What came back has to be made of whole frames of these lengths.
            let [completed, bytes] = ["completed", "bytes"].map(|name| trial[name].as_u64().unwrap());
            let all = 200 * (7 * least + 4 * 590 + 1514);
            assert!(completed > 0 && (completed < 2400 || bytes == all) && bytes <= all, "{sender:?} {report}");
            let figures = &report["servers"][0]["rounds"][0]["figures"];
            let [mpps, gbps] = ["goodput", "goodput-bits"].map(|name| figures[name]["value"].as_f64().unwrap());
            let expected = mpps * 8e-3 * bytes as f64 / completed as f64;
            assert!((gbps / expected - 1.0).abs() < 1e-9, "{gbps} Gb/s, {expected} expected");
        }
    }
    assert_eq!(wrong_checksums(&net), 0);
}

/// Address and port that the frame comes from.
fn source(line: &str) -> (String, String) {
    let told = line.split_once(", length ").unwrap().1.split_once(": ").unwrap().1;
    let (address, port) = told.split_once(" > ").unwrap().0.rsplit_once('.').unwrap();
    (address.to_owned(), port.to_owned())
}

/// Loads the echo in frames that have `flows` sources, and holds those that arrive against that: as many ports of as many
/// addresses, each once before the first comes again.
fn sources_are(net: &Net, (ports, addresses): (usize, usize), args: &[&str]) {
    let (flows, count) = (ports * addresses, (ports * addresses + 400).to_string());
    let load = ["--rate", "4000", "--duration", "20", "--count", &count];
    let (report, frames) = captured(net, flows, &[&load[..], args].concat());
    let seen: BTreeSet<(String, String)> = frames.iter().map(|line| source(line)).collect();
    let from: BTreeSet<&String> = seen.iter().map(|(address, _)| address).collect();
    assert_eq!((seen.len(), from.len()), (flows, addresses), "{args:?} {report}");
    let trial = trial(&report);
    let told = ["source_ports", "source_addresses"].map(|name| trial[name].as_u64().unwrap() as usize);
    assert_eq!(told, [ports, addresses], "{report}");
    assert!(trial["completed"].as_u64() > Some(0), "{args:?} {report}");
}

#[test]
fn requests_come_from_as_many_addresses_and_ports_as_asked_for_with_valid_checksums() {
    let net = Net::new("sources");
    let route = |prefix: &str, way: &str| {
        ip(&["-n", &net.server, "route", "replace", prefix, "via", way.split('/').next().unwrap()], "");
    };
    for ((target, own), (host, prefix, addresses)) in
        FAMILIES.into_iter().zip([("10.77.0.1", "10.99.0.0/22", 1022), ("fd00:77::1", "fd00:99::/118", 1023)])
    {
        let _server = net.serve_at("kernel-epoll", target);
        let target = ["--target", target];
        route(prefix, host);
        let mixed = ["--source", prefix, "--flows", "2", "--size", "100:1,300:1"];
        sources_are(&net, (2, addresses), &[&target[..], &mixed].concat());
        sources_are(&net, (1, addresses), &[&target[..], &["--source", prefix]].concat());
        sources_are(&net, (500, 1), &[&target[..], &["--sender", "kernel", "--flows", "500"]].concat());
        route(prefix, own);
        // Each address of IPv6 takes one of 1,024 groups, so there are fewer.
        let (prefix, addresses) = if addresses == 1022 { (prefix, addresses) } else { ("fd00:99::/119", 511) };
        let own_stack = ["--sender", "own-stack", "--address", own, "--source", prefix];
        sources_are(&net, (1, addresses), &[&target[..], &own_stack].concat());
    }
    assert_eq!(wrong_checksums(&net), 0);
}

#[test]
fn ten_thousand_sockets_of_the_kernel_are_as_many_flows() {
    let net = Net::new("sockets");
    let _server = net.serve("kernel-epoll");
    let args = ["--sender", "kernel", "--flows", "10000", "--rate", "20000", "--duration", "1.5"];
    let report = net.measure(&[&["udp", "--interface", "bw0", "--target", "10.77.0.2:7"], &args[..]].concat());
    let [sent, completed, lost] = ["sent", "completed", "lost"].map(|name| trial(&report)[name].as_u64().unwrap());
    assert!(completed > 0 && sent == completed + lost, "{report}");
    assert_eq!(trial(&report)["source_ports"], 10_000, "{report}");
}

#[test]
fn what_is_no_mix_or_does_not_fit_the_link_is_refused_with_what_does() {
    let net = Net::new("nomix");
    let base = ["udp", "--interface", "bw0", "--target", "10.77.0.2:7"];
    for (args, hint) in [
        (["--size", "64:7,x"], "64:7,594:4,1514:1"),
        (["--size", "64:64,1514:1"], "64 together"),
        (["--size", "61:1,1514:1"], "62 to"),
        (["--size", "64:1,8900:1"], "--sender kernel"),
    ] {
        let output = bench(&[&base[..], &args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(hint), "{args:?}: {error}");
    }
    for sender in ["live-frames", "kernel"] {
        let args = ["netns", "exec", &net.client, net::BENCH];
        let long = ["--size", "64:7,594:4,1518:1", "--sender", sender];
        let output = Command::new("ip").args(args).args(base).args(long).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("1514 at most"), "{sender}: {error}");
    }
}
