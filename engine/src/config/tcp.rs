//! What connections may take.

use super::{ConfigError, Options, Size, invalid};
use crate::transport::tcp::TcpConfig;

/// Packet memory of a worker that connections may hold: 32,768 chunks of 2,048 bytes. Half of them are for what is
/// sent, which is as much as 22 connections of the default buffer have under way at most. It is taken at start, and
/// locked.
const TCP_MEMORY: Size = Size(64 << 20);
/// A burst in the larger chunks.
const MIN_TCP_MEMORY: Size = Size(256 << 10);
/// More than any machine has for one of its workers; the number of chunks stays far below 2^32.
const MAX_TCP_MEMORY: Size = Size(1 << 40);
/// Two segments of an Ethernet: with less, an acknowledgment would be waited for after each.
const MIN_TCP_BUFFER: Size = Size(4 << 10);
/// The largest window that there is (RFC 7323, section 2.3).
const MAX_TCP_BUFFER: Size = Size(1 << 30);
/// Tables for so many take 250 MiB of a worker, before the first of them is there.
const MAX_CONNECTIONS: u32 = 1 << 22;

/// How much TCP may take, of each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Connections.
    pub connections: u32,
    /// Handshakes under way.
    pub backlog: u32,
    /// Bytes that a connection may hold, each way.
    pub buffer: u32,
    /// Packet memory that connections may hold, bytes.
    pub memory: u64,
}

impl Options {
    pub(super) fn tcp_limits(&self) -> Result<TcpLimits, ConfigError> {
        let default = TcpConfig::default();
        let connections = self.connections.unwrap_or(default.connections);
        if !(1..=MAX_CONNECTIONS).contains(&connections) {
            return Err(invalid("--connections", connections, format!("give 1 to {MAX_CONNECTIONS}")));
        }
        let backlog = self.backlog.unwrap_or(default.backlog.min(connections));
        if !(1..=connections).contains(&backlog) {
            let why = format!("give 1 to {connections}, the number of connections in all (--connections)");
            return Err(invalid("--backlog", backlog, why));
        }
        let within = |flag, size: Size, least: Size, most: Size| {
            let fits = (least..=most).contains(&size);
            if fits { Ok(size.0) } else { Err(invalid(flag, size, format!("give {least} to {most}"))) }
        };
        let buffer = self.tcp_buffer.unwrap_or(Size(default.receive_buffer.into()));
        let memory = self.tcp_memory.unwrap_or(TCP_MEMORY);
        Ok(TcpLimits {
            connections,
            backlog,
            buffer: within("--tcp-buffer", buffer, MIN_TCP_BUFFER, MAX_TCP_BUFFER)? as u32,
            memory: within("--tcp-memory", memory, MIN_TCP_MEMORY, MAX_TCP_MEMORY)?,
        })
    }
}
