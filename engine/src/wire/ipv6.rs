//! IPv6 (RFC 8200).

/// Bytes of a header.
pub const LEN: usize = 40;
/// Bytes that every link takes (RFC 8200, section 5).
pub const MIN_MTU: u16 = 1280;
