//! Losses found by duplicate acknowledgments, where the peer has no SACK (RFC 5681, section 3.2; RFC 6582; RFC 3042).

use super::*;
use crate::transport::tcp::congestion::Algorithm;

fn reno() -> impl Iterator<Item = Script> {
    established_with(|config| config.algorithm = Algorithm::Reno, syn().mss(MSS))
}

/// Ten segments under way of `len` bytes queued; the first was lost, and the others arrive and are acknowledged, one in
/// a millisecond from 110 ms on.
fn after_a_loss(len: u32, duplicates: u64) -> impl Iterator<Item = Script> {
    reno().map(move |mut s| {
        s.at(100).app_sends(len);
        assert_eq!(s.take_all().len(), 10);
        for n in 0..duplicates {
            s.run_until(110 + n);
            s.peer_sends(seg(1, 1));
        }
        s
    })
}

#[test]
fn the_third_duplicate_makes_a_loss() {
    for mut s in after_a_loss(10_000, 2) {
        s.expect_nothing().at(112).peer_sends(seg(1, 1)).expect(seg(1, 1).len(1000)).expect_nothing();
        assert_eq!((s.counters().recoveries, s.counters().timeouts), (1, 0));
        s.at(122).peer_sends(seg(1, 10_001)).at(1000).expect_nothing();
    }
}

/// RFC 3042: the first two duplicates let a new segment go each.
#[test]
fn limited_transmit_keeps_duplicates_coming() {
    for mut s in after_a_loss(20_000, 0) {
        s.at(110).peer_sends(seg(1, 1)).expect(seg(10_001, 1).len(1000)).expect_nothing();
        s.at(111).peer_sends(seg(1, 1)).expect(seg(11_001, 1).len(1000)).expect_nothing();
        s.at(112).peer_sends(seg(1, 1)).expect(seg(1, 1).len(1000)).expect_nothing();
    }
}

/// From ten segments under way to five, one for every second acknowledgment (RFC 9937), and then one for one.
#[test]
fn recovery_halves_the_window_in_step_with_what_arrives() {
    for mut s in after_a_loss(20_000, 2) {
        s.take_all();
        s.at(112).peer_sends(seg(1, 1)).expect(seg(1, 1).len(1000)).expect_nothing();
        let mut sent = Vec::new();
        for n in 4..12 {
            s.at(110 + n).peer_sends(seg(1, 1));
            sent.push(s.take_all().len());
        }
        assert_eq!(sent, [0, 0, 1, 0, 0, 1, 1, 1]);
        // All that was sent before the loss was found is acknowledged: the window is half of what it was.
        s.at(122).peer_sends(seg(1, 12_001));
        assert_eq!((s.tcb().congestion.window(), s.take_all().len()), (5000, 1));
    }
}

/// RFC 6582, section 3.2: an acknowledgment of a part tells of the next loss.
#[test]
fn an_acknowledgment_of_a_part_has_the_next_loss_repaired_at_once() {
    for mut s in after_a_loss(10_000, 3) {
        s.expect(seg(1, 1).len(1000));
        // The fifth was lost, too.
        s.at(122).peer_sends(seg(1, 4001)).expect(seg(4001, 1).len(1000)).expect_nothing();
        s.at(132).peer_sends(seg(1, 10_001)).expect_nothing();
        assert_eq!((s.counters().recoveries, s.counters().retransmitted), (1, 2));
    }
}

/// RFC 6582, section 3.2: duplicates at the very end of a recovery are of what was sent again without need.
#[test]
fn duplicates_at_the_point_where_a_recovery_ended_begin_no_other() {
    for mut s in after_a_loss(14_000, 3) {
        s.take_all();
        s.at(122).peer_sends(seg(1, 12_001)).take_all();
        for n in 0..5 {
            s.at(123 + n).peer_sends(seg(1, 12_001)).take_all();
        }
        assert_eq!((s.counters().recoveries, s.counters().retransmitted), (1, 1));
    }
}

/// RFC 5681, section 2: a duplicate has no text and no FIN, leaves the window as it was, and comes while text is under
/// way.
#[test]
fn what_looks_like_a_duplicate_and_is_none_makes_no_loss() {
    for mut s in after_a_loss(10_000, 0) {
        for n in 0..4 {
            s.at(110 + n).peer_sends(seg(1, 1).window(60_000 + n as u16)).expect_nothing();
        }
        for n in 0..4 {
            s.peer_sends(seg(1 + 10 * n, 1).len(10));
        }
        assert!(s.take_all().iter().all(|sent| sent.seg.text.is_empty()));
        assert_eq!((s.counters().recoveries, s.counters().retransmitted), (0, 0));
        s.app_takes(40);
    }
}

/// RFC 5681, section 3.1, and RFC 9293, section 3.8.2 (MUST-19): after a timeout one segment, and slow start from
/// there.
#[test]
fn a_timeout_starts_over_with_one_segment() {
    for mut s in after_a_loss(20_000, 0) {
        s.at(310).expect(seg(1, 1).len(1000)).expect_nothing();
        assert_eq!((s.tcb().congestion.window(), s.tcb().congestion.ssthresh()), (1000, 5000));
        // What arrived is only known as it is acknowledged: the rest is sent again.
        s.at(320)
            .peer_sends(seg(1, 1001))
            .expect(seg(1001, 1).len(1000))
            .expect(seg(2001, 1).len(1000))
            .expect_nothing();
        s.at(330)
            .peer_sends(seg(1, 2001))
            .expect(seg(3001, 1).len(1000))
            .expect(seg(4001, 1).len(1000))
            .expect_nothing();
        s.peer_sends(seg(1, 3001)).expect(seg(5001, 1).len(1000)).expect(seg(6001, 1).len(1000)).expect_nothing();
        assert_eq!(s.tcb().congestion.window(), 4000);
        // Up to ssthresh, and from there a segment for a whole window.
        s.peer_sends(seg(1, 10_001));
        let sent = s.take_all();
        assert_eq!((s.tcb().congestion.window(), sent.len(), sent[0].seg.seq), (6000, 6, 10_001));
    }
}

#[test]
fn a_retransmission_that_is_lost_is_sent_again_by_the_timer() {
    for mut s in after_a_loss(10_000, 3) {
        s.expect(seg(1, 1).len(1000));
        for n in 3..9 {
            s.at(110 + n).peer_sends(seg(1, 1)).expect_nothing();
        }
        s.at(310).expect(seg(1, 1).len(1000)).expect_nothing();
    }
}
