//! A flood of connection requests from addresses that do not exist.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use barewire::wire::checksum::Sum;

use crate::netns::PacketSocket;
use crate::packets::{self, BATCH, Frame};
use crate::sim::Rng;

/// Where a flood goes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// MAC address of the sender's end.
    pub source_mac: [u8; 6],
    /// MAC address of the target.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// A port that it listens at.
    pub port: u16,
}

/// A flood that a thread makes. It ends on drop.
#[derive(Debug)]
pub struct Flood {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<f64>>,
}

impl Flood {
    /// Starts to send `per_second` requests, or as many as can be sent if that is less.
    #[must_use]
    pub fn start(socket: PacketSocket, target: Target, per_second: u64) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || send(&socket, target, per_second, &ended));
        Self { end, thread: Some(thread) }
    }

    /// Ends it, and says how many requests were sent a second.
    ///
    /// # Panics
    /// If it has.
    #[must_use]
    pub fn stop(mut self) -> f64 {
        self.end.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // If it has failed, it has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn send(socket: &PacketSocket, target: Target, per_second: u64, ended: &AtomicBool) -> f64 {
    let mut rng = Rng::new(1);
    let mut frames = vec![Frame::default(); BATCH];
    let start = Instant::now();
    // What could not be sent in time is not made up for: `begun` moves with it.
    let (mut sent, mut due, mut begun) = (0_u64, 0_u64, start);
    while !ended.load(Ordering::Relaxed) {
        due += BATCH as u64;
        let at = Duration::from_secs_f64(due as f64 / per_second as f64);
        match at.checked_sub(begun.elapsed()) {
            Some(early) if early > Duration::from_micros(200) => thread::sleep(early),
            Some(early) => {
                let until = Instant::now() + early;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
            None => (due, begun) = (0, Instant::now()),
        }
        frames.iter_mut().for_each(|frame| frame.set(&request(target, &mut rng)));
        sent += packets::send(socket, &frames) as u64;
    }
    sent as f64 / start.elapsed().as_secs_f64()
}

/// Bytes of headers: Ethernet, IPv4, TCP with the MSS option.
const IP: usize = 14;
const TCP: usize = IP + 20;
const END: usize = TCP + 24;

/// A SYN with random source, port and sequence number, and right checksums.
fn request(target: Target, rng: &mut Rng) -> [u8; END] {
    let mut frame = [0; END];
    frame[..6].copy_from_slice(&target.mac);
    frame[6..12].copy_from_slice(&target.source_mac);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut frame[IP..TCP];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((END - IP) as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&(rng.bits() as u16).to_be_bytes());
    (ip[8], ip[9]) = (64, 6);
    // 32.0.0.0/3: unicast, and none of the lab's.
    let source = 1 << 29 | rng.bits() as u32 >> 3;
    ip[12..16].copy_from_slice(&u32::to_be_bytes(source));
    ip[16..20].copy_from_slice(&target.address.octets());
    let checksum = Sum::default().add_bytes(ip).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let tcp = &mut frame[TCP..];
    tcp[..2].copy_from_slice(&(rng.between(1_024, 65_535) as u16).to_be_bytes());
    tcp[2..4].copy_from_slice(&target.port.to_be_bytes());
    tcp[4..8].copy_from_slice(&(rng.bits() as u32).to_be_bytes());
    // Six words of header, SYN, a window, and an MSS of 1,460.
    (tcp[12], tcp[13]) = (6 << 4, 2);
    tcp[14..16].copy_from_slice(&64_240_u16.to_be_bytes());
    tcp[20..24].copy_from_slice(&[2, 4, 5, 0xb4]);
    // The pseudo header: both addresses, the protocol and the length.
    let pseudo = Sum::default().add_bytes(&frame[IP + 12..TCP]).add_values([6, (END - TCP) as u16]);
    let checksum = pseudo.add_bytes(&frame[TCP..]).checksum();
    frame[TCP + 16..TCP + 18].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn requests_are_sound_and_from_everywhere() {
        let target = Target { source_mac: [2; 6], mac: [4; 6], address: Ipv4Addr::new(10, 0, 0, 2), port: 7 };
        let mut rng = Rng::new(7);
        let mut sources = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let frame = request(target, &mut rng);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4: {frame:02x?}") };
            let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("not TCP: {frame:02x?}") };
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(tcp.checksum(), tcp.to_header().calc_checksum_ipv4(&header, &[]).unwrap());
            assert!(tcp.syn() && !tcp.ack() && tcp.destination_port() == 7);
            sources.insert(ip.header().source_addr());
        }
        assert!(sources.len() > 990 && sources.iter().all(|source| (32..64).contains(&source.octets()[0])));
    }
}
