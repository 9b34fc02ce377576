//! What a router does with a packet that is too long for the next link.

use std::net::IpAddr;

use super::frames::{self, Ip};

/// How it treats one that must not be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Says how long it may be (RFC 1191, section 4).
    Tells,
    /// Says of IPv4 only that it was too long, as before RFC 1191.
    Grumbles,
    /// Says nothing: a black hole (RFC 2923).
    Swallows,
    /// Cuts what of IPv4 must not be cut all the same, as some tunnels do. Of IPv6 it tells.
    Cuts,
}

impl Manner {
    /// What a router at `router` tells the sender of a packet that is too long for an MTU (RFC 1191, section 4; RFC 4443,
    /// section 3.2), if it drops it with a word.
    pub(super) fn report(self, router: IpAddr, packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
        let is_v4 = packet[0] >> 4 == 4;
        let told = match self {
            Self::Swallows => return None,
            // RFC 4443, section 3.2: Packet Too Big always says how long it may be.
            Self::Grumbles if is_v4 => 0,
            _ => mtu,
        };
        let (source, kind, code, quoted): (IpAddr, _, _, _) = if is_v4 {
            (<[u8; 4]>::try_from(&packet[12..16]).expect("four bytes").into(), 3, 4, 20 + 8)
        } else {
            (<[u8; 16]>::try_from(&packet[8..24]).expect("sixteen bytes").into(), 2, 0, 1280 - 40 - 8)
        };
        let quoted = &packet[..packet.len().min(quoted)];
        let body = [&[0, 0], &told.to_be_bytes()[..], quoted].concat();
        Some(frames::icmp_packet(Ip::new(0, router, source), kind, code, &body))
    }
}
