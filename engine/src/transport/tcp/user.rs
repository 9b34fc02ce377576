//! What an application does with its connection (RFC 9293, section 3.9.1): take, send, finish, abort, set.

use std::time::Duration;

use super::reassembly::sum_anew;
use super::segment::Control;
use super::state::State;
use super::tcb::{Tcb, mark};
use super::timers::keep_alive_seconds;
use super::tuple::Tuple;
use super::{End, Shared, Tcp, Trouble};
use crate::base::{Frame, Instant, Note, Queued, Umem};
use crate::wire::checksum::Sum;
use crate::wire::tcp::{Flags, Options};

impl Tcp {
    /// Which of the connections that were in a place one after another it is.
    #[must_use]
    pub fn generation(&self, index: u32) -> u32 {
        self.tables.connections.generation(index)
    }

    /// Whether there is such a connection.
    #[must_use]
    pub fn exists(&self, index: u32) -> bool {
        self.tables.connections.get(index).is_some()
    }

    /// The two ends of a connection.
    #[inline]
    #[must_use]
    pub fn tuple(&self, index: u32) -> Option<&Tuple> {
        self.tables.connections.get(index).map(|tcb| &tcb.tuple)
    }

    /// Received text, as much as lies in the first frame.
    #[must_use]
    pub fn received<'a>(&self, index: u32, umem: &'a Umem) -> &'a [u8] {
        let first = self.tables.connections.get(index).and_then(|tcb| tcb.rcv.queue.first());
        first.map_or(&[], |first| umem.queued_bytes(first))
    }

    /// Received text in all, bytes.
    #[must_use]
    pub fn received_len(&self, index: u32) -> u32 {
        self.tables.connections.get(index).map_or(0, |tcb| tcb.rcv.queued)
    }

    /// Bytes of urgent data ahead, of those received and beyond.
    ///
    /// RFC 9293, section 3.8.5 (MUST-33): there MUST be a way for the application to learn how much urgent data remains
    /// to be read from the connection.
    #[must_use]
    pub fn urgent_len(&self, index: u32) -> u32 {
        let Some(tcb) = self.tables.connections.get(index).filter(|tcb| tcb.rcv.urgent) else { return 0 };
        let taken = tcb.rcv.nxt + 0_u32.wrapping_sub(tcb.rcv.queued);
        if tcb.rcv.up.after(taken) { tcb.rcv.up.since(taken) } else { 0 }
    }

    /// Whether the peer finished.
    #[must_use]
    pub fn is_finished(&self, index: u32) -> bool {
        let finished = |tcb: &Tcb| !tcb.state.takes_text() && tcb.state.is_synchronized();
        self.tables.connections.get(index).is_none_or(finished)
    }

    /// Text queued and not acknowledged, bytes.
    #[must_use]
    pub fn unacknowledged(&self, index: u32) -> u32 {
        self.tables.connections.get(index).map_or(0, |tcb| tcb.snd.queued)
    }

    /// Bytes that could be queued now.
    #[must_use]
    pub fn room(&self, index: u32) -> u32 {
        self.tables.connections.get(index).map_or(0, |tcb| tcb.room(&self.shared))
    }

    /// The last trouble that the connection lives through.
    ///
    /// RFC 9293, section 3.9.1.8 (MUST-47, SHLD-20): soft errors are reported to the application, if it asks.
    #[must_use]
    pub fn trouble(&self, index: u32) -> Option<Trouble> {
        self.tables.connections.get(index)?.soft_error
    }

    /// Takes received text; says how much.
    pub fn consume(&mut self, index: u32, len: usize, umem: &mut Umem) -> usize {
        self.with(index, umem, |tcb, shared, umem| tcb.consume(len, shared, umem))
    }

    /// Moves received text to the send queue, frame by frame; says how much.
    pub fn send_back(&mut self, index: u32, len: usize, umem: &mut Umem) -> usize {
        self.with(index, umem, |tcb, shared, umem| tcb.send_back(len, shared, umem))
    }

    /// Queues a copy of bytes; says how many.
    pub fn send(&mut self, index: u32, bytes: &[u8], umem: &mut Umem) -> usize {
        self.with(index, umem, |tcb, shared, umem| tcb.send(bytes, shared, umem))
    }

    /// The same, and calls everything up to their end urgent.
    pub fn send_urgent(&mut self, index: u32, bytes: &[u8], umem: &mut Umem) -> usize {
        self.with(index, umem, |tcb, shared, umem| {
            let sent = tcb.send(bytes, shared, umem);
            if sent > 0 {
                tcb.mark_urgent(umem);
            }
            sent
        })
    }

    /// Hands out a frame to write into, and queues it; says how many bytes were written.
    pub fn reserve(&mut self, index: u32, write: impl FnOnce(&mut [u8]) -> usize, umem: &mut Umem) -> usize {
        self.with(index, umem, |tcb, shared, umem| tcb.reserve(write, shared, umem))
    }

    /// Sends no more than what is queued.
    pub fn finish(&mut self, index: u32, umem: &mut Umem) {
        self.with(index, umem, |tcb, _, umem| {
            tcb.finish(umem);
            0
        });
    }

    /// Ends the connection at once, also one that is over but for what its application has not taken.
    pub fn abort(&mut self, index: u32) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.ended = tcb.ended.filter(|&end| end != End::Finished).or(Some(End::Aborted));
        }
    }

    /// Puts off telling of an orderly end until the application has taken what was received; whether that is needed.
    pub fn put_off_end(&mut self, index: u32, end: End) -> bool {
        let Some(tcb) = self.tables.connections.get_mut(index) else { return false };
        let waits = end == End::Finished && tcb.rcv.queued > 0;
        // What the application aborted meanwhile ends with that.
        if waits && tcb.ended != Some(End::Aborted) {
            tcb.ended = Some(end);
            (tcb.timers.send_at, tcb.timers.ack_at, tcb.timers.idle_at) = Default::default();
            self.settle(index);
        }
        waits
    }

    /// The application is about to hear that there is room.
    pub fn note_writable(&mut self, index: u32) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.wishes.wants_room = false;
        }
    }

    /// Nagle's algorithm on or off.
    ///
    /// RFC 9293, section 3.7.4 (MUST-17): there MUST be a way for an application to disable the Nagle algorithm on an
    /// individual connection.
    pub fn set_nagle(&mut self, index: u32, on: bool) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.wishes.nagle = on;
        }
    }

    /// Keep-alives after so long a silence, or none.
    ///
    /// RFC 9293, section 3.8.4 (MUST-24, MUST-27): applications MUST be able to turn keep-alives on or off for each TCP
    /// connection, and to configure their interval.
    pub fn set_keep_alive(&mut self, index: u32, idle: Option<Duration>, now: Instant) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.wishes.keep_alive_s = keep_alive_seconds(idle);
            tcb.arm_keep_alive(now);
        }
    }

    /// How long data may stay unacknowledged.
    ///
    /// RFC 9293, section 3.8.3 (MUST-21): an application MUST be able to set the value for R2 for a particular
    /// connection.
    pub fn set_user_timeout(&mut self, index: u32, timeout: Duration) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.wishes.user_timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
            tcb.clamp_send_timer();
        }
    }

    /// The Differentiated Services code point of the connection's segments.
    ///
    /// RFC 9293, section 3.9.1.9 (MUST-48, SHLD-21, SHLD-22): the application layer MUST be able to specify the
    /// Differentiated Services field for segments that are sent on a connection.
    pub fn set_dscp(&mut self, index: u32, dscp: u8) {
        if let Some(tcb) = self.tables.connections.get_mut(index) {
            tcb.wishes.class = dscp << 2;
        }
    }

    /// Does something to a connection, and keeps the account of memory right.
    fn with(
        &mut self,
        index: u32,
        umem: &mut Umem,
        act: impl FnOnce(&mut Tcb, &mut Shared, &mut Umem) -> usize,
    ) -> usize {
        let Some(tcb) = self.tables.connections.get_mut(index) else { return 0 };
        let before = tcb.holdings();
        let count = act(tcb, &mut self.shared, umem);
        self.shared.memory.account(before, tcb.holdings());
        count
    }
}

impl Tcb {
    /// Whether the application can be told of the connection's end: of an orderly one when it has taken everything, and
    /// the peer's FIN is acknowledged.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some_and(|end| end != End::Finished || (self.rcv.queued == 0 && !self.rcv.ack_now))
    }

    /// <SEQ=SND.NXT><CTL=RST,ACK> for a peer that knows of the connection, once (RFC 9293, section 3.10.5).
    pub(super) fn reset(&mut self) -> Option<Control> {
        let knows = self.state.is_synchronized() || self.state == State::SynReceived;
        if !knows || std::mem::replace(&mut self.snd.fin_queued, true) && self.state == State::TimeWait {
            return None;
        }
        let (seq, ack) = (self.snd.nxt, self.rcv.nxt);
        self.state = State::TimeWait;
        let flags = Flags::RST | Flags::ACK;
        Some(Control {
            tuple: self.tuple,
            seq,
            ack,
            flags,
            window: 0,
            options: Options::default(),
            class: self.wishes.class,
        })
    }

    pub(super) fn room(&self, shared: &Shared) -> u32 {
        if !self.state.may_send() || self.finishing || self.ended.is_some() {
            return 0;
        }
        let by_chunks = self.queueable(shared).saturating_mul(u32::from(self.snd.per_chunk));
        shared.config.send_buffer.saturating_sub(self.snd.queued).min(by_chunks)
    }

    /// Frames that may be queued at once.
    #[inline]
    fn queueable(&self, shared: &Shared) -> u32 {
        let queued = self.snd.queue.len();
        shared.memory.send.allowance(queued).min(shared.config.most_frames().saturating_sub(queued))
    }

    fn consume(&mut self, len: usize, shared: &mut Shared, umem: &mut Umem) -> usize {
        let mut left = len.min(self.rcv.queued as usize);
        let taken = left;
        while left > 0
            && let Some(first) = self.rcv.queue.first()
        {
            let first_len = usize::from(umem.queued_len(first));
            if first_len > left {
                umem.trim_front(first, left as u16);
                sum_anew(umem, first);
                break;
            }
            self.rcv.queue.release(umem);
            left -= first_len;
        }
        self.took(taken, shared);
        taken
    }

    /// After text was taken: the window opens.
    fn took(&mut self, taken: usize, shared: &mut Shared) {
        self.rcv.queued -= taken as u32;
        let start = self.rcv.nxt + 0_u32.wrapping_sub(self.rcv.queued);
        self.rcv.urgent &= self.rcv.up.after(start);
        let buffer = shared.config.receive_buffer;
        if self.outgrows_limit(taken as u32, buffer, &shared.memory) {
            self.adapt_limit(taken as u32, buffer, &mut shared.memory);
        }
        if taken > 0 && self.state.takes_text() && self.window_update_is_due(&shared.memory) {
            self.rcv.ack_now = true;
        }
    }

    fn send_back(&mut self, len: usize, shared: &mut Shared, umem: &mut Umem) -> usize {
        if !self.state.may_send() || self.finishing || self.ended.is_some() {
            return 0;
        }
        let (mut sent, mut frames) = (0, self.queueable(shared));
        while let Some(first) = self.rcv.queue.first() {
            let first_len = u32::from(umem.queued_len(first));
            let asked = len - sent;
            if asked == 0 {
                break;
            }
            let room = shared.config.send_buffer.saturating_sub(self.snd.queued);
            if room < first_len || frames == 0 {
                self.wishes.wants_room = true;
                break;
            }
            if asked < first_len as usize {
                sent += self.send_back_part(first, asked, shared, umem);
                break;
            }
            self.queue_received(first_len, umem);
            (sent, frames) = (sent + first_len as usize, frames - 1);
        }
        self.took(sent, shared);
        sent
    }

    /// Sends back the first bytes of a frame, of which the rest stays: these are copied.
    fn send_back_part(&mut self, first: Queued, len: usize, shared: &Shared, umem: &mut Umem) -> usize {
        if self.room(shared) < len as u32 {
            self.wishes.wants_room = true;
            return 0;
        }
        let Some(mut part) = umem.alloc() else {
            self.wishes.wants_room = true;
            return 0;
        };
        if !umem.copy_queued(first, 0, &mut part) || !umem.set_len(&mut part, len) {
            umem.free(part);
            return 0;
        }
        let sum = Sum::default().add_bytes(umem.bytes(&part)).fold();
        *umem.note_mut(&part) = Note { sum, ..Note::EMPTY };
        self.queue_text(part, umem);
        umem.trim_front(first, len as u16);
        sum_anew(umem, first);
        len
    }

    fn send(&mut self, bytes: &[u8], shared: &Shared, umem: &mut Umem) -> usize {
        let room = self.room(shared) as usize;
        let (mut rest, mut sent) = (bytes, 0);
        self.wishes.wants_room |= room < bytes.len();
        while !rest.is_empty() && sent < room {
            let most = self.writable_at_once(umem).min(room - sent);
            let (part, behind) = rest.split_at(rest.len().min(most));
            if !self.extend_last(part, umem) && !self.queue_copy(part, shared, umem) {
                self.wishes.wants_room = true;
                break;
            }
            sent += part.len();
            rest = behind;
        }
        sent
    }

    /// Bytes of text that go into one frame: what the last one has room for where segments are made of several, so that
    /// these are full; else as many as a segment carries.
    fn writable_at_once(&self, umem: &Umem) -> usize {
        let per_chunk = self.snd.per_chunk;
        let last = self.snd.queue.last().filter(|_| self.gathers() && self.snd.unsent != Queued::NONE);
        let left = last.map_or(0, |last| per_chunk.saturating_sub(umem.queued_len(last)));
        usize::from(if left == 0 { per_chunk } else { left })
    }

    /// Everything that is queued is urgent.
    ///
    /// RFC 9293, section 3.8.5 (MUST-31, MUST-62): of any length; the pointer names the octet behind the urgent data.
    fn mark_urgent(&mut self, umem: &Umem) {
        let syn = self.snd.unsent.some().is_some_and(|first| umem.note(first).marks & mark::SYN != 0);
        (self.snd.up, self.snd.urgent) = (self.snd.nxt + self.snd.unsent_len + u32::from(syn), true);
    }

    /// RFC 9293, section 3.9.1.2 (SHLD-27, SHLD-28): what is sent piece by piece is collected for segments of full
    /// size.
    ///
    /// Appends bytes to the last frame, if that was not sent yet and they are few enough for its segment.
    fn extend_last(&mut self, bytes: &[u8], umem: &mut Umem) -> bool {
        let Some(last) = self.snd.queue.last().filter(|_| self.snd.unsent != Queued::NONE) else { return false };
        let is_text = umem.note(last).marks & (mark::SYN | mark::FIN) == 0;
        let fits = usize::from(umem.queued_len(last)) + bytes.len() <= usize::from(self.snd.per_chunk);
        if !is_text || !fits || !umem.extend(last, bytes) {
            return false;
        }
        sum_anew(umem, last);
        self.queued(bytes.len() as u32);
        true
    }

    fn queue_copy(&mut self, bytes: &[u8], shared: &Shared, umem: &mut Umem) -> bool {
        let Some(mut frame) = umem.alloc() else { return false };
        let Some(room) = umem.room_mut(&mut frame).get_mut(..bytes.len()) else {
            umem.free(frame);
            return false;
        };
        room.copy_from_slice(bytes);
        self.queue_written(frame, bytes.len(), shared, umem)
    }

    fn reserve(&mut self, write: impl FnOnce(&mut [u8]) -> usize, shared: &Shared, umem: &mut Umem) -> usize {
        let room = (self.room(shared) as usize).min(usize::from(self.snd.per_chunk));
        let frame = if room > 0 { umem.alloc() } else { None };
        let Some(mut frame) = frame else {
            self.wishes.wants_room = true;
            return 0;
        };
        let written = umem.room_mut(&mut frame).get_mut(..room).map_or(0, write).min(room);
        if written == 0 {
            umem.free(frame);
            return 0;
        }
        if self.queue_written(frame, written, shared, umem) { written } else { 0 }
    }

    /// Queues a frame whose first `len` bytes were written.
    fn queue_written(&mut self, mut frame: Frame, len: usize, shared: &Shared, umem: &mut Umem) -> bool {
        if !umem.set_len(&mut frame, len) {
            umem.free(frame);
            return false;
        }
        // Whoever needs the sum adds up: a device that cuts up segments does by itself.
        let sum = if shared.leaves_sums { 0 } else { Sum::default().add_bytes(umem.bytes(&frame)).fold() };
        *umem.note_mut(&frame) = Note { sum, ..Note::EMPTY };
        self.queue_text(frame, umem);
        true
    }

    /// Appends a frame of text, with its sum on its note, to what is to be sent; a small one behind another.
    #[inline]
    fn queue_text(&mut self, frame: Frame, umem: &mut Umem) {
        let len = u32::from(frame.len());
        if self.may_join(len) && self.join_last(&frame, umem) {
            umem.free(frame);
            self.queued(len);
        } else {
            let place = self.snd.queue.push(umem, frame);
            self.queued_at(place, len, umem);
        }
    }

    /// The same of the first frame that was received.
    #[inline]
    fn queue_received(&mut self, len: u32, umem: &mut Umem) {
        if self.may_join(len) {
            if let Some(frame) = self.rcv.queue.pop(umem) {
                self.queue_text(frame, umem);
            }
        } else if let Some(place) = self.rcv.queue.pass_on(&mut self.snd.queue, umem) {
            self.queued_at(place, len, umem);
        }
    }

    /// Whether so little text goes into the last frame, if that was not sent yet and has room for it.
    #[inline]
    fn may_join(&self, len: u32) -> bool {
        len < super::SMALL && self.snd.unsent != Queued::NONE
    }

    /// A frame became the last one that is to be sent.
    #[inline]
    fn queued_at(&mut self, place: Queued, len: u32, umem: &mut Umem) {
        umem.annotate(place, |note| note.marks = 0);
        if self.snd.unsent == Queued::NONE {
            self.snd.unsent = place;
        }
        self.queued(len);
    }

    #[inline]
    const fn queued(&mut self, len: u32) {
        self.snd.queued += len;
        self.snd.unsent_len += len;
    }

    /// Copies a frame's text behind that of the last unsent one; `false` if it does not fit there.
    #[inline(never)]
    fn join_last(&mut self, frame: &Frame, umem: &mut Umem) -> bool {
        let Some(last) = self.snd.queue.last() else { return false };
        let is_text = umem.note(last).marks & (mark::SYN | mark::FIN) == 0;
        let fits = u32::from(umem.queued_len(last)) + u32::from(frame.len()) <= u32::from(self.snd.per_chunk);
        let joined = is_text && fits && umem.extend_by_frame(last, frame);
        if joined {
            sum_anew(umem, last);
        }
        joined
    }

    fn finish(&mut self, umem: &mut Umem) {
        if self.finishing || self.ended.is_some() {
            return;
        }
        if self.state == State::SynSent && self.outstanding() == 0 && self.snd.queued == 0 {
            // RFC 9293, section 3.10.4: CLOSE in SYN-SENT with nothing sent: delete the TCB.
            self.ended = Some(End::Aborted);
            return;
        }
        if let Some(next) = self.state.finished() {
            self.state = next;
        } else if self.state != State::SynSent {
            return;
        }
        self.finishing = true;
        self.queue_fin(umem);
    }
}
