//! What is on the streams: every byte says by which connection, which way and at which place it was sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::super::rng::hash;
use super::super::scenario::{CLIENT, CLIENT_MAC, CLIENT_V6, SERVER, SERVER_MAC, SERVER_V6, STRANGER, STRANGER_V6};
use barewire::wire::ethernet::Mac;

/// Port on which whatever comes in goes back.
pub const ECHO: u16 = 7;
/// Port on which both sides send what they like.
pub const TALK: u16 = 9;

/// The version of IP that the hosts speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The address of somebody else on the link.
    #[must_use]
    pub const fn stranger(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(STRANGER),
            Self::V6 => IpAddr::V6(STRANGER_V6),
        }
    }
}

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The one whose addresses are the client's.
    Near = 0,
    /// The one whose addresses are the server's.
    Far = 1,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }

    /// Its IPv4 address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Near => CLIENT,
            Self::Far => SERVER,
        }
    }

    /// Its address of a version of IP.
    #[must_use]
    pub const fn address_of(self, family: Family) -> IpAddr {
        match (family, self) {
            (Family::V4, _) => IpAddr::V4(self.address()),
            (Family::V6, Self::Near) => IpAddr::V6(CLIENT_V6),
            (Family::V6, Self::Far) => IpAddr::V6(SERVER_V6),
        }
    }

    /// Its MAC address.
    #[must_use]
    pub const fn mac(self) -> Mac {
        match self {
            Self::Near => CLIENT_MAC,
            Self::Far => SERVER_MAC,
        }
    }

    /// What messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }

    /// Whether it sends from this address.
    #[must_use]
    pub fn has(self, address: IpAddr) -> bool {
        [Family::V4, Family::V6].into_iter().any(|family| self.address_of(family) == address)
    }
}

/// A connection, by its ports at either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Port of the near side.
    pub near: u16,
    /// Port of the far side.
    pub far: u16,
}

impl Flow {
    /// The connection that `side` has from port `local` to port `remote`.
    #[must_use]
    pub const fn seen_by(side: Side, local: u16, remote: u16) -> Self {
        match side {
            Side::Near => Self { near: local, far: remote },
            Side::Far => Self { near: remote, far: local },
        }
    }

    /// The same from a connection's two ends.
    #[must_use]
    pub const fn between(side: Side, local: &SocketAddr, peer: &SocketAddr) -> Self {
        Self::seen_by(side, local.port(), peer.port())
    }

    /// The port of a side.
    #[must_use]
    pub const fn port(self, side: Side) -> u16 {
        match side {
            Side::Near => self.near,
            Side::Far => self.far,
        }
    }

    /// The side that sends back what it receives, if there is one.
    #[must_use]
    pub const fn echo(self) -> Option<Side> {
        match (self.near, self.far) {
            (ECHO, _) => Some(Side::Near),
            (_, ECHO) => Some(Side::Far),
            _ => None,
        }
    }

    /// What the plans and the bytes of one direction are drawn from.
    #[must_use]
    pub fn key(self, from: Side) -> u64 {
        // What an echo sends is what the other side sent.
        let origin = if self.echo() == Some(from) { from.other() } else { from };
        hash(origin as u64, &(u32::from(self.near) << 16 | u32::from(self.far)).to_le_bytes())
    }
}

/// Eight bytes of a stream.
const fn word(key: u64, at: u64) -> [u8; 8] {
    let mut z = key ^ at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 29)).to_le_bytes()
}

/// Writes the part of a stream that begins at its byte number `at`.
pub fn write(key: u64, at: u64, out: &mut [u8]) {
    let mut place = at;
    let mut rest = out;
    while !rest.is_empty() {
        let (bytes, skip) = (word(key, place / 8), (place % 8) as usize);
        let len = rest.len().min(8 - skip);
        let (now, later) = rest.split_at_mut(len);
        now.copy_from_slice(&bytes[skip..skip + len]);
        (rest, place) = (later, place + len as u64);
    }
}

/// Where bytes are not what the stream has from its byte number `at` on, if anywhere.
#[must_use]
pub fn differs(key: u64, at: u64, bytes: &[u8]) -> Option<u64> {
    let mut place = at;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (right, skip) = (word(key, place / 8), (place % 8) as usize);
        let len = rest.len().min(8 - skip);
        let (now, later) = rest.split_at(len);
        if now != &right[skip..skip + len] {
            return Some(place);
        }
        (rest, place) = (later, place + len as u64);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_where_they_belong() {
        let (key, mut whole) = (Flow { near: 40_000, far: TALK }.key(Side::Near), [0; 1000]);
        write(key, 0, &mut whole);
        for at in 0..100 {
            let mut part = [0; 77];
            write(key, at, &mut part);
            assert_eq!(part[..], whole[at as usize..][..77]);
            assert_eq!(differs(key, at, &part), None);
            assert!(differs(key, at + 1, &part).is_some());
            part[70] ^= 1;
            assert_eq!(differs(key, at, &part).map(|place| place / 8), Some((at + 70) / 8));
        }
    }

    #[test]
    fn an_echo_sends_what_the_other_side_sent() {
        let echoed = Flow { near: 40_000, far: ECHO };
        assert_eq!(echoed.key(Side::Near), echoed.key(Side::Far));
        let spoken = Flow { near: 40_000, far: TALK };
        assert_ne!(spoken.key(Side::Near), spoken.key(Side::Far));
        assert_ne!(spoken.key(Side::Near), echoed.key(Side::Near));
    }
}
