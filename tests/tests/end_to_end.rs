//! The `barewire` command between two kernels on a veth pair: what it does with packets. Needs root.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use barewire_tests::client::Client;
use barewire_tests::lab::{Engine, Lab, PATIENCE, Random};
use barewire_tests::netns::{Namespace, Veth, run};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Both drivers, as `--driver` names them.
const DRIVERS: [&str; 2] = ["rings", "xsk-rs"];

/// Sends `count` datagrams of all lengths up to 1,472 with random content, some at a time, and checks that each
/// comes back byte for byte. The order may change: what the peer's kernel kept while it asked for our MAC address
/// can be overtaken.
fn exchange(client: &Client, count: usize) {
    const WINDOW: usize = 16;
    let mut random = Random::new(count as u64);
    let mut buffer = vec![0; 2048];
    let datagrams: Vec<Vec<u8>> = (0..count).map(|number| random.bytes(number % 1473)).collect();
    for window in datagrams.chunks(WINDOW) {
        for datagram in window {
            assert_eq!(client.send(datagram).unwrap(), datagram.len());
        }
        let mut missing: Vec<&[u8]> = window.iter().map(Vec::as_slice).collect();
        while !missing.is_empty() {
            let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{} missing: {error}", missing.len()));
            let at = missing.iter().position(|sent| *sent == &buffer[..len]);
            missing.swap_remove(at.unwrap_or_else(|| panic!("{len} bytes that were not sent, or come back twice")));
        }
    }
}

/// Has the peer's kernel compute checksums before it sends, as a NIC of flesh and blood would have it, or leave
/// that to nobody, as it does between virtual interfaces.
fn offload_checksums(lab: &Lab, offload: bool) {
    let state = if offload { "on" } else { "off" };
    lab.far("ethtool", &["-K", Veth::FAR, "tx", state, "rx", state]);
}

#[test]
fn ten_thousand_datagrams_of_every_size_come_back_byte_for_byte() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        for offload in [true, false] {
            offload_checksums(&lab, offload);
            exchange(&lab.client(), 5_000);
        }
        let metrics = engine.metrics_when("10,000 delivered", |m| m.sum("udp_delivered_total", &[]) == 10_000);
        assert_eq!(metrics.sum("udp_originated_total", &[]), 10_000);
        assert_eq!(metrics.drops("udp_checksum"), 0);
    }
}

/// Fails unless an independent parser finds the frame a UDP datagram with right checksums.
fn assert_checksums(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4: {frame:02x?}") };
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("not UDP: {frame:02x?}") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "{frame:02x?}");
    let expected = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
    assert_eq!(udp.checksum(), expected, "{frame:02x?}");
    assert_ne!(udp.checksum(), 0, "a checksum was asked for");
}

#[test]
fn replies_have_right_checksums_whatever_the_request_had() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let _engine = lab.start(&["--driver", driver]);
        let wire = lab.veth.far_socket();
        let mut buffer = vec![0; 2048];
        for offload in [true, false] {
            offload_checksums(&lab, offload);
            exchange(&lab.client(), 1_473);
            let mut replies = 0;
            while replies < 1_473 {
                let frame = wire.receive(&mut buffer, PATIENCE).unwrap_or_else(|| panic!("only {replies} replies"));
                if frame[12..14] == [8, 0] {
                    assert_checksums(frame);
                    replies += 1;
                }
            }
        }
    }
}

#[test]
fn checksums_left_to_the_hardware_are_refused_only_where_the_operator_wants_them_verified() {
    let lab = Lab::new(1);
    let engine = lab.start(&["--udp-checksum", "verify"]);
    offload_checksums(&lab, true);
    lab.client().send(b"left to the hardware").unwrap();
    engine.metrics_when("dropped for its checksum", |m| m.drops("udp_checksum") == 1);
    offload_checksums(&lab, false);
    exchange(&lab.client(), 100);
    assert_eq!(engine.metrics().drops("udp_checksum"), 1);
}

#[test]
fn netcat_gets_its_line_back() {
    let lab = Lab::new(1);
    let _engine = lab.start(&[]);
    let said = lab.far("sh", &["-c", "echo hello, engine | nc -u -w 1 10.0.0.2 7"]);
    assert_eq!(said, "hello, engine\n");
}

/// Sends 4 MiB through a TCP connection between the two kernels and expects them back.
fn exchange_by_tcp(lab: &Lab) {
    const BYTES: usize = 4 << 20;
    let listener = lab.veth.near.enter(|| TcpListener::bind((Lab::KERNEL, 5000))).unwrap();
    let client = lab.veth.far.enter(|| TcpStream::connect((Lab::KERNEL, 5000))).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = Random::new(1).bytes(BYTES);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (server, _) = listener.accept().unwrap();
            io::copy(&mut &server, &mut &server).unwrap();
        });
        scope.spawn(|| {
            (&client).write_all(&sent).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&client).read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back as {} others", sent.len(), received.len());
    });
}

#[test]
fn engine_and_kernel_answer_a_thousand_pings_each_while_tcp_and_echo_run() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        thread::scope(|scope| {
            scope.spawn(|| lab.ping(Lab::ENGINE, 1_000));
            scope.spawn(|| lab.ping(Lab::KERNEL, 1_000));
            scope.spawn(|| exchange_by_tcp(&lab));
            scope.spawn(|| exchange(&lab.client(), 5_000));
        });
        engine.metrics_when("1,000 pings answered", |m| m.sum("icmp_echoes_answered_total", &[]) >= 1_000);
    }
}

#[test]
fn a_closed_port_is_refused() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let engine = lab.start(&["--driver", driver]);
        let client = lab.client_of(Lab::ENGINE, 9);
        client.send(b"anybody?").unwrap();
        let error = client.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{driver}: {error}");
        let error = lab.veth.far.enter(|| TcpStream::connect((Lab::ENGINE, 9))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{driver}: {error}");
        engine.metrics_when("both counted", |m| m.drops("udp_port_closed") == 1 && m.drops("tcp_port_closed") == 1);
    }
}

#[test]
fn every_queue_is_served() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        let engine = lab.start(&["--driver", driver, "--queues", "all", "--idle", "poll"]);
        // The kernel chooses the queue by a hash of ports and addresses.
        (0..64).for_each(|_| exchange(&lab.client(), 4));
        let by_queue =
            |m: &barewire_tests::lab::Metrics, name| ["queue=\"0\"", "queue=\"1\""].map(|queue| m.sum(name, &[queue]));
        let all = |m: &_| by_queue(m, "udp_delivered_total").iter().sum::<u64>() == 256;
        let metrics = engine.metrics_when("256 delivered", all);
        let delivered = by_queue(&metrics, "udp_delivered_total");
        println!("{driver}: datagrams by queue: {delivered:?}");
        assert!(delivered.iter().all(|&datagrams| datagrams > 0), "{driver}: {delivered:?}");
    }
}

#[test]
fn an_engine_whose_frames_all_come_in_on_its_last_queue_serves_them() {
    for driver in DRIVERS {
        let lab = Lab::new(2);
        lab.send_on_queue(1, 2);
        let engine = lab.start(&["--driver", driver, "--idle", "poll"]);
        lab.ping(Lab::ENGINE, 10);
        exchange(&lab.client(), 100);
        let metrics = engine.metrics_when("100 delivered", |m| m.sum("udp_delivered_total", &[]) == 100);
        assert_eq!(metrics.sum("received_total", &["queue=\"0\""]), 0, "{:#?}", metrics.that_are_not_zero());
    }
}

#[test]
fn one_queue_of_two_can_be_served_and_the_other_ones_frames_are_the_kernels() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--queues", "1"]);
    lab.send_on_queue(1, 2);
    exchange(&lab.client(), 100);
    lab.send_on_queue(0, 2);
    lab.client().send(b"to a queue that nobody serves").unwrap();
    engine.metrics_when("passed for want of a socket", |m| m.verdict("pass_no_socket") == 1);
}

#[test]
fn clients_behind_a_router_are_answered_through_the_gateway() {
    for driver in DRIVERS {
        // client 10.1.0.2 -- 10.1.0.1 far 10.0.0.3 -- 10.0.0.2 engine
        let lab = Lab::new(1);
        let client = Namespace::new("client");
        let router = &lab.veth.far;
        router.ip(&["link", "add", "far1", "type", "veth", "peer", "name", "client0", "netns", client.name()]);
        router.ip(&["address", "add", "10.1.0.1/24", "dev", "far1"]);
        router.ip(&["link", "set", "far1", "up"]);
        router.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap();
        client.ip(&["address", "add", "10.1.0.2/24", "dev", "client0"]);
        client.ip(&["link", "set", "client0", "up"]);
        client.ip(&["route", "add", "default", "via", "10.1.0.1"]);

        let gateway = Lab::PEER.to_string();
        let engine = lab.start(&["--driver", driver, "--gateway", &gateway]);
        let socket = client.enter(|| Client::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        client.enter(|| socket.connect((Lab::ENGINE, 7))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&socket, 100);
        client.enter(|| run("ping", &["-q", "-c", "5", "-i", "0.01", &Lab::ENGINE.to_string()]));
        assert_eq!(engine.metrics().sum("unsent_total", &[]), 0);
    }
}

#[test]
fn every_idle_mode_echoes() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        for idle in ["spin", "adaptive", "poll"] {
            let _engine = lab.start(&["--driver", driver, "--idle", idle]);
            exchange(&lab.client(), 500);
        }
    }
}

#[test]
fn several_addresses_and_another_port_are_served() {
    let lab = Lab::new(1);
    let engine = lab.start(&["--address", "10.0.0.4/24", "--udp-port", "4007"]);
    assert_eq!(engine.field("addresses"), "10.0.0.2/24,10.0.0.4/24");
    for address in [Lab::ENGINE, Ipv4Addr::new(10, 0, 0, 4)] {
        exchange(&lab.client_of(address, 4007), 10);
        lab.ping(address, 3);
    }
}

/// Echo by an engine on an interface other than that of the lab.
fn serves_on(lab: &Lab, interface: &str, options: &[&str]) -> (String, String) {
    let always = ["echo", "--interface", interface, "--address", Lab::ADDRESS];
    let engine: Engine<'_> = lab.start_command(Lab::command(&[&always, options].concat()));
    exchange(&lab.client(), 200);
    lab.ping(Lab::ENGINE, 10);
    (engine.field("mode").to_owned(), engine.stderr())
}

#[test]
fn generic_mode_serves_when_asked_for() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        let (mode, log) = serves_on(&lab, Veth::NEAR, &["--driver", driver, "--mode", "generic"]);
        assert_eq!(mode, "generic");
        assert!(!log.contains("falling back"), "{log}");
    }
}

#[test]
fn auto_falls_back_to_generic_where_a_driver_has_no_xdp_and_says_so() {
    for driver in DRIVERS {
        let lab = Lab::new(1);
        lab.veth.near.ip(&["link", "add", "mac0", "link", Veth::NEAR, "type", "macvlan", "mode", "bridge"]);
        lab.veth.near.ip(&["link", "set", "mac0", "up"]);
        let (mode, log) = serves_on(&lab, "mac0", &["--driver", driver]);
        assert_eq!(mode, "generic");
        assert!(log.contains("mac0 does not do native XDP") && log.contains("falling back to generic"), "{log}");
    }
}

#[test]
fn copy_mode_is_granted_when_asked_for_by_name() {
    let lab = Lab::new(1);
    let (mode, _) = serves_on(&lab, Veth::NEAR, &["--mode", "copy"]);
    assert_eq!(mode, "copy");
}

#[test]
fn help_has_examples_and_is_no_failure() {
    for arguments in [&["--help"][..], &["echo", "--help"], &["--version"]] {
        let output = Command::new(barewire_tests::lab::barewire()).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(arguments == ["echo", "--help"], text.contains("barewire echo --interface eth1"), "{text}");
    }
}
