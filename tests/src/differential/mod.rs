//! One question to two hosts: the same packets go to the engine and to a Linux kernel with the same addresses, and what
//! each answers is put into words that can be compared.
//!
//! ```text
//!   cases -> ask(engine) -> answers --+
//!         -> ask(kernel) -> answers --+-> equal, or a difference that `differential.md` has to name
//! ```

mod table;
mod words;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::forgery::{Ends, Packet, checksum, pseudo_sum};
use crate::lab::{Lab, PATIENCE};
use crate::netns::{PacketSocket, Veth, run};
pub use table::{Difference, Table};
pub use words::describe;

/// Neighbors that cases come from: as errors have a limit for each receiver.
const NEIGHBORS: u32 = 64;

/// Where a case comes from: no other has the address, so that what one leaves behind does not touch another. All but
/// neighbors are beyond the gateway.
#[must_use]
pub fn ends(case: u32) -> Ends {
    Ends {
        macs: (Veth::FAR_MAC, Veth::NEAR_MAC),
        v4: (Ipv4Addr::from_bits(0xc612_0101 + case), Lab::ENGINE),
        v6: (Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(case + 0x101)), Lab::ENGINE_6),
        neighbors: (
            Ipv4Addr::new(10, 0, 0, 77),
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, 0x50 + (case / 37 % NEIGHBORS) as u16),
        ),
    }
}

/// A lab for a host whose only addresses are the engine's, and a peer that is all neighbors that cases come from.
#[must_use]
pub fn lab() -> Lab {
    let lab = Lab::of_both_families();
    lab.veth.near.ip(&["address", "flush", "dev", Veth::NEAR]);
    lab.veth.far.ip(&["address", "add", &format!("{}/24", ends(0).neighbors.0), "dev", Veth::FAR]);
    for case in 0..NEIGHBORS {
        let neighbor = format!("{}/64", ends(37 * case).neighbors.1);
        lab.veth.far.ip(&["address", "add", &neighbor, "dev", Veth::FAR, "nodad"]);
    }
    lab
}

/// Whose the marks are that show that everything before them was answered.
const MARKER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const MARKER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);

/// Time for a host to find out where a neighbor is: its peer's kernel answers at once.
const NEIGHBOR_ANSWERS: Duration = Duration::from_millis(4);

/// Time for a host to answer, after which it is asked once more.
const ANSWERS_COME: Duration = Duration::from_millis(500);

/// Time for the engine to look into the copies of what was sent to groups, which it does beside its packet path.
const COPIES_ARE_READ: Duration = Duration::from_millis(12);

/// Asks a host at the other end of a lab's veth.
#[derive(Debug)]
pub struct Asker {
    socket: PacketSocket,
    marks: u32,
    buffer: Vec<u8>,
    /// The least time for a case: the engine's errors have a limit for all receivers, 1,000 a second, that the
    /// kernel's are here without.
    pace: Duration,
}

impl Asker {
    /// At the peer's end of the veth.
    #[must_use]
    pub fn new(lab: &Lab, pace: Duration) -> Self {
        Self { socket: lab.veth.far_socket(), marks: 0, buffer: vec![0; 1 << 16], pace }
    }

    /// Sends a case, and gives what was answered, in words and in order.
    ///
    /// # Panics
    /// If the host has stopped to answer.
    pub fn ask(&mut self, case: &Packet) -> String {
        let start = Instant::now();
        case.frames.iter().for_each(|frame| self.socket.send(&frame.bytes));
        let mut answers = Vec::new();
        // Fragments are sent after what else a turn brings, so that a mark may overtake them once.
        self.wait_for_marks(case, &mut answers);
        if case.is_from_neighbor() {
            thread::sleep(NEIGHBOR_ANSWERS);
        }
        if case.is_to_group() {
            thread::sleep(COPIES_ARE_READ);
            self.wait_for_marks(case, &mut answers);
        }
        self.wait_for_marks(case, &mut answers);
        thread::sleep(self.pace.saturating_sub(start.elapsed()));
        describe(&answers, case)
    }

    /// Sends an echo request, and a datagram to the echo service, which may be a program, and waits for both.
    fn wait_for_marks(&mut self, case: &Packet, answers: &mut Vec<Vec<u8>>) {
        let start = Instant::now();
        loop {
            self.marks += 1;
            let mark = self.marks.to_be_bytes();
            let marks = if case.is_v6() { marks_6(mark) } else { marks(mark) };
            marks.iter().for_each(|frame| self.socket.send(frame));
            let (sent, mut missing) = (Instant::now(), marks.len());
            while missing > 0 {
                let left = ANSWERS_COME.saturating_sub(sent.elapsed());
                let Some(frame) = self.socket.receive(&mut self.buffer, left) else { break };
                if is_mark(frame) {
                    missing -= usize::from(frame.ends_with(&mark));
                } else if words::is_answer_to(frame, case) {
                    answers.push(frame.to_vec());
                }
            }
            if missing == 0 {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "the host does not answer any more, after {} {:?}",
                case.kind,
                case.changed
            );
        }
    }
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&Veth::NEAR_MAC[..], &Veth::FAR_MAC, &ethertype.to_be_bytes(), packet].concat()
}

fn marks(mark: [u8; 4]) -> [Vec<u8>; 2] {
    let packet = |protocol: u8, mut message: Vec<u8>, sum_at: usize, pseudo: u32| {
        let sum = checksum(&message, pseudo);
        message[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let len = (20 + message.len()) as u16;
        let mut header = [&[0x45, 0][..], &len.to_be_bytes(), &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
        header.extend(MARKER.octets());
        header.extend(Lab::ENGINE.octets());
        let sum = checksum(&header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        ethernet(0x0800, &[header, message].concat())
    };
    let echo = [&[8, 0, 0, 0, 0, 0, 0, 0][..], &mark].concat();
    let datagram = [&[0x30, 0x39, 0, 7, 0, 12, 0, 0][..], &mark].concat();
    // Of a datagram of IPv4 there need be no checksum.
    let mut datagram = packet(17, datagram, 6, 0);
    datagram[14 + 20 + 6..14 + 20 + 8].fill(0);
    [packet(1, echo, 2, 0), datagram]
}

fn marks_6(mark: [u8; 4]) -> [Vec<u8>; 2] {
    let packet = |protocol: u8, message: Vec<u8>, sum_at: usize| {
        let mut packet = [&[0x60, 0, 0, 0][..], &(message.len() as u16).to_be_bytes(), &[protocol, 64]].concat();
        packet.extend(MARKER_6.octets());
        packet.extend(Lab::ENGINE_6.octets());
        let sum = match checksum(&message, pseudo_sum(&packet, true, protocol, message.len())) {
            // RFC 8200, section 8.1: of a datagram, no checksum is zero.
            0 => 0xffff,
            sum => sum,
        };
        packet.extend(&message);
        packet[40 + sum_at..40 + sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        ethernet(0x86dd, &packet)
    };
    let echo = [&[128, 0, 0, 0, 0, 0, 0, 0][..], &mark].concat();
    let datagram = [&[0x30, 0x39, 0, 7, 0, 12, 0, 0][..], &mark].concat();
    [packet(58, echo, 2), packet(17, datagram, 6)]
}

/// Whether a frame is to the sender of marks.
fn is_mark(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.get(30..34) == Some(&MARKER.octets()),
        Some([0x86, 0xdd]) => frame.get(38..54) == Some(&MARKER_6.octets()),
        _ => false,
    }
}

/// The kernel of a lab's engine's end with the engine's addresses, an echo service over UDP, and a listener over TCP,
/// without limits of ICMP errors. Ends on drop.
#[derive(Debug)]
pub struct Linux {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _listeners: Vec<std::net::TcpListener>,
}

impl Linux {
    /// Sets it up.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn start(lab: &Lab) -> Self {
        let near = &lab.veth.near;
        near.speak_ipv6(Veth::NEAR);
        near.ip(&["address", "add", Lab::ADDRESS, "dev", Veth::NEAR]);
        near.ip(&["address", "add", Lab::ADDRESS_6, "dev", Veth::NEAR, "nodad"]);
        near.ip(&["route", "add", "default", "via", &Lab::PEER.to_string()]);
        near.ip(&["-6", "route", "add", "default", "via", &Lab::PEER_6.to_string()]);
        let settings = [
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv4.icmp_ratemask=0",
            "net.ipv4.icmp_msgs_per_sec=1000000",
            "net.ipv4.icmp_msgs_burst=1000000",
            "net.ipv6.icmp.ratelimit=0",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.near0.rp_filter=0",
            "net.core.somaxconn=65535",
            "net.ipv4.tcp_max_syn_backlog=65535",
        ];
        near.enter(|| run("sysctl", &[&["-qw"], &settings[..]].concat()));
        let end = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        let mut listeners = Vec::new();
        for address in [std::net::IpAddr::from(Lab::ENGINE), Lab::ENGINE_6.into()] {
            let (socket, listener) = near.enter(|| {
                let listener = std::net::TcpListener::bind((address, 7)).expect("port 7 is free");
                crate::sockets::set_backlog(&listener, 65_535);
                (UdpSocket::bind((address, 7)).expect("port 7 is free"), listener)
            });
            listeners.push(listener);
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
            let ended = Arc::clone(&end);
            threads.push(thread::spawn(move || echo(&socket, &ended)));
        }
        Self { end, threads, _listeners: listeners }
    }
}

fn echo(socket: &UdpSocket, end: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !end.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            // To port 0 nothing can be sent.
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it only echoes"));
    }
}
