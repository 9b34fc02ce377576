//! Which groups we are in, and what routers are told about it: the host's side of IGMPv3 (RFC 3376) and of MLDv2
//! (RFC 3810), and of the older versions for routers that speak no other (RFC 1112, RFC 2236, RFC 2710). One state
//! machine for both, as each MLD is a translation of an IGMP.
//!
//! ```text
//!   join  --> CHANGE_TO_EXCLUDE {} now, and again after up to 1 s ----+
//!   leave --> CHANGE_TO_INCLUDE {} now, and again                     |
//!   query --> after a random time: MODE_IS_EXCLUDE {} of each group --+--> due() --> Report
//!               older router heard: a report for each group, a good-bye if that version has one
//! ```
//!
//! We listen to all senders of a group or to none. Reports of others do not suppress ours: routers of version 3 want
//! all of them (RFC 3376, appendix A.2), and a switch that snoops does not pass those of older ones on to us.

use std::net::Ipv4Addr;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::base::Instant;
use crate::wire::ip::IpAddress;
use crate::wire::membership::{Query, Record, RecordKind, Version};
use crate::wire::{igmp, ipv6, mld};

/// Groups that applications may be in together. Linux allows a socket 20 of IPv4 (`igmp_max_memberships`) and NICs
/// filter some 16 to 128 addresses before they take everything; a worker looks through all of them at a group's
/// datagram, which for 64 costs some 30 ns.
pub const MAX_GROUPS: usize = 64;
/// Groups in one report: as many as every link of IPv6 can carry. Of IPv4 they fit into 576 bytes.
pub const MAX_RECORDS: usize = (ipv6::MIN_MTU - ipv6::LEN - mld::REPORT_LEN) / mld::RECORD_LEN;

/// RFC 3376, section 8.1, and RFC 3810, section 9.1: default of the Robustness Variable.
const ROBUSTNESS: u8 = 2;
/// RFC 3376, section 8.2, and RFC 3810, section 9.2: default of the Query Interval.
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// The longest query interval that a router is believed: with it an older one is forgotten after two hours at most,
/// instead of after days, if somebody makes queries up.
const LONGEST_QUERY_INTERVAL: Duration = Duration::from_secs(1000);
/// RFC 3376, section 8.3, and RFC 3810, section 9.3: default of the Query Response Interval.
const QUERY_RESPONSE_INTERVAL: Duration = Duration::from_secs(10);
/// RFC 3376, section 8.11, and RFC 3810, section 9.11: Unsolicited Report Interval.
const UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// RFC 2236, section 8.10, and RFC 2710, section 7.10: the same of the older versions.
const OLDER_UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What routers are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on its way from the table to the frame")]
pub enum Report {
    /// Of version 3, in IGMP's numbers: about groups of one family, of which there is at least one.
    Groups(ArrayVec<Record<IpAddress>, MAX_RECORDS>),
    /// Of version 1 or 2: that we are in a group.
    Member(Version, IpAddress),
    /// Of version 2: that we are not any more.
    Leave(IpAddress),
}

/// Why a group cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It is no address of a group.
    #[error("that is no address of a group")]
    NotAGroup,
    /// [`MAX_GROUPS`] are joined already.
    #[error("the limit of {MAX_GROUPS} groups is reached")]
    TooMany,
}

/// All groups that we are in, and those that we left a moment ago.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Never longer than it had room for at the start.
    groups: Vec<Group>,
    ipv4: Family,
    ipv6: Family,
    /// Of several workers with the same addresses one reports.
    reports: bool,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    address: IpAddress,
    /// How many times applications joined it.
    users: u32,
    /// How many addresses of ours are solicited at it, or whether it is joined for good.
    own: u32,
    /// Whether the word is that the host is in it: an application on another worker may be.
    elsewhere: bool,
    /// What the others were told of our applications last.
    told: bool,
    /// Reports of the last change that are still to be sent.
    changes_left: u8,
    change_at: Option<Instant>,
    answer_at: Option<Instant>,
}

/// What was heard of the routers that speak IGMP, or of those that speak MLD.
#[derive(Clone, Copy, Debug)]
struct Family {
    version: Version,
    /// Until when a router of version 1 counts as there, and one of version 2.
    v1_until: Option<Instant>,
    v2_until: Option<Instant>,
    /// When all groups are to be reported.
    general_at: Option<Instant>,
    robustness: u8,
    query_interval: Duration,
}

impl Group {
    const fn is_joined(&self) -> bool {
        self.users > 0 || self.own > 0 || self.elsewhere
    }

    /// Whether there is nothing left to say about it.
    const fn is_over(&self) -> bool {
        !self.is_joined() && self.changes_left == 0 && !self.told
    }

    const fn change(&self) -> RecordKind {
        if self.is_joined() { RecordKind::ChangeToExclude } else { RecordKind::ChangeToInclude }
    }
}

impl Membership {
    /// In no group. There is room for `own` groups that addresses of ours are solicited at, besides those of
    /// applications; `reports` says whether routers are told; `seed` is what random times are made of.
    #[must_use]
    pub fn new(own: usize, reports: bool, seed: u64) -> Self {
        let (ipv4, ipv6) = (Family::new(), Family::new());
        Self { groups: Vec::with_capacity(MAX_GROUPS + own), ipv4, ipv6, reports, random: seed }
    }

    /// Whether routers are told by us.
    #[must_use]
    pub const fn reports(&self) -> bool {
        self.reports
    }

    /// Whether we are in a group.
    #[inline]
    #[must_use]
    pub fn is_member(&self, group: IpAddress) -> bool {
        self.groups.iter().any(|known| known.address == group && known.is_joined())
    }

    /// Joins a group for an application, and says whether we were not in it before.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&mut self, group: IpAddress, now: Instant) -> Result<bool, JoinError> {
        if !group.is_multicast() {
            return Err(JoinError::NotAGroup);
        }
        let is_used = |known: &&Group| known.users > 0;
        if self.groups.iter().filter(is_used).count() >= MAX_GROUPS && !self.is_member(group) {
            return Err(JoinError::TooMany);
        }
        self.enter(group, now, |known| known.users = known.users.saturating_add(1)).ok_or(JoinError::TooMany)
    }

    /// Leaves a group for an application, and says whether that was the last to be in it.
    pub fn leave(&mut self, group: IpAddress, now: Instant) -> bool {
        self.exit(group, now, |known| known.users = known.users.saturating_sub(1))
    }

    /// Joins a group for no application: one that an address of ours is solicited at (RFC 4861, section 7.2.1), or that
    /// is joined from start to end.
    pub fn join_own(&mut self, group: IpAddress, now: Instant) {
        // Without room an address is used all the same: only a switch that snoops could miss the report.
        let _ = self.enter(group, now, |known| known.own = known.own.saturating_add(1));
    }

    /// Leaves the group that an address was solicited at that is ours no more.
    pub fn leave_own(&mut self, group: IpAddress, now: Instant) {
        self.exit(group, now, |known| known.own = known.own.saturating_sub(1));
    }

    /// Hears whether any worker's applications are in a group, ours among them.
    pub fn set_elsewhere(&mut self, group: IpAddress, joined: bool, now: Instant) {
        if joined {
            let _ = self.enter(group, now, |known| known.elsewhere = true);
        } else {
            self.exit(group, now, |known| known.elsewhere = false);
        }
    }

    /// The next group that applications here joined or left since this was asked, and which of the two: the other
    /// workers and the XDP program are to hear of it. What was undone in the meantime is left out.
    pub fn next_change(&mut self) -> Option<(IpAddress, bool)> {
        let group = self.groups.iter_mut().find(|group| group.told != (group.users > 0))?;
        group.told = !group.told;
        let change = (group.address, group.told);
        self.forget_left();
        Some(change)
    }

    /// Takes what we are in as known to routers.
    pub fn assume_reported(&mut self) {
        self.cancel(true);
        self.cancel(false);
    }

    /// Tells all groups of IPv6 once more.
    ///
    /// RFC 3590, section 4: once a valid link-local address is available, a node SHOULD generate new MLD Report messages
    /// for all multicast addresses joined on the interface.
    pub fn report_again(&mut self, now: Instant) {
        self.refresh(false, now);
        for at in 0..self.groups.len() {
            if self.groups.get(at).is_some_and(|group| !group.address.is_v4()) {
                self.begin_change(at, now);
            }
        }
    }

    fn enter(&mut self, group: IpAddress, now: Instant, count: impl FnOnce(&mut Group)) -> Option<bool> {
        self.refresh(group.is_v4(), now);
        let at = match self.position(group) {
            Some(at) => at,
            None => self.place(group)?,
        };
        let known = self.groups.get_mut(at)?;
        let was_joined = known.is_joined();
        count(known);
        if !was_joined {
            self.begin_change(at, now);
        }
        Some(!was_joined)
    }

    fn exit(&mut self, group: IpAddress, now: Instant, count: impl FnOnce(&mut Group)) -> bool {
        self.refresh(group.is_v4(), now);
        let Some(at) = self.position(group) else { return false };
        let Some(known) = self.groups.get_mut(at).filter(|known| known.is_joined()) else { return false };
        count(known);
        if known.is_joined() {
            return false;
        }
        self.begin_change(at, now);
        self.forget_left();
        true
    }

    fn position(&self, group: IpAddress) -> Option<usize> {
        self.groups.iter().position(|known| known.address == group)
    }

    /// A place for a group, if need be that of one that was left.
    fn place(&mut self, address: IpAddress) -> Option<usize> {
        let new = Group {
            address,
            users: 0,
            own: 0,
            elsewhere: false,
            told: false,
            changes_left: 0,
            change_at: None,
            answer_at: None,
        };
        if self.groups.len() < self.groups.capacity() {
            self.groups.push(new);
            return Some(self.groups.len() - 1);
        }
        let at = self.groups.iter().position(|known| !known.is_joined() && !known.told)?;
        *self.groups.get_mut(at)? = new;
        Some(at)
    }

    /// RFC 3376, section 5.1: a change of interface state causes the system to immediately transmit a State-Change Report
    /// from that interface.
    fn begin_change(&mut self, at: usize, now: Instant) {
        let Some(group) = self.groups.get_mut(at) else { return };
        let family = if group.address.is_v4() { &self.ipv4 } else { &self.ipv6 };
        if !group.is_joined() {
            group.answer_at = None;
        }
        (group.changes_left, group.change_at) = (0, None);
        if self.reports && is_reported(group.address) {
            // RFC 2236, section 3, and RFC 2710, section 4: one good-bye is sent.
            let once = !group.is_joined() && family.version < Version::V3;
            group.changes_left = if once { 1 } else { family.robustness };
            group.change_at = Some(now);
        }
    }

    /// Speaks another version from now on, if it is time to.
    fn refresh(&mut self, is_v4: bool, now: Instant) {
        let family = if is_v4 { &mut self.ipv4 } else { &mut self.ipv6 };
        if family.refresh(now) {
            self.cancel(is_v4);
        }
    }

    fn forget_left(&mut self) {
        self.groups.retain(|group| !group.is_over());
    }

    /// Takes in a router's question, of IPv4 or of IPv6.
    pub fn query(&mut self, query: &Query, is_v4: bool, now: Instant) {
        if !self.reports {
            return;
        }
        let family = if is_v4 { &mut self.ipv4 } else { &mut self.ipv6 };
        if family.hear(query, now) {
            self.cancel(is_v4);
        }
        let delay = self.random_time(Duration::from_millis(query.max_response_ms.into()));
        let (at, is_sooner) = (now + delay, |pending: Option<Instant>| pending.is_some_and(|old| old <= now + delay));
        let family = if is_v4 { &mut self.ipv4 } else { &mut self.ipv6 };
        // RFC 3376, section 5.2, rule 1: if there is a pending response to a previous General Query scheduled sooner than
        // the selected delay, no additional response needs to be scheduled.
        if is_sooner(family.general_at) {
            return;
        }
        match query.group {
            // Of version 3: one report of all groups. Rule 2: any previously pending response to a General Query is canceled.
            None if family.version == Version::V3 => family.general_at = Some(at),
            // RFC 2236, section 3: a delay timer for each group, each set to a different random value.
            None => self.schedule_each(is_v4, query, now),
            // Rules 3 to 5: the answer is given at the earlier of the two times. Asked about some senders, we answer that we
            // listen to all of them.
            Some(group) => {
                let asked = |known: &&mut Group| known.address == group && known.is_joined();
                if let Some(known) = self.groups.iter_mut().find(asked)
                    && is_reported(group)
                    && !is_sooner(known.answer_at)
                {
                    known.answer_at = Some(at);
                }
            }
        }
    }

    /// RFC 2236, section 3: a running timer is reset to a new value only if the requested Max Response Time is less than
    /// its remaining value.
    fn schedule_each(&mut self, is_v4: bool, query: &Query, now: Instant) {
        let max_response = Duration::from_millis(query.max_response_ms.into());
        for at in 0..self.groups.len() {
            let delay = self.random_time(max_response);
            let Some(group) = self.groups.get_mut(at) else { return };
            let is_due = group.address.is_v4() == is_v4 && group.is_joined() && is_reported(group.address);
            if is_due && group.answer_at.is_none_or(|old| old > now + max_response) {
                group.answer_at = Some(now + delay);
            }
        }
    }

    /// RFC 3376, section 7.2.1: whenever a host changes its compatibility mode, it cancels all its pending response and
    /// retransmission timers.
    fn cancel(&mut self, is_v4: bool) {
        for group in self.groups.iter_mut().filter(|group| group.address.is_v4() == is_v4) {
            (group.changes_left, group.change_at, group.answer_at) = (0, None, None);
        }
        let family = if is_v4 { &mut self.ipv4 } else { &mut self.ipv6 };
        family.general_at = None;
        self.forget_left();
    }

    /// The next report that is due. Call it until there is none.
    pub fn due(&mut self, now: Instant) -> Option<Report> {
        if self.next_deadline().is_none_or(|next| next > now) {
            return None;
        }
        [true, false].into_iter().find_map(|is_v4| {
            self.refresh(is_v4, now);
            self.begin_general_answer(is_v4, now);
            self.due_of(is_v4, now)
        })
    }

    fn begin_general_answer(&mut self, is_v4: bool, now: Instant) {
        let family = if is_v4 { &mut self.ipv4 } else { &mut self.ipv6 };
        if family.general_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        for group in &mut self.groups {
            if group.address.is_v4() == is_v4 && group.is_joined() && is_reported(group.address) {
                group.answer_at = Some(now);
            }
        }
    }

    fn due_of(&mut self, is_v4: bool, now: Instant) -> Option<Report> {
        let version = if is_v4 { self.ipv4.version } else { self.ipv6.version };
        let mut records = ArrayVec::new();
        for at in 0..self.groups.len() {
            if records.is_full() {
                break;
            }
            let Some((kind, group)) = self.take_due(at, is_v4, now) else { continue };
            let older = match (version, kind) {
                (Version::V3, _) => {
                    records.push(Record { kind, group });
                    continue;
                }
                // RFC 1112 knows no good-bye.
                (Version::V1, RecordKind::ChangeToInclude) => continue,
                (Version::V2, RecordKind::ChangeToInclude) => Report::Leave(group),
                (version, _) => Report::Member(version, group),
            };
            self.forget_left();
            return Some(older);
        }
        self.forget_left();
        (!records.is_empty()).then_some(Report::Groups(records))
    }

    /// What is due about a group, which then is no more.
    fn take_due(&mut self, at: usize, is_v4: bool, now: Instant) -> Option<(RecordKind, IpAddress)> {
        let version = if is_v4 { self.ipv4.version } else { self.ipv6.version };
        // RFC 3376, section 5.1: retransmitted at intervals chosen at random from the range (0, Unsolicited Report Interval).
        let wait = self.random_time(match version {
            Version::V3 => UNSOLICITED_REPORT_INTERVAL,
            Version::V1 | Version::V2 => OLDER_UNSOLICITED_REPORT_INTERVAL,
        });
        let group = self.groups.get_mut(at).filter(|group| group.address.is_v4() == is_v4)?;
        if group.change_at.take_if(|next| *next <= now).is_some() {
            group.changes_left = group.changes_left.saturating_sub(1);
            group.change_at = (group.changes_left > 0).then_some(now + wait);
            return Some((group.change(), group.address));
        }
        group.answer_at.take_if(|next| *next <= now)?;
        Some((RecordKind::ModeIsExclude, group.address))
    }

    /// When [`due`](Self::due) has something next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_groups = self.groups.iter().flat_map(|group| [group.change_at, group.answer_at]);
        of_groups.chain([self.ipv4.general_at, self.ipv6.general_at]).flatten().min()
    }

    /// A random time of at least a nanosecond and at most `longest`. (SplitMix64: it spreads answers, and hides nothing.)
    fn random_time(&mut self, longest: Duration) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).max(1);
        Duration::from_nanos((mixed ^ mixed >> 31) % longest + 1)
    }
}

impl Family {
    const fn new() -> Self {
        Self {
            version: Version::V3,
            v1_until: None,
            v2_until: None,
            general_at: None,
            robustness: ROBUSTNESS,
            query_interval: QUERY_INTERVAL,
        }
    }

    /// Takes note of who asks, and says whether another version is spoken from now on.
    fn hear(&mut self, query: &Query, now: Instant) -> bool {
        if query.version == Version::V3 {
            // RFC 3376, sections 4.1.6 and 4.1.7: the values of the most recently received query are adopted, unless they were
            // zero.
            self.robustness = if query.robustness == 0 { ROBUSTNESS } else { query.robustness };
            let interval = Duration::from_secs(query.interval_s.into()).min(LONGEST_QUERY_INTERVAL);
            self.query_interval = if interval.is_zero() { QUERY_INTERVAL } else { interval };
        }
        // RFC 3376, section 8.12: Older Version Querier Present Timeout is the Robustness Variable times the Query Interval in
        // the last Query received, plus one Query Response Interval.
        let until = now + self.query_interval * self.robustness.into() + QUERY_RESPONSE_INTERVAL;
        // RFC 3376, section 7.2.1: set whenever an IGMPv1 Membership Query is received; whenever an IGMPv2 General Query is.
        match query.version {
            Version::V1 => self.v1_until = Some(until),
            Version::V2 if query.group.is_none() => self.v2_until = Some(until),
            Version::V2 | Version::V3 => {}
        }
        self.refresh(now)
    }

    /// Brings the version that is spoken up to `now`, and says whether it is another one.
    fn refresh(&mut self, now: Instant) -> bool {
        let is_there = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let version = match (is_there(self.v1_until), is_there(self.v2_until)) {
            (true, _) => Version::V1,
            (false, true) => Version::V2,
            (false, false) => Version::V3,
        };
        std::mem::replace(&mut self.version, version) != version
    }
}

/// Whether routers are told of a group at all.
fn is_reported(group: IpAddress) -> bool {
    match (group.to_v4(), group.to_v6()) {
        // RFC 3376, section 5: the all-systems multicast address, 224.0.0.1, is handled as a special case: membership in it
        // is never reported.
        (Some(v4), _) => v4 != igmp::ALL_SYSTEMS && v4 != Ipv4Addr::UNSPECIFIED,
        // RFC 3810, section 6: no reports for the link-scope all-nodes address, nor for any of scope 0 (reserved) or 1
        // (node-local).
        (_, Some(v6)) => v6 != crate::wire::ndp::ALL_NODES && v6.octets()[1] & 0x0f > 1,
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests;
