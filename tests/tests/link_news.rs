//! What happens to the interface while the engine runs: carrier, MTU, MAC address, the kernel's addresses and routes.
//! Needs root.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use barewire_tests::client::Client;
use barewire_tests::lab::{Engine, Lab, Metrics, until};
use barewire_tests::netns::Veth;
use barewire_tests::peer::connect;

/// An address of the peer's that is on no link of the engine's.
const BEHIND: &str = "192.0.2.9";

/// Waits until the engine has said something on standard error.
fn says(engine: &Engine<'_>, words: &str) {
    until(words, || engine.stderr().contains(words).then_some(()));
}

fn sum(metrics: &Metrics, name: &str) -> u64 {
    metrics.sum(name, &[])
}

/// Whether a datagram from a socket comes back.
fn is_echoed(client: &Client) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // It fails with what came back for the one before, if that was refused.
    let _ = client.send(b"are you there?");
    client.recv(&mut [0; 64]).is_ok()
}

/// Waits until it does: on a busy machine one datagram may take longer.
fn wait_for_echo(client: &Client) {
    until("a datagram comes back", || is_echoed(client).then_some(()));
}

/// Waits until the probes and announcements of the start were sent.
fn started(engine: &Engine<'_>) -> Metrics {
    engine.metrics_when("the address is announced twice", |m| sum(m, "arp_requests_originated_total") == 5)
}

/// Waits for an announcement of the engine's address, and gives the MAC address in it.
fn announcement(lab: &Lab) -> [u8; 6] {
    let wire = lab.veth.far_socket();
    let mut buffer = [0; 2048];
    until("the address is announced", || {
        let frame = wire.receive(&mut buffer, Duration::from_millis(100))?;
        let is_arp = frame[12..14] == [8, 6];
        // RFC 5227, section 3: the sender's and the target's address are alike.
        (is_arp && frame[28..32] == [10, 0, 0, 2] && frame[38..42] == [10, 0, 0, 2])
            .then(|| frame[22..28].try_into().unwrap())
    })
}

#[test]
fn a_carrier_that_goes_is_told_and_one_that_comes_back_has_the_address_announced() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--idle", "poll"]);
    let metrics = started(&engine);
    assert_eq!((sum(&metrics, "carrier"), sum(&metrics, "carrier_changes_total")), (1, 0));
    lab.veth.far.ip(&["link", "set", Veth::FAR, "down"]);
    says(&engine, "near0 has lost its carrier");
    let metrics = engine.metrics();
    assert_eq!((sum(&metrics, "carrier"), sum(&metrics, "carrier_changes_total")), (0, 1));
    lab.veth.far.ip(&["link", "set", Veth::FAR, "up"]);
    assert_eq!(announcement(&lab), Veth::NEAR_MAC);
    says(&engine, "near0 has a carrier again");
    until("it answers again", || is_echoed(&lab.client()).then_some(()));
    let metrics = engine.metrics();
    assert_eq!((sum(&metrics, "carrier"), sum(&metrics, "carrier_changes_total")), (1, 2));
}

#[test]
fn an_interface_that_is_set_down_and_up_serves_again() {
    let lab = Lab::new(1);
    let engine = lab.start(&[]);
    lab.veth.near.ip(&["link", "set", Veth::NEAR, "down"]);
    says(&engine, "near0 was set down; until `ip link set near0 up`");
    lab.veth.near.ip(&["link", "set", Veth::NEAR, "up"]);
    until("it answers again", || is_echoed(&lab.client()).then_some(()));
}

#[test]
fn nothing_longer_than_a_smaller_mtu_is_sent() {
    let lab = Lab::new(1);
    let engine = lab.start(&["--chargen-port", "19"]);
    let stream = connect(&lab, 7).unwrap();
    let echo = |bytes: usize| {
        let sent: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        let mut received = vec![0; bytes];
        (&stream).write_all(&sent).unwrap();
        (&stream).read_exact(&mut received).unwrap();
        assert_eq!(sent, received);
    };
    echo(20_000);
    lab.veth.set_mtu(300);
    says(&engine, "the MTU of near0 is now 300, the engine's too");
    let in_fragments = |m: &Metrics| m.sum("datagrams_fragmented_total", &[]);
    // Answers have up to 512 characters; with their headers, 28 bytes, those of 272 fit into a packet.
    let client = lab.client_of(Lab::ENGINE, 19);
    // Longer than any stall: an answer that comes late would be counted by one side alone.
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let answers = (0..100).filter_map(|_| {
        client.send(b"?").unwrap();
        client.recv(&mut [0; 2048]).ok()
    });
    let longer = answers.filter(|&len| len > 272).count() as u64;
    assert!(longer > 0);
    engine.metrics_when("longer answers went out in fragments", |m| in_fragments(m) == longer);
    // A connection that is older than the change sends shorter segments.
    echo(20_000);
}

#[test]
fn an_mtu_that_no_chunk_takes_leaves_the_engine_at_the_one_before() {
    let lab = Lab::new(1);
    let engine = lab.start(&[]);
    // 2,048 bytes less the kernel's headroom, an Ethernet header with two tags and a check sequence.
    lab.veth.set_mtu(1767);
    says(&engine, "the MTU of near0 is now 1767, and a chunk of the engine takes 1766");
    wait_for_echo(&lab.client());
}

#[test]
fn another_mac_address_is_taken_over_and_announced() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--idle", "poll"]);
    wait_for_echo(&lab.client());
    let _ = started(&engine);
    lab.veth.near.ip(&["link", "set", Veth::NEAR, "address", "02:00:00:00:00:77"]);
    assert_eq!(announcement(&lab), [2, 0, 0, 0, 0, 0x77]);
    says(&engine, "the MAC address of near0 is now 02:00:00:00:00:77");
    until("it answers at the new one", || is_echoed(&lab.client()).then_some(()));
}

#[test]
fn an_interface_that_is_deleted_ends_the_engine() {
    let lab = Lab::new(2);
    let engine = lab.start(&["--idle", "poll"]);
    lab.veth.near.ip(&["link", "del", Veth::NEAR]);
    let end = engine.wait();
    assert_eq!(end.code, 1, "{}", end.stderr);
    let reason = end.stderr.lines().last().unwrap_or_default();
    assert!(reason.starts_with("barewire: interface near0 is gone: "), "{}", end.stderr);
}

#[test]
fn an_address_of_the_engines_that_the_kernel_gets_is_an_error_to_tell_and_no_end() {
    let lab = Lab::new(1);
    let engine = lab.start(&[]);
    lab.veth.near.ip(&["address", "add", "10.0.0.77/24", "dev", Veth::NEAR]);
    lab.veth.near.ip(&["address", "add", "10.0.0.2/24", "dev", Veth::NEAR]);
    says(&engine, "10.0.0.2 was added to the kernel's addresses");
    assert!(engine.stderr().contains("ERROR") && engine.stderr().contains("`ip address flush to 10.0.0.2`"));
    assert_eq!(sum(&engine.metrics(), "kernel_address_conflicts_total"), 1, "the other one is nobody's business");
    wait_for_echo(&lab.client());
    lab.veth.near.ip(&["address", "flush", "to", "10.0.0.2"]);
    says(&engine, "the kernel no longer has 10.0.0.2");
}

/// A lab with a client that no route of the engine's leads to.
fn with_a_client_behind() -> (Lab, Client) {
    let lab = Lab::new(2);
    lab.veth.far.ip(&["address", "add", &format!("{BEHIND}/32"), "dev", "lo"]);
    let client = lab.veth.far.enter(|| {
        let socket = Client::bind((BEHIND, 0)).unwrap();
        socket.connect((Lab::ENGINE, 7)).unwrap();
        socket
    });
    (lab, client)
}

#[test]
fn the_kernels_routes_are_followed_if_that_is_asked_for() {
    let (lab, client) = with_a_client_behind();
    let engine = lab.start(&["--idle", "poll", "--routes", "kernel"]);
    assert!(!is_echoed(&client));
    engine.metrics_when("the answer has no route", |m| m.sum("unsent_total", &["reason=\"no_route\""]) > 0);
    let route = ["192.0.2.0/24", "via", "10.0.0.3"];
    lab.veth.near.ip(&[&["route", "add"], &route[..]].concat());
    let added = Instant::now();
    until("it answers by the new route", || is_echoed(&client).then_some(()));
    assert!(added.elapsed() < Duration::from_secs(2), "{:?}", added.elapsed());
    lab.veth.near.ip(&[&["route", "del"], &route[..]].concat());
    until("it does not answer any more", || (!is_echoed(&client)).then_some(()));
    // The link has not changed.
    wait_for_echo(&lab.client());
}

#[test]
fn the_kernels_routes_are_there_from_the_start() {
    let (lab, client) = with_a_client_behind();
    lab.veth.near.ip(&["route", "add", "192.0.2.0/24", "via", "10.0.0.3"]);
    let _engine = lab.start(&["--routes", "kernel"]);
    wait_for_echo(&client);
}

#[test]
fn neighbors_of_the_kernel_are_adopted_where_its_routes_are_followed() {
    let (lab, client) = with_a_client_behind();
    // A router that answers no question: only the kernel is told where it is.
    let learn = |mac: &str| {
        lab.veth.near.ip(&["neighbor", "replace", "10.0.0.77", "lladdr", mac, "dev", Veth::NEAR]);
    };
    let wire = lab.veth.far_socket();
    let comes_to = |mac: [u8; 6]| {
        let mut buffer = [0; 2048];
        until("an answer goes to the router", || {
            client.send(b"are you there?").unwrap();
            let frame = wire.receive(&mut buffer, Duration::from_millis(100))?;
            (frame[..6] == mac && frame[12..14] == [8, 0]).then_some(())
        });
    };
    learn("02:00:00:00:00:77");
    lab.veth.near.ip(&["route", "add", "192.0.2.0/24", "via", "10.0.0.77"]);
    let _engine = lab.start(&["--routes", "kernel"]);
    comes_to([2, 0, 0, 0, 0, 0x77]);
    learn("02:00:00:00:00:78");
    comes_to([2, 0, 0, 0, 0, 0x78]);
}

#[test]
fn by_default_the_kernels_routes_do_not_matter() {
    let (lab, client) = with_a_client_behind();
    lab.veth.near.ip(&["route", "add", "192.0.2.0/24", "via", "10.0.0.3"]);
    let _engine = lab.start(&[]);
    assert!(!is_echoed(&client));
}

#[test]
fn a_route_that_is_asked_for_is_taken() {
    let (lab, client) = with_a_client_behind();
    let _engine = lab.start(&["--route", "192.0.2.0/24 via 10.0.0.3"]);
    wait_for_echo(&client);
}
