//! Fragments in the stack: put together on the way in, cut on the way out.

use crate::app::App;
use crate::base::{Burst, DropReason, Frame, Instant, Umem, UnsentReason};
use crate::network::fragment::{Cutter, Piece, Shape, linearize};
use crate::network::icmp::Problem;
use crate::network::reassembly::{Expired, Fragment, Insertion, Outcome as Taken, Reassembled};
use crate::network::sent_lately::{Flow, header_len};
use crate::wire::ethernet::{self, Priority};
use crate::wire::ip::IpAddress;
use crate::wire::{ipv4, ipv6};

use super::egress::{Egress, NextHop, Way, put_priority, take_priority};
use super::ingress::{Accepted, Refusal};
use super::{Inbound, Stack};

/// Fragments that wait to be sent at most: of eight datagrams of the longest kind.
pub(super) const OUTGOING: u32 = 512;

impl<A: App> Stack<A> {
    pub(super) fn take_fragment(
        &mut self,
        now: Instant,
        fragment: &Fragment<Inbound>,
        mut frame: Frame,
        umem: &mut Umem,
        out: &mut Burst,
    ) {
        let Inbound { payload_at, payload_len, ethernet, .. } = fragment.context;
        let header_at = frame.offset() + ethernet.len_bytes() as u16;
        let fragment = Fragment { header_at, ..*fragment };
        if umem.is_chain(&frame) {
            umem.truncate_chain(&mut frame, fragment.context.end());
        }
        let part =
            if umem.is_chain(&frame) { usize::from(frame.len()).saturating_sub(payload_at) } else { payload_len };
        let lies_within = Umem::narrow(&mut frame, payload_at, part);
        debug_assert!(lies_within, "a packet's payload lies in its frame");
        let Insertion { outcome, evicted } = self.reassembly.insert(&fragment, frame, umem, now);
        self.egress.counters.fragments_overlapping = self.reassembly.overlaps();
        let drops = &mut self.egress.counters.drops;
        drops[DropReason::FragmentEvicted as usize] += u64::from(evicted);
        match outcome {
            Taken::Held => {}
            Taken::Dropped { reason, frames } => drops[reason as usize] += u64::from(frames),
            Taken::Problem { reason, code, pointer, frame } => {
                let problem = Problem::Header { code, pointer, even_to_group: false };
                let mut frame = restored(frame, payload_at, umem);
                let outcome = self.refuse(now, reason, problem, &fragment.context, &mut frame, umem);
                self.conclude(now, outcome, frame, umem, out);
            }
            Taken::Complete(datagram) => self.take_reassembled(now, datagram, umem, out),
        }
    }

    fn take_reassembled(&mut self, now: Instant, datagram: Reassembled<Inbound>, umem: &mut Umem, out: &mut Burst) {
        let Reassembled { frame, len, frames, protocol, traffic_class, context, .. } = datagram;
        // All but one of its frames have served their purpose now, whatever becomes of the datagram.
        self.egress.counters.delivered += u64::from(frames.saturating_sub(1));
        self.egress.counters.datagrams_reassembled += 1;
        let frame = restored(frame, context.payload_at, umem);
        let mut frame = linearize(frame, umem).unwrap_or_else(|chain| chain);
        let inbound = Inbound { payload_len: len, traffic_class, in_fragments: true, ..context };
        let outcome = match walk_on(inbound, protocol, umem.bytes(&frame)) {
            Ok(accepted) if umem.is_chain(&frame) => self.dispatch_long(now, &accepted, &mut frame, umem),
            Ok(accepted) => self.dispatch(now, &accepted, &mut frame, umem),
            Err(refusal) => self.refused(now, refusal, &mut frame, umem),
        };
        self.conclude(now, outcome, frame, umem, out);
    }

    /// Gives up on datagrams whose fragments did not all come in time, and tells their senders.
    pub(super) fn expire_fragments(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0
            && let Some(expired) = self.reassembly.expire(umem, now)
        {
            let Expired { frame, frames, context, .. } = expired;
            let Some(frame) = frame else {
                self.egress.counters.drops[DropReason::FragmentTimeout as usize] += u64::from(frames);
                continue;
            };
            // The first one is counted by what becomes of it.
            self.egress.counters.drops[DropReason::FragmentTimeout as usize] += u64::from(frames.saturating_sub(1));
            let mut frame = restored(frame, context.payload_at, umem);
            let (reason, problem) = (DropReason::FragmentTimeout, Problem::ReassemblyTimeout);
            let outcome = self.refuse(now, reason, problem, &context, &mut frame, umem);
            self.conclude(now, outcome, frame, umem, out);
        }
    }
}

/// The frame with the headers that its payload came behind.
fn restored(mut frame: Frame, payload_at: usize, umem: &mut Umem) -> Frame {
    let restored = umem.prepend_len(&mut frame, payload_at as u16).is_some();
    debug_assert!(restored, "the headers of the first fragment are in front of its payload");
    frame
}

/// What a datagram carries that was put together: of IPv6 there may be extension headers behind the fragment header.
fn walk_on(mut inbound: Inbound, protocol: u8, bytes: &[u8]) -> Result<Accepted, Refusal> {
    if inbound.source.is_v4() {
        return Ok(Accepted { inbound, protocol, named_at: ipv4::PROTOCOL_AT });
    }
    let packet_at = inbound.ethernet.len_bytes();
    let at = inbound.payload_at - packet_at;
    // Its length was checked when the first fragment came, of which perhaps not all is in this chunk.
    let packet = ipv6::Packet::parse_start(bytes.get(packet_at..).unwrap_or_default(), usize::MAX)?;
    let upper = ipv6::walk_reassembled(&packet, protocol, at, at - ipv6::FRAGMENT_LEN)
        .map_err(|error| Refusal::of(error, inbound))?;
    inbound.payload_len -= upper.at - at;
    inbound.payload_at = packet_at + upper.at;
    Ok(Accepted { inbound, protocol: upper.protocol, named_at: upper.next_header_at })
}

impl Egress {
    /// Whether an IP payload of so many bytes reaches its destination in one packet.
    #[inline]
    pub(super) fn fits(&self, payload_len: usize, destination: IpAddress, now: Instant) -> bool {
        let len = payload_len + header_len(destination.is_v4());
        len <= usize::from(self.paths.least()) || len <= usize::from(self.path_mtu(destination, now))
    }

    /// Takes note of the IP payload that a frame holds and that is about to be sent, in one packet or several.
    #[inline]
    pub(super) fn note_sent(&mut self, umem: &Umem, frame: &Frame, way: &Way, protocol: u8, now: Instant) {
        let is_v4 = way.destination.is_v4();
        let len = umem.packet_len(frame) + header_len(is_v4);
        let transport = || *umem.bytes(frame).first_chunk().unwrap_or(&[0; 8]);
        self.sent.note(|| Flow::new(way.destination, protocol, transport()), is_v4, len, now);
    }

    /// Sends the IP payload that a frame holds in fragments.
    pub(super) fn send_long(
        &mut self,
        frame: Frame,
        way: &Way,
        (protocol, priority): (u8, Priority),
        now: Instant,
        umem: &mut Umem,
    ) {
        let mtu = usize::from(self.path_mtu(way.destination, now));
        let link_len = ethernet::MAX_LEN as u16;
        let shape = if way.destination.is_v4() { Shape::v4(mtu, link_len) } else { Shape::v6(mtu, link_len) };
        let pieces = umem.packet_len(&frame).div_ceil(mtu.saturating_sub(ipv6::LEN + ipv6::FRAGMENT_LEN).max(1));
        if self.outgoing.len() + pieces as u32 > OUTGOING {
            umem.free(frame);
            return self.unsent(UnsentReason::FragmentQueueFull);
        }
        let mut cutter = match Cutter::new(frame, shape, umem) {
            Ok(cutter) => cutter,
            Err(frame) => {
                umem.free(frame);
                return self.unsent(UnsentReason::TooLong);
            }
        };
        let identification = self.identifications.next(way.source, way.destination, protocol, now);
        self.counters.datagrams_fragmented += 1;
        while let Some(piece) = cutter.next(umem) {
            match piece {
                Ok(piece) => self.send_piece(piece, way, (protocol, priority), identification, umem),
                Err(reason) => self.unsent(reason),
            }
        }
    }

    fn send_piece(
        &mut self,
        piece: Piece,
        way: &Way,
        (protocol, priority): (u8, Priority),
        identification: u32,
        umem: &mut Umem,
    ) {
        let Piece { mut frame, offset, more } = piece;
        if write_fragment(&mut frame, umem, way, protocol, (identification, offset, more))
            && put_priority(&mut frame, umem, priority)
        {
            self.outgoing.push(umem, frame);
        } else {
            umem.free(frame);
            self.unsent(UnsentReason::TooLong);
        }
    }

    /// Puts fragments out, as far as there is room.
    #[inline]
    pub(super) fn flush_outgoing(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        if !self.outgoing.is_empty() {
            self.send_outgoing(now, umem, out);
        }
    }

    fn send_outgoing(&mut self, now: Instant, umem: &mut Umem, out: &mut Burst) {
        while out.room() > 0
            && let Some(mut frame) = self.outgoing.pop(umem)
        {
            let tags = self.tags.with_priority(take_priority(&mut frame, umem));
            let next_hop = destination(umem.bytes(&frame)).and_then(|destination| self.routes.next_hop(destination));
            match next_hop {
                Some(address) => {
                    let next_hop = NextHop { address, tags, came_from: None };
                    self.send_via(next_hop, frame, now, umem, out);
                }
                None => {
                    umem.free(frame);
                    self.unsent(UnsentReason::NoRoute);
                }
            }
        }
    }
}

/// Whom an IP packet of ours is to.
fn destination(packet: &[u8]) -> Option<IpAddress> {
    if packet.first()? >> 4 == 4 {
        packet.first_chunk().map(|header| ipv4::destination(header).into())
    } else {
        packet.first_chunk().map(|header| ipv6::destination(header).into())
    }
}

/// Puts the headers of a fragment in front of its payload.
fn write_fragment(
    frame: &mut Frame,
    umem: &mut Umem,
    way: &Way,
    protocol: u8,
    (identification, offset, more): (u32, u16, bool),
) -> bool {
    let Way { traffic_class, flow_label, hop_limit, .. } = *way;
    if let (Some(source), Some(destination)) = (way.source.to_v4(), way.destination.to_v4()) {
        let payload_len = frame.len();
        let header = ipv4::Header { traffic_class, payload_len, ttl: hop_limit, protocol, source, destination };
        let write = |out| header.write_fragment(out, identification as u16, offset, more);
        return umem.prepend(frame).map(write).is_some();
    }
    let (Some(source), Some(destination)) = (way.source.to_v6(), way.destination.to_v6()) else { return false };
    let Some(out) = umem.prepend(frame) else { return false };
    ipv6::write_fragment_header(out, protocol, identification, offset, more);
    let (payload_len, next_header) = (frame.len(), ipv6::FRAGMENT);
    let header = ipv6::Header { traffic_class, flow_label, payload_len, next_header, hop_limit, source, destination };
    umem.prepend(frame).map(|out| header.write(out)).is_some()
}
