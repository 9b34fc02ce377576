//! The `barewire` command from its start to its end, however that comes: what it prints, what it counts, and that
//! it leaves the interface as it found it. Needs root.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barewire::base::{DropReason, UnsentReason};
use barewire::steer::Verdict;
use barewire::transport::tcp;
use barewire_tests::fixtures;
use barewire_tests::lab::{Engine, Lab, METRICS, Metrics, until};
use barewire_tests::netns::{Veth, run};
use barewire_tests::peer::connect;

/// Both drivers, as `--driver` names them.
const DRIVERS: [&str; 2] = ["rings", "xsk-rs"];

/// Sends one datagram and expects it back.
fn assert_echo(lab: &Lab) {
    let client = lab.client();
    client.send(b"are you there?").unwrap();
    let mut buffer = [0; 64];
    let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("no echo: {error}"));
    assert_eq!(&buffer[..len], b"are you there?");
}

#[test]
fn the_ready_line_says_what_was_granted() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let engine = lab.start(&["--driver", driver, "--udp-port", "7", "--idle", "poll"]);
        println!("{driver}: ready after {:?}", engine.age());
        let expected = [
            ("interface", "near0"),
            ("queues", "0,1"),
            ("mode", "copy"),
            ("driver", driver),
            ("addresses", "10.0.0.2/24"),
            ("udp-port", "7"),
            ("tcp-port", "7"),
            ("metrics", "http://127.0.0.1:9100/metrics"),
        ];
        assert!(engine.ready().starts_with("ready "), "{}", engine.ready());
        for (name, value) in expected {
            assert_eq!(engine.field(name), value, "{}", engine.ready());
        }
        assert_eq!(engine.field("cores").split(',').count(), 2, "{}", engine.ready());
        assert_echo(&lab);
        engine.signal("TERM");
        let end = engine.wait();
        assert_eq!((end.code, end.stdout), (0, vec![]), "{}", end.stderr);
    }
}

#[test]
fn what_is_ready_answers_at_once_on_every_queue() {
    for queue in 0..2 {
        let lab = Lab::new(2);
        lab.send_on_queue(queue, 2);
        // Without ARP, which would be asked again a second later.
        lab.veth.far.ip(&["neighbor", "add", "10.0.0.2", "lladdr", "02:00:00:00:00:01", "dev", Veth::FAR]);
        for _ in 0..4 {
            let starting = AtomicBool::new(true);
            let _engine = thread::scope(|scope| {
                // Wakes a worker that waits at moments of its own, so that it does not wake with the others.
                scope.spawn(|| {
                    let client = lab.client();
                    for _ in (0..100).take_while(|_| starting.load(Ordering::Relaxed)) {
                        let _ = client.send(b"already?");
                        thread::sleep(Duration::from_millis(70));
                    }
                });
                let engine = lab.start(&["--idle", "poll"]);
                starting.store(false, Ordering::Relaxed);
                let client = lab.client();
                client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                client.send(b"ready?").unwrap();
                client.recv(&mut [0; 16]).unwrap_or_else(|error| panic!("the first datagram is lost: {error}"));
                engine
            });
        }
    }
}

#[test]
fn the_program_is_attached_by_a_link() {
    let lab = Lab::new(1);
    assert_eq!(lab.xdp(), None);
    let _engine = lab.start(&[]);
    let program = lab.xdp().expect("a program");
    let id = program.split_once("\"id\":").and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
    let id = id.unwrap_or_else(|| panic!("no id in {program}"));
    let links = run("bpftool", &["-j", "link"]);
    assert!(links.contains(&format!("\"type\":\"xdp\",\"prog_id\":{id}")), "{id} is not in {links}");
}

#[test]
fn a_killed_engine_leaves_the_interface_clean_and_can_be_started_again_at_once() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        lab.start(&["--driver", driver, "--idle", "poll"]).kill();
        let killed = Instant::now();
        let engine = lab.start(&["--driver", driver, "--idle", "poll"]);
        println!("{driver}: ready {:?} after its predecessor was killed", killed.elapsed());
        assert_echo(&lab);
        engine.kill();
        let killed = Instant::now();
        until("the interface has no program", || lab.xdp().is_none().then_some(()));
        println!("{driver}: no program {:?} after it was killed", killed.elapsed());
        lab.ping(Lab::KERNEL, 3);
    }
}

#[test]
fn a_signal_ends_it_cleanly() {
    for (driver, signal) in DRIVERS.into_iter().zip(["TERM", "INT"]) {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        assert_echo(&lab);
        engine.signal(signal);
        let end = engine.wait();
        assert_eq!(end.code, 0, "{signal}: {}", end.stderr);
        let complains = end.stderr.lines().any(|line| line.contains("ERROR") || line.starts_with("barewire: "));
        assert!(!complains, "{signal}: {}", end.stderr);
        assert_eq!(lab.xdp(), None, "{signal}");
        lab.ping(Lab::KERNEL, 3);
    }
}

#[test]
fn a_signal_before_it_is_ready_ends_it_cleanly_too() {
    let lab = Lab::new(1);
    // Without carrier it waits, attached.
    lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
    let engine = lab.spawn(Lab::echo(&[]));
    until("the program is attached", || lab.xdp());
    engine.signal("TERM");
    let end = engine.wait();
    assert_eq!((end.code, end.stdout), (0, vec![]), "{}", end.stderr);
    assert_eq!(lab.xdp(), None);
}

#[test]
fn it_becomes_ready_when_the_carrier_comes() {
    let lab = Lab::new(1);
    lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
    let mut engine = lab.spawn(Lab::echo(&[]));
    until("it says what it waits for", || engine.stderr().contains("near0 has no carrier").then_some(()));
    lab.veth.far.ip(&["link", "set", Veth::FAR, "up"]);
    engine.wait_until_ready();
    assert_echo(&lab);
}

#[test]
fn an_interface_that_goes_away_ends_it_with_the_reason() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let engine = lab.start(&["--driver", driver, "--idle", "poll"]);
        lab.veth.far.ip(&["link", "del", Veth::FAR]);
        let end = engine.wait();
        println!("{driver}: {}", end.stderr);
        assert_eq!(end.code, 1, "{}", end.stderr);
        let reason = end.stderr.lines().last().unwrap_or_default();
        assert!(reason.starts_with("barewire: interface near0 is gone"), "{}", end.stderr);
    }
}

#[test]
fn a_link_that_was_down_for_a_while_serves_again() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let _engine = lab.start(&["--driver", driver]);
        assert_echo(&lab);
        lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
        thread::sleep(Duration::from_millis(300));
        lab.veth.far.ip(&["link", "set", Veth::FAR, "up"]);
        assert_echo(&lab);
    }
}

#[test]
fn a_host_that_claims_its_address_is_told_off_and_the_operator_told() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--idle", "poll"]);
    let wire = lab.veth.far_socket();
    let mut claim = fixtures::arp(1, Lab::ENGINE, Lab::ENGINE);
    claim = fixtures::patched(claim, 0, &[&[0xff; 6][..], &Veth::FAR_MAC].concat());
    // The hardware address of the sender, RFC 826.
    wire.send(&fixtures::patched(claim, 22, &Veth::FAR_MAC));
    let warning = "02:00:00:00:00:02 claims 10.0.0.2, which is ours";
    until("the operator is told", || engine.stderr().contains(warning).then_some(()));
    engine.metrics_when("counted", |m| m.sum("address_conflicts_total", &[]) == 1 && m.drops("arp_conflict") == 1);
    let mut buffer = [0; 2048];
    until("it is defended", || {
        let frame = wire.receive(&mut buffer, Duration::from_millis(100))?;
        // An announcement (RFC 5227, section 2.4): the sender's and the target's address are ours.
        (frame[12..14] == [8, 6] && frame[28..32] == [10, 0, 0, 2] && frame[38..42] == [10, 0, 0, 2]).then_some(())
    });
    assert_echo(&lab);
}

#[test]
fn a_stopped_engine_leaves_its_frames_to_the_kernel_and_serves_again_when_it_goes_on() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        assert_echo(&lab);
        let stale = || engine.metrics().verdict("pass_stale");
        assert_eq!(stale(), 0);
        engine.signal("STOP");
        // The limit of a heartbeat's age is a second.
        thread::sleep(Duration::from_millis(1_500));
        let client = lab.client();
        (0..10).for_each(|_| assert_eq!(client.send(b"still there?").unwrap(), 12));
        lab.ping(Lab::KERNEL, 10);
        engine.signal("CONT");
        assert_eq!(stale(), 10);
        until("it serves again", || client_echo(&lab));
    }
}

/// The echo of one datagram, unless it is lost.
fn client_echo(lab: &Lab) -> Option<usize> {
    let client = lab.client();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.send(b"again").unwrap();
    client.recv(&mut [0; 16]).ok()
}

/// A file of its own, removed on drop.
struct ConfigFile(PathBuf);

impl ConfigFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bw-{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_file_can_say_everything_and_flags_win_over_it() {
    let lab = Lab::new(2);
    let file = ConfigFile::new(
        "everything",
        &format!(
            "interface = 'near0'\naddress = ['10.0.0.2/24', '10.0.0.4/24']\ngateway = '10.0.0.3'\nudp-port = 7\n\
             tcp-port = 7\nqueues = '1'\ncores = '0'\nmode = 'copy'\ndriver = 'xsk-rs'\nidle = 'poll'\n\
             metrics = '{METRICS}'\nring-size = 2048\nconnections = 1000\nbacklog = 100\n\
             tcp-buffer = '64K'\ntcp-memory = '2M'\ndiscard-port = 9\ndaytime-port = 13\n\
             chargen-port = 19\nudp-checksum = 'accept-partial'\nhuge-pages = true\n"
        ),
    );
    lab.send_on_queue(1, 2);
    let fields = |engine: &Engine<'_>| {
        ["queues", "cores", "mode", "driver", "addresses", "udp-port"].map(|name| engine.field(name).to_owned())
    };
    let engine = lab.start_command(Lab::command(&["echo", "--config", file.path()]));
    assert_eq!(fields(&engine), ["1", "0", "copy", "xsk-rs", "10.0.0.2/24,10.0.0.4/24", "7"]);
    assert_echo(&lab);
    // A chunk for each entry of the fill and the transmit ring, 2 MiB of them for TCP, 2,048 for fragments and for what waits
    // for neighbors, and some.
    assert!((7168..=8192).contains(&engine.metrics().sum("chunks", &[])), "{:?}", engine.metrics().that_are_not_zero());
    drop(engine);
    let flags = ["echo", "--config", file.path(), "--driver", "rings", "--udp-port", "10", "--queues", "all"];
    let flags = [&flags[..], &["--cores", "1,0", "--address", "10.0.0.2/24"]].concat();
    let engine = lab.start_command(Lab::command(&flags));
    assert_eq!(fields(&engine), ["0,1", "1,0", "copy", "rings", "10.0.0.2/24", "10"]);
}

/// Traffic of every kind, and how much of it there was.
fn mixed_traffic(lab: &Lab) {
    let client = lab.client();
    for _ in 0..100 {
        client.send(b"to be echoed").unwrap();
        client.recv(&mut [0; 16]).unwrap();
    }
    let stream = connect(lab, 7).unwrap();
    for _ in 0..100 {
        (&stream).write_all(b"to be echoed").unwrap();
        (&stream).read_exact(&mut [0; 12]).unwrap();
    }
    drop(stream);
    lab.ping(Lab::ENGINE, 10);
    lab.ping(Lab::KERNEL, 5);
    let closed = lab.client_of(Lab::ENGINE, 9);
    for _ in 0..3 {
        // What came back for the one before is told first, and then nothing is sent.
        while closed.send(b"to a closed port").is_err() {}
    }
    let wire = lab.veth.far_socket();
    let to_us = |frame: Vec<u8>| fixtures::patched(frame, 0, &[Veth::NEAR_MAC, Veth::FAR_MAC].concat());
    // The fixture's header checksum is zero, which is wrong.
    wire.send(&to_us(fixtures::ipv4(Lab::ENGINE, &[], &fixtures::udp(b"bad checksum"))));
    wire.send(&to_us(fixtures::ethernet(fixtures::ethertype::LLDP, &[0; 50])));
    wire.send(&to_us(fixtures::ethernet(fixtures::ethertype::IPV4, &[0x45, 0, 0])));
}

#[test]
fn every_frame_is_counted_once() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let engine = lab.start(&["--driver", driver, "--idle", "poll"]);
        mixed_traffic(&lab);
        let all = |m: &Metrics, name: &str| m.sum(name, &[]);
        let redirected = |m: &Metrics| {
            ["redirect_ipv4", "redirect_ipv6", "redirect_arp", "redirect_ndp"]
                .map(|name| m.verdict(name))
                .iter()
                .sum::<u64>()
        };
        let lost_in_kernel = |m: &Metrics| {
            ["xdp_rx_dropped_total", "xdp_rx_ring_full_total", "xdp_rx_fill_ring_empty_descs_total"]
                .map(|name| all(m, name))
                .iter()
                .sum::<u64>()
        };
        let metrics = engine.metrics_when("all redirected frames received and all answers sent", |m| {
            // The kernel's completions are taken a turn after the frames were sent.
            redirected(m) == all(m, "ring_received_total") + lost_in_kernel(m)
                && all(m, "ring_transmitted_total") == all(m, "ring_completed_total")
                && all(m, "udp_delivered_total") == 100
                && all(m, "tcp_finished_total") == 1
        });
        let m = &metrics;
        println!("{driver}: {:#?}", m.that_are_not_zero());
        assert_eq!(lost_in_kernel(m), 0);
        assert_eq!(all(m, "received_total"), all(m, "ring_received_total"));
        assert_eq!(all(m, "received_total"), all(m, "delivered_total") + all(m, "drops_total"));
        let sent = all(m, "ring_transmitted_total") + all(m, "gso_frames_total");
        assert_eq!(all(m, "originated_total"), sent + all(m, "waiting_frames") + all(m, "unsent_total"));
        assert_eq!(all(m, "udp_originated_total"), 100);
        assert!(all(m, "icmp_echoes_answered_total") >= 10);
        assert_eq!((m.drops("udp_port_closed"), m.drops("ipv4_checksum")), (3, 1));
        let errors = all(m, "icmp_errors_originated_total") + all(m, "icmp_errors_suppressed_total");
        assert_eq!(errors, 3);
        assert!(m.verdict("pass_not_owned") >= 5);
        assert_eq!((m.verdict("pass_other_protocol"), m.verdict("pass_malformed")), (1, 1));
    }
}

/// Types by family; fails where the text is not OpenMetrics 1.0.
fn families(page: &str) -> BTreeMap<&str, &str> {
    let (lines, end) = page.rsplit_once("# EOF\n").expect("an end");
    assert_eq!(end, "");
    let mut families = BTreeMap::new();
    let mut samples = std::collections::BTreeSet::new();
    let mut current = ("", "");
    for line in lines.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(families.insert(current.0, current.1), None, "{line}");
        } else if !line.starts_with("# HELP ") {
            let (name, _) = line.split_once(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
            let suffix = if current.1 == "counter" { "_total" } else { "" };
            assert_eq!(name.strip_prefix(current.0), Some(suffix), "{line} stands under {current:?}");
            assert!(samples.insert(line.rsplit_once(' ').unwrap().0), "{line} stands there twice");
        }
    }
    families
}

#[test]
fn the_metrics_page_is_open_metrics_and_names_every_counter() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--idle", "poll"]);
    let page = engine.page();
    let families = families(&page);
    assert_eq!(families.get("barewire_info"), Some(&"gauge"));
    for (name, kind) in families {
        assert!(page.contains(&format!("# HELP {name} ")) && ["counter", "gauge"].contains(&kind), "{name} {kind}");
    }
    let metrics = engine.metrics();
    for verdict in Verdict::ALL {
        let _ = metrics.verdict(verdict.name());
    }
    for queue in ["queue=\"0\"", "queue=\"1\""] {
        for name in ["core", "tcp_connections", "tcp_handshakes", "tcp_time_wait", "tcp_held_chunks"] {
            let _ = metrics.sum(name, &[queue]);
        }
        for (name, _, _) in tcp::Counters::default().each() {
            let _ = metrics.sum(&format!("tcp_{name}_total"), &[queue]);
        }
        for reason in DropReason::ALL {
            let _ = metrics.sum("drops_total", &[queue, &format!("reason=\"{}\"", reason.name())]);
        }
        for reason in UnsentReason::ALL {
            let _ = metrics.sum("unsent_total", &[queue, &format!("reason=\"{}\"", reason.name())]);
        }
        // struct xdp_statistics of <linux/if_xdp.h>.
        for name in ["rx_dropped", "rx_invalid_descs", "tx_invalid_descs", "rx_ring_full", "rx_fill_ring_empty_descs"] {
            let _ = metrics.sum(&format!("xdp_{name}_total"), &[queue]);
        }
        let _ = metrics.sum("xdp_tx_ring_empty_descs_total", &[queue]);
    }
}

#[test]
fn connections_are_counted_as_they_come_and_go() {
    let lab = Lab::new(1);
    let engine = lab.start(&["--daytime-port", "13"]);
    let streams: Vec<_> = (0..3).map(|_| connect(&lab, 7).unwrap()).collect();
    engine.metrics_when("three are there", |m| m.sum("tcp_connections", &[]) == 3);
    drop(streams);
    // Here the engine finishes first, so that it is the one that waits.
    connect(&lab, 13).unwrap().read_to_end(&mut Vec::new()).unwrap();
    let metrics = engine.metrics_when("all are gone", |m| m.sum("tcp_finished_total", &[]) == 4);
    let sum = |name: &str| metrics.sum(name, &[]);
    assert_eq!((sum("tcp_syns_received_total"), sum("tcp_opened_total")), (4, 4));
    assert_eq!((sum("tcp_connections"), sum("tcp_handshakes"), sum("tcp_time_wait")), (0, 0, 1));
    assert_eq!((sum("tcp_held_chunks"), sum("tcp_reset_total"), sum("tcp_retransmitted_total")), (0, 0, 0));
}
