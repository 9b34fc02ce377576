//! The engine on a link with an MTU of 9,000, whose frames lie in several chunks each, with Linux at the other end.
//! Needs root.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use barewire_tests::client::Client;
use barewire_tests::lab::{Lab, Metrics, PATIENCE};
use barewire_tests::netns::{PacketSocket, Veth};
use barewire_tests::tcp;

/// Bytes of a stream, each way.
const BYTES: u64 = 64 << 20;
const ENDS: [(IpAddr, IpAddr); 2] =
    [(IpAddr::V4(Lab::ENGINE), IpAddr::V4(Lab::PEER)), (IpAddr::V6(Lab::ENGINE_6), IpAddr::V6(Lab::PEER_6))];

fn lab() -> Lab {
    let lab = Lab::of_both_families();
    lab.veth.set_mtu(9000);
    lab
}

#[test]
fn long_datagrams_and_pings_come_back_in_one_packet_each() {
    let lab = lab();
    let engine = lab.start(&["--address", Lab::ADDRESS_6]);
    assert_eq!((engine.field("mode"), engine.field("frames")), ("copy", "multi-buffer"));
    let path = |metrics: &Metrics| {
        let sum = |name| metrics.sum(name, &[]);
        (sum("datagrams_fragmented_total"), sum("datagrams_reassembled_total"))
    };
    for (ours, theirs) in ENDS {
        lab.far("ping", &["-c", "20", "-i", "0.01", "-s", "8900", "-w", "10", &ours.to_string()]);
        let socket = lab.veth.far.enter(|| Client::bind((theirs, 0))).unwrap();
        socket.connect((ours, 7)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = vec![0; 65_536];
        // Up to the longest, and around the places where a chunk ends.
        let longest = if ours.is_ipv4() { 8972 } else { 8952 };
        for len in [1, 1472, 3778, 3798, 3799, 7618, 7638, 7639, 8900, longest] {
            let sent: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
            socket.send(&sent).unwrap();
            let count = socket.recv(&mut received).unwrap_or_else(|error| panic!("{len} bytes from {ours}: {error}"));
            assert!(received[..count] == sent, "{len} bytes from {ours}");
        }
    }
    let metrics = engine.metrics_when("all are counted", |metrics| metrics.sum("udp_delivered_total", &[]) >= 20);
    assert_eq!(path(&metrics), (0, 0), "none was cut, here or there");
    // Longer ones come in fragments, and these in several chunks each.
    for (turn, (ours, theirs)) in ENDS.into_iter().enumerate() {
        let socket = lab.veth.far.enter(|| Client::bind((theirs, 0))).unwrap();
        socket.connect((ours, 7)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent: Vec<u8> = (0..30_000_u32).map(|n| (n * 7 + n / 251) as u8).collect();
        socket.send(&sent).unwrap();
        let mut received = vec![0; 65_536];
        let count = socket.recv(&mut received).unwrap_or_else(|error| panic!("30,000 bytes from {ours}: {error}"));
        assert!(received[..count] == sent, "30,000 bytes from {ours}");
        let count = turn as u64 + 1;
        engine.metrics_when("it is counted", |metrics| path(metrics) == (count, count));
    }
}

#[test]
fn what_we_ask_goes_in_one_packet_as_far_as_the_link_takes_it() {
    let lab = lab();
    for (ours, theirs, longest) in
        [(Lab::ADDRESS, Lab::PEER.to_string(), 8972), (Lab::ADDRESS_6, Lab::PEER_6.to_string(), 8952)]
    {
        for (size, received) in [(longest, 3), (longest + 1, 0)] {
            let command = ["ping", &theirs, "--interface", Veth::NEAR, "--address", ours, "-c", "3", "-i", "0.02"];
            let size = size.to_string();
            let command = Lab::command(&[&command[..], &["--dont-fragment", "-s", &size]].concat());
            let pinged = lab.refused_command(command);
            let said = pinged.stdout.join("\n");
            assert!(said.contains(&format!("{received} received")), "{size}: {said}\n{}", pinged.stderr);
        }
    }
}

/// The MSS option of a frame with a SYN of the engine's, from the IP header's start to TCP's known by its family.
fn announced_mss(frame: &[u8]) -> Option<u16> {
    let tcp = match frame.get(12..14)? {
        [8, 0] if frame.get(23) == Some(&6) => frame.get(34..)?,
        [0x86, 0xdd] if frame.get(20) == Some(&6) => frame.get(54..)?,
        _ => return None,
    };
    let is_syn_ack = tcp.get(13)? & 0x12 == 0x12;
    match tcp.get(20..24)? {
        [2, 4, high, low] if is_syn_ack => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// What was seen at the peer's end: the MSS that the engine announced, and its longest frame.
fn watch(socket: &PacketSocket, done: &AtomicBool) -> (Option<u16>, usize) {
    let (mut buffer, mut mss, mut longest) = (vec![0; 65_536], None, 0);
    while !done.load(Ordering::Relaxed) {
        let Some(frame) = socket.receive(&mut buffer, Duration::from_millis(50)) else { continue };
        if frame[6..12] == Veth::NEAR_MAC {
            (mss, longest) = (mss.or(announced_mss(frame)), longest.max(frame.len()));
        }
    }
    (mss, longest)
}

#[test]
fn streams_go_both_ways_in_segments_as_long_as_the_link_takes() {
    let _alone = tcp::alone();
    let lab = lab();
    let engine = lab.start(&["--address", Lab::ADDRESS_6]);
    for (ours, _) in ENDS {
        let (socket, done) = (lab.veth.far_socket(), AtomicBool::new(false));
        let (mss, longest) = thread::scope(|scope| {
            let seen = scope.spawn(|| watch(&socket, &done));
            let target = SocketAddr::new(ours, 7);
            let stream = lab.veth.far.enter(|| TcpStream::connect_timeout(&target, PATIENCE)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            let took = tcp::exchange(&stream, 1, BYTES);
            println!("{ours}: {}", tcp::megabits(BYTES, took));
            done.store(true, Ordering::Relaxed);
            seen.join().unwrap()
        });
        let headers = if ours.is_ipv4() { 40 } else { 60 };
        assert_eq!((mss, longest), (Some(9000 - headers), 9014), "{ours}");
    }
    let finished = |metrics: &Metrics| metrics.sum("tcp_finished_total", &[]) == 2;
    let metrics = engine.metrics_when("both are counted", finished);
    for name in ["tcp_sent_total", "received_total"] {
        let bytes = 2 * BYTES / metrics.sum(name, &[]);
        println!("{name}: {bytes} bytes each");
        assert!(bytes > 7000, "{name}: {bytes} bytes each");
    }
    assert_eq!(metrics.sum("ring_unsendable_total", &[]), 0);
    assert_eq!(metrics.sum("ring_invalid_descriptors_total", &[]), 0);
}

#[test]
fn generic_mode_takes_long_frames_as_well() {
    let lab = lab();
    let engine = lab.start(&["--mode", "generic"]);
    assert_eq!((engine.field("mode"), engine.field("frames")), ("generic", "multi-buffer"));
    lab.far("ping", &["-c", "5", "-i", "0.01", "-s", "8900", "-w", "10", &Lab::ENGINE.to_string()]);
    let client = lab.client();
    let sent = vec![0x5a; 8900];
    client.send(&sent).unwrap();
    let mut received = vec![0; 16_384];
    assert_eq!(client.recv(&mut received).unwrap(), sent.len());
    let stream = barewire_tests::peer::connect(&lab, 7).unwrap();
    tcp::exchange(&stream, 3, 4 << 20);
}
