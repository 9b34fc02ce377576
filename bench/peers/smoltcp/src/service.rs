//! What is done with the bytes of a connection.

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

/// Buffers of a connection with requests: enough for the largest that are measured, and small enough for the
/// caches with a thousand of them.
const REQUESTS: usize = 16 * 1024;
/// The buffer of a stream: more than a veth and two cores keep in flight.
const STREAM: usize = 512 * 1024;
/// The buffer that a stream does not use.
const IDLE: usize = 2 * 1024;
/// Payload of a full segment: an answer that is longer takes more than one packet.
const FULL: usize = 1448;
/// chargen: 95 lines of 72 characters and line end, over and over.
const LINES: usize = 95;
const LINE: usize = 72;
const PERIOD: usize = LINES * (LINE + 2);
/// Bytes of the pattern that are kept, in periods.
const PERIODS: usize = 10;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Sends back what comes (RFC 862).
    Echo,
    /// Throws away what comes (RFC 863).
    Discard,
    /// Sends the same lines over and over (RFC 864).
    Chargen,
}

/// A connection with its socket.
pub(crate) struct Connection {
    pub handle: SocketHandle,
    /// chargen: where in the pattern it goes on.
    at: usize,
}

impl Connection {
    pub(crate) fn new(handle: SocketHandle) -> Self {
        Self { handle, at: 0 }
    }
}

/// Memory that all connections share.
pub(crate) struct Room {
    /// What an echo reads and writes.
    scratch: Box<[u8]>,
    pattern: Box<[u8]>,
}

impl Room {
    pub(crate) fn new() -> Self {
        let line = |first: usize| (first..first + LINE).map(|i| b' ' + (i % LINES) as u8).chain(*b"\r\n");
        let pattern = (0..PERIODS * LINES).flat_map(line).collect();
        Self { scratch: vec![0; REQUESTS].into(), pattern }
    }
}

impl Service {
    /// A closed socket with the buffers for this service.
    pub(crate) fn socket(self) -> Socket<'static> {
        let (receive, transmit) = match self {
            Self::Echo => (REQUESTS, REQUESTS),
            Self::Discard => (STREAM, IDLE),
            Self::Chargen => (IDLE, STREAM),
        };
        Socket::new(SocketBuffer::new(vec![0; receive]), SocketBuffer::new(vec![0; transmit]))
    }

    /// Does what there is to do on a connection. Whether it has more to send than a packet.
    pub(crate) fn serve(self, connection: &mut Connection, socket: &mut Socket<'static>, room: &mut Room) -> bool {
        let much = match self {
            Self::Echo => echo(socket, &mut room.scratch),
            Self::Discard => discard(socket),
            Self::Chargen => discard(socket) | generate(connection, socket, &room.pattern),
        };
        if socket.state() == State::CloseWait && !socket.can_recv() {
            socket.close();
        }
        much
    }
}

fn echo(socket: &mut Socket<'static>, scratch: &mut [u8]) -> bool {
    let mut sent = 0;
    while socket.can_recv() {
        let len = scratch.len().min(socket.send_capacity() - socket.send_queue());
        // It says no only of a connection that cannot send any more, which then has nothing to do here.
        let Ok(count) = socket.recv_slice(&mut scratch[..len]) else { break };
        if count == 0 || socket.send_slice(&scratch[..count]).is_err() {
            break;
        }
        sent += count;
    }
    sent > FULL
}

fn discard(socket: &mut Socket<'static>) -> bool {
    while socket.can_recv() {
        // Nothing is copied: the bytes are only counted as read.
        if socket.recv(|bytes| (bytes.len(), ())).is_err() {
            break;
        }
    }
    false
}

fn generate(connection: &mut Connection, socket: &mut Socket<'static>, pattern: &[u8]) -> bool {
    while socket.can_send() {
        let rest = &pattern[connection.at..];
        let fill = |buffer: &mut [u8]| {
            let count = buffer.len().min(rest.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            (count, count)
        };
        let Ok(count) = socket.send(fill) else { break };
        connection.at = (connection.at + count) % PERIOD;
    }
    socket.send_queue() > 0
}
