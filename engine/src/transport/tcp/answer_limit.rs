//! How often a peer hears from us that sends what is not accepted, where there is no control block: in the handshake, and
//! in TIME-WAIT. Connections have a limit of their own, see receive.rs.

use crate::base::Instant;

/// Nanoseconds of a period, as a power of two: 0.54 s (Linux: tcp_invalid_ratelimit, 0.5 s).
const PERIOD_LOG2: u32 = 29;

/// One answer in a period.
///
/// RFC 5961, section 7: the number of challenge ACKs SHOULD be limited. Here for each peer by itself: a common limit would
/// tell one about others (CVE-2016-5696).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerLimit {
    /// The period of the last one: 1 to 255, which come again after 137 s, longer than either lasts. 0: there was none.
    last: u8,
}

impl AnswerLimit {
    /// Whether there is an answer now.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        let period = ((now.as_ns() >> PERIOD_LOG2) % 255) as u8 + 1;
        std::mem::replace(&mut self.last, period) != period
    }
}
