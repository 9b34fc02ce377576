//! Others on the link: a neighbor that answers for itself, moves and vanishes, and a liar who says where others are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire::base::Instant;
use barewire::wire::ethernet::Mac;

use super::rng::Rng;
use super::scenario::{STRANGER, STRANGER_MAC, STRANGER_V6};
use super::{frames, ndp};

/// Where the neighbor is when it is not where it was at first.
const MOVED_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x78]);
/// Where the liar says that others are. Nobody is there.
const LIARS_MAC: Mac = Mac([2, 0, 0, 0, 0, 0x79]);

/// How they behave. Chances are in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folk {
    /// Questions for the neighbor that it answers.
    pub answers: u32,
    /// For how long it stays where it is; 0 for ever.
    pub stays_ns: u64,
    /// Steps at which somebody lies.
    pub lies: u32,
}

impl Folk {
    /// Folk of a seed.
    pub(super) fn drawn(rng: &mut Rng) -> Self {
        let answers = rng.pick(&[0, 500, 1000, 1000]);
        let stays_ns = if rng.chance(500) { rng.scale(1_000_000_000, 100_000_000_000) } else { 0 };
        Self { answers, stays_ns, lies: if rng.chance(200) { rng.between(1, 50) as u32 } else { 0 } }
    }

    /// The neighbor's answer to a frame that a host with this MAC address sent, if it asks for it.
    pub(super) fn answer(&self, frame: &[u8], host: Mac, now: Instant, rng: &mut Rng) -> Option<Vec<u8>> {
        let is_elsewhere = now.as_ns().checked_div(self.stays_ns).is_some_and(|moves| moves % 2 == 1);
        let mac = if is_elsewhere { MOVED_MAC } else { STRANGER_MAC };
        let answer = match frame.get(12..14)? {
            [0x08, 0x06] if frame.get(38..42)? == STRANGER.octets() => {
                let asker = Ipv4Addr::from(*frame.get(28..32)?.first_chunk::<4>()?);
                let reply = frames::arp(2, (mac, STRANGER), (host, asker));
                frames::ethernet(host, mac, &[], frames::ARP, &reply)
            }
            [0x86, 0xdd] if frame.get(54) == Some(&ndp::SOLICITATION) && frame.get(62..78)? == STRANGER_V6.octets() => {
                let asker = Ipv6Addr::from(*frame.get(22..38)?.first_chunk::<16>()?);
                let flags = ndp::SOLICITED | if rng.chance(800) { ndp::OVERRIDE } else { 0 };
                frames::ethernet(host, mac, &[], frames::IPV6, &ndp::news(STRANGER_V6, asker, STRANGER_V6, flags, mac))
            }
            _ => return None,
        };
        rng.chance(self.answers).then_some(answer)
    }
}

/// What a liar tells a host about others on its link: the peer, somebody whom it may know, or somebody whom nobody asked for.
pub(super) fn lie(rng: &mut Rng, host: Mac, peer: IpAddr) -> Vec<u8> {
    let last = rng.between(0x80, 250) as u16;
    match peer {
        IpAddr::V4(peer) => {
            let about = rng.pick(&[peer, STRANGER, Ipv4Addr::new(10, 0, 0, last as u8)]);
            let to = rng.pick(&[host, Mac::BROADCAST]);
            let lie = frames::arp(rng.between(1, 2) as u16, (LIARS_MAC, about), (Mac::ZERO, about));
            frames::ethernet(to, LIARS_MAC, &[], frames::ARP, &lie)
        }
        IpAddr::V6(peer) => {
            let about = rng.pick(&[peer, STRANGER_V6, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)]);
            let flags = rng.pick(&[0, ndp::OVERRIDE, ndp::OVERRIDE]);
            let news = ndp::news(about, ndp::ALL_NODES, about, flags, LIARS_MAC);
            frames::ethernet(ndp::group_mac(ndp::ALL_NODES), LIARS_MAC, &[], frames::IPV6, &news)
        }
    }
}
