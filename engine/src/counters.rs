//! What the stack counts. Every counter means one thing and only ever grows.

use crate::base::{DropReason, UnsentReason};

/// Counters of one stack, in frames.
///
/// Two sums always hold, and the simulator asserts them every turn:
/// `received = delivered + sum(drops) + fragments held`, and
/// `originated = transmitted by the device + waiting for neighbors + in the burst + sum(unsent)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCounters {
    /// Frames taken from the device.
    pub received: u64,
    /// Frames that served their purpose here: given to an application, or to ARP or ICMP, or made part of a datagram.
    pub delivered: u64,
    /// Frames dropped, by [`DropReason`].
    pub drops: [u64; DropReason::COUNT],
    /// Frames built to be sent, answers included.
    pub originated: u64,
    /// Frames built but not sent, by [`UnsentReason`].
    pub unsent: [u64; UnsentReason::COUNT],
    /// Datagrams given to an application.
    pub udp_delivered: u64,
    /// Datagrams sent for an application.
    pub udp_originated: u64,
    /// Echo requests sent for an application.
    pub icmp_echoes_originated: u64,
    /// Echo replies, and errors about what an application sent, that it waited for.
    pub icmp_delivered: u64,
    /// Datagrams put together of fragments.
    pub datagrams_reassembled: u64,
    /// Fragments of IPv4 that overlapped others of their datagram.
    pub fragments_overlapping: u64,
    /// Datagrams sent in fragments.
    pub datagrams_fragmented: u64,
    /// Echo requests answered.
    pub icmp_echoes_answered: u64,
    /// ICMP errors sent.
    pub icmp_errors_originated: u64,
    /// ICMP errors that the rate limit held back.
    pub icmp_errors_suppressed: u64,
    /// ARP requests sent, probes and announcements included.
    pub arp_requests_originated: u64,
    /// ARP requests answered.
    pub arp_requests_answered: u64,
    /// Messages of neighbor discovery sent that answer nothing: solicitations, probes, announcements.
    pub ndp_messages_originated: u64,
    /// Neighbor solicitations answered.
    pub ndp_solicitations_answered: u64,
    /// Reports of our groups sent to routers.
    pub group_reports_originated: u64,
    /// Queries of routers for our groups.
    pub group_queries_heard: u64,
    /// Claims of an address of ours by other hosts.
    pub address_conflicts: u64,
}

impl Default for StackCounters {
    fn default() -> Self {
        Self {
            received: 0,
            delivered: 0,
            drops: [0; DropReason::COUNT],
            originated: 0,
            unsent: [0; UnsentReason::COUNT],
            udp_delivered: 0,
            udp_originated: 0,
            icmp_echoes_originated: 0,
            icmp_delivered: 0,
            datagrams_reassembled: 0,
            fragments_overlapping: 0,
            datagrams_fragmented: 0,
            icmp_echoes_answered: 0,
            icmp_errors_originated: 0,
            icmp_errors_suppressed: 0,
            arp_requests_originated: 0,
            arp_requests_answered: 0,
            ndp_messages_originated: 0,
            ndp_solicitations_answered: 0,
            group_reports_originated: 0,
            group_queries_heard: 0,
            address_conflicts: 0,
        }
    }
}

impl StackCounters {
    /// Counts a dropped frame.
    #[inline]
    pub const fn drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// Counts frames built but not sent.
    #[inline]
    pub const fn unsent(&mut self, reason: UnsentReason, frames: u64) {
        self.unsent[reason as usize] += frames;
    }
}
