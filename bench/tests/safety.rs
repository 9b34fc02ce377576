//! What the load generator refuses, what it is bound by, how it is stopped, and that nothing is left. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use self::net::{BENCH, Net, bench, ip, namespaces_of, signal, take, temporary, trial};

const UDP: [&str; 5] = ["udp", "--interface", "bw0", "--target", "10.77.0.2:7"];

/// Processes in namespaces.
fn processes_in(namespaces: &[String]) -> Vec<String> {
    let of = |name: &String| ip(&["netns", "pids", name.split(' ').next().unwrap()], "");
    namespaces.iter().flat_map(|name| of(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Waits until `met`, or fails saying what was waited for.
fn until(what: &str, mut met: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !met() {
        assert!(Instant::now() < give_up, "{what} in vain");
        sleep(Duration::from_millis(10));
    }
}

/// Begins a comparison that would take many minutes, and waits for its namespaces.
fn long_comparison(args: &[&str]) -> (Child, Vec<String>) {
    let child = Command::new(BENCH)
        .args(["compare", "udp", "--rounds", "1000", "--seconds", "0.05", "--only", "kernel-spin,xdp-tx"])
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("for namespaces", || namespaces_of(child.id()).len() == 2);
    let namespaces = namespaces_of(child.id());
    (child, namespaces)
}

/// Reads what a comparison tells until it has measured so many servers.
fn after_servers(child: &mut Child, servers: usize) {
    let lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    assert_eq!(lines.map_while(Result::ok).filter(|line| line.contains("round ")).take(servers).count(), servers);
}

#[test]
fn load_is_refused_outside_namespaces_made_for_it_and_the_loopback() {
    for args in [
        &["tcp-rr", "192.0.2.1:7"][..],
        &["tcp-crr", "192.0.2.1:7"],
        &["tcp-stream", "192.0.2.1:9", "--direction", "send"],
        &["udp", "--interface", "lo", "--target", "192.0.2.1:7", "--sender", "kernel"],
    ] {
        let output = bench(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("--i-own-this-target"), "{args:?}: {error}");
    }
    let output = bench(&["udp", "--interface", "lo", "--target", "127.0.0.1:7"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("--sender kernel"), "{error}");
}

#[test]
fn the_loopback_may_be_loaded_through_sockets() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let [tcp_at, udp_at] = [tcp.local_addr().unwrap(), udp.local_addr().unwrap()].map(|at| at.to_string());
    thread::spawn(move || {
        let (mut stream, mut bytes) = (tcp.accept().unwrap().0, [0; 64]);
        while stream.read_exact(&mut bytes).and_then(|()| stream.write_all(&bytes)).is_ok() {}
    });
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = udp.recv_from(&mut bytes) {
            udp.send_to(&bytes[..len], from).unwrap();
        }
    });
    let file = temporary("loopback");
    for args in [
        &["tcp-rr", &tcp_at, "--duration", "0.3", "--warmup", "0"][..],
        &["udp", "--interface", "lo", "--target", &udp_at, "--sender", "kernel", "--rate", "500", "--duration", "0.5"],
    ] {
        let output = bench(&[args, &["--json", file.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(trial(&take(&file))["completed"].as_u64() > Some(0));
    }
}

#[test]
fn a_count_bounds_what_is_sent_by_either_sender_at_any_rate() {
    let net = Net::new("count");
    let _server = net.serve("kernel-epoll");
    // Fills the neighbor table.
    net.measure(&[&UDP[..], &["--rate", "1000", "--duration", "0.1"]].concat());
    for args in [
        &["--rate", "max", "--count", "1000"][..],
        &["--rate", "max", "--count", "1"],
        &["--rate", "5000", "--count", "700"],
        &["--rate", "max", "--count", "1000", "--sender", "kernel"],
        &["--rate", "5000", "--count", "700", "--sender", "kernel"],
        &["--rate", "5000", "--count", "700", "--sender", "own-stack", "--address", "10.77.0.21/24"],
        &["--rate", "max", "--count", "50", "--sender", "own-stack", "--address", "10.77.0.21/24"],
        &["--closed-loop", "--window", "8", "--count", "300", "--sender", "kernel"],
    ] {
        let count: u64 = args[args.iter().position(|word| *word == "--count").unwrap() + 1].parse().unwrap();
        let report = net.measure(&[&UDP[..], args, &["--duration", "20"]].concat());
        let figures = trial(&report);
        let sent = figures["sent"].as_u64().unwrap();
        // A rate that could not be kept sends fewer by its end; beside other tests it may come to none.
        let paced = args.contains(&"5000");
        assert!(sent == count || paced && sent < count, "{args:?}: {figures}");
        assert!(figures["seconds"].as_f64().unwrap() < 15.0, "{args:?}: {figures}");
    }
}

#[test]
fn a_first_signal_ends_a_measurement_with_what_it_has() {
    let net = Net::new("int");
    let _udp = net.serve("kernel-epoll");
    let _tcp = net.serve("tcp-epoll");
    for (args, name) in [
        (&[&UDP[..], &["--rate", "2000"]].concat()[..], "-INT"),
        (&[&UDP[..], &["--rate", "2000", "--sender", "kernel"]].concat(), "-TERM"),
        (&["tcp-rr", "10.77.0.2:7"], "-INT"),
        (&["tcp-crr", "10.77.0.2:7", "--warmup", "0"], "-INT"),
        (&["tcp-stream", "10.77.0.2:9", "--direction", "send"], "-INT"),
    ] {
        let file = temporary("int");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &net.client, BENCH])
            .args(args)
            .args(["--duration", "600", "--json", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        sleep(Duration::from_secs(3));
        signal(child.id(), name);
        let begun = Instant::now();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}: {text}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{args:?}");
        let report = take(&file);
        assert_eq!(report["interrupted"], true, "{args:?}: {report}");
        let (sent, bytes) = (trial(&report)["sent"].as_u64().unwrap(), trial(&report)["bytes"].as_u64().unwrap());
        assert!(sent + bytes > 0 && !text.is_empty(), "{args:?}: {report}");
    }
}

#[test]
fn an_interrupted_comparison_tells_and_writes_what_it_has_and_leaves_nothing() {
    for name in ["-INT", "-TERM"] {
        let file = temporary("compare-int");
        let (mut child, namespaces) = long_comparison(&["--json", file.to_str().unwrap()]);
        after_servers(&mut child, 3);
        signal(child.id(), name);
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(namespaces_of(child.id()), [] as [String; 0], "{namespaces:?}");
        let report = take(&file);
        assert_eq!((&report["interrupted"], &report["rounds_asked"]), (&true.into(), &1000.into()));
        let rounds: Vec<usize> = report["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|server| server["rounds"].as_array().unwrap().len())
            .collect();
        assert!(rounds.iter().sum::<usize>() >= 3 && rounds.iter().all(|count| *count >= 1), "{rounds:?}");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_leaves_nothing() {
    let (mut child, _) = long_comparison(&[]);
    after_servers(&mut child, 1);
    for _ in 0..2 {
        signal(child.id(), "-INT");
        sleep(Duration::from_millis(2));
    }
    let begun = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(namespaces_of(child.id()), [] as [String; 0]);
}

#[test]
fn what_a_killed_comparison_left_is_removed_by_the_next_and_its_server_is_gone_at_once() {
    let (mut child, namespaces) = long_comparison(&[]);
    until("for a server", || !processes_in(&namespaces).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    // The next may already have begun in another test.
    let left = namespaces_of(child.id());
    until("for the end of the server", || {
        processes_in(&left.iter().filter(exists).cloned().collect::<Vec<_>>()).is_empty()
    });
    let output = bench(&["compare", "udp", "--rounds", "1", "--seconds", "0.05", "--only", "xdp-tx"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(namespaces_of(child.id()), [] as [String; 0]);
}

fn exists(namespace: &&String) -> bool {
    PathBuf::from("/run/netns").join(namespace.split(' ').next().unwrap()).exists()
}
