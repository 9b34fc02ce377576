//! AF_XDP without a stack: the engine's device layer and a loop that swaps addresses and ports in place.
//!
//! What the engine costs beyond this is the price of its stack.

use std::hint;
use std::net::SocketAddr;

use barewire::base::{Burst, Frame, Umem};
use barewire::device::{AfXdp, BindMode, Device, SocketConfig};
use barewire::steer::{Steer, SteerConfig, XdpMode};

use crate::error::{Context, Result};
use crate::interface::Interface;
use crate::netns::Family;
use crate::signals;
use crate::udp::frame::headers_len;

/// Echoes UDP sent to `address` until SIGINT or SIGTERM, on queue 0 in copy mode, with rings of 8192.
///
/// # Errors
/// No permission, an XDP program that is there already, or a queue that is taken.
pub(crate) fn serve(interface: &str, address: SocketAddr) -> Result<()> {
    let index = Interface::index(interface)?;
    let mut config = SocketConfig::new(interface, index, 0);
    config.mode = BindMode::Copy;
    let failed = || format!("cannot serve on {interface}");
    let mut steer = Steer::load(interface, index, XdpMode::Native, 1, SteerConfig::default()).context(failed)?;
    let (mut device, mut umem) = AfXdp::open(&config).context(failed)?;
    steer.set_socket(0, device.fd()).context(failed)?;
    steer.own(address.ip()).context(failed)?;
    println!(
        "ready interface={interface} address={address} mode={} rings={}",
        device.granted().name(),
        config.rings.rx
    );

    let (mut received, mut replies) = (Burst::new(), Burst::new());
    let (port, family) = (address.port().to_be_bytes(), Family::of(address));
    while !signals::stopping() {
        // Replies that found no room go first.
        if replies.is_empty() {
            device.receive(&mut umem, &mut received);
            for frame in received.drain() {
                turn_around(&mut umem, frame, (family, port), &mut replies);
            }
        }
        if replies.is_empty() {
            hint::spin_loop();
        } else {
            device.transmit(&mut umem, &mut replies);
        }
    }
    replies.drain().for_each(|frame| umem.free(frame));
    Ok(())
}

/// Makes a reply of a request, or frees what is none.
#[inline]
fn turn_around(umem: &mut Umem, mut frame: Frame, to: (Family, [u8; 2]), replies: &mut Burst) {
    let is_request = match umem.bytes_mut(&mut frame) {
        bytes if bytes.len() < headers_len(to.0) => false,
        bytes if to.0 == Family::Ipv4 => swap_ipv4(bytes, to.1),
        bytes => swap_ipv6(bytes, to.1),
    };
    if !is_request {
        umem.free(frame);
    } else if let Err(frame) = replies.push(frame) {
        // Cannot be: a burst of replies is as large as one of requests.
        umem.free(frame);
    }
}

/// Swaps MAC addresses, IP addresses and ports of a UDP frame to `port`; both checksums stay right, because
/// their words only change places. `false` for any other frame.
#[inline]
fn swap_ipv4(bytes: &mut [u8], port: [u8; 2]) -> bool {
    if bytes[12..15] != [0x08, 0x00, 0x45] || bytes[23] != 17 || bytes[36..38] != port {
        return false;
    }
    let (destination, source) = bytes[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    let (source, destination) = bytes[26..34].split_at_mut(4);
    source.swap_with_slice(destination);
    let (source, destination) = bytes[34..38].split_at_mut(2);
    source.swap_with_slice(destination);
    true
}

/// The same over IPv6.
#[inline]
fn swap_ipv6(bytes: &mut [u8], port: [u8; 2]) -> bool {
    if bytes[12..14] != [0x86, 0xdd] || bytes[20] != 17 || bytes[56..58] != port {
        return false;
    }
    let (destination, source) = bytes[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    let (source, destination) = bytes[22..54].split_at_mut(16);
    source.swap_with_slice(destination);
    let (source, destination) = bytes[54..58].split_at_mut(2);
    source.swap_with_slice(destination);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::frame::{Path, request};

    #[test]
    fn a_reply_is_the_request_with_both_ends_exchanged() {
        reply(Family::Ipv4, swap_ipv4);
        reply(Family::Ipv6, swap_ipv6);
    }

    fn reply(family: Family, swap: fn(&mut [u8], [u8; 2]) -> bool) {
        let path = Path {
            source_mac: [2, 0, 0, 0, 0, 1],
            target_mac: [2, 0, 0, 0, 0, 2],
            vlan: None,
            source: SocketAddr::new(family.client(), 9007),
            target: SocketAddr::new(family.server(), 7),
        };
        let (source, target) = (path.target, path.source);
        let back = Path { source_mac: path.target_mac, target_mac: path.source_mac, source, target, ..path };
        let mut frame = request(&path, 84);
        assert!(swap(&mut frame, 7u16.to_be_bytes()));
        assert_eq!(frame, request(&back, 84));
        assert!(!swap(&mut frame, 7u16.to_be_bytes()), "now it goes to another port");
    }
}
