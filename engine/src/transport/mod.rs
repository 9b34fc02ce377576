//! Transport: UDP. TCP's place is `transport/tcp/`.

pub mod tcp;
pub mod udp;
