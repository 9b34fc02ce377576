//! Each rule of the RFCs, with virtual time.

use std::net::Ipv6Addr;

use super::*;

fn ip(text: &str) -> IpAddress {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

fn new() -> Membership {
    Membership::new(4, true, 7)
}

fn query(version: Version, group: Option<&str>, max_response_ms: u32) -> Query {
    Query { version, max_response_ms, group: group.map(ip), sources: 0, robustness: 2, interval_s: 125 }
}

/// Everything that is sent until `until` ms, each with its time in ms.
fn sent(members: &mut Membership, until: u64) -> Vec<(u64, Report)> {
    let mut sent = Vec::new();
    while let Some(now) = members.next_deadline().filter(|&next| next <= at(until)) {
        while let Some(report) = members.due(now) {
            sent.push((now.as_ns() / 1_000_000, report));
        }
        assert!(members.next_deadline().is_none_or(|next| next > now), "what is due was given out");
    }
    sent
}

fn of(kind: RecordKind, groups: &[&str]) -> Report {
    Report::Groups(groups.iter().map(|group| Record { kind, group: ip(group) }).collect())
}

#[test]
fn a_join_is_reported_at_once_and_once_more_within_a_second() {
    let mut members = new();
    assert_eq!(members.join(ip("239.1.1.1"), at(5)), Ok(true));
    assert!(members.is_member(ip("239.1.1.1")) && !members.is_member(ip("239.1.1.2")));
    let sent = sent(&mut members, 100_000);
    let [(5, first), (again, second)] = &sent[..] else { panic!("{sent:?}") };
    assert!((5..=1005).contains(again), "{again}");
    assert_eq!([first, second], [&of(RecordKind::ChangeToExclude, &["239.1.1.1"]); 2]);
}

#[test]
fn the_last_to_leave_is_reported_and_the_group_forgotten() {
    let mut members = new();
    let group = ip("ff15::7");
    assert_eq!([members.join(group, at(0)), members.join(group, at(0))], [Ok(true), Ok(false)]);
    sent(&mut members, 10_000);
    assert!(!members.leave(group, at(10_000)) && members.is_member(group));
    assert!(members.leave(group, at(10_000)) && !members.is_member(group));
    let reports: Vec<_> = sent(&mut members, 100_000).into_iter().map(|(_, report)| report).collect();
    assert_eq!(reports, [of(RecordKind::ChangeToInclude, &["ff15::7"]), of(RecordKind::ChangeToInclude, &["ff15::7"])]);
    assert_eq!(members.next_change(), None, "joined and left before anybody asked");
    assert!(members.groups.is_empty() && !members.leave(group, at(100_000)));
}

#[test]
fn a_change_replaces_the_one_before() {
    let mut members = new();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    assert!(members.due(at(0)).is_some());
    members.leave(ip("239.1.1.1"), at(0));
    let kinds: Vec<_> = sent(&mut members, 100_000).into_iter().map(|(_, report)| report).collect();
    assert_eq!(kinds, vec![of(RecordKind::ChangeToInclude, &["239.1.1.1"]); 2]);
}

#[test]
fn a_general_query_is_answered_with_all_groups_of_its_family_in_one_report_within_its_time() {
    let mut delays = Vec::new();
    for seed in 0..50 {
        let mut members = Membership::new(0, true, seed);
        for group in ["239.1.1.1", "ff15::7", "239.1.1.2"] {
            members.join(ip(group), at(0)).unwrap();
        }
        sent(&mut members, 9_999);
        members.query(&query(Version::V3, None, 2000), true, at(10_000));
        let sent = sent(&mut members, 100_000);
        let [(time, report)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!(*report, of(RecordKind::ModeIsExclude, &["239.1.1.1", "239.1.1.2"]));
        delays.push(*time - 10_000);
    }
    assert!(delays.iter().all(|delay| *delay <= 2000), "{delays:?}");
    assert!(delays.iter().min() < Some(&500) && delays.iter().max() > Some(&1500), "spread: {delays:?}");
}

#[test]
fn an_answer_that_is_on_its_way_is_given_at_the_earlier_time() {
    let mut members = new();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    sent(&mut members, 10_000);
    members.query(&query(Version::V3, None, 1), true, at(10_000));
    members.query(&query(Version::V3, None, 100_000), true, at(10_000));
    members.query(&query(Version::V3, Some("239.1.1.1"), 100_000), true, at(10_000));
    assert_eq!(sent(&mut members, 200_000).len(), 1, "rule 1");
    members.query(&query(Version::V3, Some("239.1.1.1"), 100_000), true, at(200_000));
    members.query(&query(Version::V3, Some("239.1.1.1"), 1), true, at(200_000));
    let sent = sent(&mut members, 400_000);
    assert_eq!(sent, [(200_000, of(RecordKind::ModeIsExclude, &["239.1.1.1"]))], "rule 4");
}

#[test]
fn a_query_about_a_group_that_we_are_not_in_is_not_answered() {
    let mut members = new();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    sent(&mut members, 10_000);
    members.query(&query(Version::V3, Some("239.1.1.2"), 1000), true, at(10_000));
    assert_eq!(members.next_deadline(), None);
}

#[test]
fn some_groups_are_everybodys_and_never_reported() {
    let mut members = new();
    for group in ["224.0.0.1", "ff02::1", "ff01::7", "ff00::7"] {
        assert_eq!(members.join(ip(group), at(0)), Ok(true));
        assert!(members.is_member(ip(group)));
    }
    members.query(&query(Version::V3, None, 100), true, at(0));
    members.query(&query(Version::V3, None, 100), false, at(0));
    assert_eq!(sent(&mut members, 100_000), []);
}

#[test]
fn an_older_router_is_answered_in_its_version_group_by_group() {
    for (version, is_v4, groups) in [
        (Version::V1, true, ["239.1.1.1", "239.1.1.2"]),
        (Version::V2, true, ["239.1.1.1", "239.1.1.2"]),
        (Version::V2, false, ["ff15::1", "ff15::2"]),
    ] {
        let mut members = new();
        for group in groups {
            members.join(ip(group), at(0)).unwrap();
        }
        sent(&mut members, 10_000);
        members.query(&query(version, None, 10_000), is_v4, at(10_000));
        let answers = sent(&mut members, 20_000);
        let mut told: Vec<_> = answers.iter().map(|(_, report)| report.clone()).collect();
        told.sort_by_key(|report| format!("{report:?}"));
        assert_eq!(told, groups.map(|group| Report::Member(version, ip(group))));
        assert_ne!(answers[0].0, answers[1].0, "each after a time of its own");
        members.leave(ip(groups[0]), at(20_000));
        let good_byes = sent(&mut members, 50_000);
        let expected = [(20_000, Report::Leave(ip(groups[0])))];
        assert_eq!(good_byes, if version == Version::V1 { &[][..] } else { &expected[..] }, "{version:?}");
        assert!(!members.groups.iter().any(|group| group.address == ip(groups[0])), "forgotten in any case");
    }
}

#[test]
fn a_join_is_told_an_older_router_again_within_ten_seconds() {
    let mut members = new();
    members.query(&query(Version::V2, None, 100), true, at(0));
    members.join(ip("239.1.1.1"), at(1000)).unwrap();
    let sent = sent(&mut members, 100_000);
    let report = Report::Member(Version::V2, ip("239.1.1.1"));
    let [(1000, first), (again, second)] = &sent[..] else { panic!("{sent:?}") };
    assert!((1000..=11_000).contains(again) && *first == report && *second == report);
}

#[test]
fn an_older_router_is_forgotten_when_it_is_silent_and_the_oldest_counts() {
    let mut members = new();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    sent(&mut members, 10_000);
    members.query(&query(Version::V2, None, 100), true, at(10_000));
    members.query(&query(Version::V1, None, 100), true, at(110_000));
    assert_eq!(members.ipv4.version, Version::V1);
    // 2 x 125 s and 10 s.
    members.join(ip("239.1.1.2"), at(369_000)).unwrap();
    assert_eq!(members.due(at(369_000)), Some(Report::Member(Version::V1, ip("239.1.1.1"))), "left from the query");
    assert_eq!(members.due(at(369_000)), Some(Report::Member(Version::V1, ip("239.1.1.2"))));
    members.join(ip("239.1.1.3"), at(370_001)).unwrap();
    let reports: Vec<_> = sent(&mut members, 500_000).into_iter().map(|(_, report)| report).collect();
    assert_eq!(reports, vec![of(RecordKind::ChangeToExclude, &["239.1.1.3"]); 2]);
}

#[test]
fn a_change_of_version_cancels_what_was_pending() {
    let mut members = new();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    assert!(members.due(at(0)).is_some());
    members.query(&query(Version::V3, None, 100_000), true, at(0));
    members.query(&query(Version::V2, None, 10), true, at(0));
    let reports: Vec<_> = sent(&mut members, 200_000).into_iter().map(|(_, report)| report).collect();
    assert_eq!(reports, [Report::Member(Version::V2, ip("239.1.1.1"))], "the answer to the query and nothing else");
}

#[test]
fn a_query_of_one_family_says_nothing_about_the_other() {
    let mut members = new();
    members.query(&query(Version::V1, None, 10), true, at(0));
    members.join(ip("ff15::7"), at(0)).unwrap();
    assert_eq!(members.due(at(0)), Some(of(RecordKind::ChangeToExclude, &["ff15::7"])));
}

#[test]
fn a_router_says_how_often_to_report_and_zero_is_the_default() {
    for (robustness, expected) in [(5, 5), (1, 1), (0, 2)] {
        let mut members = new();
        members.query(&Query { robustness, ..query(Version::V3, None, 10) }, true, at(0));
        assert_eq!(members.due(at(999)), None, "there is no group to answer with");
        members.join(ip("239.1.1.1"), at(1000)).unwrap();
        assert_eq!(sent(&mut members, 100_000).len(), expected, "{robustness}");
    }
}

#[test]
fn a_made_up_interval_keeps_no_version_alive_for_days() {
    let mut members = new();
    members.query(&Query { robustness: 7, interval_s: 31_744, ..query(Version::V3, None, 10) }, true, at(0));
    members.query(&query(Version::V1, None, 10), true, at(0));
    members.join(ip("239.1.1.1"), at(2 * 3_600_000)).unwrap();
    assert!(matches!(members.due(at(2 * 3_600_000)), Some(Report::Groups(_))));
}

#[test]
fn more_groups_than_fit_are_reported_in_several_reports() {
    let mut members = Membership::new(10, true, 3);
    for n in 0..MAX_GROUPS as u16 {
        members.join(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, n).into(), at(0)).unwrap();
    }
    let lens: Vec<_> = sent(&mut members, 0)
        .into_iter()
        .map(|(_, report)| match report {
            Report::Groups(records) => records.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens, [MAX_RECORDS, MAX_GROUPS - MAX_RECORDS]);
}

#[test]
fn the_table_is_bounded_and_groups_that_were_left_give_way() {
    let mut members = Membership::new(0, true, 3);
    let group = |n: usize| IpAddress::v4(Ipv4Addr::new(239, 1, 1, n as u8));
    for n in 0..MAX_GROUPS {
        members.join(group(n), at(0)).unwrap();
    }
    assert_eq!(members.join(group(MAX_GROUPS), at(0)), Err(JoinError::TooMany));
    assert_eq!(members.join(group(0), at(0)), Ok(false), "one that we are in already");
    assert!(members.leave(group(1), at(0)));
    assert_eq!(members.join(group(MAX_GROUPS), at(0)), Ok(true), "before the good-byes are over");
    assert_eq!(members.join(ip("10.0.0.1"), at(0)), Err(JoinError::NotAGroup));
}

#[test]
fn addresses_that_end_alike_share_the_group_that_they_are_solicited_at() {
    let mut members = new();
    let group = ip("ff02::1:ff00:2");
    members.join_own(group, at(0));
    members.join_own(group, at(0));
    assert_eq!(members.due(at(0)), Some(of(RecordKind::ChangeToExclude, &["ff02::1:ff00:2"])));
    members.leave_own(group, at(0));
    assert!(members.is_member(group));
    members.leave_own(group, at(0));
    assert_eq!(members.due(at(0)), Some(of(RecordKind::ChangeToInclude, &["ff02::1:ff00:2"])));
}

#[test]
fn all_groups_of_ipv6_are_told_again_once_there_is_an_address_to_tell_them_from() {
    let mut members = new();
    members.join(ip("ff15::7"), at(0)).unwrap();
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    sent(&mut members, 10_000);
    members.report_again(at(10_000));
    let reports: Vec<_> = sent(&mut members, 20_000).into_iter().map(|(_, report)| report).collect();
    assert_eq!(reports, vec![of(RecordKind::ChangeToExclude, &["ff15::7"]); 2]);
}

#[test]
fn of_several_workers_one_reports() {
    let mut members = Membership::new(0, false, 1);
    members.join(ip("239.1.1.1"), at(0)).unwrap();
    members.query(&query(Version::V3, None, 10), true, at(0));
    members.leave(ip("239.1.1.1"), at(0));
    assert_eq!((members.next_deadline(), members.groups.len()), (None, 0));
}

#[test]
fn what_applications_join_and_leave_is_told_to_the_other_workers_once() {
    let mut members = new();
    let group = ip("239.1.1.1");
    members.join(group, at(0)).unwrap();
    members.join(group, at(0)).unwrap();
    members.join_own(ip("239.1.1.2"), at(0));
    assert_eq!((members.next_change(), members.next_change()), (Some((group, true)), None));
    members.leave(group, at(0));
    assert_eq!(members.next_change(), None);
    members.leave(group, at(0));
    sent(&mut members, 100_000);
    assert_eq!((members.next_change(), members.next_change()), (Some((group, false)), None));
    assert_eq!(members.groups.len(), 1, "what is left is ours for good");
}

#[test]
fn the_host_is_in_a_group_as_long_as_any_worker_is() {
    let mut members = new();
    let group = ip("239.1.1.1");
    members.join(group, at(0)).unwrap();
    members.set_elsewhere(group, true, at(0));
    sent(&mut members, 10_000);
    assert!(!members.leave(group, at(10_000)) && members.is_member(group));
    assert_eq!(sent(&mut members, 20_000), []);
    members.set_elsewhere(group, false, at(20_000));
    assert_eq!(members.due(at(20_000)), Some(of(RecordKind::ChangeToInclude, &["239.1.1.1"])));
    assert!(!members.is_member(group));
}
