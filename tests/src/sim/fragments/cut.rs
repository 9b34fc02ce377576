//! Datagrams in fragments, as they should be and as they should not.

use std::net::IpAddr;

use super::super::frames::{self, Ip};
use super::super::rng::Rng;
use super::super::scenario::{PORT, SERVER, SERVER_V6};
use super::{PEER_PORT, sources};

/// A datagram that is about to be cut.
pub(super) struct Cut {
    source: IpAddr,
    identification: u32,
    /// The UDP datagram.
    bytes: Vec<u8>,
    /// Where the fragments begin and end, whether others follow, and what they hold if not what they should.
    pieces: Vec<(usize, Vec<u8>, bool)>,
}

impl Cut {
    /// Cuts a datagram at random, in up to 100 pieces.
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let source = rng.pick(&sources());
        let longest = if rng.chance(50) { 60_000 } else { 6_000 };
        let mut payload = vec![0; rng.scale(1, longest) as usize];
        rng.fill(&mut payload);
        let to: IpAddr = if source.is_ipv4() { SERVER.into() } else { SERVER_V6.into() };
        let mut bytes = frames::udp((source, PEER_PORT), (to, PORT), &payload, frames::UdpChecksum::Right);
        if rng.chance(100) {
            // Behind the end that its header tells.
            bytes.resize(bytes.len() + rng.scale(1, 4_000) as usize, 0xdd);
        }
        // So few that two datagrams may have the same.
        let identification = rng.below(200) as u32;
        let mut cut = Self { source, identification, bytes, pieces: Vec::new() };
        let least = (cut.bytes.len() / 90).max(8);
        let most = if rng.chance(300) { least.max(64) } else { 1_448 };
        let mut at = 0;
        while at < cut.bytes.len() {
            let len = (rng.between(least as u64, most.max(least) as u64) as usize + 7) & !7;
            let end = (at + len.min(1_448)).min(cut.bytes.len());
            cut.pieces.push((at, cut.bytes[at..end].to_vec(), end < cut.bytes.len()));
            at = end;
        }
        cut
    }

    /// Adds something that should not be.
    pub(super) fn spoil(&mut self, rng: &mut Rng) {
        let at = rng.below(self.pieces.len() as u64) as usize;
        let (mut start, mut bytes, mut more) = self.pieces[at].clone();
        match rng.below(10) {
            0 => more = !more,
            1 => start += 8,
            2 => drop(bytes.pop()),
            // Beyond the end of any datagram.
            3 => (start, bytes) = (65_528, vec![0; 16]),
            4 => bytes.clear(),
            // Tiny ones.
            5 => {
                bytes.truncate(8);
                more = true;
            }
            _ => {
                // Another cut, with the same bytes or others.
                start = rng.below(self.bytes.len() as u64) as usize & !7;
                let end = (start + (rng.between(8, 1_448) as usize & !7)).min(self.bytes.len());
                (bytes, more) = (self.bytes[start..end].to_vec(), end < self.bytes.len());
                if rng.chance(500) {
                    bytes.fill(0xee);
                }
            }
        }
        let at = rng.below(self.pieces.len() as u64 + 1) as usize;
        self.pieces.insert(at, (start, bytes, more));
    }

    pub(super) fn shuffle(&mut self, rng: &mut Rng) {
        for at in (1..self.pieces.len()).rev() {
            let other = rng.below(at as u64 + 1) as usize;
            self.pieces.swap(at, other);
        }
    }

    /// The packets.
    pub(super) fn packets(&self) -> impl Iterator<Item = Vec<u8>> {
        self.pieces.iter().map(|(start, bytes, more)| self.packet(*start, bytes, *more))
    }

    fn packet(&self, start: usize, bytes: &[u8], more: bool) -> Vec<u8> {
        let [a, b, c, d] = self.identification.to_be_bytes();
        if self.source.is_ipv4() {
            let fragment = (start / 8) as u16 | u16::from(more) << 13;
            let mut packet = frames::ipv4(Ip { fragment, ..Ip::new(frames::UDP, self.source, SERVER) }, &[], bytes);
            packet[4..6].copy_from_slice(&[c, d]);
            packet[10..12].fill(0);
            let checksum = frames::checksum(&packet[..20]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            return packet;
        }
        let [high, low] = (start as u16 | u16::from(more)).to_be_bytes();
        let payload = [&[frames::UDP, 0, high, low, a, b, c, d], bytes].concat();
        frames::ipv6(Ip::new(frames::FRAGMENT, self.source, SERVER_V6), &payload)
    }
}
