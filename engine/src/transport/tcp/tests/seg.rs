//! Segments as scripts write them: numbers relative to where each side began, as tcpdump shows them.

use std::fmt;

use super::Numbers;
use crate::wire::checksum::Sum;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Header, Options, Packet, SackBlocks};

/// A segment that the peer sends, or that is expected from us. 0 is the number of the SYN, 1 of the first byte of text.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Seg {
    /// The peer's port.
    pub(super) port: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    /// Whether `seq` is expected as it stands: the zero of resets that answer a segment without ACK.
    pub(super) seq_is_absolute: bool,
    pub(super) flags: Flags,
    /// As in the header. Of one that is expected, `None` for any.
    pub(super) window: Option<u16>,
    pub(super) text: Vec<u8>,
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    pub(super) timestamps: Ts,
    pub(super) sack: Vec<(u32, u32)>,
    pub(super) urgent: u16,
    /// Options as bytes, in place of all others.
    pub(super) raw_options: Vec<u8>,
    /// Traffic class of the datagram.
    pub(super) class: u8,
}

/// The timestamps option, with values relative to where each side's clock began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ts {
    /// As the connection has it: none, or the clock and an echo of what came last.
    Usual,
    /// None, though the connection has timestamps.
    No,
    /// Value and echo.
    Is(u32, u32),
    /// A value, and the zero that stands for no echo.
    First(u32),
}

/// An acknowledgment, to be made more of.
pub(super) fn seg(seq: u32, ack: u32) -> Seg {
    Seg {
        port: super::PEER.1,
        seq,
        ack,
        seq_is_absolute: false,
        flags: Flags::ACK,
        window: None,
        text: Vec::new(),
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: Ts::Usual,
        sack: Vec::new(),
        urgent: 0,
        raw_options: Vec::new(),
        class: 0,
    }
}

/// The SYN that asks for a connection.
pub(super) fn syn() -> Seg {
    Seg { flags: Flags::SYN, ..seg(0, 0) }
}

/// The SYN that answers one.
pub(super) fn syn_ack() -> Seg {
    seg(0, 1).with(Flags::SYN)
}

/// A reset that acknowledges nothing.
pub(super) fn rst(seq: u32) -> Seg {
    Seg { flags: Flags::RST, ..seg(seq, 0) }
}

/// The reset for a segment without ACK: <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
pub(super) fn rst_for(end: u32) -> Seg {
    Seg { seq_is_absolute: true, ..seg(0, end).with(Flags::RST) }
}

impl Seg {
    /// With more control bits.
    pub(super) fn with(self, flags: Flags) -> Self {
        Self { flags: self.flags | flags, ..self }
    }

    /// Without some control bits.
    pub(super) fn without(self, flags: Flags) -> Self {
        Self { flags: self.flags.without(flags), ..self }
    }

    /// With FIN.
    pub(super) fn fin(self) -> Self {
        self.with(Flags::FIN)
    }

    /// With RST.
    pub(super) fn rst(self) -> Self {
        self.with(Flags::RST)
    }

    /// With PSH.
    pub(super) fn psh(self) -> Self {
        self.with(Flags::PSH)
    }

    /// From or to another port of the peer.
    pub(super) fn port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// With a window, as it stands in the header.
    pub(super) fn window(self, window: u16) -> Self {
        Self { window: Some(window), ..self }
    }

    /// With text that says in each byte where it stands in the stream.
    pub(super) fn len(self, len: u32) -> Self {
        Self { text: (0..len).map(|n| pattern(self.seq.wrapping_add(n))).collect(), ..self }
    }

    /// With text of its own.
    pub(super) fn text(self, text: &[u8]) -> Self {
        Self { text: text.to_vec(), ..self }
    }

    /// With the MSS option.
    pub(super) fn mss(self, mss: u16) -> Self {
        Self { mss: Some(mss), ..self }
    }

    /// With the window scale option.
    pub(super) fn scale(self, shift: u8) -> Self {
        Self { window_scale: Some(shift), ..self }
    }

    /// With SACK-permitted.
    pub(super) fn sack_ok(self) -> Self {
        Self { sack_permitted: true, ..self }
    }

    /// With timestamps.
    pub(super) fn ts(self, value: u32, echo: u32) -> Self {
        Self { timestamps: Ts::Is(value, echo), ..self }
    }

    /// With timestamps that echo nothing.
    pub(super) fn first_ts(self, value: u32) -> Self {
        Self { timestamps: Ts::First(value), ..self }
    }

    /// Without timestamps, even where the connection has them.
    pub(super) fn no_ts(self) -> Self {
        Self { timestamps: Ts::No, ..self }
    }

    /// With blocks of SACK.
    pub(super) fn sack(self, blocks: &[(u32, u32)]) -> Self {
        Self { sack: blocks.to_vec(), ..self }
    }

    /// With URG, and the urgent pointer so many bytes ahead of the sequence number.
    pub(super) fn urgent(self, ahead: u16) -> Self {
        Self { urgent: ahead, ..self.with(Flags::URG) }
    }

    /// With these bytes as options.
    pub(super) fn raw(self, options: &[u8]) -> Self {
        Self { raw_options: options.to_vec(), ..self }
    }

    /// In a datagram of this traffic class.
    pub(super) fn class(self, class: u8) -> Self {
        Self { class, ..self }
    }

    /// The sequence number behind it.
    pub(super) fn end(&self) -> u32 {
        let control = |flag| u32::from(self.flags.contains(flag));
        self.seq.wrapping_add(self.text.len() as u32 + control(Flags::SYN) + control(Flags::FIN))
    }

    /// The segment of the peer in bytes, with its checksum.
    pub(super) fn to_bytes(&self, numbers: &Numbers) -> Vec<u8> {
        let mut sack = SackBlocks::default();
        for &(start, end) in &self.sack {
            sack.push(numbers.ours + start, numbers.ours + end);
        }
        let timestamps = match self.timestamps {
            Ts::Is(value, echo) => Some((numbers.peer_ts.wrapping_add(value), numbers.our_ts.wrapping_add(echo))),
            Ts::First(value) => Some((numbers.peer_ts.wrapping_add(value), 0)),
            Ts::Usual | Ts::No => None,
        };
        let options = Options {
            mss: self.mss,
            window_scale: self.window_scale,
            sack_permitted: self.sack_permitted,
            timestamps,
            sack,
        };
        let acknowledges = self.flags.contains(Flags::ACK);
        let header = Header {
            source: (super::PEER.0, self.port),
            destination: super::OUR,
            sequence: numbers.peers + self.seq,
            acknowledgment: if acknowledges { numbers.ours + self.ack } else { SeqNum::default() },
            flags: self.flags,
            window: self.window.unwrap_or(u16::MAX),
            urgent: self.urgent,
            options: &options,
            payload_len: self.text.len() as u16,
        };
        let mut out = vec![0; header.header_len()];
        header.write(&mut out, Sum::default().add_bytes(&self.text));
        if !self.raw_options.is_empty() {
            assert!(options.is_empty() && self.raw_options.len().is_multiple_of(4), "options either way, and padded");
            out.extend_from_slice(&self.raw_options);
            out[12] = (out.len() as u8 / 4) << 4;
        }
        out.extend_from_slice(&self.text);
        if !self.raw_options.is_empty() {
            super::fill_checksum(&mut out);
        }
        out
    }

    /// A segment of ours, from its bytes.
    pub(super) fn from_bytes(bytes: &[u8], class: u8, numbers: &Numbers) -> Self {
        let packet = Packet::parse(bytes).unwrap();
        assert!(packet.checksum_is_valid(super::OUR.0, super::PEER.0), "checksum");
        assert_eq!(packet.source_port(), super::OUR.1);
        let (flags, options) = (packet.flags(), Options::parse(packet.option_bytes()));
        let acknowledges = flags.contains(Flags::ACK);
        if !acknowledges {
            assert_eq!(packet.acknowledgment(), SeqNum::new(0), "a number that means nothing is zero");
        }
        Self {
            port: packet.destination_port(),
            ack: if acknowledges { packet.acknowledgment().since(numbers.peers) } else { 0 },
            flags,
            window: Some(packet.window()),
            text: packet.payload().to_vec(),
            mss: options.mss,
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamps: match options.timestamps {
                None => Ts::No,
                Some((value, 0)) => Ts::First(value.wrapping_sub(numbers.our_ts)),
                Some((value, echo)) => Ts::Is(value.wrapping_sub(numbers.our_ts), echo.wrapping_sub(numbers.peer_ts)),
            },
            sack: options
                .sack
                .as_slice()
                .iter()
                .map(|&(a, b)| (a.since(numbers.peers), b.since(numbers.peers)))
                .collect(),
            urgent: packet.urgent(),
            class,
            ..seg(packet.sequence().since(numbers.ours), 0)
        }
    }
}

/// What stands at a place of a stream.
pub(super) fn pattern(at: u32) -> u8 {
    (at.wrapping_mul(7).wrapping_add(at / 251)) as u8
}

impl fmt::Debug for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}:{}({}) ack {}", self.flags, self.seq, self.end(), self.text.len(), self.ack)?;
        if let Some(window) = self.window {
            write!(f, " win {window}")?;
        }
        if self.port != super::PEER.1 {
            write!(f, " port {}", self.port)?;
        }
        let parts = [
            self.seq_is_absolute.then(|| "seq is zero itself".to_string()),
            self.mss.map(|mss| format!("mss {mss}")),
            self.window_scale.map(|shift| format!("scale {shift}")),
            self.sack_permitted.then(|| "sack ok".to_string()),
            (self.timestamps != Ts::No).then(|| format!("ts {:?}", self.timestamps)),
            (!self.sack.is_empty()).then(|| format!("sack {:?}", self.sack)),
            (self.urgent != 0).then(|| format!("urg {}", self.urgent)),
            (self.class != 0).then(|| format!("class {:#x}", self.class)),
        ];
        let options: Vec<String> = parts.into_iter().flatten().collect();
        if options.is_empty() { Ok(()) } else { write!(f, " <{}>", options.join(", ")) }
    }
}
