//! UDP in the stack: datagrams to the application, and its answers back in the same frame.

use std::net::{IpAddr, SocketAddr};

use crate::app::{Answer, App, Datagram};
use crate::base::{DropReason, Frame, Instant, Umem, UnsentReason};
use crate::network::icmp::Problem;
use crate::transport::udp;
use crate::wire;
use crate::wire::checksum::Sum;

use super::ingress::payload;
use super::{Inbound, Outcome, Stack};

impl<A: App> Stack<A> {
    pub(super) fn udp(&mut self, now: Instant, inbound: &Inbound, frame: &mut Frame, umem: &mut Umem) -> Outcome {
        let (source, destination) = (inbound.source, inbound.destination);
        let datagram = match wire::udp::Packet::parse(payload(umem.bytes(frame), inbound)) {
            Ok(datagram) => datagram,
            Err(reason) => return Outcome::Dropped(reason),
        };
        match udp::accept(&datagram, source, destination, self.checksum, &self.udp_ports) {
            Ok(()) => {}
            Err(reason @ DropReason::UdpPortClosed) => {
                return self.refuse(now, reason, Problem::PortUnreachable, inbound, frame, umem);
            }
            Err(reason) => return Outcome::Dropped(reason),
        }
        let (from, to) = (datagram.source_port(), datagram.destination_port());
        let len = datagram.payload().len();
        if !Umem::narrow(frame, inbound.payload_at + wire::udp::LEN, len) {
            return Outcome::Dropped(DropReason::UdpLength);
        }
        self.egress.counters.udp_delivered += 1;
        let room = umem.room_mut(frame);
        let ends = (SocketAddr::new(IpAddr::from(source), from), SocketAddr::new(IpAddr::from(destination), to));
        let mut datagram =
            Datagram::new(ends.0, ends.1, room, len).with_group(inbound.is_to_group()).in_class(inbound.traffic_class);
        let Answer::Reply(len) = self.app.datagram(now, &mut datagram) else {
            return Outcome::Delivered;
        };
        if from == 0 {
            return self.unanswered(UnsentReason::NoReplyPort);
        }
        let Some(our_end) = self.answer_from(inbound) else { return self.unanswered(UnsentReason::NoRoute) };
        let Some(answer) = room.get(..len) else { return self.unanswered(UnsentReason::TooLong) };
        let sum = Sum::default().add_bytes(answer);
        let way = self.egress.answer_way(inbound, our_end);
        if !umem.set_len(frame, len) || !self.egress.write_udp(frame, umem, &way, (to, from), sum) {
            return self.unanswered(UnsentReason::TooLong);
        }
        self.egress.counters.udp_originated += 1;
        self.answer_with(now, inbound, way, wire::ipv4::UDP, frame, umem)
    }
}
