//! Which receive queue a NIC gives a flow to: the Toeplitz hash of its addresses and ports (receive side scaling).
//!
//! A connection that we open should get its answers on the queue of the worker that opened it, so its source port is
//! chosen among those for which that is so.

use std::sync::Arc;

use crate::wire::ip::IpAddress;

/// Bytes of the hash's key that addresses and ports of IPv6 need: as many as the input has, and a word. Those of IPv4 take
/// the start of it.
pub const KEY_LEN: usize = 40;

/// What the NIC was set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The start of the hash's key.
    pub key: [u8; KEY_LEN],
    /// Queue by the low bits of the hash.
    pub indirection: Arc<[u32]>,
}

/// A queue, and what is needed to know whether a flow is given to it.
#[derive(Clone, Debug)]
pub struct OwnQueue {
    /// What the NIC was set to.
    pub rss: Rss,
    /// The queue.
    pub queue: u32,
}

impl OwnQueue {
    /// Whether segments from `source` to `destination` come in on this queue.
    #[must_use]
    pub fn receives(&self, source: (IpAddress, u16), destination: (IpAddress, u16)) -> bool {
        let hash = toeplitz(&self.rss.key, source, destination) as usize;
        let at = hash.checked_rem(self.rss.indirection.len());
        at.and_then(|at| self.rss.indirection.get(at)).is_none_or(|&queue| queue == self.queue)
    }
}

/// The Toeplitz hash (Microsoft, "RSS Hashing Types"; the ice and mlx5 drivers' documentation).
#[must_use]
pub fn toeplitz(key: &[u8; KEY_LEN], source: (IpAddress, u16), destination: (IpAddress, u16)) -> u32 {
    let mut hash = Hash { key, bit: 0, value: 0 };
    // Source and destination address, source and destination port.
    for address in [source.0, destination.0] {
        match address.to_v4() {
            Some(v4) => hash.add(&v4.octets()),
            None => hash.add(address.octets()),
        }
    }
    hash.add(&source.1.to_be_bytes());
    hash.add(&destination.1.to_be_bytes());
    hash.value
}

/// The hash of what was added so far.
struct Hash<'a> {
    key: &'a [u8; KEY_LEN],
    /// Bits of input so far: the key's word that begins at this bit belongs to the next.
    bit: usize,
    value: u32,
}

impl Hash<'_> {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let word = self
                .key
                .get(self.bit / 8..)
                .and_then(<[u8]>::first_chunk::<5>)
                .map_or(0, |&[a, b, c, d, e]| u64::from_be_bytes([0, 0, 0, a, b, c, d, e]));
            for bit in 0..8 {
                if byte << bit & 0x80 != 0 {
                    self.value ^= (word >> (8 - bit)) as u32;
                }
            }
            self.bit += 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const KEY: [u8; KEY_LEN] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];

    /// The verification suite of the hash's author, "Verifying the RSS Hash Calculation", IPv4 with TCP.
    #[test]
    fn the_published_examples() {
        let table = [
            ((66, 9, 149, 187), 2794, (161, 142, 100, 80), 1766, 0x51cc_c178),
            ((199, 92, 111, 2), 14230, (65, 69, 140, 83), 4739, 0xc626_b0ea),
            ((24, 19, 198, 95), 12898, (12, 22, 207, 184), 38024, 0x5c2b_394a),
            ((38, 27, 205, 30), 48228, (209, 142, 163, 6), 2217, 0xafc7_327f),
            ((153, 39, 163, 191), 44251, (202, 188, 127, 2), 1303, 0x10e8_28a2),
        ];
        let address = |(a, b, c, d)| IpAddress::v4(Ipv4Addr::new(a, b, c, d));
        for (source, source_port, destination, destination_port, hash) in table {
            let got = toeplitz(&KEY, (address(source), source_port), (address(destination), destination_port));
            assert_eq!(got, hash);
        }
    }

    /// The same, IPv6 with TCP.
    #[test]
    fn the_published_examples_of_ipv6() {
        let table = [
            ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x4020_7d3d),
            ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0xdde5_1bbf),
            ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x02d1_feef),
        ];
        let address = |text: &str| IpAddress::v6(text.parse().unwrap());
        for (source, source_port, destination, destination_port, hash) in table {
            let got = toeplitz(&KEY, (address(source), source_port), (address(destination), destination_port));
            assert_eq!(got, hash);
        }
    }

    #[test]
    fn a_queue_receives_what_the_indirection_table_says() {
        let rss = Rss { key: KEY, indirection: vec![0, 1, 2, 3].into() };
        let (source, destination) =
            ((Ipv4Addr::new(66, 9, 149, 187).into(), 2794), (Ipv4Addr::new(161, 142, 100, 80).into(), 1766));
        let receives = |queue| OwnQueue { rss: rss.clone(), queue }.receives(source, destination);
        assert_eq!([0, 1, 2, 3].map(receives), [true, false, false, false]);
    }
}
