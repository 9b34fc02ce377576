//! The engine's IPv4 and IPv6 and tools that nobody here wrote: ping, arping, ndisc6, traceroute, tracepath, mtr, nmap.
//! Needs root.
//!
//! Each test expects what any good host shows. Multicast pings (ff02::1) have no test here: the peer's answer to itself
//! is told apart from the engine's only by its address, which is made at random.

use std::net::IpAddr;
use std::process::Command;

use barewire_tests::lab::{Engine, Lab, PATIENCE};
use barewire_tests::netns::Veth;

/// The engine's addresses, with what its tools take to speak that family.
const FAMILIES: [(IpAddr, &str); 2] = [(IpAddr::V4(Lab::ENGINE), "-4"), (IpAddr::V6(Lab::ENGINE_6), "-6")];

/// Headers of IP and of ICMP's echo, bytes.
const fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

fn start(lab: &Lab) -> Engine<'_> {
    lab.start(&["--address", Lab::ADDRESS_6])
}

/// Pings of each size.
const PINGS: u32 = 5;

/// Has the peer ping with payloads of `len` bytes, and fails unless each is answered, byte for byte: ping looks at them.
/// A few more may be sent.
fn ping(lab: &Lab, (address, family): (IpAddr, &str), len: usize, options: &[&str]) {
    let (count, address, len) = (PINGS.to_string(), address.to_string(), len.to_string());
    // Without -w it would leave as soon as an answer took longer than the interval and twice the others.
    let limit = PATIENCE.as_secs().to_string();
    let always = [family, "-n", "-c", &count, "-i", "0.01", "-w", &limit, "-s", &len, &address];
    let said = lab.far("ping", &[options, &always].concat());
    let answered = |number: &u32| said.contains(&format!("icmp_seq={number} "));
    let missing: Vec<u32> = (1..=PINGS).filter(|number| !answered(number)).collect();
    assert!(missing.is_empty(), "{missing:?} of {len} bytes are missing: {said}");
    assert!(!said.contains("wrong data"), "{len}: {said}");
    // As many hops are left as a neighbor leaves, where ping shows them.
    let replies: Vec<&str> = said.lines().filter(|line| line.contains("icmp_seq=")).collect();
    assert!(replies.iter().all(|line| line.contains("ttl=64")), "{said}");
}

#[test]
fn pings_of_every_size_are_answered_byte_for_byte() {
    let lab = Lab::of_both_families();
    let engine = start(&lab);
    for family in FAMILIES {
        let most = 65_535 - if family.0.is_ipv4() { headers(family.0) } else { 8 };
        let one_packet = 1_500 - headers(family.0);
        for len in [0, 1, 56, one_packet - 1, one_packet, one_packet + 1, 1_472, 1_473, 8_000, most - 1, most] {
            ping(&lab, family, len, &[]);
        }
        for len in [0, 56, one_packet] {
            ping(&lab, family, len, &["-M", "do"]);
        }
    }
    let metrics =
        engine.metrics_when("all answered", |m| m.sum("icmp_echoes_answered_total", &[]) >= 2 * 14 * u64::from(PINGS));
    assert!(
        metrics.sum("datagrams_fragmented_total", &[]) >= 2 * 5 * u64::from(PINGS),
        "{:#?}",
        metrics.that_are_not_zero()
    );
    assert_eq!(metrics.sum("drops_total", &[]), 0, "{:#?}", metrics.that_are_not_zero());
}

#[test]
fn a_ping_flood_of_long_datagrams_loses_none() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    for (address, family) in FAMILIES {
        // The next one is sent when the last was answered.
        let said =
            lab.far("ping", &[family, "-q", "-f", "-c", "500", "-w", "20", "-s", "8000", "-n", &address.to_string()]);
        assert!(said.contains("500 received, 0% packet loss"), "{said}");
    }
}

#[test]
fn arping_and_ndisc6_find_the_mac_address() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    let said = lab.far("arping", &["-c", "3", "-w", "5", "-I", Veth::FAR, "10.0.0.2"]);
    assert_eq!(said.matches("reply from 10.0.0.2 [02:00:00:00:00:01]").count(), 3, "{said}");
    // Duplicate address detection, by which a host finds out that the address is taken: it fails if somebody answers.
    lab.veth.far.enter(|| {
        let probe = Command::new("arping").args(["-D", "-c", "2", "-w", "3", "-I", Veth::FAR, "10.0.0.2"]).output();
        assert_eq!(probe.unwrap().status.code(), Some(1), "nobody defends 10.0.0.2");
    });
    let said = lab.far("ndisc6", &["-1", "-r", "3", "fd00::2", Veth::FAR]);
    assert!(said.contains("Target link-layer address: 02:00:00:00:00:01"), "{said}");
    assert!(said.contains(" from fd00::2"), "{said}");
}

#[test]
fn the_kernels_duplicate_address_detection_finds_the_engines_address_taken() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    lab.veth.far.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/far0/accept_dad", "1").unwrap());
    lab.veth.far.ip(&["address", "add", "fd00::2/64", "dev", Veth::FAR]);
    barewire_tests::lab::until("the kernel gives the address up", || {
        lab.veth.far.ip(&["address", "show", "dev", Veth::FAR, "dadfailed"]).contains("fd00::2/64").then_some(())
    });
}

/// The lines of a report that are about hops: number and address.
fn hops(report: &str) -> Vec<(&str, &str)> {
    let hop = |line: &'_ str| -> Option<(usize, usize, usize)> {
        let number = line.split_whitespace().next()?;
        number.parse::<u8>().ok()?;
        let address = line.split_whitespace().nth(1)?;
        Some((line.find(number)?, number.len(), line.find(address)?))
    };
    let found = report.lines().filter_map(|line| hop(line).map(|(at, len, address)| (line, at, len, address)));
    found
        .map(|(line, at, len, address)| {
            (&line[at..at + len], line[address..].split_whitespace().next().unwrap_or_default())
        })
        .collect()
}

#[test]
fn traceroute_reaches_the_engine_at_the_first_hop_by_every_protocol() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    for (address, family) in FAMILIES {
        let address = address.to_string();
        for method in [&["-U", "-p", "33434"][..], &["-U", "-p", "9"], &["-I"], &["-T", "-p", "7"], &["-T", "-p", "9"]]
        {
            for len in ["60", "1400", "4000"] {
                // A segment is not sent in fragments, and traceroute's has no text.
                if method[0] == "-T" && len != "60" {
                    continue;
                }
                let len = if method[0] == "-T" { &[][..] } else { &[len] };
                // One question at a time: errors have a limit, as every host's.
                let always = [family, "-n", "-q", "1", "-N", "1", "-m", "4", &address];
                let said = lab.far("traceroute", &[method, &always, len].concat());
                assert_eq!(hops(&said), [("1", address.as_str())], "{method:?}: {said}");
                assert!(!said.contains('*') && !said.contains('!'), "{method:?}: {said}");
            }
        }
    }
}

#[test]
fn tracepath_finds_the_engine_and_an_mtu_of_1500() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    for (address, family) in FAMILIES {
        let said = lab.far("tracepath", &[family, "-n", &address.to_string()]);
        assert!(said.contains(&format!("{address} ")) && said.contains(" reached"), "{said}");
        assert!(said.contains("Resume: pmtu 1500 hops 1 back 1"), "{said}");
    }
}

#[test]
fn mtr_loses_nothing_by_every_protocol() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    for (address, family) in FAMILIES {
        let address = address.to_string();
        for method in [&[][..], &["--udp"], &["--tcp", "--port", "7"]] {
            // Reports as comma-separated values: version, start, status, host, hop, address, loss in percent, ...
            let always = [family, "--report", "--csv", "-n", "-c", "3", "-i", "0.2", "-G", "1", "-m", "3", &address];
            let said = lab.far("mtr", &[method, &always].concat());
            let rows: Vec<Vec<&str>> = said.lines().skip(1).map(|line| line.split(',').collect()).collect();
            assert_eq!(rows.len(), 1, "{method:?}: {said}");
            assert_eq!(rows[0][4..7], ["1", address.as_str(), "0.00"], "{method:?}: {said}");
        }
    }
}

/// Has the peer scan the engine, in the form that programs read, and gives `port/state/protocol` of each.
fn scan(lab: &Lab, (address, family): (IpAddr, &str), options: &[&str]) -> Vec<String> {
    let address = address.to_string();
    let mut always = vec!["-n", "-Pn", "--host-timeout", "60s", "-oG", "-", &address];
    always.extend((family == "-6").then_some(family));
    let said = lab.far("nmap", &[options, &always].concat());
    let found = said.split_once("Ports: ").or_else(|| said.split_once("Protocols: "));
    let found = found.and_then(|(_, found)| found.split(['\t', '\n']).next()).unwrap_or_else(|| panic!("{said}"));
    let state = |port: &str| port.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    found.split(", ").map(state).collect()
}

#[test]
fn nmap_tells_open_from_closed_in_both_families() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    for family in FAMILIES {
        assert_eq!(scan(&lab, family, &["-sS", "-p", "7,9,1000"]), ["7/open/tcp", "9/closed/tcp", "1000/closed/tcp"]);
        assert_eq!(scan(&lab, family, &["-sT", "-p", "7,9"]), ["7/open/tcp", "9/closed/tcp"]);
        // Of 1,024 ports the closed ones are only counted.
        assert_eq!(scan(&lab, family, &["-sS", "-p", "1-1024"]), ["7/open/tcp"]);
        assert_eq!(
            scan(&lab, family, &["-sU", "-p", "7,9,53", "--max-retries", "3"]),
            ["7/open/udp", "9/closed/udp", "53/closed/udp"]
        );
        // UDP in fragments of 16 bytes: nmap cuts IPv4 alone.
        if family.0.is_ipv4() {
            assert_eq!(scan(&lab, family, &["-sS", "-f", "-p", "7,9"]), ["7/open/tcp", "9/closed/tcp"]);
        }
        // All that is odd in options, windows, flags and extension headers, to tell the operating system.
        let address = family.0.to_string();
        let mut options = vec!["-n", "-v", "-Pn", "-O", "--max-os-tries", "1", "-p", "1-100", &address];
        options.extend((family.1 == "-6").then_some("-6"));
        let said = lab.far("nmap", &options);
        assert!(said.contains("Network Distance: 1 hop"), "{said}");
        ping(&lab, family, 56, &[]);
    }
}

#[test]
fn nmap_finds_the_protocols_that_are_spoken() {
    let lab = Lab::of_both_families();
    let _engine = start(&lab);
    // 132, SCTP, is told to be unreachable; 253 is nobody's.
    let said = scan(&lab, FAMILIES[0], &["-sO", "-p", "1,6,17,132,253"]);
    assert_eq!(said, ["1/open/icmp", "6/open/tcp", "17/open/udp", "132/closed/sctp", "253/closed/experimental1"]);
}

#[test]
fn the_least_mtu_of_ipv6_is_enough_for_pings_of_every_size() {
    let lab = Lab::of_both_families();
    lab.veth.set_mtu(1_280);
    let _engine = start(&lab);
    for family in FAMILIES {
        for len in [1_232, 1_300, 8_000, 60_000] {
            ping(&lab, family, len, &[]);
        }
    }
}
