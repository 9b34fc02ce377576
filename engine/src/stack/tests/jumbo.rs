//! Frames that are longer than a chunk, as they are where the MTU is 9,000.

use super::*;
use crate::base::Descriptor;
use crate::wire::checksum::pseudo_header;

/// Bytes of a frame that the kernel puts into a chunk of 4,096.
const PART: usize = 3840;
const CHUNKS: u32 = 64;

fn jumbo() -> StackConfig {
    StackConfig { mtu: 9000, ..config() }
}

struct Long {
    host: Host<Echo>,
}

/// A frame that was put out: the chunks that it lies in, and its bytes.
struct Sent {
    chunks: Vec<u32>,
    bytes: Vec<u8>,
}

impl Long {
    fn new(config: &StackConfig) -> Self {
        let umem = UmemConfig { chunks: CHUNKS, chunk_size: ChunkSize::Bytes4096, huge_pages: false };
        Self { host: Host { umem: Umem::new(umem).unwrap(), ..Host::new(config, Echo) } }
    }

    /// The frame as it is received: in chunks with `first` bytes, then with as many as they take; and which they are.
    fn received(&mut self, bytes: &[u8], first: usize) -> (Frame, Vec<u32>) {
        let (head, rest) = bytes.split_at(first.min(bytes.len()));
        let (mut whole, mut chunks): (Option<Frame>, _) = (None, Vec::new());
        for part in std::iter::once(head).chain(rest.chunks(PART)) {
            let umem = &mut self.host.umem;
            let addr = umem.lend_empty().unwrap();
            let mut frame = umem.received(Descriptor { addr: addr + 256, len: part.len() as u32 }).unwrap();
            umem.bytes_mut(&mut frame).copy_from_slice(part);
            chunks.push(frame.chunk());
            match &mut whole {
                Some(whole) => umem.append(whole, frame),
                None => whole = Some(frame),
            }
        }
        (whole.unwrap(), chunks)
    }

    /// One turn with a frame whose first chunk holds `first` bytes; gives the chunks that it was in, and what is sent.
    fn turn_with(&mut self, bytes: &[u8], first: usize) -> (Vec<u32>, Vec<Sent>) {
        let (frame, chunks) = self.received(bytes, first);
        let Host { stack, umem, now } = &mut self.host;
        let (mut received, mut out) = (Burst::new(), Burst::new());
        received.push(frame).unwrap();
        stack.receive(*now, &mut received, umem, &mut out);
        assert!(out.len() <= 1, "no more frames out than in");
        stack.transmit(*now, umem, &mut out);
        let mut sent = Vec::new();
        for frame in out.drain() {
            let bytes = umem.slices(&frame).flatten().copied().collect();
            let (mut chunks, mut next) = (Vec::new(), Some(frame));
            while let Some(part) = next {
                chunks.push(part.chunk());
                let (descriptor, rest) = umem.lend(part);
                assert!(umem.complete(descriptor.addr));
                next = rest;
            }
            sent.push(Sent { chunks, bytes });
        }
        let counters = stack.counters();
        let (dropped, held) = (counters.drops.iter().sum::<u64>(), u64::from(stack.fragments()));
        assert_eq!(counters.received, counters.delivered + dropped + held);
        assert_eq!((umem.count(Place::Queue), umem.count(Place::Held)), (stack.queued_chunks(), 0));
        (chunks, sent)
    }

    fn turn(&mut self, bytes: &[u8]) -> (Vec<u32>, Vec<Sent>) {
        self.turn_with(bytes, PART)
    }

    /// That a frame is dropped for this reason, and leaves nothing behind.
    fn drops(&mut self, bytes: &[u8], first: usize, reason: DropReason) {
        let before = self.host.dropped(reason);
        let (_, sent) = self.turn_with(bytes, first);
        assert!(sent.is_empty(), "{reason:?}");
        assert_eq!((self.host.dropped(reason), self.host.umem.free_chunks()), (before + 1, CHUNKS), "{reason:?}");
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

/// A datagram's payload, after a look at all its headers.
fn payload_of(sent: &Sent) -> Vec<u8> {
    let packet = parse(&sent.bytes);
    assert_eq!(sent.bytes.len(), ethernet::LEN + wire::ipv4::LEN + packet.payload_len(), "nothing behind it");
    let datagram = wire::udp::Packet::parse(packet.payload()).unwrap();
    assert!(datagram.checksum_is_valid(OURS.into(), PEER.into()));
    datagram.payload().to_vec()
}

#[test]
fn a_long_echo_leaves_as_one_packet_in_the_chunks_that_the_request_came_in() {
    let mut long = Long::new(&jumbo());
    for len in [3798, 3799, 3800, 8000, 8900, 8972] {
        let (chunks, sent) = long.turn(&udp(PEER, 4000, 7, &text(len)));
        let [answer] = &sent[..] else { panic!("{len}: {} frames", sent.len()) };
        assert_eq!((&answer.chunks, payload_of(answer)), (&chunks, text(len)), "{len}");
        assert_eq!(long.host.umem.free_chunks(), CHUNKS);
    }
    assert_eq!(long.host.stack.counters().udp_delivered, 6);
}

#[test]
fn headers_and_payload_may_be_parted_anywhere_behind_the_headers() {
    let mut long = Long::new(&jumbo());
    let frame = udp(PEER, 4000, 7, &text(1000));
    for first in [42, 43, 44, 500, 1041] {
        let (_, sent) = long.turn_with(&frame, first);
        assert_eq!(payload_of(&sent[0]), text(1000), "{first}");
    }
    // Of UDP's own header a part would do to tell that it is no more.
    long.drops(&frame, 41, DropReason::UdpTruncated);
    long.drops(&frame, 34, DropReason::HeadersSplit);
    long.drops(&frame, 33, DropReason::Ipv4Truncated);
    long.drops(&frame, 13, DropReason::FrameTooShort);
}

#[test]
fn a_sum_that_a_nic_was_to_complete_is_taken_of_a_long_datagram_too() {
    let mut frame = udp(PEER, 4000, 7, &text(8900));
    let pseudo = pseudo_header(PEER.into(), OURS.into(), wire::ipv4::UDP, 8908).fold();
    frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let mut long = Long::new(&jumbo());
    assert_eq!(payload_of(&long.turn(&frame).1[0]), text(8900));
    let mut long = Long::new(&StackConfig { checksum: ChecksumPolicy::Verify, ..jumbo() });
    long.drops(&frame, PART, DropReason::UdpChecksum);
}

#[test]
fn what_lies_behind_the_packet_does_not_come_back() {
    let mut long = Long::new(&jumbo());
    for (len, padding) in [(3790, 10), (3790, 4000), (3800, 1), (100, 8000), (8900, 50)] {
        let mut frame = udp(PEER, 4000, 7, &text(len));
        frame.resize(frame.len() + padding, 0xee);
        let (_, sent) = long.turn(&frame);
        assert_eq!(payload_of(&sent[0]), text(len), "{len} and {padding} more");
        assert_eq!(long.host.umem.free_chunks(), CHUNKS);
    }
}

#[test]
fn a_long_ping_is_answered_in_its_chunks() {
    let mut message = vec![icmpv4::ECHO_REQUEST, 0, 0, 0, 1, 2, 3, 4];
    message.extend(text(8900));
    let checksum = Sum::default().add_bytes(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut long = Long::new(&jumbo());
    let (chunks, sent) = long.turn(&ipv4(PEER, wire::ipv4::ICMP, &message));
    let packet = parse(&sent[0].bytes);
    assert_eq!((&sent[0].chunks, packet.payload()[0]), (&chunks, icmpv4::ECHO_REPLY));
    assert!(Sum::default().add_bytes(packet.payload()).is_valid());
    assert_eq!(packet.payload()[4..], message[4..]);
}

#[test]
fn frames_are_dropped_that_no_link_with_this_mtu_carries() {
    let mut long = Long::new(&jumbo());
    assert_eq!(long.turn(&udp(PEER, 4000, 7, &text(8972))).1.len(), 1);
    long.drops(&udp(PEER, 4000, 7, &text(8973)), PART, DropReason::FrameTooLong);
    let mut request = arp(wire::arp::Operation::Request, PEER, OURS);
    request.resize(4000, 0);
    long.drops(&request, PART, DropReason::FrameTooLong);
    let mut short = udp(PEER, 4000, 7, &text(8000));
    short.truncate(8000);
    long.drops(&short, PART, DropReason::Ipv4TotalLength);
    // Where the MTU is 1,500, none is as long as two chunks.
    let mut ordinary = Long::new(&config());
    ordinary.drops(&udp(PEER, 4000, 7, &text(3900)), PART, DropReason::FrameTooLong);
}

#[test]
fn a_refused_long_datagram_is_quoted() {
    let mut long = Long::new(&jumbo());
    let frame = udp(PEER, 4000, 8, &text(8900));
    let (chunks, sent) = long.turn(&frame);
    let packet = parse(&sent[0].bytes);
    assert_eq!((&sent[0].chunks[..], packet.protocol()), (&chunks[..1], wire::ipv4::ICMP));
    assert_eq!(packet.payload()[..2], [3, 3], "port unreachable");
    assert_eq!(packet.payload()[8..], frame[ethernet::LEN..][..packet.payload().len() - 8]);
    assert_eq!((long.host.dropped(DropReason::UdpPortClosed), long.host.umem.free_chunks()), (1, CHUNKS));
}

#[test]
fn long_fragments_are_put_together_and_cut_to_fit_chunks() {
    let mut long = Long::new(&jumbo());
    let whole = udp(PEER, 4000, 7, &text(20_000));
    let payload = &whole[ethernet::LEN + wire::ipv4::LEN..];
    let mut answers = Vec::new();
    for (number, piece) in payload.chunks(8976).enumerate() {
        let mut frame = ipv4(PEER, wire::ipv4::UDP, piece);
        let mut header = [0; wire::ipv4::LEN];
        let payload_len = piece.len() as u16;
        wire::ipv4::Header {
            traffic_class: 0,
            payload_len,
            ttl: 64,
            protocol: wire::ipv4::UDP,
            source: PEER,
            destination: OURS,
        }
        .write_fragment(&mut header, 77, 8976 * number as u16, number < 2);
        frame[ethernet::LEN..][..wire::ipv4::LEN].copy_from_slice(&header);
        // Padding on the last.
        frame.resize(frame.len() + if number == 2 { 5000 } else { 0 }, 0xee);
        answers.extend(long.turn(&frame).1);
    }
    let mut echoed = vec![0; payload.len()];
    for answer in &answers {
        let packet = parse(&answer.bytes);
        assert!(answer.bytes.len() <= ethernet::LEN + 9000 && answer.chunks.len() == 1);
        echoed[usize::from(packet.fragment_offset())..][..packet.payload().len()].copy_from_slice(packet.payload());
    }
    assert_eq!(echoed[wire::udp::LEN..], text(20_000));
    assert_eq!((long.host.stack.fragments(), long.host.umem.free_chunks()), (0, CHUNKS));
}

#[test]
fn a_long_answer_waits_for_its_neighbor_as_it_lies() {
    let mut long = Long::new(&StackConfig { mtu: 9000, ..newcomer() });
    let (chunks, sent) = long.turn(&udp(PEER, 4000, 7, &text(8900)));
    assert!(sent.iter().all(|sent| sent.bytes[12..14] == [8, 6]), "it asks first");
    assert_eq!((long.host.stack.waiting(), long.host.stack.queued_chunks()), (1, 3));
    let (_, sent) = long.turn(&arp(wire::arp::Operation::Reply, PEER, OURS));
    let answer = sent.iter().find(|sent| sent.bytes[12..14] == [8, 0]).unwrap();
    assert_eq!((&answer.chunks, payload_of(answer)), (&chunks, text(8900)));
    assert_eq!((long.host.stack.queued_chunks(), long.host.umem.free_chunks()), (0, CHUNKS));
}
