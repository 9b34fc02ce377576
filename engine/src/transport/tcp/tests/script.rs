//! One run of a script: a [`Tcp`] with its memory, a clock, and what it said.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::seg::Ts;
use super::{CHUNKS, Numbers, OUR, PEER, Seg, fill_checksum};
use crate::base::STEPS;
use crate::base::{ChunkSize, Descriptor, DropReason, Frame, Instant, Place, Umem, UmemConfig};
use crate::transport::tcp::isn::InitialNumbers;
use crate::transport::tcp::segment::{Control, Segment};
use crate::transport::tcp::tcb::{Tcb, clock};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{Counters, End, Events, Kind, Outgoing, Output, Tcp, TcpConfig, Verdict};
use crate::transport::udp::ChecksumPolicy;
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Header, Packet};

/// Keys of flow table, sequence numbers, timestamps, cookies and ports. The third was searched for: with it our
/// timestamps wrap 40 to 130 ms after a script began.
const KEYS: [[u64; 2]; 5] = [[1, 2], [3, 4], [5, 224_988_793], [7, 8], [9, 10]];
/// The peer's clock when a script begins: it wraps at 5 ms.
const PEER_TS: u32 = u32::MAX - 4;

/// What an application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Told {
    Opened,
    Data,
    Urgent,
    Writable,
    Finished,
    Closed(End),
}

/// A segment that came out.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// When, milliseconds since the script began; and the rest of it, microseconds.
    pub(super) at: (u64, u64),
    pub(super) seg: Seg,
    /// Whether the way that it goes is to be doubted.
    pub(super) doubts_way: bool,
}

/// A script under way.
pub(in super::super) struct Script {
    pub(super) tcp: Tcp,
    pub(super) umem: Umem,
    pub(super) now: Instant,
    start: Instant,
    beginning: u32,
    /// Whether the device cuts up packets of several segments, and how many it has had.
    joined: bool,
    pub(super) packets_of_several: u32,
    /// Our initial numbers, by port of the peer, as our SYNs had them.
    iss: BTreeMap<u16, SeqNum>,
    out: VecDeque<Sent>,
    told: Vec<Told>,
    /// What became of the peer's last segment.
    pub(super) outcome: Result<(), DropReason>,
    /// The connection that the application means.
    pub(super) index: u32,
    /// Text that the application queued and took, bytes.
    pub(super) queued: u32,
    pub(super) taken: u32,
    in_turn: bool,
    /// Whether the device keeps frames until it is told to be done with them, and those that it has.
    pub(super) device_keeps: bool,
    with_device: Vec<Descriptor>,
    /// How far we have sent, how far the peer's windows have reached, and by how many bits they are shifted.
    end: u32,
    edge: u32,
    peer_shift: u8,
    /// Whether the peer's segments carry timestamps, and our last one.
    pub(super) timestamps: bool,
    last_ts: u32,
    log: Vec<String>,
}

impl Script {
    pub(super) fn new(config: TcpConfig, beginning: u32, joined: bool) -> Self {
        let tuple = Tuple { local: OUR, remote: PEER };
        let numbers = InitialNumbers::new(KEYS[1], KEYS[2]);
        // Our initial number counts every 4 us: the script begins when it is where it should be.
        let ticks = SeqNum::new(0_u32.wrapping_sub(beginning)).since(numbers.isn(Instant::ZERO, &tuple));
        let start = Instant::from_ns(u64::from(ticks) * 4_000);
        let left = 0_u32.wrapping_sub(clock(start).wrapping_add(numbers.ts_offset(&tuple)));
        assert!((1..150).contains(&left), "timestamps do not wrap soon: search for another key");
        let mut tcp = Tcp::new(config, KEYS, start);
        tcp.leave_sums(joined);
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        Self {
            tcp,
            umem: Umem::new(umem).unwrap(),
            now: start,
            start,
            beginning,
            joined,
            packets_of_several: 0,
            iss: BTreeMap::new(),
            out: VecDeque::new(),
            told: Vec::new(),
            outcome: Ok(()),
            index: 0,
            queued: 0,
            taken: 0,
            in_turn: false,
            device_keeps: false,
            with_device: Vec::new(),
            end: 0,
            edge: 0,
            peer_shift: 0,
            timestamps: false,
            last_ts: 0,
            log: Vec::new(),
        }
    }

    /// Ticks of both clocks since the script began.
    fn ticks(&self) -> u32 {
        clock(self.now).wrapping_sub(clock(self.start))
    }

    fn numbers(&self, port: u16) -> Numbers {
        let unknown = SeqNum::new(0_u32.wrapping_sub(self.beginning));
        let offset = self.tcp.shared.numbers.ts_offset(&Tuple { local: OUR, remote: (PEER.0, port) });
        Numbers {
            ours: self.iss.get(&port).copied().unwrap_or(unknown),
            peers: unknown,
            our_ts: clock(self.start).wrapping_add(offset),
            peer_ts: PEER_TS,
        }
    }

    /// Our initial sequence number for the peer's usual port.
    pub(super) fn iss(&self) -> SeqNum {
        self.numbers(PEER.1).ours
    }

    /// How far before 2^32 both sides' numbers begin.
    pub(super) const fn beginning(&self) -> u32 {
        self.beginning
    }

    /// Since the script began.
    pub(super) fn time(&self) -> (u64, u64) {
        let us = self.now.since(self.start).as_micros() as u64;
        (us / 1000, us % 1000)
    }

    pub(super) fn note(&mut self, arrow: &str, what: &dyn std::fmt::Display) {
        let (ms, us) = self.time();
        self.log.push(format!("{ms:6}.{us:03} {arrow} {what}"));
    }

    #[track_caller]
    pub(super) fn fail(&self, why: &str) -> ! {
        let (ms, us) = self.time();
        let log = self.log.join("\n");
        panic!("\n{log}\nnumbers wrap at {}; it is {ms}.{us:03} ms\n{why}\n", self.beginning);
    }

    // What the peer does.

    /// The peer sends a segment, and we answer.
    #[track_caller]
    pub(super) fn peer_sends(&mut self, mut seg: Seg) -> &mut Self {
        if self.timestamps && seg.timestamps == Ts::Usual && !seg.flags.contains(Flags::RST) {
            seg.timestamps = Ts::Is(self.ticks(), self.last_ts);
        }
        self.note("<", &seg);
        let numbers = self.numbers(seg.port);
        let is_future = seg.ack.wrapping_sub(self.end) as i32 > 0;
        if seg.flags.contains(Flags::ACK) && !is_future {
            let shift = if seg.flags.contains(Flags::SYN) { 0 } else { self.peer_shift };
            let edge = seg.ack.wrapping_add(u32::from(seg.window.unwrap_or(u16::MAX)) << shift);
            self.edge = if edge.wrapping_sub(self.edge) as i32 > 0 { edge } else { self.edge };
        }
        if seg.flags.contains(Flags::SYN) {
            self.peer_shift = seg.window_scale.unwrap_or(0).min(14);
        }
        self.receives(&seg.to_bytes(&numbers), seg.class);
        self
    }

    /// Digests a segment in bytes.
    pub(super) fn receives(&mut self, bytes: &[u8], class: u8) {
        let mut segment = Segment::EMPTY;
        segment.read(bytes, PEER.0, OUR.0, class, ChecksumPolicy::Verify).unwrap();
        let mut frame = self.umem.alloc().unwrap();
        assert!(self.umem.set_len(&mut frame, bytes.len()));
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        assert!(Umem::narrow(&mut frame, segment.header_len.into(), segment.len as usize));
        let verdict = self.tcp.receive(&segment, frame, self.now, &mut self.umem);
        let Verdict { outcome, frame, replies, connection, events } = verdict;
        let reply = self.tcp.take_control();
        assert_eq!(reply.is_some(), replies);
        self.outcome = outcome;
        if let Err(reason) = outcome {
            self.note("-", &format!("dropped: {}", reason.name()));
        }
        if let Some(frame) = frame {
            self.umem.free(frame);
        }
        if let Some(reply) = reply {
            self.control(&reply);
        }
        if let Some(index) = connection {
            self.index = index;
            self.tell(events);
        }
        self.flush();
    }

    fn tell(&mut self, events: Events) {
        let news = [
            (events.opened, Told::Opened),
            (events.data, Told::Data),
            (events.urgent, Told::Urgent),
            (events.finished, Told::Finished),
            (events.writable, Told::Writable),
        ];
        self.told.extend(news.iter().filter(|(is, _)| *is).map(|(_, told)| *told));
        if events.writable {
            self.tcp.note_writable(self.index);
        }
        self.tcp.settle(self.index);
        if let Some(end) = events.closed
            && !self.tcp.put_off_end(self.index, end)
        {
            self.close(self.index, end);
        }
    }

    fn close(&mut self, index: u32, end: End) {
        self.told.push(Told::Closed(end));
        self.note("-", &format!("closed: {end:?}"));
        self.tcp.close(index, end, self.now, &mut self.umem);
    }

    // What comes out.

    /// Lets everything out that there is, unless the turn goes on.
    pub(super) fn flush(&mut self) {
        if !self.in_turn {
            self.tcp.expire(self.now, &mut self.umem);
            while let Some(output) = self.poll() {
                match output {
                    Output::Segment(segment, _) if segment.segments > 1 => {
                        for bytes in self.cut(&segment) {
                            self.sent(&bytes, segment.class, segment.doubts_way);
                        }
                        self.umem.free(segment.frame);
                    }
                    Output::Segment(segment, _) => {
                        let bytes = self.umem.bytes(&segment.frame).to_vec();
                        self.give_to_device(segment.frame);
                        self.sent(&bytes, segment.class, segment.doubts_way);
                    }
                    Output::Control => {
                        let control = self.tcp.take_control().expect("it was told of");
                        self.control(&control);
                    }
                    Output::Writable(index) => self.tcp.note_writable(index),
                    Output::Closed(index, end) => self.close(index, end),
                }
            }
        }
        self.audit();
    }

    fn poll(&mut self) -> Option<Output> {
        // A device that copies a packet is done with it at once.
        if self.joined && !self.device_keeps {
            self.tcp.poll::<true>(self.now, |_| u32::MAX, &mut self.umem)
        } else {
            self.tcp.poll::<false>(self.now, |_| 1, &mut self.umem)
        }
    }

    /// The segments that a device makes of a packet.
    fn cut(&mut self, packet: &Outgoing) -> Vec<Vec<u8>> {
        let texts: Vec<&[u8]> = self.umem.slices(&packet.frame).collect();
        assert_eq!(texts.len(), usize::from(packet.segments), "a segment for each chunk");
        self.packets_of_several += 1;
        let header_len = Packet::parse(texts[0]).unwrap().header_len();
        let (header, first) = texts[0].split_at(header_len);
        let (mut sequence, last) = (Packet::parse(texts[0]).unwrap().sequence(), texts.len() - 1);
        let mut segments = Vec::new();
        for (at, text) in std::iter::once(first).chain(texts[1..].iter().copied()).enumerate() {
            assert!(text.len() == first.len() || (at == last && text.len() < first.len()));
            let mut bytes = [header, text].concat();
            bytes[4..8].copy_from_slice(&sequence.value().to_be_bytes());
            if at < last {
                bytes[13] &= !Flags::PSH.bits();
            }
            fill_checksum(&mut bytes);
            sequence += text.len() as u32;
            segments.push(bytes);
        }
        segments
    }

    fn give_to_device(&mut self, frame: Frame) {
        let (descriptor, rest) = self.umem.lend(frame);
        assert!(rest.is_none(), "a segment lies in one chunk");
        self.with_device.push(descriptor);
        if !self.device_keeps {
            self.device_is_done();
        }
    }

    /// The device has sent what it has.
    pub(super) fn device_is_done(&mut self) {
        for descriptor in std::mem::take(&mut self.with_device) {
            assert!(self.umem.complete(descriptor.addr));
        }
    }

    /// All books balance, and every chunk is free, held by a connection, or with the device.
    fn audit(&self) {
        let steps = STEPS.get();
        if let Err((_, wrong)) = self.tcp.audit(&self.umem) {
            self.fail(&format!("it does not hold that {wrong}"));
        }
        assert_eq!(self.umem.free_chunks() + self.tcp.held() + self.lent(), CHUNKS, "chunks in all");
        // What it takes to look at everything is not what is counted.
        STEPS.set(steps);
    }

    /// Chunks that the device has alone.
    pub(super) fn lent(&self) -> u32 {
        self.umem.count(Place::Transmit)
    }

    fn control(&mut self, control: &Control) {
        let header = Header {
            source: control.tuple.local,
            destination: control.tuple.remote,
            sequence: control.seq,
            acknowledgment: control.ack,
            flags: control.flags,
            window: control.window,
            urgent: 0,
            options: &control.options,
            payload_len: 0,
        };
        let mut bytes = vec![0; header.header_len()];
        header.write(&mut bytes, Sum::default());
        self.sent(&bytes, control.class, false);
    }

    fn sent(&mut self, bytes: &[u8], class: u8, doubts_way: bool) {
        let packet = Packet::parse(bytes).unwrap();
        let port = packet.destination_port();
        if packet.flags().contains(Flags::SYN) {
            self.iss.insert(port, packet.sequence());
        }
        let seg = Seg::from_bytes(bytes, class, &self.numbers(port));
        self.note(">", &seg);
        if let Ts::Is(value, _) | Ts::First(value) = seg.timestamps {
            self.last_ts = value;
        }
        let takes_room = !seg.text.is_empty() || seg.flags.contains(Flags::FIN);
        if takes_room && port == PEER.1 && seg.end().wrapping_sub(self.edge) as i32 > 0 {
            self.fail("beyond the largest window that the peer ever offered");
        }
        if port == PEER.1 && !seg.flags.contains(Flags::RST) && seg.end().wrapping_sub(self.end) as i32 > 0 {
            self.end = seg.end();
        }
        self.out.push_back(Sent { at: self.time(), seg, doubts_way });
    }

    /// The next segment has to be this one, and to have come out now.
    #[track_caller]
    pub(super) fn expect(&mut self, expected: Seg) -> &mut Self {
        let Some(sent) = self.out.pop_front() else { self.fail(&format!("nothing came, and not: {expected}")) };
        self.compare(&expected, &sent.seg);
        self
    }

    #[track_caller]
    fn compare(&self, expected: &Seg, sent: &Seg) {
        let mut wanted = expected.clone();
        wanted.window = wanted.window.or(sent.window);
        if std::mem::take(&mut wanted.seq_is_absolute) {
            wanted.seq = SeqNum::new(expected.seq).since(self.numbers(expected.port).ours);
        }
        let may_lack_ts = !self.timestamps || sent.flags.contains(Flags::RST);
        wanted.timestamps = match (expected.timestamps, sent.timestamps) {
            (Ts::Usual, Ts::No) if may_lack_ts => Ts::No,
            // What a segment echoes is left to those scripts that are about it; the time is always right.
            (Ts::Usual, Ts::Is(_, echo)) if self.timestamps => Ts::Is(self.ticks(), echo),
            (expected, _) => expected,
        };
        if wanted != *sent {
            let text = if wanted.text == sent.text { "" } else { " (the text differs)" };
            self.fail(&format!("expected: {wanted}\nand not:  {sent}{text}"));
        }
    }

    /// The next segment, whatever it is.
    #[track_caller]
    pub(super) fn take(&mut self) -> Seg {
        let Some(sent) = self.out.pop_front() else { self.fail("nothing came") };
        sent.seg
    }

    /// Everything that came out and was not looked at.
    pub(super) fn take_all(&mut self) -> Vec<Sent> {
        self.out.drain(..).collect()
    }

    /// Nothing came out that was not expected.
    #[track_caller]
    pub(super) fn expect_nothing(&mut self) -> &mut Self {
        if let Some(sent) = self.out.front() {
            self.fail(&format!("not expected, at {} ms: {}", sent.at.0, sent.seg));
        }
        self
    }

    /// What the application was told since it was last asked.
    pub(super) fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    // How time passes.

    /// Lets time pass until so many milliseconds after the script began. Nothing may come out before.
    #[track_caller]
    pub(super) fn at(&mut self, ms: u64) -> &mut Self {
        self.at_us(ms * 1000)
    }

    /// The same, in microseconds.
    #[track_caller]
    pub(super) fn at_us(&mut self, us: u64) -> &mut Self {
        self.expect_nothing();
        let until = self.start + Duration::from_micros(us);
        assert!(until >= self.now, "time does not go back");
        while self.step(until) {
            self.expect_nothing();
        }
        self.now = until;
        self.flush();
        self
    }

    /// Lets time pass, and says what came out meanwhile.
    pub(super) fn run_until(&mut self, ms: u64) -> Vec<Sent> {
        let until = self.start + Duration::from_millis(ms);
        while self.step(until) {}
        self.now = until;
        self.flush();
        self.take_all()
    }

    /// On to the next deadline before `until`, if there is one.
    fn step(&mut self, until: Instant) -> bool {
        let Some(next) = self.tcp.next_deadline().filter(|&next| next < until) else { return false };
        // Who could not send for lack of memory tries again a little later.
        self.now = if next <= self.now { self.now + Duration::from_micros(100) } else { next };
        if self.now >= until {
            return false;
        }
        self.flush();
        true
    }

    /// A turn in which several things happen before anything is sent.
    pub(super) fn turn(&mut self, act: impl FnOnce(&mut Self)) -> &mut Self {
        self.in_turn = true;
        act(self);
        self.in_turn = false;
        self.flush();
        self
    }

    // Where things stand.

    /// The state of the connection with the peer's usual port, by its name in the RFC.
    pub(super) fn state(&self) -> &'static str {
        let tuple = Tuple { local: OUR, remote: PEER };
        match self.tcp.tables.find(&tuple) {
            Some((Kind::Connection, index)) => self.tcp.tables.connections.get(index).unwrap().state.name(),
            Some((Kind::Embryo, _)) => "SYN-RECEIVED",
            Some((Kind::TimeWait, _)) => "TIME-WAIT",
            None if self.tcp.listens_at(OUR) => "LISTEN",
            None => "CLOSED",
        }
    }

    /// The control block of the connection that the application means.
    #[track_caller]
    pub(super) fn tcb(&self) -> &Tcb {
        self.tcp.tables.connections.get(self.index).unwrap_or_else(|| self.fail("there is no connection"))
    }

    pub(super) fn counters(&self) -> &Counters {
        self.tcp.counters()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect_nothing();
            self.device_is_done();
            self.audit();
        }
    }
}
