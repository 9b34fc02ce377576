//! The engine on a VLAN: behind a switch, `barewire echo --vlan` and a peer's kernel understand each other with the
//! right tags, and not at all without. Needs root.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use barewire::nic::TagStripping;
use barewire_tests::client::Client;
use barewire_tests::fixtures::ethertype::{SERVICE_VLAN, VLAN};
use barewire_tests::lab::{Lab, Random};
use barewire_tests::netns::{Veth, run};
use barewire_tests::peer;

/// A VLAN of the engine's.
struct Case {
    /// The tags of its frames at the engine's port.
    tags: &'static [(u16, u16)],
    /// What `--vlan` takes.
    vlan: &'static str,
    /// The longest packet of the peer's.
    mtu: usize,
}

const CASES: [Case; 3] = [
    Case { tags: &[(VLAN, 5)], vlan: "5", mtu: 1_500 },
    // Linux takes one tag beyond an MTU of 1,500, if it is of 802.1Q.
    Case { tags: &[(SERVICE_VLAN, 5), (VLAN, 7)], vlan: "5.7", mtu: 1_492 },
    Case { tags: &[(VLAN, 5), (VLAN, 7)], vlan: "8100:5.7", mtu: 1_492 },
];

/// Bytes through the TCP connection.
const STREAM: usize = 1 << 20;

/// Sends datagrams of many lengths, the longest included, and expects each back.
fn exchange(client: &Client, mtu: usize) {
    let mut random = Random::new(1);
    let mut buffer = [0; 2048];
    for len in (0..mtu - 28).step_by(61).chain([mtu - 28]) {
        let datagram = random.bytes(len);
        client.send(&datagram).unwrap();
        let len = client.recv(&mut buffer).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        assert!(buffer[..len] == datagram, "{len} other bytes came back");
    }
}

/// Streams through the engine's echo, and expects every byte back and then the end.
fn stream(client: &TcpStream) {
    let sent = Random::new(2).bytes(STREAM);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&*client).write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        (&*client).read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} bytes came back as {} others", sent.len(), received.len());
    });
}

#[test]
fn udp_tcp_and_pings_come_back_through_the_vlan() {
    for driver in ["rings", "xsk-rs"] {
        for Case { tags, vlan, mtu } in CASES {
            let (lab, _switch) = Lab::switched(tags);
            lab.veth.far.ip(&["link", "set", Veth::FAR, "mtu", &mtu.to_string()]);
            let engine = lab.start(&["--driver", driver, "--vlan", vlan]);
            assert_eq!(engine.field("vlan"), vlan);
            exchange(&lab.client(), mtu);
            stream(&peer::connect(&lab, 7).unwrap());
            lab.ping(Lab::ENGINE, 10);
            let metrics = engine.metrics();
            assert_eq!(metrics.verdict("pass_other_vlan"), 0, "{:#?}", metrics.that_are_not_zero());
            assert_eq!(metrics.drops("other_vlan"), 0);
        }
    }
}

#[test]
fn the_engine_opens_connections_on_its_vlan() {
    for Case { tags, vlan, .. } in CASES {
        let (lab, _switch) = Lab::switched(tags);
        let listener = lab.veth.far.enter(|| std::net::TcpListener::bind((Lab::PEER, 5000))).unwrap();
        let mut command = peer::connect_command(&lab, 5000);
        command.args(["--vlan", vlan]);
        let engine = lab.spawn(command);
        // It has nothing to say: its standard input is empty.
        let mut said = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut said).unwrap();
        assert!(said.is_empty());
        assert_eq!(engine.wait().code, 0);
    }
}

/// Fails if the engine's echo or its ARP answers.
fn assert_silent(lab: &Lab) {
    let client = lab.client();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    client.send(b"anybody?").unwrap();
    let error = client.recv(&mut [0; 16]).unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::HostUnreachable), "{error}");
    let neighbors = lab.veth.far.ip(&["neighbor", "show", "to", &Lab::ENGINE.to_string()]);
    assert!(!neighbors.contains("lladdr"), "{neighbors}");
}

#[test]
fn without_the_tag_or_with_another_nothing_answers() {
    for (tags, vlan) in [
        (&[][..], "5"),
        (&[(VLAN, 6)], "5"),
        (&[(SERVICE_VLAN, 5), (VLAN, 7)], "5"),
        (&[(VLAN, 5)], "5.7"),
        (&[(SERVICE_VLAN, 5), (VLAN, 8)], "5.7"),
        (&[(VLAN, 5), (VLAN, 7)], "5.7"),
        (&[(SERVICE_VLAN, 5)], "5"),
    ] {
        let (lab, _switch) = Lab::switched(tags);
        let engine = lab.start(&["--vlan", vlan]);
        assert_silent(&lab);
        let metrics = engine.metrics_when("seen with other tags", |m| m.verdict("pass_other_vlan") > 0);
        assert_eq!(metrics.sum("received_total", &[]), 0, "{:#?}", metrics.that_are_not_zero());
    }
    let (lab, _switch) = Lab::switched(&[(VLAN, 5)]);
    let _engine = lab.start(&[]);
    assert_silent(&lab);
}

#[test]
fn the_kernel_keeps_what_is_not_tagged() {
    let (lab, _switch) = Lab::switched(&[]);
    let _engine = lab.start(&["--vlan", "5"]);
    lab.ping(Lab::KERNEL, 10);
}

#[test]
fn an_impossible_vlan_is_refused_with_what_would_be_possible() {
    let lab = Lab::new(1);
    for (vlan, hint) in [
        ("0", "leave the option out"),
        ("4095", "give 1 to 4094"),
        ("red", "for example 5, or 5.7"),
        ("9100:5", "give 8100 or 88a8"),
    ] {
        let refusal = lab.refused(&["--vlan", vlan]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        assert!(refusal.stderr.contains("--vlan") && refusal.stderr.contains(hint), "{}", refusal.stderr);
    }
}

#[test]
fn an_interface_tells_whether_it_takes_tags_out() {
    let lab = Lab::new(1);
    let near = &lab.veth.near;
    near.ip(&["tuntap", "add", "tap0", "mode", "tap"]);
    let of = |interface| near.enter(|| TagStripping::of(interface));
    assert_eq!(of("tap0"), TagStripping::Off);
    for (state, expected) in [("on", TagStripping::On), ("off", TagStripping::Off), ("on", TagStripping::On)] {
        near.enter(|| run("ethtool", &["-K", Veth::NEAR, "rxvlan", state]));
        assert_eq!(of(Veth::NEAR), expected);
    }
}
