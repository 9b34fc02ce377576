//! The stack is a library: here it runs without a kernel, a NIC or a clock.
//!
//! Run it with `cargo run -p barewire --example in_memory`.
//!
//! [`Stack`] turns frames into frames; [`Worker`] moves them between a stack and a device. Both take the time as an
//! argument. So whoever brings a clock and a device, such as [`Memory`] or one of their own (a simulator, another driver),
//! runs the very code that runs on AF_XDP.

use std::error::Error;
use std::net::Ipv4Addr;

use barewire::apps::echo::Echo;
use barewire::base::{ChunkSize, Instant, Umem, UmemConfig};
use barewire::device::Memory;
use barewire::link::address::Probing;
use barewire::link::neighbor::NeighborConfig;
use barewire::stack::{Stack, StackConfig};
use barewire::transport::udp::ChecksumPolicy;
use barewire::wire::checksum::Sum;
use barewire::wire::ethernet::{self, Mac, Tags};
use barewire::wire::{ipv4, udp};
use barewire::worker::Worker;

const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn main() -> Result<(), Box<dyn Error>> {
    let config = StackConfig {
        mac: OUR_MAC,
        mtu: 1500,
        vlan: None,
        addresses: vec!["10.0.0.2/24".parse()?],
        gateways: Vec::new(),
        routes: Vec::new(),
        probing: Probing::Off,
        groups: vec![],
        broadcasts: false,
        autoconf: None,
        udp_ports: vec![7],
        checksum: ChecksumPolicy::Verify,
        tcp: None,
        own_queue: None,
        // Or else the peer would be asked for its MAC address first.
        neighbors: NeighborConfig { fixed: vec![(PEER.into(), PEER_MAC)], ..NeighborConfig::default() },
        reassembly: barewire::network::reassembly::ReassemblyConfig::default(),
        marking: barewire::stack::Marking::default(),
        secret: [0x0123_4567, 0x89ab_cdef], // unpredictable where peers are strangers
    };
    let start = Instant::ZERO;
    let umem = Umem::new(UmemConfig { chunks: 256, chunk_size: ChunkSize::Bytes2048, huge_pages: false })?;
    let mut worker = Worker::new(Memory::default(), umem, Stack::new(&config, Echo, start));

    // One datagram comes in, one turn is made a millisecond later by our clock, one datagram goes out.
    let request = datagram(b"hello, barewire");
    println!("in:  {} bytes, 10.0.0.1:40000 -> 10.0.0.2:7", request.len());
    worker.device_mut().deliver(request);
    worker.turn(Instant::from_ns(1_000_000));

    let reply = worker.device_mut().take_sent().pop().ok_or("no answer")?;
    let header = ethernet::Header::parse(&reply).map_err(|reason| reason.name())?;
    let packet = ipv4::Packet::parse(&reply[ethernet::LEN..]).map_err(|reason| reason.name())?;
    let echo = udp::Packet::parse(packet.payload()).map_err(|reason| reason.name())?;
    let (from, to) = ((packet.source(), echo.source_port()), (packet.destination(), echo.destination_port()));
    println!("out: {} bytes, {}:{} -> {}:{}", reply.len(), from.0, from.1, to.0, to.1);
    println!("     {:?}", String::from_utf8_lossy(echo.payload()));

    assert_eq!(header.destination, PEER_MAC);
    assert_eq!((from, to), ((OURS, 7), (PEER, 40_000)));
    assert!(echo.checksum_is_valid(packet.source().into(), packet.destination().into()));
    assert_eq!(echo.payload(), b"hello, barewire");
    assert_eq!(worker.stack().counters().udp_delivered, 1);
    assert_eq!(worker.umem().free_chunks(), 256, "every chunk is back");
    Ok(())
}

/// A frame from 10.0.0.1:40000 to port 7 of 10.0.0.2: headers are written into arrays of their exact length.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (PEER, OURS);
    let mut udp_header = [0; udp::LEN];
    udp::Header {
        source: (source.into(), 40_000),
        destination: (destination.into(), 7),
        payload_len: payload.len() as u16,
    }
    .write(&mut udp_header, Sum::default().add_bytes(payload));
    let mut ip_header = [0; ipv4::LEN];
    let payload_len = (udp::LEN + payload.len()) as u16;
    ipv4::Header { traffic_class: 0, payload_len, ttl: 64, protocol: ipv4::UDP, source, destination }
        .write(&mut ip_header);
    let mut ethernet_header = [0; ethernet::LEN];
    let header =
        ethernet::Header { destination: OUR_MAC, source: PEER_MAC, tags: Tags::default(), ethertype: ethernet::IPV4 };
    assert!(header.write(&mut ethernet_header), "the array has the header's length");
    [&ethernet_header[..], &ip_header, &udp_header, payload].concat()
}
