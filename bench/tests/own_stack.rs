//! The load generator on our own stack: every workload against the kernel's sockets and against the engine, held to
//! what the server itself counted, as the kernel back end is. In network namespaces of the test's own. Needs root.

#[allow(dead_code, reason = "each test program uses another part of it")]
mod net;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use self::net::{BENCH, Net, Served, alone, ip, take, trial};

/// Where echo, discard and chargen are.
const ECHO: &str = "10.77.0.2:7";
const DISCARD: &str = "10.77.0.2:9";
const CHARGEN: &str = "10.77.0.2:19";
/// Our own stack, at an address that the client's kernel does not have.
const OWN_STACK: &[&str] = &["--back-end", "own-stack", "--interface", "bw0", "--address", "10.77.0.21/24"];
/// Both back ends: what is true of one has to be true of the other.
const BACK_ENDS: [&[&str]; 2] = [&[], OWN_STACK];
/// Everything counts from the first request on, so that client and server count the same.
const WHOLE: &[&str] = &["--duration", "0.5", "--warmup", "0"];
/// What a connection may have sent when its trial ends, and has not been acknowledged: buffers of either side.
const UNDER_WAY: u64 = 8 << 20;

fn count(report: &Value, name: &str) -> u64 {
    trial(report)[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// What `serve tcp-epoll` counted: connections accepted, bytes received and sent.
fn served(server: &mut Served) -> [u64; 3] {
    let said = server.stop();
    ["accepted=", "received_bytes=", "sent_bytes="].map(|name| {
        let value = said.split_whitespace().find_map(|word| word.strip_prefix(name));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {said:?}"))
    })
}

/// Measures with a server of its own, and gives the report and what the server counted.
fn measure_served(net: &Net, args: &[&str], back_end: &[&str]) -> (Value, [u64; 3]) {
    let mut server = net.serve("tcp-epoll");
    let report = net.measure(&[args, WHOLE, back_end].concat());
    let name = if back_end.is_empty() { "kernel" } else { "own-stack" };
    assert_eq!(trial(&report)["back_end"], name, "{report}");
    // A server that still closes what the client closed would count too little.
    wait_for("the server's connections to end", || net.server_counter("Tcp", "CurrEstab") == 0);
    (report, served(&mut server))
}

/// Waits until something is so; seconds may pass on a busy machine.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {what}");
}

#[test]
fn requests_and_bytes_are_those_that_the_server_counted_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("orr");
    for back_end in BACK_ENDS {
        for (connections, size) in [(1, 64), (50, 1), (300, 7), (2, 300_000)] {
            let (connections_text, size_text) = (connections.to_string(), size.to_string());
            let args = ["tcp-rr", ECHO, "--connections", &connections_text, "--size", &size_text];
            let (report, [accepted, received, sent]) = measure_served(&net, &args, back_end);
            let completed = count(&report, "completed");
            assert!(completed > 0 && count(&report, "failed") == 0, "{report}");
            assert_eq!(accepted, connections, "{report}");
            // On each connection one request may have been answered when the time was up, and the next be outstanding; a
            // kernel client that exits resets connections whose response it has not read.
            let most = (completed + 2 * connections) * size;
            assert!((completed * size..=most).contains(&received), "{received} bytes received: {report}");
            assert!((completed * size..=received).contains(&sent), "{sent} bytes sent: {report}");
            assert_eq!(trial(&report)["latency"]["samples"], completed, "{report}");
        }
    }
}

#[test]
fn an_open_loop_asks_exactly_what_was_due_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("oopen");
    for back_end in BACK_ENDS {
        for more in [&[][..], &["--arrivals", "poisson"], &["--arrivals", "burst", "--burst", "50"]] {
            let args = [&["tcp-rr", ECHO, "--connections", "20", "--size", "100", "--rate", "3000"], more].concat();
            let (report, [accepted, received, sent]) = measure_served(&net, &args, back_end);
            let (due, completed) = (count(&report, "sent"), count(&report, "completed"));
            // Due is what the schedule says; Poisson's has a standard deviation of 39.
            assert!((1300..=1700).contains(&due), "{report}");
            assert_eq!((completed, accepted, count(&report, "lost")), (due, 20, 0), "{report}");
            assert_eq!((received, sent), (completed * 100, completed * 100), "{report}");
        }
    }
}

#[test]
fn connections_of_one_request_are_those_that_the_server_accepted_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("ocrr");
    ip(&["netns", "exec", &net.client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"], "");
    for back_end in BACK_ENDS {
        for (at_a_time, size) in [(1, 1), (16, 10)] {
            let (resets, at_a_time_text) = (net.server_counter("Tcp", "EstabResets"), at_a_time.to_string());
            let args = ["tcp-crr", ECHO, "--connections", &at_a_time_text, "--size", &size.to_string()];
            let (report, [accepted, received, sent]) = measure_served(&net, &args, back_end);
            let completed = count(&report, "completed");
            assert!(completed > 0 && count(&report, "failed") == 0, "{report}");
            // Of each at a time, one may have been complete when the time was up, and the next be under way.
            let most = completed + 2 * at_a_time;
            assert!((completed..=most).contains(&accepted), "{accepted} accepted: {report}");
            assert!((completed * size..=accepted * size).contains(&received), "{received} received: {report}");
            assert_eq!(sent, received, "{report}");
            assert_eq!(net.server_counter("Tcp", "EstabResets"), resets, "every one ends by FINs: {report}");
        }
    }
}

#[test]
fn streams_carry_what_the_server_counted_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("ostr");
    for back_end in BACK_ENDS {
        for connections in [1, 3] {
            let connections_text = connections.to_string();
            let stream = |target: &'static str, direction: &'static str| {
                let args = ["tcp-stream", target, "--direction", direction, "--connections", &connections_text];
                measure_served(&net, &args, back_end)
            };
            let (report, [accepted, received, _]) = stream(DISCARD, "send");
            let bytes = count(&report, "bytes");
            assert!(accepted == connections && bytes > 0, "{report}");
            // The server has read what it acknowledged, once the connection is closed in order.
            let slack = connections * UNDER_WAY;
            assert!((bytes..=bytes + slack).contains(&received), "{received} bytes received: {report}");
            let (report, [accepted, _, sent]) = stream(CHARGEN, "receive");
            let bytes = count(&report, "bytes");
            assert!(accepted == connections && bytes > 0, "{report}");
            assert!((bytes..=bytes + slack).contains(&sent), "{sent} bytes sent: {report}");
        }
    }
}

#[test]
fn idle_connections_are_all_held_asked_in_turn_and_closed_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("oidle");
    for back_end in BACK_ENDS {
        let args = ["tcp-idle", ECHO, "--connections", "3000", "--rate", "4000", "--size", "10"];
        let (report, [accepted, received, sent]) = measure_served(&net, &args, back_end);
        let completed = count(&report, "completed");
        assert_eq!((accepted, count(&report, "failed"), count(&report, "lost")), (3000, 0, 0), "{report}");
        assert_eq!((received, sent), (completed * 10, completed * 10), "{report}");
        // 2,000 were due; the others the generator says to have had no time for.
        let taken = trial(&report)["adherence"]["taken"].as_f64().unwrap();
        assert!(completed > 0 && (taken * 2000.0 - completed as f64).abs() <= 10.0, "{report}");
        let opening = &report["servers"][0]["rounds"][0]["figures"]["opening"];
        assert!(opening["value"].as_f64() > Some(0.0) && opening["unit"] == "k/s", "{report}");
    }
}

#[test]
fn idle_connections_that_the_server_drops_are_counted_by_either_back_end() {
    let _alone = alone();
    let net = Net::new("olost");
    for back_end in BACK_ENDS {
        let mut server = net.serve("tcp-epoll");
        let file = std::env::temp_dir().join(format!("{}-lost.json", net.client));
        let args = ["tcp-idle", ECHO, "--connections", "100", "--duration", "2.5", "--warmup", "0"];
        let client = spawn(&net, &[&args, back_end, &["--json", file.to_str().unwrap()]].concat());
        wait_for("100 connections", || net.server_counter("Tcp", "CurrEstab") == 100);
        server.stop();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report = take(&file);
        assert_eq!(count(&report, "failed"), 100, "{report}");
    }
}

/// Starts the load generator in the client's namespace; its process id is that of the child.
fn spawn(net: &Net, args: &[&str]) -> Child {
    let words = [&["netns", "exec", &net.client, BENCH][..], args].concat();
    Command::new("ip").args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn every_datagram_is_one_that_the_server_received_and_answered() {
    let _alone = alone();
    let net = Net::new("oudp");
    let _server = net.serve("kernel-epoll");
    let counters = || ["InDatagrams", "OutDatagrams"].map(|name| net.server_counter("Udp", name));
    let own_stack = ["udp", "--interface", "bw0", "--target", ECHO, "--address", "10.77.0.21/24"];
    for args in [
        &["--back-end", "own-stack", "--rate", "5000"][..],
        &["--sender", "own-stack", "--rate", "5000", "--arrivals", "poisson", "--size", "1514"],
        &["--sender", "own-stack", "--closed-loop", "--window", "8"],
    ] {
        let before = counters();
        let report = net.measure(&[&own_stack[..], args, &["--duration", "0.5"]].concat());
        let after = counters();
        let (sent, completed) = (count(&report, "sent"), count(&report, "completed"));
        assert!(sent > 0 && trial(&report)["back_end"] == "own-stack", "{report}");
        // One more knocks at the server's door before.
        assert_eq!(after[0] - before[0], sent + 1, "{report}");
        assert_eq!((completed, after[1] - before[1]), (sent, sent + 1), "{report}");
        assert_eq!((count(&report, "duplicated"), count(&report, "stale")), (0, 0), "{report}");
        assert_eq!(net.server_counter("Udp", "InCsumErrors"), 0, "checksums");
    }
    // Nobody answers at another port, and our own stack counted what the server's kernel said to that.
    let target = ["udp", "--interface", "bw0", "--target", "10.77.0.2:77", "--address", "10.77.0.21/24"];
    let report =
        net.measure(&[&target[..], &["--sender", "own-stack", "--rate", "1000", "--duration", "0.3"]].concat());
    assert_eq!((count(&report, "completed"), count(&report, "lost")), (0, count(&report, "sent")), "{report}");
    let losses = &report["servers"][0]["rounds"][0]["losses"]["own stack"];
    assert!(losses["barewire_drops_total{queue=\"0\",reason=\"icmp_ignored\"}"].as_u64() > Some(0), "{report}");
    // The same by the kernel back end, which does not knock.
    let before = counters();
    let kernel = ["udp", "--interface", "bw0", "--target", ECHO, "--sender", "kernel", "--rate", "5000"];
    let report = net.measure(&[&kernel[..], &["--duration", "0.5"]].concat());
    assert_eq!(count(&report, "completed"), count(&report, "sent"), "{report}");
    assert_eq!(counters()[0] - before[0], count(&report, "sent"), "{report}");
}

#[test]
fn all_workloads_run_over_ipv6() {
    let _alone = alone();
    let net = Net::new("osix");
    let _server = net.serve_at("tcp-epoll", "[fd00:77::2]:7");
    let _echo = net.serve_at("kernel-epoll", "[fd00:77::2]:7");
    let own_stack = ["--back-end", "own-stack", "--interface", "bw0", "--address", "fd00:77::21/64"];
    let [echo, discard] = ["[fd00:77::2]:7", "[fd00:77::2]:9"];
    for (args, figure) in [
        (&["tcp-rr", echo, "--connections", "8", "--warmup", "0"][..], "completed"),
        (&["tcp-crr", echo, "--warmup", "0"], "completed"),
        (&["tcp-stream", discard, "--direction", "send", "--warmup", "0"], "bytes"),
        (&["tcp-idle", echo, "--connections", "200", "--warmup", "0"], "completed"),
        (&["udp", "--target", echo, "--rate", "2000"], "completed"),
    ] {
        let report = net.measure(&[args, &own_stack, &["--duration", "0.3"]].concat());
        assert_eq!(report["network"]["family"], "ipv6", "{report}");
        assert!(count(&report, figure) > 0 && count(&report, "failed") == 0, "{report}");
    }
}

/// `barewire echo` in the server's namespace, with the address that its kernel gave up; gone when dropped.
struct Engine(Child);

impl Engine {
    fn start(net: &Net) -> Self {
        ip(&["-n", &net.server, "address", "flush", "dev", "bw0"], "");
        ip(&["-n", &net.server, "link", "set", "lo", "up"], "");
        let program = Path::new(BENCH).with_file_name("barewire");
        assert!(program.exists(), "build it first: `cargo build -p barewire`");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.server]).arg(program);
        command.args(["echo", "--interface", "bw0", "--address", "10.77.0.2/24", "--metrics", "127.0.0.1:9100"]);
        command.args(["--discard-port", "9", "--chargen-port", "19"]);
        let engine = Self(command.stdout(Stdio::null()).spawn().unwrap());
        wait_for("the engine", || metrics(net).is_some());
        engine
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// The engine's metrics page; `None` if there is none yet.
fn metrics(net: &Net) -> Option<String> {
    let curl = ["netns", "exec", &net.server, "curl", "-sf", "http://127.0.0.1:9100/metrics"];
    let output = Command::new("ip").args(curl).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Counters of the engine's only queue, once two pages in a row agree on them: it publishes every 100 ms.
fn settled<const N: usize>(net: &Net, names: [&str; N]) -> [u64; N] {
    let read = || {
        let page = metrics(net).expect("a metrics page");
        names.map(|name| {
            let line = page.lines().find_map(|line| line.strip_prefix(&format!("barewire_{name}{{queue=\"0\"}} ")));
            line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
        })
    };
    let mut last = read();
    loop {
        sleep(Duration::from_millis(150));
        let next = read();
        if next == std::mem::replace(&mut last, next) {
            return next;
        }
    }
}

#[test]
fn two_of_our_own_stacks_agree_with_each_other_and_the_kernel_back_end_with_both() {
    let _alone = alone();
    let net = Net::new("oown");
    let _engine = Engine::start(&net);
    ip(&["netns", "exec", &net.client, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"], "");
    let counted = || settled(&net, ["tcp_opened_total", "tcp_sent_total", "udp_originated_total"]);
    for back_end in BACK_ENDS {
        let measure = |args: &[&str]| {
            let before = counted();
            let report = net.measure(&[args, WHOLE, back_end].concat());
            let after = counted();
            assert_eq!(count(&report, "failed"), 0, "{report}");
            (report, [0, 1, 2].map(|at| after[at] - before[at]))
        };
        let (report, [opened, segments, _]) = measure(&["tcp-rr", ECHO, "--connections", "40"]);
        let completed = count(&report, "completed");
        // Each response is a segment, and so is each connection's FIN; two more were answered too late to count.
        assert!(opened == 40 && (completed..=completed + 120).contains(&segments), "{segments} sent: {report}");
        let (report, [opened, segments, _]) = measure(&["tcp-rr", ECHO, "--connections", "40", "--rate", "2000"]);
        let completed = count(&report, "completed");
        assert_eq!((completed, opened, segments), (count(&report, "sent"), 40, completed + 40), "{report}");
        let (report, [opened, _, _]) = measure(&["tcp-crr", ECHO, "--connections", "8"]);
        let completed = count(&report, "completed");
        assert!((completed..=completed + 16).contains(&opened), "{opened} opened: {report}");
        let (report, [opened, _, _]) = measure(&["tcp-idle", ECHO, "--connections", "2000"]);
        assert_eq!((opened, count(&report, "lost")), (2000, 0), "{report}");
        for (target, direction) in [(DISCARD, "send"), (CHARGEN, "receive")] {
            let (report, [opened, ..]) = measure(&["tcp-stream", target, "--direction", direction]);
            assert!(opened == 1 && count(&report, "bytes") > 0, "{report}");
        }
    }
    // More than the kernel would give away of its ports, from one address.
    let before = counted();
    let report = net.measure(&[&["tcp-idle", ECHO, "--connections", "30000"], WHOLE, OWN_STACK].concat());
    assert_eq!((counted()[0] - before[0], count(&report, "failed")), (30_000, 0), "{report}");
    let before = counted();
    let udp = ["udp", "--interface", "bw0", "--target", ECHO, "--rate", "3000", "--duration", "0.5"];
    let report = net.measure(&[&udp[..], &["--sender", "own-stack", "--address", "10.77.0.21/24"]].concat());
    let (sent, completed) = (count(&report, "sent"), count(&report, "completed"));
    assert_eq!((completed, counted()[2] - before[2]), (sent, sent + 1), "{report}");
}

#[test]
fn an_interrupted_trial_tells_what_it_has_and_leaves_no_connection() {
    let _alone = alone();
    let net = Net::new("oint");
    let _server = net.serve("tcp-epoll");
    for (args, connections) in [
        (&["tcp-rr", ECHO, "--connections", "100"][..], 100),
        (&["tcp-idle", ECHO, "--connections", "400"], 400),
        (&["tcp-stream", CHARGEN, "--direction", "receive"], 1),
        (&["tcp-crr", ECHO, "--connections", "4"], 0),
    ] {
        let file = std::env::temp_dir().join(format!("{}-int.json", net.client));
        let length = ["--duration", "60", "--warmup", "0", "--json", file.to_str().unwrap()];
        let accepted = net.server_counter("Tcp", "PassiveOpens");
        let client = spawn(&net, &[args, OWN_STACK, &length].concat());
        wait_for("connections", || net.server_counter("Tcp", "PassiveOpens") >= accepted + connections.max(1));
        sleep(Duration::from_millis(300));
        let pid = client.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let report = take(&file);
        assert_eq!(report["interrupted"], true, "{report}");
        assert!(count(&report, "completed") + count(&report, "bytes") > 0, "{report}");
        assert!(trial(&report)["seconds"].as_f64() < Some(30.0), "{report}");
        wait_for("the last connection to end", || net.server_counter("Tcp", "CurrEstab") == 0);
    }
    // Before there is a carrier, too.
    ip(&["-n", &net.server, "link", "set", "bw0", "down"], "");
    let client = spawn(&net, &[&["tcp-rr", ECHO], OWN_STACK].concat());
    wait_for("the XDP program", || ip(&["-n", &net.client, "link", "show", "dev", "bw0"], "").contains("xdp"));
    assert!(Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap().success());
    let output = client.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && error.contains("interrupted"), "{error}");
    let links = ip(&["-n", &net.client, "link", "show", "dev", "bw0"], "");
    assert!(!links.contains("xdp"), "the XDP program is gone: {links}");
}

#[test]
fn what_cannot_be_is_an_error_that_says_what_to_do() {
    let _alone = alone();
    let net = Net::new("oerr");
    let _server = net.serve("tcp-epoll");
    let fails = |code: i32, args: &[&str], hint: &str| {
        let output = spawn(&net, args).wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && error.contains(hint), "{args:?}: {error}");
    };
    let own_stack = |more: &[&'static str]| [&["tcp-rr", ECHO, "--back-end", "own-stack"][..], more].concat();
    let on = |target: &'static str| [&["tcp-rr", target], OWN_STACK].concat();
    fails(2, &own_stack(&["--address", "10.77.0.21/24"]), "--interface");
    fails(2, &own_stack(&["--interface", "bw0"]), "--address");
    fails(2, &own_stack(&["--interface", "bw0", "--address", "10.77.0.21"]), "10.77.0.21/24");
    fails(2, &own_stack(&["--interface", "bw0", "--address", "10.77.0.2/24"]), "give one that no host has");
    fails(2, &own_stack(&["--interface", "bw0", "--address", "fd00:77::21/64"]), "IPv4");
    fails(2, &["tcp-rr", ECHO, "--address", "10.77.0.21/24"], "--back-end own-stack");
    fails(2, &["tcp-rr", ECHO, "--interface", "bw0"], "--back-end own-stack");
    fails(2, &[&["tcp-crr", ECHO, "--source", "10.77.0.1"], OWN_STACK].concat(), "--source");
    fails(2, &[&["tcp-idle", ECHO, "--connections", "100000"], OWN_STACK].concat(), "give more --address");
    fails(2, &on("10.78.0.2:7"), "--gateway");
    fails(2, &[&on(ECHO)[..], &["--core", "4096"]].concat(), "may use");
    let udp = ["udp", "--interface", "bw0", "--target", ECHO];
    fails(2, &[&udp[..], &["--address", "10.77.0.21/24"]].concat(), "--sender own-stack");
    fails(2, &[&udp[..], &["--sender", "own-stack"]].concat(), "--address");
    fails(1, &own_stack(&["--interface", "bw0", "--address", "10.77.0.1/24"]), "address del");
    fails(1, &own_stack(&["--interface", "nothing", "--address", "10.77.0.21/24"]), "ip link");
    fails(1, &on("10.77.0.2:8"), "does the server run");
    fails(1, &on("10.77.0.3:7"), "no answer");
    fails(1, &on(CHARGEN), "not an echo");
    fails(1, &[&["tcp-crr", CHARGEN], OWN_STACK].concat(), "not an echo");
    fails(1, &[&["tcp-crr", "10.77.0.2:8"], OWN_STACK].concat(), "no connection to 10.77.0.2:8 succeeds");
    fails(1, &[&["tcp-stream", "10.77.0.2:8", "--direction", "send"], OWN_STACK].concat(), "does the server run");
    ip(&["-n", &net.client, "link", "set", "bw0", "down"], "");
    fails(1, &on(ECHO), "ip link set bw0 up");
}

#[test]
fn our_own_stack_needs_permission_and_a_namespace_made_for_it() {
    let _alone = alone();
    let net = Net::new("operm");
    let nobody = ["netns", "exec", &net.client, "setpriv", "--reuid", "65534", "--clear-groups"];
    let run = |words: &[&str]| {
        let output = Command::new("ip").args(words).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let allowed = [&nobody[..], &[BENCH, "tcp-rr", ECHO, "--i-own-this-target"], OWN_STACK].concat();
    let (code, error) = run(&allowed);
    assert!(code == Some(1) && error.contains("sudo"), "{code:?}: {error}");
    let elsewhere = net::bench(&[&["tcp-rr", ECHO], OWN_STACK].concat());
    let error = String::from_utf8_lossy(&elsewhere.stderr);
    assert!(elsewhere.status.code() == Some(2) && error.contains("--i-own-this-target"), "{error}");
}

#[test]
fn an_interface_with_several_queues_is_warned_of() {
    let _alone = alone();
    let net = Net::new("oqueue");
    ip(&["-n", &net.client, "link", "delete", "bw0"], "");
    let queues = ["numrxqueues", "2", "numtxqueues", "2"];
    let ends = [&["type", "veth"][..], &["peer", "name", "bw0", "netns", &net.server]].concat();
    ip(&[&["-n", &net.client, "link", "add", "bw0"][..], &queues, &ends, &queues].concat(), "");
    for (namespace, address) in [(&net.client, "10.77.0.1/24"), (&net.server, "10.77.0.2/24")] {
        ip(&["-n", namespace, "address", "add", address, "dev", "bw0"], "");
        ip(&["-n", namespace, "link", "set", "bw0", "up"], "");
    }
    let _server = net.serve("tcp-epoll");
    let output = spawn(&net, &[&["tcp-rr", ECHO, "--duration", "0.1"], OWN_STACK].concat()).wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("several queues") && error.contains("ethtool -L bw0 combined 1"), "{error}");
}

#[test]
fn a_server_behind_a_gateway_is_reached_from_several_addresses() {
    let _alone = alone();
    let net = Net::new("ogate");
    ip(&["-n", &net.server, "link", "set", "lo", "up"], "");
    ip(&["-n", &net.server, "address", "add", "10.99.0.1/32", "dev", "lo"], "");
    let mut server = net.serve_at("tcp-epoll", "10.99.0.1:7");
    let args = ["tcp-rr", "10.99.0.1:7", "--connections", "10", "--gateway", "10.77.0.2", "--address", "10.77.0.22/24"];
    let report = net.measure(&[&args, WHOLE, OWN_STACK].concat());
    assert!(count(&report, "completed") > 0 && served(&mut server)[0] == 10, "{report}");
}

#[test]
fn an_interrupted_flood_of_datagrams_tells_what_it_has() {
    let _alone = alone();
    let net = Net::new("oflood");
    let _server = net.serve("kernel-epoll");
    let file = std::env::temp_dir().join(format!("{}-int.json", net.client));
    let args = ["udp", "--target", ECHO, "--rate", "2000", "--duration", "60", "--json", file.to_str().unwrap()];
    let client = spawn(&net, &[&args, OWN_STACK].concat());
    wait_for("datagrams", || net.server_counter("Udp", "InDatagrams") > 100);
    assert!(Command::new("kill").args(["-INT", &client.id().to_string()]).status().unwrap().success());
    let output = client.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = take(&file);
    assert_eq!(report["interrupted"], true, "{report}");
    assert_eq!(net.server_counter("Udp", "InDatagrams"), count(&report, "sent") + 1, "{report}");
}
