//! How connections begin (RFC 9293, section 3.5): CLOSED, LISTEN, SYN-SENT and SYN-RECEIVED.

use super::*;
use crate::base::DropReason;
use crate::transport::tcp::End;
use crate::wire::tcp::Flags;

#[test]
fn a_peer_opens_a_connection() {
    for mut s in scripts() {
        assert_eq!(s.state(), "LISTEN");
        s.peer_sends(syn().mss(1000)).expect(syn_ack().mss(1460).window(65_535));
        assert_eq!((s.state(), s.told()), ("SYN-RECEIVED", vec![]));
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![Told::Opened]));
    }
}

#[test]
fn text_and_fin_with_the_last_segment_of_the_handshake_are_taken() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.peer_sends(seg(1, 1).len(5).fin()).expect(seg(1, 7));
        assert_eq!((s.state(), s.told()), ("CLOSE-WAIT", vec![Told::Opened, Told::Data, Told::Finished]));
        s.app_takes(5);
    }
}

#[test]
fn we_open_a_connection() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn().window(65_535));
        assert_eq!(s.state(), "SYN-SENT");
        s.at(10).peer_sends(syn_ack().mss(1000)).expect(seg(1, 1));
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![Told::Opened]));
    }
}

/// The peer's MSS is not known when it is queued, so it is cut anew.
#[test]
fn text_queued_before_the_handshake_is_over_carries_its_last_acknowledgment() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn()).app_sends(1400).expect_nothing();
        s.peer_sends(syn_ack().mss(1000)).expect(seg(1, 1).len(1000));
        s.peer_sends(seg(1, 1001)).expect(seg(1001, 1).len(400).psh());
    }
}

/// RFC 9293, section 3.5 (MUST-10): simultaneous open attempts, as in its figure 7.
#[test]
fn both_sides_ask_at_once() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.at(10).peer_sends(syn().mss(1000)).expect(syn_ack().mss(1460));
        assert_eq!((s.state(), s.told()), ("SYN-RECEIVED", vec![]));
        s.at(20).peer_sends(syn_ack().mss(1000)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![Told::Opened]));
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
    }
}

#[test]
fn an_acknowledgment_ends_a_simultaneous_open_as_well() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.peer_sends(syn().mss(1000)).expect(syn_ack().mss(1460));
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![Told::Opened]));
    }
}

/// RFC 9293, section 3.5 (MUST-11): it is kept track of which side asked. Of a passive OPEN a reset leads back to
/// LISTEN, and nobody has to be told; of an active one, to CLOSED.
#[test]
fn a_reset_in_syn_received_leads_back_to_where_it_came_from() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![]));
        // As before.
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
    }
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::Refused)]));
    }
}

/// RFC 9293, section 3.8.3 (MUST-22, MUST-23): a SYN is sent again with the timeout doubled each time, for three
/// minutes at least, and then the application is told.
#[test]
fn a_syn_is_sent_again_for_three_minutes() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        for second in [1, 3, 7, 15, 31, 63, 127] {
            s.at(second * 1000).expect(our_syn().first_ts(second as u32 * 1000));
        }
        s.at(246_999).expect_nothing();
        assert_eq!(s.state(), "SYN-SENT");
        s.at(247_000).expect_nothing();
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::TimedOut)]));
        assert_eq!(s.counters().timed_out, 1);
    }
}

/// As Linux: 1, 2, 4 seconds and so on, five times.
#[test]
fn the_answer_to_a_syn_is_sent_again_and_at_last_forgotten() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        for second in [1, 3, 7, 15, 31] {
            s.at(second * 1000).expect(syn_ack().mss(1460));
        }
        s.at(62_999).expect_nothing();
        assert_eq!(s.state(), "SYN-RECEIVED");
        s.at(63_000).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![]));
        assert_eq!((s.counters().syn_acks_retransmitted, s.counters().handshakes_timed_out), (5, 1));
    }
}

#[test]
fn a_syn_that_comes_again_is_answered_again() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.at(500).peer_sends(syn()).expect(syn_ack().mss(1460));
        // The timer goes on as before.
        s.at(1000).expect(syn_ack().mss(1460));
        assert_eq!(s.counters().syn_acks_retransmitted, 2);
    }
    // As Linux does: no host that means it asks more often than twice a second.
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        for _ in 0..20 {
            s.peer_sends(syn());
        }
        s.expect(syn_ack().mss(1460)).expect_nothing();
        assert_eq!((s.counters().syn_acks_retransmitted, s.counters().challenges_suppressed), (1, 19));
        s.at(600).peer_sends(syn()).expect(syn_ack().mss(1460));
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
}

#[test]
fn a_simultaneous_open_sends_its_answer_again_too() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.at(10).peer_sends(syn()).expect(syn_ack().mss(1460));
        s.at(1000).expect(syn_ack().mss(1460));
        s.at(3000).expect(syn_ack().mss(1460));
    }
}

/// RFC 9293, section 3.10.7.3: SEGMENT ARRIVES in SYN-SENT.
#[test]
fn in_syn_sent_a_wrong_acknowledgment_is_reset_and_what_is_neither_syn_nor_reset_is_dropped() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        // First, check the ACK bit: a number that acknowledges nothing sent.
        for ack in [0, 2, 0x8000_0001] {
            s.peer_sends(syn_ack_of(ack)).expect(rst(ack));
            s.peer_sends(seg(0, ack)).expect(rst(ack));
            s.peer_sends(seg(0, ack).rst()).expect_nothing();
        }
        // Second, the RST bit: one without an acknowledgment.
        s.peer_sends(rst(0)).expect_nothing();
        // Fifth: neither SYN nor RST.
        s.peer_sends(seg(0, 1)).expect_nothing();
        s.peer_sends(seg(0, 1).len(10).fin()).expect_nothing();
        s.peer_sends(seg(0, 0).without(Flags::ACK).len(10)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("SYN-SENT", vec![]));
        s.peer_sends(seg(0, 1).rst()).expect_nothing();
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::Refused)]));
    }
}

/// The answer to a SYN of another connection.
fn syn_ack_of(ack: u32) -> Seg {
    seg(0, ack).with(Flags::SYN)
}

/// RFC 9293, section 3.5, figure 8: an old SYN, and how SYN-SENT recovers from its answer at the other side.
#[test]
fn an_old_duplicate_syn_does_no_harm() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        // The peer never sent that: it resets, at the number that we acknowledged.
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

/// RFC 9293, section 3.10.7.2: SEGMENT ARRIVES in LISTEN.
#[test]
fn in_listen_only_a_syn_is_of_interest() {
    for mut s in scripts() {
        s.peer_sends(rst(0)).expect_nothing();
        s.peer_sends(seg(0, 5).rst()).expect_nothing();
        s.peer_sends(seg(3, 5)).expect(rst(5));
        s.peer_sends(seg(3, 5).len(10).fin()).expect(rst(5));
        s.peer_sends(syn_ack_of(9)).expect(rst(9));
        s.peer_sends(seg(3, 0).without(Flags::ACK).len(10)).expect_nothing();
        s.peer_sends(seg(3, 0).without(Flags::ACK).fin()).expect_nothing();
        s.peer_sends(syn().fin()).expect_nothing();
        assert_eq!((s.state(), s.counters().resets_sent), ("LISTEN", 3));
        // Text with a SYN is not acknowledged: the peer sends it again.
        s.peer_sends(syn().len(10)).expect(syn_ack().mss(1460));
        s.peer_sends(seg(1, 1).len(9)).told();
        s.at(40).expect(seg(1, 10)).app_takes(9);
    }
}

/// RFC 9293, section 3.10.7.1: SEGMENT ARRIVES in CLOSED.
#[test]
fn in_closed_everything_but_a_reset_is_reset() {
    for mut s in callers() {
        s.peer_sends(syn()).expect(rst_for(1));
        s.peer_sends(syn().len(10).fin()).expect(rst_for(12));
        s.peer_sends(seg(3, 0).without(Flags::ACK)).expect(rst_for(3));
        s.peer_sends(seg(3, 0).without(Flags::ACK).len(10)).expect(rst_for(13));
        s.peer_sends(seg(3, 5)).expect(rst(5));
        s.peer_sends(seg(3, 5).len(10).fin()).expect(rst(5));
        s.peer_sends(syn_ack_of(9)).expect(rst(9));
        s.peer_sends(rst(3)).expect_nothing();
        s.peer_sends(seg(3, 5).rst()).expect_nothing();
        assert_eq!((s.state(), s.counters().resets_sent), ("CLOSED", 7));
    }
}

/// RFC 9293, section 3.10.7.4, where it says SYN-RECEIVED, after a passive OPEN.
#[test]
fn in_syn_received_a_wrong_acknowledgment_is_reset_and_the_handshake_goes_on() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        for ack in [0, 2, 0x8000_0001] {
            s.peer_sends(seg(1, ack)).expect(rst(ack));
        }
        s.peer_sends(seg(1, 0).without(Flags::ACK).len(5)).expect_nothing();
        assert_eq!(s.outcome, Err(DropReason::TcpNoAck));
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
}

/// RFC 9293, section 3.10.7.4, first: an unacceptable segment is answered with an acknowledgment; a reset is not.
#[test]
fn in_syn_received_what_lies_outside_the_window_is_acknowledged() {
    // RFC 5961, section 3.2: a reset in the window, but not exactly the next number. And another SYN far away: perhaps of
    // a peer that lost its memory.
    let challenged = [rst(2), rst(65_535), Seg { seq: 0x4000_0000, ..syn() }];
    let outside = [0, 65_536, 0x8000_0001];
    for refused in outside.map(|seq| seg(seq, 1)).into_iter().chain(challenged) {
        for mut s in scripts() {
            s.peer_sends(syn()).expect(syn_ack().mss(1460));
            for seq in outside {
                s.peer_sends(rst(seq)).expect_nothing();
            }
            // Not again and again: once in half a second.
            for _ in 0..20 {
                s.peer_sends(refused.clone());
            }
            s.expect(seg(1, 1)).expect_nothing();
            let challenges = if refused.flags == Flags::ACK { 0 } else { 20 };
            assert_eq!((s.counters().challenges, s.counters().challenges_suppressed), (challenges, 19));
            s.at(600).peer_sends(refused.clone()).expect(seg(1, 1));
            assert_eq!(s.state(), "SYN-RECEIVED");
        }
    }
}

/// RFC 9293, section 3.10.7.4, fourth: if the connection was initiated with a passive OPEN, then return this connection
/// to the LISTEN state and return.
#[test]
fn in_syn_received_a_syn_in_the_window_leads_back_to_listen() {
    for mut s in scripts() {
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.peer_sends(Seg { seq: 5, ..syn() }).expect_nothing();
        assert_eq!((s.state(), s.outcome), ("LISTEN", Err(DropReason::TcpSyn)));
    }
}

/// RFC 9293, section 3.9.1.1 (MUST-41, MUST-42): a port that is listened on goes on being so, whatever becomes of the
/// connections that it led to, and whatever they are doing.
#[test]
fn a_port_is_listened_on_while_its_connections_come_and_go() {
    for mut s in established() {
        s.peer_sends(syn().port(41_000)).expect(syn_ack().mss(1460).port(41_000));
        s.peer_sends(syn().port(42_000)).expect(syn_ack().mss(1460).port(42_000));
        s.peer_sends(seg(1, 1).port(42_000));
        assert_eq!((s.state(), s.tcp.population()), ("ESTABLISHED", (2, 1, 0)));
        s.peer_sends(rst(1).port(41_000));
        assert_eq!(s.tcp.population(), (2, 0, 0));
        s.peer_sends(syn().port(41_000)).expect(syn_ack().mss(1460).port(41_000));
    }
}

/// RFC 9293, section 3.5.1: half-open connections.
#[test]
fn a_peer_that_lost_its_memory_is_found_out() {
    for mut s in established() {
        // It asks for a connection anew (figure 9) ...
        s.peer_sends(Seg { seq: 100_000, ..syn() }).expect(seg(1, 1));
        // ... is told that it has one, and resets that.
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Reset)]));
        s.peer_sends(Seg { seq: 100_000, ..syn() }).expect(Seg { ack: 100_001, ..syn_ack().mss(1460) });
    }
    for mut s in established() {
        // Or we send something (figure 10).
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Reset)]));
    }
}

#[test]
fn a_connection_that_we_open_and_give_up_is_forgotten() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.app_aborts().expect_nothing();
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::Aborted)]));
    }
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        s.peer_sends(syn()).expect(syn_ack().mss(1460));
        s.app_aborts().expect(seg(1, 1).rst());
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::Aborted)]));
    }
}

#[test]
fn finishing_before_the_handshake_is_over_sends_what_is_queued_and_then_fin() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn()).app_sends(10).app_finishes().expect_nothing();
        s.peer_sends(syn_ack()).expect(seg(1, 1).len(10).psh().fin());
        assert_eq!(s.state(), "FIN-WAIT-1");
    }
}
