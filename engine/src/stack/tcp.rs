//! TCP in the stack: segments in, events to the application, segments out.

use crate::app::{App, Closed};
use crate::base::{Burst, DropReason, Frame, Instant, Note, Umem, UnsentReason};
use crate::network::icmp::Quoted;
use crate::transport::tcp::path::PathError;
use crate::transport::tcp::segment::{Control, Segment};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{End, Events, Outgoing, Output, Tcp};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{self, Mac, Priority};
use crate::wire::ip::IpAddress;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::Packet;
use crate::wire::{ipv4, tcp};

use super::connection::{Conversation, id};
use super::egress::{Egress, NextHop, Way};
use super::{Inbound, Stack};

/// The packet that a segment lies in, as far as TCP has to know it.
pub(super) struct Carrier {
    /// Where the segment begins in its frame.
    pub(super) at: usize,
    /// Bytes of it.
    pub(super) len: usize,
    pub(super) source: IpAddress,
    pub(super) destination: IpAddress,
    pub(super) class: u8,
}

/// The place of what is of no connection.
const NO_CONNECTION: u32 = u32::MAX;

impl<A: App> Stack<A> {
    /// Digests a TCP segment, and puts out what is to be answered at once.
    #[inline(never)]
    pub(super) fn tcp(&mut self, now: Instant, inbound: &Inbound, frame: Frame, umem: &mut Umem, out: &mut Burst) {
        let Inbound { source, destination, traffic_class: class, payload_at: at, payload_len: len, .. } = *inbound;
        let carrier = Carrier { at, len, source, destination, class };
        self.read_segment(now, &carrier, |_, _| Some(*inbound), frame, umem, out);
    }

    /// The same of a segment that some packet carries. `from` finds out where that came from, in a frame with all headers:
    /// only answers at once have to know.
    #[inline(always)]
    pub(super) fn read_segment(
        &mut self,
        now: Instant,
        carrier: &Carrier,
        from: impl FnOnce(&Frame, &Umem) -> Option<Inbound>,
        mut frame: Frame,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let Carrier { at, len, source, destination, class } = *carrier;
        let bytes = umem.bytes(&frame).get(at..at + len).unwrap_or_default();
        let mut segment = Segment::EMPTY;
        if let Err(reason) = segment.read(bytes, source, destination, class, self.checksum) {
            self.egress.counters.drop(reason);
            return umem.free(frame);
        }
        let priority = self.egress.tags.priority_in(umem.bytes(&frame));
        let text_at = at + usize::from(segment.header_len);
        let whole = Umem::narrow(&mut frame, text_at, segment.len as usize);
        debug_assert!(whole, "a segment lies within its frame");
        let inbound = |frame: &mut Frame, umem: &mut Umem| {
            let uncovered = umem.prepend_len(frame, text_at as u16).is_some();
            debug_assert!(uncovered, "the headers are in front of the text");
            let inbound = from(frame, umem);
            let covered = Umem::narrow(frame, text_at, 0);
            debug_assert!(covered);
            inbound
        };
        self.take_segment(now, inbound, (&segment, priority), frame, umem, out);
    }

    /// The same of one whose text lies in several chunks: the sum of each part's bytes is written on it.
    #[inline(never)]
    pub(super) fn tcp_long(
        &mut self,
        now: Instant,
        inbound: &Inbound,
        mut frame: Frame,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let mut segment = Segment::EMPTY;
        if let Err(reason) = self.read_long(inbound, &mut frame, &mut segment, umem) {
            self.egress.counters.drop(reason);
            return umem.free(frame);
        }
        let priority = inbound.ethernet.tags.priority();
        self.take_segment(now, |_, _| Some(*inbound), (&segment, priority), frame, umem, out);
    }

    /// Takes the segment apart that a chain holds; what is left in that is its text.
    fn read_long(
        &self,
        inbound: &Inbound,
        frame: &mut Frame,
        segment: &mut Segment,
        umem: &mut Umem,
    ) -> Result<(), DropReason> {
        let first = umem.bytes(frame).get(inbound.payload_at..).unwrap_or_default();
        let header_len = Packet::parse(first)?.header_len();
        let mut header = [0; tcp::MAX_LEN];
        let (Some(header), Some(written)) = (header.get_mut(..header_len), first.get(..header_len)) else {
            return Err(DropReason::TcpHeaderLength);
        };
        header.copy_from_slice(written);
        let (text_at, first_len) = (inbound.payload_at + header_len, usize::from(frame.len()));
        if !Umem::narrow(frame, text_at, first_len.saturating_sub(text_at)) {
            return Err(DropReason::TcpHeaderLength);
        }
        let (mut text, mut len) = (Sum::default(), 0);
        umem.annotate_parts(frame, |bytes| {
            let sum = Sum::default().add_bytes(bytes).fold();
            text = text.add_piece(sum, len);
            len += bytes.len();
            Note { sum, ..Note::EMPTY }
        });
        let Inbound { source, destination, traffic_class, .. } = *inbound;
        segment.read_long(header, (text, len), (source, destination), traffic_class, self.checksum)
    }

    /// Hands a segment whose text is what the frame holds to TCP. A part of all its callers: one of them is the fast path.
    #[inline(always)]
    fn take_segment(
        &mut self,
        now: Instant,
        inbound: impl FnOnce(&mut Frame, &mut Umem) -> Option<Inbound>,
        (segment, priority): (&Segment, Priority),
        frame: Frame,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let Some(tcp) = &mut self.tcp else { return umem.free(frame) };
        let mut verdict = tcp.receive(segment, frame, now, umem);
        match verdict.outcome {
            Ok(()) => self.egress.counters.delivered += 1,
            Err(reason) => self.egress.counters.drop(reason),
        }
        if let Some(mut frame) = verdict.frame.take() {
            match verdict.replies.then(|| inbound(&mut frame, umem)).flatten() {
                Some(inbound) => self.reply(&inbound, frame, now, umem, out),
                None => umem.free(frame),
            }
        }
        if let Some(index) = verdict.connection {
            if verdict.events.opened
                && let Some(kept) = self.egress.priorities.get_mut(index as usize)
            {
                *kept = priority;
            }
            self.tell_app(index, verdict.events, now, umem);
        }
    }

    /// Answers a segment at once, in its own frame.
    #[inline(never)]
    fn reply(&mut self, inbound: &Inbound, mut frame: Frame, now: Instant, umem: &mut Umem, out: &mut Burst) {
        let Some(reply) = self.tcp.as_mut().and_then(Tcp::take_control) else { return umem.free(frame) };
        umem.cut_chain(&frame);
        let emptied = umem.set_len(&mut frame, 0);
        debug_assert!(emptied);
        if self.egress.write_control(&reply, &mut frame, umem) {
            self.egress.send_back(inbound, frame, now, umem, out);
        } else {
            umem.free(frame);
            self.egress.unsent(UnsentReason::TooLong);
        }
    }

    /// Tells the application what happened to a connection, in the order in which it may matter.
    fn tell_app(&mut self, index: u32, events: Events, now: Instant, umem: &mut Umem) {
        let Self { tcp: Some(tcp), app, sessions, egress, .. } = self else { return };
        if events.opened {
            renew(sessions, index);
            let remote = tcp.tuple(index).map(|tuple| tuple.remote.0);
            // RFC 1191, section 6.3, and RFC 8201, section 5.2: what is known of a path is shared by all who use it.
            if let Some(remote) = remote.filter(|_| egress.paths.least() < egress.paths.link()) {
                tcp.path_was_narrow(index, egress.paths.to(remote, now), now);
            }
        }
        let Some(session) = sessions.get_mut(index as usize) else { return tcp.settle(index) };
        let mut connection = Conversation::new(tcp, umem, index, now);
        if events.opened {
            app.opened(now, session, &mut connection);
        }
        if events.data || events.urgent {
            app.data(now, session, &mut connection);
        }
        if events.finished {
            app.finished(now, session, &mut connection);
        }
        if events.writable {
            connection.note_writable();
            app.writable(now, session, &mut connection);
        }
        drop(connection);
        if let Some(end) = events.closed
            && !tcp.put_off_end(index, end)
        {
            self.end_connection(index, end, now, umem);
        }
    }

    fn end_connection(&mut self, index: u32, end: End, now: Instant, umem: &mut Umem) {
        let Self { tcp: Some(tcp), app, sessions, .. } = self else { return };
        if let Some(session) = sessions.get_mut(index as usize) {
            app.closed(now, session, id(tcp, index), closed(end));
        }
        tcp.close(index, end, now, umem);
        if let Some(kept) = self.egress.priorities.get_mut(index as usize) {
            *kept = Priority::default();
        }
    }

    /// Puts out what connections have to send, as far as there is room.
    pub(super) fn transmit_tcp(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        if let Some(tcp) = &mut self.tcp {
            tcp.expire(now, umem);
        }
        if self.egress.joins_segments() {
            self.transmit_joined(now, umem, out);
        } else {
            self.transmit_segments::<false>(now, umem, out);
        }
    }

    /// Kept apart, so that it costs nothing where the device cuts up nothing.
    #[inline(never)]
    fn transmit_joined(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        self.transmit_segments::<true>(now, umem, out);
    }

    #[inline(always)]
    fn transmit_segments<const JOINED: bool>(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        // Segments in the packets that the device makes several of: a turn is not longer for those.
        let mut inside = 0;
        while out.room() > inside {
            let Self { tcp: Some(tcp), egress, .. } = self else { return };
            let room = (out.room() - inside) as u32;
            // A packet of several cannot wait for its neighbor.
            let most = |tuple: &Tuple| match egress.known_way(tuple.local.0, tuple.remote.0, now) {
                Some(_) => room,
                None => 1,
            };
            match tcp.poll::<JOINED>(now, most, umem) {
                Some(Output::Segment(segment, index)) => {
                    if JOINED {
                        inside += usize::from(segment.segments) - 1;
                    }
                    let Some(tuple) = tcp.tuple(index) else {
                        umem.free(segment.frame);
                        egress.unsent(UnsentReason::NoRoute);
                        continue;
                    };
                    egress.send_segment::<JOINED>(segment, (tuple, index), || tcp.heard_at(index), now, umem, out);
                }
                Some(Output::Control) => {
                    let Some(control) = tcp.take_control() else { continue };
                    if let Some(frame) = umem.alloc() {
                        egress.send_control_from(&control, frame, now, umem, out);
                    } else {
                        self.egress.unsent(UnsentReason::NoChunk);
                    }
                }
                Some(Output::Writable(index)) => {
                    let events = Events { writable: true, ..Events::default() };
                    self.tell_app(index, events, now, umem);
                }
                Some(Output::Closed(index, end)) => self.end_connection(index, end, now, umem),
                None => return,
            }
        }
    }

    /// Hands an ICMP error to the connection that it is about. Whether it was of use there.
    pub(super) fn tcp_error(&mut self, now: Instant, error: PathError, quoted: &Quoted, umem: &mut Umem) -> bool {
        let (Some(tcp), ipv4::TCP) = (&mut self.tcp, quoted.protocol) else { return false };
        let [a, b, c, d, rest @ ..] = quoted.transport;
        let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let tuple = Tuple { local: (quoted.source, source_port), remote: (quoted.destination, destination_port) };
        let useful = tcp.path_error(error, &tuple, SeqNum::new(u32::from_be_bytes(rest)), now, umem);
        // That the number is under way is the proof, and other connections and datagrams take the same path.
        if let Some(mtu) = tcp.take_narrowed() {
            self.egress.paths.learn(quoted.destination, mtu, now);
            self.egress.hurry_upkeep();
        }
        useful
    }
}

/// Gives a connection's place a session of its own.
pub(super) fn renew<S: Default>(sessions: &mut Vec<S>, index: u32) {
    match sessions.get_mut(index as usize) {
        Some(session) => *session = S::default(),
        // Places are first used in order, and there is room for all of them.
        None => sessions.push(S::default()),
    }
}

pub(super) const fn closed(end: End) -> Closed {
    match end {
        End::Finished => Closed::Finished,
        End::Reset => Closed::Reset,
        End::Refused => Closed::Refused,
        End::TimedOut => Closed::TimedOut,
        End::Unreachable => Closed::Unreachable,
        End::Aborted => Closed::Aborted,
    }
}

impl Egress {
    /// Sends a segment of the connection in a place, which had a sign of its progress at `heard_at`: that is asked for only
    /// where the way is to be found out.
    #[inline(always)]
    fn send_segment<const JOINED: bool>(
        &mut self,
        segment: Outgoing,
        (tuple, index): (&Tuple, u32),
        heard_at: impl FnOnce() -> Option<Instant>,
        now: Instant,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let (ours, theirs) = (tuple.local.0, tuple.remote.0);
        match self.known_way(ours, theirs, now).filter(|_| !segment.doubts_way) {
            Some(mac) => self.send_segment_to::<JOINED>(mac, segment, (tuple, index), umem, out),
            None => self.send_segment_somehow::<JOINED>(segment, (tuple, index), heard_at(), now, umem, out),
        }
    }

    /// The same where the neighbor's MAC address is known.
    #[inline(always)]
    fn send_segment_to<const JOINED: bool>(
        &mut self,
        mac: Mac,
        segment: Outgoing,
        (tuple, index): (&Tuple, u32),
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let Outgoing { mut frame, segments, class, .. } = segment;
        let most_bytes = if JOINED && segments > 1 { u16::MAX } else { self.paths.link() };
        if self.write_headers(&mut frame, umem, (tuple, index), (class, most_bytes), mac) {
            self.counters.originated += if JOINED { u64::from(segments) } else { 1 };
            self.forward(frame, umem, out);
        } else {
            umem.free(frame);
            self.unsent(UnsentReason::TooLong);
        }
    }

    /// The same where it is to be found out first.
    #[inline(never)]
    fn send_segment_somehow<const JOINED: bool>(
        &mut self,
        segment: Outgoing,
        (tuple, index): (&Tuple, u32),
        heard_at: Option<Instant>,
        now: Instant,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let Some(next_hop) = self.routes.next_hop(tuple.remote.0) else {
            umem.free(segment.frame);
            return self.unsent(UnsentReason::NoRoute);
        };
        if segment.doubts_way {
            self.neighbors.doubt(next_hop, now);
        }
        if let Some(heard_at) = heard_at {
            self.neighbors.progressed(next_hop, heard_at, now);
        }
        let mac = self.find_way(tuple.local.0, tuple.remote.0, now);
        if mac != Mac::ZERO {
            return self.send_segment_to::<JOINED>(mac, segment, (tuple, index), umem, out);
        }
        let Outgoing { mut frame, class, shared, .. } = segment;
        if !self.write_ip(&mut frame, umem, &self.tcp_way(tuple, class), ipv4::TCP) {
            umem.free(frame);
            return self.unsent(UnsentReason::TooLong);
        }
        // It cannot wait on two queues at once: what waits for the neighbor is a copy.
        let waiting = if shared { umem.duplicate(&frame) } else { None };
        let waiting = match (shared, waiting) {
            (false, _) => frame,
            (true, copy) => {
                umem.free(frame);
                let Some(copy) = copy else { return self.unsent(UnsentReason::NoChunk) };
                copy
            }
        };
        self.send_via(
            NextHop { address: next_hop, tags: self.tags_of(index), came_from: None },
            waiting,
            now,
            umem,
            out,
        );
    }

    /// Puts an IP and an Ethernet header in front of a connection's segment; in one go, where both are plain.
    #[inline(always)]
    fn write_headers(
        &self,
        frame: &mut Frame,
        umem: &mut Umem,
        (tuple, index): (&Tuple, u32),
        (class, most_bytes): (u8, u16),
        to: Mac,
    ) -> bool {
        let ends = (tuple.local.0.to_v4(), tuple.remote.0.to_v4());
        let ((Some(source), Some(destination)), 0) = (ends, self.tags.count()) else {
            let way = self.tcp_way(tuple, class);
            let tags = self.tags_of(index);
            return self.write_ip_up_to(most_bytes, frame, umem, &way, ipv4::TCP)
                && self.write_ethernet(frame, umem, to, tags);
        };
        let len = umem.packet_len(frame);
        if len + ipv4::LEN > usize::from(most_bytes) {
            return false;
        }
        let (traffic_class, ttl, protocol) = (self.marked(class), self.tcp_hop_limits.v4, ipv4::TCP);
        let link = ethernet::Header { destination: to, source: self.mac, tags: self.tags, ethertype: ethernet::IPV4 };
        let header = ipv4::Header { traffic_class, payload_len: len as u16, ttl, protocol, source, destination };
        let Some(out) = umem.prepend::<{ ethernet::LEN + ipv4::LEN }>(frame) else { return false };
        let Some((front, back)) = out.split_first_chunk_mut() else { return false };
        link.write_untagged(front);
        back.first_chunk_mut().map(|out| header.write(out)).is_some()
    }

    /// Sends a segment without text that answers nothing.
    fn send_control_from(&mut self, control: &Control, frame: Frame, now: Instant, umem: &mut Umem, out: &mut Burst) {
        let mut frame = frame;
        let header = control_header(control);
        let Some(room) = umem.prepend_len(&mut frame, header.header_len() as u16) else {
            umem.free(frame);
            return self.unsent(UnsentReason::TooLong);
        };
        header.write(room, Sum::default());
        let segment = Outgoing { frame, segments: 1, class: control.class, shared: false, doubts_way: false };
        self.send_segment::<false>(segment, (&control.tuple, NO_CONNECTION), || None, now, umem, out);
    }

    /// Writes the TCP and the IP header of a segment without text.
    fn write_control(&self, control: &Control, frame: &mut Frame, umem: &mut Umem) -> bool {
        let header = control_header(control);
        let Some(room) = umem.prepend_len(frame, header.header_len() as u16) else { return false };
        header.write(room, Sum::default());
        let way = self.tcp_way(&control.tuple, control.class);
        self.write_ip(frame, umem, &way, ipv4::TCP)
    }

    fn tcp_way(&self, tuple: &Tuple, traffic_class: u8) -> Way {
        let (source, destination) = (tuple.local.0, tuple.remote.0);
        let traffic_class = self.marked(traffic_class);
        Way { source, destination, traffic_class, flow_label: 0, hop_limit: self.tcp_hop_limits.to(destination) }
    }
}

const fn control_header(control: &Control) -> tcp::Header<'_> {
    tcp::Header {
        source: control.tuple.local,
        destination: control.tuple.remote,
        sequence: control.seq,
        acknowledgment: control.ack,
        flags: control.flags,
        window: control.window,
        urgent: 0,
        options: &control.options,
        payload_len: 0,
    }
}

/// The keys of TCP's hashes, one apart from the other, from the secret of the stack.
pub(super) fn keys(secret: [u64; 2]) -> [[u64; 2]; 5] {
    use std::hash::Hasher;

    use siphasher::sip::SipHasher13;
    let word = |n: u64| {
        let mut hasher = SipHasher13::new_with_keys(secret[0], secret[1]);
        hasher.write_u64(n);
        hasher.finish()
    };
    std::array::from_fn(|key| [word(2 * key as u64), word(2 * key as u64 + 1)])
}

/// A TCP for a stack.
pub(super) fn tcp_of(config: &super::StackConfig, now: Instant) -> Option<Tcp> {
    let tcp = config.tcp.clone()?;
    Some(Tcp::new(tcp, keys(config.secret), now))
}
