//! What is joined, cut up again as the kernel does it, is the frames that it was made of.

use std::net::Ipv6Addr;

use super::*;
use crate::base::{BURST, ChunkSize, Frame, UmemConfig};
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ip::IpAddress;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Header, Options};

const TEXT: usize = 1000;
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const THEIRS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// A segment to be.
#[derive(Clone, Copy)]
struct Plan {
    is_v6: bool,
    sequence: u32,
    acknowledgment: u32,
    flags: Flags,
    port: u16,
    text: usize,
}

impl Plan {
    const FIRST: Self =
        Self { is_v6: false, sequence: u32::MAX - 1500, acknowledgment: 7, flags: Flags::ACK, port: 4000, text: TEXT };

    /// The next one.
    fn next(self) -> Self {
        Self { sequence: self.sequence.wrapping_add(self.text as u32), ..self }
    }

    fn frame(self) -> Vec<u8> {
        let text: Vec<u8> = (0..self.text).map(|at| (self.sequence as usize + at) as u8).collect();
        let (source, destination) = if self.is_v6 {
            (IpAddress::v6(OURS_V6), IpAddress::v6(THEIRS_V6))
        } else {
            (IpAddress::v4([10, 0, 0, 2].into()), IpAddress::v4([10, 0, 0, 1].into()))
        };
        let options = Options { timestamps: Some((5, 6)), ..Options::default() };
        let header = Header {
            source: (source, 7),
            destination: (destination, self.port),
            sequence: SeqNum::new(self.sequence),
            acknowledgment: SeqNum::new(self.acknowledgment),
            flags: self.flags,
            window: 1000,
            urgent: 0,
            options: &options,
            payload_len: self.text as u16,
        };
        let mut segment = vec![0; header.header_len()];
        header.write(&mut segment, Sum::default().add_bytes(&text));
        segment.extend(text);
        packet(source, destination, &segment)
    }
}

/// The segment in a frame, as the stack writes it.
fn packet(source: IpAddress, destination: IpAddress, segment: &[u8]) -> Vec<u8> {
    let payload_len = segment.len() as u16;
    let link = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let (Some(source), Some(destination)) = (source.to_v4(), destination.to_v4()) {
        let mut header = [0; ipv4::LEN];
        ipv4::Header { source, destination, protocol: ipv4::TCP, traffic_class: 0, ttl: 64, payload_len }
            .write(&mut header);
        return [&link[..], &[0x08, 0x00], &header, segment].concat();
    }
    let mut header = [0; ipv6::LEN];
    let (source, destination) = (source.to_v6().unwrap(), destination.to_v6().unwrap());
    let (next_header, hop_limit) = (ipv4::TCP, 64);
    ipv6::Header { source, destination, next_header, traffic_class: 0, flow_label: 9, hop_limit, payload_len }
        .write(&mut header);
    [&link[..], &[0x86, 0xdd], &header, segment].concat()
}

/// A burst of frames, and their memory.
fn burst(frames: &[Vec<u8>]) -> (Umem, Burst) {
    let mut umem = Umem::new(UmemConfig { chunks: 64, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap();
    let mut burst = Burst::new();
    for bytes in frames {
        let mut frame: Frame = umem.alloc().unwrap();
        assert!(umem.set_len(&mut frame, bytes.len()));
        umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        burst.push(frame).unwrap();
    }
    (umem, burst)
}

/// Frames before those that are joined, and how many those are.
fn found(frames: &[Vec<u8>]) -> (usize, usize) {
    let (umem, burst) = burst(frames);
    let (before, joined) = Joined::first(&burst, false, &umem);
    (before, joined.map_or(0, |joined| joined.frames))
}

/// What the kernel makes of it (`tcp_gso_segment`, `inet_gso_segment`), but for the identification, which nobody needs.
fn cut_up(joined: &Joined, text: &[u8]) -> Vec<Vec<u8>> {
    let header = joined.header();
    let Layout { is_v6, tcp_at, text_at } = joined.layout;
    let pieces = text.chunks(joined.segment_len);
    let last = pieces.len() - 1;
    pieces
        .enumerate()
        .map(|(at, text)| {
            let mut frame = [header, text].concat();
            let behind = (at * joined.segment_len) as u32;
            let sequence = joined.layout.sequence(header).unwrap().wrapping_add(behind);
            frame[tcp_at + SEQUENCE..tcp_at + ACKNOWLEDGMENT].copy_from_slice(&sequence.to_be_bytes());
            if at < last {
                frame[tcp_at + FLAGS] &= !Flags::PSH.bits();
            }
            let len = (text_at - tcp_at + text.len()) as u16;
            let ip = &mut frame[ethernet::LEN..];
            let addresses = if is_v6 {
                ip[V6_LENGTH..V6_NEXT_HEADER].copy_from_slice(&len.to_be_bytes());
                ipv6::address_sum(ip.first_chunk().unwrap())
            } else {
                ip[V4_LENGTH..V4_IDENTIFICATION].copy_from_slice(&(len + ipv4::LEN as u16).to_be_bytes());
                ip[V4_CHECKSUM..V4_ADDRESSES].copy_from_slice(&[0; 2]);
                let checksum = Sum::default().add_bytes(&ip[..ipv4::LEN]).checksum();
                ip[V4_CHECKSUM..V4_ADDRESSES].copy_from_slice(&checksum.to_be_bytes());
                ipv4::address_sum(ip.first_chunk().unwrap())
            };
            frame[tcp_at + CHECKSUM..tcp_at + URGENT].copy_from_slice(&[0; 2]);
            let pseudo = addresses.add_values([u16::from(ipv4::TCP), len]);
            let checksum = pseudo.add_bytes(&frame[tcp_at..]).checksum();
            frame[tcp_at + CHECKSUM..tcp_at + URGENT].copy_from_slice(&checksum.to_be_bytes());
            frame
        })
        .collect()
}

#[test]
fn what_is_joined_and_cut_up_is_the_same_frames() {
    for is_v6 in [false, true] {
        let mut plan = Plan { is_v6, ..Plan::FIRST };
        let mut frames = Vec::new();
        for count in 0..5 {
            if count == 4 {
                (plan.text, plan.flags) = (333, Flags::ACK | Flags::PSH);
            }
            frames.push(plan.frame());
            plan = plan.next();
        }
        let (umem, burst) = burst(&frames);
        let (before, joined) = Joined::first(&burst, false, &umem);
        let joined = joined.unwrap();
        assert_eq!((before, joined.frames, joined.segment_len), (0, 5, TEXT));
        let text_at = joined.layout.text_at;
        let text: Vec<u8> = burst.iter().flat_map(|frame| umem.bytes(frame)[text_at..].to_vec()).collect();
        assert_eq!(cut_up(&joined, &text), frames);
    }
}

/// A packet of two segments, as the stack makes it.
fn packet_of_two(second: usize) -> (Umem, Burst) {
    let mut frame = Plan::FIRST.frame();
    let ip = &mut frame[ethernet::LEN..];
    let short = ipv4::total_len(ip.first_chunk().unwrap());
    let long = short + second as u16;
    let checksum = updated(u16::from_be_bytes([ip[V4_CHECKSUM], ip[V4_CHECKSUM + 1]]), short, long);
    ip[V4_LENGTH..V4_IDENTIFICATION].copy_from_slice(&long.to_be_bytes());
    ip[V4_CHECKSUM..V4_ADDRESSES].copy_from_slice(&checksum.to_be_bytes());
    let (mut umem, mut both) = burst(&[frame, vec![7; second]]);
    let mut parts = both.take(2);
    let (mut head, tail) = (parts.next().unwrap(), parts.next().unwrap());
    drop(parts);
    umem.append(&mut head, tail);
    both.push(head).unwrap();
    (umem, both)
}

#[test]
fn a_packet_of_several_segments_is_cut_up_where_its_chunks_end() {
    for second in [TEXT, 1] {
        let (umem, burst) = packet_of_two(second);
        let (before, joined) = Joined::first(&burst, false, &umem);
        let joined = joined.unwrap();
        assert_eq!((before, joined.frames, joined.segments, joined.segment_len), (0, 1, 2, TEXT));
        assert!(Sum::default().add_bytes(&joined.header()[ethernet::LEN..][..ipv4::LEN]).is_valid());
        let text: Vec<u8> =
            umem.slices(burst.iter().next().unwrap()).flatten().copied().skip(joined.layout.text_at).collect();
        assert_eq!(cut_up(&joined, &text)[0], Plan { flags: Flags::ACK, ..Plan::FIRST }.frame());
    }
    let (umem, burst) = packet_of_two(TEXT);
    assert!(Joined::first(&burst, true, &umem).1.is_none(), "where chains are frames longer than a chunk");
}

#[test]
fn the_header_of_all_is_one_segments_with_the_pseudo_headers_sum() {
    let frames = [Plan::FIRST.frame(), Plan::FIRST.next().frame()];
    let (umem, burst) = burst(&frames);
    let joined = Joined::first(&burst, false, &umem).1.unwrap();
    let header = joined.header();
    let ip: &[u8; ipv4::LEN] = header[ethernet::LEN..].first_chunk().unwrap();
    let segment_len = (joined.layout.text_at - joined.layout.tcp_at + 2 * TEXT) as u16;
    assert_eq!(ipv4::total_len(ip), ipv4::LEN as u16 + segment_len);
    assert!(Sum::default().add_bytes(ip).is_valid(), "the header's own checksum is right");
    let (source, destination) = (IpAddress::v4(ipv4::source(ip)), IpAddress::v4(ipv4::destination(ip)));
    let pseudo = pseudo_header(source, destination, ipv4::TCP, segment_len).fold();
    assert_eq!(header[joined.layout.tcp_at + CHECKSUM..][..2], pseudo.to_be_bytes());
}

#[test]
fn only_what_differs_in_nothing_else_is_joined() {
    let first = Plan::FIRST;
    let next = first.next();
    let pair = |next: Plan| found(&[first.frame(), next.frame()]);
    assert_eq!(pair(next), (0, 2));
    for other in [
        Plan { sequence: next.sequence.wrapping_add(1), ..next },
        Plan { sequence: first.sequence, ..next },
        Plan { acknowledgment: 8, ..next },
        Plan { port: 4001, ..next },
        Plan { flags: Flags::ACK | Flags::FIN, ..next },
        Plan { flags: Flags::ACK | Flags::CWR, ..next },
        Plan { text: TEXT + 1, ..next },
        Plan { text: 0, ..next },
        Plan { is_v6: true, ..next },
    ] {
        assert_eq!(pair(other), (2, 0));
    }
    let pushed = Plan { flags: Flags::ACK | Flags::PSH, ..first };
    assert_eq!(found(&[pushed.frame(), pushed.next().frame()]), (2, 0), "PSH would move to the last one");
    let mut tagged = [first.frame(), next.frame()];
    tagged.iter_mut().for_each(|frame| drop(frame.splice(12..12, [0x81, 0, 0, 5])));
    assert_eq!(found(&tagged), (2, 0), "tags");
}

#[test]
fn a_shorter_segment_is_the_last_one_and_what_lies_before_is_told() {
    let small = Plan { text: 10, ..Plan::FIRST };
    let first = small.next();
    let frames = [small, Plan { text: TEXT, ..first }].map(Plan::frame);
    let mut plan = Plan { text: TEXT, ..first }.next();
    let mut frames = frames.to_vec();
    frames.push(plan.frame());
    plan = Plan { text: 600, ..plan.next() };
    frames.push(plan.frame());
    frames.push(Plan { text: 600, ..plan.next() }.frame());
    assert_eq!(found(&frames), (1, 3));
}

#[test]
fn no_more_is_joined_than_a_packet_can_hold() {
    let mut plan = Plan { text: 1448, ..Plan::FIRST };
    let mut frames = Vec::new();
    for _ in 0..BURST {
        frames.push(plan.frame());
        plan = plan.next();
    }
    assert_eq!(found(&frames), (0, 45), "45 x 1,448 bytes and 52 of headers are 65,212");
}

#[test]
fn frames_that_are_anything_else_are_left_alone() {
    assert_eq!(found(&[]), (0, 0));
    let mut datagram = Plan::FIRST.frame();
    datagram[ethernet::LEN + 9] = ipv4::UDP;
    assert_eq!(found(&[datagram.clone(), datagram]), (2, 0));
    assert_eq!(found(&[vec![0xff; 1000], vec![0; 1000], vec![0; 13]]), (3, 0));
    for len in [0, 14, 33, 54, 700] {
        let mut cut = Plan::FIRST.frame();
        cut.truncate(len);
        assert_eq!(found(&[cut.clone(), cut]), (2, 0), "{len} bytes");
    }
}
