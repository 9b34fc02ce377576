//! Open loops: requests are due by the clock, and latency counts from there. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::net::{Net, Served, alone, trial};

const ECHO: &str = "10.77.0.2:7";
const OWN_STACK: &[&str] = &["--back-end", "own-stack", "--interface", "bw0", "--address", "10.77.0.21/24"];
const UDP: [&str; 7] = ["udp", "--interface", "bw0", "--target", ECHO, "--sender", "kernel"];

fn count(report: &Value, name: &str) -> u64 {
    trial(report)[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn latency_ms(report: &Value, distribution: &str, quantile: &str) -> f64 {
    let ns = trial(report)[distribution][quantile].as_u64();
    ns.unwrap_or_else(|| panic!("no {distribution}.{quantile} in {report}")) as f64 / 1e6
}

/// Measures while the server stands still for 100 ms of every second.
fn with_stalls(server: &Served, measure: impl FnOnce() -> Value) -> Value {
    let over = AtomicBool::new(false);
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &server.pid().to_string()]).status().unwrap();
        assert!(status.success());
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(900));
                signal("-STOP");
                thread::sleep(Duration::from_millis(100));
                signal("-CONT");
            }
        });
        let report = measure();
        over.store(true, Ordering::Relaxed);
        report
    })
}

#[test]
fn a_stalling_server_shows_in_the_intended_time_and_hides_from_a_closed_loop() {
    let _alone = alone();
    let net = Net::new("stall");
    for (server, closed, open) in [
        ("tcp-epoll", &["tcp-rr", ECHO][..], &["tcp-rr", ECHO, "--rate", "2000"][..]),
        (
            "tcp-epoll",
            &[&["tcp-rr", ECHO], OWN_STACK].concat(),
            &[&["tcp-rr", ECHO, "--rate", "2000"], OWN_STACK].concat(),
        ),
        (
            "kernel-epoll",
            &[&UDP[..], &["--closed-loop"]].concat(),
            &[&UDP[..], &["--rate", "2000", "--warmup"]].concat(),
        ),
    ] {
        let server = net.serve(server);
        let length = ["--duration", "2.5"];
        let closed = with_stalls(&server, || net.measure(&[closed, &length].concat()));
        let open = with_stalls(&server, || net.measure(&[open, &length].concat()));
        // A tenth of all requests is due during a stall, and waits for 50 ms of it on average.
        let intended = latency_ms(&open, "latency", "p99_ns");
        assert!(intended > 50.0, "p99 from the intended time: {intended} ms");
        // A closed loop sends one request into each stall, among thousands.
        let hidden = latency_ms(&closed, "latency", "p99_ns");
        assert!(hidden < intended / 2.0, "p99 of a closed loop: {hidden} ms, intended: {intended} ms");
        assert!(latency_ms(&closed, "latency", "max_ns") > 50.0, "{closed}");
        // Every request that was due is answered or told as lost.
        assert_eq!(count(&open, "sent"), count(&open, "completed") + count(&open, "lost"), "{open}");
        assert!((4900..=5000).contains(&count(&open, "sent")), "{open}");
    }
}

#[test]
fn every_arrival_process_asks_for_its_rate_over_udp_and_tcp() {
    let _alone = alone();
    let net = Net::new("arr");
    let (_udp, _tcp) = (net.serve("kernel-epoll"), net.serve("tcp-epoll"));
    let tcp = ["tcp-rr", ECHO, "--connections", "32", "--warmup", "0"];
    for (process, expected) in [("constant", 2000), ("poisson", 2000), ("burst", 2000), ("ramp", 1000)] {
        let arrivals = ["--rate", "4000", "--arrivals", process, "--burst", "16", "--duration", "0.5"];
        for command in [&UDP[..], &tcp] {
            let report = net.measure(&[command, &arrivals].concat());
            assert_eq!(trial(&report)["arrivals"]["process"], process, "{report}");
            let adherence = &trial(&report)["adherence"];
            // A Poisson process of 2,000 has a standard deviation of 45. What the generator had no time for it says.
            let (sent, due) = (count(&report, "sent"), adherence["taken"].as_f64().unwrap() * f64::from(expected));
            assert!(sent > 0 && (sent as f64 - due).abs() <= 230.0, "{process} of {command:?} sent {sent}: {report}");
            assert!(adherence["lag_p50_ns"].as_u64() <= adherence["lag_p99_ns"].as_u64(), "{report}");
            assert_eq!(trial(&report)["limited"].as_bool(), adherence["kept"].as_bool().map(|kept| !kept));
            let samples = |name: &str| trial(&report)[name]["samples"].as_u64();
            assert_eq!(samples("latency"), Some(count(&report, "completed")), "{report}");
            assert_eq!(samples("latency_from_sending"), samples("latency"), "{report}");
            let slices = trial(&report)["slices"].as_array().unwrap();
            let completed: u64 = slices.iter().map(|slice| slice["completed"].as_u64().unwrap()).sum();
            assert!(completed > 0 && completed <= count(&report, "completed"), "{report}");
        }
    }
}

/// When each request of a trial was due, from the first on, as the frames that arrive say.
fn due_times(net: &Net, count: usize, args: &[&str]) -> (Value, Vec<u64>) {
    let file = std::env::temp_dir().join(format!("{}.pcap", net.server));
    let mut capture = Command::new("ip")
        .args([
            "netns",
            "exec",
            &net.server,
            "tcpdump",
            "-Z",
            "root",
            "--immediate-mode",
            "-Uni",
            "bw0",
            "-B",
            "65536",
            "-w",
        ])
        .arg(&file)
        .args(["udp", "and", "dst", "port", "7", "and", "greater", "64"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(capture.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("listening on bw0")), "it does not listen");
    let report = net.measure(args);
    let written = || frames(&std::fs::read(&file).unwrap()).count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while written() < count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").arg(capture.id().to_string()).status().unwrap().success());
    capture.wait().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut due: Vec<(u64, u64)> = frames(&bytes)
        .map(|frame| {
            let word = |at: usize| u64::from_ne_bytes(frame[at..at + 8].try_into().unwrap());
            // Behind headers of 42 bytes and four of the trial.
            (word(46), word(54))
        })
        .collect();
    due.sort_unstable();
    assert!(due.iter().enumerate().all(|(at, (sequence, _))| *sequence == at as u64), "frames are missing: {report}");
    assert_eq!(due.len(), count, "{report}");
    let first = due[0].1;
    (report, due.into_iter().map(|(_, due_ns)| due_ns - first).collect())
}

/// The whole frames of a capture file: a header of 24 bytes, then frames with their length in the third word before each.
fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut bytes = bytes.get(24..).unwrap_or_default();
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(bytes.get(8..12)?.try_into().unwrap()) as usize;
        let frame = bytes.get(16..16 + len)?;
        bytes = &bytes[16 + len..];
        Some(frame)
    })
}

#[test]
fn live_frames_are_due_when_the_requests_of_kernel_sockets_are_by_every_arrival_process() {
    let _alone = alone();
    let net = Net::new("due");
    let _server = net.serve("kernel-epoll");
    let live = ["udp", "--interface", "bw0", "--target", ECHO, "--size", "65"];
    // Fills the neighbor table.
    net.measure(&[&live[..], &["--rate", "1000", "--duration", "0.1"]].concat());
    for process in ["poisson", "burst", "ramp"] {
        let arrivals = ["--rate", "4000", "--arrivals", process, "--burst", "16", "--seed", "7", "--count", "1500"];
        let arrivals = [&arrivals[..], &["--duration", "1", "--size", "65"]].concat();
        let (_, by_kernel) = due_times(&net, 1500, &[&UDP[..], &arrivals].concat());
        let (report, by_live) = due_times(&net, 1500, &[&live[..5], &arrivals].concat());
        assert_eq!(by_live, by_kernel, "{process}");
        assert_eq!(trial(&report)["back_end"], "live-frames", "{report}");
        assert_eq!(trial(&report)["arrivals"]["process"], process, "{report}");
        assert!(trial(&report)["adherence"]["lag_p50_ns"].is_u64(), "{report}");
        if process == "burst" {
            assert!(by_live.chunks(16).all(|burst| burst.iter().all(|due_ns| *due_ns == burst[0])), "{by_live:?}");
        }
    }
}

#[test]
fn live_frames_tell_their_course_slice_by_slice() {
    let _alone = alone();
    let net = Net::new("course");
    let _server = net.serve("kernel-epoll");
    let live = ["udp", "--interface", "bw0", "--target", ECHO, "--duration", "1.25", "--rate", "8000"];
    let file = std::env::temp_dir().join(format!("{}.html", net.client));
    let report = net.measure(&[&live[..], &["--arrivals", "ramp", "--html", file.to_str().unwrap()]].concat());
    let page = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for told in ["throughput, ", "BPF live frames", "time, s"] {
        assert!(page.contains(told), "the page does not tell {told}");
    }
    let slices = trial(&report)["slices"].as_array().unwrap();
    assert_eq!(slices.len(), 12, "{report}");
    let completed: Vec<u64> = slices.iter().map(|slice| slice["completed"].as_u64().unwrap()).collect();
    assert_eq!(completed.iter().sum::<u64>(), count(&report, "completed"), "{report}");
    // A ramp asks for a quarter in its first half; nothing is answered before it is due.
    let first_half: u64 = completed[..6].iter().sum();
    assert!(first_half > 0 && first_half <= 5000 * 6 * 6 / 144 + 1, "{completed:?}");
    for slice in slices.iter().filter(|slice| slice["completed"] != 0) {
        let [p50, p99, max] = ["p50_ns", "p99_ns", "max_ns"].map(|name| slice[name].as_u64().unwrap());
        assert!(0 < p50 && p50 <= p99 && p99 <= max, "{slice}");
    }
    let longest = slices.iter().map(|slice| slice["max_ns"].as_u64()).max().unwrap();
    assert_eq!(longest, trial(&report)["latency"]["max_ns"].as_u64(), "{report}");
}

#[test]
fn a_schedule_that_no_generator_can_keep_is_told_and_its_trial_is_limited() {
    let _alone = alone();
    let net = Net::new("late");
    let _server = net.serve("kernel-epoll");
    let report = net.measure(&[&UDP[..], &["--rate", "50000000", "--duration", "0.5"]].concat());
    assert_eq!(trial(&report)["limited"], true, "{report}");
    assert_eq!(trial(&report)["adherence"]["kept"], false, "{report}");
    assert_eq!(report["servers"][0]["rounds"][0]["figures"]["goodput"]["limited"], true, "{report}");
}
