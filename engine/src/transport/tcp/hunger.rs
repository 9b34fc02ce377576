//! Connections whose applications have something to send, and that wait for packet memory to put it in.
//!
//! As long as anything of a connection is unacknowledged, its acknowledgment is the time to say that there is room.
//! One that has nothing on its queue hears from no peer: it waits here, in a row, until memory is free again. Whoever
//! has nothing on its queue any more while others wait goes to the end of the row, or it would take what it has just
//! given back, again and again, and the others would wait for ever.

//!
//! Memory can be held by peers that take nothing of what they asked for, with a closed window or without a word. When
//! others wait, such connections are given up long before their user timeout (RFC 6429, section 3 for those that answer).

use std::time::Duration;

use super::tcb::Tcb;
use super::{End, Tcp};
use crate::base::{Instant, Umem};
use crate::structure::ready_list::ReadyList;

/// Connections told in one turn, so that a thousand that wait do not hold up packets.
const FED_AT_ONCE: u32 = 64;
/// How long a connection may hold memory that others wait for without its peer taking any of it: more than a path that
/// is down for a moment needs, and less than people wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often such connections are looked for, and how many are looked at each time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKED_AT: u32 = 256;

/// Those who wait for packet memory.
#[derive(Debug)]
pub(super) struct Hungry {
    row: ReadyList,
    /// When those who hold it are looked at next, and where to begin.
    look_at: Instant,
    place: u32,
}

impl Hungry {
    /// Nobody, of at most so many connections.
    pub(super) fn new(connections: u32) -> Self {
        Self { row: ReadyList::new(connections), look_at: Instant::ZERO, place: 0 }
    }

    /// Puts a connection at the end of the row.
    #[inline]
    pub(super) fn push(&mut self, index: u32) {
        self.row.push(index);
    }

    /// Takes a connection out of the row.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) {
        self.row.remove(index);
    }

    /// Whether nobody waits.
    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.row.is_empty()
    }
}

impl Tcp {
    /// Tells the first connections that wait, as far as there is memory: their applications hear of it when it is their
    /// turn to send. Once a turn.
    #[inline(never)]
    pub(super) fn feed(&mut self, now: Instant, umem: &Umem) {
        // No more of them than there are chunks, or most would come for nothing.
        let portions = self.shared.memory.send.left().clamp(1, FED_AT_ONCE);
        for _ in 0..self.hungry.row.len().min(portions) {
            let Some(index) = self.hungry.row.first() else { return };
            let Some(tcb) = self.tables.connections.get_mut(index).filter(|tcb| tcb.is_hungry()) else {
                self.hungry.remove(index);
                continue;
            };
            if umem.free_chunks() == 0 || tcb.room(&self.shared) == 0 {
                return self.reclaim(now);
            }
            tcb.wishes.has_room = true;
            self.hungry.remove(index);
            self.ready.push(index);
        }
    }

    /// Gives up the next connection that holds memory and has got rid of none of it for too long.
    fn reclaim(&mut self, now: Instant) {
        if now < self.hungry.look_at {
            return;
        }
        self.hungry.look_at = now + LOOK_EVERY;
        for _ in 0..LOOKED_AT.min(self.places()) {
            let place = self.hungry.place;
            self.hungry.place = if place + 1 < self.places() { place + 1 } else { 0 };
            let Some(tcb) = self.tables.connections.get_mut(place) else { continue };
            if tcb.is_stuck(now) {
                self.shared.counters.given_up_for_others += 1;
                tcb.ended = Some(End::TimedOut);
                return self.ready.push(place);
            }
        }
    }

    /// When somebody who waits for memory has something to hope for next.
    #[inline]
    pub(super) fn next_meal(&self) -> Option<Instant> {
        match (self.hungry.is_empty(), self.can_feed()) {
            (true, _) => None,
            (false, true) => Some(Instant::ZERO),
            (false, false) => Some(self.hungry.look_at),
        }
    }

    /// Whether a connection that could be told of room at once has to wait for its turn.
    #[inline(always)]
    pub(super) fn must_wait(&self, index: u32) -> bool {
        !self.hungry.is_empty() && self.tables.connections.get(index).is_some_and(Tcb::is_hungry)
    }

    /// Whether there is memory.
    #[inline]
    fn can_feed(&self) -> bool {
        self.shared.memory.send.allowance(0) > 0
    }
}

impl Tcb {
    /// Whether nothing but memory is missing, and no acknowledgment will come to say that there is some.
    #[inline]
    pub(super) fn is_hungry(&self) -> bool {
        self.wishes.wants_room && self.snd.queue.is_empty() && self.state.may_send() && self.ended.is_none()
    }

    /// Whether it holds more than a segment, and its peer has taken nothing of that for long.
    fn is_stuck(&self, now: Instant) -> bool {
        let stuck = self.timers.stuck_since;
        self.snd.queue.len() > 1 && stuck != Instant::ZERO && now.since(stuck) >= PATIENCE && self.ended.is_none()
    }
}
