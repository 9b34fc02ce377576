//! What the packet memory promises.

use super::super::FrameQueue;
use super::*;

fn umem(chunks: u32) -> Umem {
    Umem::new(UmemConfig { chunks, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
}

#[test]
fn the_chunk_freed_last_is_used_next() {
    let mut umem = umem(4);
    let (a, b) = (umem.alloc().unwrap(), umem.alloc().unwrap());
    let last = a.chunk();
    umem.free(b);
    umem.free(a);
    let again = umem.alloc().unwrap();
    assert_eq!(again.chunk(), last);
    umem.free(again);
    assert_eq!(umem.free_chunks(), 4);
}

#[test]
fn an_empty_umem_says_so() {
    let mut umem = umem(1);
    let frame = umem.alloc().unwrap();
    assert!(umem.alloc().is_none());
    assert!(umem.lend_empty().is_none());
    umem.free(frame);
}

#[test]
fn a_device_cannot_return_what_it_never_had() {
    let mut umem = umem(4);
    assert!(!umem.complete(0), "free chunk");
    assert!(!umem.complete(4 * 2048), "beyond the end");
    assert!(!umem.complete(u64::MAX), "far beyond the end");
    let addr = umem.lend_empty().unwrap();
    assert!(!umem.complete(addr), "lent to receive, not to transmit");
    let frame = umem.received(Descriptor { addr: addr + 256, len: 60 }).unwrap();
    assert!(umem.received(Descriptor { addr, len: 60 }).is_none(), "twice");
    let (descriptor, rest) = umem.lend(frame);
    assert!(rest.is_none());
    assert!(umem.complete(descriptor.addr));
    assert!(!umem.complete(descriptor.addr), "twice");
    assert_eq!(umem.free_chunks(), 4);
}

#[test]
fn a_descriptor_that_leaves_its_chunk_is_refused_and_the_chunk_kept() {
    let mut umem = umem(2);
    let addr = umem.lend_empty().unwrap();
    assert!(umem.received(Descriptor { addr: addr + 2000, len: 49 }).is_none());
    assert_eq!(umem.free_chunks(), 2);
}

#[test]
fn a_chain_is_lent_piece_by_piece_and_freed_whole() {
    let mut umem = umem(3);
    let mut head = umem.alloc().unwrap();
    for _ in 0..2 {
        let part = umem.alloc().unwrap();
        umem.append(&mut head, part);
    }
    assert!(umem.is_chain(&head));
    let (first, rest) = umem.lend(head);
    umem.free(rest.unwrap());
    assert_eq!(umem.count(Place::Free), 2);
    assert!(umem.complete(first.addr));
    assert_eq!(umem.count(Place::Free), 3);
}

#[test]
fn parts_counts_the_chunks_of_a_chain() {
    let mut umem = umem(3);
    let mut head = umem.alloc().unwrap();
    assert_eq!(umem.parts(&head), 1);
    for parts in [2, 3] {
        let part = umem.alloc().unwrap();
        umem.append(&mut head, part);
        assert_eq!(umem.parts(&head), parts);
    }
    umem.free(head);
}

#[test]
fn shift_moves_the_bytes_and_stays_in_the_chunk() {
    let mut umem = umem(1);
    let mut frame = umem.alloc().unwrap();
    assert!(umem.set_len(&mut frame, 4));
    umem.bytes_mut(&mut frame).copy_from_slice(&[1, 2, 3, 4]);
    for offset in [HEADROOM - 2, 0, 2044, HEADROOM + 1] {
        assert!(umem.shift(&mut frame, offset));
        assert_eq!((frame.offset(), umem.bytes(&frame)), (offset, &[1, 2, 3, 4][..]));
    }
    assert!(!umem.shift(&mut frame, 2045));
    assert_eq!(frame.offset(), HEADROOM + 1);
    umem.free(frame);
}

#[test]
fn a_queue_keeps_order_bytes_and_every_chunk() {
    let mut umem = umem(3);
    let mut queue = FrameQueue::default();
    for byte in [1, 2, 3] {
        let mut frame = umem.alloc().unwrap();
        assert!(umem.set_len(&mut frame, 1));
        umem.bytes_mut(&mut frame)[0] = byte;
        queue.push(&mut umem, frame);
    }
    assert_eq!((queue.len(), umem.count(Place::Queue)), (3, 3));
    let first = queue.pop(&mut umem).unwrap();
    assert_eq!(umem.bytes(&first), [1]);
    umem.free(first);
    assert_eq!(queue.clear(&mut umem), 2);
    assert!(queue.is_empty());
    let again = umem.alloc().unwrap();
    queue.push(&mut umem, again);
    assert_eq!(queue.clear(&mut umem), 1, "a queue that was emptied works on");
    assert_eq!(umem.count(Place::Free), 3);
}

#[test]
fn length_is_bounded_by_the_chunk() {
    let mut umem = umem(1);
    let mut frame = umem.alloc().unwrap();
    let room = umem.room_mut(&mut frame).len();
    assert_eq!(room, 2048 - usize::from(HEADROOM));
    assert!(umem.set_len(&mut frame, room));
    assert!(!umem.set_len(&mut frame, room + 1));
    umem.free(frame);
}

#[test]
fn headers_are_cut_off_and_put_on_within_the_chunk() {
    let mut umem = umem(1);
    let mut frame = umem.alloc().unwrap();
    assert!(umem.set_len(&mut frame, 10));
    assert!(!Umem::narrow(&mut frame, 4, 7));
    assert!(Umem::narrow(&mut frame, 4, 5));
    assert_eq!((frame.offset(), frame.len()), (HEADROOM + 4, 5));
    assert_eq!(umem.prepend::<4>(&mut frame).unwrap().len(), 4);
    assert_eq!((frame.offset(), frame.len()), (HEADROOM, 9));
    assert!(umem.prepend::<257>(&mut frame).is_none());
    assert_eq!((frame.offset(), frame.len()), (HEADROOM, 9));
    umem.free(frame);
}

#[test]
fn a_frame_of_another_umem_reads_nothing_beyond_the_end() {
    let (mut big, small) = (umem(8), umem(1));
    let frames: Vec<Frame> = std::iter::from_fn(|| big.alloc()).collect();
    assert!(frames.iter().skip(1).all(|frame| small.bytes(frame).is_empty()));
    frames.into_iter().for_each(|frame| big.free(frame));
}
