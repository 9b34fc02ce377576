//! What cutting promises; and that what is cut is put together again.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::base::{ChunkSize, DropReason, Instant, UmemConfig};
use crate::network::reassembly::{Fragment, Outcome, Reassembly, ReassemblyConfig};

/// Bytes of an Ethernet header with two VLAN tags.
const LINK_LEN: u16 = 22;
const CHUNKS: u32 = 256;

fn umem(chunks: u32) -> Umem {
    Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + (n >> 8)) as u8).collect()
}

/// A chain of the bytes, in chunks of `size`.
fn chain(umem: &mut Umem, bytes: &[u8], size: usize) -> Frame {
    let mut whole: Option<Frame> = None;
    for bytes in bytes.chunks(size) {
        let mut part = umem.alloc().unwrap();
        assert!(umem.set_len(&mut part, bytes.len()));
        umem.bytes_mut(&mut part).copy_from_slice(bytes);
        match &mut whole {
            Some(whole) => umem.append(whole, part),
            None => whole = Some(part),
        }
    }
    whole.unwrap()
}

/// Cuts a chain: offsets, lengths and chunks of the pieces, which are whole and in order.
fn cut(umem: &mut Umem, frame: Frame, shape: Shape, bytes: &[u8]) -> Vec<(usize, usize, u32)> {
    let mut cutter = Cutter::new(frame, shape, umem).unwrap();
    let mut pieces = Vec::new();
    let mut end = 0;
    while let Some(piece) = cutter.next(umem) {
        let Piece { frame, offset, more } = piece.unwrap();
        let (offset, len) = (usize::from(offset), usize::from(frame.len()));
        assert!(!umem.is_chain(&frame) && len > 0 && len <= shape.room && frame.offset() >= shape.headroom);
        assert!(!more || len.is_multiple_of(8));
        assert_eq!((offset, umem.bytes(&frame), more), (end, &bytes[offset..offset + len], offset + len < bytes.len()));
        end += len;
        pieces.push((offset, len, frame.chunk()));
        umem.free(frame);
    }
    assert_eq!((end, cutter.left()), (bytes.len(), 0));
    pieces
}

#[test]
fn chunks_that_make_fragments_are_sent_as_they_are() {
    let mut umem = umem(CHUNKS);
    let bytes = pattern(8008);
    let frame = chain(&mut umem, &bytes, 1440);
    let chunks: Vec<u32> = chunks_of(&mut umem, frame);
    let frame = chain(&mut umem, &bytes, 1440);
    let pieces = cut(&mut umem, frame, Shape::v4(1500, LINK_LEN), &bytes);
    assert_eq!(pieces.iter().map(|piece| piece.1).collect::<Vec<_>>(), [1440, 1440, 1440, 1440, 1440, 808]);
    assert_eq!(pieces.iter().map(|piece| piece.2).collect::<Vec<_>>(), chunks);
    assert_eq!(umem.free_chunks(), CHUNKS);
}

/// The chunks that a chain like this one lies in, which is freed from its end, so that they are taken in that order again.
fn chunks_of(umem: &mut Umem, frame: Frame) -> Vec<u32> {
    let (mut parts, mut left) = (Vec::new(), Some(frame));
    while let Some(frame) = left {
        let (first, rest) = umem.split(frame);
        parts.push(first);
        left = rest;
    }
    let chunks = parts.iter().map(Frame::chunk).collect();
    parts.into_iter().rev().for_each(|part| umem.free(part));
    chunks
}

#[test]
fn chunks_that_make_no_fragments_are_copied_into_full_ones() {
    for (size, mtu, lens) in [
        (1480, 1280, &[1256, 1256, 488][..]), // too long
        (100, 1500, &[1480, 1480, 40]),       // too short, and no multiple of eight
        (1470, 1500, &[1480, 1480, 40]),      // no multiple of eight
        (1700, 3000, &[1792, 1208]),          // of which none fits into a chunk
    ] {
        let mut umem = umem(CHUNKS);
        let bytes = pattern(3000);
        let frame = chain(&mut umem, &bytes, size);
        let pieces = cut(&mut umem, frame, Shape::v4(mtu, LINK_LEN), &bytes);
        assert_eq!(pieces.iter().map(|piece| piece.1).collect::<Vec<_>>(), lens, "{size} {mtu}");
        assert_eq!(umem.free_chunks(), CHUNKS);
    }
}

#[test]
fn a_chunk_without_room_for_headers_is_copied() {
    let mut umem = umem(CHUNKS);
    for (room, is_copied) in [(LINK_LEN + 19, true), (LINK_LEN + 20, false)] {
        let bytes = pattern(3000);
        let mut frame = chain(&mut umem, &bytes, 1480);
        assert!(umem.shift(&mut frame, room));
        let first = frame.chunk();
        let pieces = cut(&mut umem, frame, Shape::v4(1500, LINK_LEN), &bytes);
        assert_eq!(pieces[0].2 != first, is_copied);
    }
}

#[test]
fn what_is_no_datagram_or_has_no_room_is_handed_back() {
    let mut umem = umem(CHUNKS);
    let refused = |umem: &mut Umem, len: usize, shape: Shape| {
        let frame = if len == 0 { umem.alloc().unwrap() } else { chain(umem, &pattern(len), 1440) };
        let (is_refused, frame) = match Cutter::new(frame, shape, umem) {
            Ok(cutter) => {
                cutter.give_up(umem);
                (false, None)
            }
            Err(frame) => (true, Some(frame)),
        };
        frame.into_iter().for_each(|frame| umem.free(frame));
        assert_eq!(umem.free_chunks(), CHUNKS);
        is_refused
    };
    for (shape, longest) in [(Shape::v4(1500, LINK_LEN), 65_515), (Shape::v6(1500, LINK_LEN), 65_535)] {
        assert!(refused(&mut umem, 0, shape) && refused(&mut umem, longest + 1, shape));
        assert!(!refused(&mut umem, 1, shape) && !refused(&mut umem, longest, shape));
    }
    assert!(refused(&mut umem, 100, Shape::v4(27, LINK_LEN)) && !refused(&mut umem, 100, Shape::v4(28, LINK_LEN)));
    assert!(refused(&mut umem, 100, Shape::v6(55, LINK_LEN)) && !refused(&mut umem, 100, Shape::v6(56, LINK_LEN)));
}

#[test]
fn without_a_chunk_for_a_copy_the_rest_is_freed_and_that_is_said_once() {
    let bytes = pattern(8000);
    for spare in 0..6 {
        let mut umem = umem(6 + spare);
        let frame = chain(&mut umem, &bytes, 1470);
        let mut cutter = Cutter::new(frame, Shape::v4(1500, LINK_LEN), &umem).unwrap();
        let mut pieces = Vec::new();
        // A chunk is emptied and freed with every piece but the first.
        let failed = loop {
            match cutter.next(&mut umem) {
                Some(Ok(piece)) => pieces.push(piece.frame),
                Some(Err(reason)) => break Some(reason),
                None => break None,
            }
        };
        assert_eq!((failed, pieces.len()), if spare == 0 { (Some(UnsentReason::NoChunk), 0) } else { (None, 6) });
        assert!(cutter.next(&mut umem).is_none() && cutter.left() == 0);
        pieces.into_iter().for_each(|frame| umem.free(frame));
        assert_eq!(umem.free_chunks(), 6 + spare);
    }
}

#[test]
fn what_was_cut_is_put_together_again() {
    let mut umem = umem(CHUNKS);
    let mut reassembly = Reassembly::new(ReassemblyConfig { per_source: 64, ..ReassemblyConfig::default() });
    let lens = (1..65_507).step_by(2711).chain(1440..1500).chain([65_506, 65_507]);
    for (n, len) in lens.enumerate() {
        let bytes = pattern(len + 8);
        for (mtu, is_v4) in [(1500, true), (1500, false), (1280, false), (576, true), (1006, true), (9000, false)] {
            let shape = if is_v4 { Shape::v4(mtu, LINK_LEN) } else { Shape::v6(mtu, LINK_LEN) };
            let frame = chain(&mut umem, &bytes, [1440, 1480, 1000, 1700, 1232][n % 5]);
            let mut cutter = Cutter::new(frame, shape, &umem).unwrap();
            let mut whole = None;
            while let Some(piece) = cutter.next(&mut umem) {
                let Piece { frame, offset, more } = piece.unwrap();
                let fragment = Fragment {
                    source: if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() },
                    destination: Ipv4Addr::LOCALHOST.into(),
                    identification: n as u32,
                    protocol: 17,
                    offset,
                    more,
                    traffic_class: 0,
                    header_at: frame.offset() - if is_v4 { 20 } else { 48 },
                    dont_fragment: false,
                    context: (),
                };
                assert!(whole.is_none());
                match reassembly.insert(&fragment, frame, &mut umem, Instant::ZERO).outcome {
                    Outcome::Held => {}
                    Outcome::Complete(reassembled) => whole = Some(reassembled.frame),
                    other => panic!("{len} {mtu}: {other:?}"),
                }
            }
            let whole = whole.unwrap();
            assert!(umem.slices(&whole).flatten().eq(&bytes), "{len} {mtu}");
            umem.free(whole);
            assert_eq!((umem.free_chunks(), reassembly.held_chunks()), (CHUNKS, 0));
        }
    }
}

#[test]
fn a_chain_that_fits_into_its_first_chunk_becomes_one_frame() {
    let mut umem = umem(CHUNKS);
    for (len, fits) in [(1, true), (900, true), (1791, true), (1792, true), (1793, false), (9000, false)] {
        let bytes = pattern(len);
        let frame = chain(&mut umem, &bytes, 400);
        let (offset, parts) = (frame.offset(), umem.parts(&frame));
        let frame = match linearize(frame, &mut umem) {
            Ok(frame) => {
                assert!(fits && !umem.is_chain(&frame));
                frame
            }
            Err(frame) => {
                assert!(!fits && umem.parts(&frame) == parts);
                frame
            }
        };
        assert_eq!(frame.offset(), offset);
        assert!(umem.slices(&frame).flatten().eq(&bytes));
        umem.free(frame);
        assert_eq!(umem.free_chunks(), CHUNKS);
    }
}

#[test]
fn the_reasons_of_fragments_are_known_as_such() {
    let of_fragments = DropReason::ALL.iter().filter(|reason| reason.is_of_fragments());
    assert_eq!(of_fragments.count(), 11);
    assert!(!DropReason::NdpFragment.is_of_fragments());
}
