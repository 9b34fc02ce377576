//! The echo service (RFC 862): whatever arrives goes back to where it came from.
//!
//! This is the smallest whole application, and the tutorial. An application implements [`App`]; the stack
//! calls [`datagram`](App::datagram) with each datagram for a port that the endpoint listens on. The payload
//! lies in the very frame that the NIC received, and `Answer::Reply` sends that frame back: the stack writes
//! new headers in front of the payload, of which no byte is moved.
//!
//! TCP is the same: received frames lie on the connection, and [`send_back`](Connection::send_back) moves them to
//! its send queue. When that is full, less is moved, what stays closes the peer's window, and
//! [`writable`](App::writable) tells when there is room. When the peer finishes, so does the connection, after the
//! last byte went back.

use super::ANSWERING_PORTS;
use crate::app::{Answer, App, Connection, Datagram};
use crate::base::Instant;

/// Sends every datagram back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl App for Echo {
    type Session = ();

    fn datagram(&mut self, _now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        // RFC 1122, section 4.1.3.6 leaves it to us, and all members of a group would answer one spoofed datagram.
        if datagram.to_group() || ANSWERING_PORTS.contains(&datagram.source().port()) {
            return Answer::None;
        }
        Answer::Reply(datagram.len())
    }

    fn opened(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        connection.set_nagle(false);
    }

    fn data(&mut self, _now: Instant, (): &mut (), connection: &mut impl Connection) {
        connection.send_back(usize::MAX);
        if connection.is_finished() && connection.received_len() == 0 {
            connection.finish();
        }
    }

    fn writable(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        self.data(now, session, connection);
    }

    fn finished(&mut self, now: Instant, session: &mut (), connection: &mut impl Connection) {
        self.data(now, session, connection);
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeConnection;
    use super::*;

    fn answer(source_port: u16) -> Answer {
        let mut room = *b"hello, and room behind it";
        let source = ([10, 0, 0, 1], source_port).into();
        let mut datagram = Datagram::new(source, ([10, 0, 0, 2], 7).into(), &mut room, 5);
        Echo.datagram(Instant::ZERO, &mut datagram)
    }

    #[test]
    fn the_payload_goes_back_as_long_as_it_came() {
        assert_eq!(answer(40_000), Answer::Reply(5));
    }

    #[test]
    fn two_echo_servers_cannot_be_set_upon_each_other() {
        assert_eq!(answer(7), Answer::None);
        assert_eq!(answer(19), Answer::None);
    }

    #[test]
    fn what_has_no_room_goes_back_later_and_the_end_comes_last() {
        let mut connection = FakeConnection { room: 4, ..FakeConnection::default() };
        connection.receive(b"hello");
        Echo.data(Instant::ZERO, &mut (), &mut connection);
        connection.peer_finished = true;
        Echo.finished(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((&connection.sent[..], connection.finished), (&b"hell"[..], false));
        connection.room = 4;
        Echo.writable(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((&connection.sent[..], connection.finished), (&b"hello"[..], true));
    }
}
