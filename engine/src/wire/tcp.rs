//! TCP (RFC 9293, section 3.1).
//!
//! ```text
//!  | source port 2 | destination port 2 | sequence number 4 | acknowledgment number 4
//!  | data offset 4 bits, reserved 4 bits | flags 1 | window 2 | checksum 2 | urgent pointer 2
//!  | options 0..40 | payload
//! ```

use super::checksum::{Sum, pseudo_header};
use super::ip::IpAddress;
use super::ipv4::TCP;
use super::seq::SeqNum;
use super::{be16, four};
use crate::base::DropReason;
use core::fmt;
use core::ops::BitOr;

mod options;

pub use options::{MAX_SACK_BLOCKS, MAX_WINDOW_SCALE, Options, SackBlocks};

/// Bytes of a header without options.
pub const LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_LEN: usize = LEN + options::MAX_LEN;

/// The control bits of a header.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push function.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number means something.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer means something.
    pub const URG: Self = Self(0x20);
    /// ECN-Echo (RFC 3168, section 6.1).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168, section 6.1).
    pub const CWR: Self = Self(0x80);

    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

    /// Flags as they are in a header.
    #[inline]
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits)
    }

    /// Flags for a header.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are set.
    #[inline]
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Whether any of `flags` is set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// These flags and those; `|` for constants.
    #[inline]
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// These flags except those.
    #[inline]
    #[must_use]
    pub const fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    #[inline]
    fn bitor(self, flags: Self) -> Self {
        self.with(flags)
    }
}

impl fmt::Debug for Flags {
    /// Names, as in `SYN|ACK`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, name) in Self::NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1) {
            f.write_str(separator)?;
            f.write_str(name)?;
            separator = "|";
        }
        if self.0 == 0 { f.write_str("none") } else { Ok(()) }
    }
}

/// A received segment. TCP has no length of its own: the segment is all that the IP packet carries.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; LEN],
    header_len: usize,
    segment: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the data offset. Options are not looked into: that is [`Options::parse`].
    ///
    /// # Errors
    /// [`DropReason::TcpTruncated`] or [`DropReason::TcpHeaderLength`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let header = bytes.first_chunk::<LEN>().ok_or(DropReason::TcpTruncated)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < LEN || header_len > bytes.len() {
            return Err(DropReason::TcpHeaderLength);
        }
        Ok(Self { header, header_len, segment: bytes })
    }

    /// Port of the sender.
    #[inline]
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        be16(self.header, 0)
    }

    /// Port of the receiver.
    #[inline]
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        be16(self.header, 2)
    }

    /// SEG.SEQ: of the first byte of payload, or of the SYN before it.
    #[inline]
    #[must_use]
    pub const fn sequence(&self) -> SeqNum {
        SeqNum::new(u32::from_be_bytes(four(self.header, 4)))
    }

    /// SEG.ACK: the sequence number that the sender expects next. Means something with [`Flags::ACK`] only.
    #[inline]
    #[must_use]
    pub const fn acknowledgment(&self) -> SeqNum {
        SeqNum::new(u32::from_be_bytes(four(self.header, 8)))
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// The control bits. The four reserved ones beside them are ignored (RFC 9293, section 3.1).
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> Flags {
        Flags::new(self.header[13])
    }

    /// SEG.WND as it is in the header: not yet scaled.
    #[inline]
    #[must_use]
    pub const fn window(&self) -> u16 {
        // RFC 9293, section 3.1 (MUST-1): the window size MUST be treated as an unsigned number.
        be16(self.header, 14)
    }

    /// The checksum field.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        be16(self.header, 16)
    }

    /// The urgent pointer: bytes from the sequence number on. Means something with [`Flags::URG`] only.
    #[inline]
    #[must_use]
    pub const fn urgent(&self) -> u16 {
        be16(self.header, 18)
    }

    /// Whether the checksum is right for these addresses.
    #[inline]
    #[must_use]
    pub fn checksum_is_valid(&self, source: IpAddress, destination: IpAddress) -> bool {
        pseudo_header(source, destination, TCP, self.segment.len() as u16).add_bytes(self.segment).is_valid()
    }

    /// What stands between header and payload, for [`Options::parse`].
    #[inline]
    #[must_use]
    pub fn option_bytes(&self) -> &'a [u8] {
        // RFC 9293, section 3.1 (MUST-5): a TCP implementation MUST be able to receive a TCP Option in any segment.
        self.segment.get(LEN..self.header_len).unwrap_or_default()
    }

    /// What the segment carries.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.segment.get(self.header_len..).unwrap_or_default()
    }

    /// SEG.LEN: sequence numbers that the segment takes, of which SYN and FIN are one each.
    #[inline]
    #[must_use]
    pub const fn sequence_len(&self) -> u32 {
        let flags = self.flags();
        let controls = flags.contains(Flags::SYN) as u32 + flags.contains(Flags::FIN) as u32;
        (self.segment.len() - self.header_len) as u32 + controls
    }

    /// Header, options and payload.
    #[inline]
    #[must_use]
    pub const fn segment(&self) -> &'a [u8] {
        self.segment
    }
}

/// A header to send as nearly all segments have it: with no options but timestamps, and nothing urgent.
#[derive(Clone, Copy, Debug)]
pub struct PlainHeader {
    /// Ports of sender and receiver.
    pub ports: (u16, u16),
    /// SEG.SEQ.
    pub sequence: SeqNum,
    /// SEG.ACK.
    pub acknowledgment: SeqNum,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND, scaled already.
    pub window: u16,
    /// TSval and TSecr, if they were agreed on.
    pub timestamps: Option<(u32, u32)>,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl PlainHeader {
    /// Bytes of the header.
    #[inline(always)]
    #[must_use]
    pub const fn len_bytes(&self) -> u16 {
        if self.timestamps.is_some() { (LEN + options::TIMESTAMPS_LEN) as u16 } else { LEN as u16 }
    }

    /// Writes the header with its checksum to `out`, of exactly [`len_bytes`](Self::len_bytes) bytes; `sum` is that of the
    /// bytes behind it and of the addresses.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8], sum: Sum) {
        let len = self.len_bytes();
        let ports = u32::from(self.ports.0) << 16 | u32::from(self.ports.1);
        let offset_flags_window = u32::from(len) << 26 | u32::from(self.flags.bits()) << 16 | u32::from(self.window);
        let words = [ports, self.sequence.value(), self.acknowledgment.value(), offset_flags_window];
        let Some((fixed, behind)) = out.split_first_chunk_mut::<LEN>() else { return };
        let mut sum = sum.add_values([u16::from(TCP), len + self.payload_len]).add_words(words);
        if let (Some(values), Some(out)) = (self.timestamps, behind.first_chunk_mut()) {
            sum = options::write_timestamps(out, values, sum);
        }
        let [a, b, c, d] = words;
        let words = [a, b, c, d, u32::from(sum.checksum()) << 16];
        for (place, word) in fixed.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
    }
}

/// A header to send.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Address and port of the sender.
    pub source: (IpAddress, u16),
    /// Address and port of the receiver.
    pub destination: (IpAddress, u16),
    /// SEG.SEQ.
    pub sequence: SeqNum,
    /// SEG.ACK.
    pub acknowledgment: SeqNum,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND, scaled already.
    pub window: u16,
    /// The urgent pointer.
    pub urgent: u16,
    /// What stands behind the fixed part. Blocks of SACK that do not fit are left out.
    pub options: &'a Options,
    /// Bytes behind the header.
    pub payload_len: u16,
}

impl Header<'_> {
    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// Writes the header with its checksum to `out`, of exactly [`header_len`](Self::header_len) bytes;
    /// `payload` is the sum of the bytes behind it.
    #[inline]
    pub fn write(&self, out: &mut [u8], payload: Sum) {
        debug_assert_eq!(out.len(), self.header_len());
        let header_len = out.len();
        let Some((fixed, out)) = out.split_first_chunk_mut::<LEN>() else { return };
        let sum = self.options.write(out, payload);
        self.write_fixed(fixed, header_len, sum);
    }

    /// Writes the fixed part; `behind` is the sum of the bytes behind it.
    #[inline]
    fn write_fixed(&self, out: &mut [u8; LEN], header_len: usize, behind: Sum) {
        let offset_and_flags = u16::from_be_bytes([(header_len as u8 / 4) << 4, self.flags.bits()]);
        // RFC 9293, section 3.1 (MUST-2): the TCP checksum is never optional. The sender MUST generate it.
        // Summed up from the fields: reading back what was just written would stall on the stores.
        let checksum = behind
            .add_addresses([self.source.0, self.destination.0])
            .add_words([self.sequence.value(), self.acknowledgment.value()])
            .add_values([
                u16::from(TCP),
                header_len as u16 + self.payload_len,
                self.source.1,
                self.destination.1,
                offset_and_flags,
                self.window,
                self.urgent,
            ])
            .checksum();
        out[..2].copy_from_slice(&self.source.1.to_be_bytes());
        out[2..4].copy_from_slice(&self.destination.1.to_be_bytes());
        out[4..8].copy_from_slice(&self.sequence.value().to_be_bytes());
        out[8..12].copy_from_slice(&self.acknowledgment.value().to_be_bytes());
        out[12..14].copy_from_slice(&offset_and_flags.to_be_bytes());
        out[14..16].copy_from_slice(&self.window.to_be_bytes());
        out[16..18].copy_from_slice(&checksum.to_be_bytes());
        out[18..].copy_from_slice(&self.urgent.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const A: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddress = IpAddress::v4(Ipv4Addr::new(10, 0, 0, 2));

    fn header(options: &Options) -> Header<'_> {
        Header {
            source: (A, 56_100),
            destination: (B, 7),
            sequence: SeqNum::new(0x19e4_9af0),
            acknowledgment: SeqNum::new(0x855c_1a03),
            flags: Flags::PSH | Flags::ACK,
            window: 63,
            urgent: 0,
            options,
            payload_len: 0,
        }
    }

    fn segment(header: Header<'_>, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0xee; header.header_len()];
        let fields = Header { payload_len: payload.len() as u16, ..header };
        fields.write(&mut out, Sum::default().add_bytes(payload));
        [&out[..], payload].concat()
    }

    fn options(bits: u32) -> Options {
        let mut sack = SackBlocks::default();
        for n in 0..bits >> 4 {
            sack.push(SeqNum::new(n), SeqNum::new(n + 1));
        }
        Options {
            mss: (bits & 1 != 0).then_some(536),
            window_scale: (bits & 2 != 0).then_some(3),
            sack_permitted: bits & 4 != 0,
            timestamps: (bits & 8 != 0).then_some((u32::MAX, 7)),
            sack,
        }
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        for (options, payload) in (0..80).map(options).zip([&b""[..], b"a", b"hello", &[0xff; 1460]].iter().cycle()) {
            // RFC 9293, section 3.1 (MUST-1, MUST-5): a window above 0x7fff, and options in a segment that is no SYN.
            let fields = Header { urgent: 0x1234, window: 0xfedc, ..header(&options) };
            let bytes = segment(fields, payload);
            let packet = Packet::parse(&bytes).unwrap();
            assert!(packet.checksum_is_valid(A, B), "{options:?}");
            assert!(!packet.checksum_is_valid(A, A));
            assert_eq!((packet.source_port(), packet.destination_port()), (56_100, 7));
            assert_eq!((packet.sequence(), packet.acknowledgment()), (fields.sequence, fields.acknowledgment));
            assert_eq!((packet.flags(), packet.window(), packet.urgent()), (fields.flags, 0xfedc, 0x1234));
            assert_eq!((packet.payload(), packet.segment()), (*payload, &bytes[..]));
            assert_eq!(packet.header_len(), fields.header_len());
            let parsed = Options::parse(packet.option_bytes());
            assert_eq!(Options { sack: options.sack, ..parsed }, options);
        }
    }

    /// A SYN and a data segment of Linux 6.18, as captured on a veth pair without checksum offload.
    #[test]
    fn segments_are_those_of_linux() {
        let syn = [
            0xdb, 0x24, 0x00, 0x07, 0x19, 0xe4, 0x9a, 0xef, 0x00, 0x00, 0x00, 0x00, 0xa0, 0x02, 0xfa, 0xf0, 0x69, 0x1a,
            0x00, 0x00, 0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x07, 0xef, 0x38, 0x01, 0x00, 0x00, 0x00, 0x00,
            0x01, 0x03, 0x03, 0x0a,
        ];
        let options = Options {
            mss: Some(1460),
            window_scale: Some(10),
            sack_permitted: true,
            timestamps: Some((0x07ef_3801, 0)),
            sack: SackBlocks::default(),
        };
        let fields = Header {
            sequence: SeqNum::new(0x19e4_9aef),
            acknowledgment: SeqNum::new(0),
            flags: Flags::SYN,
            window: 0xfaf0,
            ..header(&options)
        };
        // RFC 9293, section 3.1 (MUST-2): with the checksum that another stack made of the same segment.
        assert_eq!(segment(fields, b""), syn);
        assert!(Packet::parse(&syn).unwrap().checksum_is_valid(A, B));

        let data = [
            0xdb, 0x24, 0x00, 0x07, 0x19, 0xe4, 0x9a, 0xf0, 0x85, 0x5c, 0x1a, 0x03, 0x80, 0x18, 0x00, 0x3f, 0x85, 0x3d,
            0x00, 0x00, 0x01, 0x01, 0x08, 0x0a, 0x07, 0xef, 0x38, 0x02, 0x2e, 0x30, 0xfb, 0xdd, 0x68, 0x65, 0x6c, 0x6c,
            0x6f,
        ];
        let options = Options { timestamps: Some((0x07ef_3802, 0x2e30_fbdd)), ..Options::default() };
        assert_eq!(segment(header(&options), b"hello"), data);
        assert!(Packet::parse(&data).unwrap().checksum_is_valid(A, B));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let good = segment(header(&Options::default()), b"hello");
        for len in 0..LEN {
            assert_eq!(Packet::parse(&good[..len]).unwrap_err(), DropReason::TcpTruncated);
        }
        for words in 0..16 {
            let mut bytes = good.clone();
            bytes[12] = words << 4 | 0x0f;
            let header_len = usize::from(words) * 4;
            match Packet::parse(&bytes) {
                Ok(packet) => {
                    assert!((LEN..=good.len()).contains(&header_len), "{words}");
                    assert_eq!(packet.option_bytes().len() + packet.payload().len(), 5);
                    assert_eq!(packet.header_len(), header_len);
                }
                Err(reason) => {
                    assert!(!(LEN..=good.len()).contains(&header_len), "{words}");
                    assert_eq!(reason, DropReason::TcpHeaderLength);
                }
            }
        }
        let longest = [&[0; 12][..], &[0xf0], &[0; 47]].concat();
        assert_eq!(Packet::parse(&longest).unwrap().header_len(), MAX_LEN);
        assert_eq!(Packet::parse(&longest[..MAX_LEN - 1]).unwrap_err(), DropReason::TcpHeaderLength);
    }

    /// RFC 9293, section 3.4: the SYN and FIN control bits occupy one sequence number each.
    #[test]
    fn controls_take_sequence_numbers() {
        for (flags, controls) in [(Flags::ACK, 0), (Flags::SYN, 1), (Flags::FIN | Flags::ACK, 1)] {
            let bytes = segment(Header { flags, ..header(&options(8)) }, b"hello");
            assert_eq!(Packet::parse(&bytes).unwrap().sequence_len(), 5 + controls);
        }
    }

    #[test]
    fn flags_are_a_set() {
        let both = Flags::SYN | Flags::ACK;
        assert!(both.contains(Flags::SYN) && both.contains(both) && !Flags::SYN.contains(both));
        assert!(both.intersects(Flags::SYN | Flags::FIN) && !both.intersects(Flags::FIN));
        assert_eq!((both.without(Flags::ACK), Flags::new(0x12).bits()), (Flags::SYN, both.bits()));
        assert_eq!((format!("{both:?}"), format!("{:?}", Flags::default())), ("SYN|ACK".into(), "none".into()));
    }
}
