//! A segment as etherparse sees it.

use std::fmt;
use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};

use super::stream::{Flow, Side};

/// A segment on the wire.
#[derive(Clone, Debug, Default)]
pub struct Segment<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number, with ACK.
    pub ack: Option<u32>,
    /// SYN.
    pub syn: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// ECE and CWR.
    pub ece: bool,
    /// See `ece`.
    pub cwr: bool,
    /// Window as it is in the header.
    pub window: u16,
    /// Bytes of options.
    pub options_len: usize,
    /// What the options say.
    pub mss: Option<u16>,
    /// See `mss`.
    pub window_scale: Option<u8>,
    /// See `mss`.
    pub sack_permitted: bool,
    /// See `mss`: TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// See `mss`.
    pub sack: Vec<(u32, u32)>,
    /// The two ECN bits of its packet.
    pub ecn: u8,
    /// Text.
    pub text: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Takes a frame apart, if it is a segment from one host to the other.
    #[must_use]
    pub fn parse(from: Side, frame: &'a [u8]) -> Option<(Flow, Self)> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
        let (source, destination, ecn): (IpAddr, IpAddr, u8) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), header.ecn().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into(), header.traffic_class() & 3)
            }
            _ => return None,
        };
        let between = from.has(source) && from.other().has(destination);
        let flow = between.then(|| Flow::seen_by(from, tcp.source_port(), tcp.destination_port()))?;
        let payload_len = tcp.payload().len();
        let at = tcp.payload().as_ptr().addr() - frame.as_ptr().addr();
        let mut segment = Self {
            seq: tcp.sequence_number(),
            ack: tcp.ack().then(|| tcp.acknowledgment_number()),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            ece: tcp.ece(),
            cwr: tcp.cwr(),
            window: tcp.window_size(),
            options_len: tcp.options().len(),
            ecn,
            text: frame.get(at..at + payload_len)?,
            ..Self::default()
        };
        for option in tcp.options_iterator().flatten() {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) => segment.mss = Some(mss),
                TcpOptionElement::WindowScale(shift) => segment.window_scale = Some(shift),
                TcpOptionElement::SelectiveAcknowledgementPermitted => segment.sack_permitted = true,
                TcpOptionElement::Timestamp(value, echo) => segment.timestamps = Some((value, echo)),
                TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                    segment.sack.push(first);
                    segment.sack.extend(rest.into_iter().flatten());
                }
                TcpOptionElement::Noop => {}
            }
        }
        Some((flow, segment))
    }

    /// Sequence numbers that it takes up.
    #[must_use]
    pub fn len(&self) -> i64 {
        self.text.len() as i64 + i64::from(self.syn) + i64::from(self.fin)
    }

    /// Whether it takes up none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Segment<'_> {
    /// Without its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags =
            [("SYN ", self.syn), ("FIN ", self.fin), ("RST ", self.rst), ("ECE ", self.ece), ("CWR ", self.cwr)];
        let flags = flags.into_iter().filter(|(_, set)| *set);
        flags.into_iter().try_for_each(|(name, _)| f.write_str(name))?;
        let Self { seq, ack, window, timestamps, sack, text, .. } = self;
        write!(f, "seq {seq} +{} ack {ack:?} win {window} ts {timestamps:?} sack {sack:?}", text.len())
    }
}
