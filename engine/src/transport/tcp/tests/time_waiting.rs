//! TIME-WAIT (RFC 9293, section 3.6.1; RFC 6191; RFC 1337).

use super::*;
use crate::base::DropReason;
use crate::transport::tcp::ConnectFailure;
use crate::wire::tcp::Flags;

/// Connections that came to TIME-WAIT at 30 ms, after 100 bytes each way; ours ended at 102, the peer's at 102.
fn in_time_wait(syn: Seg) -> impl Iterator<Item = Script> {
    established_by(syn).map(|mut s| {
        s.turn(|s| _ = s.app_sends(100).app_finishes()).expect(seg(1, 1).len(100).psh().fin());
        s.at(20).peer_sends(seg(1, 102)).expect_nothing();
        s.at(30).peer_sends(seg(1, 102).len(100).fin()).expect(seg(102, 102)).app_takes(100);
        assert_eq!(s.state(), "TIME-WAIT");
        s
    })
}

fn plain() -> impl Iterator<Item = Script> {
    in_time_wait(syn().mss(MSS))
}

/// With timestamps, of which the peer's last was 30.
fn with_timestamps() -> impl Iterator<Item = Script> {
    in_time_wait(syn().mss(MSS).first_ts(0))
}

/// RFC 9293, section 3.6.1 (MUST-13): it lingers for twice the maximum segment lifetime.
#[test]
fn a_connection_lingers_for_twice_the_segment_lifetime() {
    for mut s in plain() {
        s.at(60_029).expect_nothing();
        assert_eq!(s.state(), "TIME-WAIT");
        s.at(60_030).expect_nothing();
        assert_eq!((s.state(), s.tcp.population()), ("LISTEN", (0, 0, 0)));
    }
    let longer = |config: &mut TcpConfig| config.time_wait_for = std::time::Duration::from_secs(240);
    for mut s in established_with(longer, syn()) {
        s.app_finishes().expect(seg(1, 1).fin()).peer_sends(seg(1, 2).fin()).expect(seg(2, 2));
        s.at(240_009).expect_nothing();
        assert_eq!(s.state(), "TIME-WAIT");
        s.at(240_010).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

/// RFC 9293, section 3.10.7.4, eighth: remain in the TIME-WAIT state; restart the 2 MSL time-wait timeout.
#[test]
fn a_fin_that_comes_again_is_acknowledged_and_starts_the_time_anew() {
    for mut s in plain() {
        s.at(30_000).peer_sends(seg(1, 102).len(100).fin()).expect(seg(102, 102));
        s.at(40_000).peer_sends(seg(101, 102).fin()).expect(seg(102, 102));
        s.at(99_999).expect_nothing();
        assert_eq!(s.state(), "TIME-WAIT");
        s.at(100_000).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

#[test]
fn what_is_left_of_the_connection_is_acknowledged_and_does_not_start_the_time_anew() {
    for mut s in plain() {
        s.at(20_000).peer_sends(seg(1, 102).len(100)).expect(seg(102, 102));
        s.peer_sends(seg(102, 102).len(10)).expect(seg(102, 102));
        s.peer_sends(seg(5000, 102)).expect(seg(102, 102));
        // In order and empty: nothing to say.
        s.peer_sends(seg(102, 102)).expect_nothing();
        s.peer_sends(seg(102, 0).without(Flags::ACK).len(10)).expect_nothing();
        s.at(60_030).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

/// RFC 1337, section 3 (F1): RST segments are ignored in TIME-WAIT.
#[test]
fn a_reset_does_not_end_it() {
    for mut s in plain() {
        for reset in [rst(102), rst(103), rst(0), seg(102, 102).rst()] {
            s.peer_sends(reset).expect_nothing();
            assert_eq!((s.state(), s.outcome), ("TIME-WAIT", Err(DropReason::TcpReset)));
        }
    }
}

/// RFC 9293, section 3.6.1 (MAY-2): a SYN with a higher number opens a new connection, whose own number is above all of
/// the old one.
#[test]
fn a_syn_above_the_old_numbers_opens_a_new_connection() {
    for mut s in plain() {
        let old = s.iss();
        s.at(1000).peer_sends(Seg { seq: 103, ..syn().mss(MSS) });
        let answer = s.take();
        assert_eq!((answer.flags, answer.ack, s.state()), (Flags::SYN | Flags::ACK, 104, "SYN-RECEIVED"));
        assert!(s.iss().after(old + 102), "{:?} {old:?}", s.iss());
        s.peer_sends(seg(104, 1)).expect_nothing();
        assert_eq!((s.state(), s.counters().time_wait_reopened), ("ESTABLISHED", 1));
    }
}

/// RFC 9293, section 3.6.1 (MAY-2): an old duplicate of a SYN leaves it in TIME-WAIT.
#[test]
fn a_syn_within_the_old_numbers_is_acknowledged() {
    for mut s in plain() {
        for (at, seq) in [(1000, 0), (2000, 50), (3000, 102)] {
            s.at(at).peer_sends(Seg { seq, ..syn().mss(MSS) }).expect(seg(102, 102));
        }
        s.at(4000).peer_sends(Seg { seq: 5000, ..syn_ack() }).expect(seg(102, 102));
        // The peer, if it did ask, resets at the number that we acknowledge, and asks again: it has to wait.
        s.peer_sends(rst(102)).expect_nothing();
        assert_eq!(s.state(), "TIME-WAIT");
    }
}

/// RFC 5961, section 7: not again and again: once in half a second. What may be a retransmission is, each time.
#[test]
fn what_is_no_retransmission_is_answered_seldom() {
    for refused in [Seg { seq: 50, ..syn() }, Seg { seq: 5000, ..syn_ack() }, seg(5000, 102), seg(1, 102)] {
        for mut s in plain() {
            for _ in 0..20 {
                s.peer_sends(refused.clone());
            }
            s.expect(seg(102, 102)).expect_nothing();
            let challenges = if refused.flags == Flags::ACK { 0 } else { 20 };
            assert_eq!((s.counters().challenges, s.counters().challenges_suppressed), (challenges, 19));
            for _ in 0..20 {
                s.peer_sends(seg(1, 102).len(100).fin()).expect(seg(102, 102));
                s.peer_sends(seg(1, 102).len(100)).expect(seg(102, 102));
            }
            s.at(700).peer_sends(refused.clone()).expect(seg(102, 102));
        }
    }
}

/// RFC 9293, section 3.6.1 (SHLD-4): timestamps reduce TIME-WAIT, by the rules of RFC 6191, section 2.
#[test]
fn a_syn_with_a_newer_timestamp_opens_a_new_connection_whatever_its_number() {
    for seq in [103, 50, 0x8000_0000] {
        for mut s in with_timestamps() {
            s.at(31).peer_sends(Seg { seq, ..syn().mss(MSS).first_ts(31) });
            let answer = s.take();
            assert_eq!((answer.flags, answer.ack, s.state()), (Flags::SYN | Flags::ACK, seq + 1, "SYN-RECEIVED"));
        }
    }
}

#[test]
fn a_syn_with_the_same_timestamp_or_none_opens_a_new_connection_if_its_number_is_higher() {
    for again in [syn().first_ts(30), syn().no_ts()] {
        for mut s in with_timestamps() {
            s.at(31).peer_sends(Seg { seq: 102, ..again.clone() }).expect(seg(102, 102));
            s.peer_sends(Seg { seq: 103, ..again.clone() });
            assert_eq!((s.take().flags, s.state()), (Flags::SYN | Flags::ACK, "SYN-RECEIVED"));
        }
    }
}

#[test]
fn a_syn_with_an_older_timestamp_is_acknowledged_whatever_its_number() {
    for mut s in with_timestamps() {
        s.at(31).peer_sends(Seg { seq: 103, ..syn().first_ts(29) }).expect(seg(102, 102).ts(31, 30));
        assert_eq!((s.state(), s.outcome), ("TIME-WAIT", Err(DropReason::TcpOldTimestamp)));
    }
}

#[test]
fn an_old_fin_by_its_timestamp_does_not_start_the_time_anew() {
    for mut s in with_timestamps() {
        s.at(30_000).peer_sends(seg(101, 102).fin().ts(29, 0)).expect(seg(102, 102));
        s.at(60_030).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

#[test]
fn we_do_not_reuse_a_connection_in_time_wait_ourselves() {
    for mut s in callers() {
        s.call(syn_ack().mss(MSS));
        s.app_finishes().expect(seg(1, 1).fin()).peer_sends(seg(1, 2).fin()).expect(seg(2, 2));
        assert_eq!((s.state(), s.app_connects()), ("TIME-WAIT", Err(ConnectFailure::NoPort)));
        // Nobody listens: a SYN that would be welcome otherwise is reset.
        s.at(1000).peer_sends(Seg { seq: 500, ..syn() }).expect(rst_for(501));
        assert_eq!(s.state(), "CLOSED");
        s.app_connects().unwrap();
        s.expect(our_syn().first_ts(1000));
    }
}

#[test]
fn the_oldest_gives_way_when_there_are_too_many() {
    for mut s in scripts() {
        for port in 40_000..40_005 {
            s.peer_sends(syn().port(port)).take();
            s.peer_sends(seg(1, 1).port(port)).app_finishes().take();
            s.peer_sends(seg(1, 2).fin().port(port)).take();
        }
        assert_eq!((s.tcp.population(), s.counters().time_wait_evicted), ((0, 0, 4), 1));
        assert_eq!(s.state(), "LISTEN");
        s.peer_sends(seg(2, 2).port(40_001)).expect_nothing();
    }
}

#[test]
fn text_that_the_application_has_not_taken_is_kept_for_it() {
    for mut s in established() {
        s.app_finishes().expect(seg(1, 1).fin());
        s.at(20).peer_sends(seg(1, 2).len(100).fin()).expect(seg(2, 102));
        assert_eq!((s.state(), s.told()), ("TIME-WAIT", vec![Told::Data, Told::Finished]));
        // Meanwhile it answers as it would.
        s.at(500).peer_sends(seg(1, 2).len(100).fin()).expect(seg(2, 102));
        s.peer_sends(rst(102)).expect_nothing();
        s.at(100_000).app_takes(100);
        assert_eq!(s.told(), [Told::Closed(crate::transport::tcp::End::Finished)]);
        s.at(159_999).expect_nothing();
        assert_eq!(s.state(), "TIME-WAIT");
        s.at(160_000).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}
