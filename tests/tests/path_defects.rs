//! Are the simulations of fragments and of a router on the way able to fail? Here defects are planted around the stack,
//! in a device that does to packets what a broken stack would do, with right checksums, and each one must be caught.

use std::ops::Range;

use barewire::base::{Burst, Frame, Umem};
use barewire::device::{Device, DeviceCounters};
use barewire_tests::sim::fragments::run_fragments_seed;
use barewire_tests::sim::routed::run_routed_seed;
use barewire_tests::sim::tcp::Side;
use barewire_tests::sim::{Nic, Virtual, frames};

/// The defect strikes one fitting frame in so many.
const EVERY: u64 = 7;
/// Seeds of which at least one has to notice.
const SEEDS: u64 = 20;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    // What is received, and taken for something else.
    PathMtuIgnored,
    PathMtuMistaken,
    LaterOverlapBelieved,
    OverlapForgiven,
    FragmentOverlooked,
    PayloadMistaken,
    // What is sent.
    FragmentForgotten,
    FragmentLeaked,
    FragmentSentTwice,
    FragmentMisplaced,
    EndUntold,
}

/// A NIC that has a defect.
struct Saboteur {
    nic: Nic,
    defect: Defect,
    fitting: u64,
}

/// A fragment in its frame.
struct Part {
    is_v4: bool,
    /// Identification and addresses.
    datagram: Vec<u8>,
    /// Where its payload belongs.
    place: Range<usize>,
    more: bool,
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Where the packet ends in its frame, which may be padded.
fn end(bytes: &[u8]) -> usize {
    if word(bytes, 12) == frames::IPV4 { 14 + usize::from(word(bytes, 16)) } else { 54 + usize::from(word(bytes, 18)) }
}

fn part(bytes: &[u8]) -> Option<Part> {
    let is_v4 = word(bytes, 12) == frames::IPV4;
    if !is_v4 && bytes[20] != frames::FRAGMENT {
        return None;
    }
    let (start, more, payload_at, datagram) = if is_v4 {
        let field = word(bytes, 20);
        (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0, 34, [&bytes[18..20], &bytes[26..34]].concat())
    } else {
        let field = word(bytes, 56);
        (usize::from(field & !7), field & 1 != 0, 62, [&bytes[58..62], &bytes[22..54]].concat())
    };
    let place = start..start + end(bytes) - payload_at;
    (more || start > 0).then_some(Part { is_v4, datagram, place, more })
}

/// Says that a fragment is another part of its datagram.
fn set_part(bytes: &mut [u8], is_v4: bool, start: usize, more: bool) {
    if is_v4 {
        let field = (start / 8) as u16 | u16::from(more) << 13;
        bytes[20..22].copy_from_slice(&field.to_be_bytes());
        bytes[24..26].fill(0);
        let checksum = frames::checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        bytes[56..58].copy_from_slice(&(start as u16 | u16::from(more)).to_be_bytes());
    }
}

/// Where a router says how long packets may be, and where the checksum over that is.
fn told_mtu(bytes: &[u8]) -> Option<(usize, usize)> {
    match word(bytes, 12) {
        frames::IPV4 => (bytes[23] == frames::ICMP && bytes[34..36] == [3, 4]).then_some((40, 36)),
        _ => (bytes[20] == frames::ICMPV6 && bytes[54] == 2).then_some((60, 56)),
    }
}

/// Adds to a word, and to the checksum over it what that takes (RFC 1624, section 3).
fn add(bytes: &mut [u8], at: usize, by: u8, checksum_at: usize) {
    let sum = word(bytes, at) + u16::from(by);
    let checksum = !frames::sum(&[!bytes[checksum_at], !bytes[checksum_at + 1], 0, by]);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Makes a frame one of a protocol that nobody speaks.
fn hide(bytes: &mut [u8]) {
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
}

impl Saboteur {
    fn new(nic: Nic, defect: Defect) -> Self {
        Self { nic, defect, fitting: 0 }
    }

    /// Whether it is this frame's turn, of those that the defect fits.
    fn strikes(&mut self, fits: bool) -> bool {
        self.fitting += u64::from(fits);
        fits && self.fitting.is_multiple_of(EVERY)
    }

    fn spoil_received(&mut self, umem: &mut Umem, received: &mut [Frame]) {
        for at in 0..received.len() {
            let bytes = umem.bytes(&received[at]);
            let (part, told, end) = (part(bytes), told_mtu(bytes), end(bytes));
            let is_v4 = part.as_ref().is_some_and(|part| part.is_v4);
            let overlapped = part.as_ref().and_then(|part| overlapped(umem, &received[..at], part));
            let bytes = umem.bytes_mut(&mut received[at]);
            match (self.defect, told, overlapped) {
                (Defect::PathMtuIgnored, Some(_), _) => hide(bytes),
                (Defect::PathMtuMistaken, Some((at, checksum_at)), _) => add(bytes, at, 8, checksum_at),
                // What comes first is believed, so that what comes later has to come first.
                (Defect::LaterOverlapBelieved, _, Some(earlier)) if is_v4 => received.swap(earlier, at),
                (Defect::OverlapForgiven, _, Some(_)) if !is_v4 => hide(bytes),
                (Defect::FragmentOverlooked, ..) if self.strikes(part.is_some()) => hide(bytes),
                (Defect::PayloadMistaken, None, _) if self.strikes(end > 200) => {
                    let last = end & !1;
                    bytes[last - 8..last - 4].rotate_left(2);
                }
                _ => {}
            }
        }
    }

    fn spoil_sent(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let all: Vec<Frame> = burst.drain().collect();
        for mut frame in all {
            let part = part(umem.bytes(&frame));
            match (self.defect, part) {
                (Defect::FragmentForgotten, Some(_)) if self.strikes(true) => {
                    umem.free(frame);
                    continue;
                }
                (Defect::FragmentLeaked, Some(_)) if self.strikes(true) => {
                    drop(frame);
                    continue;
                }
                (Defect::FragmentSentTwice, Some(_)) if self.strikes(true) => {
                    let twin = umem.duplicate(&frame).expect("memory for a copy");
                    burst.push(twin).expect("room");
                }
                (Defect::FragmentMisplaced, Some(Part { is_v4, place, more, .. })) if self.strikes(place.start > 0) => {
                    set_part(umem.bytes_mut(&mut frame), is_v4, place.start - 8, more);
                }
                (Defect::EndUntold, Some(Part { is_v4, place, more: false, .. })) if self.strikes(true) => {
                    set_part(umem.bytes_mut(&mut frame), is_v4, place.start, true);
                }
                _ => {}
            }
            burst.push(frame).expect("room");
        }
    }
}

/// Which of the frames has some of the bytes that a fragment has, but is no copy of it.
fn overlapped(umem: &Umem, frames: &[Frame], part: &Part) -> Option<usize> {
    frames.iter().position(|frame| {
        self::part(umem.bytes(frame)).is_some_and(|one| {
            let is_apart = one.place.end <= part.place.start || part.place.end <= one.place.start;
            one.datagram == part.datagram && one.place != part.place && !is_apart
        })
    })
}

impl Device for Saboteur {
    fn receive(&mut self, umem: &mut Umem, burst: &mut Burst) {
        let from = burst.len();
        self.nic.receive(umem, burst);
        let mut all: Vec<Frame> = burst.drain().collect();
        self.spoil_received(umem, &mut all[from..]);
        all.into_iter().for_each(|frame| burst.push(frame).expect("room"));
    }

    fn transmit(&mut self, umem: &mut Umem, burst: &mut Burst) {
        self.spoil_sent(umem, burst);
        self.nic.transmit(umem, burst);
    }

    fn counters(&mut self) -> DeviceCounters {
        self.nic.counters()
    }
}

impl Virtual for Saboteur {
    fn nic(&mut self) -> &mut Nic {
        &mut self.nic
    }
}

/// The message with which a defect of the host that fragments come to is caught.
fn caught(defect: Defect) -> Option<String> {
    (0..SEEDS).find_map(|seed| run_fragments_seed(seed, |nic| Saboteur::new(nic, defect)).err())
}

/// The message with which a defect of one of the hosts is caught that have a router between them.
fn caught_behind_a_router(defect: Defect, host: Side) -> Option<String> {
    let wrap = |mac, nic| Saboteur::new(nic, if mac == host.mac() { defect } else { Defect::None });
    (0..SEEDS).find_map(|seed| run_routed_seed(seed, wrap).err())
}

#[track_caller]
fn assert_by(by: &str, defect: Defect, caught: Option<String>) {
    let message = caught.unwrap_or_else(|| panic!("{defect:?} was not caught"));
    assert!(message.contains(by), "{defect:?} was caught by something else than {by:?}: {message}");
}

#[track_caller]
fn assert_caught(defect: Defect, by: &str) {
    assert_by(by, defect, caught(defect));
}

#[track_caller]
fn assert_caught_behind_a_router(defect: Defect, by: &str) {
    for host in Side::BOTH {
        assert_by(by, defect, caught_behind_a_router(defect, host));
    }
}

#[test]
fn without_a_defect_nothing_is_caught() {
    assert_eq!(caught(Defect::None), None);
    assert_eq!(caught_behind_a_router(Defect::None, Side::Near), None);
}

#[test]
fn a_path_mtu_that_is_ignored_or_mistaken_is_caught_in_either_host() {
    for defect in [Defect::PathMtuIgnored, Defect::PathMtuMistaken] {
        assert_caught_behind_a_router(defect, "answers to the last of many");
    }
}

#[test]
fn fragments_that_are_put_together_otherwise_are_caught() {
    for defect in [Defect::LaterOverlapBelieved, Defect::OverlapForgiven, Defect::FragmentOverlooked] {
        assert_caught(defect, "fragments held");
    }
    assert_caught_behind_a_router(Defect::FragmentOverlooked, "answers to the last of many");
    assert_caught(Defect::PayloadMistaken, "of nothing");
    assert_caught_behind_a_router(Defect::PayloadMistaken, "an answer to request");
}

#[test]
fn fragments_that_get_lost_or_doubled_on_the_way_out_are_caught() {
    assert_caught(Defect::FragmentForgotten, "echoes are missing");
    assert_caught_behind_a_router(Defect::FragmentForgotten, "answers to the last of many");
    assert_caught_behind_a_router(Defect::FragmentLeaked, "neither free nor waiting");
    assert_caught(Defect::FragmentSentTwice, "fragments held at the end");
}

#[test]
fn fragments_that_say_that_they_belong_elsewhere_are_caught() {
    assert_caught(Defect::FragmentMisplaced, "echoes are missing");
    assert_caught_behind_a_router(Defect::FragmentMisplaced, "answers to the last of many");
    assert_caught(Defect::EndUntold, "beyond a multiple of eight");
    assert_caught_behind_a_router(Defect::EndUntold, "beyond a multiple of eight");
}
