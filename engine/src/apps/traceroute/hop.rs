//! What is found out about a hop, and how answers are read.

use std::net::IpAddr;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::app::IcmpError;
use crate::wire::{icmpv4, icmpv6, ipv6};

/// Probes of a hop at most.
pub const MAX_PROBES: usize = 10;

/// MTUs that links have had (RFC 1191, section 7.1; 65,535 and what no longer exists left out), and that of Ethernet with
/// PPPoE. A router that does not say what it can carry is tried with the next smaller one.
const PLATEAUS: [u16; 9] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];
/// The least that a link of IPv4 can carry (RFC 791, section 3.2).
const MIN_MTU_V4: u16 = 68;

/// A hop of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The hop limit that its probes had.
    pub number: u8,
    /// What became of each probe.
    pub findings: ArrayVec<Finding, MAX_PROBES>,
    /// What the links up to there can carry, bytes with the IP header, if that was asked for and is known.
    pub mtu: Option<u16>,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No answer came in time.
    Silence,
    /// There was an answer.
    Answer {
        /// Who sent it.
        source: IpAddr,
        /// Time since the probe.
        round_trip: Duration,
        /// What it says.
        outcome: Outcome,
    },
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The probe would have gone on.
    OnTheWay,
    /// It arrived.
    Reached,
    /// No way leads to the network.
    NetworkUnreachable,
    /// The host is not there.
    HostUnreachable,
    /// The host does not speak the probe's protocol.
    ProtocolUnreachable,
    /// The host says that nobody listens, and is not the one that was asked.
    PortUnreachable,
    /// The way is closed by those who run it.
    Prohibited,
    /// The probe is too long for the next link.
    TooLong,
    /// The way that the source prescribed cannot be gone.
    SourceRouteFailed,
    /// Another reason why it is unreachable, by its code.
    Unreachable(u8),
    /// The probe's header was not understood.
    ParameterProblem,
}

impl Outcome {
    /// What stands behind the time, as traceroute(8) has it; a code stands for itself.
    #[must_use]
    pub const fn mark(self) -> &'static str {
        match self {
            Self::OnTheWay | Self::Reached | Self::PortUnreachable => "",
            Self::NetworkUnreachable => "!N",
            Self::HostUnreachable => "!H",
            Self::ProtocolUnreachable => "!P",
            Self::Prohibited => "!X",
            Self::TooLong => "!F",
            Self::SourceRouteFailed => "!S",
            Self::Unreachable(_) => "!U",
            Self::ParameterProblem => "!B",
        }
    }
}

/// What an answer to a probe says: an error, or the reply to an echo request, which is none.
pub(super) fn verdict(error: Option<IcmpError>, from_destination: bool, is_v4: bool) -> Outcome {
    match error {
        None => Outcome::Reached,
        Some(IcmpError::TimeExceeded { .. }) => Outcome::OnTheWay,
        Some(IcmpError::TooLong { .. }) => Outcome::TooLong,
        Some(IcmpError::ParameterProblem { code, .. }) if !is_v4 && code == icmpv6::UNKNOWN_NEXT_HEADER => {
            Outcome::ProtocolUnreachable
        }
        Some(IcmpError::ParameterProblem { .. }) => Outcome::ParameterProblem,
        Some(IcmpError::Unreachable { code }) => match unreachable(code, is_v4) {
            Outcome::PortUnreachable if from_destination => Outcome::Reached,
            outcome => outcome,
        },
    }
}

/// RFC 1122, section 3.2.2.1 and RFC 1812, section 5.2.7.1; RFC 4443, section 3.1.
const fn unreachable(code: u8, is_v4: bool) -> Outcome {
    match (code, is_v4) {
        (0 | 6 | 11, true) | (icmpv6::NO_ROUTE | icmpv6::REJECT_ROUTE, false) => Outcome::NetworkUnreachable,
        (icmpv4::HOST_UNREACHABLE | 7 | 12, true) | (icmpv6::ADDRESS_UNREACHABLE | icmpv6::BEYOND_SCOPE, false) => {
            Outcome::HostUnreachable
        }
        (icmpv4::PROTOCOL_UNREACHABLE, true) => Outcome::ProtocolUnreachable,
        (icmpv4::PORT_UNREACHABLE, true) | (icmpv6::PORT_UNREACHABLE, false) => Outcome::PortUnreachable,
        (5, true) | (icmpv6::SOURCE_ROUTE_ERROR, false) => Outcome::SourceRouteFailed,
        (9 | 10 | 13, true) | (icmpv6::PROHIBITED | icmpv6::SOURCE_POLICY, false) => Outcome::Prohibited,
        _ => Outcome::Unreachable(code),
    }
}

/// What to try after a packet of `len` bytes was too long for a link that is said to carry `mtu`; `None` if that cannot be.
pub(super) fn shorter(len: u16, mtu: u32, is_v4: bool) -> Option<u16> {
    // RFC 8200, section 5: every link of IPv6 carries 1,280 bytes.
    let least = if is_v4 { MIN_MTU_V4 } else { ipv6::MIN_MTU as u16 };
    let told = u16::try_from(mtu).unwrap_or(u16::MAX);
    let next = match told {
        0 => PLATEAUS.into_iter().find(|plateau| *plateau < len).unwrap_or(least),
        told => told,
    };
    Some(next.max(least)).filter(|next| *next < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_by_the_version_of_ip() {
        let of = |code, is_v4| verdict(Some(IcmpError::Unreachable { code }), true, is_v4);
        let v4 = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 13].map(|code| of(code, true).mark());
        assert_eq!(v4, ["!N", "!H", "!P", "", "!S", "!N", "!H", "!U", "!X", "!X", "!X"]);
        let v6 = [0, 1, 2, 3, 4, 5, 6].map(|code| of(code, false).mark());
        assert_eq!(v6, ["!N", "!X", "!H", "!H", "", "!X", "!N"]);
        assert_eq!(
            [of(3, true), of(4, false), of(4, true)],
            [Outcome::Reached, Outcome::Reached, Outcome::Unreachable(4)]
        );
    }

    #[test]
    fn only_the_destination_says_that_a_probe_arrived() {
        let closed = Some(IcmpError::Unreachable { code: icmpv4::PORT_UNREACHABLE });
        assert_eq!(verdict(closed, false, true), Outcome::PortUnreachable);
        let unknown = IcmpError::ParameterProblem { code: icmpv6::UNKNOWN_NEXT_HEADER, pointer: 6 };
        assert_eq!(verdict(Some(unknown), true, false).mark(), "!P");
        assert_eq!(verdict(Some(unknown), true, true).mark(), "!B");
        assert_eq!(verdict(Some(IcmpError::TimeExceeded { code: 0 }), true, true), Outcome::OnTheWay);
    }

    #[test]
    fn packets_only_ever_get_shorter_and_not_shorter_than_links_carry() {
        assert_eq!(shorter(1500, 1400, true), Some(1400));
        assert_eq!([shorter(1500, 1500, true), shorter(1500, 9000, true), shorter(1500, 70_000, false)], [None; 3]);
        assert_eq!(
            [shorter(1500, 0, true), shorter(1492, 0, true), shorter(296, 0, true)],
            [Some(1492), Some(1006), Some(68)]
        );
        assert_eq!([shorter(1500, 40, true), shorter(68, 0, true)], [Some(68), None]);
        assert_eq!([shorter(1500, 600, false), shorter(1280, 600, false)], [Some(1280), None]);
    }
}
