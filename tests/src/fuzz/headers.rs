//! Headers: whatever is parsed lies within the bytes that it was parsed from, and what is written from it says the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use barewire::wire::checksum::Sum;
use barewire::wire::tcp::{self as tcp_wire, Options};
use barewire::wire::{arp, ethernet, icmpv4, icmpv6, igmp, ip::IpAddress, ipv4, ipv6, mld, ndp, udp as udp_wire};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpOptionElement, TcpSlice};

use super::Input;

/// Whether `part` lies within `whole`.
fn within(part: &[u8], whole: &[u8]) -> bool {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    part.start >= whole.start && part.end <= whole.end
}

/// Ethernet, ARP, IPv4, IPv6 and its extension headers: of a whole frame.
///
/// # Panics
/// If a promise is broken.
pub fn headers(bytes: &[u8]) {
    let Ok(header) = ethernet::Header::parse(bytes) else { return };
    let packet = &bytes[header.len_bytes()..];
    let mut again = vec![0; header.len_bytes()];
    assert!(header.write(&mut again));
    assert_eq!(ethernet::Header::parse(&again), Ok(header), "what is written says the same");
    if let Ok(message) = arp::Packet::parse(packet) {
        let mut again = [0; arp::LEN];
        message.write(&mut again);
        assert_eq!(arp::Packet::parse(&again), Ok(message));
    }
    if let Ok(found) = ipv4::Packet::parse(packet) {
        assert!(within(found.payload(), packet));
        assert_eq!(found.header_len() + found.payload().len(), usize::from(u16::from_be_bytes([packet[2], packet[3]])));
        let other = Ipv4HeaderSlice::from_slice(packet).expect("a second opinion");
        assert_eq!((found.source(), found.destination()), (other.source_addr(), other.destination_addr()));
        assert_eq!(usize::from(other.ihl()) * 4, found.header_len());
        assert_eq!((found.protocol(), found.ttl()), (other.protocol().0, other.ttl()));
        let place = (found.fragment_offset(), found.more_fragments(), found.dont_fragment());
        assert_eq!(place, (other.fragments_offset().value() * 8, other.more_fragments(), other.dont_fragment()));
    }
    let Ok(found) = ipv6::Packet::parse(packet) else { return };
    assert!(within(found.bytes(), packet));
    let other = Ipv6HeaderSlice::from_slice(packet).expect("a second opinion");
    assert_eq!((found.source(), found.destination()), (other.source_addr(), other.destination_addr()));
    assert_eq!((found.flow_label(), found.traffic_class()), (other.flow_label().value(), other.traffic_class()));
    let _ = ipv6::carries_icmp_error(packet);
    match ipv6::walk(&found) {
        Ok(upper) => {
            assert!(upper.at <= found.bytes().len() && upper.at >= ipv6::LEN);
            assert_eq!(found.bytes()[upper.next_header_at], upper.protocol, "the field that names it does");
            if let Some(fragment) = upper.fragment {
                assert_eq!(fragment.at + ipv6::FRAGMENT_LEN, upper.at);
                assert_eq!(found.bytes()[fragment.named_at], ipv6::FRAGMENT);
                let named_at = fragment.at;
                let _ = ipv6::walk_reassembled(&found, upper.protocol, upper.at, named_at);
            }
        }
        Err(ipv6::ChainError::Problem { pointer, .. }) => {
            assert!((pointer as usize) < found.bytes().len(), "the pointer is into the packet");
        }
        Err(ipv6::ChainError::Drop(_)) => {}
    }
}

/// ICMP of both families and neighbor discovery: 16 bytes of each end's address, a hop limit, and the message, with the
/// checksum that it has and with the right one.
///
/// # Panics
/// If a promise is broken.
pub fn control(bytes: &[u8]) {
    use barewire::network::icmp::{accept_v4, accept_v6};
    let mut input = Input(bytes);
    let (source, destination) = (address(&mut input), address(&mut input));
    let hop_limit = input.byte() | 0xf0;
    let mut message = input.0.to_vec();
    for mended in [false, true] {
        if mended && message.len() >= 4 {
            mend(&mut message, 2, Sum::default());
        }
        if let Ok(packet) = icmpv4::Packet::parse(&message) {
            let _ = accept_v4(&packet, &message);
        }
        if mended && message.len() >= 4 {
            let pseudo = pseudo(source, destination, ipv6::ICMPV6, message.len());
            mend(&mut message, 2, pseudo);
        }
        let Ok(packet) = icmpv6::Packet::parse(&message, source, destination) else { continue };
        let _ = accept_v6(&packet);
        let Ok(told) = ndp::Message::parse(&packet, hop_limit, source, destination) else { continue };
        match told {
            ndp::Message::Solicitation(asked) => {
                let mut again = [0; 128];
                let Some(len) = ndp::write_solicitation(&mut again, &asked, source, destination) else { continue };
                let again = icmpv6::Packet::parse(&again[..len], source, destination).expect("a right checksum");
                let again = ndp::Message::parse(&again, 255, source, destination).expect("it is valid");
                assert_eq!(again, ndp::Message::Solicitation(asked));
            }
            ndp::Message::Advertisement(told) => {
                let mut again = [0; 128];
                let Some(len) = ndp::write_advertisement(&mut again, &told, source, destination) else { continue };
                let again = icmpv6::Packet::parse(&again[..len], source, destination).expect("a right checksum");
                let again = ndp::Message::parse(&again, 255, source, destination).expect("it is valid");
                assert_eq!(again, ndp::Message::Advertisement(told));
            }
            _ => {}
        }
    }
}

/// Queries for members of groups: IGMP, and MLD.
///
/// # Panics
/// If a promise is broken.
pub fn groups(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (source, destination) = (address(&mut input), address(&mut input));
    let options = input.bytes(4);
    let hop_limit = input.byte();
    let mut message = input.0.to_vec();
    let to = [igmp::ALL_SYSTEMS, Ipv4Addr::from_bits(destination.to_bits() as u32)];
    for mended in [false, true] {
        if mended && message.len() >= 4 {
            mend(&mut message, 2, Sum::default());
        }
        for destination in to {
            let _ = igmp::parse_query(&message, destination, options);
        }
        if mended && message.len() >= 4 {
            let pseudo = pseudo(source, destination, ipv6::ICMPV6, message.len());
            mend(&mut message, 2, pseudo);
        }
        let Ok(packet) = icmpv6::Packet::parse(&message, source, destination) else { continue };
        let _ = mld::parse_query(&packet, hop_limit, options.len() == 4, source);
    }
}

/// UDP: 16 bytes of each end's address, and the datagram.
///
/// # Panics
/// If a promise is broken.
pub fn udp(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (source, destination) = (IpAddr::V6(address(&mut input)), IpAddr::V6(address(&mut input)));
    let datagram = input.0;
    let Ok(found) = udp_wire::Packet::parse(datagram) else { return };
    assert!(within(found.payload(), datagram));
    assert_eq!(found.payload().len() + udp_wire::LEN, found.datagram().len());
    let (source, destination) = (IpAddress::from(source), IpAddress::from(destination));
    let _ = found.checksum_is_valid(source, destination);
    let mut again = vec![0; found.datagram().len()];
    let (header, payload) = again.split_first_chunk_mut().expect("a header's bytes");
    payload.copy_from_slice(found.payload());
    let ends = ((source, found.source_port()), (destination, found.destination_port()));
    let payload_len = payload.len() as u16;
    udp_wire::Header { source: ends.0, destination: ends.1, payload_len }
        .write(header, Sum::default().add_bytes(payload));
    let again = udp_wire::Packet::parse(&again).expect("what is written is valid");
    assert!(again.checksum_is_valid(source, destination), "its checksum too");
    assert_eq!(again.payload(), found.payload());
}

/// A TCP segment, its header and options.
///
/// # Panics
/// If a promise is broken.
pub fn tcp(bytes: &[u8]) {
    let Ok(found) = tcp_wire::Packet::parse(bytes) else { return };
    assert!(within(found.payload(), bytes) && within(found.option_bytes(), bytes));
    assert_eq!(found.header_len() + found.payload().len(), bytes.len());
    let other = TcpSlice::from_slice(bytes).expect("a second opinion");
    assert_eq!(found.payload(), other.payload());
    assert_eq!((found.source_port(), found.destination_port()), (other.source_port(), other.destination_port()));
    let options = Options::parse(found.option_bytes());
    // As far as the second opinion reads without an error, it finds the same; what stands twice may go either way.
    let read: Result<Vec<_>, _> = other.options_iterator().collect();
    let Ok(read) = read else { return };
    let mss: Vec<u16> = read
        .iter()
        .filter_map(|option| match option {
            TcpOptionElement::MaximumSegmentSize(mss) => Some(*mss),
            _ => None,
        })
        .collect();
    if let (Some(found), [mss]) = (options.mss, &mss[..]) {
        assert_eq!(found, *mss);
    }
    assert!(!mss.is_empty() || options.mss.is_none(), "an MSS out of nothing");
}

fn address(input: &mut Input<'_>) -> Ipv6Addr {
    let mut octets = [0; 16];
    let bytes = input.bytes(16);
    octets[..bytes.len()].copy_from_slice(bytes);
    octets.into()
}

fn pseudo(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, len: usize) -> Sum {
    let [source, destination] = [source, destination].map(|address| IpAddress::from(IpAddr::V6(address)));
    barewire::wire::checksum::pseudo_header(source, destination, protocol, len as u16)
}

fn mend(message: &mut [u8], at: usize, pseudo: Sum) {
    message[at..at + 2].fill(0);
    let sum = pseudo.add_bytes(message).checksum();
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
