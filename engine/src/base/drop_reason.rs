//! The closed lists of what can become of a packet that goes no further.
//!
//! Each reason is the index of its counter, so that every packet is counted in exactly one place:
//! `received = delivered + sum of DropReason`, and `originated = transmitted + waiting + sum of UnsentReason`.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $text:literal])+ $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $text])+ $variant),+ }

        impl $name {
            /// Every reason, in the order of its counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Label of the reason in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }
        }
    };
}

reasons! {
    /// Why a received frame was dropped.
    DropReason {
        /// Shorter than an Ethernet header, or than the tags that it announces.
        FrameTooShort = "frame_too_short",
        /// Longer than the interface's MTU allows, or than what it carries can be.
        FrameTooLong = "frame_too_long",
        /// Spread over several chunks, of which the first does not hold all headers.
        HeadersSplit = "headers_split",
        /// Sent to the MAC address of another host.
        OtherDestinationMac = "other_destination_mac",
        /// Sent from a multicast MAC address, which no sender has.
        SourceMacInvalid = "source_mac_invalid",
        /// Tagged for a VLAN that is not ours.
        OtherVlan = "other_vlan",
        /// None of ARP, IPv4 and IPv6.
        EtherTypeUnknown = "ethertype_unknown",
        /// IPv6, which no address is configured for.
        Ipv6NotConfigured = "ipv6_not_configured",
        /// ARP that is truncated or not about IPv4 over Ethernet.
        ArpMalformed = "arp_malformed",
        /// ARP whose sender has no MAC address of its own: zero, multicast, or ours.
        ArpSenderInvalid = "arp_sender_invalid",
        /// ARP that claims an address of ours for another host (answered by the defence of RFC 5227).
        ArpConflict = "arp_conflict",
        /// ARP about other hosts' addresses that taught nothing.
        ArpNotForUs = "arp_not_for_us",
        /// Fewer bytes than an IPv4 header.
        Ipv4Truncated = "ipv4_truncated",
        /// Version field is not 4.
        Ipv4Version = "ipv4_version",
        /// Header length below 20 bytes or beyond the packet.
        Ipv4HeaderLength = "ipv4_header_length",
        /// Total length below the header length or beyond the frame.
        Ipv4TotalLength = "ipv4_total_length",
        /// Header checksum wrong.
        Ipv4Checksum = "ipv4_checksum",
        /// Source address that no host may send from: multicast, broadcast, loopback, zero, or our own.
        Ipv4SourceInvalid = "ipv4_source_invalid",
        /// Destination is not an address of ours.
        Ipv4OtherDestination = "ipv4_other_destination",
        /// Broadcast or multicast, which nobody here has asked for.
        Ipv4Broadcast = "ipv4_broadcast",
        /// Addressed to us alone, but in a frame to everybody (RFC 1122, section 3.3.6).
        Ipv4LinkBroadcast = "ipv4_link_broadcast",
        /// Destination is not an address of ours.
        Ipv6OtherDestination = "ipv6_other_destination",
        /// To a group that we are not in.
        Ipv6OtherGroup = "ipv6_other_group",
        /// Addressed to us alone, but in a frame to everybody.
        Ipv6LinkBroadcast = "ipv6_link_broadcast",
        /// Source address that no host may send from: unspecified, multicast, loopback, or our own.
        Ipv6SourceInvalid = "ipv6_source_invalid",
        /// Neighbor discovery about others' addresses that taught nothing.
        NdpNotForUs = "ndp_not_for_us",
        /// Neighbor discovery that asks nothing of a host: solicitations of routers, redirects.
        NdpIgnored = "ndp_ignored",
        /// Neighbor discovery that claims an address of ours for another host.
        NdpConflict = "ndp_conflict",
        /// Fewer bytes than an IPv6 header.
        Ipv6Truncated = "ipv6_truncated",
        /// Version field is not 6.
        Ipv6Version = "ipv6_version",
        /// Payload length beyond the frame.
        Ipv6PayloadLength = "ipv6_payload_length",
        /// An IPv4 address in an IPv6 header, as `::ffff:a.b.c.d`, which stands for no IPv6 host.
        Ipv6MappedAddress = "ipv6_mapped_address",
        /// An extension header that reaches beyond the packet.
        Ipv6ExtensionTruncated = "ipv6_extension_truncated",
        /// More extension headers than any use needs.
        Ipv6ExtensionsTooMany = "ipv6_extensions_too_many",
        /// Hop-by-hop options behind another extension header (answered with "parameter problem").
        Ipv6HopByHopMisplaced = "ipv6_hop_by_hop_misplaced",
        /// An IPv6 option that reaches beyond its header, or is not as long as its kind always is.
        Ipv6OptionMalformed = "ipv6_option_malformed",
        /// An IPv6 option that is unknown and may not be skipped (answered, if it asks for it).
        Ipv6OptionUnknown = "ipv6_option_unknown",
        /// A routing header that wants the packet sent on (answered with "parameter problem").
        Ipv6RoutingHeader = "ipv6_routing_header",
        /// An IPv6 fragment in whose place nothing of its length can be (answered with "parameter problem").
        Ipv6FragmentLength = "ipv6_fragment_length",
        /// A first fragment without all headers, which would go past filters (answered with "parameter problem").
        Ipv6FirstFragmentIncomplete = "ipv6_first_fragment_incomplete",
        /// An IPv6 packet that says to carry nothing.
        Ipv6NoNextHeader = "ipv6_no_next_header",
        /// A fragment without payload, or one that is not the last and no multiple of eight bytes long.
        FragmentMalformed = "fragment_malformed",
        /// A fragment that reaches beyond 65,535 bytes, and those that were held for the same datagram.
        FragmentTooLong = "fragment_too_long",
        /// A fragment all of whose bytes had arrived already.
        FragmentDuplicate = "fragment_duplicate",
        /// Fragments of a datagram of IPv6 two of which overlap.
        FragmentOverlap = "fragment_overlap",
        /// Fragments of a datagram that do not agree on where it ends.
        FragmentEnd = "fragment_end",
        /// Fragments of a datagram some of which say that congestion can be marked, and some that it cannot.
        FragmentEcn = "fragment_ecn",
        /// Fragments of a datagram that was in more pieces than are held of one.
        FragmentsTooMany = "fragments_too_many",
        /// Fragments of a datagram that alone takes more memory than its sender may take.
        FragmentNoMemory = "fragment_no_memory",
        /// A datagram that was put together and is a fragment again.
        FragmentNested = "fragment_nested",
        /// Fragments of a datagram that had to give way to a newer one.
        FragmentEvicted = "fragment_evicted",
        /// Fragments of a datagram whose other ones did not arrive in time.
        FragmentTimeout = "fragment_timeout",
        /// Our address is still being probed for duplicates.
        AddressTentative = "address_tentative",
        /// A protocol that nobody here speaks (answered with "protocol unreachable" within the rate limit).
        ProtocolUnknown = "protocol_unknown",
        /// ICMP shorter than its header.
        IcmpTruncated = "icmp_truncated",
        /// ICMP checksum wrong.
        IcmpChecksum = "icmp_checksum",
        /// ICMP of a type that asks nothing of us.
        IcmpIgnored = "icmp_ignored",
        /// Neighbor Discovery that came over a router: its hop limit is not 255.
        NdpHopLimit = "ndp_hop_limit",
        /// Neighbor Discovery in a fragment (RFC 6980).
        NdpFragment = "ndp_fragment",
        /// Neighbor Discovery that breaks a rule of RFC 4861 about what is valid.
        NdpMalformed = "ndp_malformed",
        /// Neighbor Discovery with a link-layer address that no host has: zero or a group.
        NdpMacInvalid = "ndp_mac_invalid",
        /// A query for listeners that breaks a rule of RFC 2710 or RFC 3810 about what is valid.
        MldMalformed = "mld_malformed",
        /// IGMP checksum wrong.
        IgmpChecksum = "igmp_checksum",
        /// A query for members that breaks a rule of RFC 2236 or RFC 3376 about what is valid.
        IgmpMalformed = "igmp_malformed",
        /// IGMP of a type that asks nothing of us.
        IgmpIgnored = "igmp_ignored",
        /// A copy of a frame to a group, for which no chunk of packet memory was free.
        CopyNoChunk = "copy_no_chunk",
        /// Fewer bytes than a UDP header.
        UdpTruncated = "udp_truncated",
        /// UDP length below 8 or beyond the IP payload.
        UdpLength = "udp_length",
        /// UDP checksum wrong.
        UdpChecksum = "udp_checksum",
        /// Nobody listens on the port (answered with "port unreachable" within the rate limit).
        UdpPortClosed = "udp_port_closed",
        /// Fewer bytes than a TCP header.
        TcpTruncated = "tcp_truncated",
        /// TCP data offset below 20 bytes or beyond the IP payload.
        TcpHeaderLength = "tcp_header_length",
        /// TCP checksum wrong.
        TcpChecksum = "tcp_checksum",
        /// TCP from or to port zero, which no connection has.
        TcpPortZero = "tcp_port_zero",
        /// TCP to several hosts at once, which no connection is.
        TcpToGroup = "tcp_to_group",
        /// A TCP segment for a port that nobody listens on (answered with a reset, unless it is one).
        TcpPortClosed = "tcp_port_closed",
        /// A TCP segment for a port that somebody listens on, which belongs to no connection and asks for none.
        TcpNoConnection = "tcp_no_connection",
        /// A connection request beyond the limit of connections.
        TcpConnectionsFull = "tcp_connections_full",
        /// A connection request in a flood of them, which is answered only when it comes again.
        TcpSynFlood = "tcp_syn_flood",
        /// A TCP segment no part of which lies in the receive window.
        TcpOutOfWindow = "tcp_out_of_window",
        /// A TCP segment whose text was all received before.
        TcpDuplicate = "tcp_duplicate",
        /// A TCP segment that acknowledges what was never sent, or what was acknowledged too long ago.
        TcpBadAck = "tcp_bad_ack",
        /// A TCP segment without ACK, where every one must have it.
        TcpNoAck = "tcp_no_ack",
        /// A TCP segment that is no answer to our SYN, before there was one.
        TcpNoSyn = "tcp_no_syn",
        /// A reset that ends nothing: for no connection, or not exactly at the next sequence number.
        TcpReset = "tcp_reset",
        /// A SYN in the middle of a connection.
        TcpSyn = "tcp_syn",
        /// A TCP segment with a timestamp older than one received before (PAWS).
        TcpOldTimestamp = "tcp_old_timestamp",
        /// A TCP segment without a timestamp, on a connection that agreed on them.
        TcpNoTimestamp = "tcp_no_timestamp",
        /// Text behind the peer's FIN.
        TcpAfterFin = "tcp_after_fin",
        /// A segment for a connection in TIME-WAIT.
        TcpTimeWait = "tcp_time_wait",
        /// Text for which packet memory is too short.
        TcpNoMemory = "tcp_no_memory",
    }
}

reasons! {
    /// Why a frame that the stack built was not sent.
    UnsentReason {
        /// No connected prefix and no gateway leads to the destination.
        NoRoute = "no_route",
        /// An application wanted it to come from an address that is not ours.
        NotOurs = "not_ours",
        /// The neighbor did not answer in time.
        NeighborUnreachable = "neighbor_unreachable",
        /// It waited for a neighbor and gave way to a newer one: too many waited for that neighbor, or for all.
        NeighborQueueFull = "neighbor_queue_full",
        /// Too many neighbors are being looked for already.
        NeighborTableFull = "neighbor_table_full",
        /// The request came from UDP port zero, which takes no reply (RFC 768).
        NoReplyPort = "no_reply_port",
        /// No chunk of packet memory was free.
        NoChunk = "no_chunk",
        /// Longer than the interface's MTU, and not to be sent in fragments.
        TooLong = "too_long",
        /// In fragments, of which too many wait to be sent already.
        FragmentQueueFull = "fragment_queue_full",
        /// The device took no frame for so long that it counts as stalled.
        DeviceStalled = "device_stalled",
    }
}

impl DropReason {
    /// Whether it is about TCP: the label says so.
    #[must_use]
    pub fn is_of_tcp(self) -> bool {
        self.name().starts_with("tcp_")
    }

    /// Whether it is about the reassembly of fragments: the label says so.
    #[must_use]
    pub fn is_of_fragments(self) -> bool {
        self.name().starts_with("fragment")
    }
}
