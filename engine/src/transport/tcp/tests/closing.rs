//! How connections end (RFC 9293, section 3.6): from ESTABLISHED to TIME-WAIT or CLOSED, on every way there is.

use super::*;
use crate::base::DropReason;
use crate::transport::tcp::End;
use crate::wire::tcp::Flags;

#[test]
fn we_finish_first() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        assert_eq!(s.state(), "FIN-WAIT-1");
        s.at(20).peer_sends(seg(1, 2)).expect_nothing();
        assert_eq!(s.state(), "FIN-WAIT-2");
        s.at(30).peer_sends(seg(1, 2).fin()).expect(seg(2, 2));
        assert_eq!(s.state(), "TIME-WAIT");
        assert_eq!(s.told(), [Told::Finished, Told::Closed(End::Finished)]);
        assert_eq!((s.tcp.population(), s.counters().finished), ((0, 0, 1), 1));
    }
}

#[test]
fn the_peer_finishes_first() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).fin()).expect(seg(1, 2));
        assert_eq!((s.state(), s.told()), ("CLOSE-WAIT", vec![Told::Finished]));
        s.app_finishes().expect(seg(1, 2).fin());
        assert_eq!(s.state(), "LAST-ACK");
        // RFC 9293, section 3.6 (MUST-12): the application is told that it closed normally.
        s.at(20).peer_sends(seg(2, 2)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Finished)]));
        assert_eq!(s.tcp.population(), (0, 0, 0));
    }
}

#[test]
fn both_finish_at_once() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        s.peer_sends(seg(1, 1).fin()).expect(seg(2, 2));
        assert_eq!((s.state(), s.told()), ("CLOSING", vec![Told::Finished]));
        s.at(20).peer_sends(seg(2, 2)).expect_nothing();
        assert_eq!((s.state(), s.told()), ("TIME-WAIT", vec![Told::Closed(End::Finished)]));
    }
}

#[test]
fn one_segment_acknowledges_our_fin_and_finishes() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        s.peer_sends(seg(1, 2).fin()).expect(seg(2, 2));
        assert_eq!((s.state(), s.told()), ("TIME-WAIT", vec![Told::Finished, Told::Closed(End::Finished)]));
    }
}

#[test]
fn a_half_closed_connection_still_receives() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        // In FIN-WAIT-1, and in FIN-WAIT-2.
        s.peer_sends(seg(1, 1).len(100)).peer_sends(seg(101, 2).len(100)).expect(seg(2, 201));
        assert_eq!((s.state(), s.told()), ("FIN-WAIT-2", vec![Told::Data, Told::Data]));
        s.app_takes(200).expect_nothing();
        s.peer_sends(seg(201, 2).len(50).fin()).expect(seg(2, 252));
        // The end is told of when everything was taken.
        assert_eq!(s.told(), [Told::Data, Told::Finished]);
        s.app_takes(50);
        assert_eq!((s.state(), s.told()), ("TIME-WAIT", vec![Told::Closed(End::Finished)]));
    }
}

#[test]
fn a_half_closed_connection_still_sends() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(100).fin()).expect(seg(1, 102));
        s.app_takes(100).app_sends(1500).expect(seg(1, 102).len(1000)).expect_nothing();
        s.peer_sends(seg(102, 1001)).expect(seg(1001, 102).len(500).psh());
        s.app_finishes().expect(seg(1501, 102).fin());
        assert_eq!(s.state(), "LAST-ACK");
        // What is acknowledged only in part, and text behind the peer's FIN, change nothing.
        s.peer_sends(seg(102, 1501)).expect_nothing();
        s.peer_sends(seg(102, 1501).len(10)).expect(seg(1502, 102));
        assert_eq!((s.state(), s.outcome), ("LAST-ACK", Err(DropReason::TcpAfterFin)));
        s.peer_sends(seg(102, 1502));
        assert_eq!(s.state(), "LISTEN");
    }
}

#[test]
fn fin_travels_with_the_last_text() {
    for mut s in established() {
        s.turn(|s| {
            s.app_sends(1500).app_finishes();
        });
        s.expect(seg(1, 1).len(1000)).expect(seg(1001, 1).len(500).psh().fin());
    }
}

#[test]
fn a_fin_behind_a_gap_is_held_until_that_is_filled() {
    for mut s in established() {
        s.peer_sends(seg(101, 1).len(100).fin()).expect(seg(1, 1));
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![]));
        s.peer_sends(seg(1, 1).len(100)).expect(seg(1, 202));
        assert_eq!((s.state(), s.told()), ("CLOSE-WAIT", vec![Told::Data, Told::Finished]));
        s.app_takes(200);
    }
    for mut s in established() {
        // The FIN alone.
        s.peer_sends(seg(101, 1).fin()).expect(seg(1, 1));
        s.peer_sends(seg(1, 1).len(100)).expect(seg(1, 102));
        assert_eq!(s.state(), "CLOSE-WAIT");
        s.app_takes(100);
    }
}

#[test]
fn a_fin_that_comes_again_is_acknowledged_again() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).fin()).expect(seg(1, 2));
        s.peer_sends(seg(1, 1).fin()).expect(seg(1, 2));
        s.app_finishes().expect(seg(1, 2).fin());
        s.peer_sends(seg(1, 1).fin()).expect(seg(2, 2));
        assert_eq!(s.state(), "LAST-ACK");
    }
}

#[test]
fn a_fin_is_sent_again_in_every_state_in_which_it_is_not_acknowledged() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        s.at(220).expect(seg(1, 1).fin());
        s.peer_sends(seg(1, 1).fin()).expect(seg(2, 2));
        s.at(640).expect(seg(1, 2).fin());
        assert_eq!(s.state(), "CLOSING");
    }
    for mut s in established() {
        s.peer_sends(seg(1, 1).fin()).expect(seg(1, 2));
        s.app_finishes().expect(seg(1, 2).fin());
        s.at(220).expect(seg(1, 2).fin());
        assert_eq!(s.state(), "LAST-ACK");
    }
}

#[test]
fn what_the_application_queued_is_sent_before_the_fin_however_long_it_takes() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(0)).app_sends(10).app_finishes().expect_nothing();
        assert_eq!(s.state(), "FIN-WAIT-1");
        s.at(20).peer_sends(seg(1, 1)).expect(seg(1, 1).len(10).psh().fin());
    }
}

#[test]
fn nothing_can_be_queued_behind_the_end() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        assert_eq!(s.app_offers(10), 0);
        // To finish twice is to finish once.
        s.app_finishes().expect_nothing();
    }
}

/// RFC 9293, section 3.10.5: ABORT.
#[test]
fn an_abort_resets_in_every_state_that_the_peer_knows_of() {
    let aborts = |mut s: Script, reset: Seg| {
        s.take_all();
        s.told();
        s.app_sends(0).app_aborts().expect(reset);
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::Aborted)]));
        assert_eq!((s.counters().aborted, s.counters().resets_sent), (1, 1));
        // The peer's next segment finds nothing.
        s.peer_sends(seg(1, 1)).expect(rst(1));
    };
    for mut s in established() {
        s.app_sends(10);
        aborts(s, seg(11, 1).rst());
    }
    for mut s in established() {
        s.app_finishes();
        aborts(s, seg(2, 1).rst());
    }
    for mut s in established() {
        s.app_finishes().peer_sends(seg(1, 2));
        aborts(s, seg(2, 1).rst());
    }
    for mut s in established() {
        s.peer_sends(seg(1, 1).fin());
        aborts(s, seg(1, 2).rst());
    }
    for mut s in established() {
        s.peer_sends(seg(1, 1).fin()).app_finishes();
        aborts(s, seg(2, 2).rst());
    }
    for mut s in established() {
        s.app_finishes().peer_sends(seg(1, 1).fin());
        aborts(s, seg(2, 2).rst());
    }
}

/// Linux: tcp_fin_timeout. A peer that never finishes would hold the connection for ever.
#[test]
fn fin_wait_2_ends_after_a_minute_of_silence() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        s.at(20).peer_sends(seg(1, 2)).expect_nothing();
        // Whoever still sends is still there.
        s.at(50_000).peer_sends(seg(1, 2).len(10)).at(50_040).expect(seg(2, 11)).app_takes(10);
        s.at(109_999).expect_nothing();
        assert_eq!(s.state(), "FIN-WAIT-2");
        s.at(110_000).expect_nothing();
        assert_eq!((s.state(), s.told().last()), ("LISTEN", Some(&Told::Closed(End::TimedOut))));
        s.peer_sends(seg(11, 2).fin()).expect(rst(2));
    }
}

#[test]
fn segments_without_ack_are_dropped_once_a_connection_is_established() {
    for mut s in established() {
        s.peer_sends(seg(1, 0).without(Flags::ACK).len(10)).expect_nothing();
        s.peer_sends(seg(1, 0).without(Flags::ACK).fin()).expect_nothing();
        assert_eq!((s.state(), s.outcome), ("ESTABLISHED", Err(DropReason::TcpNoAck)));
        s.app_finishes().expect(seg(1, 1).fin());
        s.peer_sends(seg(1, 0).without(Flags::ACK).fin()).expect_nothing();
        assert_eq!(s.state(), "FIN-WAIT-1");
    }
}
