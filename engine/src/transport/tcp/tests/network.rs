//! What the network says: ICMP errors (RFC 9293, section 3.9.2.2; RFC 5927), and the path's MTU (RFC 1191, RFC 4821).

use super::*;
use crate::transport::tcp::path::{BlackHole, PathError};
use crate::transport::tcp::tuple::Tuple;
use crate::transport::tcp::{End, Trouble};

impl Script {
    /// An ICMP error arrives that quotes a segment of ours with this number. Whether it was of use.
    fn icmp(&mut self, error: PathError, seq: u32) -> bool {
        self.note("<", &format!("ICMP {error:?} about {seq}"));
        let tuple = Tuple { local: OUR, remote: PEER };
        let useful = self.tcp.path_error(error, &tuple, self.iss() + seq, self.now, &mut self.umem);
        self.flush();
        useful
    }
}

/// RFC 9293, section 3.9.2.2 (MUST-54, MUST-56, SHLD-25) and 3.9.1.8 (MUST-47): soft errors go to the connection that
/// they are about, which lives on, and whose application can learn of them.
#[test]
fn soft_errors_are_told_of_and_end_nothing() {
    let errors = [
        (PathError::Unreachable, Trouble::Unreachable),
        (PathError::TimeExceeded, Trouble::TimeExceeded),
        (PathError::ParameterProblem, Trouble::ParameterProblem),
    ];
    for (error, trouble) in errors {
        for mut s in established() {
            s.app_sends(10).expect(seg(1, 1).len(10).psh());
            assert!(s.icmp(error, 1));
            // RFC 9293, section 3.9.1.8 (SHLD-20): whoever does not ask is not told.
            assert_eq!((s.state(), s.told(), s.tcp.trouble(s.index)), ("ESTABLISHED", vec![], Some(trouble)));
            // As soon as something arrives it is over.
            s.at(220).expect(seg(1, 1).len(10).psh()).peer_sends(seg(1, 11));
            assert_eq!((s.tcp.trouble(s.index), s.counters().icmp_taken), (None, 1));
        }
        for mut s in callers() {
            s.app_connects().unwrap();
            s.expect(our_syn());
            assert!(s.icmp(error, 0));
            assert_eq!((s.state(), s.tcp.trouble(s.index)), ("SYN-SENT", Some(trouble)));
        }
    }
}

/// RFC 9293, section 3.9.2.2 (SHLD-26): hard errors abort a connection that is not established yet. RFC 5927, section
/// 6: one that is lives on, for anybody could have sent them.
#[test]
fn hard_errors_end_a_connection_only_before_it_is_established() {
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn());
        assert!(s.icmp(PathError::Refused, 0));
        assert_eq!((s.state(), s.told()), ("CLOSED", vec![Told::Closed(End::Unreachable)]));
    }
    for mut s in established() {
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        assert!(s.icmp(PathError::Refused, 1));
        assert_eq!((s.state(), s.tcp.trouble(s.index)), ("ESTABLISHED", Some(Trouble::Unreachable)));
    }
}

/// RFC 5927, section 4.1: an error counts only if it quotes a number that is under way.
#[test]
fn errors_about_what_is_not_under_way_are_ignored() {
    for mut s in established() {
        s.app_sends(2000).take_all();
        s.peer_sends(seg(1, 1001));
        for seq in [0, 1, 1000, 2001, 0x8000_0000] {
            assert!(!s.icmp(PathError::TooLong(600), seq) && !s.icmp(PathError::Unreachable, seq));
        }
        assert_eq!((s.tcb().snd.mss, s.tcp.trouble(s.index), s.counters().icmp_ignored), (1000, None, 10));
        assert!(s.icmp(PathError::Unreachable, 1001) && s.icmp(PathError::Unreachable, 2000));
    }
    // About connections that there are not, or whose handshake is not over.
    for mut s in scripts() {
        assert!(!s.icmp(PathError::Refused, 0));
        s.peer_sends(syn()).take();
        assert!(!s.icmp(PathError::Refused, 0));
        assert_eq!((s.state(), s.counters().icmp_ignored), ("SYN-RECEIVED", 2));
    }
}

fn with_long_segments() -> impl Iterator<Item = Script> {
    established_by(syn().mss(1460).sack_ok()).map(|mut s| {
        s.at(100).app_sends(2920).expect(seg(1, 1).len(1460)).expect(seg(1461, 1).len(1460).psh());
        s
    })
}

/// RFC 1191, section 3: what was too long is sent again at once, in shorter segments.
#[test]
fn a_narrow_path_gets_shorter_segments_at_once() {
    for mut s in with_long_segments() {
        s.at(105);
        assert!(s.icmp(PathError::TooLong(1000), 1));
        s.expect(seg(1, 1).len(960)).expect(seg(961, 1).len(500));
        s.expect(seg(1461, 1).len(960)).expect(seg(2421, 1).len(500).psh()).expect_nothing();
        s.at(115).peer_sends(seg(1, 2921)).app_sends(1920);
        s.expect(seg(2921, 1).len(960)).expect(seg(3881, 1).len(960).psh());
        assert_eq!((s.counters().pmtu_lowered, s.counters().timeouts), (1, 0));
        // It is no congestion.
        assert_eq!(s.counters().recoveries, 0);
    }
}

/// RFC 5927, section 7.2: a router that says that a path is narrow by which long segments arrived is not believed, unless one
/// times out.
#[test]
fn what_contradicts_that_long_segments_arrived_is_believed_after_a_timeout() {
    for goes_on in [true, false] {
        for mut s in with_long_segments() {
            s.at(110).peer_sends(seg(1, 2921)).app_sends(1460).expect(seg(2921, 1).len(1460).psh());
            assert!(s.icmp(PathError::TooLong(1000), 2921));
            s.expect_nothing();
            assert_eq!((s.tcb().snd.mss, s.counters().pmtu_doubted, s.counters().pmtu_lowered), (1460, 1, 0));
            if goes_on {
                // It was a lie, and explains no timeout that comes later.
                s.at(120).peer_sends(seg(1, 4381)).app_sends(1460).expect(seg(4381, 1).len(1460).psh());
            }
            let mut ms = 120;
            while s.counters().timeouts == 0 {
                ms += 10;
                s.at(ms).take_all();
            }
            let (mss, lowered) = if goes_on { (1460, 0) } else { (960, 1) };
            assert_eq!((s.tcb().snd.mss, s.counters().pmtu_lowered), (mss, lowered));
            assert!(s.tcp.take_narrowed().is_none(), "others do not suffer from it");
        }
    }
}

/// A path that became narrow is as any other then.
#[test]
fn a_path_that_becomes_narrower_still_is_believed_to_be_at_once() {
    for mut s in with_long_segments() {
        s.at(105);
        assert!(s.icmp(PathError::TooLong(1000), 1));
        s.take_all();
        assert!(s.icmp(PathError::TooLong(600), 1));
        s.take_all();
        assert_eq!((s.tcb().snd.mss, s.counters().pmtu_lowered, s.counters().pmtu_doubted), (560, 2, 0));
    }
}

#[test]
fn what_a_router_says_is_believed_within_limits() {
    for (says, mss) in
        [(1500, 1460), (2000, 1460), (1499, 1459), (552, 512), (551, 512), (68, 512), (1, 512), (0, 1360)]
    {
        for mut s in with_long_segments() {
            s.icmp(PathError::TooLong(says), 1461);
            assert_eq!(s.tcb().snd.mss, mss, "{says}");
            s.take_all();
        }
    }
    // Nothing makes a path wider again.
    for mut s in with_long_segments() {
        s.icmp(PathError::TooLong(1000), 1);
        s.icmp(PathError::TooLong(1400), 1);
        assert_eq!(s.tcb().snd.mss, 960);
        s.take_all();
    }
}

/// RFC 1191, section 6.3: what a router said is doubted after ten minutes, and believed again if it says so again.
#[test]
fn a_path_that_was_narrow_is_tried_again_after_ten_minutes() {
    for mut s in with_long_segments() {
        s.at(105);
        assert!(s.icmp(PathError::TooLong(1000), 1));
        s.take_all();
        s.at(115).peer_sends(seg(1, 2921));
        s.at(590_000).app_sends(1).take_all();
        s.at(590_010).peer_sends(seg(1, 2922));
        assert_eq!(s.tcb().snd.mss, 960);
        s.at(701_000).app_sends(1).take_all();
        s.at(701_010).peer_sends(seg(1, 2923)).app_sends(1460).expect(seg(2923, 1).len(1460).psh());
        // It is as narrow as before: that costs one segment, and ten minutes more.
        s.at(701_020);
        assert!(s.icmp(PathError::TooLong(1000), 2923));
        s.expect(seg(2923, 1).len(960)).expect(seg(3883, 1).len(500).psh());
        s.at(701_030).peer_sends(seg(1, 4383));
        assert_eq!((s.tcb().snd.mss, s.counters().pmtu_lowered), (960, 2));
        s.at(1_302_000).app_sends(1).take_all();
        s.at(1_302_010).peer_sends(seg(1, 4384)).app_sends(1460).expect(seg(4384, 1).len(1460).psh());
        // It got wider.
        s.at(1_302_020).peer_sends(seg(1, 5844));
        assert_eq!((s.tcb().snd.mss, s.tcb().black_hole), (1460, BlackHole::No));
    }
}

/// A connection over a path that others found narrow begins with short segments, and never with longer ones than the peer
/// takes.
#[test]
fn a_connection_begins_with_what_is_known_of_its_path() {
    for (known, mss) in [(1500, 1460), (1000, 960), (100, 512)] {
        for mut s in established_by(syn().mss(1460)) {
            s.tcp.path_was_narrow(s.index, known, s.now);
            assert_eq!(s.tcb().snd.mss, mss, "{known}");
        }
    }
}

/// RFC 4821, section 7.7: full segments that vanish again and again may be too long for a router that says nothing; or
/// that was bad luck, so they are tried again, and only if they vanish once more they stay short, for ten minutes.
#[test]
fn a_black_hole_is_found_by_shorter_segments() {
    for mut s in established_by(syn().mss(1460)) {
        s.at(100).app_sends(2920).take_all();
        s.at(310).expect(seg(1, 1).len(1460));
        s.at(730).expect(seg(1, 1).len(1360));
        s.at(1570).expect(seg(1, 1).len(1240));
        assert_eq!(s.counters().black_holes_suspected, 2);
        s.at(1580).peer_sends(seg(1, 1241));
        assert!(s.take_all().iter().all(|sent| sent.seg.text.len() <= 1240));
        s.peer_sends(seg(1, 2921)).app_sends(1).take_all();
        s.at(1590).peer_sends(seg(1, 2922)).app_sends(2920).take_all();
        assert_eq!(s.tcb().snd.mss, 1460);
        s.run_until(2_400);
        assert_eq!((s.tcb().snd.mss, s.counters().black_holes_suspected > 2), (1240, true));
        s.peer_sends(seg(1, 5842)).app_sends(1).take_all();
        s.at(2_410).peer_sends(seg(1, 5843));
        assert_eq!(s.tcb().snd.mss, 1240);
        s.at(700_000).app_sends(1).expect(seg(5843, 1).len(1).psh()).peer_sends(seg(1, 5844));
        assert_eq!(s.tcb().snd.mss, 1460);
    }
    // A long one arrives: it was bad luck.
    for mut s in established_by(syn().mss(1460)) {
        s.at(100).app_sends(2920).take_all();
        s.at(310).expect(seg(1, 1).len(1460));
        s.at(730).expect(seg(1, 1).len(1360)).peer_sends(seg(1, 2921));
        s.app_sends(1).take_all();
        s.at(740).peer_sends(seg(1, 2922)).app_sends(1460).expect(seg(2922, 1).len(1460).psh());
        s.at(750).peer_sends(seg(1, 4382)).app_sends(2920).take_all();
        s.run_until(1_800);
        assert_eq!((s.tcb().snd.mss, s.tcb().black_hole), (1360, BlackHole::Suspected { before: 1460 }));
        s.take_all();
    }
    // A segment need not be full to be too long: what fits is less than it, too.
    for mut s in established_by(syn().mss(1460)) {
        s.at(100).app_sends(1200).take_all();
        s.at(310).expect(seg(1, 1).len(1200).psh());
        s.at(730).expect(seg(1, 1).len(984));
        assert_eq!((s.tcb().snd.mss, s.counters().black_holes_suspected), (984, 1));
    }
    // What is short anyway does not vanish for its length.
    for mut s in established_by(syn().mss(1460)) {
        s.at(100).app_sends(500).take_all();
        s.run_until(10_000);
        assert_eq!((s.tcb().snd.mss, s.counters().black_holes_suspected), (1460, 0));
    }
}
