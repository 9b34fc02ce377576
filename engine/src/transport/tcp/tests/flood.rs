//! Limits: the backlog and what takes its place, the table of connections, and how often we answer what we do not
//! accept.

use super::*;
use crate::base::DropReason;
use crate::wire::tcp::Flags;

/// A script whose backlog of four is full.
fn with_a_full_backlog() -> impl Iterator<Item = Script> {
    scripts().map(|mut s| {
        for port in 41_000..41_004 {
            s.peer_sends(syn().mss(MSS).port(port)).take();
        }
        assert_eq!(s.tcp.population(), (0, 4, 0));
        s
    })
}

/// RFC 4987, section 3.6: with a full backlog a connection is accepted without remembering that it was asked for.
#[test]
fn a_cookie_takes_the_place_of_a_full_backlog() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460));
        let answer = s.take();
        assert_eq!((answer.flags, answer.ack, answer.mss), (Flags::SYN | Flags::ACK, 1, Some(1460)));
        assert_eq!((s.tcp.population(), s.counters().cookies_sent), ((0, 4, 0), 1));
        s.at(20).peer_sends(seg(1, 1).len(10)).told();
        assert_eq!((s.state(), s.counters().cookies_accepted), ("ESTABLISHED", 1));
        s.app_takes(10).app_sends(1460).expect(seg(1, 11).len(1460).psh());
    }
}

#[test]
fn a_cookie_keeps_the_largest_of_some_sizes_that_is_not_above_the_offer() {
    for (offered, kept) in [(None, 536), (Some(1000), 536), (Some(1452), 1440), (Some(9000), 1460)] {
        for mut s in with_a_full_backlog() {
            s.peer_sends(Seg { mss: offered, ..syn() }).take();
            s.at(20).peer_sends(seg(1, 1)).app_sends(kept).expect(seg(1, 1).len(kept).psh());
        }
    }
}

/// Where the peer has timestamps, the other options are kept in ours, which it echoes.
#[test]
fn a_cookie_keeps_scale_and_sack_in_the_timestamp() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460).scale(3).sack_ok().first_ts(0).with(Flags::ECE | Flags::CWR));
        let answer = s.take();
        assert_eq!((answer.window_scale, answer.sack_permitted), (Some(0), true));
        assert_eq!(answer.flags, Flags::SYN | Flags::ACK | Flags::ECE);
        let seg::Ts::Is(value, 0) = answer.timestamps else { panic!("{answer}") };
        // Up to 63 ms back, where the bits are those of the options.
        assert!(0_u32.wrapping_sub(value) < 64, "{value}");
        s.timestamps = true;
        s.at(20).peer_sends(seg(1, 1).window(1000).ts(20, value));
        let tcb = s.tcb();
        assert_eq!((tcb.snd.wnd, tcb.sack_ok, tcb.ts.on, tcb.ecn.on, tcb.snd.mss), (8000, true, true, true, 1448));
    }
    // Without them, nothing but the MSS is agreed on.
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460).scale(3).sack_ok().with(Flags::ECE | Flags::CWR));
        let answer = s.take();
        assert_eq!((answer.window_scale, answer.sack_permitted), (None, false));
        assert_eq!(answer.flags, Flags::SYN | Flags::ACK);
        s.at(20).peer_sends(seg(1, 1).window(1000));
        assert_eq!((s.tcb().snd.wnd, s.tcb().sack_ok), (1000, false));
    }
}

#[test]
fn a_cookie_connection_begins_with_the_ordinary_window() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460)).take();
        s.at(20).peer_sends(seg(1, 1)).app_sends(20_000);
        assert_eq!(s.take_all().len(), 10);
    }
}

#[test]
fn an_acknowledgment_of_no_cookie_is_reset() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460)).take();
        // One of eight numbers in a row would pass, for another size.
        for ack in [100, 0x8000_0001, 0x0100_0001] {
            s.peer_sends(seg(1, ack)).expect(rst(ack));
        }
        s.peer_sends(seg(2, 1)).expect(rst(1));
        assert_eq!((s.state(), s.counters().cookies_accepted), ("LISTEN", 0));
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
}

#[test]
fn a_cookie_is_good_for_a_minute_and_not_for_three() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460)).take();
        s.run_until(63_000);
        s.peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!(s.state(), "ESTABLISHED");
    }
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460)).take();
        s.run_until(180_000);
        s.peer_sends(seg(1, 1)).expect(rst(1));
    }
}

/// Nothing is stored of a cookie, so nothing is sent again; the backlog goes on as before.
#[test]
fn a_cookie_is_sent_once() {
    for mut s in with_a_full_backlog() {
        s.peer_sends(syn().mss(1460)).take();
        let again = s.run_until(1000);
        assert!(again.len() == 4 && again.iter().all(|sent| sent.seg.port > 41_000 - 1));
        s.peer_sends(seg(1, 1).port(41_000));
        assert_eq!(s.tcp.population(), (1, 3, 0));
        // There is room for one again.
        s.peer_sends(syn().mss(MSS)).take();
        assert_eq!(s.state(), "SYN-RECEIVED");
        s.run_until(1001);
    }
}

/// Scripts with some connections, from ports from 41,000 on, and some handshakes under way, from ports from 42,000 on.
fn with_connections_and_handshakes(connections: u16, handshakes: u16) -> impl Iterator<Item = Script> {
    scripts_with(move |config| config.backlog = handshakes.max(1).into()).map(move |mut s| {
        for port in (41_000..).take(connections.into()) {
            s.peer_sends(syn().port(port)).take();
            s.peer_sends(seg(1, 1).port(port));
        }
        for port in (42_000..).take(handshakes.into()) {
            s.peer_sends(syn().port(port)).take();
        }
        assert_eq!(s.tcp.population(), (connections.into(), handshakes.into(), 0));
        s
    })
}

/// RFC 9293, section 3.10.1: with no room for another connection: here the request is dropped, and may come again
/// later.
#[test]
fn connections_have_a_limit() {
    for mut s in with_connections_and_handshakes(8, 0) {
        s.peer_sends(syn()).expect_nothing();
        assert_eq!((s.state(), s.outcome), ("LISTEN", Err(DropReason::TcpConnectionsFull)));
        s.peer_sends(rst(1).port(41_000)).peer_sends(syn()).take();
        assert_eq!(s.state(), "SYN-RECEIVED");
    }
    for mut s in scripts_with(|config| (config.ports, config.connections) = (Vec::new(), 1)) {
        s.call(syn_ack());
        assert_eq!(s.app_connects(), Err(crate::transport::tcp::ConnectFailure::TooMany));
    }
}

/// A handshake under way takes up a place, but it may be made up: whoever answers a cookie is not, and the oldest of them
/// gives way to it.
#[test]
fn handshakes_take_up_places_and_keep_nobody_out() {
    for mut s in with_connections_and_handshakes(5, 3) {
        // The second is the oldest now.
        s.peer_sends(rst(1).port(42_000)).peer_sends(syn().port(42_000)).take();
        s.peer_sends(syn().mss(MSS)).take();
        assert_eq!((s.state(), s.tcp.population(), s.counters().cookies_sent), ("LISTEN", (5, 3, 0), 1));
        s.at(20).peer_sends(seg(1, 1)).expect_nothing();
        assert_eq!((s.state(), s.tcp.population(), s.counters().handshakes_evicted), ("ESTABLISHED", (6, 2, 0), 1));
        s.peer_sends(seg(1, 1).port(42_001)).expect(rst(1).port(42_001));
        s.peer_sends(seg(1, 1).port(42_002)).peer_sends(seg(1, 1).port(42_000)).expect_nothing();
        assert_eq!(s.tcp.population(), (8, 0, 0));
    }
    // Nor do they keep us from asking for a connection ourselves.
    for mut s in with_connections_and_handshakes(5, 3) {
        s.tcp.ports = crate::transport::udp::Ports::new(std::iter::empty());
        s.app_connects().unwrap();
        s.expect(our_syn());
        assert_eq!((s.tcp.population(), s.counters().handshakes_evicted), ((6, 2, 0), 1));
    }
}

/// A flood that nobody answers leaves every place that is free to those who do.
#[test]
fn in_a_flood_of_requests_all_places_go_to_those_who_answer() {
    for mut s in scripts_with(|config| config.backlog = 8) {
        for port in 42_000..42_100 {
            s.peer_sends(syn().port(port)).take();
        }
        assert_eq!((s.tcp.population(), s.counters().cookies_sent), ((0, 8, 0), 92));
        for port in 41_000..41_008 {
            s.peer_sends(syn().port(port)).take();
            s.peer_sends(seg(1, 1).port(port)).peer_sends(syn().port(port + 2000)).take_all();
        }
        assert_eq!((s.tcp.population(), s.counters().handshakes_evicted), ((8, 0, 0), 8));
    }
}

/// RFC 5961, section 7: the number of challenge ACKs is limited, for each connection by itself (CVE-2016-5696).
#[test]
fn challenges_are_limited_for_each_connection_by_itself() {
    for mut s in established() {
        s.peer_sends(syn().mss(MSS).port(41_000)).take();
        s.peer_sends(seg(1, 1).port(41_000));
        s.run_until(5000);
        for _ in 0..20 {
            s.peer_sends(rst(2));
        }
        assert_eq!(s.take_all().len(), 5);
        for _ in 0..20 {
            s.peer_sends(syn().port(41_000));
        }
        assert_eq!((s.take_all().len(), s.counters().challenges_suppressed), (5, 30));
        s.run_until(6100);
        s.peer_sends(rst(2)).expect(seg(1, 1));
    }
}

/// What may be a retransmission, because its acknowledgment was lost, is always answered.
#[test]
fn old_text_is_acknowledged_without_a_limit() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(100)).at(50).expect(seg(1, 101)).app_takes(100);
        for _ in 0..50 {
            s.peer_sends(seg(1, 1).len(100)).expect(seg(1, 101));
        }
    }
}

/// Two ends that disagree about their numbers fall silent after some exchanges.
#[test]
fn acknowledgments_do_not_go_back_and_forth_for_ever() {
    for mut s in established() {
        s.at(1500);
        for _ in 0..100 {
            s.peer_sends(seg(0x1000_0000, 0x1000_0000));
        }
        assert!(s.take_all().len() <= 5);
    }
}
