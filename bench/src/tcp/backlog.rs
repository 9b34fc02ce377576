//! Requests that are due by the clock, and the connections that are free to ask them.
//!
//! ```text
//!  schedule -> waiting, each with its due time -> the connection that has been free for longest -> answered
//! ```

use std::collections::VecDeque;

use super::exchange::Exchange;
use super::trial::{Outcome, Transactions, Window};
use crate::arrivals::Schedule;
use crate::signals;

/// After the end, how long requests that were due are still waited for.
const DRAIN_NS: u64 = 1_000_000_000;

/// An open loop over connections that stay.
#[derive(Debug)]
pub(crate) struct Backlog {
    schedule: Schedule,
    /// Due times of requests that no connection was free for yet.
    waiting: VecDeque<u64>,
    /// Connections with nothing outstanding, the one that is so for longest first: all are asked in turn.
    free: VecDeque<usize>,
    /// Connections with a request outstanding.
    asked: usize,
    due: u64,
    last_ns: u64,
}

impl Backlog {
    pub(crate) fn new(schedule: Schedule) -> Self {
        let (waiting, free) = (VecDeque::new(), VecDeque::new());
        Self { schedule, waiting, free, asked: 0, due: 0, last_ns: 0 }
    }

    /// A connection begins.
    pub(crate) fn join(&mut self, index: usize) {
        self.free.push_back(index);
    }

    /// Lets what is due by now wait for a connection.
    pub(crate) fn take_due(&mut self, now_ns: u64, window: &Window) {
        while let Some(due_ns) = self.schedule.take(now_ns) {
            self.schedule.turned_to(due_ns, now_ns);
            self.due += u64::from(window.counts(due_ns));
            self.waiting.push_back(due_ns);
        }
    }

    /// The next connection to ask, and when its request was due.
    pub(crate) fn next(&mut self) -> Option<(usize, u64)> {
        let (&index, &due_ns) = (self.free.front()?, self.waiting.front()?);
        self.free.pop_front();
        self.waiting.pop_front();
        self.asked += 1;
        Some((index, due_ns))
    }

    /// A connection has its response.
    pub(crate) fn answered(
        &mut self,
        index: usize,
        exchange: &Exchange,
        now_ns: u64,
        window: &Window,
        transactions: &mut Transactions,
    ) {
        if window.counts(exchange.due_ns) {
            transactions.record_due(exchange.due_ns, exchange.sent_ns, now_ns);
            self.last_ns = now_ns;
        }
        self.asked = self.asked.saturating_sub(1);
        self.free.push_back(index);
    }

    /// A connection is gone, and with it the request that was outstanding on it, if one was.
    pub(crate) fn lose(&mut self, index: usize) {
        let free_before = self.free.len();
        self.free.retain(|free| *free != index);
        if self.free.len() == free_before {
            self.asked = self.asked.saturating_sub(1);
        }
    }

    /// Whether the trial is over, and nothing is waited for any more.
    pub(crate) fn is_over(&self, window: &Window) -> bool {
        let all_answered = self.waiting.is_empty() && self.asked == 0;
        window.over() && (all_answered || window.since_end_ns() > DRAIN_NS || signals::stopping())
    }

    /// What came of it.
    pub(crate) fn outcome(&self, window: &Window, transactions: Transactions) -> Outcome {
        let adherence = self.schedule.adherence(window.ran_ns());
        window.outcome_of_open_loop(transactions, self.due, self.last_ns, adherence)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::arrivals::Arrivals;
    use crate::tcp::trial::{OpenLoop, Plan};

    /// 1,000 requests in a second, from now on.
    fn backlog() -> (Backlog, Window, u64) {
        let open_loop = Some(OpenLoop { arrivals: Arrivals::Constant, rate_per_s: 1000.0 });
        let plan = Plan { open_loop, ..Plan::closed(Duration::ZERO, Duration::from_secs(1)) };
        let window = Window::open(plan);
        let schedule = plan.schedule(&window).unwrap();
        let start_ns = schedule.next_ns();
        (Backlog::new(schedule), window, start_ns)
    }

    #[test]
    fn connections_are_asked_in_turn_and_a_request_without_one_waits_with_its_due_time() {
        let (mut backlog, window, start_ns) = backlog();
        backlog.join(0);
        backlog.join(1);
        backlog.take_due(start_ns + 2_000_000, &window);
        let mut transactions = Transactions::of(&window);
        assert_eq!(backlog.next(), Some((0, start_ns)));
        assert_eq!(backlog.next(), Some((1, start_ns + 1_000_000)));
        assert_eq!(backlog.next(), None);
        let exchange = Exchange { due_ns: start_ns + 1_000_000, sent_ns: start_ns + 2_000_000, ..Exchange::default() };
        backlog.answered(1, &exchange, start_ns + 5_000_000, &window, &mut transactions);
        assert_eq!(backlog.next(), Some((1, start_ns + 2_000_000)));
        let outcome = backlog.outcome(&window, transactions);
        assert_eq!((outcome.sent, outcome.transactions), (3, 1));
        assert!(outcome.latency.summary().p50_ns.abs_diff(4_000_000) < 10_000, "from the due time");
    }

    #[test]
    fn what_is_outstanding_on_a_lost_connection_is_waited_for_no_more() {
        let (mut backlog, window, start_ns) = backlog();
        (0..3).for_each(|index| backlog.join(index));
        backlog.take_due(start_ns, &window);
        assert_eq!(backlog.next().map(|(index, _)| index), Some(0));
        backlog.lose(0);
        backlog.lose(1);
        assert_eq!(backlog.asked, 0);
        backlog.take_due(start_ns + 1_000_000, &window);
        assert_eq!(backlog.next().map(|(index, _)| index), Some(2));
        assert_eq!(backlog.asked, 1);
    }
}
