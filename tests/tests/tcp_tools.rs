//! The engine's TCP and tools that nobody here wrote: netcat, socat, nmap and nping. Needs root.
//!
//! `BAREWIRE_TEST_PEER=kernel` puts the kernel in the engine's place, to test the tests.
//!
//! iperf3 and sockperf need a server of their own at the other end: sockperf's client takes no notice of answers
//! that an echo service gives it, because they bear the mark of a client.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use barewire_tests::content::Content;
use barewire_tests::lab::{Lab, until};
use barewire_tests::peer::{Server, connect_command, ports};
use barewire_tests::services::Service;
use barewire_tests::tcp::{Piped, exchange_by, megabits, read_content, write_content};

/// Bytes that go through a tool.
const BYTES: u64 = 16 << 20;

/// Streams through the engine's echo by a command of the peer's.
fn stream_by(program: &str, arguments: &[&str]) {
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let mut command = Command::new(program);
    command.args(arguments);
    let took = exchange_by(&lab.veth.far, command, 1, BYTES);
    println!("{program} through echo and back: {}", megabits(BYTES, took));
    server.assert_empty();
}

#[test]
fn netcat_streams_through_echo() {
    stream_by("nc", &["-N", "10.0.0.2", "7"]);
}

#[test]
fn socat_streams_through_echo() {
    // It waits so many seconds for the other direction after the end of one: half a second if nobody says.
    stream_by("socat", &["-t", "20", "-b", "65536", "STDIO", "TCP:10.0.0.2:7"]);
}

/// Streams from the engine to a server of the peer's and back at the same time, each way something else.
fn stream_to(program: &str, arguments: &[&str]) {
    const PORT: u16 = 4000;
    let lab = Lab::plain();
    let mut server = Command::new(program);
    server.args(arguments);
    let mut server = Piped::start(&lab.veth.far, server);
    until("it listens", || lab.far("ss", &["-Hltn"]).contains(&format!(":{PORT}")).then_some(()));
    let mut client = Piped::start(&lab.veth.near, connect_command(&lab, PORT));
    let ends = [client.pipes(), server.pipes()];
    let (start, arrived) = (Instant::now(), AtomicU64::new(0));
    thread::scope(|scope| {
        let [(mut to_client, from_client), (to_server, from_server)] = ends;
        let arrived = &arrived;
        scope.spawn(move || {
            write_content(&mut to_client, Content::new(1), BYTES);
            // Its end comes last: after it a netcat that listens waits for no more of its own input.
            until("all of the other way has arrived", || (arrived.load(Ordering::Relaxed) == BYTES).then_some(()));
        });
        scope.spawn(move || write_content(to_server, Content::new(2), BYTES));
        scope.spawn(move || read_content(from_server, Content::new(1), BYTES, &AtomicU64::new(0)));
        read_content(from_client, Content::new(2), BYTES, arrived);
    });
    println!("the engine and {program}, each way: {}", megabits(BYTES, start.elapsed()));
    assert_eq!((server.wait(), client.wait()), (0, 0), "exit codes");
}

#[test]
fn the_engine_streams_to_a_netcat_that_listens_and_back() {
    stream_to("nc", &["-N", "-l", "10.0.0.3", "4000"]);
}

#[test]
fn the_engine_streams_to_a_socat_that_listens_and_back() {
    stream_to("socat", &["-t", "20", "-b", "65536", "STDIO", "TCP-LISTEN:4000,bind=10.0.0.3"]);
}

#[test]
fn netcat_is_told_the_time_and_nothing_by_discard() {
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let time = lab.far("nc", &["-d", "10.0.0.2", "13"]);
    assert!(time.ends_with("\r\n") && time.lines().count() == 1, "{time:?}");
    assert_eq!(lab.far("sh", &["-c", "seq 10000 | nc -N 10.0.0.2 9"]), "");
    assert_eq!(lab.far("sh", &["-c", "nc -d 10.0.0.2 19 | head -c 148 | tail -c 2"]), "\r\n");
    server.assert_empty();
}

#[test]
fn nping_connects_a_hundred_times() {
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    let said = lab.far("nping", &["--tcp-connect", "-p", "7,9", "-c", "50", "--delay", "5ms", "10.0.0.2"]);
    assert!(said.contains("Successful connections: 100 | Failed: 0"), "{said}");
    server.assert_empty();
}

/// Has the peer scan the engine, in the form that programs read, and gives the open ports.
fn scan(lab: &Lab, options: &[&str]) -> BTreeSet<u16> {
    let always = ["-n", "-Pn", "--host-timeout", "60s", "-oG", "-", "10.0.0.2"];
    let said = lab.far("nmap", &[options, &always].concat());
    // Host: 10.0.0.2 ()  Ports: 7/open/tcp//echo///, 9/open/tcp//discard///  Ignored State: closed (65533)
    let found = said.split_once("Ports: ").unwrap_or_else(|| panic!("{said}")).1;
    let found = found.split(['\t', '\n']).next().unwrap_or_default();
    println!("nmap {}: {found}", options.join(" "));
    let open = found.split(", ").filter_map(|port| port.split_once("/open/"));
    open.map(|(port, _)| port.parse().unwrap_or_else(|_| panic!("{said}"))).collect()
}

#[test]
fn nmap_finds_the_ports_that_are_served_and_does_no_harm() {
    let lab = Lab::plain();
    let server = Server::start(&lab, &[]);
    thread::scope(|scope| {
        let scans = scope.spawn(|| {
            // Half connections, to every port, and whole ones.
            assert_eq!(scan(&lab, &["-sS", "-p-"]), ports());
            assert_eq!(scan(&lab, &["-sT", "-p", "1-1024"]), ports());
            // Segments that no connection begins with: FIN, none, FIN with PSH and URG, ACK.
            for odd in ["-sF", "-sN", "-sX", "-sA"] {
                assert_eq!(scan(&lab, &[odd, "-p", "1-64"]), BTreeSet::new());
            }
            // What is asked of the services to tell their version. Discard would be waited for at each question.
            let talking = ports().into_iter().filter(|port| *port != Service::Discard.port()).collect();
            assert_eq!(scan(&lab, &["-sV", "--version-intensity", "0", "-p", "7,13,19"]), talking);
        });
        // Others are answered all the while.
        while !scans.is_finished() {
            lab.ping(Lab::ENGINE, 10);
        }
        scans.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
    // All that is odd in options, windows and flags, to tell the operating system.
    let said = lab.far("nmap", &["-n", "-v", "-O", "--max-os-tries", "1", "-p", "1-100", "10.0.0.2"]);
    said.lines().filter(|line| line.contains("Sequence")).for_each(|line| println!("nmap -O: {line}"));
    assert!(said.contains("Good luck!"), "sequence numbers can be guessed: {said}");
    server.assert_empty();
    server.assert_alive(&lab);
}
