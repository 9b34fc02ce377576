//! What the neighbor cache promises, state by state.

use super::search::{PROBES, SEARCHES};
use super::*;
use crate::base::{ChunkSize, UmemConfig};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 9]);
/// The longest that REACHABLE lasts.
const LONGEST: u64 = 45;

const CONFIRMED: Advertisement = Advertisement::arp_reply(MAC);

fn config() -> NeighborConfig {
    NeighborConfig { entries: 16, queue: 2, waiting: 100, fixed: Vec::new() }
}

fn neighbors() -> Neighbors {
    Neighbors::new(&config(), [1, 2])
}

fn umem() -> Umem {
    Umem::new(UmemConfig { chunks: 256, chunk_size: ChunkSize::Bytes2048, huge_pages: false }).unwrap()
}

fn at(seconds: u64) -> Instant {
    ms(seconds * 1_000)
}

fn ms(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

/// Addresses of both families, in turns.
fn address(n: u32) -> IpAddress {
    if n.is_multiple_of(2) {
        IpAddress::v4((0x0a00_0000 + n).into())
    } else {
        IpAddress::v6(std::net::Ipv6Addr::from(0xfe80 << 112 | u128::from(n)))
    }
}

fn peer() -> IpAddress {
    address(1)
}

/// A neighbor in each of the states whose MAC address is known, at 100 s; none of it was heard within the last second.
fn known(state: State) -> Neighbors {
    let mut neighbors = neighbors();
    neighbors.heard_from(peer(), MAC, at(90));
    match state {
        State::Reachable => assert!(neighbors.advertised(peer(), CONFIRMED, at(98))),
        State::Delay => assert_eq!(neighbors.resolve(peer(), at(99)), Some(MAC)),
        State::Probe => {
            neighbors.resolve(peer(), at(94));
            assert!(neighbors.due(at(99)).is_some());
        }
        _ => {}
    }
    assert_eq!(neighbors.state(peer(), at(100)), Some(state));
    neighbors
}

/// Looks a neighbor up for a segment of a connection that had a sign of progress.
fn resolve_for(neighbors: &mut Neighbors, address: IpAddress, heard_at: Option<Instant>, now: Instant) -> Option<Mac> {
    if let Some(heard_at) = heard_at {
        neighbors.progressed(address, heard_at, now);
    }
    neighbors.resolve(address, now)
}

/// A neighbor that a frame waits for.
fn searched(umem: &mut Umem) -> Neighbors {
    let mut neighbors = neighbors();
    let frame = umem.alloc().unwrap();
    assert!(neighbors.wait(peer(), frame, umem, at(0)).unwrap().is_none());
    assert_eq!(neighbors.state(peer(), at(0)), Some(State::Incomplete));
    neighbors
}

fn advertisement(mac: Option<Mac>, solicited: bool, override_: bool) -> Advertisement {
    Advertisement { mac, solicited, override_, router: true }
}

/// Whom a solicitation goes to.
#[track_caller]
fn solicited(due: Option<Due>) -> Option<Mac> {
    match due {
        Some(Due::Solicit { address, to }) if address == peer() => to,
        due => panic!("{due:?}"),
    }
}

/// Takes out a frame whose neighbor was found.
fn take(neighbors: &mut Neighbors, umem: &mut Umem) {
    let (frame, ..) = neighbors.next_found(umem).unwrap();
    umem.free(frame);
}

fn wait(neighbors: &mut Neighbors, umem: &mut Umem, n: u32) -> Result<Option<u32>, UnsentReason> {
    let frame = umem.alloc().unwrap();
    match neighbors.wait(address(n), frame, umem, at(0)) {
        Ok(pushed_out) => Ok(pushed_out.map(|frame| {
            let chunk = frame.chunk();
            umem.free(frame);
            chunk
        })),
        Err((frame, reason)) => {
            umem.free(frame);
            Err(reason)
        }
    }
}

#[test]
fn frames_wait_for_a_neighbor_and_leave_in_order_when_it_is_found() {
    let (mut neighbors, mut umem) = (neighbors(), umem());
    let frames = [umem.alloc().unwrap(), umem.alloc().unwrap()];
    let order = frames.each_ref().map(Frame::chunk);
    for frame in frames {
        assert!(neighbors.wait(peer(), frame, &mut umem, at(0)).unwrap().is_none());
    }
    assert_eq!(solicited(neighbors.due(at(0))), None, "everybody is asked");
    assert!(neighbors.due(ms(999)).is_none(), "not again within the second");
    assert!(neighbors.advertised(peer(), CONFIRMED, at(0)));
    assert!(neighbors.has_found());
    assert_eq!(neighbors.waiting(), 2);
    for chunk in order {
        let (frame, address, mac) = neighbors.next_found(&mut umem).unwrap();
        assert_eq!((frame.chunk(), address, mac), (chunk, peer(), MAC));
        umem.free(frame);
    }
    assert!(neighbors.next_found(&mut umem).is_none() && !neighbors.has_found());
    assert_eq!(neighbors.resolve(peer(), at(0)), Some(MAC));
    assert_eq!((neighbors.waiting(), neighbors.next_deadline()), (0, None));
}

#[test]
fn a_silent_neighbor_is_given_up_after_three_solicitations_and_searched_for_anew_at_once() {
    let mut umem = umem();
    let mut neighbors = searched(&mut umem);
    for second in 0..3 {
        assert_eq!(neighbors.next_deadline(), Some(at(second)));
        assert_eq!(solicited(neighbors.due(at(second))), None);
    }
    let Some(Due::GiveUp(given_up, mut waiting)) = neighbors.due(at(3)) else { panic!() };
    assert_eq!((given_up, waiting.clear(&mut umem)), (peer(), 1));
    assert_eq!((neighbors.waiting(), neighbors.next_deadline()), (0, None));
    assert_eq!(neighbors.state(peer(), at(3)), None);
    let frame = umem.alloc().unwrap();
    assert!(neighbors.wait(peer(), frame, &mut umem, at(3)).is_ok());
    assert_eq!(solicited(neighbors.due(at(3))), None);
}

#[test]
fn an_address_is_asked_for_once_a_second_whatever_happens_to_it() {
    let mut umem = umem();
    let mut neighbors = searched(&mut umem);
    assert_eq!(solicited(neighbors.due(at(0))), None);
    neighbors.advertised(peer(), CONFIRMED, ms(100));
    neighbors.front.forget(peer());
    assert!(neighbors.cache.remove(peer()).is_some());
    take(&mut neighbors, &mut umem);
    assert!(neighbors.next_found(&mut umem).is_none());
    let frame = umem.alloc().unwrap();
    assert!(neighbors.wait(peer(), frame, &mut umem, ms(200)).is_ok());
    assert!(neighbors.due(ms(200)).is_none());
    assert_eq!(neighbors.next_deadline(), Some(at(1)));
    assert_eq!(solicited(neighbors.due(at(1))), None);
}

#[test]
fn in_a_full_queue_the_new_frame_takes_the_place_of_the_oldest() {
    let (mut neighbors, mut umem) = (neighbors(), umem());
    let chunks: Vec<u32> = (0..3)
        .map(|_| {
            let frame = umem.alloc().unwrap();
            let chunk = frame.chunk();
            if let Some(older) = neighbors.wait(peer(), frame, &mut umem, at(0)).unwrap() {
                assert_eq!(neighbors.waiting(), 2);
                umem.free(older);
            }
            chunk
        })
        .collect();
    neighbors.advertised(peer(), CONFIRMED, at(0));
    for chunk in &chunks[1..] {
        let (frame, ..) = neighbors.next_found(&mut umem).unwrap();
        assert_eq!(frame.chunk(), *chunk);
        umem.free(frame);
    }
    assert_eq!(umem.free_chunks(), umem.chunks());
}

#[test]
fn when_all_queues_together_are_full_the_longest_gives_way() {
    let mut umem = umem();
    let mut neighbors = Neighbors::new(&NeighborConfig { queue: 8, waiting: 4, ..config() }, [1, 2]);
    for n in [1, 2, 2, 2] {
        assert_eq!(wait(&mut neighbors, &mut umem, n), Ok(None));
    }
    assert!(wait(&mut neighbors, &mut umem, 3).unwrap().is_some());
    assert_eq!(neighbors.waiting(), 4);
    for (n, frames) in [(1, 1), (2, 2), (3, 1)] {
        neighbors.advertised(address(n), CONFIRMED, at(0));
        let found = std::iter::from_fn(|| neighbors.next_found(&mut umem).map(|(frame, ..)| umem.free(frame)));
        assert_eq!(found.count(), frames, "neighbor {n}");
    }
}

#[test]
fn frames_that_wait_leave_memory_to_ask_with() {
    let mut umem = umem();
    let mut neighbors = Neighbors::new(&NeighborConfig { queue: 1000, waiting: 1000, ..config() }, [1, 2]);
    let pushed_out = (0..1000).filter(|_| wait(&mut neighbors, &mut umem, 1).unwrap().is_some()).count();
    assert_eq!(pushed_out as u32 + neighbors.waiting(), 1000);
    let free = umem.free_chunks();
    assert!((1..16).contains(&free), "{free} chunks are left");
}

#[test]
fn searches_are_bounded_until_what_was_found_is_taken_out() {
    let (mut neighbors, mut umem) = (neighbors(), umem());
    let all = 0..SEARCHES as u32;
    all.clone().for_each(|n| assert_eq!(wait(&mut neighbors, &mut umem, n), Ok(None)));
    assert_eq!(wait(&mut neighbors, &mut umem, 999), Err(UnsentReason::NeighborTableFull));
    assert_eq!(neighbors.population(at(0)), [SEARCHES as u32, 0, 0, 0, 0]);
    all.for_each(|n| assert!(neighbors.advertised(address(n), CONFIRMED, at(0))));
    assert_eq!(wait(&mut neighbors, &mut umem, 999), Err(UnsentReason::NeighborTableFull), "frames still wait");
    while let Some((frame, ..)) = neighbors.next_found(&mut umem) {
        umem.free(frame);
    }
    assert_eq!(wait(&mut neighbors, &mut umem, 999), Ok(None));
}

#[test]
fn reachable_lasts_between_half_and_one_and_a_half_times_thirty_seconds() {
    let mut neighbors = neighbors();
    let mut times: Vec<u64> = (0..200)
        .map(|_| {
            neighbors.advertised(peer(), CONFIRMED, at(0));
            neighbors.heard_from(peer(), MAC, at(0));
            neighbors.advertised(peer(), CONFIRMED, at(0));
            let over = |second: &u64| neighbors.state(peer(), at(*second)) == Some(State::Stale);
            (0..).find(over).unwrap()
        })
        .collect();
    times.sort_unstable();
    assert!(times[0] >= 15 && times[0] < 18 && times[199] <= LONGEST && times[199] > 42, "{times:?}");
}

#[test]
fn a_neighbor_that_is_sent_to_is_probed_when_its_time_is_over_and_goes_when_silent() {
    let mut neighbors = known(State::Reachable);
    let over = (at(98).as_ns()..).step_by(1_000_000).map(Instant::from_ns);
    let mut now = at(98);
    for time in over {
        now = time;
        assert_eq!(neighbors.resolve(peer(), now), Some(MAC), "from the front cache, nearly always");
        if neighbors.next_deadline().is_some() {
            break;
        }
    }
    assert!(now.since(at(98)).as_secs() >= 15 && now.since(at(98)).as_secs() <= LONGEST);
    assert_eq!(neighbors.state(peer(), now), Some(State::Delay));
    assert_eq!(neighbors.next_deadline(), Some(now + DELAY_FIRST_PROBE_TIME));
    now += DELAY_FIRST_PROBE_TIME;
    for _ in 0..3 {
        assert_eq!(solicited(neighbors.due(now)), Some(MAC), "unicast");
        assert_eq!(neighbors.state(peer(), now), Some(State::Probe));
        assert_eq!(neighbors.resolve(peer(), now), Some(MAC));
        now += RETRANS_TIMER;
    }
    let Some(Due::GiveUp(given_up, waiting)) = neighbors.due(now) else { panic!() };
    assert_eq!((given_up, waiting.len()), (peer(), 0));
    assert_eq!((neighbors.resolve(peer(), now), neighbors.next_deadline()), (None, None));
}

#[test]
fn a_neighbor_that_nobody_sends_to_is_not_probed() {
    let mut neighbors = known(State::Reachable);
    assert_eq!(neighbors.next_deadline(), None);
    assert!(neighbors.due(at(10_000)).is_none());
    assert_eq!(neighbors.state(peer(), at(10_000)), Some(State::Stale));
}

/// RFC 4861, section 7.2.5: for all but INCOMPLETE. What is told, and the state and MAC address that come of it.
#[test]
fn an_advertisement_changes_what_is_known_by_its_flags() {
    use State::{Delay, Probe, Reachable, Stale};
    for before in [Reachable, Stale, Delay, Probe] {
        let doubted = if before == Reachable { Stale } else { before };
        for (mac, is_solicited, override_, state, told, router) in [
            (Some(MAC), true, false, Reachable, MAC, true),
            (Some(MAC), true, true, Reachable, MAC, true),
            (None, true, false, Reachable, MAC, true),
            (None, true, true, Reachable, MAC, true),
            (Some(OTHER), true, true, Reachable, OTHER, true),
            (Some(OTHER), false, true, Stale, OTHER, true),
            (Some(MAC), false, true, before, MAC, true),
            (Some(MAC), false, false, before, MAC, true),
            (None, false, true, before, MAC, true),
            (None, false, false, before, MAC, true),
            (Some(OTHER), true, false, doubted, MAC, false),
            (Some(OTHER), false, false, doubted, MAC, false),
        ] {
            let mut neighbors = known(before);
            if before != Stale {
                neighbors.resolve(peer(), at(100));
            }
            let what = advertisement(mac, is_solicited, override_);
            assert!(neighbors.advertised(peer(), what, at(100)));
            let now = (neighbors.state(peer(), at(100)), neighbors.is_router(peer()));
            assert_eq!(now, (Some(state), router), "{before:?}, {what:?}");
            let timed = matches!(state, Delay | Probe);
            assert_eq!(neighbors.next_deadline().is_some(), timed, "{before:?}, {what:?}: timer");
            assert_eq!(neighbors.resolve(peer(), at(100)), Some(told), "{before:?}, {what:?}");
        }
    }
}

#[test]
fn an_advertisement_ends_a_search_whether_or_not_it_overrides() {
    for (is_solicited, override_) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut umem = umem();
        let mut neighbors = searched(&mut umem);
        assert!(neighbors.advertised(peer(), advertisement(None, is_solicited, override_), at(0)));
        assert!(!neighbors.has_found(), "no MAC address, nothing found");
        assert!(neighbors.advertised(peer(), advertisement(Some(MAC), is_solicited, override_), at(0)));
        let state = if is_solicited { State::Reachable } else { State::Stale };
        assert_eq!((neighbors.state(peer(), at(0)), neighbors.is_router(peer())), (Some(state), true));
        take(&mut neighbors, &mut umem);
    }
}

#[test]
fn an_advertisement_of_a_stranger_or_of_no_host_is_ignored() {
    let mut neighbors = neighbors();
    assert!(!neighbors.advertised(peer(), CONFIRMED, at(0)));
    assert_eq!(neighbors.resolve(peer(), at(0)), None);
    for mac in [Mac::ZERO, Mac::BROADCAST, Mac([0x33, 0x33, 0, 0, 0, 1])] {
        let mut neighbors = known(State::Stale);
        assert!(!neighbors.advertised(peer(), Advertisement::arp_reply(mac), at(100)));
        neighbors.heard_from(peer(), mac, at(100));
        assert_eq!(neighbors.resolve(peer(), at(100)), Some(MAC));
    }
}

#[test]
fn whoever_asks_for_us_is_entered_as_stale_and_followed_when_it_moves() {
    use State::{Delay, Probe, Reachable, Stale};
    for state in [Reachable, Stale, Delay, Probe] {
        let mut neighbors = known(state);
        assert!(neighbors.heard_from(peer(), MAC, at(100)));
        assert_eq!(neighbors.state(peer(), at(100)), Some(state), "nothing new, and no confirmation");
        assert!(neighbors.heard_from(peer(), OTHER, at(100)));
        assert_eq!((neighbors.state(peer(), at(100)), neighbors.next_deadline()), (Some(Stale), None));
        assert_eq!(neighbors.resolve(peer(), at(100)), Some(OTHER));
    }
    let mut neighbors = neighbors();
    assert!(!neighbors.heard_from(peer(), MAC, at(0)));
    assert_eq!(neighbors.state(peer(), at(0)), Some(Stale));
    for nobody in [IpAddress::NONE, IpAddress::v4(std::net::Ipv4Addr::UNSPECIFIED)] {
        neighbors.heard_from(nobody, MAC, at(0));
        assert_eq!(neighbors.resolve(nobody, at(0)), None);
    }
}

#[test]
fn whoever_asks_for_us_while_we_search_for_it_is_found() {
    let mut umem = umem();
    for merges in [false, true] {
        let mut neighbors = searched(&mut umem);
        let hears = if merges { Neighbors::merge } else { Neighbors::heard_from };
        assert!(hears(&mut neighbors, peer(), MAC, at(0)));
        assert_eq!((neighbors.state(peer(), at(0)), neighbors.next_deadline()), (Some(State::Stale), None));
        take(&mut neighbors, &mut umem);
    }
}

#[test]
fn what_is_not_for_us_changes_what_is_known_and_enters_nobody() {
    let mut neighbors = known(State::Reachable);
    assert!(neighbors.merge(peer(), MAC, at(100)));
    assert_eq!(neighbors.state(peer(), at(100)), Some(State::Reachable));
    assert!(neighbors.merge(peer(), OTHER, at(100)));
    assert_eq!(neighbors.state(peer(), at(100)), Some(State::Stale));
    assert_eq!(neighbors.resolve(peer(), at(100)), Some(OTHER));
    assert!(!neighbors.merge(address(2), MAC, at(100)));
    assert_eq!(neighbors.resolve(address(2), at(100)), None);
}

#[test]
fn progress_of_a_connection_confirms_a_neighbor_that_is_known() {
    use State::{Delay, Probe, Reachable, Stale};
    for state in [Stale, Delay, Probe] {
        let mut neighbors = known(state);
        assert_eq!(resolve_for(&mut neighbors, peer(), Some(at(100)), at(100)), Some(MAC));
        assert_eq!((neighbors.state(peer(), at(100)), neighbors.next_deadline()), (Some(Reachable), None));
    }
    let mut umem = umem();
    let mut neighbors = searched(&mut umem);
    assert_eq!(resolve_for(&mut neighbors, peer(), Some(at(0)), at(0)), None, "nothing says at which MAC address");
    assert_eq!(neighbors.state(peer(), at(0)), Some(State::Incomplete));
    assert_eq!(resolve_for(&mut neighbors, address(2), Some(at(0)), at(0)), None);
}

#[test]
fn progress_counts_from_when_it_was_made_and_not_if_something_came_between() {
    let mut neighbors = known(State::Reachable);
    let late = at(98 + LONGEST);
    // Half of the base time, as the least that a confirmation is good for.
    assert_eq!(resolve_for(&mut neighbors, peer(), Some(late - Duration::from_secs(15)), late), Some(MAC));
    assert_eq!(neighbors.state(peer(), late), Some(State::Delay), "too long ago");
    resolve_for(&mut neighbors, peer(), None, late + LOOK_FOR_HINTS);
    assert_eq!(neighbors.state(peer(), late), Some(State::Delay), "no news");
    resolve_for(&mut neighbors, peer(), Some(late), late + LOOK_FOR_HINTS * 2);
    assert_eq!(neighbors.state(peer(), late + Duration::from_secs(14)), Some(State::Reachable));
    assert_eq!(neighbors.state(peer(), late + Duration::from_secs(15)), Some(State::Stale));

    let mut neighbors = known(State::Reachable);
    neighbors.doubt(peer(), at(100));
    resolve_for(&mut neighbors, peer(), Some(at(100)), at(101));
    assert_eq!(neighbors.state(peer(), at(101)), Some(State::Probe), "another connection got through before");
    let mut neighbors = known(State::Reachable);
    neighbors.merge(peer(), OTHER, at(100));
    resolve_for(&mut neighbors, peer(), Some(at(99)), at(101));
    assert_eq!(neighbors.state(peer(), at(101)), Some(State::Delay), "that was at the other MAC address");
}

#[test]
fn a_neighbor_whose_connections_go_on_is_never_asked() {
    // Half a second after each segment the next one, which acknowledges what was heard 40 ms before.
    let mut neighbors = known(State::Reachable);
    for time in (100_000..1_000_000).step_by(500).map(ms) {
        assert_eq!(resolve_for(&mut neighbors, peer(), Some(time - Duration::from_millis(40)), time), Some(MAC));
        assert_eq!((neighbors.state(peer(), time), neighbors.next_deadline()), (Some(State::Reachable), None));
    }
    // A request every 20 s from a neighbor that was quiet before: what is sent before the answer begins a DELAY, which its
    // acknowledgment ends.
    for time in (1_000..2_000).step_by(20).map(at) {
        resolve_for(&mut neighbors, peer(), Some(time - Duration::from_secs(20)), time);
        let later = time + Duration::from_millis(40);
        resolve_for(&mut neighbors, peer(), Some(later), later);
        assert_eq!((neighbors.state(peer(), later), neighbors.next_deadline()), (Some(State::Reachable), None));
    }
}

#[test]
fn routers_say_how_often_neighbors_of_ipv6_are_asked() {
    for (n, interval) in [(1, 250), (2, 1_000)] {
        let (mut neighbors, mut umem) = (neighbors(), umem());
        neighbors.set_retransmit_time(Duration::from_millis(250));
        wait(&mut neighbors, &mut umem, n).unwrap();
        let mut asked = Vec::new();
        for now in 0..5_000 {
            match neighbors.due(ms(now)) {
                Some(Due::Solicit { .. }) => asked.push(now),
                Some(Due::GiveUp(_, mut frames)) => {
                    assert_eq!((now, asked), (3 * interval, vec![0, interval, 2 * interval]));
                    frames.clear(&mut umem);
                    break;
                }
                None => {}
            }
        }
    }
}

#[test]
fn a_neighbor_in_doubt_is_asked_at_once_and_serves_on_until_it_does_not_answer() {
    for state in [State::Reachable, State::Stale, State::Delay] {
        let mut neighbors = known(state);
        neighbors.doubt(peer(), at(100));
        assert_eq!(neighbors.state(peer(), at(100)), Some(State::Probe));
        assert_eq!(solicited(neighbors.due(at(100))), Some(MAC));
        neighbors.doubt(peer(), at(100));
        assert!(neighbors.due(at(100)).is_none(), "once");
        assert_eq!(neighbors.resolve(peer(), at(102)), Some(MAC));
        assert_eq!([101, 102].map(|second| solicited(neighbors.due(at(second)))), [Some(MAC); 2]);
        assert!(matches!(neighbors.due(at(103)), Some(Due::GiveUp(..))));
        assert_eq!(neighbors.resolve(peer(), at(103)), None);
    }
    let mut neighbors = known(State::Reachable);
    neighbors.advertised(peer(), CONFIRMED, at(100));
    neighbors.doubt(peer(), ms(100_999));
    assert_eq!(neighbors.state(peer(), at(101)), Some(State::Reachable), "just confirmed");
}

#[test]
fn a_given_mac_address_is_nobodys_to_change() {
    let mut fixed = config();
    fixed.fixed = (0..40).rev().map(|n| (address(n), MAC)).collect();
    let mut neighbors = Neighbors::new(&fixed, [1, 2]);
    for n in 0..1_000 {
        let told = Advertisement::arp_reply(OTHER);
        assert_eq!(neighbors.advertised(address(n), told, at(0)), n < 40);
        assert_eq!(neighbors.merge(address(n), OTHER, at(0)), n < 40);
        neighbors.heard_from(address(n), OTHER, at(0));
        neighbors.doubt(address(n.min(39)), at(50));
        neighbors.adopt(address(n.min(39)), OTHER, at(0));
    }
    for n in 0..40 {
        assert_eq!([at(0), at(1_000_000)].map(|now| neighbors.resolve(address(n), now)), [Some(MAC); 2]);
    }
    assert_eq!(neighbors.next_deadline(), None);
    let listed: Vec<Neighbor> = neighbors.entries(at(0)).filter(|neighbor| neighbor.is_fixed).collect();
    assert_eq!((listed.len(), listed[0].mac, neighbors.population(at(0))), (40, Some(MAC), [0, 40, 16, 0, 0]));
}

#[test]
fn the_kernels_view_is_taken_over() {
    let mut umem = umem();
    let mut neighbors = searched(&mut umem);
    neighbors.adopt(peer(), MAC, at(0));
    assert_eq!(neighbors.state(peer(), at(0)), Some(State::Stale));
    take(&mut neighbors, &mut umem);
    assert_eq!(neighbors.resolve(peer(), at(0)), Some(MAC));
    assert!(neighbors.next_deadline().is_some());
    neighbors.adopt(address(9), OTHER, at(0));
    assert_eq!(neighbors.resolve(address(9), at(0)), Some(OTHER));
}

#[test]
fn a_full_table_forgets_the_oldest_and_never_grows() {
    let mut neighbors = neighbors();
    for n in 1..=1000 {
        neighbors.heard_from(address(n), MAC, at(u64::from(n)));
    }
    assert_eq!(neighbors.entries(at(1000)).count(), 16);
    assert_eq!(neighbors.resolve(address(1000), at(1000)), Some(MAC));
    assert_eq!(neighbors.resolve(address(1), at(1000)), None);
}

#[test]
fn neighbors_in_use_outlast_any_number_that_only_asked() {
    let mut neighbors = neighbors();
    for n in 1..=2 {
        neighbors.heard_from(address(n), MAC, at(0));
    }
    neighbors.resolve(address(1), at(0));
    neighbors.advertised(address(2), CONFIRMED, at(0));
    for n in 10..1000 {
        neighbors.heard_from(address(n), OTHER, at(1));
    }
    assert_eq!([1, 2].map(|n| neighbors.state(address(n), at(1))), [Some(State::Delay), Some(State::Reachable)]);
    assert_eq!(neighbors.population(at(1)), [0, 1, 14, 1, 0]);
}

#[test]
fn one_that_gives_way_takes_its_timer_and_its_answer_along() {
    let mut neighbors = Neighbors::new(&NeighborConfig { entries: 1, ..config() }, [1, 2]);
    for n in 0..8 {
        neighbors.heard_from(address(n), MAC, at(0));
        neighbors.resolve(address(n), at(0));
    }
    assert_eq!(neighbors.population(at(0)), [0, 0, 0, 8, 0]);
    for n in 8..16 {
        neighbors.heard_from(address(n), MAC, at(1));
        neighbors.advertised(address(n), CONFIRMED, at(1));
    }
    let left = (0..8).filter(|n| neighbors.resolve(address(*n), at(1)).is_some()).count();
    assert_eq!(neighbors.population(at(1)), [0, 1, 0, left as u32, 0], "each new one gave way to the next");
    let timers = std::iter::from_fn(|| neighbors.due(at(5))).count();
    assert_eq!(timers, left);
}

#[test]
fn with_no_room_for_a_timer_a_stale_neighbor_serves_on_and_is_probed_later() {
    let mut neighbors = Neighbors::new(&NeighborConfig { entries: 4096, ..config() }, [1, 2]);
    let all = 0..PROBES as u32 + 1;
    for n in all.clone() {
        neighbors.heard_from(address(n), MAC, at(0));
        assert_eq!(neighbors.resolve(address(n), at(0)), Some(MAC));
    }
    assert_eq!(neighbors.population(at(0)), [0, 0, 1, PROBES as u32, 0]);
    let last = address(PROBES as u32);
    assert_eq!(neighbors.state(last, at(0)), Some(State::Stale));
    neighbors.doubt(last, at(1));
    assert_eq!(neighbors.state(last, at(1)), Some(State::Stale));
    all.for_each(|n| _ = resolve_for(&mut neighbors, address(n / 2), Some(at(1)), at(1) + LOOK_FOR_HINTS));
    assert_eq!(neighbors.resolve(last, at(1)), Some(MAC));
    assert_eq!(neighbors.state(last, at(1)), Some(State::Delay));
}

#[test]
fn a_list_shows_every_neighbor_once() {
    let mut umem = umem();
    let mut neighbors = searched(&mut umem);
    neighbors.heard_from(address(2), OTHER, at(0));
    neighbors.set_router(address(2), true);
    let mut listed: Vec<Neighbor> = neighbors.entries(at(0)).collect();
    listed.sort_by_key(|neighbor| neighbor.address == peer());
    let known =
        Neighbor { address: address(2), mac: Some(OTHER), state: State::Stale, is_router: true, is_fixed: false };
    let searched = Neighbor { address: peer(), mac: None, state: State::Incomplete, is_router: false, is_fixed: false };
    assert_eq!(listed, [known, searched]);
    assert_eq!(neighbors.population(at(0)), [1, 0, 1, 0, 0]);
}
