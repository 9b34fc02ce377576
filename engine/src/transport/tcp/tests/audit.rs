//! What has to hold of every connection after every step of a script.

use super::Script;
use crate::base::{Instant, Queued, Umem};
use crate::transport::tcp::sack::seq_len;
use crate::transport::tcp::tcb::{Tcb, mark};
use crate::wire::seq::SeqNum;

/// Panics if the books do not balance.
pub(super) fn audit(script: &Script) {
    let tcp = &script.tcp;
    let mut held = 0;
    for (index, tcb) in tcp.tables.connections.iter() {
        send_queue(tcb, &script.umem);
        receive_queue(tcb, &script.umem);
        held += tcb.holdings().send + tcb.holdings().receive;
        if !script.is_in_turn() && tcb.ended.is_none() {
            timers(tcb);
            let armed = tcp.wheel.deadline(index);
            let in_time = tcb.deadline().is_none_or(|at| armed.is_some_and(|armed| armed <= at));
            assert!(in_time || tcp.ready.contains(index), "the wheel turns in time: {:?} {armed:?}", tcb.deadline());
        }
    }
    assert_eq!(tcp.held(), held, "chunks held by connections");
    let (connections, embryos, time_waits) = tcp.population();
    assert_eq!(tcp.tables.flows.len(), connections + embryos + time_waits, "flows");
    assert_eq!(script.umem.free_chunks() + held + script.lent(), super::CHUNKS, "chunks in all");
}

/// The send queue: first what was sent, without gaps, then what was not; and the sums that are kept of it.
fn send_queue(tcb: &Tcb, umem: &Umem) {
    let (mut seq, mut queued, mut unsent_len) = (tcb.snd.una, 0, 0);
    let (mut sacked, mut lost, mut retransmitted) = (0, 0, 0);
    let (mut next, mut is_unsent) = (tcb.snd.queue.first(), false);
    while let Some(place) = next {
        is_unsent |= place == tcb.snd.unsent;
        let (note, len) = (umem.note(place), seq_len(umem, place));
        queued += u32::from(umem.queued_len(place));
        if is_unsent {
            unsent_len += u32::from(umem.queued_len(place));
        } else {
            assert_eq!(SeqNum::new(note.seq), seq, "sent frames follow each other");
            seq += len;
            let count = |flag| if note.marks & flag == 0 { 0 } else { len };
            sacked += count(mark::SACKED);
            lost += count(mark::LOST);
            retransmitted += count(mark::RETRANSMITTED);
            let both = mark::SACKED | mark::LOST;
            assert_ne!(note.marks & both, both, "what the peer has is not lost");
        }
        next = umem.next(place);
    }
    assert_eq!(is_unsent, tcb.snd.unsent != Queued::NONE, "the first unsent frame is on the queue");
    assert_eq!(seq, tcb.snd.nxt, "SND.NXT");
    assert_eq!((queued, unsent_len), (tcb.snd.queued, tcb.snd.unsent_len), "bytes queued, and unsent");
    let books = (tcb.recovery.lost, tcb.recovery.retransmitted);
    assert_eq!((lost, retransmitted), books, "bytes lost, and sent again");
    if tcb.sack_ok {
        assert_eq!(sacked, tcb.recovery.sacked, "bytes acknowledged by SACK");
    }
}

fn receive_queue(tcb: &Tcb, umem: &Umem) {
    let (mut next, mut queued) = (tcb.rcv.queue.first(), 0);
    while let Some(place) = next {
        queued += u32::from(umem.queued_len(place));
        next = umem.next(place);
    }
    assert_eq!(queued, tcb.rcv.queued, "bytes received and not taken");
}

/// Whatever waits, waits for a timer.
fn timers(tcb: &Tcb) {
    if tcb.outstanding() > 0 {
        assert_ne!(tcb.timers.send_at, Instant::ZERO, "segments under way have a timer: {tcb:?}");
    }
    let waits_for_window = tcb.snd.unsent != Queued::NONE && tcb.state.is_synchronized();
    if waits_for_window && tcb.outstanding() == 0 {
        assert_ne!(tcb.timers.send_at, Instant::ZERO, "a closed window has a timer: {tcb:?}");
    }
    if tcb.rcv.unacked_segments > 0 {
        assert_ne!(tcb.timers.ack_at, Instant::ZERO, "a delayed acknowledgment has a timer");
    }
}
