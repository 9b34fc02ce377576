//! What happens when nothing is heard (RFC 6298; RFC 9293, sections 3.8.1, 3.8.3 and 3.8.4).

use std::time::Duration;

use super::*;
use crate::transport::tcp::{End, Trouble};

/// RFC 9293, section 3.8.1 (MUST-18): RFC 6298, with Linux's minimum of 200 ms above the round trip, which is 10 ms
/// here; section 3.8.2 (MUST-19): doubled by every expiry, up to two minutes.
#[test]
fn text_is_sent_again_after_a_time_that_doubles() {
    for mut s in established_with(|config| config.user_timeout = Duration::from_secs(3600), syn().mss(MSS)) {
        s.at(100).app_sends(500).expect(seg(1, 1).len(500).psh());
        let (mut at, mut rto) = (100, 210);
        for _ in 0..14 {
            at += rto;
            s.at(at).expect(seg(1, 1).len(500).psh());
            rto = (2 * rto).min(120_000);
        }
        assert_eq!((s.counters().timeouts, s.counters().retransmitted, s.counters().sent), (14, 14, 1));
        s.peer_sends(seg(1, 501)).at(at + 500_000).expect_nothing();
    }
}

/// RFC 6298, section 2.2 and 2.3: SRTT and RTTVAR of the first sample and of those that follow.
#[test]
fn the_timeout_follows_the_round_trip_and_its_variation() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS)).take();
        s.at(800).peer_sends(seg(1, 1));
        // 800 + 4 * 400.
        s.app_sends(100).expect(seg(1, 1).len(100).psh());
        s.at(3200).expect(seg(1, 1).len(100).psh()).peer_sends(seg(1, 101));
        // 3/4 * 400 + 1/4 * 0 = 300; 800 + 4 * 300.
        s.at(4000).app_sends(100).expect(seg(101, 1).len(100).psh()).at(4800).peer_sends(seg(1, 201));
        s.app_sends(100).expect(seg(201, 1).len(100).psh()).at(6800).expect(seg(201, 1).len(100).psh());
    }
}

/// RFC 6298, section 5.3: an acknowledgment of new data restarts the timer.
#[test]
fn every_acknowledgment_of_new_text_starts_the_time_anew() {
    for mut s in established() {
        s.at(100).app_sends(2000).take_all();
        s.at(300).peer_sends(seg(1, 1001)).expect_nothing();
        // The sample of 200 ms: SRTT = 7/8 * 10 + 1/8 * 200 = 33.75; RTTVAR = 3/4 * 5 + 1/4 * 190 = 51.25.
        s.at_us(300_000 + 33_750 + 4 * 51_250).expect(seg(1001, 1).len(1000).psh());
    }
}

/// RFC 9293, section 3.8.1 (MUST-18): Karn's algorithm: no sample of what was sent twice, and the timeout stays as it
/// is until there is one of what was sent once.
#[test]
fn what_was_sent_twice_is_not_measured_and_the_timeout_stays_backed_off() {
    for mut s in established() {
        s.at(100).app_sends(500).take_all();
        s.at(310).expect(seg(1, 1).len(500).psh()).at(320).peer_sends(seg(1, 501));
        s.at(400).app_sends(500).expect(seg(501, 1).len(500).psh()).at(820).expect(seg(501, 1).len(500).psh());
        s.at(830).peer_sends(seg(1, 1001));
        s.at(900).app_sends(500).expect(seg(1001, 1).len(500).psh()).at(910).peer_sends(seg(1, 1501));
        s.at(1000).app_sends(500).expect(seg(1501, 1).len(500).psh()).at(1210).expect(seg(1501, 1).len(500).psh());
    }
}

/// RFC 7323, section 4.1: a timestamp tells which of the two arrived.
#[test]
fn with_timestamps_what_was_sent_twice_is_measured_too() {
    for mut s in established_by(syn().mss(MSS).first_ts(0)) {
        s.at(100).app_sends(500).take_all();
        s.at(310).expect(seg(1, 1).len(500).psh()).at(320).peer_sends(seg(1, 501).ts(320, 310));
        s.at(400).app_sends(500).expect(seg(501, 1).len(500).psh()).at(610).expect(seg(501, 1).len(500).psh());
    }
}

/// RFC 6298, section 3: nor is the answer to a SYN that came again. It tells that the first was lost, so that we begin with
/// care (RFC 5681, section 3.1).
#[test]
fn an_answer_to_a_syn_that_was_sent_twice_is_not_measured() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS)).take();
        s.at(800).peer_sends(syn().mss(MSS)).take();
        s.at(810).peer_sends(seg(1, 1)).app_sends(5000).expect(seg(1, 1).len(1000)).expect_nothing();
        assert_eq!((s.tcb().rtt.srtt(), s.counters().syn_acks_retransmitted), (None, 1));
        s.at(3810).expect(seg(1, 1).len(1000));
    }
}

/// RFC 6298, section 5.7; RFC 5681, section 3.1: after a lost SYN, three seconds and one segment.
#[test]
fn after_a_lost_syn_we_begin_with_care() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS)).take();
        s.at(1000).take();
        s.at(1500).peer_sends(seg(1, 1)).app_sends(5000).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(4500).expect(seg(1, 1).len(1000));
    }
    for mut s in callers() {
        s.app_connects().unwrap();
        s.take();
        s.at(1000).take();
        s.at(1500).peer_sends(syn_ack().mss(MSS)).expect(seg(1, 1));
        s.app_sends(5000).expect(seg(1, 1).len(1000)).expect_nothing();
        s.at(4500).expect(seg(1, 1).len(1000));
    }
}

/// RFC 9293, section 3.8.3 (MUST-20, SHLD-9, SHLD-10): after R1, three retransmissions, the way to the peer is asked
/// for anew, and the application can learn of the trouble; what is acknowledged ends it.
#[test]
fn after_three_retransmissions_the_way_to_the_peer_is_looked_for_anew() {
    for mut s in established() {
        s.at(100).app_sends(500).take_all();
        for _ in 0..2 {
            let sent = s.run_until(if s.time().0 < 310 { 310 } else { 730 });
            assert_eq!((sent[0].doubts_way, s.tcp.trouble(s.index)), (false, None));
        }
        let sent = s.run_until(1570);
        assert_eq!((sent[0].doubts_way, s.tcp.trouble(s.index)), (true, Some(Trouble::NotResponding)));
        s.peer_sends(seg(1, 501)).app_sends(10);
        assert_eq!((s.take_all()[0].doubts_way, s.tcp.trouble(s.index)), (false, None));
    }
}

/// RFC 9293, section 3.8.3 (MUST-20, SHLD-11): R2 is 300 seconds: then the connection is closed, whatever the timeout has
/// become.
#[test]
fn a_peer_that_acknowledges_nothing_is_given_up() {
    for mut s in established() {
        s.at(100).app_sends(500).take_all();
        s.run_until(300_099);
        assert_eq!(s.state(), "ESTABLISHED");
        let sent = s.run_until(300_100);
        assert!(sent.is_empty(), "{sent:?}");
        assert_eq!((s.state(), s.told(), s.tcp.held()), ("LISTEN", vec![Told::Closed(End::TimedOut)], 0));
    }
}

/// RFC 9293, section 3.8.3 (MUST-21): an application can set R2 for a particular connection.
#[test]
fn the_application_says_how_long_to_wait() {
    for (timeout, given_up) in [(5, 5100), (1000, 1_000_100)] {
        for mut s in established() {
            s.app_sets(|tcp, index, _| tcp.set_user_timeout(index, Duration::from_secs(timeout)));
            s.at(100).app_sends(500).take_all();
            s.run_until(given_up - 1);
            assert_eq!(s.state(), "ESTABLISHED");
            s.run_until(given_up);
            assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::TimedOut)]));
        }
    }
}

#[test]
fn progress_starts_the_user_timeout_anew() {
    for mut s in established() {
        s.app_sets(|tcp, index, _| tcp.set_user_timeout(index, Duration::from_secs(5)));
        s.app_sends(3000);
        for n in 1..3 {
            s.run_until(4000 * n);
            s.peer_sends(seg(1, 1000 * n as u32 + 1));
        }
        s.run_until(12_999);
        assert_eq!(s.state(), "ESTABLISHED");
        s.run_until(13_000);
        assert_eq!(s.told(), [Told::Closed(End::TimedOut)]);
    }
}

/// Where the timer runs already, too.
#[test]
fn a_shorter_user_timeout_counts_at_once() {
    for mut s in established() {
        s.at(100).app_sends(500).take_all();
        s.run_until(60_000);
        s.app_sets(|tcp, index, _| tcp.set_user_timeout(index, Duration::from_secs(61)));
        s.at(61_099).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
        s.at(61_100).expect_nothing();
        assert_eq!(s.told(), [Told::Closed(End::TimedOut)]);
    }
}

/// RFC 9293, section 3.8.4 (MUST-25): keep-alives are off unless the application wants them.
#[test]
fn a_silent_connection_lasts_for_ever() {
    for mut s in established() {
        s.at(100 * 24 * 3600 * 1000).expect_nothing();
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
    }
}

const HOUR: u64 = 3600 * 1000;

fn with_keep_alive() -> impl Iterator<Item = Script> {
    established().map(|mut s| {
        s.app_sets(|tcp, index, now| tcp.set_keep_alive(index, Some(Duration::from_secs(7200)), now));
        s
    })
}

/// RFC 9293, section 3.8.4 (MUST-24, MUST-27, SHLD-12): after as long a silence as the application says, a segment
/// without text in front of the window. Its answer, as everything that is heard, starts the time anew (MUST-26).
#[test]
fn a_keep_alive_asks_whether_the_peer_still_lives() {
    for mut s in with_keep_alive() {
        s.at(2 * HOUR + 10).expect(seg(0, 1)).peer_sends(seg(1, 1));
        s.at(3 * HOUR).peer_sends(seg(1, 1).len(10)).at(3 * HOUR + 40).expect(seg(1, 11)).app_takes(10);
        s.at(5 * HOUR).expect(seg(0, 11)).peer_sends(seg(11, 1));
        assert_eq!(s.counters().keep_alives, 2);
        s.app_sets(|tcp, index, now| tcp.set_keep_alive(index, None, now));
        s.at(50 * HOUR).expect_nothing();
    }
}

/// RFC 9293, section 3.8.4 (MUST-29): no single probe without an answer ends the connection: it takes nine, 75 s apart.
#[test]
fn nine_keep_alives_without_an_answer_end_a_connection() {
    for mut s in with_keep_alive() {
        for n in 0..9 {
            let sent = s.run_until(2 * HOUR + 10 + n * 75_000);
            // From the second on, the way to the peer is asked for anew.
            assert_eq!((sent.len(), sent[0].seg.seq, sent[0].doubts_way), (1, 0, n > 0));
        }
        s.at(2 * HOUR + 10 + 9 * 75_000).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::TimedOut)]));
    }
    for mut s in with_keep_alive() {
        for n in 0..9 {
            s.at(2 * HOUR + 10 + n * 75_000).expect(seg(0, 1));
        }
        s.peer_sends(seg(1, 1));
        s.at(4 * HOUR + 10 + 8 * 75_000).expect(seg(0, 1));
    }
}

/// What applications do not say otherwise is as configured, for every connection from its start.
#[test]
fn keep_alives_can_be_configured_for_all_connections_and_are_as_far_apart() {
    let keep_alive = |config: &mut TcpConfig| config.keep_alive = Some(Duration::from_secs(5));
    for mut s in established_with(keep_alive, syn().mss(MSS)) {
        for n in 1..=9 {
            s.at(n * 5_000 + 10).expect(seg(0, 1));
        }
        s.at(50_010).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::TimedOut)]));
    }
}

/// As with Linux (tcp_keepalive_timer): it ends the connection in place of their number, sooner or later, but never before
/// one was sent.
#[test]
fn a_user_timeout_says_how_long_keep_alives_may_be_without_an_answer() {
    for (timeout, probes) in [(2, 1), (30, 5), (31, 6), (60, 11), (2000, 399)] {
        let both = |config: &mut TcpConfig| {
            config.keep_alive = Some(Duration::from_secs(5));
            config.user_timeout = Duration::from_secs(timeout);
        };
        for mut s in established_with(both, syn().mss(MSS)) {
            s.at(5_010).expect(seg(0, 1)).peer_sends(seg(1, 1));
            for n in 1..=probes {
                s.at(5_010 + n * 5_000).expect(seg(0, 1));
            }
            s.at(10_009 + probes * 5_000).expect_nothing();
            assert_eq!(s.state(), "ESTABLISHED");
            s.at(10_010 + probes * 5_000).expect_nothing();
            assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(End::TimedOut)]));
        }
    }
}

/// RFC 9293, section 3.8.4 (MUST-26): keep-alives are only sent when no sent data is outstanding.
#[test]
fn no_keep_alive_is_sent_while_text_is_outstanding() {
    for mut s in established() {
        s.app_sets(|tcp, index, now| tcp.set_keep_alive(index, Some(Duration::from_secs(1)), now));
        s.at(100).app_sends(500);
        assert!(s.run_until(200_000).iter().all(|sent| sent.seg.seq == 1));
        assert_eq!(s.counters().keep_alives, 0);
    }
}

/// RFC 9293, section 3.8.4: the answer to the peer's, with a byte or without.
#[test]
fn the_peers_keep_alives_are_answered() {
    for mut s in established() {
        s.at(HOUR).peer_sends(seg(0, 1)).expect(seg(1, 1));
        s.at(2 * HOUR).peer_sends(seg(0, 1).len(1)).expect(seg(1, 1));
        assert_eq!(s.state(), "ESTABLISHED");
    }
}

#[test]
fn a_half_closed_connection_that_we_opened_is_kept_alive_and_not_given_up() {
    for mut s in callers() {
        s.call(syn_ack().mss(MSS));
        s.app_sets(|tcp, index, now| tcp.set_keep_alive(index, Some(Duration::from_secs(7200)), now));
        s.app_finishes().expect(seg(1, 1).fin()).at(20).peer_sends(seg(1, 2));
        s.at(2 * HOUR + 20).expect(seg(1, 1)).peer_sends(seg(1, 2));
        assert_eq!(s.state(), "FIN-WAIT-2");
    }
}
