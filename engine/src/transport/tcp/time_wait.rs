//! TIME-WAIT: both sides finished, and we know it first (RFC 9293, section 3.6.1).
//!
//! All that has to be remembered of such a connection is here, in an eighth of what a connection costs. All wait
//! for the same time, so they leave in the order in which they came, and a queue is timer enough.

use std::time::Duration;

use super::answer_limit::AnswerLimit;
use super::segment::{Control, Segment};
use super::tcb::{Tcb, clock};
use super::tuple::Tuple;
use super::{EXPIRED_AT_ONCE, Kind, Tcp, Verdict};
use crate::base::{DropReason, Frame, Instant};
use crate::structure::slab::Slab;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Options};

const NONE: u32 = u32::MAX;

/// What is remembered of a connection.
#[derive(Debug)]
pub(super) struct TimeWait {
    pub(super) tuple: Tuple,
    snd_nxt: SeqNum,
    rcv_nxt: SeqNum,
    ts_recent: u32,
    ts_offset: u32,
    ts_on: bool,
    limit: AnswerLimit,
    /// Window as in the header.
    window: u16,
    expires: Instant,
    older: u32,
    newer: u32,
}

const _: () = assert!(size_of::<TimeWait>() == 72);

/// What a segment for a connection in TIME-WAIT leads to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It is dropped, perhaps with an answer.
    Dropped(DropReason, Option<Control>),
    /// It is dropped without the answer that is due, because the last one was not long ago.
    Suppressed(DropReason),
    /// It asks for a new connection, which may be opened: with a sequence number above all of the old one.
    Reopened(SeqNum),
}

/// All connections in TIME-WAIT.
#[derive(Debug)]
pub(super) struct TimeWaits {
    slab: Slab<TimeWait>,
    oldest: u32,
    newest: u32,
    wait: Duration,
}

impl TimeWaits {
    pub(super) fn new(capacity: u32, wait: Duration) -> Self {
        Self { slab: Slab::new(capacity), oldest: NONE, newest: NONE, wait }
    }

    pub(super) const fn len(&self) -> u32 {
        self.slab.len()
    }

    pub(super) fn get(&self, index: u32) -> Option<&TimeWait> {
        self.slab.get(index)
    }

    /// Whether there is no place left.
    pub(super) const fn is_full(&self) -> bool {
        self.slab.len() == self.slab.capacity()
    }

    /// The oldest one.
    pub(super) const fn oldest(&self) -> Option<u32> {
        if self.oldest == NONE { None } else { Some(self.oldest) }
    }

    /// When the oldest one has waited for long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.slab.get(self.oldest).map(|entry| entry.expires)
    }

    /// Checks that all are on the list, in the order in which they leave, and calls `check` for each.
    pub(super) fn audit(&self, check: impl Fn(&Tuple, u32) -> Result<(), &'static str>) -> Result<(), &'static str> {
        let (mut listed, mut index, mut expires) = (0, self.oldest, Instant::ZERO);
        while let Some(entry) = self.slab.get(index) {
            check(&entry.tuple, index)?;
            if entry.expires < expires {
                return Err("the oldest TIME-WAIT leaves first");
            }
            (listed, index, expires) = (listed + 1, entry.newer, entry.expires);
        }
        if listed == self.slab.len() { Ok(()) } else { Err("every TIME-WAIT is on the list") }
    }

    /// Remembers a connection; `None` if there is no place.
    pub(super) fn insert(&mut self, tcb: &Tcb, now: Instant) -> Option<u32> {
        let entry = TimeWait {
            tuple: tcb.tuple,
            snd_nxt: tcb.snd.nxt,
            rcv_nxt: tcb.rcv.nxt,
            ts_recent: tcb.ts.recent,
            ts_offset: tcb.ts.offset,
            ts_on: tcb.ts.on,
            limit: AnswerLimit::default(),
            window: (tcb.receive_window() >> tcb.rcv.shift).min(u32::from(u16::MAX)) as u16,
            // RFC 9293, section 3.6.1 (MUST-13): it MUST linger in TIME-WAIT state for a time 2xMSL.
            expires: now + self.wait,
            older: NONE,
            newer: NONE,
        };
        let index = self.slab.insert(entry).ok()?;
        self.append(index);
        Some(index)
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, index: u32) -> Option<Tuple> {
        self.unlink(index);
        self.slab.remove(index).map(|entry| entry.tuple)
    }

    /// Digests a segment (RFC 9293, section 3.10.7.4, where it says TIME-WAIT).
    pub(super) fn segment_arrives(&mut self, index: u32, segment: &Segment, now: Instant) -> Outcome {
        let wait = self.wait;
        let Some(entry) = self.slab.get_mut(index) else { return Outcome::Dropped(DropReason::TcpOutOfWindow, None) };
        let timestamp = segment.options.timestamps.map(|(value, _)| value).filter(|_| entry.ts_on);
        let newer_ts = timestamp.is_some_and(|value| (value.wrapping_sub(entry.ts_recent) as i32) > 0);
        if segment.has(Flags::RST) {
            // RFC 1337, section 3 (F1): RST is ignored in TIME-WAIT, so that an old duplicate cannot end it.
            return Outcome::Dropped(DropReason::TcpReset, None);
        }
        if segment.has(Flags::SYN) && !segment.has(Flags::ACK) {
            // RFC 9293, section 3.6.1 (SHLD-4, MAY-2): timestamps reduce TIME-WAIT. RFC 6191, section 2: a SYN opens a
            // new connection if its timestamp is newer, or, without one, if its number lies above all of the old
            // connection's.
            let same_ts = timestamp.is_none_or(|value| value == entry.ts_recent);
            if newer_ts || (same_ts && segment.seq.after(entry.rcv_nxt)) {
                // The old connection's numbers stay below those of the new one.
                return Outcome::Reopened(entry.snd_nxt + (1 << 16) + 2);
            }
        }
        if !segment.has(Flags::ACK) && !segment.has(Flags::SYN) {
            return Outcome::Dropped(DropReason::TcpNoAck, None);
        }
        let old_ts = timestamp.is_some_and(|value| (value.wrapping_sub(entry.ts_recent) as i32) < 0);
        let reason = if old_ts { DropReason::TcpOldTimestamp } else { DropReason::TcpTimeWait };
        let is_answered = segment.seq_len() > 0 || segment.seq != entry.rcv_nxt;
        // Text and FIN may be sent again because their acknowledgment was lost, so they are acknowledged each time.
        let is_limited = segment.seq_len() == 0 || segment.has(Flags::SYN);
        if is_answered && is_limited && !entry.limit.admits(now) {
            return Outcome::Suppressed(reason);
        }
        let answer = entry.acknowledgment(now);
        if segment.has(Flags::FIN) && segment.end() == entry.rcv_nxt && !old_ts {
            // The peer's FIN again: acknowledge it, and restart the 2 MSL timeout.
            entry.expires = now + wait;
            self.unlink(index);
            self.append(index);
        }
        Outcome::Dropped(reason, is_answered.then_some(answer))
    }

    fn append(&mut self, index: u32) {
        let newest = self.newest;
        if let Some(entry) = self.slab.get_mut(index) {
            (entry.older, entry.newer) = (newest, NONE);
        }
        match self.slab.get_mut(newest) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let Some((older, newer)) = self.slab.get(index).map(|entry| (entry.older, entry.newer)) else { return };
        match self.slab.get_mut(older) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.slab.get_mut(newer) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}

impl TimeWait {
    /// When it has waited for long enough.
    pub(super) const fn expires(&self) -> Instant {
        self.expires
    }

    /// <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>.
    fn acknowledgment(&self, now: Instant) -> Control {
        let mut options = Options::default();
        if self.ts_on {
            options.timestamps = Some((clock(now).wrapping_add(self.ts_offset), self.ts_recent));
        }
        let (seq, ack) = (self.snd_nxt, self.rcv_nxt);
        Control { tuple: self.tuple, seq, ack, flags: Flags::ACK, window: self.window, options, class: 0 }
    }
}

impl Tcp {
    /// Digests a segment of such a connection.
    pub(super) fn in_time_wait(&mut self, index: u32, segment: &Segment, frame: Frame, now: Instant) -> Verdict {
        match self.tables.time_waits.segment_arrives(index, segment, now) {
            Outcome::Dropped(reason, None) => Verdict::dropped(frame, reason),
            Outcome::Dropped(reason, Some(reply)) => {
                self.shared.counters.challenges += u64::from(segment.has(Flags::SYN));
                self.shared.answered(frame, reason, reply)
            }
            Outcome::Suppressed(reason) => {
                self.shared.counters.challenges += u64::from(segment.has(Flags::SYN));
                self.shared.counters.challenges_suppressed += 1;
                Verdict::dropped(frame, reason)
            }
            Outcome::Reopened(iss) => {
                self.forget_time_wait(index);
                if !self.listens_at(segment.tuple.local) {
                    return self.in_closed(segment, frame);
                }
                self.shared.counters.time_wait_reopened += 1;
                self.shared.counters.syns_received += 1;
                self.open_passively(segment, iss, frame, now)
            }
        }
    }

    pub(super) fn forget_time_wait(&mut self, index: u32) {
        if let Some(tuple) = self.tables.time_waits.remove(index) {
            self.tables.flows.remove(tuple.hash(self.tables.key), Kind::TimeWait.tag(index));
        }
    }

    #[inline(never)]
    pub(super) fn expire_time_waits(&mut self, now: Instant) {
        for _ in 0..EXPIRED_AT_ONCE {
            let Some(index) = self.tables.time_waits.oldest() else { break };
            if self.tables.time_waits.get(index).is_none_or(|entry| entry.expires() > now) {
                break;
            }
            self.forget_time_wait(index);
        }
    }
}
