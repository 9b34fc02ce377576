//! What IGMP and MLD have in common: MLDv1 is a translation of IGMPv2 for IPv6, and MLDv2 one of IGMPv3.

use super::ip::IpAddress;

/// Version of a protocol that asks for members of groups, by IGMP's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IGMPv1 (RFC 1112): no leaving.
    V1,
    /// IGMPv2 (RFC 2236), MLDv1 (RFC 2710): a report for each group.
    V2,
    /// IGMPv3 (RFC 3376), MLDv2 (RFC 3810): a report of all groups.
    V3,
}

/// A router's question who listens to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// What it is to be answered with.
    pub version: Version,
    /// By when at the latest, in milliseconds; after a random time up to that.
    pub max_response_ms: u32,
    /// The group asked about; none if it is about all.
    pub group: Option<IpAddress>,
    /// How many senders it asks about; 0 if about any.
    pub sources: u16,
    /// How many times a report is sent, so that one may be lost; 0 where the router does not say.
    pub robustness: u8,
    /// Time between general queries, in seconds; 0 where the router does not say.
    pub interval_s: u32,
}

/// What a record of a report tells about its group (RFC 3376, section 4.2.12; RFC 3810, section 5.2.12). We listen to
/// all senders or to none, so that none is ever named: all but none, or only none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// An answer: we do not listen.
    ModeIsInclude = 1,
    /// An answer: we listen.
    ModeIsExclude = 2,
    /// News: we do not listen any more.
    ChangeToInclude = 3,
    /// News: we listen from now on.
    ChangeToExclude = 4,
}

/// A record of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<Address> {
    /// What it tells.
    pub kind: RecordKind,
    /// Of which group.
    pub group: Address,
}

/// A time as IGMPv3 and MLDv2 write it in a byte: as it is up to 127, from there on with a mantissa of four bits and
/// an exponent of three (RFC 3376, sections 4.1.1 and 4.1.7; RFC 3810, section 5.1.9).
pub(super) const fn from_byte(code: u8) -> u32 {
    match code {
        0..128 => code as u32,
        _ => (code as u32 & 0x0f | 0x10) << ((code >> 4 & 7) + 3),
    }
}

/// The same in two bytes: as it is up to 32,767, from there on with a mantissa of twelve bits (RFC 3810, section 5.1.3).
pub(super) const fn from_two_bytes(code: u16) -> u32 {
    match code {
        0..0x8000 => code as u32,
        _ => (code as u32 & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

/// Whether a query's list of `count` senders is there. Who they are does not matter to one who listens to all.
pub(super) const fn are_there(count: u16, sources: &[u8], address_len: usize) -> bool {
    sources.len() >= count as usize * address_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_written_with_an_exponent() {
        assert_eq!([0, 1, 127, 128, 0x8f, 0x90, 255].map(from_byte), [0, 1, 127, 128, 248, 256, 31_744]);
        let two = [0, 0x7fff, 0x8000, 0x8fff, 0x9000, u16::MAX].map(from_two_bytes);
        assert_eq!(two, [0, 32_767, 32_768, 65_528, 65_536, 8_387_584]);
        assert!((1..=255).all(|code| from_byte(code) > from_byte(code - 1)));
    }
}
