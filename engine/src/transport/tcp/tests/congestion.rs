//! How much is under way (RFC 5681, RFC 6928, RFC 9438, RFC 3168). The arithmetic has tests of its own, beside it.

use super::*;
use crate::transport::tcp::congestion::Algorithm;
use crate::wire::tcp::Flags;

/// RFC 6928, section 2: ten segments, or what of them fits 14,600 bytes.
#[test]
fn the_first_flight_is_ten_segments() {
    for (mss, segments) in [(1460, 10), (1000, 10), (536, 10), (100, 10)] {
        for mut s in established_by(syn().mss(mss)) {
            s.app_sends(30 * u32::from(mss));
            assert_eq!(s.take_all().len(), segments, "{mss}");
        }
        for mut s in callers() {
            s.call(syn_ack().mss(mss)).app_sends(30 * u32::from(mss));
            assert_eq!(s.take_all().len(), segments, "{mss}");
        }
    }
}

/// RFC 9293, section 3.8.2 (MUST-19): slow start: every segment acknowledged lets two go.
#[test]
fn in_slow_start_the_window_doubles_in_a_round_trip() {
    for mut s in established() {
        s.at(100).app_sends(100_000).take_all();
        for n in 1..=10 {
            s.at(110).peer_sends(seg(1, 1000 * n + 1));
            assert_eq!(s.take_all().len(), 2);
        }
        assert_eq!(s.tcb().congestion.window(), 20_000);
        // RFC 3465: bytes count, not acknowledgments; and RFC 9406: not more than eight segments at once.
        for n in 1..=10 {
            s.at(120).peer_sends(seg(1, 10_001 + 100 * n)).take_all();
        }
        assert_eq!(s.tcb().congestion.window(), 21_000);
        s.at(121).peer_sends(seg(1, 30_001));
        assert_eq!(s.tcb().congestion.window(), 29_000);
        s.take_all();
    }
}

/// Where that is wanted, a window is spread over half of a round trip of 10 ms; of a millisecond's segments may go at
/// once.
#[test]
fn paced_segments_follow_each_other_at_a_distance() {
    for mut s in established_with(|config| config.pacing = true, syn().mss(MSS)) {
        s.at(100).app_sends(10_000);
        assert_eq!(s.take_all().len(), 3);
        for n in 1..=7 {
            s.at_us(100_000 + 500 * u64::from(n)).expect(seg(2001 + 1000 * n, 1).len(1000).with(last_has_psh(n)));
        }
        s.at(110).peer_sends(seg(1, 10_001));
    }
}

/// PSH for the last of ten.
fn last_has_psh(n: u32) -> Flags {
    if n == 7 { Flags::PSH } else { Flags::default() }
}

/// RFC 9293, section 3.8.2 (MUST-19): congestion avoidance: above ssthresh a segment in a round trip. (MAY-18: CUBIC
/// instead of Reno, unless it is configured otherwise.)
#[test]
fn above_ssthresh_the_window_grows_by_a_segment_in_a_round_trip() {
    for algorithm in [Algorithm::Reno, Algorithm::Cubic] {
        for mut s in established_with(|config| config.algorithm = algorithm, syn().mss(MSS)) {
            s.at(100).app_sends(100_000).take_all();
            for n in 0..10 {
                s.at(110 + n).peer_sends(seg(1, 1)).take_all();
            }
            s.at(122).peer_sends(seg(1, 12_001)).take_all();
            let before = s.tcb().congestion.window();
            let reduced = if algorithm == Algorithm::Reno { 5000..=5000 } else { 7000..=7200 };
            assert!(reduced.contains(&before), "{algorithm:?} {before}");
            let mut una = 12_001;
            let end = una + before;
            while una < end {
                una += 1000;
                s.at(130).peer_sends(seg(1, una)).take_all();
            }
            let grown = s.tcb().congestion.window() - before;
            // CUBIC, where Reno would be faster, grows as that would with its own reduction (RFC 9438, section 4.3).
            let expected = if algorithm == Algorithm::Reno { 1000..=1000 } else { 300..=1000 };
            assert!(expected.contains(&grown), "{algorithm:?} {grown}");
        }
    }
}

#[test]
fn a_window_that_is_not_used_up_does_not_grow() {
    for mut s in established() {
        for n in 0..20 {
            s.at(100 + 20 * n).app_sends(1000).take_all();
            s.at(110 + 20 * n).peer_sends(seg(1, 1000 * n as u32 + 1001));
        }
        assert_eq!(s.tcb().congestion.window(), 10_000);
    }
}

/// RFC 5681, section 4.1, as Linux does it: after an idle time the window halves with every timeout's time, but not
/// below the initial one.
#[test]
fn after_an_idle_time_the_window_is_smaller() {
    for (idle, halvings) in [(200, 0), (300, 1), (5000, 9)] {
        for mut s in established() {
            s.at(100).app_sends(60_000).take_all();
            for n in 1..=60 {
                s.at(110).peer_sends(seg(1, 1000 * n + 1)).take_all();
            }
            let window = s.tcb().congestion.window();
            assert!((40_000..60_000).contains(&window), "{window}");
            s.at(110 + idle).app_sends(60_000);
            let expected = (window >> halvings).max(10_000) / 1000;
            assert_eq!(s.take_all().len(), expected as usize, "{idle} ms");
        }
    }
}

fn with_ecn() -> impl Iterator<Item = Script> {
    established_by(syn().mss(MSS).with(Flags::ECE | Flags::CWR))
}

const ECT0: u8 = 2;
const CE: u8 = 3;

/// RFC 9293, section 3.8.2 (SHLD-8): ECN, by RFC 3168, section 6.1.1: agreed to when the peer asks for it.
#[test]
fn ecn_is_agreed_to_and_text_is_sent_as_capable() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS).with(Flags::ECE | Flags::CWR)).expect(syn_ack().mss(1460).with(Flags::ECE));
        s.at(10).peer_sends(seg(1, 1)).app_sends(10).expect(seg(1, 1).len(10).psh().class(ECT0));
        // Section 6.1.4: not acknowledgments; 6.1.5: not retransmissions.
        s.peer_sends(seg(1, 1).len(10)).at(50).expect(seg(11, 11)).app_takes(10);
        s.at(220).expect(seg(1, 11).len(10).psh());
    }
    // Nor anything where it was not agreed to.
    for asks in [syn().mss(MSS), syn().mss(MSS).with(Flags::ECE), syn().mss(MSS).with(Flags::CWR)] {
        for mut s in established_by(asks) {
            s.app_sends(10).expect(seg(1, 1).len(10).psh()).peer_sends(seg(1, 11).len(10).class(CE)).at(50);
            s.expect(seg(11, 11)).app_takes(10);
        }
    }
    let asks = syn().mss(MSS).with(Flags::ECE | Flags::CWR);
    for mut s in scripts_with(|config| config.ecn = false) {
        s.peer_sends(asks.clone()).expect(syn_ack().mss(1460));
    }
}

/// RFC 3168, section 6.1.1: asked for by both bits in our SYN, and agreed on if the answer has one of them; section
/// 6.1.1.1: what is not answered is sent again without.
#[test]
fn ecn_is_asked_for_where_that_is_wanted() {
    let asking = || scripts_with(|config| (config.ports, config.ask_for_ecn) = (Vec::new(), true));
    let both = Flags::ECE | Flags::CWR;
    for (answer, agreed) in [(Flags::ECE, true), (Flags::default(), false), (both, false)] {
        for mut s in asking() {
            s.app_connects().unwrap();
            s.expect(our_syn().with(both)).peer_sends(syn_ack().mss(MSS).with(answer)).expect(seg(1, 1));
            s.app_sends(10).expect(seg(1, 1).len(10).psh().class(if agreed { ECT0 } else { 0 }));
        }
    }
    for mut s in asking() {
        s.app_connects().unwrap();
        s.expect(our_syn().with(both)).at(1000).expect(our_syn().first_ts(1000));
    }
}

/// RFC 3168, section 6.1.3: a mark is echoed in every acknowledgment until the sender says that it heard.
#[test]
fn a_mark_is_echoed_until_the_peer_reduces() {
    for mut s in with_ecn() {
        s.peer_sends(seg(1, 1).len(1000).class(CE)).peer_sends(seg(1001, 1).len(1000).class(ECT0));
        s.expect(seg(1, 2001).with(Flags::ECE));
        s.app_takes(2000).app_sends(10).expect(seg(1, 2001).len(10).psh().with(Flags::ECE).class(ECT0));
        s.peer_sends(seg(2001, 11).len(1000).class(ECT0)).at(50).expect(seg(11, 3001).with(Flags::ECE));
        s.peer_sends(seg(3001, 11).len(1000).class(ECT0).with(Flags::CWR)).at(90).expect(seg(11, 4001));
        s.app_takes(2000);
    }
}

/// RFC 5961, section 5.2: neither a mark is believed nor a word of one that comes with an unacceptable acknowledgment.
#[test]
fn marks_beside_an_unacceptable_acknowledgment_are_ignored() {
    for mut s in with_ecn() {
        s.peer_sends(seg(1, 2).len(10).class(CE)).expect(seg(1, 1));
        s.peer_sends(seg(1, 1).len(1000).class(CE)).peer_sends(seg(1001, 2).len(10).with(Flags::CWR)).take_all();
        s.peer_sends(seg(1001, 1).len(1000).class(ECT0)).at(50).expect(seg(1, 2001).with(Flags::ECE)).app_takes(2000);
    }
}

/// RFC 3168, section 6.1.2: an echo halves the window, once in a round trip, and the next new text says so.
#[test]
fn an_echo_reduces_the_window_once_in_a_round_trip() {
    for mut s in with_ecn() {
        s.at(100).app_sends(60_000);
        assert_eq!(s.take_all().len(), 10);
        s.at(110).peer_sends(seg(1, 1001).with(Flags::ECE)).expect_nothing();
        assert_eq!((s.tcb().congestion.window(), s.counters().ecn_reductions), (7000, 1));
        // Three segments are acknowledged before one goes: ten were under way, and seven may be.
        s.peer_sends(seg(1, 3001).with(Flags::ECE)).expect_nothing();
        s.peer_sends(seg(1, 4001).with(Flags::ECE)).expect(seg(10_001, 1).len(1000).with(Flags::CWR).class(ECT0));
        s.peer_sends(seg(1, 10_001)).take_all();
        assert!((7000..8000).contains(&s.tcb().congestion.window()));
        assert_eq!((s.counters().ecn_reductions, s.counters().retransmitted), (1, 0));
        s.at(120).peer_sends(seg(1, 11_001).with(Flags::ECE));
        assert_eq!(s.counters().ecn_reductions, 2);
        s.take_all();
    }
}

/// Ten segments under way since 100 ms, with ECN and SACK.
fn ten_with_ecn(len: u32) -> impl Iterator<Item = Script> {
    established_by(syn().mss(MSS).sack_ok().with(Flags::ECE | Flags::CWR)).map(move |mut s| {
        s.at(100).app_sends(len);
        assert_eq!(s.take_all().len(), 10);
        s
    })
}

/// RFC 3168, section 6.1.2: the window is reduced because a packet was dropped: the sender sets CWR in the first new
/// segment after that, and what is echoed until the peer hears of it is answered already.
#[test]
fn a_window_that_a_loss_reduced_is_told_of_and_an_echo_does_not_reduce_it_again() {
    for mut s in ten_with_ecn(60_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 4001)])).expect(seg(1, 1).len(1000));
        s.at(111).peer_sends(seg(1, 1).sack(&[(1001, 10_001)]).with(Flags::ECE));
        let sent = s.take_all();
        assert!(sent.len() > 1);
        for (n, sent) in sent.iter().enumerate() {
            let cwr = if n == 0 { Flags::CWR } else { Flags::default() };
            assert_eq!(
                sent.seg,
                seg(10_001 + 1000 * n as u32, 1).len(1000).class(ECT0).with(cwr).window(65_535).no_ts()
            );
        }
        s.at(120).peer_sends(seg(1, 10_001).with(Flags::ECE)).take_all();
        // The peer's own text carries the echo too, before the word has arrived.
        s.at(121).peer_sends(seg(1, 10_001).len(10).with(Flags::ECE)).take_all();
        assert_eq!((s.counters().ecn_reductions, s.counters().recoveries), (0, 1));
        assert!((7000..=8000).contains(&s.tcb().congestion.window()));
        // What was marked after that is.
        s.at(122).peer_sends(seg(11, 11_001).with(Flags::ECE)).take_all();
        assert_eq!(s.counters().ecn_reductions, 1);
        s.app_takes(10).run_until(162);
    }
}

/// The same of a timeout. What is sent again says nothing: it is the first new segment that does.
#[test]
fn a_window_that_a_timeout_reduced_is_told_of_and_an_echo_does_not_reduce_it_again() {
    for mut s in with_ecn() {
        s.at(100).app_sends(2000).take_all();
        s.at(310).expect(seg(1, 1).len(1000));
        s.at(320).peer_sends(seg(1, 1001).with(Flags::ECE)).expect(seg(1001, 1).len(1000).psh());
        s.at(330).peer_sends(seg(1, 2001).with(Flags::ECE)).expect_nothing();
        let window = s.tcb().congestion.window();
        s.app_sends(500).expect(seg(2001, 1).len(500).psh().class(ECT0).with(Flags::CWR));
        s.at(331).peer_sends(seg(1, 2001).len(10).with(Flags::ECE)).at(340).peer_sends(seg(11, 2501));
        assert_eq!((s.counters().ecn_reductions, s.counters().timeouts), (0, 1));
        assert!(s.tcb().congestion.window() >= window);
        s.at(371).expect(seg(2501, 11)).app_takes(10);
    }
}

/// What was reduced without need, and is restored, is not told of.
#[test]
fn a_reduction_that_is_undone_is_not_told_of() {
    for mut s in ten_with_ecn(10_000) {
        s.at(110).peer_sends(seg(1, 1).sack(&[(1001, 4001)])).expect(seg(1, 1).len(1000));
        s.at(111).peer_sends(seg(1, 10_001)).at(120).peer_sends(seg(1, 10_001).sack(&[(1, 1001)]));
        assert_eq!((s.counters().needless_recoveries, s.tcb().congestion.window()), (1, 10_000));
        s.app_sends(500).expect(seg(10_001, 1).len(500).psh().class(ECT0));
    }
}

/// RFC 3168, section 6.1.1: a host that received a SYN without ECE and CWR should not set ECT; and section 6.1.1.1: a
/// SYN that was not answered may come again without them, because of what lies on the way.
#[test]
fn a_syn_that_comes_again_without_asking_for_ecn_takes_it_back() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS).with(Flags::ECE | Flags::CWR)).expect(syn_ack().mss(1460).with(Flags::ECE));
        s.at(900).peer_sends(syn().mss(MSS)).expect(syn_ack().mss(1460));
        s.at(1000).expect(syn_ack().mss(1460)).at(1010).peer_sends(seg(1, 1));
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
    }
    // It is not asked for later.
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS)).expect(syn_ack().mss(1460));
        s.at(900).peer_sends(syn().mss(MSS).with(Flags::ECE | Flags::CWR)).expect(syn_ack().mss(1460));
        s.at(910).peer_sends(seg(1, 1)).app_sends(10).expect(seg(1, 1).len(10).psh());
    }
}

/// RFC 9438, section 5.2 and the pacing of Linux: with pacing on, a window is spread over the round trip, and nothing is
/// forgotten.
#[test]
fn paced_segments_are_spread_over_the_round_trip() {
    for mut s in established_with(|config| config.pacing = true, syn().mss(MSS)) {
        // A round trip of 100 ms is measured with one segment.
        s.at(1000).app_sends(100).take_all();
        s.at(1100).peer_sends(seg(1, 101)).take_all();
        let mut sent = s.app_sends(8000).take_all().len();
        assert_eq!(sent, 1);
        for at in 1101..1300 {
            let now = s.run_until(at).len();
            assert!(now <= 2, "{now} in a millisecond");
            sent += now;
        }
        assert!(sent >= 8, "all of it, within two round trips: {sent}");
    }
}
