//! Everything that TCP has to be told.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::congestion::Algorithm;
use super::isn::GuessableNumbers;
use super::rtt::RtoLimits;
use super::source_port;
use super::tuple::Tuple;
use crate::wire::ip::IpAddress;
use crate::wire::ipv6::MIN_MTU;
use crate::wire::{ipv4, tcp};

/// How long data may stay unacknowledged where nobody says otherwise.
///
/// RFC 9293, section 3.8.3 (SHLD-11): R2 SHOULD correspond to at least 100 seconds.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(300);
/// Frames that may be queued however small the send buffer is.
const FEW_FRAMES: u32 = 64;

/// Everything that TCP has to be told.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Ports that the application listens on.
    pub ports: Vec<u16>,
    /// Addresses of ours that it listens at: all of them if this is empty.
    pub listen_at: Vec<IpAddress>,
    /// Connections at most, those in handshake included.
    pub connections: u32,
    /// Handshakes under way at most; beyond that, and where connections leave less room, SYN cookies are used.
    pub backlog: u32,
    /// Connections in TIME-WAIT at most; beyond that the oldest gives way.
    pub time_wait: u32,
    /// Text received and not taken by the application, for each connection, bytes.
    pub receive_buffer: u32,
    /// Text to be sent and not acknowledged, for each connection, bytes.
    pub send_buffer: u32,
    /// Chunks of packet memory that all connections together may hold.
    pub chunks: u32,
    /// The longest IP packet that we can take, bytes.
    pub mtu: u16,
    /// Bytes of a frame that a chunk of packet memory holds: what lies behind the headroom.
    pub chunk_room: u16,
    /// How fast connections send.
    pub algorithm: Algorithm,
    /// Whether segments are spread over the round trip, instead of sent as soon as the windows allow.
    pub pacing: bool,
    /// Limits of the retransmission timeout.
    pub rto: RtoLimits,
    /// How long data may stay unacknowledged (R2), unless the application says otherwise.
    pub user_timeout: Duration,
    /// After how long a silence a peer is asked whether it still lives, unless the application says otherwise; `None` for
    /// never.
    pub keep_alive: Option<Duration>,
    /// How long a connection that we did not open waits for the peer's FIN after hearing nothing from it.
    pub fin_wait_2: Duration,
    /// Twice the maximum segment lifetime.
    pub time_wait_for: Duration,
    /// Whether ECN is agreed to when a peer asks for it (RFC 3168).
    pub ecn: bool,
    /// Whether ECN is asked for on connections that we open (Linux: tcp_ecn = 1; by default neither asks).
    pub ask_for_ecn: bool,
    /// Hops that a segment may take; `None`: as many as any packet.
    ///
    /// RFC 9293, section 3.9.2 (MUST-49): the TTL value used to send TCP segments MUST be configurable.
    pub ttl: Option<u8>,
    /// The smallest MTU of an IPv4 path that is believed (RFC 791: 68 is the least there is; Linux: min_pmtu, 552).
    pub min_pmtu: u16,
    /// Ports that connections of ours are opened from (RFC 6056).
    pub source_ports: RangeInclusive<u16>,
    /// Numbers to begin at that anybody can guess: for tests only, `None` on every network.
    pub guessable_numbers: Option<GuessableNumbers>,
}

impl TcpConfig {
    /// Chunks that a segment of the longest kind takes.
    pub(super) fn chunks_per_segment(&self) -> u32 {
        let mtu = u32::from(self.mtu);
        mtu / u32::from(super::long::text_per_chunk(self.mtu, mtu, self.chunk_room).max(1))
    }

    /// Frames that the application may have queued on a connection: a full send buffer of 512 bytes each, which is less than
    /// the default segment of 536, or a few. A peer whose segments are smaller gets less under way.
    #[inline]
    pub(super) const fn most_frames(&self) -> u32 {
        let frames = self.send_buffer / 512;
        if frames > FEW_FRAMES { frames } else { FEW_FRAMES }
    }

    /// Text that a chunk holds, of received segments of the longest kind with timestamps.
    pub(super) fn received_per_chunk(&self) -> u32 {
        let mtu = u32::from(self.mtu);
        let mss = self.mtu.saturating_sub((ipv4::LEN + tcp::LEN) as u16 + 12);
        u32::from(super::long::text_per_chunk(mss, mtu, self.chunk_room).max(1))
    }

    /// The smallest MTU of a path that is believed.
    ///
    /// RFC 8201, section 4: a node MUST NOT reduce its estimate below the IPv6 minimum link MTU.
    #[must_use]
    pub fn min_pmtu(&self, tuple: &Tuple) -> u16 {
        if tuple.remote.0.is_v4() { self.min_pmtu } else { MIN_MTU as u16 }
    }
}

impl Default for TcpConfig {
    /// For an Ethernet with an MTU of 1,500.
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            listen_at: Vec::new(),
            connections: 65_536,
            // As Linux's net.core.somaxconn.
            backlog: 4096,
            time_wait: 65_536,
            // A gigabit for 8 ms, or 80 Mb/s over a path of 100 ms.
            receive_buffer: 1 << 20,
            send_buffer: 1 << 20,
            chunks: 8192,
            mtu: 1500,
            // Half a page, less the headroom.
            chunk_room: 2048 - 256,
            algorithm: Algorithm::Cubic,
            pacing: false,
            rto: RtoLimits::default(),
            user_timeout: USER_TIMEOUT,
            // RFC 9293, section 3.8.4 (MUST-25): keep-alives MUST default to off.
            keep_alive: None,
            // Linux: tcp_fin_timeout.
            fin_wait_2: Duration::from_secs(60),
            // As Linux; RFC 9293, section 3.4.2 would take an MSL of two minutes.
            time_wait_for: Duration::from_secs(60),
            ecn: true,
            ask_for_ecn: false,
            ttl: None,
            min_pmtu: 552,
            source_ports: source_port::DEFAULT_PORTS,
            guessable_numbers: None,
        }
    }
}
