//! Which UDP datagrams are for an application (RFC 768, RFC 1122 section 4.1).

use crate::base::DropReason;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ip::IpAddress;
use crate::wire::ipv4::UDP;
use crate::wire::udp::Packet;

/// How the checksum of a received datagram is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumPolicy {
    /// It must be right, or absent (RFC 1122, section 4.1.3.4). For NICs.
    Verify,
    /// It may also be the one that Linux leaves for a NIC to complete: what arrives from a peer on the same
    /// machine (veth, virtio), where no wire could have damaged it.
    #[default]
    AcceptPartial,
    /// It is not looked at.
    Trust,
}

impl ChecksumPolicy {
    /// Whether a datagram with `checksum` in its header is taken. `pseudo` is the sum of its pseudo header, to
    /// which `datagram` adds header and payload if need be.
    #[inline(always)]
    pub fn accepts(self, checksum: u16, pseudo: Sum, datagram: impl FnOnce(Sum) -> Sum) -> bool {
        // RFC 768: an all zero transmitted checksum value means that the transmitter generated no checksum.
        checksum == 0 || self.accepts_present(checksum, pseudo, datagram)
    }

    /// The same for a protocol in which a checksum of zero is one like any other.
    #[inline(always)]
    pub fn accepts_present(self, checksum: u16, pseudo: Sum, segment: impl FnOnce(Sum) -> Sum) -> bool {
        self.judge(checksum, pseudo, segment).is_some()
    }

    /// The same, and what the checksum is then.
    #[inline(always)]
    fn judge(self, checksum: u16, pseudo: Sum, segment: impl FnOnce(Sum) -> Sum) -> Option<Checksum> {
        match self {
            Self::Trust => Some(Checksum::OfNothing),
            // What Linux leaves there for a NIC to complete: the sum of the pseudo header alone.
            Self::AcceptPartial if checksum == pseudo.fold() => Some(Checksum::OfNothing),
            Self::Verify | Self::AcceptPartial => segment(pseudo).is_valid().then_some(Checksum::OfTheWhole),
        }
    }
}

/// What a checksum that was taken says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// It is that of the whole datagram.
    OfTheWhole,
    /// Nothing that can be relied on.
    OfNothing,
}

/// The same as [`accepts`], and what the checksum says of a datagram that is taken.
#[inline(always)]
pub fn judge(
    policy: ChecksumPolicy,
    is_v4: bool,
    checksum: u16,
    pseudo: Sum,
    datagram: impl FnOnce(Sum) -> Sum,
) -> Option<Checksum> {
    match checksum {
        0 => is_v4.then_some(Checksum::OfNothing),
        checksum => policy.judge(checksum, pseudo, datagram),
    }
}

/// Whether a datagram's checksum is taken.
///
/// RFC 8200, section 8.1: unlike IPv4, the UDP checksum is not optional; receivers must discard packets with a zero
/// checksum.
#[inline(always)]
pub fn accepts(
    policy: ChecksumPolicy,
    is_v4: bool,
    checksum: u16,
    pseudo: Sum,
    datagram: impl FnOnce(Sum) -> Sum,
) -> bool {
    judge(policy, is_v4, checksum, pseudo, datagram).is_some()
}

/// The UDP ports that an application listens on.
#[derive(Clone, Debug)]
pub struct Ports(Box<[u64; 1024]>);

impl Ports {
    /// A set of ports.
    #[must_use]
    pub fn new(ports: impl IntoIterator<Item = u16>) -> Self {
        let mut bits = Box::new([0; 1024]);
        for port in ports {
            bits[usize::from(port >> 6)] |= 1 << (port & 63);
        }
        Self(bits)
    }

    /// Whether somebody listens on the port.
    #[inline]
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        // The index has ten bits, so it lies within the 1,024 words.
        self.0[usize::from(port >> 6)] >> (port & 63) & 1 == 1
    }
}

/// Checks that a datagram is intact and that somebody listens.
///
/// # Errors
/// [`DropReason::UdpChecksum`] or [`DropReason::UdpPortClosed`].
#[inline]
pub fn accept(
    packet: &Packet<'_>,
    source: IpAddress,
    destination: IpAddress,
    policy: ChecksumPolicy,
    ports: &Ports,
) -> Result<(), DropReason> {
    let pseudo = pseudo_header(source, destination, UDP, packet.datagram().len() as u16);
    let whole = |pseudo: Sum| pseudo.add_bytes(packet.datagram());
    if !accepts(policy, source.is_v4(), packet.checksum(), pseudo, whole) {
        return Err(DropReason::UdpChecksum);
    }
    if ports.contains(packet.destination_port()) { Ok(()) } else { Err(DropReason::UdpPortClosed) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::udp::{Header, LEN};

    const A: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2));

    fn verdict(port: u16, checksum: Option<u16>, policy: ChecksumPolicy) -> Result<(), DropReason> {
        let mut bytes = [0; LEN];
        let header = Header { source: (A, 9), destination: (B, port), payload_len: 0 };
        header.write(&mut bytes, Sum::default());
        if let Some(checksum) = checksum {
            bytes[6..].copy_from_slice(&checksum.to_be_bytes());
        }
        accept(&Packet::parse(&bytes).unwrap(), A, B, policy, &Ports::new([7]))
    }

    #[test]
    fn each_policy_takes_what_it_says() {
        use ChecksumPolicy::{AcceptPartial, Trust, Verify};
        let partial = Some(pseudo_header(A, B, UDP, LEN as u16).fold());
        let wrong = Err(DropReason::UdpChecksum);
        let table = [
            (None, [Ok(()), Ok(()), Ok(())]),
            (Some(0), [Ok(()), Ok(()), Ok(())]),
            (partial, [wrong, Ok(()), Ok(())]),
            (Some(0x1234), [wrong, wrong, Ok(())]),
        ];
        for (checksum, expected) in table {
            assert_eq!([Verify, AcceptPartial, Trust].map(|policy| verdict(7, checksum, policy)), expected);
        }
    }

    #[test]
    fn exactly_the_ports_named_are_open() {
        let ports = Ports::new([0, 7, 63, 64, 65535]);
        assert_eq!((0..=u16::MAX).filter(|&port| ports.contains(port)).collect::<Vec<_>>(), [0, 7, 63, 64, 65535]);
        assert_eq!(verdict(8, None, ChecksumPolicy::Verify), Err(DropReason::UdpPortClosed));
    }
}
