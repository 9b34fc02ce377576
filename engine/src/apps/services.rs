//! Several services at once: what arrives is given to the one that its port belongs to.
//!
//! Applications are composed by hand: one that holds the others, passes each call on, and has a session that is any
//! of theirs.

use arrayvec::ArrayVec;

use super::chargen::{self, Chargen};
use super::daytime::Daytime;
use super::discard::Discard;
use super::echo::Echo;
use crate::app::{Answer, App, Connection, Datagram};
use crate::base::Instant;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 867.
    Daytime,
    /// RFC 864.
    Chargen,
}

/// Number of services.
const COUNT: usize = 4;

/// Ports that services are served on; `None` for those that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServicePorts {
    /// Of echo, over UDP.
    pub udp_echo: Option<u16>,
    /// Of echo, over TCP.
    pub tcp_echo: Option<u16>,
    /// Of discard, over UDP and TCP.
    pub discard: Option<u16>,
    /// Of daytime, over UDP and TCP.
    pub daytime: Option<u16>,
    /// Of chargen, over UDP and TCP.
    pub chargen: Option<u16>,
}

/// Services by their ports.
type Served = ArrayVec<(u16, Service), COUNT>;

impl ServicePorts {
    /// UDP ports with their services.
    pub fn udp(&self) -> impl Iterator<Item = (u16, Service)> {
        self.with_echo(self.udp_echo)
    }

    /// TCP ports with their services.
    pub fn tcp(&self) -> impl Iterator<Item = (u16, Service)> {
        self.with_echo(self.tcp_echo)
    }

    fn with_echo(&self, echo: Option<u16>) -> impl Iterator<Item = (u16, Service)> + use<> {
        let services = [
            (echo, Service::Echo),
            (self.discard, Service::Discard),
            (self.daytime, Service::Daytime),
            (self.chargen, Service::Chargen),
        ];
        services.into_iter().filter_map(|(port, service)| Some((port?, service)))
    }
}

/// All services, each on its ports.
#[derive(Clone, Debug)]
pub struct Services {
    udp: Served,
    tcp: Served,
    daytime: Daytime,
}

/// What is kept beside a connection.
#[derive(Clone, Copy, Debug, Default)]
pub enum Session {
    /// It is not established.
    #[default]
    None,
    /// It is echo's.
    Echo,
    /// It is discard's.
    Discard,
    /// It is daytime's.
    Daytime,
    /// It is chargen's.
    Chargen(chargen::Session),
}

impl Services {
    /// Services on these ports. Of several on one port the first is served.
    #[must_use]
    pub fn new(ports: &ServicePorts, daytime: Daytime) -> Self {
        Self { udp: ports.udp().collect(), tcp: ports.tcp().collect(), daytime }
    }
}

fn service(served: &Served, port: u16) -> Option<Service> {
    served.iter().find(|(other, _)| *other == port).map(|(_, service)| *service)
}

impl App for Services {
    type Session = Session;

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        match service(&self.udp, datagram.destination().port()) {
            Some(Service::Echo) => Echo.datagram(now, datagram),
            Some(Service::Discard) => Discard.datagram(now, datagram),
            Some(Service::Daytime) => self.daytime.datagram(now, datagram),
            Some(Service::Chargen) => Chargen.datagram(now, datagram),
            None => Answer::None,
        }
    }

    fn opened(&mut self, now: Instant, session: &mut Session, connection: &mut impl Connection) {
        *session = match service(&self.tcp, connection.local().port()) {
            Some(Service::Echo) => Session::Echo,
            Some(Service::Discard) => Session::Discard,
            Some(Service::Daytime) => Session::Daytime,
            Some(Service::Chargen) => Session::Chargen(chargen::Session::default()),
            None => Session::None,
        };
        match session {
            Session::Echo => Echo.opened(now, &mut (), connection),
            Session::Discard => Discard.opened(now, &mut (), connection),
            Session::Daytime => self.daytime.opened(now, &mut (), connection),
            Session::Chargen(session) => Chargen.opened(now, session, connection),
            Session::None => connection.abort(),
        }
    }

    fn data(&mut self, now: Instant, session: &mut Session, connection: &mut impl Connection) {
        match session {
            Session::Echo => Echo.data(now, &mut (), connection),
            Session::Discard => Discard.data(now, &mut (), connection),
            Session::Daytime => self.daytime.data(now, &mut (), connection),
            Session::Chargen(session) => Chargen.data(now, session, connection),
            Session::None => {}
        }
    }

    fn writable(&mut self, now: Instant, session: &mut Session, connection: &mut impl Connection) {
        match session {
            Session::Echo => Echo.writable(now, &mut (), connection),
            Session::Discard => Discard.writable(now, &mut (), connection),
            Session::Daytime => self.daytime.writable(now, &mut (), connection),
            Session::Chargen(session) => Chargen.writable(now, session, connection),
            Session::None => {}
        }
    }

    fn finished(&mut self, now: Instant, session: &mut Session, connection: &mut impl Connection) {
        match session {
            Session::Echo => Echo.finished(now, &mut (), connection),
            Session::Discard => Discard.finished(now, &mut (), connection),
            Session::Daytime => self.daytime.finished(now, &mut (), connection),
            Session::Chargen(session) => Chargen.finished(now, session, connection),
            Session::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fake::FakeConnection;
    use super::*;

    const PORTS: ServicePorts =
        ServicePorts { udp_echo: Some(7), tcp_echo: Some(4007), discard: Some(9), daytime: Some(13), chargen: None };

    #[test]
    fn udp_and_tcp_have_the_ports_that_they_are_given() {
        let udp: Vec<_> = PORTS.udp().collect();
        assert_eq!(udp, [(7, Service::Echo), (9, Service::Discard), (13, Service::Daytime)]);
        assert_eq!(PORTS.tcp().next(), Some((4007, Service::Echo)));
        assert_eq!(ServicePorts::default().tcp().count(), 0);
    }

    #[test]
    fn each_port_is_answered_by_its_service() {
        let mut services = Services::new(&PORTS, Daytime::new(Duration::ZERO));
        let mut answer = |port| {
            let mut room = *b"hello, and room behind it for all that may come";
            let mut datagram =
                Datagram::new(([10, 0, 0, 1], 40_000).into(), ([10, 0, 0, 2], port).into(), &mut room, 5);
            (services.datagram(Instant::ZERO, &mut datagram), room[0])
        };
        assert_eq!(answer(7), (Answer::Reply(5), b'h'));
        assert_eq!(answer(9), (Answer::None, b'h'));
        assert_eq!(answer(13), (Answer::Reply(40), b'T'));
        assert_eq!(answer(19), (Answer::None, b'h'));
    }

    #[test]
    fn a_connection_belongs_to_the_service_of_its_port() {
        let sent = |port| {
            let mut services = Services::new(&PORTS, Daytime::new(Duration::ZERO));
            let mut session = Session::default();
            let mut connection = FakeConnection { port, room: 2000, ..FakeConnection::default() };
            services.opened(Instant::ZERO, &mut session, &mut connection);
            connection.receive(b"hello");
            services.data(Instant::ZERO, &mut session, &mut connection);
            connection.peer_finished = true;
            services.finished(Instant::ZERO, &mut session, &mut connection);
            (connection.sent.len(), connection.finished, connection.aborted)
        };
        assert_eq!(sent(4007), (5, true, false));
        assert_eq!(sent(9), (0, true, false));
        assert_eq!(sent(13), (40, true, false));
        assert_eq!(sent(7), (0, false, true), "there is nobody on this port");
    }
}
