//! The states of a connection (RFC 9293, section 3.3.2), of those that have a control block.
//!
//! ```text
//!              active OPEN                       passive: LISTEN and SYN-RECEIVED live in listen.rs
//!                   |                                      |
//!               SYN-SENT --SYN--> SYN-RECEIVED --ACK--+    | ACK of our SYN
//!                   | SYN+ACK                         v    v
//!                   +--------------------------->  ESTABLISHED
//!                                    finish() |                 | FIN
//!                                             v                 v
//!                            FIN ------ FIN-WAIT-1          CLOSE-WAIT
//!                             |               | ACK             | finish()
//!                             v               v                 v
//!                          CLOSING       FIN-WAIT-2          LAST-ACK
//!                             | ACK           | FIN             | ACK
//!                             +--> TIME-WAIT <+               closed
//! ```
//!
//! CLOSED is the absence of a connection, and TIME-WAIT soon moves to a table of its own (time_wait.rs).

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// We asked for a connection.
    SynSent,
    /// Both sides asked at once (or a handshake is half-way), and ours is not acknowledged yet.
    SynReceived,
    /// Open both ways.
    Established,
    /// We finished; it is not acknowledged yet.
    FinWait1,
    /// We finished, and the peer knows.
    FinWait2,
    /// The peer finished.
    CloseWait,
    /// Both finished at once; ours is not acknowledged yet.
    Closing,
    /// The peer finished first and then we did; ours is not acknowledged yet.
    LastAck,
    /// Both finished and know it; we wait for late segments.
    TimeWait,
}

impl State {
    /// Its name in the RFC.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }

    /// Whether both sides know each other's sequence numbers.
    #[must_use]
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// Whether our application may still queue bytes to be sent.
    #[must_use]
    pub const fn may_send(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived | Self::Established | Self::CloseWait)
    }

    /// Whether the peer may still send text (RFC 9293, section 3.10.7.4, seventh).
    #[must_use]
    pub const fn takes_text(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// The state after our application finished, and whether that is news.
    #[must_use]
    pub const fn finished(self) -> Option<Self> {
        match self {
            Self::Established | Self::SynReceived => Some(Self::FinWait1),
            Self::CloseWait => Some(Self::LastAck),
            _ => None,
        }
    }

    /// The state after the peer's FIN (RFC 9293, section 3.10.7.4, eighth).
    #[must_use]
    pub const fn fin_received(self) -> Self {
        match self {
            Self::SynReceived | Self::Established => Self::CloseWait,
            Self::FinWait1 => Self::Closing,
            Self::FinWait2 => Self::TimeWait,
            other => other,
        }
    }

    /// The state after our FIN was acknowledged; `None` for CLOSED (RFC 9293, section 3.10.7.4, fifth).
    #[must_use]
    pub const fn fin_acknowledged(self) -> Option<Self> {
        match self {
            Self::FinWait1 => Some(Self::FinWait2),
            Self::Closing => Some(Self::TimeWait),
            Self::LastAck => None,
            other => Some(other),
        }
    }
}
