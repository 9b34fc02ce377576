//! A stack on a wire of no length, whose peers are driven by hand, segment by segment.

use std::collections::BTreeMap;
use std::time::Duration;

use barewire::app::{Answer, App, Closed, Connection, ConnectionId, Datagram, Outbox};
use barewire::base::{BURST, Burst, ChunkSize, Descriptor, DropReason, Instant, Place, Umem, UmemConfig};
use barewire::stack::Stack;
use barewire::transport::tcp::{ConnectionInfo, Tcp, TcpConfig};

use super::super::frames::{self, Ip};
use super::super::scenario::stack_config;
use super::super::strict;
use super::segment::Segment;
use super::stream::Side;

/// The control bits by their first letters, as in a header.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// PSH.
    pub const PSH: u8 = 8;
    /// ACK.
    pub const ACK: u8 = 16;
    /// URG.
    pub const URG: u8 = 32;
}

/// The ports of the host, by what is done there.
pub mod port {
    /// What is received goes back.
    pub const ECHO: u16 = 7;
    /// What is received is taken and forgotten, but for its first bytes.
    pub const SINK: u16 = 9;
    /// What is received stays where it is.
    pub const DEAF: u16 = 10;
    /// A few bytes are sent, and that is all.
    pub const BRIEF: u16 = 13;
    /// As many bytes as can be are sent.
    pub const SOURCE: u16 = 19;
    /// All of them.
    pub const ALL: [u16; 5] = [ECHO, SINK, DEAF, BRIEF, SOURCE];
}

/// Bytes of a stream that are remembered.
const REMEMBERED: usize = 1 << 20;

/// What an application saw of a connection, by the peer's port.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Times that it was opened.
    pub opened: u32,
    /// What was received.
    pub text: Vec<u8>,
    /// Whether the peer finished.
    pub finished: bool,
    /// How it ended.
    pub closed: Option<Closed>,
}

/// An application that does on each port what the port is for.
#[derive(Debug, Default)]
pub struct Services {
    /// What it saw.
    pub seen: BTreeMap<u16, Seen>,
    /// Connections in all that were opened and that were closed.
    pub opened: u64,
    /// See `opened`.
    pub closed: u64,
    /// Whether connections are remembered one by one.
    pub remembers: bool,
}

impl Services {
    fn note(&mut self, peer: u16) -> Option<&mut Seen> {
        self.remembers.then(|| self.seen.entry(peer).or_default())
    }
}

impl App for Services {
    /// The peer's port.
    type Session = u16;

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }

    fn opened(&mut self, _now: Instant, peer: &mut u16, connection: &mut impl Connection) {
        *peer = connection.peer().port();
        self.opened += 1;
        if let Some(seen) = self.note(*peer) {
            *seen = Seen { opened: seen.opened + 1, ..Seen::default() };
        }
        connection.set_nagle(false);
        match connection.local().port() {
            port::SOURCE => while connection.reserve(|out| out.len()) > 0 {},
            port::BRIEF => {
                connection.send(b"in brief");
                connection.finish();
            }
            _ => {}
        }
    }

    fn data(&mut self, _now: Instant, peer: &mut u16, connection: &mut impl Connection) {
        match connection.local().port() {
            port::ECHO => drop(connection.send_back(usize::MAX)),
            port::DEAF => {}
            _ => {
                while !connection.received().is_empty() {
                    if let Some(seen) = self.note(*peer).filter(|seen| seen.text.len() < REMEMBERED) {
                        seen.text.extend_from_slice(connection.received());
                    }
                    connection.consume(connection.received().len());
                }
            }
        }
        if connection.local().port() == port::ECHO && connection.is_finished() && connection.received_len() == 0 {
            connection.finish();
        }
    }

    fn writable(&mut self, now: Instant, peer: &mut u16, connection: &mut impl Connection) {
        match connection.local().port() {
            port::SOURCE => while connection.reserve(|out| out.len()) > 0 {},
            _ => self.data(now, peer, connection),
        }
    }

    fn finished(&mut self, now: Instant, peer: &mut u16, connection: &mut impl Connection) {
        if let Some(seen) = self.note(*peer) {
            seen.finished = true;
        }
        match connection.local().port() {
            port::ECHO => self.data(now, peer, connection),
            _ => connection.finish(),
        }
    }

    fn closed(&mut self, _now: Instant, peer: &mut u16, _id: ConnectionId, reason: Closed) {
        self.closed += 1;
        if let Some(seen) = self.note(*peer) {
            seen.closed = Some(reason);
        }
    }

    fn poll(&mut self, _now: Instant, _outbox: &mut impl Outbox) {}
}

/// A segment that the host sent to a peer.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// The peer's port.
    pub port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number, with ACK.
    pub ack: Option<u32>,
    /// Control bits: SYN, FIN, RST.
    pub syn: bool,
    /// See `syn`.
    pub fin: bool,
    /// See `syn`.
    pub rst: bool,
    /// Window as it is in the header.
    pub window: u16,
    /// Bytes of options, and the options.
    pub timestamps: Option<(u32, u32)>,
    /// See `timestamps`.
    pub sack: Vec<(u32, u32)>,
    /// Text.
    pub text: Vec<u8>,
}

/// One connection, as the peer has it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The peer's port, and the host's.
    pub port: u16,
    /// See `port`.
    pub service: u16,
    /// The next number to send.
    pub seq: u32,
    /// The next number that is expected.
    pub ack: u32,
    /// The window that is offered.
    pub window: u16,
    /// The host's timestamp to echo, where timestamps are used; the peer's own is its time.
    pub echo: Option<u32>,
}

/// The host.
#[derive(Debug)]
pub struct Host {
    stack: Stack<Services>,
    umem: Umem,
    /// The time.
    pub now: Instant,
    sent: Vec<Sent>,
    /// Segments sent in all.
    pub segments: u64,
}

impl Host {
    /// A host with the services, and so much memory that TCP gets half of it.
    ///
    /// # Panics
    /// If there is no memory.
    #[must_use]
    pub fn new(tcp: TcpConfig, chunks: u32) -> Self {
        let now = Instant::from_ns(1_000_000_000);
        let mut config = stack_config(Side::Far.mac(), Side::Far.address(), std::iter::empty());
        config.tcp = Some(TcpConfig { ports: port::ALL.to_vec(), chunks: chunks / 2, ..tcp });
        let umem = UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let app = Services { remembers: true, ..Services::default() };
        Self {
            stack: Stack::new(&config, app, now),
            umem: Umem::new(umem).expect("memory for a host"),
            now,
            sent: Vec::new(),
            segments: 0,
        }
    }

    /// A host with few of everything.
    #[must_use]
    pub fn small() -> Self {
        let tcp =
            TcpConfig { connections: 64, backlog: 8, time_wait: 16, receive_buffer: 65_535, ..TcpConfig::default() };
        Self::new(tcp, 1024)
    }

    /// The applications.
    #[must_use]
    pub fn app(&mut self) -> &mut Services {
        self.stack.app_mut()
    }

    /// What the application saw of the connection from a port.
    #[must_use]
    pub fn seen(&self, port: u16) -> Seen {
        self.stack.app().seen.get(&port).cloned().unwrap_or_default()
    }

    /// TCP, to look at.
    ///
    /// # Panics
    /// Never: it has TCP.
    #[must_use]
    pub const fn tcp(&self) -> &Tcp {
        self.stack.tcp_state().expect("a host that speaks TCP")
    }

    /// Frames dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.stack.counters().drops[reason as usize]
    }

    /// The connection from a port, if there is one.
    #[must_use]
    pub fn connection(&self, port: u16) -> Option<ConnectionInfo> {
        self.tcp().connections(self.now).find(|info| info.remote.1 == port)
    }

    /// Makes a turn with a frame, or without, and then more until nothing comes out.
    ///
    /// # Panics
    /// If the books do not balance, or a frame is malformed.
    pub fn turn(&mut self, frame: Option<&[u8]>) {
        let (mut received, mut out, mut asked) = (Burst::new(), Burst::new(), false);
        if let Some(bytes) = frame {
            let addr = self.umem.lend_empty().expect("a free chunk") + 256;
            let frame = self.umem.received(Descriptor { addr, len: bytes.len() as u32 });
            let mut frame = frame.expect("the chunk was lent");
            self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            received.push(frame).expect("room in the burst");
        }
        loop {
            self.stack.receive(self.now, &mut received, &mut self.umem, &mut out);
            self.stack.transmit(self.now, &mut self.umem, &mut out);
            let full = out.len() == BURST;
            for frame in out.drain() {
                let bytes = self.umem.bytes(&frame);
                asked |= bytes[12..14] == [8, 6];
                self.sent.extend(take_note(bytes));
                self.segments += 1;
                let (descriptor, _) = self.umem.lend(frame);
                assert!(self.umem.complete(descriptor.addr), "the chunk was lent");
            }
            if !full {
                break;
            }
        }
        self.check();
        if asked {
            // Whoever doubts the way to the peers is told.
            let (peer, host) = ((Side::Near.mac(), Side::Near.address()), (Side::Far.mac(), Side::Far.address()));
            let reply = frames::arp(2, peer, host);
            self.turn(Some(&frames::ethernet(host.0, peer.0, &[], frames::ARP, &reply)));
        }
    }

    /// The books balance, and everything is within its bounds.
    fn check(&self) {
        if let Err((tuple, wrong)) = self.tcp().audit(&self.umem) {
            panic!("it does not hold that {wrong}: {tuple:?}");
        }
        let (held, waiting) = (self.tcp().held(), self.stack.waiting());
        assert_eq!(self.umem.count(Place::Queue), held + waiting, "chunks on queues");
        assert_eq!(self.umem.free_chunks() + held + waiting, self.umem.chunks(), "no chunk is lost");
    }

    /// Lets time pass: everything that is due is done when it is due.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.stack.next_deadline().filter(|&at| at <= end) {
            self.now = at.max(self.now + Duration::from_micros(1));
            self.turn(None);
        }
        self.now = self.now.max(end);
    }

    /// What was sent since this was last asked for.
    pub fn take(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// A segment arrives from a peer.
    pub fn segment(&mut self, from: (u16, u16), segment: &frames::Tcp<'_>) {
        self.turn(Some(&frame(from, segment)));
    }

    /// A peer opens a connection with these options in its SYN, and the host accepts it: with timestamps if they are among
    /// the options. What the host sends at once stays to be taken.
    ///
    /// # Panics
    /// If it is not accepted.
    pub fn open(&mut self, port: u16, service: u16, options: &[u8]) -> Peer {
        let seq = u32::MAX - 100;
        let syn = frames::Tcp { seq, flags: flag::SYN, window: u16::MAX, options, ..frames::Tcp::default() };
        let mut ask = || {
            self.segment((port, service), &syn);
            self.take().into_iter().rfind(|sent| sent.port == port)
        };
        // In a flood of SYNs one that comes again is answered.
        let answer = ask().or_else(&mut ask).expect("an answer to the SYN");
        assert!(answer.syn && answer.ack == Some(seq.wrapping_add(1)), "{answer:?}");
        let echo = answer.timestamps.map(|(value, _)| value);
        let ack = answer.seq.wrapping_add(1);
        let peer = Peer { port, service, seq: seq.wrapping_add(1), ack, window: u16::MAX, echo };
        self.send(&peer, flag::ACK, &[]);
        peer
    }

    /// A segment arrives from a peer at its next number.
    pub fn send(&mut self, peer: &Peer, flags: u8, text: &[u8]) {
        self.send_with(peer, flags, text, &[]);
    }

    /// The same with further options, a multiple of four bytes long.
    pub fn send_with(&mut self, peer: &Peer, flags: u8, text: &[u8], options: &[u8]) {
        let mut all = Vec::new();
        if let Some(echo) = peer.echo {
            all.extend([1, 1, 8, 10]);
            all.extend(((self.now.as_ns() / 1_000_000) as u32).to_be_bytes());
            all.extend(echo.to_be_bytes());
        }
        all.extend(options);
        let Peer { seq, ack, window, .. } = *peer;
        let segment = frames::Tcp { seq, ack, flags, window, urgent: 0, options: &all, text };
        self.segment((peer.port, peer.service), &segment);
    }
}

/// The frame of a peer's segment.
#[must_use]
pub fn frame(from: (u16, u16), segment: &frames::Tcp<'_>) -> Vec<u8> {
    let (source, destination) = ((Side::Near.address(), from.0), (Side::Far.address(), from.1));
    let segment = frames::tcp(source, destination, segment);
    let packet = frames::ipv4(Ip::new(frames::TCP, source.0, destination.0), &[], &segment);
    frames::ethernet(Side::Far.mac(), Side::Near.mac(), &[], frames::IPV4, &packet)
}

/// A SACK option of some blocks, padded.
#[must_use]
pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (start, end) in blocks {
        option.extend(start.to_be_bytes());
        option.extend(end.to_be_bytes());
    }
    option
}

/// Takes a frame apart that the host sent, after checking that it is well-formed.
fn take_note(bytes: &[u8]) -> Option<Sent> {
    if let Err(wrong) = strict::check(bytes) {
        panic!("a malformed frame: {wrong}\n{bytes:02x?}");
    }
    let (flow, segment) = Segment::parse(Side::Far, bytes)?;
    Some(Sent {
        port: flow.near,
        seq: segment.seq,
        ack: segment.ack,
        syn: segment.syn,
        fin: segment.fin,
        rst: segment.rst,
        window: segment.window,
        timestamps: segment.timestamps,
        sack: segment.sack.clone(),
        text: segment.text.to_vec(),
    })
}
