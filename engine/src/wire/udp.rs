//! UDP (RFC 768).
//!
//! ```text
//!  | source port 2 | destination port 2 | length 2 | checksum 2 | payload
//! ```

use super::be16;
use super::checksum::{Sum, pseudo_header};
use super::ip::IpAddress;
use super::ipv4::UDP;
use crate::base::DropReason;

/// Bytes of a header.
pub const LEN: usize = 8;

/// Port of the sender.
#[inline]
#[must_use]
pub const fn source_port(header: &[u8; LEN]) -> u16 {
    be16(header, 0)
}

/// Port of the receiver.
#[inline]
#[must_use]
pub const fn destination_port(header: &[u8; LEN]) -> u16 {
    be16(header, 2)
}

/// Bytes of header and payload.
#[inline]
#[must_use]
pub const fn len(header: &[u8; LEN]) -> u16 {
    be16(header, 4)
}

/// The checksum field.
#[inline]
#[must_use]
pub const fn checksum(header: &[u8; LEN]) -> u16 {
    be16(header, 6)
}

/// A received datagram; bytes behind its length are cut off.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
    datagram: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the length.
    ///
    /// # Errors
    /// [`DropReason::UdpTruncated`] or [`DropReason::UdpLength`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<LEN>().ok_or(DropReason::UdpTruncated)?;
        let len = usize::from(len(header));
        let datagram = bytes.get(..len).filter(|_| len >= LEN).ok_or(DropReason::UdpLength)?;
        Ok(Self { header, datagram })
    }

    /// Port of the sender; zero if it expects no reply.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        source_port(self.header)
    }

    /// Port of the receiver.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        destination_port(self.header)
    }

    /// The checksum field; zero if the sender made none.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        checksum(self.header)
    }

    /// Whether the checksum is right for these addresses.
    #[inline]
    #[must_use]
    pub fn checksum_is_valid(&self, source: IpAddress, destination: IpAddress) -> bool {
        pseudo_header(source, destination, UDP, self.datagram.len() as u16).add_bytes(self.datagram).is_valid()
    }

    /// Header and payload.
    #[inline]
    #[must_use]
    pub const fn datagram(&self) -> &'a [u8] {
        self.datagram
    }

    /// What the datagram carries.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.datagram.get(LEN..).unwrap_or_default()
    }
}

/// A header to send.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Address and port of the sender.
    pub source: (IpAddress, u16),
    /// Address and port of the receiver.
    pub destination: (IpAddress, u16),
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl Header {
    /// Writes the header with its checksum; `payload` is the sum of the bytes behind it.
    #[inline]
    pub fn write(&self, out: &mut [u8; LEN], payload: Sum) {
        let sum = payload.add_addresses([self.source.0, self.destination.0]);
        write(out, (self.source.1, self.destination.1), self.payload_len, sum);
    }
}

/// Writes a header with its checksum; `sum` is that of the payload and of the addresses, and `ports` are those of sender and
/// receiver.
#[inline]
pub fn write(out: &mut [u8; LEN], ports: (u16, u16), payload_len: u16, sum: Sum) {
    let len = payload_len + LEN as u16;
    let sum = sum.add_values([u16::from(UDP), len, ports.0, ports.1, len]);
    // RFC 768: if the computed checksum is zero, it is transmitted as all ones.
    let checksum = match sum.checksum() {
        0 => 0xffff,
        checksum => checksum,
    };
    out[..2].copy_from_slice(&ports.0.to_be_bytes());
    out[2..4].copy_from_slice(&ports.1.to_be_bytes());
    out[4..6].copy_from_slice(&len.to_be_bytes());
    out[6..].copy_from_slice(&checksum.to_be_bytes());
}

/// Makes the header of a datagram that of one with the same payload, between the same ends, the other way: its checksum is
/// the same.
#[inline(always)]
pub fn turn_round(header: &mut [u8; LEN]) {
    let [a, b, c, d, ..] = *header;
    header[..4].copy_from_slice(&[c, d, a, b]);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2));

    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut header = [0; LEN];
        let fields = Header { source: (A, 4000), destination: (B, 7), payload_len: payload.len() as u16 };
        fields.write(&mut header, Sum::default().add_bytes(payload));
        [&header[..], payload].concat()
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        let bytes = datagram(b"hello");
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.source_port(), packet.destination_port(), packet.payload()), (4000, 7, &b"hello"[..]));
        assert!(packet.checksum_is_valid(A, B));
        assert!(!packet.checksum_is_valid(A, A));
    }

    #[test]
    fn a_checksum_of_zero_goes_out_as_all_ones() {
        // Of all two-byte payloads exactly one makes the sum come out so.
        let zero = (0..=u16::MAX).filter(|value| {
            let bytes = datagram(&value.to_be_bytes());
            let packet = Packet::parse(&bytes).unwrap();
            assert_ne!(packet.checksum(), 0);
            packet.checksum() == 0xffff && packet.checksum_is_valid(A, B)
        });
        assert_eq!(zero.count(), 1);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let good = datagram(b"hello");
        for len in 0..LEN {
            assert_eq!(Packet::parse(&good[..len]).unwrap_err(), DropReason::UdpTruncated);
        }
        for (length, ok) in [(0, false), (7, false), (8, true), (13, true), (14, false)] {
            let mut bytes = good.clone();
            bytes[5] = length;
            assert_eq!(Packet::parse(&bytes).is_ok(), ok, "{length}");
        }
        let padded = [good, vec![0; 9]].concat();
        assert_eq!(Packet::parse(&padded).unwrap().payload(), b"hello");
    }
}
