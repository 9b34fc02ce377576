//! What both applications did on each connection, for one to be checked against the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use barewire::app::Closed;
use barewire::base::Instant;

use super::stream::{Flow, Side};

/// What an application did on a connection so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record {
    /// Bytes that the stack took from it.
    pub sent: u64,
    /// Bytes that it took from the stack.
    pub received: u64,
    /// Whether it said that it sends no more.
    pub finished: bool,
    /// Whether it was told that it is open.
    pub opened: bool,
    /// What it was told of the end, and when.
    pub closed: Option<Closed>,
    /// See `closed`.
    pub closed_at: Instant,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Book {
    records: BTreeMap<Flow, [Option<Record>; 2]>,
    /// Those that an application was told the end of, until they are taken out.
    closed: Vec<(Side, Flow, Record)>,
    /// How long each side remembers a connection that is over.
    pub remembers: [Duration; 2],
    /// Whether ports were used again, so that records of two connections may be taken for those of one.
    pub mixed: bool,
}

/// The book, in the hands of both applications and of the simulation.
pub type SharedBook = Rc<RefCell<Book>>;

impl Book {
    /// Begins a connection.
    pub fn open(&mut self, side: Side, flow: Flow) {
        let record = &mut self.records.entry(flow).or_default()[side as usize];
        self.mixed |= record.is_some();
        *record = Some(Record::default());
    }

    /// Writes down what an application did, and checks that it received no more than the other sent.
    ///
    /// # Panics
    /// If it did.
    pub fn enter(&mut self, side: Side, flow: Flow, record: Record) {
        let records = self.records.entry(flow).or_default();
        records[side as usize] = Some(record);
        if self.mixed {
            return;
        }
        let sent = records[side.other() as usize].map_or(0, |other| other.sent);
        assert!(record.received <= sent, "{flow:?}: {} received {} bytes of {sent}", side.name(), record.received);
    }

    /// Writes down how a connection ended for one side, and checks that this is how it can have ended.
    ///
    /// # Panics
    /// If it is not.
    pub fn close(&mut self, side: Side, flow: Flow, record: Record) {
        self.enter(side, flow, record);
        self.closed.push((side, flow, record));
        if self.mixed {
            return;
        }
        let other = self.records[&flow][side.other() as usize];
        let name = side.name();
        match record.closed {
            Some(Closed::Finished) => {
                let other = other.unwrap_or_else(|| panic!("{flow:?}: {name} finished with nobody"));
                assert!(other.finished && record.finished, "{flow:?}: {name} is said to be finished");
                assert_eq!(record.received, other.sent, "{flow:?}: bytes that {name} received when it was finished");
            }
            Some(Closed::Reset) => {
                let remembers = self.remembers[side.other() as usize];
                let finished = other.filter(|other| other.closed == Some(Closed::Finished));
                let fine = finished.is_none_or(|other| record.closed_at.since(other.closed_at) >= remembers);
                assert!(fine, "{flow:?}: {name} was reset, but the other side finished: {record:?} {other:?}");
            }
            Some(Closed::Refused | Closed::Unreachable) => {
                assert!(!record.opened, "{flow:?}: {name} was refused when it was open");
            }
            _ => {}
        }
    }

    /// Takes out a connection that an application was told the end of.
    pub fn next_closed(&mut self) -> Option<(Side, Flow, Record)> {
        self.closed.pop()
    }

    /// Checks that everything that was sent on connections which both sides finished was received.
    ///
    /// # Panics
    /// If it was not.
    pub fn check_end(&self) {
        for (flow, records) in &self.records {
            let [Some(near), Some(far)] = records else { continue };
            let both = near.closed == Some(Closed::Finished) && far.closed == Some(Closed::Finished);
            if both && !self.mixed {
                assert_eq!((near.sent, far.sent), (far.received, near.received), "{flow:?}: sent, and received");
            }
        }
    }

    /// Connections by how they ended at either side, open ones aside, and bytes received.
    #[must_use]
    pub fn totals(&self) -> (BTreeMap<String, u64>, u64) {
        let mut ends = BTreeMap::new();
        let mut bytes = 0;
        for record in self.records.values().flatten().flatten() {
            bytes += record.received;
            if let Some(closed) = record.closed {
                *ends.entry(format!("{closed:?}")).or_default() += 1;
            }
        }
        (ends, bytes)
    }
}
