//! A received segment, taken apart, and one to be sent at once that carries no text.

use super::tuple::Tuple;
use crate::base::DropReason;
use crate::transport::udp::ChecksumPolicy;
use crate::wire::checksum::{Sum, pseudo_header};
use crate::wire::ip::IpAddress;
use crate::wire::ipv4::TCP;
use crate::wire::seq::SeqNum;
use crate::wire::tcp::{Flags, Options, Packet};

/// A received segment without its text.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Whom it is from and to.
    pub tuple: Tuple,
    /// [`Tuple::mark`] of that.
    pub mark: u64,
    /// SEG.SEQ.
    pub seq: SeqNum,
    /// SEG.ACK.
    pub ack: SeqNum,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as it stands in the header.
    pub window: u16,
    /// SEG.UP as it stands in the header.
    pub urgent: u16,
    /// Its options.
    pub options: Options,
    /// Bytes in front of the text.
    pub header_len: u16,
    /// Bytes of text.
    pub len: u32,
    /// Whether they lie in several chunks.
    pub is_long: bool,
    /// Sum of the text, folded.
    pub sum: u16,
    /// Whether a router marked it "congestion experienced" (RFC 3168).
    pub congestion_experienced: bool,
}

impl Segment {
    /// No segment yet.
    pub const EMPTY: Self = Self {
        tuple: Tuple::NONE,
        mark: 0,
        seq: SeqNum::new(0),
        ack: SeqNum::new(0),
        flags: Flags::new(0),
        window: 0,
        urgent: 0,
        options: Options::EMPTY,
        header_len: 0,
        len: 0,
        is_long: false,
        sum: 0,
        congestion_experienced: false,
    };

    /// Takes a segment apart after checking its checksum. `class` is the traffic class of its datagram.
    ///
    /// Into a value that is there already, because moving one stalls: it would be read whole right after it was written in
    /// parts.
    ///
    /// # Errors
    /// [`DropReason`] of a segment that is not whole.
    #[inline(always)]
    pub fn read(
        &mut self,
        bytes: &[u8],
        source: IpAddress,
        destination: IpAddress,
        class: u8,
        policy: ChecksumPolicy,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(bytes)?;
        let text = Sum::default().add_bytes(packet.payload());
        let header = bytes.get(..packet.header_len()).unwrap_or_default();
        self.take_apart(&packet, header, (text, packet.payload().len()), (source, destination), class, policy)
    }

    /// The same of one whose text lies elsewhere: its sum, and how many bytes it has.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_long(
        &mut self,
        header: &[u8],
        text: (Sum, usize),
        ends: (IpAddress, IpAddress),
        class: u8,
        policy: ChecksumPolicy,
    ) -> Result<(), DropReason> {
        let packet = Packet::parse(header)?;
        self.is_long = true;
        self.take_apart(&packet, header, text, ends, class, policy)
    }

    #[inline(always)]
    fn take_apart(
        &mut self,
        packet: &Packet<'_>,
        header: &[u8],
        (text, text_len): (Sum, usize),
        (source, destination): (IpAddress, IpAddress),
        class: u8,
        policy: ChecksumPolicy,
    ) -> Result<(), DropReason> {
        // RFC 9293, section 3.1 (MUST-3): the receiver MUST check the checksum. What Linux leaves for a NIC to
        // complete, the sum of the pseudo header, is as good where no wire was (facts of veth).
        let pseudo = pseudo_header(source, destination, TCP, (header.len() + text_len) as u16);
        let whole = |pseudo: Sum| pseudo.add_bytes(header).add_sum(text);
        if !policy.accepts_present(packet.checksum(), pseudo, whole) {
            return Err(DropReason::TcpChecksum);
        }
        if packet.source_port() == 0 || packet.destination_port() == 0 {
            return Err(DropReason::TcpPortZero);
        }
        self.options.read(packet.option_bytes());
        let local = (destination, packet.destination_port());
        let tuple = Tuple { local, remote: (source, packet.source_port()) };
        (self.tuple, self.mark) = (tuple, tuple.mark());
        (self.seq, self.ack) = (packet.sequence(), packet.acknowledgment());
        self.flags = packet.flags();
        (self.window, self.urgent) = (packet.window(), packet.urgent());
        self.header_len = packet.header_len() as u16;
        self.len = text_len as u32;
        self.sum = text.fold();
        self.congestion_experienced = class & 3 == 3;
        Ok(())
    }

    /// Whether a control bit is set.
    #[inline]
    #[must_use]
    pub const fn has(&self, flag: Flags) -> bool {
        self.flags.contains(flag)
    }

    /// SEG.LEN: text, SYN and FIN.
    #[inline]
    #[must_use]
    pub fn seq_len(&self) -> u32 {
        self.len + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }

    /// The sequence number behind the segment.
    #[inline]
    #[must_use]
    pub fn end(&self) -> SeqNum {
        self.seq + self.seq_len()
    }
}

/// A segment without text, to be sent at once: an acknowledgment, a reset, or an answer to a SYN.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Whom it is to and from.
    pub tuple: Tuple,
    /// Its sequence number.
    pub seq: SeqNum,
    /// What it acknowledges.
    pub ack: SeqNum,
    /// Its control bits.
    pub flags: Flags,
    /// Its window as it stands in the header.
    pub window: u16,
    /// Its options.
    pub options: Options,
    /// DSCP and ECN of its datagram.
    pub class: u8,
}

impl Control {
    /// The reset that answers a segment which belongs to no connection (RFC 9293, section 3.10.7.1).
    #[must_use]
    pub fn reset_for(segment: &Segment) -> Self {
        let (seq, ack, flags) = if segment.has(Flags::ACK) {
            // RFC 9293, section 3.10.7.1: if the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>.
            (segment.ack, SeqNum::default(), Flags::RST)
        } else {
            // RFC 9293, section 3.10.7.1: if the ACK bit is off, sequence number zero is used,
            // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
            (SeqNum::default(), segment.end(), Flags::RST | Flags::ACK)
        };
        Self { tuple: segment.tuple, seq, ack, flags, window: 0, options: Options::default(), class: 0 }
    }
}
