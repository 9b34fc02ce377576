//! smoltcp as a TCP server with echo (RFC 862), discard (RFC 863) and chargen (RFC 864), at its best: for
//! Barewire to be compared with.
//!
//! smoltcp looks at all its sockets for each packet, and has no backlog of connections. So there is a socket
//! for each connection and one that listens on each port, which is replaced after the very packet that took
//! it; sockets of closed connections are taken out, and used again with their buffers. Acknowledgments are not
//! delayed, Nagle's algorithm is off, and answers go out after all that came in was handled, so that they carry
//! the acknowledgments.

pub mod alone;
pub mod memory;
mod service;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Cidr};

pub use crate::service::Service;
use crate::service::{Connection, Room};

/// Packets that are received before what they brought is served: as many as the engine takes at a time.
const BURST: usize = 64;
/// How often retransmission timers are looked at when nothing comes.
const TIMERS: Duration = Duration::from_millis(1);

/// The clock of TCP timestamps, in milliseconds.
pub type TimestampClock = fn() -> u32;

/// What the server is to the outside.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig<'a> {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Address, and the prefix of its network.
    pub address: Ipv4Cidr,
    /// What is served, and where.
    pub services: &'a [(Service, u16)],
    /// The clock of TCP timestamps (RFC 7323), if connections that offer them are to have them.
    pub timestamps: Option<TimestampClock>,
}

/// The server: an interface and its sockets.
pub struct Server {
    interface: Interface,
    sockets: SocketSet<'static>,
    ports: Vec<Port>,
    timestamps: Option<TimestampClock>,
    room: Room,
    timers_at: Instant,
}

/// A port with its connections.
struct Port {
    service: Service,
    number: u16,
    listening: SocketHandle,
    open: Vec<Connection>,
    /// Sockets of closed connections, out of smoltcp's sight.
    spare: Vec<tcp::Socket<'static>>,
}

impl Server {
    /// A server that listens.
    #[must_use]
    pub fn new(config: &ServerConfig<'_>, device: &mut impl Device, now: Instant) -> Self {
        let hardware = HardwareAddress::Ethernet(EthernetAddress(config.mac));
        let mut interface = Interface::new(Config::new(hardware), device, now);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for more than one.
            let _ = addresses.push(IpCidr::Ipv4(config.address));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let port = |&(service, number): &(Service, u16)| {
            let listening = sockets.add(listener(service, number, config.timestamps, None));
            Port { service, number, listening, open: Vec::new(), spare: Vec::new() }
        };
        let ports = config.services.iter().map(port).collect();
        Self { interface, sockets, ports, timestamps: config.timestamps, room: Room::new(), timers_at: now }
    }

    /// Receives up to 64 packets, serves what they brought, and sends what there is to send.
    pub fn turn(&mut self, device: &mut impl Device, now: Instant) {
        let mut received = 0;
        while received < BURST {
            match self.interface.poll_ingress_single(now, device, &mut self.sockets) {
                PollIngressSingleResult::None => break,
                PollIngressSingleResult::PacketProcessed | PollIngressSingleResult::SocketStateChanged => {}
            }
            received += 1;
            self.listen_again();
        }
        if received == 0 && now < self.timers_at {
            return;
        }
        self.timers_at = now + TIMERS;
        // A walk over the sockets sends one packet of each: all that requests and acknowledgments need.
        let walks = if self.serve() { BURST } else { 1 };
        for _ in 0..walks {
            if self.interface.poll_egress(now, device, &mut self.sockets) == PollResult::None {
                break;
            }
        }
    }

    /// Lets another socket listen wherever a connection took the one that did.
    fn listen_again(&mut self) {
        for port in &mut self.ports {
            if self.sockets.get::<tcp::Socket<'_>>(port.listening).is_listening() {
                continue;
            }
            let fresh = listener(port.service, port.number, self.timestamps, port.spare.pop());
            let taken = std::mem::replace(&mut port.listening, self.sockets.add(fresh));
            port.open.push(Connection::new(taken));
        }
    }

    /// Does for all connections what their service is. Whether any of them has more to send than a packet.
    fn serve(&mut self) -> bool {
        let mut much = false;
        for port in &mut self.ports {
            let mut index = 0;
            while let Some(connection) = port.open.get_mut(index) {
                let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.handle);
                if socket.state() == State::Closed {
                    port.spare.push(closed(&mut self.sockets, connection.handle));
                    port.open.swap_remove(index);
                    continue;
                }
                much |= port.service.serve(connection, socket, &mut self.room);
                index += 1;
            }
        }
        much
    }
}

/// A listening socket: `spare`, or a new one.
fn listener(
    service: Service,
    port: u16,
    timestamps: Option<TimestampClock>,
    spare: Option<tcp::Socket<'static>>,
) -> tcp::Socket<'static> {
    let mut socket = spare.unwrap_or_else(|| service.socket());
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    // A connection without timestamps leaves it switched off.
    socket.set_tsval_generator(timestamps);
    let listening = socket.listen(port);
    debug_assert!(listening.is_ok(), "the socket is closed, and the port is not 0");
    socket
}

/// Takes a socket out of smoltcp's sight.
fn closed(sockets: &mut SocketSet<'static>, handle: SocketHandle) -> tcp::Socket<'static> {
    match sockets.remove(handle) {
        smoltcp::socket::Socket::Tcp(socket) => socket,
    }
}
