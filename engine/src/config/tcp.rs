//! What connections may take.

use std::ops::RangeInclusive;
use std::time::Duration;

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
/// Seconds of silence before a keep-alive: as Linux's TCP_KEEPIDLE, which stays within 9 hours.
const KEEP_ALIVE_S: RangeInclusive<u32> = 1..=32_767;
/// Seconds without an acknowledgment: as Linux's TCP_USER_TIMEOUT, milliseconds in 31 bits.
const USER_TIMEOUT_S: RangeInclusive<u32> = 1..=2_147_483;

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
    /// Silence after which a peer is asked whether it still lives; `None`: it is not asked.
    pub keep_alive: Option<Duration>,
    /// How long what was sent may stay unacknowledged.
    pub user_timeout: Duration,
}

impl Options {
    pub(super) fn tcp_limits(&self) -> Result<TcpLimits, ConfigError> {
        let default = TcpConfig::default();
        let connections = self.connections.unwrap_or(default.connections);
        if !(1..=MAX_CONNECTIONS).contains(&connections) {
            return Err(invalid("--connections", connections, format!("give 1 to {MAX_CONNECTIONS}")));
        }
        // Handshakes take up places of connections: half of them are left to those that are established.
        let backlog = self.backlog.unwrap_or(default.backlog.min(connections / 2).max(1));
        if !(1..=connections).contains(&backlog) {
            let why = format!("give 1 to {connections}, the number of connections in all (--connections)");
            return Err(invalid("--backlog", backlog, why));
        }
        let within = |flag, size: Size, least: Size, most: Size| {
            let fits = (least..=most).contains(&size);
            if fits { Ok(size.0) } else { Err(invalid(flag, size, format!("give {least} to {most}"))) }
        };
        let seconds = |flag, given: Option<u32>, range: RangeInclusive<u32>, default| match given {
            Some(seconds) if !range.contains(&seconds) => {
                let why = format!("give {} to {} seconds, or leave it out for {default}", range.start(), range.end());
                Err(invalid(flag, seconds, why))
            }
            given => Ok(given.map(|seconds| Duration::from_secs(seconds.into()))),
        };
        let user_timeout = seconds("--user-timeout", self.user_timeout, USER_TIMEOUT_S, "300")?;
        let buffer = self.tcp_buffer.unwrap_or(Size(default.receive_buffer.into()));
        let memory = self.tcp_memory.unwrap_or(TCP_MEMORY);
        Ok(TcpLimits {
            connections,
            backlog,
            buffer: within("--tcp-buffer", buffer, MIN_TCP_BUFFER, MAX_TCP_BUFFER)? as u32,
            memory: within("--tcp-memory", memory, MIN_TCP_MEMORY, MAX_TCP_MEMORY)?,
            keep_alive: seconds("--keep-alive", self.keep_alive, KEEP_ALIVE_S, "none")?,
            user_timeout: user_timeout.unwrap_or(default.user_timeout),
        })
    }
}
