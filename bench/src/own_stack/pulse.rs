//! When a turn was, and whether there was anything to do in the last one.

use barewire::app::Traffic;
use barewire::base::Instant;

use crate::signals::monotonic_ns;

/// What a client knows of its worker's turns.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    before: Traffic,
    received: bool,
    turn: Instant,
    turn_ns: u64,
}

impl Pulse {
    /// The moment when a turn's burst had come in: the clock is read when this is first asked in it.
    pub(super) fn now_ns(&mut self, turn: Instant) -> u64 {
        if self.turn != turn {
            (self.turn, self.turn_ns) = (turn, monotonic_ns());
        }
        self.turn_ns
    }

    /// Whether nothing was received in the turn before this one, and nothing sent. To be asked once a turn.
    pub(super) fn was_idle(&mut self, now: Traffic) -> bool {
        let received_before = std::mem::replace(&mut self.received, now.received != self.before.received);
        let sent = now.originated != self.before.originated;
        self.before = now;
        !received_before && !sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_one_moment_which_is_not_before_it() {
        let mut pulse = Pulse::default();
        let turn = Instant::from_ns(monotonic_ns());
        let now_ns = pulse.now_ns(turn);
        assert!(now_ns >= turn.as_ns());
        assert_eq!(pulse.now_ns(turn), now_ns);
        assert!(pulse.now_ns(Instant::from_ns(turn.as_ns() + 1)) >= now_ns);
    }

    #[test]
    fn a_turn_that_received_or_sent_was_not_idle() {
        let mut pulse = Pulse::default();
        let mut was_idle = |received, originated| pulse.was_idle(Traffic { received, originated });
        assert!(was_idle(0, 0));
        // What is received shows in the turn itself, what is sent only behind it.
        assert!(was_idle(3, 0));
        assert!(!was_idle(3, 0), "it received three");
        assert!(was_idle(3, 0));
        assert!(!was_idle(3, 1), "it sent one");
        assert!(was_idle(3, 1));
    }
}
