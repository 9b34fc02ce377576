//! What we acknowledge, and when (RFC 9293, section 3.8.6.3; RFC 5681, section 4.2; RFC 2018), and how far our window
//! is open (sections 3.8.6 and 3.8.6.2.2).

use super::*;
use crate::base::DropReason;

/// RFC 9293, section 3.8.6.3 (MUST-40, SHLD-18): acknowledgments are delayed, by less than half a second: 40 ms, as
/// Linux.
#[test]
fn an_acknowledgment_waits_for_40_ms_at_most() {
    for mut s in established() {
        s.at(100).peer_sends(seg(1, 1).len(100));
        s.at(140).expect(seg(1, 101)).app_takes(100);
        s.at(200).peer_sends(seg(101, 1).len(100));
        s.at(240).expect(seg(1, 201)).app_takes(100);
        assert_eq!((s.counters().delayed_acknowledgments, s.counters().acknowledgments), (2, 2));
    }
}

/// RFC 9293, section 3.8.6.3 (SHLD-19): at least every second segment is acknowledged at once.
#[test]
fn every_second_segment_is_acknowledged_at_once() {
    for mut s in established() {
        for n in 0..5 {
            s.peer_sends(seg(1 + 2000 * n, 1).len(1000)).expect_nothing();
            s.peer_sends(seg(1001 + 2000 * n, 1).len(1000)).expect(seg(1, 2001 + 2000 * n)).app_takes(2000);
        }
        // Nothing is left to be acknowledged later.
        s.at(1000).expect_nothing();
    }
}

#[test]
fn an_answer_carries_the_acknowledgment() {
    for mut s in established() {
        s.at(100).peer_sends(seg(1, 1).len(100));
        s.at(120).app_takes(100).app_sends(50).expect(seg(1, 101).len(50).psh());
        s.at(125).peer_sends(seg(101, 51)).at(300).expect_nothing();
    }
}

/// RFC 9293, section 3.10.7.4 (MUST-58, MUST-59): a series of queued segments is processed whole before any is
/// acknowledged.
#[test]
fn segments_of_one_turn_are_acknowledged_together() {
    for mut s in established() {
        s.turn(|s| {
            for n in 0..10 {
                s.peer_sends(seg(1 + 1000 * n, 1).len(1000));
            }
        });
        s.expect(seg(1, 10_001)).app_takes(10_000).expect_nothing();
        // So are old ones.
        s.turn(|s| {
            s.peer_sends(seg(1, 1).len(1000)).peer_sends(seg(1001, 1).len(1000)).peer_sends(rst(10_002));
        });
        s.expect(seg(1, 10_001)).expect_nothing();
        // And with an answer, if there is one.
        s.turn(|s| {
            s.peer_sends(seg(10_001, 1).len(1000)).peer_sends(seg(11_001, 1).len(1000)).app_takes(2000).app_sends(10);
        });
        s.expect(seg(1, 12_001).len(10).psh()).expect_nothing();
    }
}

/// RFC 5681, section 4.2: out of order, and what fills a gap, is acknowledged at once.
///
/// RFC 9293, section 3.10.7.4 (SHLD-31, MAY-13): segments with higher beginning sequence numbers are held; and each is
/// answered by an acknowledgment of RCV.NXT.
#[test]
fn what_is_out_of_order_is_held_and_acknowledged_at_once() {
    for mut s in established() {
        s.peer_sends(seg(1001, 1).len(1000)).expect(seg(1, 1));
        s.peer_sends(seg(3001, 1).len(1000)).expect(seg(1, 1));
        s.peer_sends(seg(1, 1).len(500)).expect(seg(1, 501));
        s.peer_sends(seg(501, 1).len(500)).expect(seg(1, 2001)).app_takes(2000);
        s.peer_sends(seg(2001, 1).len(1000)).expect(seg(1, 4001)).app_takes(2000);
        assert_eq!((s.counters().out_of_order, s.told().len()), (2, 3));
        s.at(1000).expect_nothing();
    }
}

#[test]
fn a_duplicate_is_acknowledged_at_once() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(100)).at(50).expect(seg(1, 101)).app_takes(100);
        s.peer_sends(seg(1, 1).len(100)).expect(seg(1, 101));
        assert_eq!(s.outcome, Err(DropReason::TcpOutOfWindow));
        s.peer_sends(seg(1, 1).len(150)).at(90).expect(seg(1, 151)).app_takes(50);
    }
}

/// Whoever sends text again did not hear us: perhaps the way to the peer is another one now.
#[test]
fn text_that_comes_again_makes_the_way_to_the_peer_doubtful() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(100)).run_until(50);
        // An old segment from anywhere does not do.
        s.peer_sends(seg(0x8000_0000, 1).len(100));
        assert!(!s.take_all()[0].doubts_way);
        s.peer_sends(seg(1, 1).len(100));
        assert!(s.take_all()[0].doubts_way);
        s.app_takes(100);
    }
}

fn with_sack() -> impl Iterator<Item = Script> {
    established_by(syn().mss(MSS).sack_ok())
}

/// RFC 2018, section 4: the block of the latest segment comes first, then those reported before.
#[test]
fn what_is_held_is_told_by_sack() {
    for mut s in with_sack() {
        s.peer_sends(seg(1001, 1).len(1000)).expect(seg(1, 1).sack(&[(1001, 2001)]));
        s.peer_sends(seg(3001, 1).len(1000)).expect(seg(1, 1).sack(&[(3001, 4001), (1001, 2001)]));
        s.peer_sends(seg(5001, 1).len(1000)).expect(seg(1, 1).sack(&[(5001, 6001), (3001, 4001), (1001, 2001)]));
        s.peer_sends(seg(2001, 1).len(1000)).expect(seg(1, 1).sack(&[(1001, 4001), (5001, 6001)]));
        s.peer_sends(seg(1, 1).len(1000)).expect(seg(1, 4001).sack(&[(5001, 6001)]));
        // Data carries them too.
        s.app_takes(4000).app_sends(10).expect(seg(1, 4001).len(10).psh().sack(&[(5001, 6001)]));
        s.peer_sends(seg(4001, 11).len(1000)).expect(seg(11, 6001)).app_takes(2000);
    }
}

/// RFC 2883, section 4: a duplicate is reported, once, in front of what it belongs to.
#[test]
fn duplicates_are_told_by_sack() {
    for mut s in with_sack() {
        // Below the acknowledgment number.
        s.peer_sends(seg(1, 1).len(1000)).peer_sends(seg(1001, 1).len(1000)).expect(seg(1, 2001)).app_takes(2000);
        s.peer_sends(seg(1001, 1).len(1000)).expect(seg(1, 2001).sack(&[(1001, 2001)]));
        // Within what is held.
        s.peer_sends(seg(3001, 1).len(1000)).expect(seg(1, 2001).sack(&[(3001, 4001)]));
        s.peer_sends(seg(4001, 1).len(1000)).expect(seg(1, 2001).sack(&[(3001, 5001)]));
        s.peer_sends(seg(3001, 1).len(1000)).expect(seg(1, 2001).sack(&[(3001, 4001), (3001, 5001)]));
        s.peer_sends(seg(6001, 1).len(1000)).expect(seg(1, 2001).sack(&[(6001, 7001), (3001, 5001)]));
    }
}

#[test]
fn beside_timestamps_there_is_room_for_three_blocks() {
    for mut s in established_by(syn().mss(1012).sack_ok().first_ts(0)) {
        for n in 0..5 {
            s.peer_sends(seg(1001 + 2000 * n, 1).len(1000));
        }
        let last = s.take_all().pop().unwrap().seg;
        assert_eq!(last.sack, [(9001, 10_001), (7001, 8001), (5001, 6001)]);
    }
}

/// RFC 9293, section 3.8.6.2.2 (MUST-39): the right edge stays where it is until it can move by a segment, or by half
/// of the buffer.
#[test]
fn a_closed_window_opens_by_a_segment_at_least() {
    for mut s in established_with(|config| config.receive_buffer = 10_000, syn().mss(MSS)) {
        for n in 0..10 {
            s.peer_sends(seg(1 + 1000 * n, 1).len(1000));
        }
        assert_eq!(s.take_all().pop().unwrap().seg, seg(1, 10_001).window(0).no_ts());
        s.app_takes(999).expect_nothing();
        // RFC 9293, section 3.8.6.1 (MAY-8): a probe is answered, and the window stays closed as long as it has to.
        s.at(500).peer_sends(seg(10_000, 1)).expect(seg(1, 10_001).window(0));
        s.at(1_000_000).peer_sends(seg(10_001, 1).len(1)).expect(seg(1, 10_001).window(0));
        s.app_takes(1).expect(seg(1, 10_001).window(1000));
        // Twice as much is worth to be told of at once; less waits for a segment to travel with.
        s.app_takes(999).expect_nothing();
        s.app_takes(1).expect(seg(1, 10_001).window(2000));
        s.app_takes(1000).expect_nothing();
        s.app_takes(1000).expect(seg(1, 10_001).window(4000));
        s.app_takes(3000).expect_nothing().app_sends(1).expect(seg(1, 10_001).len(1).psh().window(7000));
        s.app_takes(3000).expect_nothing();
    }
    for mut s in established_with(|config| config.receive_buffer = 1000, syn().mss(MSS)) {
        // A small buffer: half of it.
        s.peer_sends(seg(1, 1).len(1000)).at(50).expect(seg(1, 1001).window(0));
        s.app_takes(499).expect_nothing();
        s.app_takes(1).expect(seg(1, 1001).window(500));
        // Half of the buffer is enough not to be told of more at once.
        s.app_takes(500).expect_nothing().app_sends(1).expect(seg(1, 1001).len(1).psh().window(1000));
    }
}

/// RFC 9293, section 3.8.6 (SHLD-14): the right edge never moves to the left, but for the rounding of a scaled window
/// (RFC 7323, section 2.4), which the peer may ignore: what it was told before is taken all the same.
#[test]
fn the_right_edge_of_the_window_never_moves_back() {
    for (syn, buffer, shift) in [(syn().mss(MSS), 65_535, 0), (syn().mss(MSS).scale(7), 300_000, 3)] {
        for mut s in established_with(|config| (config.receive_buffer, config.chunks) = (buffer, 1024), syn.clone()) {
            let (mut edge, mut taken, mut seq) = (65_536, s.tcb().rcv.adv, 1);
            for n in 0..200_u32 {
                let len = 1 + n * 37 % 1000;
                s.peer_sends(seg(seq, 1).len(len));
                seq += len;
                if n % 7 == 3 {
                    let len = s.tcp.received_len(s.index) / 2;
                    s.app_takes(len);
                }
                for sent in s.take_all() {
                    let next = sent.seg.ack + (u32::from(sent.seg.window.unwrap()) << shift);
                    assert!(next + (1 << shift) > edge, "{next} after {edge}: {}", sent.seg);
                    edge = edge.max(next);
                }
                let now = s.tcb().rcv.adv;
                assert!(now.after_eq(taken));
                taken = now;
            }
        }
    }
}

/// What cannot be held for lack of memory is dropped and counted, and its sender told at once how far we are.
#[test]
fn when_memory_is_short_what_is_behind_gaps_goes_first() {
    let short = |config: &mut TcpConfig| config.chunks = 32;
    for mut s in established_with(short, syn().mss(MSS)) {
        s.take_all();
        let index = s.index;
        s.peer_sends(seg(1001, 1).len(1000)).expect(seg(1, 1));
        s.peer_sends(seg(2001, 1).len(800)).expect(seg(1, 1));
        // Of 16 chunks to receive with, others take what is left.
        for port in 41_000..41_007 {
            s.peer_sends(syn().mss(MSS).port(port)).take();
            s.peer_sends(seg(1, 1).port(port));
            for n in 0..2 {
                s.peer_sends(seg(1 + 1000 * n, 1).len(1000).port(port));
            }
        }
        s.peer_sends(seg(2001, 1).len(800).port(41_000));
        assert_eq!((s.outcome, s.tcp.held()), (Err(DropReason::TcpNoMemory), 16));
        s.take_all();
        s.index = index;
        s.told();
        // The segment that all wait for has room.
        s.peer_sends(seg(1, 1).len(1000));
        assert_eq!((s.outcome, s.told(), s.counters().out_of_order_dropped), (Ok(()), vec![Told::Data], 2));
    }
}

/// Everything that a peer was told of has room, in whatever pieces it comes.
#[test]
fn what_was_promised_has_room_in_whatever_pieces_it_comes() {
    for len in [1000, 800, 500, 300, 100] {
        let short = |config: &mut TcpConfig| config.chunks = 128;
        for mut s in established_with(short, syn().mss(MSS)) {
            let (mut sent, mut window) = (0, u32::from(s.tcp.shared.first_window()));
            while window >= len {
                s.peer_sends(seg(1 + sent, 1).len(len));
                assert_eq!(s.outcome, Ok(()), "{sent} bytes in pieces of {len}, and {window} more");
                sent += len;
                window = s.tcb().receive_window();
            }
            assert_eq!((s.counters().out_of_memory, s.tcb().rcv.queued), (0, sent));
            let (held, full) = (s.tcp.held(), sent.div_ceil(1792));
            assert!(held <= 2 * full + 8, "{sent} bytes in pieces of {len} lie in {held} chunks");
            s.take_all();
            s.app_takes(sent).take_all();
        }
    }
}

/// A window grows as the application takes what comes, and as far as what is free allows; one that nothing is taken from
/// stays as it was told.
#[test]
fn a_window_grows_with_what_is_taken() {
    let large = |config: &mut TcpConfig| (config.receive_buffer, config.chunks) = (1 << 20, 1024);
    for mut s in established_with(large, syn().mss(MSS).scale(7)) {
        let mut sent = 0;
        for _ in 0..20 {
            s.peer_sends(seg(1 + sent, 1).len(1000));
            sent += 1000;
        }
        s.take_all();
        assert!(s.tcb().receive_window() <= 65_535 - sent + 32, "nothing was taken");
        let mut most = 0;
        for _ in 0..1000 {
            s.peer_sends(seg(1 + sent, 1).len(1000));
            sent += 1000;
            let received = s.tcp.received_len(s.index);
            s.app_takes(received).take_all();
            most = most.max(s.tcb().receive_window());
        }
        let half = 512 / 8 * 7 * 1448 / 2;
        assert!((half - 2000..=half + 2000).contains(&most), "half of the memory, not all: {most} and {half}");
    }
}

/// Takes all of 16 chunks to receive with: two segments of the first connection, and those of seven others.
fn full() -> impl Iterator<Item = Script> {
    established_with(|config| config.chunks = 32, syn().mss(MSS)).map(|mut s| {
        let index = s.index;
        for port in (41_000..41_007).chain([PEER.1]) {
            if port != PEER.1 {
                s.peer_sends(syn().mss(MSS).port(port)).take();
                s.peer_sends(seg(1, 1).port(port));
            }
            for n in 0..2 {
                s.peer_sends(seg(1 + 1000 * n, 1).len(1000).port(port));
            }
        }
        s.take_all();
        assert_eq!(s.tcp.held(), 16);
        s.index = index;
        s
    })
}

/// A FIN takes no chunk, so it finds room where text does not; behind a gap it would have to be held.
#[test]
fn when_memory_is_short_a_fin_is_taken_all_the_same() {
    for mut s in full() {
        for more in [seg(2001, 1).len(800), seg(2001, 1).len(800).fin(), seg(2801, 1).fin()] {
            s.peer_sends(more).expect(seg(1, 2001));
            assert_eq!(s.outcome, Err(DropReason::TcpNoMemory));
        }
        assert_eq!(s.counters().out_of_memory, 3);
        s.told();
        s.peer_sends(seg(2001, 1).fin()).expect(seg(1, 2002));
        assert_eq!((s.outcome, s.told(), s.state()), (Ok(()), vec![Told::Finished], "CLOSE-WAIT"));
        s.app_takes(2000);
    }
    // Nor does one at the end of text that was taken before.
    for mut s in full() {
        s.peer_sends(seg(1001, 1).len(1000).fin()).expect(seg(1, 2002)).app_takes(2000);
    }
}

#[test]
fn small_pieces_share_a_chunk() {
    for mut s in established() {
        for n in 0..100 {
            s.peer_sends(seg(1 + 10 * n, 1).len(10));
        }
        s.take_all();
        assert!(s.tcp.held() <= 2, "{}", s.tcp.held());
        s.app_takes(1000);
    }
}

/// What the application sends back is what it received: the same frames.
#[test]
fn an_echo_sends_the_frames_that_it_received() {
    for mut s in established() {
        s.turn(|s| {
            s.peer_sends(seg(1, 1).len(1000)).peer_sends(seg(1001, 1).len(700));
            assert_eq!(s.app_returns(1700), 1700);
        });
        s.expect(seg(1, 1701).len(1000)).expect_nothing();
        s.peer_sends(seg(1701, 1001)).expect(seg(1001, 1701).len(700).psh());
        // In part, too.
        s.turn(|s| {
            s.peer_sends(seg(1701, 1701).len(300));
            assert_eq!(s.app_returns(100), 100);
            s.app_takes(200);
        });
        s.expect(seg(1701, 2001).len(100).psh());
    }
}
