//! Floods and malice, of tools that others wrote (thc-ipv6, t50) and of three million random packets of ten protocols.
//! After each the engine answers in both families, has no more memory than before, and can account for every frame.
//! Needs root.
//!
//! `FLOOD=1000000` sends more of each protocol (`make soak-network`).

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use barewire::wire::ethernet::Mac;
use barewire_tests::differential::ends;
use barewire_tests::forgery::draw_kind;
use barewire_tests::lab::{Engine, Lab, Metrics, PATIENCE};
use barewire_tests::netns::Veth;
use barewire_tests::packets::{self, BATCH, Frame};
use barewire_tests::sim::Rng;
use barewire_tests::sim::frames::{self, Ip, Tcp};

/// What the engine may have in memory more after an attack than before: pages of tables that nothing had used until
/// then. All tables have their size from the start.
const GROWTH_KIB: u64 = 2 << 10;

/// An engine with neighbors and connections known, and what it has in memory.
struct Victim<'lab> {
    lab: &'lab Lab,
    engine: Engine<'lab>,
    resident_kib: u64,
}

impl<'lab> Victim<'lab> {
    fn new(lab: &'lab Lab) -> Self {
        let engine = lab.start(&["--address", Lab::ADDRESS_6, "--gateway", "10.0.0.3", "--gateway", "fd00::3"]);
        let mut victim = Self { lab, engine, resident_kib: 0 };
        victim.assert_answers();
        victim.resident_kib = victim.engine.resident_kib();
        victim
    }

    /// Fails unless both families answer pings, soon: what is still in the rings comes first, and a neighbor that was
    /// lied about has to be found again.
    fn assert_answers(&self) {
        for address in ["10.0.0.2", "fd00::2"] {
            let start = Instant::now();
            let answered = || {
                let ping = ["-n", "-q", "-c", "3", "-i", "0.01", "-W", "1", address];
                let status = self.lab.veth.far.enter(|| Command::new("ping").args(ping).stdout(Stdio::null()).status());
                status.expect("ping runs").success()
            };
            while !answered() {
                assert!(start.elapsed() < PATIENCE, "{address} does not answer any more");
            }
        }
    }

    /// Fails unless it answers, its memory has not grown, and its books are balanced.
    fn assert_unharmed(&self, by: &str) {
        self.assert_answers();
        let grown = self.engine.resident_kib().saturating_sub(self.resident_kib);
        assert!(grown <= GROWTH_KIB, "{grown} KiB more in memory after {by}");
        let metrics = self.engine.metrics_when("balanced", is_balanced);
        println!("after {by}: {} KiB more, {} frames received", grown, metrics.sum("received_total", &[]));
    }
}

/// `received = delivered + drops + held`, and `originated = transmitted + waiting + unsent`.
fn is_balanced(metrics: &Metrics) -> bool {
    let sum = |name: &str| metrics.sum(name, &[]);
    let received = sum("delivered_total") + sum("drops_total") + sum("held_fragments");
    let transmitted = sum("ring_transmitted_total") + sum("gso_frames_total");
    let originated = transmitted + sum("waiting_frames") + sum("unsent_total");
    (sum("received_total"), sum("originated_total")) == (received, originated)
}

/// Lets the peer run a tool for so long, whatever it says.
fn attack(lab: &Lab, seconds: f64, program: &str, arguments: &[&str]) {
    let seconds = seconds.to_string();
    let limit = [&["-s", "INT", "-k", "1", &seconds, program][..], arguments].concat();
    let mut command = Command::new("timeout");
    command.args(limit).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = lab.veth.far.enter(|| command.status()).expect("timeout runs");
    // 127: there is no such program. Else it says how the tool liked it.
    assert_ne!(status.code(), Some(127), "{program} is not installed");
}

#[test]
fn implementation_tests_of_thc_leave_it_unharmed() {
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    // Most of the time a test waits for an answer: so all at once. What each should be answered with is looked at in
    // differential.rs.
    thread::scope(|scope| {
        for number in 1..58 {
            let lab = &lab;
            scope.spawn(move || {
                attack(lab, 6.0, "atk6-implementation6", &["-p", Veth::FAR, "fd00::2", &number.to_string()]);
            });
        }
    });
    attack(&lab, 3.0, "atk6-exploit6", &[Veth::FAR, "fd00::2"]);
    victim.assert_unharmed("implementation6 and exploit6");
}

#[test]
fn fragments_of_thc_leave_it_unharmed() {
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    for number in 1..=35 {
        attack(&lab, 0.2, "atk6-fragmentation6", &["-f", "-p", "-n", "1", Veth::FAR, "fd00::2", &number.to_string()]);
    }
    victim.assert_unharmed("fragmentation6");
    let metrics = victim.engine.metrics();
    assert!(metrics.sum("datagrams_reassembled_total", &[]) > 0, "no datagram was put together");
}

#[test]
fn denials_and_floods_of_thc_leave_it_unharmed() {
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    for number in 1..=7 {
        attack(&lab, 0.5, "atk6-denial6", &[Veth::FAR, "fd00::2", &number.to_string()]);
    }
    victim.assert_unharmed("denial6");
    let to_all = ["advertise6", "router6", "router26", "rs6", "mld6", "mld26", "mldrouter6"];
    let to_engine = ["solicitate6", "redir6", "unreach6"];
    for flood in to_all {
        attack(&lab, 0.5, &format!("atk6-flood_{flood}"), &[Veth::FAR]);
    }
    for flood in to_engine {
        attack(&lab, 0.5, &format!("atk6-flood_{flood}"), &[Veth::FAR, "fd00::2"]);
    }
    attack(&lab, 0.5, "atk6-ndpexhaust26", &[Veth::FAR, "fd00::"]);
    attack(&lab, 0.5, "atk6-sendpees6", &[Veth::FAR, "512", "fd00::", "fd00::2"]);
    victim.assert_unharmed("floods");
}

#[test]
fn t50_leaves_it_unharmed() {
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    attack(&lab, 2.0, "t50", &["10.0.0.2", "--flood", "--turbo", "--protocol", "T50"]);
    victim.assert_unharmed("t50");
}

/// Kinds of packets, by protocol.
const PROTOCOLS: [(&str, &[&str]); 10] = [
    ("IPv4", &["v4 options", "v4 protocol"]),
    ("fragments", &["v4 fragments", "v6 fragments", "v6 atomic fragment"]),
    ("ICMP", &["v4 echo", "v4 icmp", "v4 icmp error"]),
    ("IGMP", &["v4 igmp"]),
    ("UDP", &["v4 udp", "v4 udp closed", "v6 udp", "v6 udp closed"]),
    ("TCP", &["v4 tcp syn", "v4 tcp closed", "v4 tcp stray", "v6 tcp syn", "v6 tcp closed", "v6 tcp stray"]),
    ("ARP", &["arp request"]),
    ("IPv6", &["v6 hop-by-hop", "v6 destination options", "v6 routing", "v6 no next header", "v6 protocol"]),
    ("ICMPv6", &["v6 echo", "v6 icmp", "v6 icmp error"]),
    ("NDP", &["v6 solicitation", "v6 group solicitation", "v6 advertisement", "v6 router", "v6 redirect"]),
];

/// Packets drawn and changed before they are sent, each many times, mostly with yet another byte changed.
const DRAWN: usize = 4_096;

/// Sends so many random packets of these kinds.
fn flood(lab: &Lab, seed: u64, kinds: &[&'static str], count: usize) {
    let mut rng = Rng::new(seed);
    let socket = lab.veth.far_socket_to_send();
    let mut drawn: Vec<Vec<u8>> = Vec::new();
    while drawn.len() < DRAWN {
        let kind = rng.pick(kinds);
        let mut packet = draw_kind(&mut rng, &ends(drawn.len() as u32 % 10_000), kind);
        packet.mutate(&mut rng);
        drawn.extend(packet.frames.into_iter().map(|frame| frame.bytes).filter(|bytes| bytes.len() <= 1514));
    }
    let mut batch = vec![Frame::default(); BATCH];
    let start = Instant::now();
    let mut sent = 0;
    while sent < count {
        for frame in &mut batch {
            frame.set(&drawn[rng.below(DRAWN as u64) as usize]);
            let bytes = frame.bytes_mut();
            if rng.chance(700) && bytes.len() > 14 {
                let at = rng.between(14, bytes.len() as u64 - 1) as usize;
                bytes[at] = rng.bits() as u8;
            }
        }
        match packets::send(&socket, batch.iter()) {
            // The kernel refuses what is shorter than an Ethernet header, or has no room for a moment.
            0 => thread::sleep(Duration::from_micros(100)),
            frames => sent += frames,
        }
        assert!(start.elapsed() < 6 * PATIENCE, "only {sent} of {count} were sent");
    }
}

/// A connection request as anybody could make it up.
fn request(source: Ipv4Addr, port: u16) -> Vec<u8> {
    const SYN: u8 = 0x02;
    let segment = Tcp { seq: 1, flags: SYN, window: 0xffff, ..Tcp::default() };
    let segment = frames::tcp((source, port), (Lab::ENGINE, 7), &segment);
    frames::frame(Mac(Veth::NEAR_MAC), Mac(Veth::FAR_MAC), Ip::new(frames::TCP, source, Lab::ENGINE), &segment)
}

#[test]
fn in_a_flood_of_requests_the_guard_goes_up_and_who_comes_again_is_let_in() {
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    let socket = lab.veth.far_socket_to_send();
    let mut batch = vec![Frame::default(); BATCH];
    let (start, mut sent) = (Instant::now(), 0);
    // The backlog takes 4,096, and 20,000 a second are answered besides.
    while victim.engine.metrics().verdict("drop_syn") < 10_000 {
        for _ in 0..200 {
            for frame in &mut batch {
                frame.set(&request(Ipv4Addr::from_bits(0x0b00_0000 | sent), 1024 + (sent % 50_000) as u16));
                sent += 1;
            }
            packets::send(&socket, batch.iter());
        }
        assert!(start.elapsed() < 2 * PATIENCE, "no guard after {sent} requests: {:?}", victim.engine.metrics());
    }
    let connect = || TcpStream::connect_timeout(&(Lab::ENGINE, 7).into(), PATIENCE);
    assert!(lab.veth.far.enter(connect).is_ok(), "a host that means it comes again after a second");
    victim.assert_answers();
    victim.engine.metrics_when("balanced", is_balanced);
}

#[test]
fn three_million_random_packets_of_ten_protocols_leave_it_unharmed() {
    let count = std::env::var("FLOOD").ok().map_or(300_000, |text| text.parse().expect("FLOOD is a number"));
    let lab = Lab::of_both_families();
    let victim = Victim::new(&lab);
    for (seed, (protocol, kinds)) in PROTOCOLS.iter().enumerate() {
        let start = Instant::now();
        flood(&lab, seed as u64, kinds, count);
        println!("{protocol}: {count} in {:?}", start.elapsed());
        victim.assert_unharmed(protocol);
    }
    let metrics = victim.engine.metrics();
    // Or it would only have been the kernel that was flooded.
    let taken = metrics.sum("received_total", &[]) + metrics.sum("xdp_rx_dropped_total", &[]);
    assert!(taken > 5 * count as u64, "{taken} of {} reached the engine", 10 * count);
}
