//! The receive window: what the peer is told that it may send (RFC 9293, section 3.8.6; RFC 7323, section 2).

use super::memory::Memory;
use super::tcb::Tcb;
use crate::wire::seq::SeqNum;

/// The smallest shift by which a window for so many bytes fits into the header's 16 bits (RFC 7323, section 2.2).
#[must_use]
pub(super) fn shift_for(buffer: u32) -> u8 {
    let mut shift = 0;
    while shift < 14 && buffer >> shift > u32::from(u16::MAX) {
        shift += 1;
    }
    shift
}

impl Tcb {
    /// RCV.WND: bytes that the peer was told that it may send from RCV.NXT on.
    #[inline]
    pub(super) fn receive_window(&self) -> u32 {
        if self.rcv.adv.after(self.rcv.nxt) { self.rcv.adv.since(self.rcv.nxt) } else { 0 }
    }

    /// Bytes that could be taken in from RCV.NXT on: as many as the connection may be promised and the memory has room for.
    #[inline]
    fn receivable(&self, memory: &Memory) -> u32 {
        let promised = self.rcv.limit.saturating_sub(self.rcv.queued);
        // A chunk holds a segment, or its part of one, and what arrived behind gaps lies within the window already.
        let chunks = memory.receive.left().saturating_add(self.rcv.out_of_order.len());
        // More than the field can say, the peer cannot be told.
        let sayable = u32::from(u16::MAX) << self.rcv.shift;
        promised.min(chunks.saturating_mul(u32::from(self.snd.per_chunk))).min(sayable)
    }

    /// The window field of a segment that is sent now, whose right edge becomes the one that the peer knows.
    #[inline(always)]
    pub(super) fn advertise(&mut self, memory: &Memory) -> u16 {
        let edge = self.window_edge(memory);
        let wnd = edge.since(self.rcv.nxt);
        let mut field = wnd >> self.rcv.shift;
        // RFC 9293, section 3.8.6 (SHLD-14): a TCP receiver SHOULD NOT shrink the window. Rounding down would. Rounding up
        // every time would move the edge on with every segment, and never stop a peer that sends byte by byte: it goes
        // less than a step beyond what there is room for. Then a step less is told, and what was told before is taken
        // all the same (RFC 7323, section 2.4).
        if (field << self.rcv.shift) < self.receive_window() && field << self.rcv.shift < self.receivable(memory) {
            field += 1;
        }
        let field = field.min(u32::from(u16::MAX));
        self.rcv.adv = (self.rcv.nxt + (field << self.rcv.shift)).max(self.rcv.adv);
        field as u16
    }

    /// The right edge to tell the peer: moved only if it is worth while.
    #[inline(always)]
    fn window_edge(&self, memory: &Memory) -> SeqNum {
        let step = (self.rcv.limit / 2).min(u32::from(self.snd.mss));
        // Nearly always it has not moved that far, which the limit alone tells.
        if self.rcv.limit < self.receive_window() + step {
            return self.rcv.adv.max(self.rcv.nxt);
        }
        let edge = self.rcv.nxt + self.receivable(memory);
        // RFC 9293, section 3.8.6.2.2 (MUST-39): a TCP implementation MUST include a SWS avoidance algorithm in the
        // receiver: the edge is kept until it can move by a segment, or by half of what there may be.
        let worthwhile = edge.after(self.rcv.adv) && edge.since(self.rcv.adv) >= step;
        if worthwhile || self.rcv.adv.before(self.rcv.nxt) { edge } else { self.rcv.adv }
    }

    /// Whether the window has opened so far that the peer should hear of it at once: to at least twice of what it
    /// knows (as on Linux), and past what silly-window avoidance would hold back.
    pub(super) fn window_update_is_due(&self, memory: &Memory) -> bool {
        let known = self.receive_window();
        if known >= self.rcv.limit / 2 {
            return false;
        }
        let wnd = self.window_edge(memory).since(self.rcv.nxt);
        wnd > known && wnd >= known.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_is_the_smallest_that_fits() {
        assert_eq!(
            [0, 65_535, 65_536, 1 << 20, u32::MAX].map(shift_for),
            [0, 0, 1, 5, 14],
            "RFC 7323, section 2.3: at most 14"
        );
    }
}
