//! Reassembly as plain as it can be: bytes with holes, written from RFC 791, RFC 815 and RFC 8200 without the engine's code.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use barewire::base::Instant;

use super::super::frames;

/// Most bytes that the length field of either version can say.
const MAX_LEN: usize = 65_535;

/// What a packet is, as far as putting together goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece<'a> {
    key: (IpAddr, IpAddr, u32),
    protocol: u8,
    start: usize,
    more: bool,
    payload: &'a [u8],
}

/// A datagram that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: Vec<u8>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for others.
    Held,
    /// It is a datagram, or the last part of one that was missing.
    Whole(Whole),
    /// It is dropped.
    Dropped,
    /// It is dropped, and its sender may be told (RFC 8200, section 4.5).
    Wrong,
}

/// What there is of a datagram.
#[derive(Clone, Debug)]
struct Holes {
    bytes: Vec<Option<u8>>,
    /// Where the fragments lie that it was made of.
    spans: Vec<(usize, usize)>,
    total: Option<usize>,
    is_spoiled: bool,
    deadline: Instant,
}

/// Datagrams that are not whole.
#[derive(Debug)]
pub(super) struct Model {
    datagrams: BTreeMap<(IpAddr, IpAddr, u32), Holes>,
    timeouts: [Duration; 2],
}

impl Model {
    /// `timeouts` are those of IPv4 and IPv6.
    pub(super) const fn new(timeouts: [Duration; 2]) -> Self {
        Self { datagrams: BTreeMap::new(), timeouts }
    }

    /// Fragments that wait for others.
    pub(super) fn held(&self) -> usize {
        self.datagrams.values().map(|holes| holes.spans.len()).sum()
    }

    /// Takes a sound packet without options or extension headers but the fragment header.
    pub(super) fn take(&mut self, packet: &[u8], now: Instant) -> Fate {
        let Piece { key, protocol, start, more, payload } = read(packet);
        let (source, destination, _) = key;
        let is_v4 = source.is_ipv4();
        if !is_v4 && start == 0 && payload.len() < 8 {
            // RFC 7112, section 5: the first fragment holds all headers, that of UDP too.
            return Fate::Wrong;
        }
        if start == 0 && !more {
            // RFC 6946, section 4: in isolation from any other fragments.
            return Fate::Whole(Whole { source, destination, protocol, payload: payload.to_vec() });
        }
        if payload.is_empty() {
            return Fate::Dropped;
        }
        let wrong = if is_v4 { Fate::Dropped } else { Fate::Wrong };
        if more && !payload.len().is_multiple_of(8) {
            return wrong;
        }
        let end = start + payload.len();
        if end + if is_v4 { 20 } else { 0 } > MAX_LEN {
            // One that goes beyond any datagram's end takes the others with it; of IPv6 it alone is wrong.
            if is_v4 {
                self.datagrams.remove(&key);
            }
            return wrong;
        }
        let deadline = now + self.timeouts[usize::from(!is_v4)];
        let holes = self.datagrams.entry(key).or_insert_with(|| Holes {
            bytes: Vec::new(),
            spans: Vec::new(),
            total: None,
            is_spoiled: false,
            deadline,
        });
        let is_held = holes.take((start, end), more, payload, is_v4);
        if holes.is_spoiled && is_v4 {
            // Its identification may be another datagram's next.
            self.datagrams.remove(&key);
            return Fate::Dropped;
        }
        if !is_held {
            return Fate::Dropped;
        }
        let Some(payload) = holes.whole() else { return Fate::Held };
        self.datagrams.remove(&key);
        Fate::Whole(Whole { source, destination, protocol, payload })
    }

    /// Forgets what has run out of time: of how many the first fragment was there, so that its sender may be told.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut told = 0;
        self.datagrams.retain(|_, holes| {
            let is_over = holes.deadline <= now;
            told += usize::from(is_over && holes.bytes.first().is_some_and(Option::is_some));
            !is_over
        });
        told
    }
}

impl Holes {
    /// Takes a fragment in, or does not.
    fn take(&mut self, (start, end): (usize, usize), more: bool, payload: &[u8], is_v4: bool) -> bool {
        if self.is_spoiled {
            return false;
        }
        // There is one end, and all others are in front of it.
        let is_consistent = match (self.total, more) {
            (Some(total), true) => end < total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => end > self.bytes.len(),
        };
        let overlaps = self.spans.iter().any(|&(from, to)| from < end && start < to);
        let is_known = !is_v4 && self.spans.contains(&(start, end));
        if !is_consistent || !is_v4 && overlaps && !is_known {
            // RFC 8200, section 4.5: reassembly of that packet must be abandoned.
            self.bytes.clear();
            self.spans.clear();
            self.total = None;
            self.is_spoiled = true;
            return false;
        }
        if is_known {
            return false;
        }
        self.bytes.resize(self.bytes.len().max(end), None);
        let mut is_fresh = false;
        for (place, &byte) in self.bytes[start..end].iter_mut().zip(payload) {
            // Who brings a byte first is believed.
            is_fresh |= place.is_none();
            place.get_or_insert(byte);
        }
        if is_fresh {
            self.spans.push((start, end));
            self.total = self.total.or(if more { None } else { Some(end) });
        }
        is_fresh
    }

    fn whole(&self) -> Option<Vec<u8>> {
        self.total.filter(|&total| total == self.bytes.len())?;
        self.bytes.iter().copied().collect()
    }
}

fn read(packet: &[u8]) -> Piece<'_> {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    if packet[0] >> 4 == 4 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
        let (len, field) = (usize::from(word(2)), word(6));
        return Piece {
            key: (address(12), address(16), word(4).into()),
            protocol: packet[9],
            start: usize::from(field & 0x1fff) * 8,
            more: field & 0x2000 != 0,
            payload: &packet[20..len],
        };
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen bytes"));
    let (source, destination, end) = (address(8), address(24), 40 + usize::from(word(4)));
    if packet[6] != frames::FRAGMENT {
        let (key, payload) = ((source, destination, 0), &packet[40..end]);
        return Piece { key, protocol: packet[6], start: 0, more: false, payload };
    }
    let identification = u32::from_be_bytes([packet[44], packet[45], packet[46], packet[47]]);
    Piece {
        key: (source, destination, identification),
        protocol: packet[40],
        start: usize::from(word(42) & !7),
        more: packet[43] & 1 != 0,
        payload: &packet[48..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_with_a_hole_is_not_whole_and_the_first_to_bring_a_byte_is_believed() {
        let new =
            || Holes { bytes: Vec::new(), spans: Vec::new(), total: None, is_spoiled: false, deadline: Instant::ZERO };
        let mut holes = new();
        assert!(holes.take((16, 20), false, &[3; 4], true) && holes.whole().is_none());
        assert!(holes.take((0, 8), true, &[1; 8], true) && holes.whole().is_none());
        assert!(!holes.take((0, 8), true, &[9; 8], true), "nothing new");
        assert!(holes.take((0, 16), true, &[2; 16], true));
        assert_eq!(holes.whole(), Some([vec![1; 8], vec![2; 8], vec![3; 4]].concat()));
        let mut holes = new();
        assert!(holes.take((8, 24), true, &[1; 16], false));
        assert!(!holes.take((8, 24), true, &[1; 16], false) && !holes.is_spoiled);
        assert!(!holes.take((0, 16), true, &[1; 16], false) && holes.is_spoiled);
    }
}
