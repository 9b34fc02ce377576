//! Looks ahead in a burst, where so many connections take turns that no cache holds them: what each segment is about to
//! need is fetched for all of them at the same time, instead of one after the other.
//!
//! ```text
//!   burst    | segment | segment | segment | ...
//!   1st pass   flow slot  flow slot  flow slot      on their way
//!   2nd pass   connection, session                  on their way, by what the flow slots say
//! ```

use arrayvec::ArrayVec;

use super::Stack;
use super::plain::{V4, V6, Version};
use crate::app::App;
use crate::base::{BURST, Burst, Frame, Umem, prefetch};
use crate::transport::tcp::Tcp;
use crate::transport::tcp::tuple::Tuple;
use crate::wire::{ethernet, ipv4};

/// A burst of fewer has too little to do meanwhile.
const WORTH_WHILE: usize = 4;

impl<A: App> Stack<A> {
    /// Has what the segments of a burst are about to need on its way.
    #[inline]
    pub(super) fn look_ahead(&mut self, burst: &Burst, umem: &Umem) {
        let is_crowded = |tcp: &Tcp| tcp.is_crowded();
        if burst.len() >= WORTH_WHILE && self.tcp.as_ref().is_some_and(is_crowded) {
            self.fetch_connections(burst, umem);
        }
    }

    #[inline(never)]
    fn fetch_connections(&mut self, burst: &Burst, umem: &Umem) {
        let Self { tcp: Some(tcp), sessions, plain_link, .. } = self else { return };
        let tuple = |frame: &Frame| {
            let bytes = umem.bytes(frame);
            match plain_link.carried(bytes)? {
                (ethernet::IPV4, at) => tuple_of::<V4>(bytes.get(at..)?),
                (ethernet::IPV6, at) => tuple_of::<V6>(bytes.get(at..)?),
                _ => None,
            }
        };
        let mut wanted = ArrayVec::<_, BURST>::new();
        wanted.extend(burst.iter().filter_map(tuple).map(|tuple| tcp.foresee(&tuple)));
        for foreseen in &wanted {
            if let Some(session) = tcp.fetch(foreseen).and_then(|index| sessions.get(index as usize)) {
                prefetch(session);
            }
        }
    }
}

/// The connection that a packet claims to be of. Nothing is checked: it is only a guess.
#[inline(always)]
fn tuple_of<V: Version>(packet: &[u8]) -> Option<Tuple> {
    let (source, destination) = V::ends(packet)?;
    let [a, b, c, d] = *packet.get(V::LEN..)?.first_chunk()?;
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let is_tcp = packet.get(V::PROTOCOL_AT) == Some(&ipv4::TCP);
    is_tcp.then_some(Tuple { local: (destination.into(), to), remote: (source.into(), from) })
}
