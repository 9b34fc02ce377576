//! Which long packets we sent lately: the proof that whoever says that one was too long has seen it, or was told of it by
//! who has.
//!
//! Anybody can write an ICMP error about a datagram of ours, and UDP has no sequence number to check it by. RFC 8085, section
//! 5.2: applications SHOULD appropriately validate the payload of ICMP messages to ensure these are received in response to
//! transmitted traffic. So what such an error quotes has to have been sent: to that destination, by these ports, and longer
//! than is said to fit.

use std::hash::Hasher;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::base::Instant;
use crate::wire::ip::IpAddress;
use crate::wire::{ipv4, ipv6};

use super::path_mtu::least_believed;

/// Places, and the bits that number them: 128 KiB of a worker. Of 1,000 long packets that are under way at a time, one in
/// eight loses its place to another before the error about it comes; the next packet to that destination has as good a
/// chance.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 12;
/// For how long a packet is remembered, which is more than packets and errors about them spend on any way.
const MEMORY: Duration = Duration::from_secs(10);

/// All of it, as that costs less than a hash that nobody can forge.
#[derive(Clone, Copy, Debug)]
struct Place {
    destination: IpAddress,
    at: Instant,
    mark: u32,
    /// Of the packet, bytes; zero where none was sent.
    len: u16,
    protocol: u8,
}

// Two to a cache line, none in two of them.
const _: () = assert!(size_of::<Place>() == 32);

const EMPTY: Place = Place { destination: IpAddress::NONE, at: Instant::ZERO, mark: 0, len: 0, protocol: 0 };

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
    /// Odd, so that no bit of a factor is lost.
    key: [u64; 4],
}

impl SentLately {
    /// Nothing was sent yet. `key` keys the hash: it should be unpredictable.
    #[must_use]
    pub fn new(key: [u64; 2]) -> Self {
        let word = |n: u64| {
            let mut hasher = SipHasher13::new_with_keys(key[0], key[1]);
            hasher.write(b"sent lately");
            hasher.write_u64(n);
            hasher.finish() | 1
        };
        Self { places: Box::new([EMPTY; PLACES]), key: [0, 1, 2, 3].map(word) }
    }

    /// Takes note of an IP packet of so many bytes, if any path could be too narrow for it.
    #[inline(always)]
    pub fn note(&mut self, flow: impl FnOnce() -> Flow, is_v4: bool, len: usize, now: Instant) {
        if len > usize::from(least_believed(is_v4)) {
            let flow @ Flow { destination, protocol, mark } = flow();
            let len = u16::try_from(len).unwrap_or(u16::MAX);
            self.places[self.index(&flow)] = Place { destination, at: now, mark, len, protocol };
        }
    }

    /// Whether a packet of a flow was sent lately that was longer than `mtu` bytes.
    #[must_use]
    pub fn knows(&self, flow: &Flow, mtu: u16, now: Instant) -> bool {
        let Place { destination, at, mark, len, protocol } = self.places[self.index(flow)];
        Flow { destination, protocol, mark } == *flow && len > mtu && now.since(at) <= MEMORY
    }

    /// The place of a flow, by multiplications with numbers that nobody knows, as this is a part of the way of long answers.
    /// After the first ones, flows that are numbered one by one lie evenly spaced, for some numbers on a few places only;
    /// the last one scatters them. Nobody sees a place, so that nobody can learn the numbers from them; and who had two
    /// flows meet would have one packet forgotten, and prove nothing.
    #[inline]
    fn index(&self, flow: &Flow) -> usize {
        let (bits, [a, b, c, d]) = (flow.destination.to_bits(), self.key);
        let sum = ((bits >> 64) as u64).wrapping_mul(a).wrapping_add((bits as u64).wrapping_mul(b));
        let sum = sum.wrapping_add(u64::from(flow.mark).wrapping_mul(c));
        ((sum ^ sum >> 32).wrapping_mul(d) >> (u64::BITS - PLACE_BITS)) as usize
    }
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

    /// Whatever the numbers are that choose places, and whatever it is that tells the flows apart.
    #[test]
    fn a_thousand_flows_at_a_time_are_nearly_all_known() {
        let v4 = |n: u32| IpAddress::v4((0x0a00_0000 + n).into());
        let v6 = |upper: u32, lower: u32| IpAddress::v6((u128::from(upper) << 64 | u128::from(lower)).into());
        let flow = |destination, mark| Flow { destination, protocol: ipv4::UDP, mark };
        let kinds: [(bool, &dyn Fn(u32) -> Flow); 5] = [
            (true, &|n| flow(v4(n), 9)),
            (true, &|n| flow(FAR, 9 << 16 | n)),
            (true, &|n| flow(v4(n % 30), (n / 30) << 16 | 9)),
            (false, &|n| flow(v6(0x2001_0db8, n), 9)),
            (false, &|n| flow(v6(n << 8, 1), 9)),
        ];
        for (is_v4, flow) in kinds {
            for key in 0..16 {
                let mut sent = SentLately::new([key, 2]);
                (0..1000).for_each(|n| sent.note(|| flow(n), is_v4, 1400, at(1)));
                let known = (0..1000).filter(|&n| sent.knows(&flow(n), 552, at(1))).count();
                assert!(known > 850, "{known} of 1,000, {:?} the first", flow(0));
            }
        }
    }
}
