//! TCP (RFC 9293).

pub mod isn;
pub mod source_port;
pub mod syn_cookie;
pub mod tuple;
