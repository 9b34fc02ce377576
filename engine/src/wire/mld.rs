//! Multicast Listener Discovery: version 2 (RFC 3810), and version 1 (RFC 2710) for routers that speak no other.
//!
//! ```text
//!  query      | icmpv6 header 8, with the response time | group 16 | of version 2: robustness 1, interval 1, sources ...
//!  report 2   | icmpv6 header 8, with the number of records | records: | kind 1 | 0 3 | group 16 |
//!  report 1   | icmpv6 header 8 | group 16
//! ```
//!
//! What is written begins with hop-by-hop options that alert routers: it is the payload of an IPv6 header with
//! Next Header [`HOP_BY_HOP`](super::ipv6::HOP_BY_HOP) and hop limit [`HOP_LIMIT`], from a link-local address, or from
//! the unspecified one as long as there is none.

use std::net::Ipv6Addr;

use super::icmpv6::{self, set_checksum};
use super::ipv6::{ICMPV6, ROUTER_ALERT};
use super::membership::{Query, Record, Version, are_there, from_byte, from_two_bytes};
use super::{be16, ndp};
use crate::base::DropReason;

/// The hop limit of every message (RFC 3810, section 5).
pub const HOP_LIMIT: u8 = 1;
/// Who hears reports of version 2 (RFC 3810, section 5.2.14).
pub const ALL_V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// Bytes of a report of version 2 without records, router alert included.
pub const REPORT_LEN: usize = ALERT.len() + icmpv6::LEN;
/// Bytes of a record.
pub const RECORD_LEN: usize = 20;
/// Bytes of a report or a good-bye of version 1, router alert included.
pub const V1_LEN: usize = ALERT.len() + icmpv6::LEN + 16;

/// Hop-by-hop options in front of ICMPv6: a router alert of value 0, which is MLD (RFC 2711, section 2.1), and a PadN.
const ALERT: [u8; 8] = [ICMPV6, 0, ROUTER_ALERT, 2, 0, 0, 1, 0];

/// Reads a query that came with `hop_limit` from `source`, with hop-by-hop options that alert routers or without.
///
/// # Errors
/// [`DropReason::IcmpIgnored`] if it is no query, [`DropReason::MldMalformed`] if it is none that is valid.
pub fn parse_query(
    packet: &icmpv6::Packet<'_>,
    hop_limit: u8,
    router_alert: bool,
    source: Ipv6Addr,
) -> Result<Query, DropReason> {
    if packet.kind() != icmpv6::LISTENER_QUERY {
        return Err(DropReason::IcmpIgnored);
    }
    // RFC 3810, section 6.2: the node checks if the source address is a valid link-local address, if the Hop Limit is
    // set to 1, and if the Router Alert option is present. If any of these checks fails, the packet is dropped.
    if !source.is_unicast_link_local() || hop_limit != HOP_LIMIT || !router_alert {
        return Err(DropReason::MldMalformed);
    }
    let (group, rest) = packet.body().split_first_chunk::<16>().ok_or(DropReason::MldMalformed)?;
    let group = Ipv6Addr::from(*group);
    if !group.is_multicast() && !group.is_unspecified() {
        return Err(DropReason::MldMalformed);
    }
    let group = group.is_multicast().then(|| group.into());
    let code = be16(&packet.parameter(), 0);
    // RFC 3810, section 8.1: of 24 octets it is of version 1, of 28 or more of version 2; all others must be ignored.
    if rest.is_empty() {
        let max_response_ms = code.into();
        return Ok(Query { version: Version::V2, max_response_ms, group, sources: 0, robustness: 0, interval_s: 0 });
    }
    let ([flags, interval, count_high, count_low], list) = rest.split_first_chunk().ok_or(DropReason::MldMalformed)?;
    let sources = u16::from_be_bytes([*count_high, *count_low]);
    if !are_there(sources, list, 16) {
        return Err(DropReason::MldMalformed);
    }
    Ok(Query {
        version: Version::V3,
        max_response_ms: from_two_bytes(code),
        group,
        sources,
        robustness: flags & 7,
        interval_s: from_byte(*interval),
    })
}

/// Writes a report of version 2 from `source` to [`ALL_V2_ROUTERS`] and gives its length in bytes; none if `out` is
/// shorter than [`REPORT_LEN`] and a [`RECORD_LEN`] for each record.
#[must_use]
pub fn write_report(
    out: &mut [u8],
    records: impl IntoIterator<Item = Record<Ipv6Addr>>,
    source: Ipv6Addr,
) -> Option<usize> {
    let (header, mut rest) = out.split_first_chunk_mut::<REPORT_LEN>()?;
    let mut count = 0_u16;
    for Record { kind, group } in records {
        let (place, after) = rest.split_first_chunk_mut::<RECORD_LEN>()?;
        place[..4].copy_from_slice(&[kind as u8, 0, 0, 0]);
        place[4..].copy_from_slice(&group.octets());
        count = count.checked_add(1)?;
        rest = after;
    }
    let [count_high, count_low] = count.to_be_bytes();
    header[..8].copy_from_slice(&ALERT);
    header[8..].copy_from_slice(&[icmpv6::LISTENER_REPORT_V2, 0, 0, 0, 0, 0, count_high, count_low]);
    let len = REPORT_LEN + RECORD_LEN * usize::from(count);
    set_checksum(out.get_mut(ALERT.len()..len)?, source, ALL_V2_ROUTERS);
    Some(len)
}

/// Writes a report of version 1 about `group` from `source`, and gives whom it goes to: the group itself.
pub fn write_v1_report(out: &mut [u8; V1_LEN], group: Ipv6Addr, source: Ipv6Addr) -> Ipv6Addr {
    write_v1(out, icmpv6::LISTENER_REPORT, group, source, group)
}

/// Writes the good-bye of version 1 to `group` from `source`, and gives whom it goes to: all routers.
pub fn write_v1_done(out: &mut [u8; V1_LEN], group: Ipv6Addr, source: Ipv6Addr) -> Ipv6Addr {
    write_v1(out, icmpv6::LISTENER_DONE, group, source, ndp::ALL_ROUTERS)
}

fn write_v1(out: &mut [u8; V1_LEN], kind: u8, group: Ipv6Addr, source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6Addr {
    out[..8].copy_from_slice(&ALERT);
    out[8..16].copy_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    out[16..].copy_from_slice(&group.octets());
    set_checksum(&mut out[8..], source, destination);
    destination
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv6;
    use crate::wire::membership::RecordKind;
    use crate::wire::tests::Random;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const OUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2);

    fn query(max_response: u16, group: Ipv6Addr, rest: &[u8]) -> Vec<u8> {
        let [high, low] = max_response.to_be_bytes();
        let mut bytes = [&[130, 0, 0, 0, high, low, 0, 0][..], &group.octets(), rest].concat();
        set_checksum(&mut bytes, ROUTER, ndp::ALL_NODES);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Query, DropReason> {
        parse_query(&icmpv6::Packet::parse(bytes, ROUTER, ndp::ALL_NODES)?, 1, true, ROUTER)
    }

    #[test]
    fn the_version_of_a_query_is_in_its_length() {
        let general = Ipv6Addr::UNSPECIFIED;
        let first = parsed(&query(0x8000, general, &[])).unwrap();
        assert_eq!((first.version, first.max_response_ms, first.group), (Version::V2, 32_768, None));
        let second = parsed(&query(0x8001, GROUP, &[0xfa, 0x8f, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]));
        let expected = Query {
            version: Version::V3,
            max_response_ms: 0x1001 << 3,
            group: Some(GROUP.into()),
            sources: 1,
            robustness: 2,
            interval_s: 248,
        };
        assert_eq!(second, Ok(expected));
        for len in 1..4 {
            assert_eq!(parsed(&query(0, general, &vec![0; len])), Err(DropReason::MldMalformed), "{len}");
        }
    }

    #[test]
    fn queries_that_lie_are_refused() {
        assert_eq!(parsed(&query(0, OUR, &[])), Err(DropReason::MldMalformed), "no group");
        let sources = |len: usize| parsed(&query(0, GROUP, &[&[2, 125, 0, 2][..], &vec![0; len]].concat()));
        assert_eq!(sources(31), Err(DropReason::MldMalformed));
        assert!(sources(32).is_ok());
        let bytes = query(0, GROUP, &[]);
        let packet = icmpv6::Packet::parse(&bytes, ROUTER, ndp::ALL_NODES).unwrap();
        let global = "2001:db8::1".parse().unwrap();
        for (hop_limit, alert, source) in [(2, true, ROUTER), (1, false, ROUTER), (1, true, global)] {
            assert_eq!(parse_query(&packet, hop_limit, alert, source), Err(DropReason::MldMalformed));
        }
        let short = icmpv6::Packet::unchecked(&bytes[..23]).unwrap();
        assert_eq!(parse_query(&short, 1, true, ROUTER), Err(DropReason::MldMalformed));
    }

    /// What a receiver makes of a payload that we wrote: its ICMPv6, if it is behind a router alert and intact.
    fn received(payload: &[u8], destination: Ipv6Addr) -> Vec<u8> {
        let mut header = [0; ipv6::LEN];
        let payload_len = payload.len() as u16;
        let (next_header, hop_limit) = (ipv6::HOP_BY_HOP, HOP_LIMIT);
        ipv6::Header { traffic_class: 0, flow_label: 0, payload_len, next_header, hop_limit, source: OUR, destination }
            .write(&mut header);
        let bytes = [&header, payload].concat();
        let packet = ipv6::Packet::parse(&bytes).unwrap();
        let upper = ipv6::walk(&packet).unwrap();
        assert_eq!((upper.protocol, upper.router_alert), (ICMPV6, true));
        let message = packet.from(upper.at);
        assert!(icmpv6::Packet::parse(message, OUR, destination).is_ok());
        message.to_vec()
    }

    #[test]
    fn a_report_names_every_group_behind_a_router_alert() {
        let records = [
            Record { kind: RecordKind::ChangeToExclude, group: GROUP },
            Record { kind: RecordKind::ModeIsExclude, group: ndp::ALL_NODES },
        ];
        let mut out = [0xee; REPORT_LEN + 2 * RECORD_LEN];
        let len = write_report(&mut out, records, OUR).unwrap();
        let message = received(&out[..len], ALL_V2_ROUTERS);
        assert_eq!((message.len(), message[0], &message[4..8]), (48, 143, &[0, 0, 0, 2][..]));
        assert_eq!(message[8..28], [&[4, 0, 0, 0][..], &GROUP.octets()].concat());
        assert_eq!(message[28..32], [2, 0, 0, 0]);
        assert_eq!(write_report(&mut out[..len - 1], records, OUR), None);
        assert_eq!(write_report(&mut out, [], OUR), Some(REPORT_LEN));
    }

    #[test]
    fn version_1_reports_to_the_group_and_says_good_bye_to_routers() {
        let mut out = [0xee; V1_LEN];
        let destination = write_v1_report(&mut out, GROUP, OUR);
        let message = received(&out, destination);
        assert_eq!((destination, message[0], &message[8..]), (GROUP, 131, &GROUP.octets()[..]));
        let destination = write_v1_done(&mut out, GROUP, OUR);
        let message = received(&out, destination);
        assert_eq!((destination, message[0], &message[8..]), (ndp::ALL_ROUTERS, 132, &GROUP.octets()[..]));
    }

    #[test]
    fn no_bytes_whatsoever_panic() {
        let (mut random, mut bytes) = (Random::default(), query(0, GROUP, &[0; 36]));
        let mut valid = 0;
        for _ in 0..1_000_000 {
            let len = 8 + usize::from(random.byte()) % 53;
            random.fill(&mut bytes[4..8]);
            random.fill(&mut bytes[24..28]);
            (bytes[8], bytes[26], bytes[27]) = (random.byte() | 0xfe, 0, random.byte() % 4);
            let packet = icmpv6::Packet::unchecked(&bytes[..len]).unwrap();
            valid += usize::from(parse_query(&packet, 1, true, ROUTER).is_ok());
        }
        assert!(valid > 10_000, "{valid} get as far as that");
    }
}
