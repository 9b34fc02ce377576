//! Passive opens: LISTEN, and SYN-RECEIVED until the handshake is over (RFC 9293, section 3.10.7.2; RFC 4987).
//!
//! A SYN costs an [`Embryo`], an eighth of a connection, in a table of its own. When that is full, SYN cookies take
//! over: the answer then carries in its numbers all that has to be remembered, and nothing is stored. The same holds when
//! connections and handshakes have all places: whoever answers gets that of the oldest handshake.

use std::time::Duration;

use super::answer_limit::AnswerLimit;
use super::rtt::RttEstimator;
use super::segment::{Control, Segment};
use super::state::State;
use super::syn_cookie::{CookieOptions, decode_timestamp, encode_timestamp};
use super::tcb::{Tcb, clock};
use super::tuple::Tuple;
use super::{Kind, Shared, Tcp, Verdict};
use crate::base::{DropReason, Frame, Instant, Umem};
use crate::structure::ready_list::ReadyList;
use crate::structure::slab::Slab;
use crate::structure::timer_wheel::TimerWheel;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Options};

/// Time before the answer to a SYN is sent again, doubled each time (RFC 6298, section 2).
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Times that it is sent again (Linux: tcp_synack_retries).
const RETRIES: u8 = 5;
/// How long after the last SYN cookie an acknowledgment may be the answer to one: as long as cookies are good.
const COOKIES_LAST: Duration = Duration::from_secs(128);

/// What is known of a connection when its handshake is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    pub(super) tuple: Tuple,
    pub(super) irs: SeqNum,
    pub(super) iss: SeqNum,
    pub(super) peer_mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack: bool,
    /// TS.Recent, if timestamps were agreed on.
    pub(super) ts_recent: Option<u32>,
    pub(super) ecn: bool,
    /// The window that the peer was told of.
    pub(super) window: u16,
}

/// What the handshake says about the round-trip time.
#[derive(Clone, Copy, Debug)]
enum Rtt {
    /// It was measured.
    Is(Duration),
    /// Our SYN was sent more than once (RFC 5681, section 3.1; RFC 6298, section 5.7).
    Ambiguous,
    /// It was answered by a cookie, and nobody knows when.
    Unknown,
}

/// A connection whose handshake is not over yet.
#[derive(Debug)]
pub(super) struct Embryo {
    pub(super) opening: Opening,
    answered_at: Instant,
    /// Times that the answer was sent again because the timer ran out; and whether it was because the SYN came again.
    retries: u8,
    asked_again: bool,
    /// Limits answers to SYNs that come again, and those to what is not accepted.
    again_limit: AnswerLimit,
    challenge_limit: AnswerLimit,
}

const _: () = assert!(size_of::<Embryo>() == 80);

/// All of them.
#[derive(Debug)]
pub(super) struct Embryos {
    pub(super) slab: Slab<Embryo>,
    pub(super) wheel: TimerWheel,
    /// In the order in which they began.
    pub(super) ages: ReadyList,
    cookies_until: Instant,
}

impl Embryos {
    pub(super) fn new(backlog: u32, now: Instant) -> Self {
        Self {
            slab: Slab::new(backlog),
            wheel: TimerWheel::new(backlog, now),
            ages: ReadyList::new(backlog),
            cookies_until: Instant::ZERO,
        }
    }
}

impl Tcp {
    /// Digests a segment for a port that somebody listens on, from a peer without a connection.
    pub(super) fn in_listen(&mut self, segment: &Segment, frame: Frame, now: Instant, umem: &mut Umem) -> Verdict {
        // RFC 9293, section 3.10.7.2: first, check for a RST: an incoming RST should be ignored.
        if segment.has(Flags::RST) {
            return Verdict::dropped(frame, DropReason::TcpReset);
        }
        // Second, check for an ACK: any acknowledgment is bad if it arrives on a connection still in the LISTEN state,
        // unless it is for a cookie.
        if segment.has(Flags::ACK) {
            return self.take_cookie(segment, frame, now, umem);
        }
        // Third, check for a SYN. One with FIN asks for nothing that makes sense (as Linux sees it).
        if !segment.has(Flags::SYN) || segment.has(Flags::FIN) {
            return Verdict::dropped(frame, DropReason::TcpNoConnection);
        }
        self.shared.counters.syns_received += 1;
        let iss = self.shared.numbers.isn(now, &segment.tuple);
        self.open_passively(segment, iss, frame, now)
    }

    /// Whether connections leave a place to another one.
    pub(super) fn has_place(&self) -> bool {
        self.tables.connections.len() < self.shared.config.connections
    }

    /// Whether connections leave one to another handshake, too.
    fn has_place_for_handshake(&self) -> bool {
        self.tables.connections.len() + self.tables.embryos.slab.len() < self.shared.config.connections
    }

    /// A connection is about to take up a place: if handshakes have all that are left, the oldest gives way. That of a
    /// flood never ends, and that of a peer which means it is over after a round trip.
    pub(super) fn make_place(&mut self) {
        if !self.has_place_for_handshake()
            && let Some(oldest) = self.tables.embryos.ages.first()
        {
            self.shared.counters.handshakes_evicted += 1;
            self.forget_embryo(oldest);
        }
    }

    /// Answers a SYN, and remembers it if there is room.
    pub(super) fn open_passively(&mut self, segment: &Segment, iss: SeqNum, frame: Frame, now: Instant) -> Verdict {
        if !self.has_place() {
            return Verdict::dropped(frame, DropReason::TcpConnectionsFull);
        }
        let options = &segment.options;
        let opening = Opening {
            tuple: segment.tuple,
            irs: segment.seq,
            iss,
            peer_mss: options.mss,
            window_scale: options.window_scale,
            sack: options.sack_permitted,
            ts_recent: options.timestamps.map(|(value, _)| value),
            ecn: asks_for_ecn(segment) && self.shared.config.ecn,
            window: self.shared.first_window(),
        };
        let hash = segment.tuple.hash(self.tables.key);
        let embryo = Embryo {
            opening,
            answered_at: now,
            retries: 0,
            asked_again: false,
            again_limit: AnswerLimit::default(),
            challenge_limit: AnswerLimit::default(),
        };
        let remembered =
            if self.has_place_for_handshake() { self.tables.embryos.slab.insert(embryo) } else { Err(embryo) };
        match remembered {
            Ok(index) if self.tables.flows.insert(hash, Kind::Embryo.tag(index)) => {
                self.tables.embryos.wheel.arm(index, now + FIRST_RETRY);
                self.tables.embryos.ages.push(index);
                let answer = syn_ack(&opening, &self.shared, now);
                self.shared.replied(frame, answer)
            }
            Ok(index) => {
                self.tables.embryos.slab.remove(index);
                Verdict::dropped(frame, DropReason::TcpConnectionsFull)
            }
            Err(_) if !self.syn_guard.admits(hash, now) => Verdict::dropped(frame, DropReason::TcpSynFlood),
            Err(_) => {
                self.tables.embryos.cookies_until = now + COOKIES_LAST;
                self.shared.counters.cookies_sent += 1;
                let answer = self.cookie(&opening, now);
                self.shared.replied(frame, answer)
            }
        }
    }

    /// The answer to a SYN with everything in its numbers (RFC 4987, section 3.6).
    fn cookie(&self, opening: &Opening, now: Instant) -> Control {
        let mss = opening.peer_mss.unwrap_or(super::default_mss(opening.tuple.remote.0.is_v4()));
        // Without a timestamp there is nowhere to keep the other options.
        let kept = opening.ts_recent.map(|_| CookieOptions {
            window_scale: opening.window_scale,
            sack_permitted: opening.sack,
            ecn: opening.ecn,
        });
        let iss = self.shared.cookies.make(now, &opening.tuple, opening.irs, mss, kept);
        let options = kept.unwrap_or_default();
        let (window_scale, sack, ecn) = (options.window_scale, options.sack_permitted, options.ecn);
        let mut control = syn_ack(&Opening { iss, window_scale, sack, ecn, ..*opening }, &self.shared, now);
        control.options.timestamps =
            control.options.timestamps.map(|(value, recent)| (encode_timestamp(value, options), recent));
        control
    }

    /// An acknowledgment out of the blue: the last part of a handshake, if it acknowledges a cookie of ours.
    fn take_cookie(&mut self, segment: &Segment, frame: Frame, now: Instant, umem: &mut Umem) -> Verdict {
        let (irs, iss) = (segment.seq + u32::MAX, segment.ack + u32::MAX);
        let kept = segment.options.timestamps.map(|(_, ecr)| decode_timestamp(ecr));
        let mss = (now < self.tables.embryos.cookies_until && !segment.has(Flags::SYN))
            .then(|| self.shared.cookies.check(now, &segment.tuple, irs, iss, kept))
            .flatten();
        let Some(mss) = mss else {
            self.shared.counters.resets_sent += 1;
            return self.shared.answered(frame, DropReason::TcpNoConnection, Control::reset_for(segment));
        };
        if !self.has_place() {
            // The peer sends again.
            return Verdict::dropped(frame, DropReason::TcpConnectionsFull);
        }
        self.make_place();
        self.shared.counters.cookies_accepted += 1;
        let kept = kept.unwrap_or_default();
        let opening = Opening {
            tuple: segment.tuple,
            irs,
            iss,
            peer_mss: Some(mss),
            window_scale: kept.window_scale,
            sack: kept.sack_permitted,
            ts_recent: segment.options.timestamps.map(|(value, _)| value),
            ecn: kept.ecn,
            // What was told nobody knows any more.
            window: self.shared.first_window(),
        };
        self.open(&opening, Rtt::Unknown, segment, frame, now, umem)
    }

    /// Digests a segment for a connection whose handshake is not over (RFC 9293, section 3.10.7.4, SYN-RECEIVED after
    /// a passive OPEN).
    pub(super) fn in_handshake(
        &mut self,
        index: u32,
        segment: &Segment,
        frame: Frame,
        now: Instant,
        umem: &mut Umem,
    ) -> Verdict {
        let Some(embryo) = self.tables.embryos.slab.get(index) else {
            return Verdict::dropped(frame, DropReason::TcpNoConnection);
        };
        let opening = embryo.opening;
        let nxt = opening.irs + 1;
        if segment.has(Flags::SYN) && !segment.has(Flags::ACK) && segment.seq == opening.irs {
            return self.answer_again(index, segment, frame, now);
        }
        let window = u32::from(opening.window);
        let old_ts = opening
            .ts_recent
            .zip(segment.options.timestamps)
            .is_some_and(|(recent, (value, _))| (value.wrapping_sub(recent) as i32) < 0);
        if !segment.seq.within(nxt, window) || (old_ts && !segment.has(Flags::RST)) {
            if segment.has(Flags::RST) {
                return Verdict::dropped(frame, DropReason::TcpOutOfWindow);
            }
            return self.challenge_in_handshake(index, segment, frame, DropReason::TcpOutOfWindow, now);
        }
        if segment.has(Flags::RST) {
            // RFC 5961, section 3.2: exactly the next number, or it is challenged.
            if segment.seq != nxt {
                return self.challenge_in_handshake(index, segment, frame, DropReason::TcpReset, now);
            }
            // RFC 9293, section 3.10.7.4 (MUST-11): if it was initiated with a passive OPEN, return to LISTEN.
            self.shared.counters.resets_received += 1;
            self.forget_embryo(index);
            return Verdict::taken(Some(frame));
        }
        if segment.has(Flags::SYN) {
            // RFC 9293, section 3.10.7.4, fourth: if it was initiated with a passive OPEN, return to LISTEN.
            self.forget_embryo(index);
            return Verdict::dropped(frame, DropReason::TcpSyn);
        }
        if !segment.has(Flags::ACK) {
            return Verdict::dropped(frame, DropReason::TcpNoAck);
        }
        if opening.ts_recent.is_some() && segment.options.timestamps.is_none() {
            // RFC 7323, section 3.2. A connection made of it would not take it, and wait for a handshake that is over.
            return Verdict::dropped(frame, DropReason::TcpNoTimestamp);
        }
        if segment.ack != opening.iss + 1 {
            self.shared.counters.resets_sent += 1;
            return self.shared.answered(frame, DropReason::TcpBadAck, Control::reset_for(segment));
        }
        // RFC 6298, section 3: RTT samples MUST NOT be made using segments that were retransmitted, for whatever reason.
        let was_sent_once = embryo.retries == 0 && !embryo.asked_again;
        let rtt = if was_sent_once { Rtt::Is(now.since(embryo.answered_at)) } else { Rtt::Ambiguous };
        self.forget_embryo(index);
        self.open(&opening, rtt, segment, frame, now, umem)
    }

    /// The same SYN again: our answer was lost, or is slow.
    fn answer_again(&mut self, index: u32, segment: &Segment, frame: Frame, now: Instant) -> Verdict {
        let Some(embryo) = self.tables.embryos.slab.get_mut(index) else {
            return Verdict::dropped(frame, DropReason::TcpNoConnection);
        };
        // RFC 3168, section 6.1.1: a host that received a SYN which does not ask for ECN SHOULD NOT set ECT; section
        // 6.1.1.1: one that was not answered may come again as such.
        embryo.opening.ecn &= asks_for_ecn(segment);
        if !embryo.again_limit.admits(now) {
            self.shared.counters.challenges_suppressed += 1;
            return Verdict::dropped(frame, DropReason::TcpDuplicate);
        }
        embryo.asked_again = true;
        self.shared.counters.syn_acks_retransmitted += 1;
        let again = Opening { ts_recent: segment.options.timestamps.map(|(value, _)| value), ..embryo.opening };
        let answer = syn_ack(&again, &self.shared, now);
        self.shared.answered(frame, DropReason::TcpDuplicate, answer)
    }

    /// Drops a segment that is not accepted in the handshake, and answers it, within the limit (RFC 9293, section
    /// 3.10.7.4, first; RFC 5961, sections 3.2 and 7).
    fn challenge_in_handshake(
        &mut self,
        index: u32,
        segment: &Segment,
        frame: Frame,
        reason: DropReason,
        now: Instant,
    ) -> Verdict {
        let Some(embryo) = self.tables.embryos.slab.get_mut(index) else { return Verdict::dropped(frame, reason) };
        self.shared.counters.challenges += u64::from(segment.has(Flags::RST) || segment.has(Flags::SYN));
        if !embryo.challenge_limit.admits(now) {
            self.shared.counters.challenges_suppressed += 1;
            return Verdict::dropped(frame, reason);
        }
        let answer = handshake_ack(&embryo.opening, &self.shared, now);
        self.shared.answered(frame, reason, answer)
    }

    /// Makes a connection of a handshake, and has it digest the segment that ended it.
    fn open(
        &mut self,
        opening: &Opening,
        rtt: Rtt,
        segment: &Segment,
        frame: Frame,
        now: Instant,
        umem: &mut Umem,
    ) -> Verdict {
        let mut tcb = Tcb::new(opening.tuple, opening.iss, State::SynReceived, false, &self.shared, now);
        tcb.snd.nxt = opening.iss + 1;
        tcb.take_opening(opening, &self.shared, now);
        match rtt {
            Rtt::Is(rtt) => tcb.rtt.sample(rtt, now),
            Rtt::Unknown => {}
            Rtt::Ambiguous => tcb.begin_with_care(),
        }
        let hash = opening.tuple.hash(self.tables.key);
        let Ok(index) = self.tables.connections.insert(tcb) else {
            return Verdict::dropped(frame, DropReason::TcpConnectionsFull);
        };
        if !self.tables.flows.insert(hash, Kind::Connection.tag(index)) {
            self.tables.connections.remove(index);
            return Verdict::dropped(frame, DropReason::TcpConnectionsFull);
        }
        self.count_promise(index);
        self.in_connection(index, segment, frame, now, umem)
    }

    fn forget_embryo(&mut self, index: u32) {
        self.tables.embryos.wheel.disarm(index);
        self.tables.embryos.ages.remove(index);
        if let Some(embryo) = self.tables.embryos.slab.remove(index) {
            self.tables.flows.remove(embryo.opening.tuple.hash(self.tables.key), Kind::Embryo.tag(index));
        }
    }

    /// The next answer to a SYN that is due again. Those that were never acknowledged are forgotten.
    pub(super) fn expire_embryos(&mut self, now: Instant) -> Option<Control> {
        while let Some(index) = self.tables.embryos.wheel.expire(now) {
            let Some(embryo) = self.tables.embryos.slab.get_mut(index) else { continue };
            if embryo.retries >= RETRIES {
                self.shared.counters.handshakes_timed_out += 1;
                self.forget_embryo(index);
                continue;
            }
            embryo.retries += 1;
            self.tables.embryos.wheel.arm(index, now + FIRST_RETRY * (1 << embryo.retries));
            self.shared.counters.syn_acks_retransmitted += 1;
            return Some(syn_ack(&embryo.opening, &self.shared, now));
        }
        None
    }
}

impl Tcb {
    /// Takes over what the handshake agreed on.
    pub(super) fn take_opening(&mut self, opening: &Opening, shared: &Shared, now: Instant) {
        self.rcv.nxt = opening.irs + 1;
        (self.rcv.acked, self.rcv.up) = (self.rcv.nxt, self.rcv.nxt);
        self.rcv.limit = u32::from(opening.window);
        if let Some(recent) = opening.ts_recent {
            self.ts.on = true;
            self.ts.set_recent(recent, now);
        }
        self.sack_ok = opening.sack;
        self.ecn.on = opening.ecn;
        self.snd.scaled = opening.window_scale.is_some();
        self.snd.shift = opening.window_scale.unwrap_or(0).min(14);
        self.rcv.shift = if self.snd.scaled { self.rcv.shift_offered } else { 0 };
        // Rounded up, as an acknowledgment during the handshake may have told it.
        self.rcv.adv = self.rcv.nxt + self.rcv.limit.next_multiple_of(1 << self.rcv.shift);
        self.rtt = RttEstimator::new(shared.config.rto);
        self.set_peer_mss(opening.peer_mss, shared);
    }
}

/// RFC 3168, section 6.1.1: an ECN-setup SYN has both bits.
fn asks_for_ecn(segment: &Segment) -> bool {
    segment.has(Flags::ECE) && segment.has(Flags::CWR)
}

/// <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>, with those options that the peer offered.
fn syn_ack(opening: &Opening, shared: &Shared, now: Instant) -> Control {
    let mut flags = Flags::SYN | Flags::ACK;
    if opening.ecn {
        // RFC 3168, section 6.1.1.
        flags = flags | Flags::ECE;
    }
    let ts_offset = shared.numbers.ts_offset(&opening.tuple);
    let options = Options {
        // RFC 9293, section 3.7.1 (MUST-14, MUST-67, SHLD-5): as in every SYN.
        mss: Some(shared.mss(&opening.tuple)),
        window_scale: opening.window_scale.map(|_| super::window::shift_for(shared.config.receive_buffer)),
        sack_permitted: opening.sack,
        timestamps: opening.ts_recent.map(|recent| (clock(now).wrapping_add(ts_offset), recent)),
        ..Options::default()
    };
    Control {
        tuple: opening.tuple,
        seq: opening.iss,
        ack: opening.irs + 1,
        flags,
        window: opening.window,
        options,
        class: 0,
    }
}

/// <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> while the handshake lasts.
fn handshake_ack(opening: &Opening, shared: &Shared, now: Instant) -> Control {
    let answer = syn_ack(opening, shared, now);
    let options = Options { timestamps: answer.options.timestamps, ..Options::default() };
    // RFC 9293, section 3.8.6 (SHLD-14): rounded up, for a receiver SHOULD NOT shrink the window.
    let window = answer.window.div_ceil(1 << answer.options.window_scale.unwrap_or(0));
    Control { seq: opening.iss + 1, flags: Flags::ACK, window, options, ..answer }
}
