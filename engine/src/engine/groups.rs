//! What is sent to groups: which of it the XDP program lets in, and how.
//!
//! What every host has to hear, the kernel included, comes as copies, which the first worker digests between its turns.
//! A group that only the engine is in is taken as an address is, and given to the worker of the queue that it comes in
//! on. Whether the kernel is in it too is looked up again and again, as it may join later.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::housekeeping::{Common, News};
use super::plan::Plan;
use crate::config::Settings;
use crate::nic::MulticastFilter;
use crate::stack::AddressNews;
use crate::steer::{GroupUse, Steer, SteerError};
use crate::wire::ethernet::Mac;
use crate::wire::ip::IpAddress;
use crate::wire::{igmp, ndp};

/// How often the kernel's groups are looked up, while the engine is in any: what a program misses that has joined one
/// meanwhile, it would miss of a router that answers once in so long as well (RFC 3376: a query in 125 s).
const LOOK_UP: Duration = Duration::from_secs(2);

/// The groups that the engine is in.
pub(super) struct Groups {
    interface: String,
    /// Without it a real NIC lets none of the groups in; there is none where the kernel gives no packet socket.
    filter: Option<MulticastFilter>,
    /// Each with the number of workers whose applications are in it, and one more if it is joined for good.
    joined: HashMap<IpAddress, Joined>,
}

struct Joined {
    count: u32,
    group_use: GroupUse,
}

impl Groups {
    /// Lets in what is sent to groups from the start.
    pub(super) fn start(settings: &Settings, plan: &Plan, index: u32, steer: &mut Steer) -> Result<Self, SteerError> {
        let filter = MulticastFilter::open(index);
        if let Err(error) = &filter {
            tracing::warn!("the NIC cannot be told to let groups in, and IPv6 needs them: {error}");
        }
        let interface = settings.interface.clone();
        let mut groups = Self { interface, filter: filter.ok(), joined: HashMap::new() };
        for address in heard_by_all(settings, &plan.addresses) {
            steer.listen(address, GroupUse::Copy)?;
            groups.let_in(address.into(), true);
        }
        for address in &plan.addresses {
            groups.let_in_questions(address.addr().into(), true, steer)?;
        }
        for &group in &settings.groups {
            groups.count(group, true, steer)?;
        }
        Ok(groups)
    }

    /// Takes note that the applications of a worker joined or left a group, and tells all workers if they are the first or
    /// the last.
    pub(super) fn change(&mut self, group: IpAddress, joined: bool, steer: &mut Steer, common: &Common) {
        match self.count(group, joined, steer) {
            Ok(true) => common.tell_all(&News::Group(group, joined)),
            Ok(false) => {}
            Err(error) => tracing::warn!("nothing that is sent to {group} will be heard: {error}"),
        }
    }

    /// Says whether the engine was not in the group before, or is not any more.
    fn count(&mut self, group: IpAddress, joined: bool, steer: &mut Steer) -> Result<bool, SteerError> {
        match (self.joined.get_mut(&group), joined) {
            (Some(known), true) => {
                known.count += 1;
                return Ok(false);
            }
            (Some(known), false) if known.count > 1 => {
                known.count -= 1;
                return Ok(false);
            }
            (None, false) => return Ok(false),
            (None, true) => {
                let group_use = self.use_of(group, &kernel_groups());
                steer.listen(group.into(), group_use)?;
                self.let_in(group, true);
                self.joined.insert(group, Joined { count: 1, group_use });
            }
            (Some(_), false) => {
                self.joined.remove(&group);
                self.let_in(group, false);
                if !is_everybodys(group) {
                    steer.ignore(group.into())?;
                }
            }
        }
        Ok(true)
    }

    /// Waits until it is time to look up the kernel's groups.
    pub(super) async fn next(&self) {
        if self.joined.keys().all(|&group| is_shared(group)) {
            return std::future::pending().await;
        }
        tokio::time::sleep(LOOK_UP).await;
    }

    /// Shares groups that the kernel has joined meanwhile, and takes those that it left.
    pub(super) fn look_up(&mut self, steer: &mut Steer) {
        let kernel = kernel_groups();
        let uses: Vec<_> = self.joined.keys().map(|&group| (group, self.use_of(group, &kernel))).collect();
        for (group, group_use) in uses {
            let Some(known) = self.joined.get_mut(&group).filter(|known| known.group_use != group_use) else {
                continue;
            };
            match steer.listen(group.into(), group_use) {
                Ok(()) => known.group_use = group_use,
                Err(error) => tracing::warn!("{group}: {error}"),
            }
        }
    }

    /// Lets in, or not any more, what is sent to the group at which an address of ours is asked for. Questions for it the XDP
    /// program knows; copies are of the rest: whether anybody is still in the group (RFC 3810, section 7.6.3.2), and echo
    /// requests.
    fn let_in_questions(&mut self, address: IpAddress, let_in: bool, steer: &mut Steer) -> Result<(), SteerError> {
        if let Some(v6) = address.to_v6() {
            self.count(ndp::solicited_node(v6).into(), let_in, steer)?;
        }
        Ok(())
    }

    /// Lets in or out what is sent to an address that the engine gained or lost.
    pub(super) fn change_address(
        &mut self,
        address: IpAddress,
        news: AddressNews,
        steer: &mut Steer,
    ) -> Result<(), SteerError> {
        match news {
            AddressNews::Probed => {
                self.let_in_questions(address, true, steer)?;
                steer.own(address.into())
            }
            AddressNews::Settled => {
                tracing::info!("{address} is the engine's: a router told of its prefix");
                Ok(())
            }
            AddressNews::Taken => {
                tracing::warn!("another host has {address}, which was made of a router's prefix: another one is made");
                Ok(())
            }
            AddressNews::Lost => {
                self.let_in_questions(address, false, steer)?;
                steer.disown(address.into())
            }
        }
    }

    fn let_in(&self, group: IpAddress, let_in: bool) {
        let Some(filter) = self.filter.as_ref().filter(|_| group.is_multicast()) else { return };
        let mac = Mac::of_group(group);
        let changed = if let_in { filter.add(mac) } else { filter.remove(mac) };
        if let Err(error) = changed {
            tracing::warn!("the NIC may not let in what is sent to {group}: {error}");
        }
    }

    fn use_of(&self, group: IpAddress, kernel: &[(String, IpAddress)]) -> GroupUse {
        let is_kernels = kernel.iter().any(|(interface, known)| *interface == self.interface && *known == group);
        if is_kernels || is_shared(group) { GroupUse::Copy } else { GroupUse::Redirect }
    }
}

/// What all hosts hear: questions who is in which group, of the families that the engine speaks, routers' advertisements,
/// and broadcasts if they are asked for.
fn heard_by_all(settings: &Settings, addresses: &[IpNet]) -> Vec<IpAddr> {
    let mut heard = Vec::new();
    if addresses.iter().any(|prefix| prefix.addr().is_ipv4()) {
        heard.push(igmp::ALL_SYSTEMS.into());
    }
    if addresses.iter().any(|prefix| prefix.addr().is_ipv6()) {
        heard.push(ndp::ALL_NODES.into());
    }
    if settings.broadcasts {
        heard.push(Ipv4Addr::BROADCAST.into());
        let directed = addresses.iter().filter(|prefix| prefix.addr().is_ipv4() && prefix.prefix_len() < 31);
        heard.extend(directed.map(IpNet::broadcast));
    }
    heard
}

fn is_everybodys(group: IpAddress) -> bool {
    group == IpAddress::v4(igmp::ALL_SYSTEMS)
        || group.to_v6().is_some_and(|v6| v6.segments()[1..] == [0, 0, 0, 0, 0, 0, 1])
}

/// Whether the kernel is in the group, or may be from one moment to the next: it may get an address that ends as one of ours
/// does, and is asked for in the same group.
fn is_shared(group: IpAddress) -> bool {
    is_everybodys(group) || group.to_v6().is_some_and(ndp::is_solicited_node)
}

/// The groups that the kernel is in, with the names of interfaces. None if it does not say.
fn kernel_groups() -> Vec<(String, IpAddress)> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut groups = of_igmp(&read("/proc/net/igmp"));
    groups.extend(of_igmp6(&read("/proc/net/igmp6")));
    groups
}

/// Reads `/proc/net/igmp`: a line for each interface, `1 lo : 1 V3`, and below it an indented one for each group, which is
/// written as a number in the byte order of the machine.
fn of_igmp(text: &str) -> Vec<(String, IpAddress)> {
    let mut interface = String::new();
    let mut groups = Vec::new();
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        if line.starts_with(|first: char| first.is_ascii_digit()) {
            interface = words.nth(1).unwrap_or_default().trim_end_matches(':').into();
        } else if let Some(bits) = words.next().and_then(|word| u32::from_str_radix(word, 16).ok()) {
            groups.push((interface.clone(), Ipv4Addr::from(bits.to_ne_bytes()).into()));
        }
    }
    groups
}

/// Reads `/proc/net/igmp6`: `2 eth0 ff020000000000000000000000000001 1 0000000C 0`.
fn of_igmp6(text: &str) -> Vec<(String, IpAddress)> {
    let group = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (interface, group) = (words.next()?, words.next()?);
        Some((interface.to_owned(), Ipv6Addr::from_bits(u128::from_str_radix(group, 16).ok()?).into()))
    };
    text.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_groups_are_read_as_it_writes_them() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\
                    \t\t\t\t010000E0     1 0:00000000\t\t0\n12\tbw0       :     2      V3\n\
                    \t\t\t\t070101EF     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n";
        let expected = [("lo", [224, 0, 0, 1]), ("bw0", [239, 1, 1, 7]), ("bw0", [224, 0, 0, 1])];
        let expected = expected.map(|(name, group)| (name.to_owned(), Ipv4Addr::from(group).into()));
        assert_eq!(of_igmp(text), if cfg!(target_endian = "little") { expected.to_vec() } else { of_igmp(text) });
        let text = "2    bw0             ff0200000000000000000001ff000002     1 00000004 0\nnonsense\n";
        let group: Ipv6Addr = "ff02::1:ff00:2".parse().unwrap();
        assert_eq!(of_igmp6(text), [("bw0".to_owned(), group.into())]);
    }

    #[test]
    fn what_all_hosts_hear_goes_by_what_is_spoken() {
        let heard = |more: &str| {
            let text = format!("interface = 'bw0'\naddress = ['10.0.0.2/24', '10.0.1.0/31']\n{more}");
            let settings = toml::from_str::<crate::config::Options>(&text).unwrap().resolve().unwrap();
            let heard = heard_by_all(&settings, &settings.addresses);
            heard.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(heard(""), ["224.0.0.1"]);
        assert_eq!(heard("broadcast = true"), ["224.0.0.1", "255.255.255.255", "10.0.0.255"]);
    }
}
