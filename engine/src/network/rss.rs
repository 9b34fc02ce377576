//! Which receive queue a NIC gives a flow to: the Toeplitz hash of its addresses and ports (receive side scaling).
//!
//! A connection that we open should get its answers on the queue of the worker that opened it, so its source port is
//! chosen among those for which that is so.

use std::net::Ipv4Addr;
use std::sync::Arc;

/// Bytes of the hash's key that addresses and ports of IPv4 need: as many as the input has, and a word.
pub const KEY_LEN: usize = 16;
/// Bytes that are hashed: source and destination address, source and destination port.
const INPUT_LEN: usize = 12;

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
    pub fn receives(&self, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> bool {
        let hash = toeplitz(&self.rss.key, source, destination) as usize;
        let at = hash.checked_rem(self.rss.indirection.len());
        at.and_then(|at| self.rss.indirection.get(at)).is_none_or(|&queue| queue == self.queue)
    }
}

/// The Toeplitz hash (Microsoft, "RSS Hashing Types"; the ice and mlx5 drivers' documentation).
#[must_use]
pub fn toeplitz(key: &[u8; KEY_LEN], source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> u32 {
    let mut input = [0; INPUT_LEN];
    input[..4].copy_from_slice(&source.0.octets());
    input[4..8].copy_from_slice(&destination.0.octets());
    input[8..10].copy_from_slice(&source.1.to_be_bytes());
    input[10..].copy_from_slice(&destination.1.to_be_bytes());
    // The key as one number, whose upper word slides under the input bit by bit.
    let mut key = u128::from_be_bytes(*key);
    let mut hash = 0;
    for byte in input {
        for bit in (0..8).rev() {
            if byte >> bit & 1 == 1 {
                hash ^= (key >> 96) as u32;
            }
            key <<= 1;
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_LEN] =
        [0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0];

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
        let address = |(a, b, c, d)| Ipv4Addr::new(a, b, c, d);
        for (source, source_port, destination, destination_port, hash) in table {
            let got = toeplitz(&KEY, (address(source), source_port), (address(destination), destination_port));
            assert_eq!(got, hash);
        }
    }

    #[test]
    fn a_queue_receives_what_the_indirection_table_says() {
        let rss = Rss { key: KEY, indirection: vec![0, 1, 2, 3].into() };
        let (source, destination) = ((Ipv4Addr::new(66, 9, 149, 187), 2794), (Ipv4Addr::new(161, 142, 100, 80), 1766));
        let receives = |queue| OwnQueue { rss: rss.clone(), queue }.receives(source, destination);
        assert_eq!([0, 1, 2, 3].map(receives), [true, false, false, false]);
    }
}
