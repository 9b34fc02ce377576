//! The client: connections of which it knows no more than the next sequence numbers.

use std::net::Ipv4Addr;

use crate::Load;
use crate::frame::{self, ACK, FIN, PSH, RST, Received, SERVER, SYN, Segment};

/// Payload of a request, and of its response.
const PAYLOAD: usize = 64;
/// The first address, of connections 0 to 29,999; the next 30,000 have the next.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 1, 0, 1]);
const FIRST_PORT: u16 = 20_000;
const PORTS: usize = 30_000;
/// Initial sequence numbers begin here, so that most connections soon go through 0.
const FIRST_SEQ: u32 = 0xffff_f000;

/// All connections of the client.
#[derive(Debug)]
pub(crate) struct Client {
    connections: Vec<Connection>,
    /// Connections that ask at a time.
    burst: usize,
    /// The connection that asks next.
    next: usize,
    /// Requests that have no response yet.
    pub outstanding: usize,
    /// TCP frames that came since the beginning.
    pub frames: u64,
}

#[derive(Clone, Debug)]
struct Connection {
    state: State,
    snd_nxt: u32,
    rcv_nxt: u32,
    /// Requests so far: the payload of the next one begins with this number.
    asked: u32,
    /// Bytes that are missing of the response.
    awaited: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    SynSent,
    Established,
}

impl Client {
    pub(crate) fn new(load: Load) -> Self {
        let connection = |index: usize| Connection {
            state: State::Closed,
            snd_nxt: FIRST_SEQ.wrapping_add(index as u32),
            rcv_nxt: 0,
            asked: 0,
            awaited: 0,
        };
        let Load { connections, burst } = load;
        let connections: Vec<Connection> = (0..connections).map(connection).collect();
        let burst = burst.min(connections.len());
        Self { connections, burst, next: 0, outstanding: 0, frames: 0 }
    }

    /// Asks for the stack's hardware address from all addresses, which tells it the client's.
    pub(crate) fn announce(&self, frames: &mut Vec<Vec<u8>>) {
        frames.extend(addresses(self.connections.len()).map(frame::arp_request));
    }

    /// Begins to connect.
    pub(crate) fn syn(&mut self, index: usize) -> Vec<u8> {
        let connection = &mut self.connections[index];
        connection.state = State::SynSent;
        let frame = connection.segment(index, SYN, &[]);
        connection.snd_nxt = connection.snd_nxt.wrapping_add(1);
        frame
    }

    pub(crate) fn is_established(&self, index: usize) -> bool {
        self.connections[index].state == State::Established
    }

    /// Asks on the next connections, once on each. Says how many these are.
    pub(crate) fn requests(&mut self, frames: &mut Vec<Vec<u8>>) -> usize {
        for _ in 0..self.burst {
            let index = self.next;
            self.next = (self.next + 1) % self.connections.len();
            let connection = &mut self.connections[index];
            let frame = connection.segment(index, ACK | PSH, &payload(index, connection.asked));
            connection.snd_nxt = connection.snd_nxt.wrapping_add(PAYLOAD as u32);
            connection.asked += 1;
            connection.awaited = PAYLOAD;
            frames.push(frame);
        }
        self.outstanding += self.burst;
        self.burst
    }

    /// Takes in a frame of the stack, and adds to `frames` what it demands.
    ///
    /// # Panics
    /// If it is not what a TCP echo sends.
    pub(crate) fn receive(&mut self, frame: &[u8], frames: &mut Vec<Vec<u8>>) {
        match frame::parse(frame) {
            Received::Segment(segment) => self.receive_segment(&segment, frames),
            Received::ArpRequest { sender, target } if target != SERVER.0 => {
                frames.push(frame::arp_reply(target, sender));
            }
            Received::ArpRequest { .. } | Received::Other => {}
        }
    }

    fn receive_segment(&mut self, segment: &Segment<'_>, frames: &mut Vec<Vec<u8>>) {
        self.frames += 1;
        let index = index(segment.destination);
        let connection = index.and_then(|index| self.connections.get_mut(index));
        let (Some(index), Some(connection)) = (index, connection) else { panic!("nobody's segment: {segment:?}") };
        assert_eq!(segment.source, SERVER, "{segment:?}");
        assert!(segment.flags & (RST | FIN) == 0 && segment.flags & ACK != 0, "{segment:?}");
        assert!(connection.snd_nxt.wrapping_sub(segment.ack) <= PAYLOAD as u32, "{connection:?}: {segment:?}");
        if connection.state == State::SynSent {
            assert!(segment.flags & SYN != 0 && segment.ack == connection.snd_nxt, "{segment:?}");
            connection.rcv_nxt = segment.seq.wrapping_add(1);
            connection.state = State::Established;
            frames.push(connection.segment(index, ACK, &[]));
            return;
        }
        // A retransmission, or no payload at all.
        if segment.seq != connection.rcv_nxt || segment.payload.is_empty() {
            return;
        }
        assert!(segment.payload.len() <= connection.awaited, "{connection:?}: {segment:?}");
        let from = PAYLOAD - connection.awaited;
        let request = payload(index, connection.asked - 1);
        assert_eq!(segment.payload, &request[from..][..segment.payload.len()], "of connection {index}");
        connection.rcv_nxt = connection.rcv_nxt.wrapping_add(segment.payload.len() as u32);
        connection.awaited -= segment.payload.len();
        self.outstanding -= usize::from(connection.awaited == 0);
    }
}

impl Connection {
    fn segment(&self, index: usize, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (endpoint(index), SERVER);
        Segment { source, destination, seq: self.snd_nxt, ack: self.rcv_nxt, flags, payload }.frame()
    }
}

/// Where a connection comes from.
fn endpoint(index: usize) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from(FIRST_ADDRESS + (index / PORTS) as u32), FIRST_PORT + (index % PORTS) as u16)
}

/// The addresses that so many connections come from.
pub(crate) fn addresses(connections: usize) -> impl Iterator<Item = Ipv4Addr> {
    (0..connections).step_by(PORTS).map(|index| endpoint(index).0)
}

/// Which connection that is.
fn index((address, port): (Ipv4Addr, u16)) -> Option<usize> {
    let address = u32::from(address).checked_sub(FIRST_ADDRESS)? as usize;
    Some(address * PORTS + usize::from(port.checked_sub(FIRST_PORT)?))
}

/// A request that no other resembles.
fn payload(index: usize, asked: u32) -> [u8; PAYLOAD] {
    let mut payload = [0x5a; PAYLOAD];
    payload[..4].copy_from_slice(&asked.to_be_bytes());
    payload[4..8].copy_from_slice(&(index as u32).to_be_bytes());
    payload
}
