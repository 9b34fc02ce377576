//! When text is sent, and in what segments (RFC 9293, sections 3.7.4, 3.8.6 and 3.9.1.2).

use super::*;
use crate::base::DropReason;

/// RFC 9293, section 3.9.1.2 (MUST-60, MUST-61, SHLD-27, SHLD-28): in the largest segments there can be, at once, with
/// PSH on the last.
#[test]
fn text_is_cut_into_full_segments_of_which_the_last_has_psh() {
    for mut s in established() {
        s.app_sends(3000)
            .expect(seg(1, 1).len(1000))
            .expect(seg(1001, 1).len(1000))
            .expect(seg(2001, 1).len(1000).psh());
    }
    for mut s in established() {
        s.turn(|s| {
            for _ in 0..30 {
                s.app_sends(100);
            }
        });
        s.expect(seg(1, 1).len(1000)).expect(seg(1001, 1).len(1000)).expect(seg(2001, 1).len(1000).psh());
    }
}

/// RFC 9293, section 3.7.4 (SHLD-7, MAY-16): while something is unacknowledged, less than a segment waits.
#[test]
fn nagle_keeps_short_segments_back_until_all_is_acknowledged() {
    for mut s in established() {
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        s.app_sends(10).app_sends(10).expect_nothing();
        s.at(20).peer_sends(seg(1, 11)).expect(seg(11, 1).len(20).psh());
        // A whole segment goes, and what is left of the text waits.
        s.app_sends(1010).expect(seg(31, 1).len(1000)).expect_nothing();
        s.at(30).peer_sends(seg(1, 31)).expect_nothing();
        s.at(40).peer_sends(seg(1, 1031)).expect(seg(1031, 1).len(10).psh());
        // The end does not wait.
        s.app_sends(10).expect_nothing().app_finishes().expect(seg(1041, 1).len(10).psh().fin());
    }
}

/// RFC 9293, section 3.7.4 (MUST-17): an application can disable it on an individual connection.
#[test]
fn without_nagle_everything_goes_at_once() {
    for mut s in established() {
        s.app_sends(10).expect(seg(1, 1).len(10).psh()).app_sends(10).expect_nothing();
        s.app_sets(|tcp, index, _| tcp.set_nagle(index, false)).expect(seg(11, 1).len(10).psh());
        s.app_sends(10).expect(seg(21, 1).len(10).psh()).app_sends(1010);
        s.expect(seg(31, 1).len(1000)).expect(seg(1031, 1).len(10).psh());
        s.app_sets(|tcp, index, _| tcp.set_nagle(index, true)).app_sends(10).expect_nothing();
    }
}

/// RFC 9293, section 3.8.6.2.1 (MUST-38): less than a segment is not sent because the window has no room for more,
/// until an override time is over.
#[test]
fn a_window_too_small_for_a_segment_is_used_only_after_a_time() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(600)).app_sends(2000).expect_nothing();
        // The retransmission timeout: a round trip of 10 ms, and 200 ms.
        s.at(220).expect(seg(1, 1).len(600)).expect_nothing();
        // From then on it is the largest window there is, of which half is enough.
        s.at(230).peer_sends(seg(1, 601).window(600)).expect(seg(601, 1).len(400)).expect_nothing();
    }
    // Half of the largest window there ever was is enough.
    for mut s in scripts() {
        s.peer_sends(syn().mss(MSS)).take();
        s.peer_sends(seg(1, 1).window(1000)).app_sends(3000).expect(seg(1, 1).len(1000));
        s.at(20).peer_sends(seg(1, 1001).window(500)).expect(seg(1001, 1).len(500));
        s.at(30).peer_sends(seg(1, 1501).window(499)).expect_nothing();
    }
}

/// RFC 5961, section 5.2 goes by the largest window that the peer ever offered, whatever was sent into a smaller one.
#[test]
fn a_window_that_was_overridden_makes_no_acknowledgment_unacceptable() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(100)).app_sends(1000).expect_nothing();
        s.at(220).expect(seg(1, 1).len(100)).peer_sends(seg(1, 101).window(100)).expect(seg(101, 1).len(100));
        let oldest = 101_u32.wrapping_sub(65_535);
        s.peer_sends(seg(1, oldest).len(10));
        assert_eq!(s.outcome, Ok(()));
        s.peer_sends(seg(11, oldest.wrapping_sub(1)).len(10)).expect(seg(201, 11)).app_takes(10);
        assert_eq!(s.outcome, Err(DropReason::TcpBadAck));
    }
}

#[test]
fn a_window_that_holds_all_there_is_is_used() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(600)).app_sends(600).expect(seg(1, 1).len(600).psh());
    }
    for mut s in established() {
        // A FIN takes a number too.
        s.peer_sends(seg(1, 1).window(600)).turn(|s| _ = s.app_sends(600).app_finishes());
        s.expect(seg(1, 1).len(600).psh()).expect_nothing();
        s.at(20).peer_sends(seg(1, 601).window(600)).expect(seg(601, 1).fin());
    }
}

/// RFC 9293, section 3.8.6.1 (MUST-36, SHLD-29, SHLD-30): the first probe when the window was closed for the
/// retransmission timeout, the others after twice the time each.
#[test]
fn a_window_of_zero_is_probed_with_longer_and_longer_pauses() {
    for mut s in established() {
        s.at(100).peer_sends(seg(1, 1).window(0)).app_sends(2000).expect_nothing();
        let mut at = 100;
        for n in 0..12 {
            at += (210 << n).min(120_000);
            // Before the window: whoever gets that acknowledges, and tells his window.
            s.at(at).expect(seg(0, 1)).peer_sends(seg(1, 1).window(0)).expect_nothing();
        }
        assert_eq!(s.counters().window_probes, 12);
        s.at(at + 50).peer_sends(seg(1, 1).window(1500)).expect(seg(1, 1).len(1000)).expect_nothing();
        // And the timeout is the ordinary one again.
        s.at(at + 260).expect(seg(1, 1).len(1000));
    }
}

/// RFC 9293, section 3.8.6.1 (MUST-37): as long as probes are answered, the connection stays open.
#[test]
fn a_peer_that_answers_may_keep_its_window_closed_for_ever() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(0)).app_sends(10);
        let day = 24 * 3600 * 1000;
        while s.time().0 < day {
            let next = s.time().0 + 121_000;
            for probe in s.run_until(next) {
                assert_eq!(probe.seg, seg(0, 1).window(65_535).no_ts());
                s.peer_sends(seg(1, 1).window(0));
            }
        }
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![]));
        s.peer_sends(seg(1, 1).window(10)).expect(seg(1, 1).len(10).psh());
    }
}

/// Even where the pauses between probes grow beyond the user timeout: then they stay shorter than that.
#[test]
fn a_peer_that_answers_is_asked_again_within_the_user_timeout() {
    for mut s in established() {
        s.app_sets(|tcp, index, _| tcp.set_user_timeout(index, std::time::Duration::from_secs(5)));
        s.peer_sends(seg(1, 1).window(0)).app_sends(10);
        for _ in 0..100 {
            let (asked, _) = s.time();
            let mut sent = Vec::new();
            while sent.is_empty() {
                let next = s.time().0 + 10;
                assert!(next <= asked + 5010, "{next} {asked}");
                sent = s.run_until(next);
            }
            assert_eq!(sent[0].seg.seq, 0);
            s.peer_sends(seg(1, 1).window(0));
        }
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![]));
        let (heard, _) = s.time();
        s.run_until(heard + 4999);
        assert_eq!(s.state(), "ESTABLISHED");
        s.run_until(heard + 5000);
        assert_eq!(s.told(), [Told::Closed(crate::transport::tcp::End::TimedOut)]);
    }
}

#[test]
fn a_peer_that_does_not_answer_probes_is_given_up() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(0)).app_sends(10);
        let probes = s.run_until(300_009).len();
        assert_eq!(s.state(), "ESTABLISHED");
        s.at(300_010).expect_nothing();
        assert_eq!((s.state(), s.told()), ("LISTEN", vec![Told::Closed(crate::transport::tcp::End::TimedOut)]));
        assert!((8..15).contains(&probes), "{probes}");
    }
}

#[test]
fn a_window_update_that_was_lost_is_made_good_by_a_probe() {
    for mut s in established() {
        s.app_sends(1000).expect(seg(1, 1).len(1000).psh());
        s.at(20).peer_sends(seg(1, 1001).window(0)).app_sends(1000).expect_nothing();
        s.at(230).expect(seg(1000, 1)).peer_sends(seg(1, 1001)).expect(seg(1001, 1).len(1000).psh());
    }
}

/// RFC 9293, section 3.8.6 (MUST-34, SHLD-15, SHLD-16): the window may shrink behind what was sent: nothing new is
/// sent, and what was sent is sent again as usual.
#[test]
fn a_window_that_shrinks_holds_new_text_back_and_not_retransmissions() {
    for mut s in established() {
        s.app_sends(6000);
        assert_eq!(s.take_all().len(), 6);
        s.app_sends(1000).expect(seg(6001, 1).len(1000).psh());
        s.at(20).peer_sends(seg(1, 1001).window(1000)).app_sends(1000).expect_nothing();
        // 210 ms after the acknowledgment.
        s.at(230).expect(seg(1001, 1).len(1000));
        s.at(240).peer_sends(seg(1, 7001).window(1000)).expect(seg(7001, 1).len(1000).psh());
    }
}

/// RFC 9293, section 3.8.6 (MUST-35, SHLD-17): a window that shrinks to zero is probed, by what was sent and is behind
/// it now, and the connection is not given up because that is not acknowledged.
#[test]
fn a_window_that_shrinks_to_zero_is_probed_for_ever() {
    for mut s in established() {
        s.app_sends(1000).expect(seg(1, 1).len(1000).psh());
        s.at(20).peer_sends(seg(1, 1).window(0));
        while s.time().0 < 4_000_000 {
            let next = s.time().0 + 121_000;
            for probe in s.run_until(next) {
                assert_eq!(probe.seg, seg(1, 1).len(1000).psh().window(65_535).no_ts());
                s.peer_sends(seg(1, 1).window(0));
            }
        }
        assert_eq!((s.state(), s.told()), ("ESTABLISHED", vec![]));
        s.peer_sends(seg(1, 1).window(1000));
        let opened_at = s.time().0;
        s.at(opened_at + 210).expect(seg(1, 1).len(1000).psh());
        s.peer_sends(seg(1, 1001)).app_sends(10).expect(seg(1001, 1).len(10).psh());
    }
}

#[test]
fn a_window_is_taken_from_the_latest_segment_only() {
    for mut s in established() {
        s.app_sends(1000).expect(seg(1, 1).len(1000).psh());
        s.peer_sends(seg(101, 1001).len(100).window(5000)).expect(seg(1001, 1));
        // Sent before that one, and overtaken by it.
        s.peer_sends(seg(1, 1).len(100).window(100)).expect(seg(1001, 201)).app_takes(200);
        assert_eq!(s.tcb().snd.wnd, 5000);
        s.peer_sends(seg(201, 1001).window(700));
        assert_eq!(s.tcb().snd.wnd, 700);
    }
}

#[test]
fn the_send_buffer_has_an_end_and_the_application_is_told_when_there_is_room_again() {
    for mut s in established_with(|config| config.send_buffer = 3000, syn().mss(MSS)) {
        assert_eq!(s.app_offers(5000), 3000);
        assert_eq!((s.take_all().len(), s.app_offers(1)), (3, 0));
        s.at(20).peer_sends(seg(1, 1001)).expect_nothing();
        assert_eq!((s.told(), s.app_offers(5000)), (vec![Told::Writable], 1000));
        s.expect(seg(3001, 1).len(1000).psh());
        // Whoever was not refused anything is not told.
        s.peer_sends(seg(1, 4001)).told();
        s.app_sends(100).expect(seg(4001, 1).len(100).psh()).peer_sends(seg(1, 4101));
        assert_eq!(s.told(), []);
    }
}

/// RFC 9293, section 3.9.1.9 (MUST-48, SHLD-21, SHLD-22, SHLD-23): the application names the code point, may change it,
/// and it stands in every segment unchanged; nobody else changes it.
#[test]
fn segments_travel_in_the_class_that_the_application_names() {
    for mut s in established() {
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        s.app_sets(|tcp, index, _| tcp.set_dscp(index, 46)).at(20).peer_sends(seg(1, 11).class(8 << 2));
        s.app_sends(10).expect(seg(11, 1).len(10).psh().class(46 << 2));
        // Retransmissions, acknowledgments and answers, too.
        s.at(230).expect(seg(11, 1).len(10).psh().class(46 << 2));
        s.peer_sends(seg(1, 21).len(10)).at(270).expect(seg(21, 11).class(46 << 2)).app_takes(10);
        s.peer_sends(seg(1, 21).len(10)).expect(seg(21, 11).class(46 << 2));
        s.app_sets(|tcp, index, _| tcp.set_dscp(index, 0)).app_aborts().expect(seg(21, 11).rst());
    }
}

#[test]
fn a_frame_that_the_device_still_has_is_not_written_anew() {
    for mut s in established() {
        s.device_keeps = true;
        s.app_sends(500).expect(seg(1, 1).len(500).psh());
        s.at(220).expect_nothing();
        s.device_is_done();
        s.at(640).expect(seg(1, 1).len(500).psh());
        // Acknowledged before the device is done: it is freed when it is.
        s.peer_sends(seg(1, 501));
        assert_eq!((s.tcp.held(), s.lent()), (0, 1));
        s.device_is_done();
        assert_eq!(s.lent(), 0);
    }
}

/// What may go at once goes as one packet to a device that cuts it up, and no more than that.
#[test]
fn full_segments_are_joined_for_a_device_that_cuts_them_up() {
    for (at, mut s) in established().enumerate() {
        let joined = at % 2 == 1;
        s.app_sends(5500);
        for n in 0..5 {
            s.expect(seg(1 + 1000 * n, 1).len(1000));
        }
        // Nagle's algorithm keeps the last, which is short.
        s.expect_nothing();
        assert_eq!(s.packets_of_several, u32::from(joined));
        // One alone is none of several.
        s.at(20).peer_sends(seg(1, 5001)).expect(seg(5001, 1).len(500).psh()).expect_nothing();
        assert_eq!(s.packets_of_several, u32::from(joined));
        // As far as the peer's window goes.
        s.at(30).peer_sends(seg(1, 5501).window(2500)).app_sends(4000);
        s.expect(seg(5501, 1).len(1000)).expect(seg(6501, 1).len(1000)).expect_nothing();
        assert_eq!(s.packets_of_several, 2 * u32::from(joined));
    }
}
