//! Applications that come with the engine: each a few dozen lines, to read and to start from.

pub mod chargen;
pub mod daytime;
pub mod discard;
pub mod echo;
#[cfg(test)]
mod fake;
pub mod ping;
pub mod pipe;
pub mod services;
pub mod traceroute;

/// Ports of services that answer whatever they are sent: echo, daytime, quote of the day, chargen, time.
///
/// One forged datagram from such a port would make two servers answer each other for ever, so these ports
/// get no answer (CERT advisory CA-1996-01).
const ANSWERING_PORTS: [u16; 5] = [7, 13, 17, 19, 37];
