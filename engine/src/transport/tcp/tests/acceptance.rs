//! Which segments a connection takes (RFC 9293, section 3.10.7.4, first to fifth; RFC 5961).

use super::*;
use crate::base::DropReason;
use crate::transport::tcp::End;

/// How to come to a synchronized state from ESTABLISHED, and what is next on both sides then.
type Way = (&'static str, fn(&mut Script), u32, u32);

const STATES: [Way; 6] = [
    ("ESTABLISHED", |_| (), 1, 1),
    ("FIN-WAIT-1", |s| _ = s.app_finishes(), 2, 1),
    ("FIN-WAIT-2", |s| _ = s.app_finishes().peer_sends(seg(1, 2)), 2, 1),
    ("CLOSE-WAIT", |s| _ = s.peer_sends(seg(1, 1).fin()), 1, 2),
    ("CLOSING", |s| _ = s.app_finishes().peer_sends(seg(1, 1).fin()), 2, 2),
    ("LAST-ACK", |s| _ = s.peer_sends(seg(1, 1).fin()).app_finishes(), 2, 2),
];

/// Runs a script in every synchronized state, with what is next on both sides.
fn in_every_state(script: impl Fn(Script, &str, u32, u32)) {
    for (name, enter, snd_nxt, rcv_nxt) in STATES {
        for mut s in established() {
            enter(&mut s);
            s.take_all();
            s.told();
            assert_eq!(s.state(), name);
            script(s, name, snd_nxt, rcv_nxt);
        }
    }
}

/// RFC 5961, section 3.2: the sequence number exactly matches the next expected one: the connection MUST be reset.
///
/// RFC 9293, section 3.6 (MUST-12): the application is told that it was aborted.
#[test]
fn a_reset_at_the_next_number_ends_a_connection_in_every_state() {
    in_every_state(|mut s, _, snd_nxt, rcv_nxt| {
        s.peer_sends(seg(rcv_nxt, snd_nxt).rst()).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Reset)]));
        assert_eq!((s.counters().resets_received, s.counters().reset, s.counters().finished), (1, 1, 0));
    });
}

#[test]
fn a_reset_needs_no_acknowledgment_and_may_carry_text() {
    // RFC 9293, section 3.5.3 (SHLD-2): allow a received RST segment to include data.
    in_every_state(|mut s, _, _, rcv_nxt| {
        s.peer_sends(rst(rcv_nxt).text(b"out of order")).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Reset)]));
    });
}

/// RFC 5961, section 3.2: in the window but not at the next number: a challenge ACK. Outside: silence.
#[test]
fn a_reset_elsewhere_in_the_window_is_challenged_and_one_outside_is_dropped() {
    in_every_state(|mut s, name, snd_nxt, rcv_nxt| {
        for ahead in [1, 1000, 65_534] {
            s.peer_sends(rst(rcv_nxt + ahead)).expect(seg(snd_nxt, rcv_nxt));
            assert_eq!(s.outcome, Err(DropReason::TcpReset));
        }
        for outside in [rcv_nxt.wrapping_sub(1), rcv_nxt + 65_537, rcv_nxt + 0x8000_0000] {
            s.peer_sends(rst(outside)).expect_nothing();
            assert_eq!(s.outcome, Err(DropReason::TcpOutOfWindow));
        }
        assert_eq!((s.state(), s.told()), (name, vec![]));
    });
}

/// RFC 5961, section 4.2: TCP MUST send an ACK to the remote peer irrespective of the sequence number.
#[test]
fn a_syn_is_challenged_in_every_state_wherever_it_lies() {
    in_every_state(|mut s, name, snd_nxt, rcv_nxt| {
        for seq in [0, rcv_nxt, rcv_nxt + 1000, 0x7000_0000] {
            s.peer_sends(Seg { seq, ..syn().mss(1000) }).expect(seg(snd_nxt, rcv_nxt));
        }
        s.peer_sends(Seg { seq: rcv_nxt, ..syn_ack() }).expect(seg(snd_nxt, rcv_nxt));
        assert_eq!((s.state(), s.told()), (name, vec![]));
    });
}

/// RFC 9293, section 3.10.7.4, first: if an incoming segment is not acceptable, an acknowledgment should be sent in
/// reply.
#[test]
fn what_lies_outside_the_window_is_acknowledged_and_does_nothing() {
    in_every_state(|mut s, name, snd_nxt, rcv_nxt| {
        for seq in [rcv_nxt + 65_537, rcv_nxt + 0x8000_0000] {
            s.peer_sends(seg(seq, snd_nxt).len(10)).expect(seg(snd_nxt, rcv_nxt));
            s.peer_sends(seg(seq, snd_nxt).fin()).expect(seg(snd_nxt, rcv_nxt));
            s.peer_sends(seg(seq, snd_nxt).window(1)).expect(seg(snd_nxt, rcv_nxt));
            assert_eq!(s.outcome, Err(DropReason::TcpOutOfWindow));
        }
        assert_eq!((s.state(), s.told(), s.tcb().snd.wnd), (name, vec![], 65_535));
    });
}

/// RFC 9293, section 3.10.7.4, fifth: if the ACK acks something not yet sent, then send an ACK, drop the segment.
#[test]
fn an_acknowledgment_of_what_was_never_sent_is_answered_and_does_nothing() {
    in_every_state(|mut s, name, snd_nxt, rcv_nxt| {
        for ahead in [1, 1000, 0x7fff_ffff] {
            s.peer_sends(seg(rcv_nxt, snd_nxt + ahead).len(10)).expect(seg(snd_nxt, rcv_nxt));
            assert_eq!(s.outcome, Err(DropReason::TcpBadAck));
        }
        assert_eq!((s.state(), s.told()), (name, vec![]));
    });
}

#[test]
fn an_old_acknowledgment_is_ignored_and_its_text_taken() {
    for mut s in established() {
        s.app_sends(2000).expect(seg(1, 1).len(1000)).expect(seg(1001, 1).len(1000).psh());
        s.peer_sends(seg(1, 2001)).expect_nothing();
        s.peer_sends(seg(1, 1001).len(10)).peer_sends(seg(11, 1).len(10)).expect(seg(2001, 21)).app_takes(20);
    }
}

#[test]
fn an_acknowledgment_older_than_any_window_is_answered_and_does_nothing() {
    // RFC 9293, section 3.10.7.4 (MAY-12): RFC 5961, section 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK, or it is discarded
    // and an ACK sent back.
    for mut s in established() {
        for n in 0..2 {
            s.app_sends(1000).expect(seg(n * 1000 + 1, 1).len(1000).psh());
            s.peer_sends(seg(1, n * 1000 + 1001).window(1500));
        }
        // The largest window was the first.
        let oldest = 2001_u32.wrapping_sub(65_535);
        s.peer_sends(seg(1, oldest).len(10)).at(50).expect(seg(2001, 11)).app_takes(10);
        s.peer_sends(seg(11, oldest.wrapping_sub(1)).len(10)).expect(seg(2001, 11));
        assert_eq!(s.outcome, Err(DropReason::TcpBadAck));
    }
}

/// What of a segment with so many bytes of text at a number is within a window of 100 from 1 on.
fn cases(s: &mut Script, table: &[(u32, u32, bool)]) {
    for (n, &(seq, len, is_acceptable)) in table.iter().enumerate() {
        // Answers to what is refused are limited to some in a second.
        s.at(1000 * (n as u64 + 1)).peer_sends(seg(seq, 1).len(len));
        let refused = s.outcome == Err(DropReason::TcpOutOfWindow);
        assert_eq!(!refused, is_acceptable, "{len} bytes at {seq}: {:?}", s.outcome);
        // What is taken is acknowledged too, if not at once.
        let acknowledgments = s.run_until(1000 * (n as u64 + 1) + 500).len();
        assert_eq!(acknowledgments, usize::from(refused || len > 0));
    }
}

/// RFC 9293, section 3.4: the four cases of the acceptability test, with a window.
#[test]
fn a_segment_is_acceptable_if_a_part_of_it_lies_in_the_window() {
    for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
        let pure =
            [(1, 0, true), (2, 0, true), (100, 0, true), (0, 0, false), (102, 0, false), (0x8000_0001, 0, false)];
        cases(&mut s, &pure);
    }
    for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
        // As on Linux, and not in the RFC's table: whoever has used up our window and lost it all has no other number.
        s.peer_sends(seg(101, 1)).expect_nothing();
        assert_eq!(s.outcome, Ok(()));
    }
    let acceptable = [(50, 10), (100, 1), (u32::MAX - 98, 101), (u32::MAX - 98, 200)];
    for (seq, len) in acceptable {
        for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
            cases(&mut s, &[(seq, len, true)]);
        }
    }
    for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
        let outside = [(0, 1, false), (101, 1, false), (u32::MAX - 98, 100, false), (0x8000_0001, 1000, false)];
        cases(&mut s, &outside);
    }
}

#[test]
fn what_was_received_before_is_cut_off() {
    for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
        s.peer_sends(seg(1, 1).len(40)).told();
        s.peer_sends(seg(u32::MAX - 9, 1).len(111)).expect(seg(1, 101).window(0)).app_takes(100).take();
    }
}

/// As on Linux since 6.17: a sender that keeps to the window sends no such segment, but as a probe. Its acknowledgment
/// counts all the same.
#[test]
fn text_that_goes_beyond_the_window_is_not_taken() {
    for mut s in established_with(|config| config.receive_buffer = 100, syn().mss(MSS)) {
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        for (seq, len) in [(1, 101), (100, 2), (u32::MAX - 9, 200)] {
            s.peer_sends(seg(seq, 11).len(len)).expect(seg(11, 1).window(100));
            assert_eq!((s.outcome, s.tcb().outstanding()), (Err(DropReason::TcpOutOfWindow), 0));
        }
    }
}

/// A connection whose window of 100 bytes is full.
fn with_a_full_window() -> impl Iterator<Item = Script> {
    established_with(|config| config.receive_buffer = 100, syn().mss(MSS)).map(|mut s| {
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        s.peer_sends(seg(1, 1).len(100)).at(50).expect(seg(11, 101).window(0)).told();
        s
    })
}

#[test]
fn with_a_window_of_zero_acknowledgments_resets_and_urgent_pointers_count_all_the_same() {
    for mut s in with_a_full_window() {
        // Text is not taken, what comes with it is.
        s.peer_sends(seg(101, 11).len(10)).expect(seg(11, 101).window(0));
        assert_eq!((s.outcome, s.tcb().outstanding()), (Err(DropReason::TcpOutOfWindow), 0));
        // RFC 9293, section 3.4 (MUST-66): RST and URG are processed even when the receive window is zero.
        s.peer_sends(seg(101, 11).len(10).urgent(10)).expect(seg(11, 101).window(0));
        assert_eq!((s.told(), s.tcp.urgent_len(s.index)), (vec![Told::Urgent], 110));
        s.peer_sends(seg(102, 11)).expect(seg(11, 101).window(0));
        s.peer_sends(rst(102)).expect_nothing();
        s.peer_sends(rst(101)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Reset)]));
    }
}

#[test]
fn a_fin_needs_no_room() {
    for mut s in with_a_full_window() {
        s.peer_sends(seg(101, 11).fin()).expect(seg(11, 102).window(0));
        assert_eq!((s.state(), s.told()), ("CLOSE-WAIT", vec![Told::Finished]));
        s.app_takes(100);
    }
}

#[test]
fn the_first_of_two_that_say_different_things_is_believed() {
    for mut s in established() {
        // Behind a gap, and in order.
        s.peer_sends(seg(101, 1).len(100)).expect(seg(1, 1));
        s.peer_sends(seg(101, 1).text(&[0xee; 100])).expect(seg(1, 1));
        s.peer_sends(seg(1, 1).len(100)).expect(seg(1, 201));
        s.peer_sends(seg(1, 1).text(&[0xee; 200])).expect(seg(1, 201));
        s.app_takes(200);
    }
}
