//! The segment itself: its control bits, its options, its window, its header in front of the text.

use super::long::Span;
use super::state::State;
use super::tcb::{Tcb, mark};
use super::transmit::Next;
use super::{Outgoing, Shared};
use crate::base::{Frame, Instant, Umem};
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Header, MAX_SACK_BLOCKS, Options, PlainHeader};

/// ECN-capable transport, ECT(0) (RFC 3168, section 5).
const ECT0: u8 = 2;

/// Bytes that a SACK option takes up beside its blocks, padding included, and bytes of a block (RFC 2018, section 3).
const SACK_HEADER: usize = 4;
const SACK_BLOCK: usize = 8;

impl Tcb {
    /// Builds the segment of queued frames. One with text is the frames themselves, which stay on the queue.
    pub(super) fn send_queued(
        &mut self,
        span: &Span,
        seq: SeqNum,
        shared: &mut Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> Next {
        let (marks, len) = (span.marks, span.text as u16);
        let frame = if len == 0 { umem.alloc() } else { span.share(umem) };
        let Some(frame) = frame else { return if len == 0 { Next::Starved } else { Next::Nothing } };
        let is_new = seq == self.snd.nxt;
        let mut flags = Flags::ACK;
        if marks & mark::FIN != 0 {
            flags = flags | Flags::FIN;
        }
        // RFC 9293, section 3.9.1.2 (MUST-61): the sender MUST set the PSH bit in the last buffered segment. A FIN
        // alone is not text that is buffered.
        let is_last = umem.next(span.last).is_none_or(|next| umem.queued_len(next) == 0);
        if len > 0 && is_last {
            flags = flags | Flags::PSH;
        }
        let mut class = self.wishes.class;
        if marks & mark::SYN != 0 {
            flags = self.syn_flags();
        } else if self.ecn.on && len > 0 && is_new {
            // RFC 3168, section 6.1.5: retransmissions are not ECN-capable.
            class |= ECT0;
            if std::mem::take(&mut self.ecn.reduced) {
                flags = flags | Flags::CWR;
            }
        }
        let sum = Sum::default().add_values([span.sum]);
        self.build(frame, Plan { seq, flags, class, text: len, sum, shared: len > 0 }, shared, now, umem)
    }

    /// The control bits of our SYN: with what is acknowledged of the peer's, if it came.
    fn syn_flags(&self) -> Flags {
        if self.state != State::SynSent {
            return Flags::SYN | Flags::ACK;
        }
        // RFC 3168, section 6.1.1: ECN is asked for by ECE and CWR; section 6.1.1.1: what was not answered MAY be sent
        // again without, for there are routers that drop what they do not know. An answer to the first still counts.
        let asks = self.ecn.on && self.recovery.timeouts == 0;
        if asks { Flags::SYN | Flags::ECE | Flags::CWR } else { Flags::SYN }
    }

    /// Sends a segment without text: an acknowledgment if it starts at SND.NXT, a probe if before SND.UNA.
    pub(super) fn send_control(&mut self, shared: &mut Shared, now: Instant, umem: &mut Umem, seq: SeqNum) -> Next {
        let Some(frame) = umem.alloc() else { return Next::Starved };
        shared.counters.acknowledgments += 1;
        let plan =
            Plan { seq, flags: Flags::ACK, class: self.wishes.class, text: 0, sum: Sum::default(), shared: false };
        self.build(frame, plan, shared, now, umem)
    }

    /// Writes the header of a segment in front of its text, which is said nothing with that is out of the ordinary: neither
    /// SYN, nor urgent data, nor what arrived behind gaps. Takes note that everything received is acknowledged by it.
    #[inline(always)]
    pub(super) fn build_ordinary(
        &mut self,
        frame: &mut Frame,
        flags: Flags,
        (text, sum): (u16, u16),
        shared: &Shared,
        now: Instant,
        umem: &mut Umem,
    ) -> bool {
        let header = PlainHeader {
            ports: (self.tuple.local.1, self.tuple.remote.1),
            sequence: self.snd.nxt,
            acknowledgment: self.rcv.nxt,
            flags,
            window: self.advertise(&shared.memory),
            timestamps: self.ts.on.then(|| (self.ts.value(now), self.ts.recent)),
            payload_len: text,
        };
        let Some(out) = umem.prepend_len(frame, header.len_bytes()) else { return false };
        let addresses = Sum::default().add_addresses([self.tuple.local.0, self.tuple.remote.0]);
        header.write(out, addresses.add_values([sum]));
        self.acknowledged();
        true
    }

    /// Writes the header in front of a frame's text, and takes note that everything received is acknowledged by it.
    fn build(&mut self, mut frame: Frame, plan: Plan, shared: &mut Shared, now: Instant, umem: &mut Umem) -> Next {
        let is_syn = plan.flags.contains(Flags::SYN);
        let options = if is_syn { self.syn_options(shared, now) } else { self.options(shared, now, plan.text) };
        // What there was no room to report goes out by itself.
        let report_due =
            self.rcv.ack_now && plan.text > 0 && self.sack_ok && self.rcv.out_of_order.has_report(&shared.gaps);
        let withheld = report_due && options.sack.is_empty();
        let window = if is_syn {
            // RFC 7323, section 2.2: the window field of a segment with SYN is never scaled.
            let window = self.rcv.limit.min(u32::from(u16::MAX));
            self.rcv.adv = self.rcv.adv.max(self.rcv.nxt + window);
            window as u16
        } else {
            self.advertise(&shared.memory)
        };
        let mut flags = plan.flags;
        if self.ecn.echo && !is_syn {
            flags = flags | Flags::ECE;
        }
        let urgent = if self.snd.urgent { self.urgent_pointer(plan.seq) } else { None };
        if urgent.is_some() {
            flags = flags | Flags::URG;
        }
        let acknowledges = flags.contains(Flags::ACK);
        let header = Header {
            source: self.tuple.local,
            destination: self.tuple.remote,
            sequence: plan.seq,
            acknowledgment: if acknowledges { self.rcv.nxt } else { SeqNum::default() },
            flags,
            window,
            urgent: urgent.unwrap_or(0),
            options: &options,
            payload_len: plan.text,
        };
        let Some(out) = umem.prepend_len(&mut frame, header.header_len() as u16) else {
            umem.free(frame);
            return Next::Nothing;
        };
        header.write(out, plan.sum);
        if acknowledges {
            self.acknowledged();
            self.rcv.ack_now = withheld;
        }
        Next::Segment(Outgoing {
            frame,
            segments: 1,
            class: plan.class,
            shared: plan.shared,
            doubts_way: std::mem::take(&mut self.timers.doubts_way),
        })
    }

    /// The urgent pointer of a segment that starts at `seq`, if urgent data lies ahead.
    ///
    /// RFC 9293, section 3.8.5 (MUST-30, MUST-31): the urgent mechanism. What lies farther ahead than the field can say
    /// is named by later segments.
    fn urgent_pointer(&self, seq: SeqNum) -> Option<u16> {
        let ahead = self.snd.up.since(seq);
        self.snd.up.after(seq).then(|| u16::try_from(ahead).unwrap_or(u16::MAX))
    }

    /// Everything received is acknowledged by a segment that is on its way.
    #[inline]
    pub(super) const fn acknowledged(&mut self) {
        let rcv = &mut self.rcv;
        (rcv.acked, rcv.unacked_segments, rcv.ack_now) = (rcv.nxt, 0, false);
        self.timers.ack_at = Instant::ZERO;
    }

    /// Options of a segment without SYN, with so many bytes of text: the more text, the fewer SACK blocks.
    ///
    /// RFC 9293, section 3.7.1 (MUST-16): Eff.snd.MSS is what is left when all of the options are taken off. Section
    /// 3.2 (MUST-65): there is no MSS option among them.
    #[inline]
    pub(super) fn options(&mut self, shared: &mut Shared, now: Instant, text: u16) -> Options {
        let mut options = Options::default();
        if self.ts.on {
            options.timestamps = Some((self.ts.value(now), self.ts.recent));
        }
        if self.sack_ok && self.rcv.out_of_order.has_report(&shared.gaps) {
            let most = match text {
                0 => MAX_SACK_BLOCKS,
                _ => usize::from(self.snd.mss.saturating_sub(text)).saturating_sub(SACK_HEADER) / SACK_BLOCK,
            };
            options.sack = self.rcv.out_of_order.sack_blocks(&mut shared.gaps, most);
        }
        options
    }

    /// Options of our SYN: of one that answers the peer's, only what it offered.
    fn syn_options(&self, shared: &Shared, now: Instant) -> Options {
        let answers = self.state != State::SynSent;
        let ts = !answers || self.ts.on;
        Options {
            // RFC 9293, section 3.7.1 (MUST-14, MUST-67, SHLD-5, MAY-3): the MSS option is sent, and is what IP can
            // take in.
            mss: Some(shared.mss(&self.tuple)),
            window_scale: (!answers || self.snd.scaled).then_some(self.rcv.shift_offered),
            sack_permitted: !answers || self.sack_ok,
            timestamps: ts.then(|| (self.ts.value(now), self.ts.recent)),
            ..Options::default()
        }
    }
}

/// A segment to build.
struct Plan {
    seq: SeqNum,
    flags: Flags,
    class: u8,
    text: u16,
    sum: Sum,
    shared: bool,
}
