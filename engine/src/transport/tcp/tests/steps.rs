//! What a segment costs does not depend on how much a connection has under way or behind gaps: steps from one frame of a
//! queue to the next are counted, and there are as many of them whether a queue is short or long (CVE-2019-11478,
//! CVE-2018-5390).

use super::*;
use crate::base::STEPS;

/// Bytes of a segment: the fewest that a peer can ask for.
const SMALL: u32 = 48;

/// Connections that have so many of the smallest segments under way: when, up to which number, and from which on.
fn under_way(segments: u32) -> impl Iterator<Item = (Script, u64, u32, u32)> {
    let rich = |config: &mut TcpConfig| config.chunks = 4 * CHUNKS;
    established_with(rich, syn().mss(SMALL as u16).sack_ok().scale(7)).map(move |mut s| {
        let (mut una, mut at) = (1, 100);
        loop {
            assert!(at < 1000, "the congestion window does not grow");
            s.at(at);
            let wanted = (segments * SMALL + una - 1).saturating_sub(s.queued);
            s.app_offers(wanted);
            s.take_all();
            let nxt = s.tcb().snd.nxt.since(s.iss());
            if nxt - una >= segments * SMALL {
                return (s, at, una, nxt);
            }
            at += 10;
            s.at(at).peer_sends(seg(1, nxt));
            s.take_all();
            una = nxt;
        }
    })
}

/// Steps that a segment costs.
fn steps_for(s: &mut Script, seg: Seg) -> u64 {
    let before = STEPS.get();
    s.peer_sends(seg);
    let steps = STEPS.get() - before;
    s.take_all();
    steps
}

/// The most that each of some acknowledgments costs, made for what is under way; the first one may have to look around.
fn most(segments: u32, acks: impl Fn(u32, u32, u32) -> Seg) -> u64 {
    let worst = under_way(segments).map(|(mut s, at, una, nxt)| {
        s.at(at + 10);
        steps_for(&mut s, acks(0, una, nxt));
        (1..100).map(|n| steps_for(&mut s, acks(n, una, nxt))).max().unwrap()
    });
    worst.max().unwrap()
}

/// Costs no more than that, and as much with a long queue as with a short one.
#[track_caller]
fn assert_constant(what: &str, limit: u64, acks: impl Fn(u32, u32, u32) -> Seg) {
    let costs = [120, 380].map(|segments| most(segments, &acks));
    assert!(costs[1] <= costs[0] + 2 && costs[0] <= limit, "{what}: {costs:?} steps");
}

#[test]
fn reports_that_bring_no_news_cost_nothing() {
    assert_constant("a report again and again", 24, |_, una, nxt| seg(1, una).sack(&[(nxt - 2 * SMALL, nxt)]));
    assert_constant("less than a segment", 24, |_, una, nxt| {
        seg(1, una).sack(&[(nxt - 10, nxt - 9), (nxt - 18, nxt - 17), (nxt - 26, nxt - 25)])
    });
    assert_constant("all but the first", 24, |_, una, nxt| seg(1, una).sack(&[(una + SMALL, nxt)]));
    assert_constant("now this end and now that", 24, |n, una, nxt| {
        let blocks = [(nxt - SMALL, nxt), (una + SMALL, una + 2 * SMALL)];
        seg(1, una).sack(&[blocks[n as usize % 2], blocks[(n as usize + 1) % 2]])
    });
}

#[test]
fn a_report_that_grows_costs_what_is_new() {
    assert_constant("one segment more", 24, |n, una, _| seg(1, una).sack(&[(una + SMALL, una + (n + 2) * SMALL)]));
    // Every hole of which the repair is under way is looked at, and what lies between.
    assert_constant("every second segment", 125, |n, una, _| {
        let start = una + (2 * n.min(58) + 1) * SMALL;
        seg(1, una).sack(&[(start, start + SMALL)])
    });
}

/// Frames are counted as well as bytes: with segments of 48 bytes, a buffer of 200,000 would take 4,166 of them.
#[test]
fn a_peer_with_tiny_segments_has_no_more_frames_queued_for_it_than_others() {
    let rich = |config: &mut TcpConfig| config.chunks = 4 * CHUNKS;
    for mut s in established_with(rich, syn().mss(SMALL as u16).sack_ok()) {
        s.at(100).app_offers(200_000);
        assert_eq!(s.tcb().snd.queue.len(), 200_000 / 512);
        assert_eq!(s.tcp.room(s.index), 0);
        s.take_all();
    }
}

/// Steps that a segment costs which lies in the middle of what is behind a gap.
fn behind_a_gap(frames: u32) -> u64 {
    let steps = established().map(|mut s| {
        for n in 1..=frames {
            s.peer_sends(seg(1 + 1000 * n, 1).len(1000));
        }
        s.take_all();
        assert_eq!(s.tcp.held(), frames);
        let steps = steps_for(&mut s, seg(1 + 500 * frames, 1).len(1000));
        assert_eq!(s.outcome, Err(crate::base::DropReason::TcpDuplicate));
        steps
    });
    steps.max().unwrap()
}

#[test]
fn text_behind_a_gap_is_found_in_as_many_steps_as_there_are_gaps() {
    assert!(behind_a_gap(60) <= behind_a_gap(10) && behind_a_gap(60) <= 4, "{} steps", behind_a_gap(60));
}

/// Small pieces without a gap between them share chunks behind gaps, too.
#[test]
fn small_pieces_behind_a_gap_share_a_chunk() {
    for mut s in established() {
        for n in 1..=100 {
            s.peer_sends(seg(1 + 10 * n, 1).len(10));
        }
        s.take_all();
        assert_eq!((s.tcp.held(), s.counters().out_of_order), (1, 100));
        s.peer_sends(seg(1, 1).len(10)).expect(seg(1, 1011));
        s.app_takes(1010).take_all();
    }
}
