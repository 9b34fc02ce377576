//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  | htype 2 = 1 | ptype 2 = 0x0800 | hlen 1 = 6 | plen 1 = 4 | operation 2
//!  | sender mac 6 | sender ip 4 | target mac 6 | target ip 4 |
//! ```

use std::net::Ipv4Addr;

use super::ethernet::Mac;
use super::{be16, four};
use crate::base::DropReason;

/// Bytes of a packet.
pub const LEN: usize = 28;

const ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet, received or to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// MAC address of the sender.
    pub sender_mac: Mac,
    /// IPv4 address of the sender; zero in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// MAC address asked for or answered to.
    pub target_mac: Mac,
    /// IPv4 address asked for or answered to.
    pub target: Ipv4Addr,
}

impl Packet {
    /// Reads a packet; bytes after it are padding.
    ///
    /// # Errors
    /// [`DropReason::ArpMalformed`] when it is cut off, not about IPv4 over Ethernet, or neither request nor reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes = bytes.first_chunk::<LEN>().ok_or(DropReason::ArpMalformed)?;
        let operation = match be16(bytes, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(DropReason::ArpMalformed),
        };
        if bytes[..6] != ETHERNET_IPV4 {
            return Err(DropReason::ArpMalformed);
        }
        let mac = |at: usize| Mac(std::array::from_fn(|i| bytes[at + i]));
        let (sender_mac, target_mac) = (mac(8), mac(18));
        Ok(Self { operation, sender_mac, sender: four(bytes, 14).into(), target_mac, target: four(bytes, 24).into() })
    }

    /// Writes the packet.
    pub fn write(&self, out: &mut [u8; LEN]) {
        out[..6].copy_from_slice(&ETHERNET_IPV4);
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        out[6..8].copy_from_slice(&operation.to_be_bytes());
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Packet {
        Packet {
            operation: Operation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac::ZERO,
            target: Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        let mut bytes = [0; LEN];
        for operation in [Operation::Request, Operation::Reply] {
            let packet = Packet { operation, ..request() };
            packet.write(&mut bytes);
            assert_eq!(Packet::parse(&bytes), Ok(packet));
        }
    }

    #[test]
    fn what_is_not_ipv4_over_ethernet_is_malformed() {
        let mut bytes = [0; LEN];
        request().write(&mut bytes);
        for len in 0..LEN {
            assert_eq!(Packet::parse(&bytes[..len]), Err(DropReason::ArpMalformed), "{len}");
        }
        for at in 0..8 {
            let mut wrong = bytes;
            wrong[at] ^= 0x40;
            assert_eq!(Packet::parse(&wrong), Err(DropReason::ArpMalformed), "byte {at}");
        }
    }
}
