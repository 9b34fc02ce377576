//! What the two sides offer each other (RFC 9293, sections 3.1, 3.2 and 3.7.1; RFC 7323; RFC 6691).

use super::*;
use crate::base::DropReason;

/// RFC 9293, section 3.7.1 (MUST-15): without the option, a send MSS of 536 is assumed.
#[test]
fn without_an_mss_option_segments_carry_536_bytes() {
    for mut s in established_by(syn()) {
        s.app_sends(1072).expect(seg(1, 1).len(536)).expect(seg(537, 1).len(536).psh());
    }
    for mut s in callers() {
        s.call(syn_ack());
        s.app_sends(1072).expect(seg(1, 1).len(536)).expect(seg(537, 1).len(536).psh());
    }
}

/// RFC 9293, section 3.7.1 (MUST-14): the MSS option is received as well as sent.
#[test]
fn the_mss_of_the_peer_is_kept_to_and_its_own_is_told() {
    for mut s in scripts() {
        s.peer_sends(syn().mss(700));
        // RFC 9293, section 3.7.1 (SHLD-5, MAY-3, MUST-67): in every SYN, and no more than IP takes in less 20.
        s.expect(syn_ack().mss(1460)).peer_sends(seg(1, 1));
        // RFC 9293, section 3.2 (MUST-65): in no other segment, which all expectations without `mss` say.
        s.app_sends(1400).expect(seg(1, 1).len(700)).expect(seg(701, 1).len(700).psh());
    }
}

/// RFC 9293, section 3.7.1 (MUST-16): the smaller of what the peer takes and of what IP permits, less the options that
/// every segment has (RFC 6691).
#[test]
fn segments_are_no_longer_than_peer_path_and_options_allow() {
    for (offered, timestamps, carried) in
        [(1000, false, 1000), (1000, true, 988), (9000, false, 1460), (9000, true, 1448), (1, false, 48), (1, true, 36)]
    {
        let syn = if timestamps { syn().mss(offered).first_ts(0) } else { syn().mss(offered) };
        for mut s in established_by(syn) {
            s.app_sends(2 * carried).expect(seg(1, 1).len(carried)).expect(seg(carried + 1, 1).len(carried).psh());
        }
    }
}

#[test]
fn only_what_a_peer_offers_is_agreed_on() {
    for bits in 0..8 {
        for mut s in scripts() {
            let with = |seg: Seg, bit: u32, more: fn(Seg) -> Seg| if bits & bit == 0 { seg } else { more(seg) };
            let offer = with(syn().mss(MSS), 1, |seg| seg.scale(7));
            let offer = with(offer, 2, Seg::sack_ok);
            let offer = with(offer, 4, |seg| seg.first_ts(0));
            let answer = answer_to(&offer);
            s.timestamps = bits & 4 != 0;
            s.peer_sends(offer).expect(answer).peer_sends(seg(1, 1));
            let tcb = s.tcb();
            assert_eq!((tcb.snd.scaled, tcb.sack_ok, tcb.ts.on), (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0));
        }
    }
}

#[test]
fn of_what_we_offer_what_the_peer_does_not_answer_is_off() {
    for mut s in callers() {
        s.call(syn_ack().mss(MSS));
        assert!(!s.tcb().snd.scaled && !s.tcb().sack_ok && !s.tcb().ts.on);
    }
    for mut s in callers() {
        s.call(syn_ack().mss(MSS).scale(7).sack_ok().ts(10, 0));
        assert!(s.tcb().snd.scaled && s.tcb().sack_ok && s.tcb().ts.on);
    }
}

/// RFC 9293, section 3.8.6 (SHLD-14): 65,535 bytes, which our SYN tells, are told as 65,536 to whoever is answered during
/// the handshake, where windows are in steps of 32; and that is what the connection goes on from.
#[test]
fn a_window_that_was_rounded_up_in_the_handshake_is_not_taken_back() {
    for mut s in scripts_with(|config| (config.receive_buffer, config.chunks) = (1 << 20, 4096)) {
        s.peer_sends(syn().mss(MSS).scale(7)).take_all();
        s.at(10).peer_sends(seg(1 << 20, 1));
        assert_eq!(s.take().window, Some(2048));
        s.at(20).peer_sends(seg(1, 1));
        assert_eq!(s.tcb().receive_window(), 65_536);
    }
}

/// RFC 7323, section 2.2: the window field of a segment with SYN is never scaled; afterwards it is, both ways.
///
/// RFC 9293, section 3.1 (REC-1): windows are computed with 32 bits.
#[test]
fn windows_are_scaled_after_the_handshake() {
    let large = |config: &mut TcpConfig| (config.receive_buffer, config.chunks) = (1 << 20, 4096);
    for mut s in scripts_with(large) {
        s.peer_sends(syn().mss(MSS).scale(3).window(1000)).expect(syn_ack().mss(1460).scale(5).window(65_535));
        s.peer_sends(seg(1, 1).window(250).len(1)).at(40).expect(seg(1, 2).window(2048)).app_takes(1);
        assert_eq!(s.tcb().snd.wnd, 2000);
        s.app_sends(3000).expect(seg(1, 2).len(1000)).expect(seg(1001, 2).len(1000)).expect_nothing();
    }
    // What the peer does not offer, we do not use: neither way.
    for mut s in scripts_with(large) {
        s.peer_sends(syn().mss(MSS).window(1000)).expect(syn_ack().mss(1460).window(65_535));
        s.peer_sends(seg(1, 1).window(2000).len(1)).at(40).expect(seg(1, 2).window(65_534)).app_takes(1);
        assert_eq!(s.tcb().snd.wnd, 2000);
    }
    for mut s in callers() {
        s.call(syn_ack().mss(MSS).scale(3).window(1000));
        assert_eq!(s.tcb().snd.wnd, 1000, "not scaled in the SYN");
        s.peer_sends(seg(1, 1).window(250));
        assert_eq!(s.tcb().snd.wnd, 2000);
    }
}

/// RFC 7323, section 2.3: a shift above 14 is taken for 14.
#[test]
fn a_shift_is_14_at_most() {
    for mut s in scripts() {
        s.peer_sends(syn().raw(&[2, 4, 0x03, 0xe8, 3, 3, 15, 1])).expect(syn_ack().mss(1460).scale(0));
        s.peer_sends(seg(1, 1).window(1));
        assert_eq!(s.tcb().snd.wnd, 1 << 14);
        s.peer_sends(seg(1, 1).window(u16::MAX));
        assert_eq!(s.tcb().snd.wnd, 0x3fff_c000);
    }
}

/// RFC 9293, section 3.1 (MUST-4 to MUST-7): end of list, no-operation and MSS are understood; what is not implemented
/// is skipped; an illegal length does no harm; and options may come in any segment.
#[test]
fn options_that_are_unknown_or_broken_do_no_harm() {
    let mss = [2, 4, 0x03, 0xe8];
    let lists: [(&[u8], u32); 8] = [
        (&[1, 1, 1, 1, 2, 4, 0x03, 0xe8], 1000),
        // RFC 9293, section 3.2 (MUST-64): options that do not begin on a word boundary.
        (&[1, 2, 4, 0x03, 0xe8, 1, 1, 0], 1000),
        (&[1, 1, 3, 3, 7, 2, 4, 0x03, 0xe8, 0, 0, 0], 1000),
        // Unknown ones, of no content and of some.
        (&[253, 2, 2, 4, 0x03, 0xe8, 254, 6, 1, 2, 3, 4], 1000),
        // Behind the end of the list is only padding.
        (&[0, 2, 4, 0x03, 0xe8, 0, 0, 0], 536),
        // A length of zero, of one, and beyond the end.
        (&[2, 4, 0x03, 0xe8, 254, 0, 1, 1], 1000),
        (&[254, 1, 2, 4, 0x03, 0xe8, 1, 1], 536),
        (&[2, 4, 0x03, 0xe8, 254, 40, 1, 1], 1000),
    ];
    for (options, carried) in lists {
        for mut s in scripts() {
            s.peer_sends(syn().raw(options)).take();
            s.peer_sends(seg(1, 1).raw(options)).app_sends(carried).expect(seg(1, 1).len(carried).psh());
            // One that means something in a SYN only means nothing elsewhere.
            s.peer_sends(seg(1, 1 + carried).raw(&[2, 4, 0x00, 0x64])).app_sends(carried);
            s.expect(seg(1 + carried, 1).len(carried).psh());
        }
    }
    for mut s in established() {
        s.peer_sends(seg(1, 1).raw(&mss).len(10)).at(50).expect(seg(1, 11)).app_takes(10);
    }
}

fn with_timestamps() -> impl Iterator<Item = Script> {
    established_by(syn().mss(1012).first_ts(0))
}

/// RFC 7323, section 3.2: once agreed on, every segment but a reset carries them, ours with the time, and the peer's
/// last.
#[test]
fn timestamps_tell_the_time_and_echo_the_peers() {
    for mut s in scripts() {
        s.peer_sends(syn().first_ts(0)).expect(syn_ack().mss(1460).ts(0, 0));
        s.at(10).peer_sends(seg(1, 1).ts(3, 0));
        s.at(20).app_sends(10).expect(seg(1, 1).len(10).psh().ts(20, 3));
        s.at(25).peer_sends(seg(1, 11).ts(7, 20));
        s.at(30).app_finishes().expect(seg(11, 1).fin().ts(30, 7));
    }
    for mut s in callers() {
        s.app_connects().unwrap();
        s.expect(our_syn().first_ts(0));
        s.at(5).peer_sends(syn_ack().ts(2, 0)).expect(seg(1, 1).ts(5, 2));
    }
}

/// RFC 7323, section 4.3: of several segments that one acknowledgment is for, the earliest is echoed; what lies behind
/// a gap is not.
#[test]
fn the_echo_is_of_the_earliest_segment_that_is_acknowledged() {
    for mut s in with_timestamps() {
        // (A) delayed: the first of two.
        s.at(20).peer_sends(seg(1, 1).len(100).ts(20, 0)).expect_nothing();
        s.at(30).peer_sends(seg(101, 1).len(100).ts(30, 0)).expect(seg(1, 201).ts(30, 20));
        // (B) a gap: the last segment that advanced the window.
        s.at(40).peer_sends(seg(301, 1).len(100).ts(40, 0)).expect(seg(1, 201).ts(40, 20));
        // (C) a gap that is filled: the segment that fills it.
        s.at(50).peer_sends(seg(201, 1).len(100).ts(50, 0)).expect(seg(1, 401).ts(50, 50));
        s.app_takes(400);
    }
}

/// RFC 7323, section 5.3: PAWS.
#[test]
fn a_segment_with_an_older_timestamp_is_acknowledged_and_dropped() {
    for mut s in with_timestamps() {
        s.at(20).peer_sends(seg(1, 1).len(100).ts(20, 0)).at(60).expect(seg(1, 101)).app_takes(100);
        s.at(100).peer_sends(seg(101, 1).len(100).ts(19, 0)).expect(seg(1, 101).ts(100, 20));
        assert_eq!(s.outcome, Err(DropReason::TcpOldTimestamp));
        s.peer_sends(seg(101, 1).len(100).ts(0x8000_0014, 0)).expect(seg(1, 101));
        // The same again is as good as a newer one.
        s.peer_sends(seg(101, 1).len(100).ts(20, 0)).at(140).expect(seg(1, 201)).app_takes(100);
        // A reset is not judged by its timestamp.
        s.peer_sends(rst(201).ts(1, 0)).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

/// RFC 5961, section 5.2: a segment whose acknowledgment is unacceptable is discarded before anything of it is believed.
/// Its timestamp would make all that the peer sends look old.
#[test]
fn a_timestamp_beside_an_unacceptable_acknowledgment_is_not_believed() {
    for ack in [1 + (1 << 30), 1_u32.wrapping_sub(1 << 30)] {
        for mut s in with_timestamps() {
            s.at(20).peer_sends(seg(1, ack).len(10).ts(20 + (1 << 30), 0)).expect(seg(1, 1).ts(20, 10));
            assert_eq!((s.outcome, s.tcb().ts.recent), (Err(DropReason::TcpBadAck), 5));
            s.at(30).peer_sends(seg(1, 1).len(100).ts(30, 0)).at(70).expect(seg(1, 101).ts(70, 30)).app_takes(100);
        }
    }
    // In SYN-RECEIVED, too, where both asked at once.
    for mut s in callers() {
        s.timestamps = true;
        s.app_connects().unwrap();
        s.expect(our_syn()).at(10).peer_sends(syn().mss(MSS).first_ts(10)).expect(syn_ack().mss(1460).ts(10, 10));
        s.at(20).peer_sends(seg(1, 5).ts(20 + (1 << 30), 0)).expect(rst(5));
        s.at(30).peer_sends(seg(1, 1).ts(30, 10)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
}

#[test]
fn after_24_days_of_silence_an_older_timestamp_is_believed() {
    for mut s in with_timestamps() {
        let day = 24 * 3600 * 1000;
        s.at(20).peer_sends(seg(1, 1).len(100).ts(20, 0)).at(60).expect(seg(1, 101)).app_takes(100);
        s.at(24 * day).peer_sends(seg(101, 1).len(100).ts(10, 0)).expect(seg(1, 101));
        assert_eq!(s.outcome, Err(DropReason::TcpOldTimestamp));
        // To about two seconds.
        s.at(24 * day + 2200).peer_sends(seg(101, 1).len(100).ts(10, 0)).at(24 * day + 2240);
        s.expect(seg(1, 201).ts(24 * day as u32 + 2240, 10)).app_takes(100);
        // And from then on it is the one to go by.
        s.peer_sends(seg(201, 1).len(100).ts(9, 0)).expect(seg(1, 201));
    }
}

/// RFC 7323, section 3.2: a segment without the option SHOULD be dropped, silently, and a reset processed.
#[test]
fn a_segment_without_the_agreed_timestamp_is_dropped() {
    for mut s in with_timestamps() {
        s.peer_sends(seg(1, 1).len(100).no_ts()).expect_nothing();
        assert_eq!(s.outcome, Err(DropReason::TcpNoTimestamp));
        s.peer_sends(rst(1)).expect_nothing();
        assert_eq!(s.state(), "LISTEN");
    }
}

#[test]
fn timestamps_that_were_not_agreed_on_are_ignored() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(100).ts(20, 0)).at(50).expect(seg(1, 101));
        s.peer_sends(seg(101, 1).len(100).ts(10, 0)).at(90).expect(seg(1, 201)).app_takes(200);
    }
}

/// RFC 7323, section 5.3 holds in the handshake too: an old acknowledgment does not end it.
#[test]
fn an_older_timestamp_does_not_end_a_handshake() {
    for mut s in scripts() {
        s.timestamps = true;
        s.peer_sends(syn().mss(MSS).first_ts(10)).expect(syn_ack().mss(1460));
        s.peer_sends(seg(1, 1).ts(9, 0)).expect(seg(1, 1));
        assert_eq!(s.state(), "SYN-RECEIVED");
        s.peer_sends(seg(1, 1).ts(10, 0)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
}
