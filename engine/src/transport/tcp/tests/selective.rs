//! Losses found by SACK and time (RFC 6675, RFC 8985), and tail loss probes.

use super::*;

fn with_sack() -> impl Iterator<Item = Script> {
    established_by(syn().mss(MSS).sack_ok())
}

/// Ten segments under way since 100 ms, of `len` bytes queued. The round trip is 10 ms.
fn ten_under_way(len: u32) -> impl Iterator<Item = Script> {
    with_sack().map(move |mut s| {
        s.at(100).app_sends(len);
        assert_eq!(s.take_all().len(), 10);
        s
    })
}

/// RFC 8985, section 6.2, step 4: with three segments reported behind it, a segment is lost without a reordering
/// window.
#[test]
fn three_segments_behind_a_gap_make_a_loss() {
    for mut s in ten_under_way(10_000) {
        s.at_us(110_000).peer_sends(seg(1, 1).sack(&[(1001, 2001)])).expect_nothing();
        s.at_us(110_200).peer_sends(seg(1, 1).sack(&[(1001, 3001)])).expect_nothing();
        s.at_us(110_400).peer_sends(seg(1, 1).sack(&[(1001, 4001)])).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(121).peer_sends(seg(1, 10_001)).at(2000).expect_nothing();
        assert_eq!((s.counters().recoveries, s.counters().retransmitted, s.counters().timeouts), (1, 1, 0));
    }
}

/// RFC 8985, section 6.2, step 5: one alone makes it by time: a quarter of the round trip later.
#[test]
fn one_segment_behind_a_gap_makes_a_loss_after_the_reordering_window() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 2001)]));
        s.at_us(112_499).expect_nothing();
        s.at_us(112_500).expect(seg(1, 1).len(1000)).expect_nothing();
    }
}

#[test]
fn what_arrives_within_the_reordering_window_is_not_sent_again() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 2001)]));
        s.at(112).peer_sends(seg(1, 2001)).at(113).peer_sends(seg(1, 10_001)).at(2000).expect_nothing();
        assert_eq!((s.counters().retransmitted, s.counters().recoveries), (0, 0));
    }
}

/// RFC 8985, section 6.2, step 4: once reordering was seen, three segments behind a gap are no loss yet.
#[test]
fn a_path_that_reorders_is_given_time() {
    for mut s in with_sack() {
        s.at(100).app_sends(2000).take_all();
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 2001)])).at(111).peer_sends(seg(1, 2001));
        s.at(200).app_sends(10_000).take_all();
        s.at(210).peer_sends(seg(1, 2001).sack(&[(3001, 8001)])).expect_nothing();
        s.at_us(212_500).expect(seg(2001, 1).len(1000)).expect_nothing();
    }
}

/// RFC 6675: only what is not reported is sent again, all of it at once if the window allows.
#[test]
fn of_many_segments_only_the_lost_ones_are_sent_again() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(7001, 10_001), (4001, 6001), (1001, 3001)]));
        s.expect(seg(1, 1).len(1000)).expect(seg(3001, 1).len(1000)).expect(seg(6001, 1).len(1000)).expect_nothing();
        s.at(120).peer_sends(seg(1, 3001).sack(&[(4001, 6001), (7001, 10_001)])).expect_nothing();
        s.at(121).peer_sends(seg(1, 10_001)).at(2000).expect_nothing();
        assert_eq!((s.counters().recoveries, s.counters().retransmitted), (1, 3));
    }
}

/// RFC 8985, section 3: a retransmission that is lost is found as any other segment, without a timeout.
#[test]
fn a_lost_retransmission_is_found_by_what_was_sent_after_it() {
    for mut s in ten_under_way(30_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 4001)]));
        assert_eq!(s.take(), seg(1, 1).len(1000).window(65_535).no_ts());
        s.take_all();
        // What follows arrives; the retransmission does not.
        s.at(111).peer_sends(seg(1, 1).sack(&[(1001, 10_001)]));
        let newest = s.take_all().pop().unwrap().seg;
        assert!(newest.seq > 10_000, "{newest}");
        s.at(121).peer_sends(seg(1, 1).sack(&[(1001, newest.end())])).expect(seg(1, 1).len(1000));
        assert_eq!((s.counters().recoveries, s.counters().timeouts), (1, 0));
        s.take_all();
    }
}

/// RFC 2018, section 8: after a timeout, what the peer reported is not sent again, unless it turns out that it went
/// back on its word: the segment at the left edge is always sent.
#[test]
fn a_timeout_believes_reports_but_not_that_of_the_first_segment() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 10_001)])).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(320).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(330).peer_sends(seg(1, 10_001)).at(2000).expect_nothing();
    }
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1, 10_001)])).expect_nothing();
        s.at(320).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(330)
            .peer_sends(seg(1, 1001))
            .expect(seg(1001, 1).len(1000))
            .expect(seg(2001, 1).len(1000))
            .expect_nothing();
    }
}

#[test]
fn reports_about_what_was_never_sent_or_is_long_acknowledged_say_nothing() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 5001).sack(&[(10_001, 12_001)])).expect_nothing();
        s.peer_sends(seg(1, 5001).sack(&[(9001, 11_001)])).expect_nothing();
        s.peer_sends(seg(1, 5001).sack(&[(6001, 7001), (1001, 2001), (7001, 6001)])).expect_nothing();
        assert_eq!((s.tcb().recovery.sacked, s.counters().duplicates_reported), (1000, 0));
        // Reported in part: that is no whole segment.
        s.peer_sends(seg(1, 5001).sack(&[(7001, 7500), (6001, 7001)])).expect_nothing();
        assert_eq!(s.tcb().recovery.sacked, 1000);
        s.at_us(112_500).take_all();
    }
}

/// RFC 8985, section 7: the end of a flight has nothing behind it: after two round trips its last segment is sent
/// again, and tells what is missing before it.
#[test]
fn a_lost_tail_is_probed_and_repaired_without_a_timeout() {
    for mut s in with_sack() {
        s.at(100).app_sends(5000).take_all();
        s.at(110).peer_sends(seg(1, 3001));
        // 2 * 10 ms and 2 ms.
        s.at(132).expect(seg(4001, 1).len(1000).psh()).expect_nothing();
        s.at(142).peer_sends(seg(1, 3001).sack(&[(4001, 5001)])).expect(seg(3001, 1).len(1000)).expect_nothing();
        s.at(152).peer_sends(seg(1, 5001)).at(2000).expect_nothing();
        assert_eq!((s.counters().loss_probes, s.counters().timeouts, s.counters().recoveries), (1, 0, 1));
    }
}

#[test]
fn after_a_probe_without_an_answer_comes_the_timeout() {
    for mut s in with_sack() {
        s.at(100).app_sends(3000).take_all();
        s.at(122).expect(seg(2001, 1).len(1000).psh());
        s.at(332).expect(seg(1, 1).len(1000)).expect_nothing();
        assert_eq!((s.counters().loss_probes, s.counters().timeouts), (1, 1));
    }
}

/// RFC 8985, section 7.2: a single segment may be waiting for a delayed acknowledgment: the timeout comes first.
#[test]
fn a_single_segment_is_not_probed_before_its_timeout() {
    for mut s in with_sack() {
        s.at(100).app_sends(1000).take_all();
        s.at(310).expect(seg(1, 1).len(1000).psh());
        assert_eq!((s.counters().loss_probes, s.counters().timeouts), (0, 1));
    }
}

/// RFC 8985, section 7.3: the probe is new text if there is any, whatever keeps that back otherwise.
#[test]
fn a_probe_is_new_text_if_there_is_any() {
    for mut s in ten_under_way(11_000) {
        s.at(122).expect(seg(10_001, 1).len(1000).psh()).expect_nothing();
        s.at(332).expect(seg(1, 1).len(1000)).expect_nothing();
    }
    // What Nagle's algorithm keeps back.
    for mut s in with_sack() {
        s.at(100).app_sends(2500).expect(seg(1, 1).len(1000)).expect(seg(1001, 1).len(1000)).expect_nothing();
        s.at(122).expect(seg(2001, 1).len(500).psh()).expect_nothing();
        s.at(132).peer_sends(seg(1, 2501)).at(2000).expect_nothing();
        assert_eq!((s.counters().loss_probes, s.counters().retransmitted, s.counters().recoveries), (1, 0, 0));
    }
}

/// RFC 8985, section 7.4: a probe that repaired a loss without a trace is answered as a loss; one that was needless, as
/// the peer reports, is not.
#[test]
fn a_loss_that_a_probe_hid_reduces_the_window() {
    for (reports, reduced) in [(false, true), (true, false)] {
        for mut s in with_sack() {
            s.at(100).app_sends(5000).take_all();
            s.at(110).peer_sends(seg(1, 3001));
            s.at(132).expect(seg(4001, 1).len(1000).psh());
            let answer = seg(1, 5001);
            s.at(142).peer_sends(if reports { answer.sack(&[(4001, 5001)]) } else { answer });
            let window = s.tcb().congestion.window();
            s.at(200).app_sends(1000).expect(seg(5001, 1).len(1000).psh()).at(210).peer_sends(seg(1, 6001));
            assert_eq!(s.counters().recoveries, u64::from(reduced));
            assert_eq!(s.tcb().congestion.window() < window, reduced);
        }
    }
}

/// RFC 3708: what was sent again arrived twice, so nothing was lost: the window is what it was.
#[test]
fn a_needless_recovery_is_undone_by_reports_of_duplicates() {
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 4001)])).expect(seg(1, 1).len(1000));
        s.at(111).peer_sends(seg(1, 10_001));
        assert!((7000..8000).contains(&s.tcb().congestion.window()));
        s.at(120).peer_sends(seg(1, 10_001).sack(&[(1, 1001)]));
        assert_eq!((s.tcb().congestion.window(), s.tcb().congestion.ssthresh()), (10_000, u32::MAX));
        assert_eq!((s.counters().needless_recoveries, s.counters().duplicates_reported), (1, 1));
    }
    // Of two that were sent again only one arrived twice.
    for mut s in ten_under_way(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(2001, 5001)])).take_all();
        s.at(120).peer_sends(seg(1, 10_001).sack(&[(1, 1001)]));
        assert!((7000..8000).contains(&s.tcb().congestion.window()));
        assert_eq!((s.counters().needless_recoveries, s.counters().duplicates_reported), (0, 1));
    }
}

/// RFC 3708: only what was sent again counts. The network copies segments too.
#[test]
fn a_duplicate_of_what_was_not_sent_again_undoes_nothing() {
    for mut s in ten_under_way(10_000) {
        s.at(109).peer_sends(seg(1, 3001));
        let window = s.tcb().congestion.window();
        s.at(110).peer_sends(seg(1, 3001).sack(&[(4001, 7001)])).expect(seg(3001, 1).len(1000));
        // From before this repair, and from behind all of it.
        for copy in [(1, 1001), (2001, 3001), (5001, 6001)] {
            s.at(111).peer_sends(seg(1, 3001).sack(&[copy, (4001, 7001)])).expect_nothing();
        }
        // Only in part.
        s.peer_sends(seg(1, 4001).sack(&[(2501, 3501)]));
        assert_eq!((s.counters().needless_recoveries, s.counters().duplicates_reported), (0, 4));
        s.at(112).peer_sends(seg(1, 10_001)).at(120).peer_sends(seg(1, 10_001).sack(&[(3001, 4001)]));
        assert_eq!((s.counters().needless_recoveries, s.tcb().congestion.window()), (1, window));
    }
}

fn with_timestamps() -> impl Iterator<Item = Script> {
    established_by(syn().mss(1012).sack_ok().first_ts(0)).map(|mut s| {
        s.at(100).app_sends(20_000);
        assert_eq!(s.take_all().len(), 10);
        s
    })
}

/// RFC 3522: the acknowledgment of what was sent again echoes the original.
#[test]
fn a_needless_recovery_is_undone_by_a_timestamp() {
    for mut s in with_timestamps() {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 4001)]).ts(110, 100)).expect(seg(1, 1).len(1000));
        s.take_all();
        s.at(112).peer_sends(seg(1, 4001).ts(112, 100));
        assert_eq!((s.counters().needless_recoveries, s.tcb().recovery.lost), (1, 0));
        assert!(s.tcb().congestion.window() >= 10_000 && s.tcb().congestion.ssthresh() == u32::MAX);
        s.take_all();
    }
}

/// RFC 4015: the same after a timeout: what was sent is not sent again, and new text follows.
#[test]
fn a_needless_timeout_is_undone_by_a_timestamp() {
    for mut s in with_timestamps() {
        s.at(122).expect(seg(10_001, 1).len(1000));
        s.at(332).expect(seg(1, 1).len(1000)).expect_nothing();
        assert_eq!(s.tcb().congestion.window(), 1000);
        s.at(350).peer_sends(seg(1, 1001).ts(350, 100)).expect_nothing();
        assert_eq!((s.counters().needless_recoveries, s.tcb().recovery.lost), (1, 0));
        assert_eq!((s.tcb().congestion.window(), s.tcb().congestion.ssthresh()), (10_000, u32::MAX));
        s.at(351).peer_sends(seg(1, 2001).ts(351, 100)).expect(seg(11_001, 1).len(1000));
        assert!(s.take_all().iter().all(|sent| sent.seg.seq > 10_000));
    }
    // One that echoes the retransmission is not.
    for mut s in with_timestamps() {
        s.at(122).take_all();
        s.at(332).take_all();
        s.at(350).peer_sends(seg(1, 1001).ts(350, 332)).expect(seg(1001, 1).len(1000));
        s.take_all();
        assert_eq!(s.counters().needless_recoveries, 0);
    }
}
