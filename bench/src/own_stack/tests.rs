//! The clients against servers of the engine, over a wire in memory: no kernel, no interface, no permission.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use barewire::app::{Answer, App, Connection, Datagram};
use barewire::apps::chargen::Chargen;
use barewire::apps::discard::Discard;
use barewire::apps::echo::Echo;
use barewire::base::{ChunkSize, Instant, Umem, UmemConfig};
use barewire::clock;
use barewire::device::Memory;
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::network::reassembly::ReassemblyConfig;
use barewire::stack::{Marking, Stack, StackConfig};
use barewire::transport::tcp::TcpConfig;
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::ethernet::Mac;
use barewire::worker::Worker;

use super::*;
use crate::arrivals::Arrivals;
use crate::netns::Family;
use crate::tcp::trial::OpenLoop;
use crate::udp::sizes;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const PORT: u16 = 7;
const CHUNKS: u32 = 16_384;
/// Long enough for something to happen on a machine that is busy with other tests.
const DURATION: Duration = Duration::from_millis(250);

fn mac(host: [u8; 4]) -> Mac {
    Mac([2, 0, 0, 0, 0, host[3]])
}

fn worker<A: App>(host: [u8; 4], peer: [u8; 4], ports: &[u16], app: A) -> Worker<Memory, A> {
    let tcp = TcpConfig { ports: ports.to_vec(), chunks: CHUNKS / 2, ..TcpConfig::default() };
    let config = StackConfig {
        mac: mac(host),
        mtu: 1500,
        vlan: None,
        addresses: vec![format!("{}/24", IpAddr::from(host)).parse().unwrap()],
        gateways: Vec::new(),
        routes: Vec::new(),
        probing: Probing::Off,
        groups: Vec::new(),
        broadcasts: false,
        autoconf: None,
        udp_ports: vec![PORT, udp::SOURCE_PORT],
        checksum: ChecksumPolicy::Verify,
        tcp: Some(tcp),
        own_queue: None,
        neighbors: NeighborConfig { fixed: vec![(IpAddr::from(peer).into(), mac(peer))], ..NeighborConfig::default() },
        reassembly: ReassemblyConfig::default(),
        marking: Marking::default(),
        secret: [u64::from(host[3]), 2],
    };
    let umem = Umem::new(UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false });
    Worker::new(Memory::default(), umem.expect("packet memory"), Stack::new(&config, app, clock::now()))
}

fn target() -> SocketAddr {
    (SERVER, PORT).into()
}

fn sources() -> Vec<IpAddr> {
    vec![CLIENT.into()]
}

/// Runs a client against a server on port 7 until it tells; and the server's stack.
fn run<T, C: App, S: App>(
    client: impl FnOnce(tokio::sync::oneshot::Sender<Result<T>>) -> C,
    server: S,
) -> (Result<T>, Worker<Memory, S>) {
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let mut client = worker(CLIENT, SERVER, &[], client(tell));
    let mut server = worker(SERVER, CLIENT, &[PORT], server);
    let give_up = clock::now() + Duration::from_secs(20);
    loop {
        client.turn(clock::now());
        client.device_mut().exchange(server.device_mut());
        server.turn(clock::now());
        client.device_mut().exchange(server.device_mut());
        if let Ok(told) = told.try_recv() {
            return (told, server);
        }
        assert!(clock::now() < give_up, "it never told");
    }
}

fn population<A: App>(worker: &Worker<Memory, A>) -> u32 {
    let (connections, handshakes, _) = worker.stack().tcp_state().unwrap().population();
    connections + handshakes
}

fn opened<A: App>(worker: &Worker<Memory, A>) -> u64 {
    worker.stack().tcp_state().unwrap().counters().opened
}

fn closed_loop() -> Plan {
    Plan::closed(Duration::ZERO, DURATION)
}

fn held<W: Work + 'static, S: App>(
    connections: usize,
    plan: Plan,
    work: W,
    server: S,
) -> (Result<(crate::tcp::trial::Outcome, Duration)>, Worker<Memory, S>) {
    run(|tell| Held::new(target(), sources(), connections, plan, work, tell), server)
}

/// An echo that counts what it echoed, and spoils every byte from some number on.
struct Counting {
    echoed: u64,
    spoils_from: u64,
}

impl Counting {
    fn new() -> Self {
        Self { echoed: 0, spoils_from: u64::MAX }
    }
}

impl App for Counting {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn data(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        if self.echoed >= self.spoils_from {
            let len = connection.consume(usize::MAX);
            connection.send(&vec![255; len]);
            return;
        }
        self.echoed += connection.send_back(usize::MAX) as u64;
    }

    fn writable(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        self.data(now, session, connection);
    }
}

#[test]
fn a_closed_loop_counts_what_the_server_echoed_and_closes_every_connection() {
    for (connections, size) in [(1, 64), (100, 1), (3, 5000)] {
        let (outcome, server) = held(connections, closed_loop(), Requests::new(size), Counting::new());
        let (outcome, _) = outcome.unwrap();
        let (done, echoed) = (outcome.transactions, server.stack().app().echoed);
        // Some may have been answered after the end, until the client saw that it was over.
        let most = (done + done / 10 + 4 * connections as u64) * size as u64;
        assert!(done > 0 && (done * size as u64..=most).contains(&echoed), "{echoed} echoed of {done}");
        assert_eq!((opened(&server), population(&server)), (connections as u64, 0));
        assert_eq!((outcome.failed, outcome.latency.summary().samples), (0, done));
        assert!((0.0..=1.0).contains(&outcome.client_idle), "{}", outcome.client_idle);
    }
}

#[test]
fn an_open_loop_asks_what_is_due_and_nothing_else() {
    let open_loop = OpenLoop { arrivals: Arrivals::Burst { len: 40 }, rate_per_s: 4000.0 };
    let plan = Plan { open_loop: Some(open_loop), ..closed_loop() };
    let (outcome, server) = held(10, plan, Requests::new(100), Counting::new());
    let (outcome, _) = outcome.unwrap();
    // All 1,000, unless this program was held up at the end: then it says how many it turned to.
    let turned_to = (outcome.adherence.unwrap().taken * 1000.0).round() as u64;
    assert!(outcome.sent == turned_to && (40..=1000).contains(&turned_to), "{outcome:?}");
    assert_eq!(outcome.transactions, outcome.sent);
    assert_eq!((server.stack().app().echoed, population(&server)), (outcome.sent * 100, 0));
    // Ten of each forty go at once, and the others wait for an answer first.
    let (due, sent) = (outcome.latency.summary(), outcome.from_sending.unwrap().summary());
    assert!(due.samples == outcome.sent && due.p50_ns > sent.p50_ns, "{due:?} {sent:?}");
}

#[test]
fn a_server_that_answers_with_other_bytes_ends_the_trial_and_its_connections() {
    let spoiler = Counting { echoed: 0, spoils_from: 6400 };
    let (outcome, server) = held(4, closed_loop(), Requests::new(64), spoiler);
    assert!(outcome.unwrap_err().to_string().contains("not an echo"));
    assert_eq!(population(&server), 0);
}

#[test]
fn nobody_at_the_port_is_told_as_a_refusal() {
    let client = |tell| Held::new((SERVER, 8).into(), sources(), 3, closed_loop(), Requests::new(1), tell);
    let error = run(client, Echo).0.unwrap_err().to_string();
    assert!(error.contains("10.0.0.2:8") && error.contains("refuses"), "{error}");
}

#[test]
fn visits_are_as_many_as_the_server_saw_and_all_end_in_order() {
    for (at_a_time, size) in [(1, 1), (20, 700)] {
        // Each takes a port for as long as TIME-WAIT lasts, and there are 16,384 for all.
        let plan = Plan::closed(Duration::ZERO, Duration::from_millis(50));
        let client = |tell| Visits::new(target(), sources(), (at_a_time, size), plan, tell);
        let (outcome, server) = run(client, Counting::new());
        let (outcome, at_a_time) = (outcome.unwrap(), at_a_time as u64);
        let (done, seen) = (outcome.transactions, opened(&server));
        assert!(done > 0 && (done..=done + 2 * at_a_time).contains(&seen), "{seen} seen of {done}");
        assert_eq!((outcome.failed, population(&server)), (0, 0));
        assert_eq!(server.stack().app().echoed, seen * size as u64);
        assert_eq!(server.stack().tcp_state().unwrap().counters().finished, seen);
    }
}

#[test]
fn visits_to_a_server_that_hangs_up_are_failures() {
    /// Closes every connection at once.
    struct Curt;
    impl App for Curt {
        type Session = ();
        fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
            Answer::None
        }
        fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
            connection.finish();
        }
    }
    let plan = Plan::closed(Duration::ZERO, Duration::from_secs(10));
    let error = run(|tell| Visits::new(target(), sources(), (8, 1), plan, tell), Curt).0.unwrap_err();
    assert!(error.to_string().contains("closed before it answered"), "{error}");
}

#[test]
fn streams_go_both_ways_and_are_counted_at_their_end() {
    let (outcome, server) = held(2, closed_loop(), Streams::new(Direction::Send, 100_000), Discard);
    let sent = outcome.unwrap().0.bytes;
    assert!(sent > 0 && population(&server) == 0, "{sent} bytes sent");
    let (outcome, server) = held(2, closed_loop(), Streams::new(Direction::Receive, 100_000), Chargen);
    let received = outcome.unwrap().0.bytes;
    assert!(received > 0 && population(&server) == 0, "{received} bytes received");
}

#[test]
fn datagrams_come_back_once_each_and_the_warm_up_does_not_count() {
    let sizes = sizes::parse("200:3,1500:1").unwrap().sizes(Family::Ipv4, 0).unwrap();
    let offer = |arrivals, rate_pps, millis| {
        let constant = Offer::constant(0.0, Duration::from_millis(millis), sizes);
        Offer { rate_pps, arrivals, ..constant }
    };
    for (arrivals, rate) in [(Arrivals::Constant, Some(20_000.0)), (Arrivals::Closed { outstanding: 30 }, None)] {
        let offers = vec![offer(arrivals, rate, 10), offer(arrivals, rate, 50)];
        let (outcome, server) = run(|tell| Datagrams::new(target(), sources(), offers, tell), Echo);
        let outcome = outcome.unwrap();
        assert!(outcome.sent > 0 && outcome.received == outcome.sent, "{outcome:?}");
        assert_eq!((outcome.duplicated, outcome.reordered, outcome.stale), (0, 0, 0));
        let asked_bytes: usize = (0..outcome.sent).map(|sequence| sizes.len_of(sequence)).sum();
        assert_eq!(outcome.received_bytes, asked_bytes as u64);
        assert!(server.stack().counters().udp_delivered > outcome.sent, "the warm-up came before");
        if let Some(adherence) = outcome.adherence {
            // All 1,000, unless this program was held up at the end.
            let turned_to = (adherence.taken * 1000.0).round() as u64;
            assert!(outcome.sent == turned_to && turned_to <= 1000, "{outcome:?}");
        }
    }
}
