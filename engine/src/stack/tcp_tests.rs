//! Two stacks on a virtual wire: what an application at either end sees of TCP.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;
use crate::app::{Answer, Closed, ConnectError, Connection, ConnectionId, Datagram, Outbox};
use crate::apps::echo::Echo;
use crate::base::{ChunkSize, Descriptor, UmemConfig};
use crate::transport::tcp::TcpConfig;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CHUNKS: u32 = 1024;

fn limits() -> TcpConfig {
    TcpConfig { chunks: CHUNKS / 2, connections: 64, backlog: 16, time_wait: 64, ..TcpConfig::default() }
}

/// Sends a pattern to an echo service and checks what comes back.
#[derive(Debug, Default)]
struct Caller {
    id: Option<ConnectionId>,
    total: usize,
    sent: usize,
    received: usize,
    opened: bool,
    finished: bool,
    closed: Option<Closed>,
    refused: Option<ConnectError>,
}

fn pattern(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

impl Caller {
    fn pump(&mut self, connection: &mut impl Connection) {
        while self.sent < self.total {
            let bytes: Vec<u8> = (self.sent..self.total.min(self.sent + 3000)).map(pattern).collect();
            let sent = connection.send(&bytes);
            self.sent += sent;
            if sent < bytes.len() {
                return;
            }
        }
        if !self.finished {
            self.finished = true;
            connection.finish();
        }
    }
}

impl App for Caller {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn poll(&mut self, _now: Instant, outbox: &mut impl Outbox) {
        if self.id.is_none() && self.refused.is_none() {
            match outbox.connect(SocketAddr::from((SERVER, 7))) {
                Ok(id) => self.id = Some(id),
                Err(ConnectError::Later) => {}
                Err(error) => self.refused = Some(error),
            }
        }
    }

    fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.opened = true;
        self.pump(connection);
    }

    fn data(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        while !connection.received().is_empty() {
            let len = connection.received().len();
            for (at, &byte) in connection.received().iter().enumerate() {
                assert_eq!(byte, pattern(self.received + at), "at {}", self.received + at);
            }
            connection.consume(len);
            self.received += len;
        }
    }

    fn writable(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.pump(connection);
    }

    fn finished(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        connection.finish();
    }

    fn closed(&mut self, _now: Instant, (): &mut (), id: ConnectionId, reason: Closed) {
        assert_eq!(Some(id), self.id);
        assert_eq!(self.closed, None, "told once");
        self.closed = Some(reason);
    }
}

struct Side<A: App> {
    stack: Stack<A>,
    umem: Umem,
    inbox: VecDeque<Vec<u8>>,
    /// Chunks of the frames that were received, and sent, in the last turn.
    chunks: [Vec<Vec<u32>>; 2],
    /// Length of the longest frame sent so far, bytes.
    longest: usize,
}

impl<A: App> Side<A> {
    fn new(address: Ipv4Addr, app: A, tcp: TcpConfig, now: Instant) -> Self {
        let config = StackConfig {
            mac: Mac([2, 0, 0, 0, 0, address.octets()[3]]),
            mtu: tcp.mtu,
            vlan: None,
            addresses: vec![format!("{address}/24").parse().unwrap()],
            gateways: vec![],
            routes: vec![],
            probing: Probing::Off,
            groups: vec![],
            broadcasts: false,
            autoconf: None,
            udp_ports: vec![],
            checksum: ChecksumPolicy::Verify,
            tcp: Some(tcp.clone()),
            own_queue: None,
            neighbors: NeighborConfig::default(),
            reassembly: ReassemblyConfig::default(),
            marking: Marking::default(),
            secret: [u64::from(address.to_bits()), 9],
        };
        let sizes = [ChunkSize::Bytes2048, ChunkSize::Bytes4096];
        let chunk_size = sizes.into_iter().find(|size| size.room() == tcp.chunk_room).unwrap();
        let umem = Umem::new(UmemConfig { chunks: CHUNKS, chunk_size, huge_pages: false }).unwrap();
        let stack = Stack::new(&config, app, now);
        Self { stack, umem, inbox: VecDeque::new(), chunks: Default::default(), longest: 0 }
    }

    /// A frame as the kernel hands it over: in as many chunks as it takes.
    fn receive(&mut self, bytes: &[u8]) -> Frame {
        let (mut whole, mut chunks): (Option<Frame>, _) = (None, Vec::new());
        for part in bytes.chunks(self.umem.chunk_bytes() as usize - 256) {
            let addr = self.umem.lend_empty().unwrap();
            let mut frame = self.umem.received(Descriptor { addr: addr + 256, len: part.len() as u32 }).unwrap();
            self.umem.bytes_mut(&mut frame).copy_from_slice(part);
            chunks.push(frame.chunk());
            match &mut whole {
                Some(whole) => self.umem.append(whole, frame),
                None => whole = Some(frame),
            }
        }
        self.chunks[0].push(chunks);
        whole.unwrap()
    }

    /// Takes a frame as a device does that is done with it at once.
    fn send(&mut self, frame: Frame) -> Vec<u8> {
        let bytes: Vec<u8> = self.umem.slices(&frame).flatten().copied().collect();
        let (mut chunks, mut next) = (Vec::new(), Some(frame));
        while let Some(part) = next {
            chunks.push(part.chunk());
            let (descriptor, rest) = self.umem.lend(part);
            assert!(self.umem.complete(descriptor.addr));
            next = rest;
        }
        self.chunks[1].push(chunks);
        self.longest = self.longest.max(bytes.len());
        bytes
    }

    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.chunks = Default::default();
        let (mut received, mut out) = (Burst::new(), Burst::new());
        while received.room() > 0
            && let Some(bytes) = self.inbox.pop_front()
        {
            received.push(self.receive(&bytes)).unwrap();
        }
        self.stack.receive(now, &mut received, &mut self.umem, &mut out);
        assert!(received.is_empty());
        self.stack.transmit(now, &mut self.umem, &mut out);
        out.drain().map(|frame| self.send(frame)).collect()
    }

    fn is_empty(&self) -> bool {
        let tcp = self.stack.tcp_state().unwrap();
        tcp.population().0 == 0 && tcp.held() == 0 && self.umem.free_chunks() == CHUNKS
    }
}

/// A wire.
#[derive(Clone, Copy)]
struct Wire {
    /// Every so manieth frame or so is lost; 0: none.
    loss: u64,
    /// Every so manieth or so overtakes the one before; 0: none.
    overtaking: u64,
    delay: Duration,
}

/// Runs a call to its end over a wire that loses every `loss`th frame or so, and says how long it took.
fn call(total: usize, loss: u64, delay: Duration, tcp: TcpConfig) -> (Duration, Side<Caller>, Side<Echo>) {
    call_over(total, Wire { loss, overtaking: 0, delay }, [tcp.clone(), tcp])
}

/// The same of a client and a server that need not be alike.
fn call_over(total: usize, wire: Wire, tcp: [TcpConfig; 2]) -> (Duration, Side<Caller>, Side<Echo>) {
    let mut now = Instant::from_ns(1_000_000_000);
    let Wire { loss, overtaking, delay } = wire;
    let [of_client, of_server] = tcp;
    let mut client =
        Side::new(CLIENT, Caller { total, ..Caller::default() }, TcpConfig { ports: vec![], ..of_client }, now);
    let mut server = Side::new(SERVER, Echo, TcpConfig { ports: vec![7], ..of_server }, now);
    let mut wire: VecDeque<(Instant, bool, Vec<u8>)> = VecDeque::new();
    let (start, mut rng) = (now, 1_u64);
    for _ in 0..2_000_000 {
        while wire.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, to_server, frame) = wire.pop_front().unwrap();
            if to_server { server.inbox.push_back(frame) } else { client.inbox.push_back(frame) }
        }
        let frames = client.turn(now).into_iter().map(|frame| (true, frame));
        let frames: Vec<_> = frames.chain(server.turn(now).into_iter().map(|frame| (false, frame))).collect();
        for (to_server, frame) in frames {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if loss == 0 || (rng >> 33) % loss != 0 || frame[12..14] == [8, 6] {
                wire.push_back((now + delay, to_server, frame));
                let last = wire.len() - 1;
                if overtaking != 0 && last > 0 && (rng >> 40) % overtaking == 0 {
                    let (before, at) = (wire[last - 1].0, wire[last].0);
                    wire.swap(last - 1, last);
                    (wire[last - 1].0, wire[last].0) = (before, at);
                }
            }
        }
        let done = client.stack.app().closed.is_some() && client.is_empty() && server.is_empty();
        if done {
            break;
        }
        let busy = !client.inbox.is_empty() || !server.inbox.is_empty();
        let next = [client.stack.next_deadline(), server.stack.next_deadline(), wire.front().map(|(at, ..)| *at)];
        let next = next.into_iter().flatten().min().unwrap_or(now);
        now = if busy { now + Duration::from_micros(1) } else { next.max(now + Duration::from_micros(1)) };
    }
    (now.since(start), client, server)
}

#[test]
fn a_megabyte_comes_back_whole_and_both_sides_forget_the_connection() {
    let (time, client, server) = call(1 << 20, 0, Duration::from_micros(50), limits());
    let app = client.stack.app();
    assert_eq!((app.received, app.closed), (1 << 20, Some(Closed::Finished)), "{time:?} {app:?}");
    assert!(client.is_empty() && server.is_empty());
    assert_eq!(client.stack.tcp_state().unwrap().counters().retransmitted, 0);
}

#[test]
fn losses_are_repaired() {
    for loss in [100, 20, 5] {
        let (time, client, server) = call(300_000, loss, Duration::from_millis(5), limits());
        let app = client.stack.app();
        assert_eq!((app.received, app.closed), (300_000, Some(Closed::Finished)), "1 of {loss}: {time:?} {app:?}");
        assert!(client.is_empty() && server.is_empty());
    }
}

#[test]
fn what_the_device_would_cut_up_waits_segment_by_segment_for_a_neighbor() {
    let (tcp, mut now, total) = (limits(), Instant::from_ns(1_000_000_000), 8 * 1460);
    // It does not finish: what is sent with a FIN goes by itself anyway.
    let caller = Caller { total, finished: true, ..Caller::default() };
    let mut client = Side::new(CLIENT, caller, TcpConfig { ports: vec![], ..tcp.clone() }, now);
    let mut server = Side::new(SERVER, Echo, TcpConfig { ports: vec![7], ..tcp }, now);
    client.stack.use_segmentation(true);
    let is_ip = |frame: &Vec<u8>| frame[12..14] == [8, 0];
    while !client.inbox.iter().any(is_ip) {
        server.inbox.extend(client.turn(now));
        client.inbox.extend(server.turn(now));
        now += Duration::from_micros(1);
    }
    // The SYN-ACK is there, and whom to answer is forgotten.
    let egress = &mut client.stack.egress;
    let epoch = egress.neighbors.epoch();
    egress.neighbors = Neighbors::new(&NeighborConfig::default(), [1, 2]);
    while egress.neighbors.epoch() <= epoch {
        egress.neighbors.begin_epoch();
    }
    let questions = [client.turn(now), client.turn(now)].concat();
    assert!(client.stack.app().opened && questions.len() == 1 && !is_ip(&questions[0]), "{questions:?}");
    server.inbox.extend(questions);
    for _ in 0..10 {
        client.inbox.extend(server.turn(now));
        server.inbox.extend(client.turn(now));
        now += Duration::from_micros(1);
    }
    assert_eq!(
        (client.stack.app().received, client.longest),
        (total, 1514),
        "within microseconds, and no packet is long"
    );
    assert_eq!(client.stack.counters().unsent.iter().sum::<u64>(), 0);
}

#[test]
fn a_port_without_a_listener_refuses() {
    let tcp = limits();
    let mut now = Instant::from_ns(1_000_000_000);
    let mut client = Side::new(CLIENT, Caller::default(), tcp.clone(), now);
    let mut server = Side::new(SERVER, Echo, tcp, now);
    for _ in 0..10 {
        server.inbox.extend(client.turn(now));
        client.inbox.extend(server.turn(now));
        now += Duration::from_millis(1);
    }
    assert_eq!(client.stack.app().closed, Some(Closed::Refused));
    assert!(client.is_empty());
}

/// Of a host on an Ethernet with an MTU of 9,000.
fn jumbo() -> TcpConfig {
    TcpConfig { mtu: 9000, chunk_room: ChunkSize::Bytes4096.room(), ..limits() }
}

/// Bytes of a frame with a segment of the longest kind.
const LONGEST: usize = 9014;

#[test]
fn segments_of_several_chunks_come_back_as_long_as_they_were() {
    let wire = Wire { loss: 0, overtaking: 0, delay: Duration::from_micros(50) };
    let (time, client, server) = call_over(4 << 20, wire, [jumbo(), jumbo()]);
    let app = client.stack.app();
    assert_eq!((app.received, app.closed), (4 << 20, Some(Closed::Finished)), "{time:?} {app:?}");
    assert!(client.is_empty() && server.is_empty());
    // What is written byte for byte lies in chunks of equal parts: three of 2,982 bytes.
    assert_eq!((client.longest, server.longest), (LONGEST - 2, LONGEST - 2));
    let counters = server.stack.tcp_state().unwrap().counters();
    assert_eq!(counters.retransmitted, 0);
    assert!(counters.sent < (4 << 20) / 8000, "{} segments", counters.sent);
}

#[test]
fn long_segments_survive_losses_and_overtaking() {
    for (loss, overtaking) in [(0, 5), (100, 0), (20, 20), (5, 0), (7, 3)] {
        let wire = Wire { loss, overtaking, delay: Duration::from_millis(5) };
        let (time, client, server) = call_over(500_000, wire, [jumbo(), jumbo()]);
        let app = client.stack.app();
        assert_eq!(
            (app.received, app.closed),
            (500_000, Some(Closed::Finished)),
            "{loss}, {overtaking}: {time:?} {app:?}"
        );
        assert!(client.is_empty() && server.is_empty());
    }
}

#[test]
fn hosts_with_long_and_with_short_segments_understand_each_other() {
    let middling = TcpConfig { mtu: 5000, ..jumbo() };
    for (pair, most) in [([limits(), jumbo()], 1514), ([jumbo(), limits()], 1514), ([jumbo(), middling], 5014)] {
        for loss in [0, 15] {
            let wire = Wire { loss, overtaking: 0, delay: Duration::from_millis(1) };
            let (time, client, server) = call_over(300_000, wire, pair.clone());
            let app = client.stack.app();
            assert_eq!((app.received, app.closed), (300_000, Some(Closed::Finished)), "{loss}: {time:?} {app:?}");
            assert!(client.is_empty() && server.is_empty());
            assert!(client.longest <= most && server.longest <= most);
        }
    }
}

#[test]
fn a_link_that_gets_narrow_shortens_segments_under_way() {
    let mut now = Instant::from_ns(1_000_000_000);
    let mut client = Side::new(CLIENT, Caller { total: 2 << 20, ..Caller::default() }, jumbo(), now);
    let mut server = Side::new(SERVER, Echo, TcpConfig { ports: vec![7], ..jumbo() }, now);
    for turn in 0..20_000 {
        let to_server = client.turn(now);
        // From the hundredth turn on no frame passes that is longer than 1,514 bytes.
        server.inbox.extend(to_server.into_iter().filter(|frame| turn < 100 || frame.len() <= 1514));
        let to_client = server.turn(now);
        client.inbox.extend(to_client.into_iter().filter(|frame| turn < 100 || frame.len() <= 1514));
        if turn == 100 {
            assert!(client.stack.app().received < 1 << 20, "it is not over yet");
            client.stack.set_mtu(1500, &mut client.umem);
            server.stack.set_mtu(1500, &mut server.umem);
        }
        now += Duration::from_micros(200);
        if client.stack.app().closed.is_some() && server.is_empty() {
            break;
        }
    }
    assert_eq!((client.stack.app().received, client.stack.app().closed), (2 << 20, Some(Closed::Finished)));
}

#[test]
fn a_long_segment_is_echoed_in_the_chunks_that_it_came_in() {
    let mut now = Instant::from_ns(1_000_000_000);
    let mut client = Side::new(CLIENT, Caller { total: 6 * 3 * 2982, ..Caller::default() }, jumbo(), now);
    let mut server = Side::new(SERVER, Echo, TcpConfig { ports: vec![7], ..jumbo() }, now);
    // As many as the first window has room for, so that none is cut.
    let (mut echoed, mut came) = (0, std::collections::HashSet::new());
    while client.stack.app().closed.is_none() {
        server.inbox.extend(client.turn(now));
        client.inbox.extend(server.turn(now));
        let [received, sent] = &server.chunks;
        let long: Vec<_> = sent.iter().filter(|chunks| chunks.len() > 1).collect();
        came.extend(received.iter().cloned());
        assert!(long.iter().all(|chunks| came.contains(*chunks)), "{long:?}");
        echoed += long.len();
        now += Duration::from_micros(100);
    }
    assert_eq!(echoed, 6);
}
