//! Which long packets we sent lately: the proof that whoever says that one was too long has seen it, or was told of it by
//! who has.
//!
//! Anybody can write an ICMP error about a datagram of ours, and UDP has no sequence number to check it by. RFC 8085, section
//! 5.2: applications SHOULD appropriately validate the payload of ICMP messages to ensure these are received in response to
//! transmitted traffic. So what such an error quotes has to have been sent: to that destination, by these ports, and longer
//! than is said to fit.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ip::IpAddress;
use crate::wire::{ipv4, ipv6};

use super::path_mtu::least_believed;

/// Places: 64 KiB of a worker. Of 1,000 long packets that are under way at a time, one in eight loses its place to another
/// before the error about it comes; the next packet to that destination has as good a chance.
const PLACES: usize = 4096;
/// For how long a packet is remembered, in units of 2^20 ns: 10 s, which is more than packets and errors about them spend
/// on any way.
const MEMORY: u32 = 10_000;

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the flow; zero of none.
    hash: u64,
    at: u32,
    len: u16,
}

/// What tells flows to one destination apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who the packets are to.
    pub destination: IpAddress,
    /// What they carry.
    pub protocol: u8,
    /// The two ports of UDP; of an echo its identifier and sequence number.
    pub mark: u32,
}

impl Flow {
    /// The flow of packets that carry `transport`.
    #[must_use]
    pub fn new(destination: IpAddress, protocol: u8, transport: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = transport;
        let is_udp = protocol == ipv4::UDP;
        let mark = if is_udp { u32::from_be_bytes([a, b, c, d]) } else { u32::from_be_bytes([e, f, g, h]) };
        Self { destination, protocol, mark }
    }
}

/// A table of places that a keyed hash chooses among. A new packet takes the place of an old one.
#[derive(Debug)]
pub struct SentLately {
    places: Box<[Place; PLACES]>,
    key: [u64; 2],
}

impl SentLately {
    /// Nothing was sent yet. `key` keys the hash: it should be unpredictable.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        // A key that shows in hashes of this kind is nobody else's.
        let word = |n: u64| {
            let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
            hasher.write(b"sent lately");
            hasher.write_u64(n);
            hasher.finish()
        };
        Self { places: Box::new([Place { hash: 0, at: 0, len: 0 }; PLACES]), key: [word(0), word(1)] }
    }

    /// Takes note of an IP packet of so many bytes, if any path could be too narrow for it.
    #[inline]
    pub fn note(&mut self, flow: impl FnOnce() -> Flow, is_v4: bool, len: usize, now: Instant) {
        if len > usize::from(least_believed(is_v4)) {
            let hash = self.hash(&flow());
            self.places[index(hash)] = Place { hash, at: units(now), len: u16::try_from(len).unwrap_or(u16::MAX) };
        }
    }

    /// Whether a packet of a flow was sent lately that was longer than `mtu` bytes.
    #[must_use]
    pub fn knows(&self, flow: &Flow, mtu: u16, now: Instant) -> bool {
        let hash = self.hash(flow);
        let place = self.places[index(hash)];
        place.hash == hash && place.len > mtu && units(now).wrapping_sub(place.at) < MEMORY
    }

    /// Multiplications, as this is a part of the way of long answers. Nobody sees a hash, so that nobody can learn the key
    /// from them.
    #[inline]
    fn hash(&self, flow: &Flow) -> u64 {
        let (bits, [key, other]) = (flow.destination.to_bits(), self.key);
        let (mark, protocol) = (u64::from(flow.mark), u64::from(flow.protocol));
        if flow.destination.is_v4() {
            return fold((bits as u64) << 32 ^ mark ^ key, protocol ^ other);
        }
        let address = fold((bits >> 64) as u64 ^ key, bits as u64 ^ other);
        fold(address ^ key, protocol << 32 ^ mark ^ other)
    }
}

/// Both halves of a product.
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

#[inline]
const fn index(hash: u64) -> usize {
    hash as usize % PLACES
}

#[inline]
const fn units(now: Instant) -> u32 {
    (now.as_ns() >> 20) as u32
}

/// Bytes of the IP header that we write for a destination.
#[must_use]
pub const fn header_len(is_v4: bool) -> usize {
    if is_v4 { ipv4::LEN } else { ipv6::LEN }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    const FAR: IpAddress = IpAddress::v4(Ipv4Addr::new(192, 0, 2, 1));
    const UDP: [u8; 8] = [0, 7, 0x9c, 0x40, 1, 2, 3, 4];
    const ECHO: [u8; 8] = [0, 0, 9, 9, 0x12, 0x34, 0, 7];

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_packet_is_known_by_its_destination_and_ports_for_ten_seconds() {
        let flow = Flow::new(FAR, ipv4::UDP, UDP);
        let mut sent = SentLately::new([1, 2]);
        assert!(!sent.knows(&flow, 552, at(1)), "nothing was sent");
        sent.note(|| flow, true, 1400, at(1));
        assert_eq!([1, 11, 12].map(|second| sent.knows(&flow, 1399, at(second))), [true, true, false]);
        assert!(!sent.knows(&flow, 1400, at(1)), "it fits");
        let mut other = UDP;
        for at_byte in 0..4 {
            other[at_byte] ^= 1;
            assert!(!sent.knows(&Flow::new(FAR, ipv4::UDP, other), 552, at(1)), "other ports");
            other = UDP;
        }
        assert!(sent.knows(&Flow::new(FAR, ipv4::UDP, [0, 7, 0x9c, 0x40, 9, 9, 9, 9]), 552, at(1)));
        assert!(!sent.knows(&Flow { destination: IpAddress::v4(Ipv4Addr::new(192, 0, 2, 2)), ..flow }, 552, at(1)));
        assert!(!sent.knows(&Flow { protocol: ipv4::ICMP, ..flow }, 552, at(1)));
    }

    #[test]
    fn an_echo_is_known_by_its_numbers_and_not_by_its_checksum() {
        let mut sent = SentLately::new([1, 2]);
        sent.note(|| Flow::new(FAR, ipv4::ICMP, ECHO), true, 1400, at(1));
        let [mut other_checksum, mut other_number] = [ECHO; 2];
        (other_checksum[2], other_number[7]) = (1, 8);
        assert!(sent.knows(&Flow::new(FAR, ipv4::ICMP, other_checksum), 552, at(1)));
        assert!(!sent.knows(&Flow::new(FAR, ipv4::ICMP, other_number), 552, at(1)));
    }

    #[test]
    fn what_every_path_takes_is_not_noted() {
        let far_6 = IpAddress::v6(Ipv6Addr::LOCALHOST);
        for (destination, most) in [(FAR, 552), (far_6, 1280)] {
            let flow = Flow::new(destination, ipv4::UDP, UDP);
            let mut sent = SentLately::new([1, 2]);
            sent.note(|| flow, destination.is_v4(), most, at(1));
            assert!(!sent.knows(&flow, 0, at(1)));
            sent.note(|| flow, destination.is_v4(), most + 1, at(1));
            assert!(sent.knows(&flow, most as u16, at(1)));
        }
    }

    #[test]
    fn a_thousand_flows_at_a_time_are_nearly_all_known() {
        let mut sent = SentLately::new([1, 2]);
        let flow = |n: u32| Flow { destination: IpAddress::v4((0x0a00_0000 + n).into()), protocol: ipv4::UDP, mark: 9 };
        (0..1000).for_each(|n| sent.note(|| flow(n), true, 1400, at(1)));
        let known = (0..1000).filter(|&n| sent.knows(&flow(n), 552, at(1))).count();
        assert!(known > 850, "{known} of 1,000");
    }
}
