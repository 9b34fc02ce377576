//! Headers as they are on the wire: no state, no I/O.
//!
//! Every file has the same shape. `Packet::parse(bytes)` checks all lengths once and gives a view whose
//! getters cannot fail, because it holds fixed-size arrays; where the bytes are wrong, the [`DropReason`]
//! says how. `Header { .. }.write(&mut [u8; LEN])` puts a header together. TCP's, whose
//! options vary in length, goes to a slice.
//!
//! [`DropReason`]: crate::base::DropReason

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmpv4;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod seq;
pub mod tcp;
pub mod udp;

/// Two bytes of a header, in network byte order.
#[inline]
pub(crate) const fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes of a header.
#[inline]
pub(crate) const fn four<const N: usize>(bytes: &[u8; N], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}
