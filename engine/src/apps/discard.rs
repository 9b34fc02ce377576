//! The discard service (RFC 863): whatever arrives is thrown away.
//!
//! Nearly all of it is what an [`App`] does anyway: received bytes are consumed, which keeps the peer's window
//! open, and when the peer finishes, so does the connection.

use crate::app::{Answer, App, Datagram};
use crate::base::Instant;

/// Takes everything and answers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discard;

impl App for Discard {
    type Session = ();

    fn datagram(&mut self, _now: Instant, _datagram: &mut Datagram<'_>) -> Answer {
        Answer::None
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeConnection;
    use super::*;
    use crate::app::Connection;

    #[test]
    fn nothing_is_answered() {
        let mut room = *b"hello";
        let mut datagram = Datagram::new(([10, 0, 0, 1], 40_000).into(), ([10, 0, 0, 2], 9).into(), &mut room, 5);
        assert_eq!(Discard.datagram(Instant::ZERO, &mut datagram), Answer::None);
    }

    #[test]
    fn a_connection_is_emptied_and_finished_when_the_peer_finishes() {
        let mut connection = FakeConnection::default();
        connection.receive(&[0; 5000]);
        Discard.data(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((connection.received_len(), connection.finished), (0, false));
        Discard.finished(Instant::ZERO, &mut (), &mut connection);
        assert!(connection.finished);
    }
}
