//! Connections whose applications have something to send, and that wait for packet memory to put it in.
//!
//! As long as anything of a connection is unacknowledged, its acknowledgment is the time to say that there is room.
//! One that has nothing on its queue hears from no peer: it waits here, in a row, until memory is free again. Whoever
//! has nothing on its queue any more while others wait goes to the end of the row, or it would take what it has just
//! given back, again and again, and the others would wait for ever.

use super::Tcp;
use super::tcb::Tcb;
use crate::base::Umem;

/// Connections told in one turn, so that a thousand that wait do not hold up packets.
const FED_AT_ONCE: u32 = 64;

impl Tcp {
    /// Tells the first connections that wait, as far as there is memory: their applications hear of it when it is their
    /// turn to send. Once a turn.
    pub(super) fn feed(&mut self, umem: &Umem) {
        for _ in 0..self.hungry.len().min(FED_AT_ONCE) {
            let Some(index) = self.hungry.first() else { return };
            let Some(tcb) = self.tables.connections.get_mut(index).filter(|tcb| tcb.is_hungry()) else {
                self.hungry.remove(index);
                continue;
            };
            if umem.free_chunks() == 0 || tcb.room(&self.shared) == 0 {
                return;
            }
            tcb.wishes.has_room = true;
            self.hungry.remove(index);
            self.ready.push(index);
        }
    }

    /// Whether a connection that could be told of room at once has to wait for its turn.
    #[inline]
    pub(super) fn must_wait(&self, index: u32) -> bool {
        !self.hungry.is_empty() && self.tables.connections.get(index).is_some_and(Tcb::is_hungry)
    }

    /// Whether somebody waits for memory that there is.
    #[inline]
    pub(super) fn can_feed(&self) -> bool {
        !self.hungry.is_empty() && self.shared.memory.send.allowance(0) > 0
    }
}

impl Tcb {
    /// Whether nothing but memory is missing, and no acknowledgment will come to say that there is some.
    #[inline]
    pub(super) fn is_hungry(&self) -> bool {
        self.wishes.wants_room && self.snd.queue.is_empty() && self.state.may_send() && self.ended.is_none()
    }
}
