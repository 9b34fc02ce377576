//! The multicast filter of a NIC, which passes on frames to those groups alone that somebody on the host wants (packet(7),
//! PACKET_ADD_MEMBERSHIP). What is asked for is the process's: the kernel takes it back when the process ends.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::wire::ethernet::Mac;

/// Groups that an interface is to let in.
#[derive(Debug)]
pub struct MulticastFilter {
    /// A packet socket that receives nothing.
    socket: OwnedFd,
    index: i32,
}

impl MulticastFilter {
    /// Opens the filter of the interface with this index, with nothing in it of ours.
    ///
    /// # Errors
    /// The kernel's, where there is no packet socket to be had.
    pub fn open(index: u32) -> io::Result<Self> {
        // Of no protocol: nothing is ever received.
        // SAFETY: a plain system call; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self { socket, index })
    }

    /// Lets frames to a group in. As often as it is let in it has to be let out.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&self, group: Mac) -> io::Result<()> {
        self.change(libc::PACKET_ADD_MEMBERSHIP, group)
    }

    /// Undoes an [`add`](Self::add).
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&self, group: Mac) -> io::Result<()> {
        self.change(libc::PACKET_DROP_MEMBERSHIP, group)
    }

    fn change(&self, option: libc::c_int, group: Mac) -> io::Result<()> {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&group.0);
        let request = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: 6,
            mr_address: address,
        };
        let len = size_of::<libc::packet_mreq>() as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes of `request`, which lives through the call.
        let result = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const request).cast(), len)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
