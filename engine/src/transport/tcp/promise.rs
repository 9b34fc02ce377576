//! How much room peers are promised for their text: each, and all together.
//!
//! ```text
//!   limit of a connection   | received, not taken | window: the peer may send this at any time |
//!   all limits together     | one | another | ... |              free              |  capacity
//! ```
//!
//! A window is a promise: what lies in it has to find memory when it comes, and it cannot be taken back (RFC 9293, section
//! 3.8.6). So what a connection may have received and promised together is counted, and grows only as its application
//! takes text (as Linux's rcv_ssthresh does) and while its part is smaller than what is left to all: the dynamic
//! threshold of memory.rs, of promises instead of chunks. Where that is exceeded the window closes as text comes, and is
//! not opened again as far.
//!
//! A connection that was silent for a while, and of which nothing waits, is not counted until it speaks again: a hundred
//! thousand idle ones would leave nothing for those that are not, and never all speak at once.

use std::time::Duration;

use super::memory::Memory;
use super::reassembly;
use super::tcb::{Receive, Tcb};
use super::{Shared, Tcp};
use crate::base::{Frame, Instant, Umem};

/// The first window of a connection is never more than this, as on Linux: what the header can say without scaling.
const FIRST: u32 = u16::MAX as u32;
/// The part of what is free that a new connection is promised.
const PART: u64 = 8;
/// Segments that every connection is promised: with less, every sender would wait for each acknowledgment.
const LEAST_SEGMENTS: u32 = 2;
/// Text taken at a time from which on it is a reason to promise more, bytes: requests are no stream.
pub(super) const WORTH_MORE: u32 = 256;
/// Silence after which a connection counts as idle.
const IDLE: Duration = Duration::from_secs(1);
/// Frames that wait for the application from which on they are filled up, as far as copying is worth it.
const CROWDED: u32 = 2;
/// How often idle ones are looked for when promises are short, and how many connections are looked at each time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKED_AT: u32 = 256;

/// What is promised in all, bytes.
#[derive(Debug)]
pub(super) struct Promises {
    /// What the memory for received text holds of it in full segments.
    capacity: u64,
    counted: u64,
    /// What every connection is promised.
    least: u32,
    /// Text that a chunk holds in full segments, bytes.
    pub(super) per_chunk: u32,
    /// Whether so much is promised that some may have more than is left.
    pub(super) tight: bool,
    /// Whether somebody could have done with more.
    wanted: bool,
    /// When idle ones are looked for next, and where to begin.
    look_at: Instant,
    place: u32,
}

impl Promises {
    /// None yet, for so many chunks of received text, of which an eighth is kept for pieces that fill a chunk less than a
    /// full segment does.
    pub(super) const fn new(chunks: u32, per_segment: u32, per_chunk: u32) -> Self {
        let capacity = (chunks - chunks / 8) as u64 * per_chunk as u64;
        let least = (LEAST_SEGMENTS * per_segment * per_chunk) as u64;
        let least = if least < capacity { least } else { capacity };
        let (look_at, place) = (Instant::ZERO, 0);
        Self { capacity, counted: 0, least: least as u32, per_chunk, tight: false, wanted: false, look_at, place }
    }

    /// What can still be promised.
    const fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.counted)
    }

    /// The first window of a new connection with such a buffer.
    pub(super) fn first(&self, buffer: u32) -> u32 {
        let part = u32::try_from(self.free() / PART).unwrap_or(u32::MAX);
        part.max(self.least).min(FIRST).min(buffer)
    }

    /// Enters what a connection counts for now, and counted for before.
    pub(super) const fn count(&mut self, before: u32, after: u32) {
        self.counted = (self.counted + after as u64).saturating_sub(before as u64);
        self.tight = self.counted > self.capacity / 2;
    }

    /// What is counted.
    pub(super) const fn counted(&self) -> u64 {
        self.counted
    }

    /// The limit of a connection that has one of `limit` and told its peer of `told`, when `taken` more bytes were taken.
    fn adapted(&mut self, limit: u32, told: u32, taken: u32, buffer: u32) -> u32 {
        let free = u32::try_from(self.free()).unwrap_or(u32::MAX);
        if limit > free {
            // Half of the way: all others do the same.
            return (free + (limit - free) / 2).max(self.least).max(told).min(limit);
        }
        // Twice of what came: where a sender doubles its window in a round trip, this one stays ahead of it.
        let more = taken.saturating_mul(2).min(buffer.saturating_sub(limit));
        let fair = (free - limit) / 2;
        self.wanted |= fair < more;
        limit + more.min(fair)
    }
}

impl Tcb {
    /// Whether the limit may have to change after text was taken.
    #[inline]
    pub(super) const fn outgrows_limit(&self, taken: u32, buffer: u32, memory: &Memory) -> bool {
        let rcv = &self.rcv;
        taken >= WORTH_MORE && (rcv.limit < buffer || !rcv.counts || memory.promises.tight)
    }

    /// Adapts what may be received and promised, after text was taken.
    #[inline(never)]
    pub(super) fn adapt_limit(&mut self, taken: u32, buffer: u32, memory: &mut Memory) {
        let (counted, told) = (self.rcv.counted(), self.rcv.queued.saturating_add(self.receive_window()));
        memory.promises.count(counted, self.rcv.limit);
        let limit = memory.promises.adapted(self.rcv.limit, told, taken, buffer);
        memory.promises.count(self.rcv.limit, limit);
        (self.rcv.limit, self.rcv.counts) = (limit, true);
    }

    /// Copies a frame's text behind that of the last one that waits for the application; `false` if it does not fit there.
    #[inline(never)]
    pub(super) fn join_last_received(&mut self, frame: &Frame, umem: &mut Umem) -> bool {
        self.rcv.queue.last().is_some_and(|last| reassembly::join(umem, last, frame))
    }

    /// Whether so much waits for the application that half of a chunk is worth copying: then what waits takes no more than
    /// twice the memory that it needs.
    #[inline]
    pub(super) const fn is_crowded(&self) -> bool {
        self.rcv.queue.len() >= CROWDED
    }

    /// Whether a further chunk of received text was promised room, and there is some.
    pub(super) fn is_promised(&self, memory: &Memory) -> bool {
        self.promised_chunks(memory) > 0
    }

    /// Further chunks of received text that were promised room. Pieces of less than a segment take more of them for the same
    /// text, but what waits is filled up to half at least.
    fn promised_chunks(&self, memory: &Memory) -> u32 {
        let promised = self.rcv.limit / memory.promises.per_chunk * 2 + CROWDED;
        promised.saturating_sub(self.holdings().receive).min(memory.receive.left())
    }

    /// Further chunks of received text that the connection may take.
    pub(super) fn receivable_chunks(&self, memory: &Memory) -> u32 {
        self.promised_chunks(memory).max(memory.receive.allowance(self.holdings().receive))
    }
}

impl Receive {
    /// What it counts for.
    pub(super) const fn counted(&self) -> u32 {
        if self.counts { self.limit } else { 0 }
    }
}

impl Shared {
    /// The window that a new connection's peer is told of.
    pub(super) fn first_window(&self) -> u16 {
        self.memory.promises.first(self.config.receive_buffer) as u16
    }
}

impl Tcp {
    /// Counts what a new connection is promised.
    pub(super) fn count_promise(&mut self, index: u32) {
        let Some(tcb) = self.tables.connections.get_mut(index) else { return };
        tcb.rcv.counts = true;
        let promises = &mut self.shared.memory.promises;
        promises.wanted |= tcb.rcv.limit < FIRST.min(self.shared.config.receive_buffer);
        promises.count(0, tcb.rcv.limit);
    }

    /// Stops counting some connections that are idle, when somebody could do with what they were promised. Once a turn.
    #[inline]
    pub(super) fn look_for_idle(&mut self, now: Instant) {
        let promises = &self.shared.memory.promises;
        if promises.wanted && now >= promises.look_at {
            self.discount_idle(now);
        }
    }

    #[inline(never)]
    fn discount_idle(&mut self, now: Instant) {
        let places = self.places();
        let promises = &mut self.shared.memory.promises;
        (promises.wanted, promises.look_at) = (false, now + LOOK_EVERY);
        for _ in 0..LOOKED_AT.min(places) {
            let place = promises.place;
            promises.place = if place + 1 < places { place + 1 } else { 0 };
            let Some(tcb) = self.tables.connections.get_mut(place) else { continue };
            if tcb.holdings().receive == 0 && now.since(tcb.timers.heard_at) >= IDLE {
                promises.count(tcb.rcv.counted(), 0);
                tcb.rcv.counts = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of so many connections that all take as much as they get.
    fn grown(promises: &mut Promises, connections: usize, buffer: u32) -> Vec<u32> {
        let mut limits: Vec<u32> = Vec::new();
        for _ in 0..connections {
            let first = promises.first(buffer);
            promises.count(0, first);
            limits.push(first);
        }
        for _ in 0..1000 {
            for limit in &mut limits {
                let before = *limit;
                *limit = promises.adapted(before, 0, 14_480, buffer);
                promises.count(before, *limit);
            }
        }
        limits
    }

    #[test]
    fn one_connection_is_promised_its_buffer_or_half_and_many_parts_of_no_more_than_there_is() {
        let promises = || Promises::new(4096, 1, 1448);
        let capacity = 4096 / 8 * 7 * 1448;
        assert_eq!(grown(&mut promises(), 1, 1 << 20), [1 << 20]);
        assert!(grown(&mut promises(), 1, 1 << 30)[0] > capacity / 2 - 10);
        for connections in [2, 7, 40, 200] {
            let mut all = promises();
            let limits = grown(&mut all, connections, 1 << 30);
            let (least, most) = (limits.iter().min().unwrap(), limits.iter().max().unwrap());
            assert!(*most < 4 * least, "{connections}: {least} to {most}");
            assert!(all.counted() <= u64::from(capacity), "{connections}: {least} to {most}");
        }
    }

    #[test]
    fn every_connection_is_promised_something_and_none_at_first_more_than_the_memory_holds() {
        for chunks in [1, 4, 16, 64, 1024, 1 << 20] {
            let mut promises = Promises::new(chunks, 1, 1448);
            for _ in 0..10_000 {
                let first = promises.first(1 << 20);
                assert!((1448..=65_535).contains(&first) && u64::from(first) <= u64::from(chunks) * 1448);
                promises.count(0, first);
            }
            assert_eq!(promises.first(1000), 1000, "never more than the buffer");
        }
    }
}
