//! Whether the books of TCP balance: every account is made up anew from what there is. For tests, which do so after
//! every turn, and for whoever suspects a mistake: it looks at everything.

use super::memory::Holdings;
use super::reassembly::{Gaps, fin_len};
use super::sack::seq_len;
use super::tcb::{Tcb, mark};
use super::tuple::Tuple;
use super::{Kind, Tcp};
use crate::base::{Instant, Queued, Umem};
use crate::structure::slab::Slab;
use crate::wire::seq::SeqNum;

/// Says what is wrong unless something holds.
const fn hold(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Tcp {
    /// Makes up all accounts anew.
    ///
    /// # Errors
    /// What does not hold, and of which connection (of none: [`Tuple::NONE`]).
    pub fn audit(&self, umem: &Umem) -> Result<(), (Tuple, &'static str)> {
        let (mut holdings, mut aside, mut promised) = (Holdings::default(), (0, 0, 0), 0);
        for (index, tcb) in self.tables.connections.iter() {
            let known = self.tables.find(&tcb.tuple) == Some((Kind::Connection, index));
            let ready = self.ready.contains(index);
            // Of one that is ready the timer is armed when it no longer is.
            let armed = match (tcb.deadline(), self.wheel.deadline(index)) {
                (Some(at), Some(armed)) => armed <= at,
                (deadline, armed) => deadline.is_some() == armed.is_some(),
            };
            hold(known, "the flow table leads to the connection")
                .and_then(|()| hold(ready || armed, "the wheel has a deadline no later than the earliest"))
                .and_then(|()| tcb.audit(ready, &self.shared.gaps, umem))
                .map_err(|wrong| (tcb.tuple, wrong))?;
            let Holdings { send, receive } = tcb.holdings();
            (holdings.send, holdings.receive) = (holdings.send + send, holdings.receive + receive);
            promised += u64::from(tcb.rcv.counted());
            aside.0 += u32::from(!tcb.rcv.out_of_order.is_idle());
            aside.1 += u32::from(!tcb.recovery.repair.is_none());
            aside.2 += u32::from(!tcb.recovery.rack.scoreboard.is_none());
        }
        for (index, embryo) in self.tables.embryos.slab.iter() {
            let tuple = embryo.opening.tuple;
            let known = self.tables.find(&tuple) == Some((Kind::Embryo, index));
            hold(known, "the flow table leads to the handshake")
                .and_then(|()| hold(self.tables.embryos.wheel.deadline(index).is_some(), "a handshake has a deadline"))
                .map_err(|wrong| (tuple, wrong))?;
        }
        let waiting = self.tables.time_waits.audit(|tuple, index| {
            hold(self.tables.find(tuple) == Some((Kind::TimeWait, index)), "the flow table leads to the TIME-WAIT")
        });
        let kept = (self.shared.gaps.len(), self.shared.repairs.len(), self.shared.scoreboards.len());
        let of_connections = hold(kept == aside, "gaps, repairs and scoreboards are of connections")
            .and_then(|()| hold(promised == self.shared.memory.promises.counted(), "what is promised is counted"));
        waiting.and(of_connections).and_then(|()| self.audit_totals(holdings)).map_err(|wrong| (Tuple::NONE, wrong))
    }

    fn audit_totals(&self, holdings: Holdings) -> Result<(), &'static str> {
        let (connections, embryos, time_waits) = self.population();
        hold(self.tables.flows.len() == connections + embryos + time_waits, "the flow table has no other flows")?;
        hold(self.tables.embryos.wheel.len() == embryos, "every handshake has one deadline")?;
        hold(self.tables.embryos.ages.len() == embryos, "every handshake has an age")?;
        hold(self.shared.memory.holdings() == holdings, "what is held is what connections hold")?;
        hold(self.ready.len() <= connections, "only connections are ready to send")?;
        let nobody = connections + embryos + time_waits == 0;
        hold(!nobody || self.next_deadline().is_none(), "where nobody waits nothing is due")
    }
}

impl Tcb {
    fn audit(&self, ready: bool, gaps: &Slab<Gaps>, umem: &Umem) -> Result<(), &'static str> {
        self.audit_send_queue(umem)?;
        self.audit_receive_queues(gaps, umem)?;
        if self.ended.is_some() {
            return hold(ready || !self.is_over(), "an end is told");
        }
        let timed = self.timers.send_at != Instant::ZERO;
        hold(self.outstanding() == 0 || timed, "what is under way has a timer")?;
        let blocked = self.snd.unsent != Queued::NONE && self.outstanding() == 0;
        hold(!blocked || timed || ready, "what waits for a window has a timer")?;
        let holding_back = self.rcv.unacked_segments > 0;
        let acknowledged = self.rcv.ack_now && ready || self.timers.ack_at != Instant::ZERO;
        hold(!holding_back || acknowledged, "what was received will be acknowledged")
    }

    fn audit_send_queue(&self, umem: &Umem) -> Result<(), &'static str> {
        let (mut seq, mut text, mut unsent_text, mut frames) = (self.snd.una, 0, 0, 0);
        let (mut sacked, mut lost, mut retransmitted) = (0, 0, 0);
        let (mut next, mut unsent) = (self.snd.queue.first(), false);
        while let Some(place) = next {
            unsent |= place == self.snd.unsent;
            let (note, len) = (*umem.note(place), seq_len(umem, place));
            let count = |flag| if note.marks & flag != 0 { len } else { 0 };
            hold(unsent || SeqNum::new(note.seq) == seq, "sent frames follow one another")?;
            hold(len > 0, "a queued frame takes up sequence numbers")?;
            let marks = mark::SACKED | mark::LOST | mark::RETRANSMITTED;
            hold(!unsent || note.marks & marks == 0, "what was never sent is neither lost nor arrived")?;
            hold(note.marks & (mark::SACKED | mark::LOST) != mark::SACKED | mark::LOST, "what arrived is not lost")?;
            sacked += count(mark::SACKED);
            lost += count(mark::LOST);
            retransmitted += count(mark::RETRANSMITTED);
            let queued = u32::from(umem.queued_len(place));
            (text, unsent_text) = (text + queued, unsent_text + if unsent { queued } else { 0 });
            seq = if unsent { seq } else { seq + len };
            frames += 1;
            next = umem.next(place);
        }
        hold(frames == self.snd.queue.len(), "the send queue is as long as it says")?;
        hold(unsent == (self.snd.unsent != Queued::NONE), "the first unsent frame is on the queue")?;
        hold(seq == self.snd.nxt, "sent frames reach to SND.NXT")?;
        hold(text == self.snd.queued && unsent_text == self.snd.unsent_len, "queued text is counted")?;
        hold(lost == self.recovery.lost && retransmitted == self.recovery.retransmitted, "losses are counted")?;
        hold(!self.sack_ok || sacked == self.recovery.sacked, "what SACK reported is counted")?;
        hold(sacked + lost <= self.outstanding() + retransmitted, "no more is lost and arrived than was sent")
    }

    fn audit_receive_queues(&self, gaps: &Slab<Gaps>, umem: &Umem) -> Result<(), &'static str> {
        let (mut text, mut frames, mut next) = (0, 0, self.rcv.queue.first());
        while let Some(place) = next {
            (text, frames) = (text + u32::from(umem.queued_len(place)), frames + 1);
            next = umem.next(place);
        }
        hold(text == self.rcv.queued && frames == self.rcv.queue.len(), "received text is counted")?;
        hold(
            self.rcv.adv.after_eq(self.rcv.nxt) || !self.state.takes_text(),
            "the window does not end before RCV.NXT",
        )?;
        hold(self.rcv.acked.before_eq(self.rcv.nxt), "nothing is acknowledged that was not received")?;
        match self.rcv.out_of_order.get(gaps) {
            Some(gaps) => gaps.audit(self.rcv.out_of_order.len(), self.rcv.nxt, umem),
            None => hold(
                self.rcv.out_of_order.is_idle() && self.rcv.out_of_order.is_empty(),
                "gaps are where they are said to be",
            ),
        }
    }
}

impl Gaps {
    fn audit(&self, known: u32, nxt: SeqNum, umem: &Umem) -> Result<(), &'static str> {
        let (mut bytes, mut frames, mut next, mut behind) = (0, 0, self.first(), nxt);
        while let Some(place) = next {
            let (note, len) = (umem.note(place), u32::from(umem.queued_len(place)));
            let seq = SeqNum::new(note.seq);
            hold(seq.after_eq(behind) && (frames > 0 || seq.after(nxt)), "frames behind gaps lie apart, in order")?;
            (bytes, frames, behind) = (bytes + len, frames + 1, seq + len + fin_len(note.marks));
            next = umem.next(place);
        }
        hold(self.runs_hold(umem), "runs of frames behind gaps are known")?;
        hold(bytes == self.bytes() && frames == self.len() && frames == known, "text behind gaps is counted")
    }
}
