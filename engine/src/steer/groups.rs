//! What is sent to groups and broadcast addresses: which of them the engine listens to, and the copies that it gets.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{HashMap, MapData, RingBuf};
use barewire_ebpf::{GroupUse, HEARD_MAX, Heard};

use super::error::os_error;
use super::{SteerError, ignore_absent};

/// The group and broadcast addresses that the engine listens to.
pub(super) struct Groups {
    pub(super) map: HashMap<MapData, [u8; 16], u8>,
}

impl Groups {
    pub(super) fn listen(&mut self, address: IpAddr, group_use: GroupUse) -> Result<(), SteerError> {
        let address = address.to_canonical();
        if !may_be_group(address) {
            return Err(SteerError::NotAGroup { address });
        }
        if group_use == GroupUse::Redirect && is_everybodys(address) {
            return Err(SteerError::KernelsToo { address });
        }
        self.map.insert(key(address), group_use as u8, 0).map_err(|error| match os_error(&error) {
            Some(libc::E2BIG) => SteerError::TooManyGroups,
            _ => SteerError::Map { action: "add a group to", source: error },
        })
    }

    pub(super) fn ignore(&mut self, address: IpAddr) -> Result<(), SteerError> {
        ignore_absent(self.map.remove(&key(address.to_canonical())))
            .map_err(|source| SteerError::Map { action: "remove a group from", source })
    }
}

/// Reads the copies of frames that the kernel got. Belongs to one thread, off the packet path. Its descriptor becomes
/// readable when there is a copy and all before it were read.
pub struct HeardReader {
    pub(super) ring: RingBuf<MapData>,
}

impl HeardReader {
    /// Takes the oldest copy out of the ring and into `buffer`. `None` if there is none; call it until then.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8; HEARD_MAX]) -> Option<Heard<'a>> {
        loop {
            let record = self.ring.next()?;
            let Some(Heard { queue, frame }) = Heard::parse(&record) else { continue };
            let Some(copy) = buffer.get_mut(..frame.len()) else { continue };
            copy.copy_from_slice(frame);
            let len = frame.len();
            return Some(Heard { queue, frame: buffer.get(..len).unwrap_or_default() });
        }
    }
}

impl AsFd for HeardReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// IPv4 as ::ffff:a.b.c.d.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Whether it is multicast or can be a broadcast: any address of IPv4 that a host could have may be that of a link.
const fn may_be_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Whether every host on the link is in the group, this one's kernel included: broadcasts, 224.0.0.1 (RFC 1112,
/// section 4), and all nodes of any scope (RFC 4291, section 2.7.1).
fn is_everybodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() || v4 == Ipv4Addr::new(224, 0, 0, 1),
        IpAddr::V6(v6) => v6.segments()[1..] == [0, 0, 0, 0, 0, 0, 1],
    }
}
