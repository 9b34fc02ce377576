//! Single-producer, single-consumer rings in shared memory: the four of an AF_XDP socket, seen from our side.
//!
//! ```text
//!  shared with the peer       | producer: u32 | consumer: u32 | flags: u32 | entries: [T; size]   |
//!                                   |               |
//!  indices only grow and wrap       v               v          index & (size - 1) is the entry
//!  at 2^32:          .  .  [c] [#] [#] [#] [p]  .  .
//!                           ^consumer       ^producer          entries c .. p are full, p - c <= size
//!
//!  Producer (fill, transmit):         room() -> push() ... push() -> publish()   one store of `producer`
//!  Consumer (completion, receive):    ready() -> pop() ... pop()  -> release()   one store of `consumer`
//! ```
//!
//! Each half has one index of its own, which only it writes, and remembers how far the peer's index was when
//! it last looked, so that the peer's cache line is read once per burst and not once per entry. An index is
//! published by a plain `store(Release)`, once per burst: a `fetch_add` costs ten times as much and buys
//! nothing where there is one writer. The peer's index is read with `Acquire`.
//!
//! Nothing that the peer writes is trusted: a distance between the indices larger than the ring counts as a
//! full ring (or, for the producer, as no room), and every access is masked into the ring.
//! Source: Documentation/networking/af_xdp.rst and net/xdp/xsk_queue.h of Linux.
#![allow(unsafe_code)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

/// Where a ring lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingMemory<T> {
    pub(super) producer: NonNull<AtomicU32>,
    pub(super) consumer: NonNull<AtomicU32>,
    pub(super) flags: NonNull<AtomicU32>,
    pub(super) entries: NonNull<T>,
    /// Number of entries; a power of two.
    pub(super) size: u32,
}

impl<T: Copy> RingMemory<T> {
    #[inline]
    fn word(&self, word: NonNull<AtomicU32>) -> &AtomicU32 {
        // SAFETY: `Producer::new` and `Consumer::new` demand that the words are mapped while the half lives.
        unsafe { word.as_ref() }
    }

    /// The entry that `index` falls on.
    #[inline]
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the offset below `size`, and `size` entries are mapped.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

/// The half that puts entries in.
#[derive(Debug)]
pub(super) struct Producer<T> {
    memory: RingMemory<T>,
    /// Our index: the next entry to write. Ahead of the published one between `push` and `publish`.
    head: u32,
    /// Entries that were free when we last looked, less those pushed since.
    room: u32,
}

/// The half that takes entries out.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    memory: RingMemory<T>,
    /// Our index: the next entry to read. Ahead of the released one between `pop` and `release`.
    tail: u32,
    /// Entries that were full when we last looked, less those popped since.
    ready: u32,
}

// SAFETY: a half is the only writer of its index, wherever it is moved; the words shared with the peer are
// atomics, and entries change hands by their release and acquire.
unsafe impl<T: Send> Send for Producer<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Consumer<T> {}

impl<T: Copy> Producer<T> {
    /// The producing half of the ring in `memory`, from the index that it stands at.
    ///
    /// # Safety
    /// The words and `size` entries must be mapped, readable and writable, as long as the value lives; `size`
    /// must be a power of two; and there must be no other producer of this ring.
    pub(super) unsafe fn new(memory: RingMemory<T>) -> Self {
        debug_assert!(memory.size.is_power_of_two());
        let head = memory.word(memory.producer).load(Ordering::Relaxed);
        let mut half = Self { memory, head, room: 0 };
        half.look();
        half
    }

    /// Entries that can be pushed. Looks at the peer's index only if fewer than `want` were free before.
    #[inline]
    pub(super) fn room(&mut self, want: u32) -> u32 {
        if self.room < want {
            let consumer = self.memory.word(self.memory.consumer).load(Ordering::Acquire);
            self.room = self.memory.size.saturating_sub(self.head.wrapping_sub(consumer));
        }
        self.room
    }

    /// Writes an entry, which the peer sees after [`publish`](Self::publish). `false` if the room that
    /// [`room`](Self::room) found is used up.
    #[inline]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.room == 0 {
            return false;
        }
        // SAFETY: the entry lies in the ring, and the peer has consumed what was in it: `room` said so.
        unsafe { self.memory.entry(self.head).write(entry) };
        self.head = self.head.wrapping_add(1);
        self.room -= 1;
        true
    }

    /// Shows the peer all that was pushed.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.memory.word(self.memory.producer).store(self.head, Ordering::Release);
    }

    /// Entries that the peer has not consumed, as far as known without looking at its index.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.memory.size - self.room
    }

    /// Entries that the peer has not consumed by now.
    #[inline]
    pub(super) fn look(&mut self) -> u32 {
        self.room(u32::MAX);
        self.waiting()
    }

    /// Whether the peer sleeps and wants a system call to go on (`XDP_RING_NEED_WAKEUP`).
    ///
    /// It can be stale by a moment, as nothing orders the publishing before it; whoever finds entries that
    /// are still waiting on a later turn asks again.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.memory.word(self.memory.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// Number of entries of the ring.
    pub(super) const fn size(&self) -> u32 {
        self.memory.size
    }
}

impl<T: Copy> Consumer<T> {
    /// The consuming half of the ring in `memory`, from the index that it stands at.
    ///
    /// # Safety
    /// As for [`Producer::new`], with no other consumer.
    pub(super) unsafe fn new(memory: RingMemory<T>) -> Self {
        debug_assert!(memory.size.is_power_of_two());
        let tail = memory.word(memory.consumer).load(Ordering::Relaxed);
        Self { memory, tail, ready: 0 }
    }

    /// Entries that can be popped. Looks at the peer's index only if fewer than `want` were full before.
    #[inline]
    pub(super) fn ready(&mut self, want: u32) -> u32 {
        if self.ready < want {
            let producer = self.memory.word(self.memory.producer).load(Ordering::Acquire);
            self.ready = producer.wrapping_sub(self.tail).min(self.memory.size);
        }
        self.ready
    }

    /// The entry `ahead` of the next one, if [`ready`](Self::ready) has found that many.
    #[inline]
    pub(super) fn peek(&self, ahead: u32) -> Option<T> {
        if ahead >= self.ready {
            return None;
        }
        // SAFETY: the entry lies in the ring, and the peer has published it: `ready` said so. Volatile, so that
        // what is checked is what is used even if the peer writes to it against the rules.
        Some(unsafe { self.memory.entry(self.tail.wrapping_add(ahead)).read_volatile() })
    }

    /// Reads the next entry, which the peer may overwrite after [`release`](Self::release). `None` if those
    /// that [`ready`](Self::ready) found are used up.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        let entry = self.peek(0)?;
        self.tail = self.tail.wrapping_add(1);
        self.ready -= 1;
        Some(entry)
    }

    /// Gives the peer back all that was popped.
    #[inline]
    pub(super) fn release(&mut self) {
        self.memory.word(self.memory.consumer).store(self.tail, Ordering::Release);
    }

    /// Number of entries of the ring.
    pub(super) const fn size(&self) -> u32 {
        self.memory.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring on the heap, standing at any index.
    struct Heap {
        words: Box<[AtomicU32; 3]>,
        entries: Box<[u64]>,
    }

    impl Heap {
        fn at(index: u32, size: u32) -> Self {
            let words = [AtomicU32::new(index), AtomicU32::new(index), AtomicU32::new(0)];
            Self { words: Box::new(words), entries: vec![0; size as usize].into() }
        }

        fn memory(&mut self) -> RingMemory<u64> {
            let size = self.entries.len() as u32;
            let entries = NonNull::from(&mut *self.entries).cast();
            let [producer, consumer, flags] = &*self.words;
            RingMemory { producer: producer.into(), consumer: consumer.into(), flags: flags.into(), entries, size }
        }

        fn halves(&mut self) -> (Producer<u64>, Consumer<u64>) {
            let memory = self.memory();
            // SAFETY: the heap memory outlives the halves in every test, and there is one of each.
            unsafe { (Producer::new(memory), Consumer::new(memory)) }
        }
    }

    /// Indices that rings start at: the middle, and just before they wrap.
    const STARTS: [u32; 4] = [0, 5, u32::MAX - 2, u32::MAX];

    #[test]
    fn what_goes_in_comes_out_in_order_also_where_indices_wrap() {
        for start in STARTS {
            let mut heap = Heap::at(start, 4);
            let (mut producer, mut consumer) = heap.halves();
            let mut expected = 0;
            for value in 0..100 {
                assert!(producer.room(1) >= 1);
                assert!(producer.push(value));
                if value % 3 == 2 || producer.room(1) == 0 {
                    producer.publish();
                    while consumer.ready(1) > 0 {
                        assert_eq!(consumer.pop(), Some(expected), "start {start}");
                        expected += 1;
                    }
                    consumer.release();
                }
            }
            assert!(expected >= 99);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_and_an_empty_one_gives_none() {
        for start in STARTS {
            let mut heap = Heap::at(start, 4);
            let (mut producer, mut consumer) = heap.halves();
            assert_eq!(consumer.ready(1), 0);
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.room(8), 4);
            assert!((0..4).all(|value| producer.push(value)));
            assert!(!producer.push(4), "start {start}");
            assert_eq!(producer.room(1), 0);
            producer.publish();
            assert_eq!(producer.look(), 4);
            assert_eq!(consumer.ready(8), 4);
            assert_eq!(consumer.peek(3), Some(3));
            assert_eq!(consumer.peek(4), None);
            assert_eq!(consumer.pop(), Some(0));
            assert_eq!(producer.room(1), 0, "popped, but not released");
            consumer.release();
            assert_eq!(producer.room(1), 1);
            assert_eq!(producer.look(), 3);
        }
    }

    #[test]
    fn nothing_is_seen_before_it_is_published() {
        let mut heap = Heap::at(u32::MAX, 8);
        let (mut producer, mut consumer) = heap.halves();
        producer.room(3);
        assert!(producer.push(1) && producer.push(2));
        assert_eq!(consumer.ready(1), 0);
        producer.publish();
        assert_eq!(consumer.ready(1), 2);
    }

    #[test]
    fn the_index_of_the_peer_is_read_only_when_it_is_needed() {
        let mut heap = Heap::at(0, 8);
        let (mut producer, mut consumer) = heap.halves();
        producer.room(8);
        (0..4).for_each(|value| assert!(producer.push(value)));
        producer.publish();
        assert_eq!(consumer.ready(2), 4);
        (4..8).for_each(|value| assert!(producer.push(value)));
        producer.publish();
        assert_eq!(consumer.ready(4), 4, "four were known");
        assert_eq!(consumer.ready(5), 8);
    }

    #[test]
    fn a_lying_peer_gets_no_further_than_the_ring() {
        for lie in [9, 1 << 20, u32::MAX, 1 << 31] {
            let mut heap = Heap::at(0, 8);
            let (mut producer, mut consumer) = heap.halves();
            heap.words[0].store(lie, Ordering::Relaxed);
            assert_eq!(consumer.ready(1), 8, "producer index {lie}");
            let popped = std::iter::from_fn(|| consumer.pop()).count();
            assert_eq!(popped, 8);
            heap.words[1].store(lie, Ordering::Relaxed);
            let room = producer.room(u32::MAX);
            assert!(room <= 8, "consumer index {lie} gives room {room}");
            assert_eq!((0..9).filter(|value| producer.push(*value)).count() as u32, room);
        }
    }

    #[test]
    fn a_half_goes_on_where_the_one_before_it_stopped() {
        let mut heap = Heap::at(u32::MAX - 1, 4);
        let (mut producer, mut consumer) = heap.halves();
        producer.room(3);
        (0..3).for_each(|value| assert!(producer.push(value)));
        producer.publish();
        consumer.ready(1);
        consumer.pop();
        consumer.release();
        let (mut producer, mut consumer) = heap.halves();
        assert_eq!(producer.room(4), 2);
        assert_eq!(consumer.ready(4), 2);
        assert_eq!(consumer.pop(), Some(1));
    }

    #[test]
    fn the_wakeup_flag_is_read_from_the_ring() {
        let mut heap = Heap::at(0, 4);
        let (producer, _) = heap.halves();
        assert!(!producer.needs_wakeup());
        heap.words[2].store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }

    #[test]
    fn two_threads_pass_a_million_entries_in_bursts_without_loss() {
        const COUNT: u64 = 1_000_000;
        let mut heap = Heap::at(u32::MAX - 300_000, 64);
        let (mut producer, mut consumer) = heap.halves();
        let sender = std::thread::spawn(move || {
            let mut value = 0;
            while value < COUNT {
                let burst = u64::from(producer.room(16).min(16)).min(COUNT - value);
                if burst == 0 {
                    std::thread::yield_now();
                    continue;
                }
                (0..burst).for_each(|i| assert!(producer.push(value + i)));
                producer.publish();
                value += burst;
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            if consumer.ready(1) == 0 {
                std::thread::yield_now();
                continue;
            }
            while let Some(value) = consumer.pop() {
                assert_eq!(value, expected);
                expected += 1;
            }
            consumer.release();
        }
        sender.join().unwrap();
    }
}
