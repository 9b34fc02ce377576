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
}

impl<A: App> Side<A> {
    fn new(address: Ipv4Addr, app: A, tcp: TcpConfig, now: Instant) -> Self {
        let config = StackConfig {
            mac: Mac([2, 0, 0, 0, 0, address.octets()[3]]),
            mtu: 1500,
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
            tcp: Some(tcp),
            own_queue: None,
            neighbors: NeighborConfig::default(),
            reassembly: ReassemblyConfig::default(),
            marking: Marking::default(),
            secret: [u64::from(address.to_bits()), 9],
        };
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self { stack: Stack::new(&config, app, now), umem: Umem::new(umem).unwrap(), inbox: VecDeque::new() }
    }

    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let (mut received, mut out) = (Burst::new(), Burst::new());
        while received.room() > 0
            && let Some(bytes) = self.inbox.pop_front()
        {
            let addr = self.umem.lend_empty().unwrap();
            let mut frame = self.umem.received(Descriptor { addr: addr + 256, len: bytes.len() as u32 }).unwrap();
            self.umem.bytes_mut(&mut frame).copy_from_slice(&bytes);
            received.push(frame).unwrap();
        }
        self.stack.receive(now, &mut received, &mut self.umem, &mut out);
        assert!(received.is_empty());
        self.stack.transmit(now, &mut self.umem, &mut out);
        let mut sent = Vec::new();
        for frame in out.drain() {
            sent.push(self.umem.bytes(&frame).to_vec());
            let (descriptor, rest) = self.umem.lend(frame);
            assert!(rest.is_none() && self.umem.complete(descriptor.addr));
        }
        sent
    }

    fn is_empty(&self) -> bool {
        let tcp = self.stack.tcp_state().unwrap();
        tcp.population().0 == 0 && tcp.held() == 0 && self.umem.free_chunks() == CHUNKS
    }
}

/// Runs a call to its end over a wire that loses every `loss`th frame or so, and says how long it took.
fn call(total: usize, loss: u64, delay: Duration, tcp: TcpConfig) -> (Duration, Side<Caller>, Side<Echo>) {
    let mut now = Instant::from_ns(1_000_000_000);
    let mut client =
        Side::new(CLIENT, Caller { total, ..Caller::default() }, TcpConfig { ports: vec![], ..tcp.clone() }, now);
    let mut server = Side::new(SERVER, Echo, TcpConfig { ports: vec![7], ..tcp }, now);
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
