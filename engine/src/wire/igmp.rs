//! Internet Group Management Protocol: version 3 (RFC 3376), and versions 2 (RFC 2236) and 1 (RFC 1112) for routers that
//! speak no other.
//!
//! ```text
//!  query          | 0x11 | response time 1 | checksum 2 | group 4 | of version 3: robustness 1, interval 1, sources ...
//!  report 3       | 0x22 | 0 1 | checksum 2 | 0 2 | number of records 2 | records: | kind 1 | 0 3 | group 4 |
//!  report, leave  | kind 1 | 0 1 | checksum 2 | group 4
//! ```

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::ipv4;
use super::membership::{Query, Record, Version, are_there, from_byte};
use crate::base::DropReason;

/// Bytes of a message of version 1 or 2.
pub const LEN: usize = 8;
/// Bytes of a report of version 3 without records.
pub const REPORT_LEN: usize = 8;
/// Bytes of a record.
pub const RECORD_LEN: usize = 8;
/// Bytes of the IPv4 header of every message: it has a Router Alert option.
pub const IPV4_LEN: usize = ipv4::LEN + ALERT.len();

/// All systems on the link (RFC 1112, section 4).
pub const ALL_SYSTEMS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All routers on the link (RFC 2236, section 9).
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Who hears reports of version 3 (RFC 3376, section 4.2.14).
pub const ALL_V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);

const QUERY: u8 = 0x11;
const V1_REPORT: u8 = 0x12;
const V2_REPORT: u8 = 0x16;
const LEAVE: u8 = 0x17;
const V3_REPORT: u8 = 0x22;

/// Router Alert option of IPv4 (RFC 2113, section 2.1).
const ALERT: [u8; 4] = [0x94, 4, 0, 0];
/// RFC 3376, section 4: an IP Type-of-Service of 0xc0, Internetwork Control.
const TRAFFIC_CLASS: u8 = 0xc0;
/// RFC 3376, section 4: an IP Time-to-Live of 1.
const TTL: u8 = 1;
/// RFC 2236, section 4: the response time of version 1, which its queries do not tell, is 10 seconds.
const V1_RESPONSE_MS: u32 = 10_000;

/// Reads a query that was sent to `destination`; `options` are those of its IPv4 header.
///
/// # Errors
/// [`DropReason::IgmpChecksum`], [`DropReason::IgmpIgnored`] if it is no query, [`DropReason::IgmpMalformed`] if it is
/// none that is valid.
pub fn parse_query(bytes: &[u8], destination: Ipv4Addr, options: &[u8]) -> Result<Query, DropReason> {
    let (header, rest) = bytes.split_first_chunk::<LEN>().ok_or(DropReason::IgmpMalformed)?;
    // RFC 3376, section 4.1.2: the checksum must be verified before processing a packet.
    if !Sum::default().add_bytes(bytes).is_valid() {
        return Err(DropReason::IgmpChecksum);
    }
    let [kind, code, _, _, group @ ..] = *header;
    if kind != QUERY {
        return Err(DropReason::IgmpIgnored);
    }
    let group = Ipv4Addr::from(group);
    // RFC 3376, section 9.1: hosts should ignore general queries sent to a multicast address other than 224.0.0.1.
    let is_astray = group.is_unspecified() && destination.is_multicast() && destination != ALL_SYSTEMS;
    if !(group.is_multicast() || group.is_unspecified()) || is_astray {
        return Err(DropReason::IgmpMalformed);
    }
    let group = group.is_multicast().then(|| group.into());
    let query = query(code, rest).ok_or(DropReason::IgmpMalformed)?;
    // And queries of version 2 or 3 without the Router Alert option.
    if query.version > Version::V1 && !has_router_alert(options) {
        return Err(DropReason::IgmpMalformed);
    }
    Ok(Query { group, ..query })
}

/// RFC 3376, section 7.1: a query of 8 octets is of version 1 if its Max Resp Code is zero, else of version 2; one of
/// 12 or more is of version 3; all others must be silently ignored.
fn query(code: u8, rest: &[u8]) -> Option<Query> {
    let older = |version, max_response_ms| Query {
        version,
        max_response_ms,
        group: None,
        sources: 0,
        robustness: 0,
        interval_s: 0,
    };
    match (rest, code) {
        ([], 0) => Some(older(Version::V1, V1_RESPONSE_MS)),
        ([], code) => Some(older(Version::V2, 100 * u32::from(code))),
        ([flags, interval, count_high, count_low, list @ ..], code) => {
            let sources = u16::from_be_bytes([*count_high, *count_low]);
            are_there(sources, list, 4).then(|| Query {
                sources,
                robustness: flags & 7,
                interval_s: from_byte(*interval),
                ..older(Version::V3, 100 * from_byte(code))
            })
        }
        _ => None,
    }
}

/// Whether a Router Alert is among the options of an IPv4 header (RFC 791, section 3.1).
fn has_router_alert(mut options: &[u8]) -> bool {
    loop {
        match *options {
            // No operation.
            [1, ref rest @ ..] => options = rest,
            [kind, len, ..] if kind != 0 && len >= 2 => {
                if kind == ALERT[0] {
                    return len == ALERT[1];
                }
                options = options.get(usize::from(len)..).unwrap_or_default();
            }
            _ => return false,
        }
    }
}

/// Writes the IPv4 header of a message of `len` bytes: with a Router Alert, and for the link only.
pub fn write_ipv4(out: &mut [u8; IPV4_LEN], len: u16, source: Ipv4Addr, destination: Ipv4Addr) {
    let payload_len = len + ALERT.len() as u16;
    let (traffic_class, ttl, protocol) = (TRAFFIC_CLASS, TTL, ipv4::IGMP);
    let header = ipv4::Header { traffic_class, payload_len, ttl, protocol, source, destination };
    if let Some(plain) = out.first_chunk_mut() {
        header.write(plain);
    }
    out[0] = 0x40 | (IPV4_LEN / 4) as u8;
    out[ipv4::LEN..].copy_from_slice(&ALERT);
    out[10..12].fill(0);
    let checksum = Sum::default().add_bytes(&out[..]).checksum();
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes a report of version 3, which goes to [`ALL_V3_ROUTERS`], and gives its length in bytes; none if `out` is
/// shorter than [`REPORT_LEN`] and a [`RECORD_LEN`] for each record.
#[must_use]
pub fn write_report(out: &mut [u8], records: impl IntoIterator<Item = Record<Ipv4Addr>>) -> Option<usize> {
    let (header, mut rest) = out.split_first_chunk_mut::<REPORT_LEN>()?;
    let mut count = 0_u16;
    for Record { kind, group } in records {
        let (place, after) = rest.split_first_chunk_mut::<RECORD_LEN>()?;
        let [a, b, c, d] = group.octets();
        *place = [kind as u8, 0, 0, 0, a, b, c, d];
        count = count.checked_add(1)?;
        rest = after;
    }
    let [count_high, count_low] = count.to_be_bytes();
    *header = [V3_REPORT, 0, 0, 0, 0, 0, count_high, count_low];
    let len = REPORT_LEN + RECORD_LEN * usize::from(count);
    let checksum = Sum::default().add_bytes(out.get(..len)?).checksum();
    out.get_mut(2..4)?.copy_from_slice(&checksum.to_be_bytes());
    Some(len)
}

/// Writes a report of version 1 about `group`, and gives whom it goes to: the group itself.
pub fn write_v1_report(out: &mut [u8; LEN], group: Ipv4Addr) -> Ipv4Addr {
    write(out, V1_REPORT, group);
    group
}

/// Writes a report of version 2 about `group`, and gives whom it goes to: the group itself.
pub fn write_v2_report(out: &mut [u8; LEN], group: Ipv4Addr) -> Ipv4Addr {
    write(out, V2_REPORT, group);
    group
}

/// Writes the good-bye of version 2 to `group`, and gives whom it goes to: all routers. Version 1 has none.
pub fn write_leave(out: &mut [u8; LEN], group: Ipv4Addr) -> Ipv4Addr {
    write(out, LEAVE, group);
    ALL_ROUTERS
}

fn write(out: &mut [u8; LEN], kind: u8, group: Ipv4Addr) {
    let [a, b, c, d] = group.octets();
    *out = [kind, 0, 0, 0, a, b, c, d];
    let checksum = Sum::default().add_bytes(&out[..]).checksum();
    out[2..4].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::membership::RecordKind;
    use crate::wire::tests::Random;

    const OUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[2..4].fill(0);
        let checksum = Sum::default().add_bytes(&bytes).checksum();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn query(code: u8, group: Ipv4Addr, rest: &[u8]) -> Vec<u8> {
        with_checksum([&[QUERY, code, 0, 0][..], &group.octets(), rest].concat())
    }

    fn parsed(bytes: &[u8]) -> Result<Query, DropReason> {
        parse_query(bytes, ALL_SYSTEMS, &ALERT)
    }

    #[test]
    fn the_version_of_a_query_is_in_its_length_and_response_time() {
        let nobody = Ipv4Addr::UNSPECIFIED;
        let told = |bytes: Vec<u8>| parsed(&bytes).map(|query| (query.version, query.max_response_ms, query.group));
        assert_eq!(told(query(0, nobody, &[])), Ok((Version::V1, 10_000, None)));
        assert_eq!(told(query(0x8f, nobody, &[])), Ok((Version::V2, 14_300, None)));
        let expected = Query {
            version: Version::V3,
            max_response_ms: 24_800,
            group: Some(GROUP.into()),
            sources: 1,
            robustness: 2,
            interval_s: 125,
        };
        assert_eq!(parsed(&query(0x8f, GROUP, &[0xfa, 125, 0, 1, 10, 0, 0, 9])), Ok(expected));
        for len in 1..4 {
            assert_eq!(parsed(&query(1, nobody, &vec![0; len])), Err(DropReason::IgmpMalformed), "{len}");
        }
    }

    #[test]
    fn queries_that_lie_are_refused() {
        let good = query(100, GROUP, &[2, 125, 0, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
        assert!(parsed(&good).is_ok());
        assert_eq!(parsed(&with_checksum(good[..19].to_vec())), Err(DropReason::IgmpMalformed));
        assert_eq!(parsed(&good[..19]), Err(DropReason::IgmpChecksum));
        assert_eq!(parsed(&good[..7]), Err(DropReason::IgmpMalformed));
        assert_eq!(parsed(&query(100, OUR, &[])), Err(DropReason::IgmpMalformed), "no group");
        let general = query(100, Ipv4Addr::UNSPECIFIED, &[]);
        assert_eq!(parse_query(&general, GROUP, &ALERT), Err(DropReason::IgmpMalformed));
        assert!(parse_query(&general, OUR, &ALERT).is_ok());
        let mut report = [0; LEN];
        write_v2_report(&mut report, GROUP);
        assert_eq!(parsed(&report), Err(DropReason::IgmpIgnored));
    }

    #[test]
    fn all_but_the_oldest_queries_alert_routers() {
        let with = |code: u8, options: &[u8]| parse_query(&query(code, GROUP, &[]), GROUP, options).is_ok();
        assert!(with(0, &[]) && !with(1, &[]));
        assert!(with(1, &[1, 0x94, 4, 0, 0, 0, 0, 0]), "behind a no-operation");
        assert!(with(1, &[7, 3, 4, 1, 0x94, 4, 0, 0]), "behind another option");
        for options in [&[0x94][..], &[0, 0x94, 4, 0, 0], &[0x94, 3, 0], &[7, 0, 0x94, 4], &[7, 1, 0x94, 4], &[7, 200]]
        {
            assert!(!with(1, options), "{options:?}");
        }
    }

    #[test]
    fn a_message_goes_out_with_a_router_alert_and_for_the_link_only() {
        let mut header = [0xee; IPV4_LEN];
        write_ipv4(&mut header, LEN as u16, OUR, GROUP);
        let mut message = [0xee; LEN];
        assert_eq!(write_v2_report(&mut message, GROUP), GROUP);
        let bytes = [&header[..], &message].concat();
        let packet = ipv4::Packet::parse(&bytes).unwrap();
        assert_eq!((packet.header_len(), packet.ttl(), packet.protocol()), (24, 1, 2));
        assert_eq!((packet.traffic_class(), packet.source(), packet.destination()), (0xc0, OUR, GROUP));
        assert!(has_router_alert(&bytes[ipv4::LEN..packet.header_len()]));
        assert_eq!(packet.payload(), message);
    }

    #[test]
    fn what_members_say_is_of_the_version_asked_for() {
        let mut out = [0xee; LEN];
        let ends = |out: &[u8; LEN]| {
            assert!(Sum::default().add_bytes(out).is_valid());
            (out[0], out[1], Ipv4Addr::new(out[4], out[5], out[6], out[7]))
        };
        assert_eq!(write_v1_report(&mut out, GROUP), GROUP);
        assert_eq!(ends(&out), (0x12, 0, GROUP));
        assert_eq!(write_leave(&mut out, GROUP), ALL_ROUTERS);
        assert_eq!(ends(&out), (0x17, 0, GROUP));
        let records = [
            Record { kind: RecordKind::ChangeToInclude, group: GROUP },
            Record { kind: RecordKind::ModeIsExclude, group: ALL_SYSTEMS },
        ];
        let mut out = [0xee; REPORT_LEN + 2 * RECORD_LEN];
        assert_eq!(write_report(&mut out, records), Some(24));
        assert!(Sum::default().add_bytes(&out).is_valid());
        assert_eq!((out[0], &out[4..12]), (0x22, &[0, 0, 0, 2, 3, 0, 0, 0][..]));
        assert_eq!(out[12..], [239, 1, 2, 3, 2, 0, 0, 0, 224, 0, 0, 1]);
        assert_eq!(write_report(&mut out[..23], records), None);
    }

    #[test]
    fn no_bytes_whatsoever_panic() {
        let (mut random, mut bytes, mut valid) = (Random::default(), [0; 28], 0);
        for _ in 0..1_000_000 {
            let len = usize::from(random.byte()) % 29;
            random.fill(&mut bytes);
            let (query, options) = bytes.split_at_mut(20);
            let query = &mut query[..len.min(20)];
            if let [kind, _, _, _, group, _, _, _, rest @ ..] = query {
                (*kind, *group) = (QUERY, 224);
                if let [_, _, high, low, ..] = rest {
                    (*high, *low) = (0, *low % 4);
                }
                let checksum = Sum::default().add_bytes(&[&query[..2], &[0, 0], &query[4..]].concat()).checksum();
                query[2..4].copy_from_slice(&checksum.to_be_bytes());
            }
            options[0] = [0, 1, 7, 0x94][usize::from(random.byte()) % 4];
            (options[1], options[2]) = (random.byte() % 8, 0x94);
            valid += usize::from(parse_query(query, GROUP, options).is_ok());
        }
        assert!(valid > 10_000, "{valid} get as far as that");
    }
}
