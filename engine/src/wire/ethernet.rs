//! Ethernet II with up to two VLAN tags (IEEE 802.3, 802.1Q, 802.1ad).
//!
//! ```text
//!  | destination 6 | source 6 | [tpid 2 | tci 2] x 0..2 | ethertype 2 | payload
//! ```

use std::fmt;

use super::be16;
use super::ip::IpAddress;
use crate::base::DropReason;

/// Bytes of a header without tags.
pub const LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// Bytes of a header with two tags: the longest there is.
pub const MAX_LEN: usize = LEN + 2 * TAG_LEN;

/// IPv4.
pub const IPV4: u16 = 0x0800;
/// ARP.
pub const ARP: u16 = 0x0806;
/// IPv6.
pub const IPV6: u16 = 0x86dd;
/// Tag of IEEE 802.1Q.
pub const VLAN: u16 = 0x8100;
/// Service tag of IEEE 802.1ad.
pub const SERVICE_VLAN: u16 = 0x88a8;

/// A MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The address that ARP has where none is known.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether it names a group, broadcast included.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// The address that frames to an IP `group` go to: 01:00:5e and the group's lower 23 bits (RFC 1112, section 6.4),
    /// or 33:33 and its lower 32 (RFC 2464, section 7).
    #[must_use]
    pub fn of_group(group: IpAddress) -> Self {
        let [.., a, b, c, d] = *group.octets();
        if group.is_v4() { Self([0x01, 0x00, 0x5e, b & 0x7f, c, d]) } else { Self([0x33, 0x33, a, b, c, d]) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A VLAN: the ids of the tags of its frames, each 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// EtherType of the first tag: [`VLAN`] or [`SERVICE_VLAN`]. A second one has [`VLAN`].
    pub outer_type: u16,
    /// Id of the first tag, or of the only one.
    pub outer: u16,
    /// Id of the second tag (QinQ).
    pub inner: Option<u16>,
}

impl Vlan {
    /// A VLAN whose tags are of the types that IEEE 802.1Q, clause 9.5 has for them: a customer's has 0x8100, and a
    /// provider's, which goes around it, 0x88a8.
    #[must_use]
    pub const fn new(outer: u16, inner: Option<u16>) -> Self {
        let outer_type = if inner.is_some() { SERVICE_VLAN } else { VLAN };
        Self { outer_type, outer, inner }
    }
}

/// Priority and drop eligibility (IEEE 802.1Q, clause 9.6) of the tags that name a VLAN: four bits each, the inner one's last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Priority(pub u8);

/// The tags of a frame, outer first, as they stand on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    bytes: [[u8; TAG_LEN]; 2],
    count: u8,
}

impl Tags {
    /// The tags of a VLAN's frames, without priority.
    #[must_use]
    pub const fn of(vlan: Vlan) -> Self {
        let outer = ((vlan.outer_type as u32) << 16 | vlan.outer as u32).to_be_bytes();
        match vlan.inner {
            None => Self { bytes: [outer, [0; TAG_LEN]], count: 1 },
            Some(inner) => Self { bytes: [outer, ((VLAN as u32) << 16 | inner as u32).to_be_bytes()], count: 2 },
        }
    }

    /// Reads tags, and the EtherType behind them: `rest` is what follows `ethertype`, which is that of a tag.
    #[cold]
    fn parse(mut ethertype: u16, mut rest: &[u8]) -> Result<(Self, u16), DropReason> {
        let mut tags = Self::default();
        while is_tag(ethertype) && tags.count() < 2 {
            let (tag, after) = rest.split_first_chunk::<TAG_LEN>().ok_or(DropReason::FrameTooShort)?;
            let [tci_high, tci_low, type_high, type_low] = *tag;
            let [tpid_high, tpid_low] = ethertype.to_be_bytes();
            tags.bytes[tags.count()] = [tpid_high, tpid_low, tci_high, tci_low];
            tags.count += 1;
            ethertype = u16::from_be_bytes([type_high, type_low]);
            rest = after;
        }
        Ok((tags, ethertype))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether they name the same VLAN as others, or both name none: by type and id, as what goes out with tags of another
    /// type would be of another VLAN to a switch.
    #[must_use]
    pub fn are_of_vlan_of(&self, others: &Self) -> bool {
        const TYPE_AND_ID: u32 = 0xffff_0fff;
        let vlan = |tag: [u8; TAG_LEN]| u32::from_be_bytes(tag) & TYPE_AND_ID;
        self.named().map(vlan).eq(others.named().map(vlan))
    }

    /// The tags that name a VLAN: one with id 0 only carries a priority (IEEE 802.1Q, clause 9.6).
    fn named(&self) -> impl Iterator<Item = [u8; TAG_LEN]> {
        self.bytes.iter().take(self.count()).copied().filter(|tag| be16(tag, 2) & 0x0fff != 0)
    }

    /// The priority of the tags that name a VLAN.
    #[must_use]
    pub fn priority(&self) -> Priority {
        Priority(self.named().fold(0, |bits, tag| bits << 4 | tag[2] >> 4))
    }

    /// The priority in a frame with as many tags as these.
    #[inline]
    #[must_use]
    pub fn priority_in(&self, frame: &[u8]) -> Priority {
        let bits = |at: usize| frame.get(at).map_or(0, |bits| bits >> 4);
        match self.count {
            0 => Priority::default(),
            1 => Priority(bits(LEN)),
            _ => Priority(bits(LEN) << 4 | bits(LEN + TAG_LEN)),
        }
    }

    /// The same tags with a priority.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        let mut bits = priority.0;
        for tag in self.bytes.iter_mut().take(usize::from(self.count)).rev() {
            tag[2] = bits << 4 | tag[2] & 0x0f;
            bits >>= 4;
        }
        self
    }
}

/// What the frames are like that are for us and need no closer look: to our MAC address, and untagged or, where ours are
/// tagged, with that very tag. In the form that a frame's first bytes are compared with at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainLink {
    destination: u64,
    /// What stands where tags or the EtherType do, as far as the mask says.
    tag: u64,
    mask: u64,
    /// Bits that the EtherType is to be shifted by there.
    shift: u32,
    /// Bytes of the header.
    len: usize,
}

impl PlainLink {
    /// Frames for the station with a MAC address, untagged or of a VLAN. Of one within another none counts as plain.
    #[must_use]
    pub const fn new(mac: Mac, vlan: Option<Vlan>) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        let destination = u64::from_le_bytes([0, 0, a, b, c, d, e, f]);
        let untagged = Self { destination, tag: 0, mask: 0, shift: 48, len: LEN };
        match vlan {
            None => untagged,
            Some(Vlan { outer_type, outer, inner: None }) => Self {
                // Whatever the priority.
                tag: (outer_type as u64) << 48 | (outer as u64) << 32,
                mask: 0xffff_0fff << 32,
                shift: 16,
                len: LEN + TAG_LEN,
                ..untagged
            },
            // A bit that every frame's is shifted out of: no frame is for it.
            Some(_) => Self { destination: 1, ..untagged },
        }
    }

    /// What a frame from one station carries, and behind how many bytes.
    #[inline]
    #[must_use]
    pub fn carried(&self, frame: &[u8]) -> Option<(u16, usize)> {
        let start = u64::from_le_bytes(*frame.first_chunk()?);
        let types = u64::from_be_bytes(*frame.get(12..)?.first_chunk()?);
        // The seventh byte is the first of the sender, who is no group.
        let is_plain = start << 16 == self.destination && start >> 48 & 1 == 0 && types & self.mask == self.tag;
        is_plain.then_some(((types >> self.shift) as u16, self.len))
    }
}

/// A header, received or to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Receiver.
    pub destination: Mac,
    /// Sender.
    pub source: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// What the payload is.
    pub ethertype: u16,
}

impl Header {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DropReason::FrameTooShort`] when the header or its tags are cut off.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, DropReason> {
        let (header, rest) = bytes.split_first_chunk::<LEN>().ok_or(DropReason::FrameTooShort)?;
        let [destination, source] = *header.as_chunks().0 else { return Err(DropReason::FrameTooShort) };
        let (tags, ethertype) = match be16(header, 12) {
            ethertype if is_tag(ethertype) => Tags::parse(ethertype, rest)?,
            ethertype => (Tags::default(), ethertype),
        };
        Ok(Self { destination: Mac(destination), source: Mac(source), tags, ethertype })
    }

    /// Reads the header of a frame that has no tags.
    #[inline(always)]
    #[must_use]
    pub const fn untagged(header: &[u8; LEN]) -> Self {
        let tags = Tags { bytes: [[0; TAG_LEN]; 2], count: 0 };
        Self { destination: destination(header), source: source(header), tags, ethertype: be16(header, 12) }
    }

    /// Bytes of the header, tags included.
    #[inline]
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        LEN + TAG_LEN * self.tags.count()
    }

    /// Writes the header without its tags.
    #[inline]
    pub fn write_untagged(&self, out: &mut [u8; LEN]) {
        out[..6].copy_from_slice(&self.destination.0);
        out[6..12].copy_from_slice(&self.source.0);
        out[12..].copy_from_slice(&self.ethertype.to_be_bytes());
    }

    /// Writes the header into the first [`len_bytes`](Self::len_bytes) bytes of `out`; `false` if they are not there.
    #[inline]
    #[must_use]
    pub fn write(&self, out: &mut [u8]) -> bool {
        let Some((addresses, mut rest)) = out.split_first_chunk_mut::<12>() else { return false };
        addresses[..6].copy_from_slice(&self.destination.0);
        addresses[6..].copy_from_slice(&self.source.0);
        for tag in self.tags.bytes.iter().take(self.tags.count()) {
            let Some((place, after)) = rest.split_first_chunk_mut::<TAG_LEN>() else { return false };
            *place = *tag;
            rest = after;
        }
        let Some(place) = rest.first_chunk_mut::<2>() else { return false };
        *place = self.ethertype.to_be_bytes();
        true
    }
}

/// Receiver.
#[inline]
#[must_use]
pub const fn destination(header: &[u8; LEN]) -> Mac {
    Mac([header[0], header[1], header[2], header[3], header[4], header[5]])
}

/// Sender.
#[inline]
#[must_use]
pub const fn source(header: &[u8; LEN]) -> Mac {
    Mac([header[6], header[7], header[8], header[9], header[10], header[11]])
}

/// Makes the addresses of a frame to us those of its answer, to `to`.
#[inline]
pub fn turn_round(header: &mut [u8; 12], ours: Mac, to: Mac) {
    header[..6].copy_from_slice(&to.0);
    header[6..12].copy_from_slice(&ours.0);
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, VLAN | SERVICE_VLAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tags: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1]);
        frame.extend(tags.iter().flatten());
        frame.extend([0x08, 0x00]);
        frame
    }

    #[test]
    fn what_is_parsed_is_what_is_written() {
        for tags in [&[][..], &[[0x81, 0, 0xe0, 0]], &[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 7]]] {
            let frame = tagged(tags);
            let packet = Header::parse(&frame).unwrap();
            assert_eq!((packet.len_bytes(), packet.ethertype), (frame.len(), IPV4));
            let mut out = vec![0; frame.len()];
            assert!(packet.write(&mut out));
            assert_eq!(out, frame);
        }
    }

    #[test]
    fn groups_have_the_macs_of_their_family() {
        let mac = |group: &str| Mac::of_group(group.parse::<std::net::IpAddr>().unwrap().into()).to_string();
        assert_eq!(mac("224.0.0.1"), "01:00:5e:00:00:01");
        assert_eq!(mac("239.255.1.2"), "01:00:5e:7f:01:02");
        assert_eq!(mac("ff02::1:ff12:3456"), "33:33:ff:12:34:56");
    }

    #[test]
    fn every_truncation_is_too_short() {
        let frame = tagged(&[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 7]]);
        for len in 0..frame.len() {
            assert_eq!(Header::parse(&frame[..len]).unwrap_err(), DropReason::FrameTooShort, "{len}");
        }
    }

    #[test]
    fn a_third_tag_is_an_ethertype_nobody_speaks() {
        let frame = tagged(&[[0x81, 0, 0, 5], [0x81, 0, 0, 7], [0x81, 0, 0, 9]]);
        assert_eq!(Header::parse(&frame).unwrap().ethertype, VLAN);
    }

    #[test]
    fn tags_name_a_vlan_by_types_and_ids_whatever_the_priority() {
        let names = |vlan: Option<Vlan>, tags: &[[u8; 4]]| {
            let ours = vlan.map_or_else(Tags::default, Tags::of);
            Header::parse(&tagged(tags)).unwrap().tags.are_of_vlan_of(&ours)
        };
        let (single, double) = (Some(Vlan::new(5, None)), Some(Vlan::new(5, Some(7))));
        let service = Some(Vlan { outer_type: SERVICE_VLAN, outer: 5, inner: None });
        let customers = Some(Vlan { outer_type: VLAN, outer: 5, inner: Some(7) });
        let all = [None, single, service, double, customers];
        for (tags, named) in [
            (&[][..], None),
            (&[[0x81, 0, 0xf0, 0]], None),
            (&[[0x88, 0xa8, 0, 0], [0x81, 0, 0xe0, 0]], None),
            (&[[0x81, 0, 0xf0, 5]], single),
            (&[[0x88, 0xa8, 0x70, 5]], service),
            (&[[0x88, 0xa8, 0xe0, 0], [0x81, 0, 0, 5]], single),
            (&[[0x88, 0xa8, 0, 5], [0x81, 0, 0xe0, 0]], service),
            (&[[0x88, 0xa8, 0x20, 5], [0x81, 0, 0xe0, 7]], double),
            (&[[0x81, 0, 0xe0, 5], [0x81, 0, 0x20, 7]], customers),
        ] {
            for vlan in all {
                assert_eq!(names(vlan, tags), vlan == named, "{tags:02x?} {vlan:?}");
            }
        }
        assert!(!names(double, &[[0x88, 0xa8, 0, 5], [0x88, 0xa8, 0, 7]]), "the second one of a provider");
        assert!(!names(double, &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 5]]), "the other way round");
    }

    #[test]
    fn a_priority_goes_from_tags_to_others() {
        let tags = |tags: &[[u8; 4]]| Header::parse(&tagged(tags)).unwrap().tags;
        let (single, double) = (Tags::of(Vlan::new(5, None)), Tags::of(Vlan::new(5, Some(7))));
        let received = tags(&[[0x81, 0, 0xf0, 5]]);
        assert_eq!(single.with_priority(received.priority()), received);
        let received = tags(&[[0x88, 0xa8, 0xa0, 5], [0x81, 0, 0x70, 7]]);
        assert_eq!(double.with_priority(received.priority()), received);
        let frame = tagged(&[[0x88, 0xa8, 0xa0, 5], [0x81, 0, 0x70, 7]]);
        assert_eq!(double.priority_in(&frame), received.priority());
        assert_eq!(single.priority_in(&tagged(&[[0x81, 0, 0x70, 5]])), Priority(7));
        assert_eq!(Tags::default().priority_in(&tagged(&[])), Priority(0));
        assert_eq!(received.with_priority(Priority::default()), double);
        let in_front = tags(&[[0x88, 0xa8, 0xe0, 0], [0x81, 0, 0x60, 5]]);
        assert_eq!(single.with_priority(in_front.priority()), tags(&[[0x81, 0, 0x60, 5]]));
    }

    #[test]
    fn the_types_of_tags_are_those_of_their_standard_unless_said_otherwise() {
        assert_eq!(Tags::of(Vlan::new(0x123, None)), Header::parse(&tagged(&[[0x81, 0, 0x01, 0x23]])).unwrap().tags);
        let written = |outer: [u8; 4]| Header::parse(&tagged(&[outer, [0x81, 0, 0, 1]])).unwrap().tags;
        let double = Vlan::new(4094, Some(1));
        assert_eq!(Tags::of(double), written([0x88, 0xa8, 0x0f, 0xfe]));
        assert_eq!(Tags::of(Vlan { outer_type: VLAN, ..double }), written([0x81, 0, 0x0f, 0xfe]));
    }

    #[test]
    fn a_plain_frame_is_for_its_station_from_one_station() {
        let ours = PlainLink::new(Mac([2, 0, 0, 0, 0, 9]), None);
        let mut frame = [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x08, 0x00][..], &[0; 20]].concat();
        assert_eq!(ours.carried(&frame), Some((IPV4, 14)));
        for at in 0..6 {
            frame[at] ^= 4;
            assert_eq!(ours.carried(&frame), None, "byte {at}");
            frame[at] ^= 4;
        }
        frame[6] = 1;
        assert_eq!(ours.carried(&frame), None, "from a group");
    }

    #[test]
    fn on_a_vlan_a_plain_frame_has_its_tag_whatever_the_priority() {
        let mac = Mac([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let frame = |tags: &[[u8; 4]]| [tagged(tags), vec![0; 20]].concat();
        let on = |outer_type, inner| PlainLink::new(mac, Some(Vlan { outer_type, outer: 0x123, inner }));
        for (tpid, [high, low]) in [VLAN, SERVICE_VLAN].map(|tpid| (tpid, tpid.to_be_bytes())) {
            for priority in [0x01, 0x11, 0xf1] {
                assert_eq!(on(tpid, None).carried(&frame(&[[high, low, priority, 0x23]])), Some((IPV4, 18)));
            }
        }
        for tags in [&[][..], &[[0x81, 0, 1, 0x24]], &[[0x88, 0xa8, 1, 0x23]]] {
            assert_eq!(on(VLAN, None).carried(&frame(tags)), None, "{tags:?}");
        }
        let double = frame(&[[0x81, 0, 1, 0x23], [0x81, 0, 0, 1]]);
        assert_eq!(on(VLAN, Some(1)).carried(&double), None, "the long way");
    }
}
