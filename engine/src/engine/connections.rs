//! What the TCP connections are doing, as `ss -ti` tells it: collected by the workers when somebody asks.
//!
//! ```text
//!   HTTP client -> ask: a request into each worker's mailbox
//!                       worker, in its housekeeping: some places of its table a time -> listing -> reply
//!               <- table or json
//! ```
//!
//! Nobody pays for it but who asks: a worker looks at a bounded number of places between two turns, and so many
//! connections at most are told of. Those that are in SYN-RECEIVED or TIME-WAIT have no more than a line in a compact
//! table and are only counted.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use tokio::sync::oneshot;

use crate::base::Instant;
use crate::transport::tcp::{ConnectionInfo, Tcp};

/// Connections in an answer at most: three megabytes of JSON.
const MOST: usize = 10_000;
/// Places that a worker looks at between two turns: with a connection in each, which is not in the cache, it takes
/// about a millisecond, of the eight that rings of the default size bridge at 1 Mpps.
const PLACES: u32 = 16_384;
/// Requests that may wait for a worker: for more there are no readers.
const WAITING: usize = 4;
/// How long workers are waited for: less than a client has for its whole request.
const PATIENCE: Duration = Duration::from_secs(4);

/// A mailbox of requests for each worker.
pub(super) type Requests = Arc<[ArrayQueue<Request>]>;

/// Somebody wants to know a worker's connections.
#[derive(Debug)]
pub(super) struct Request {
    most: usize,
    reply: oneshot::Sender<Listing>,
}

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Listing {
    queue: u32,
    entries: Vec<ConnectionInfo>,
    connections: u32,
    handshakes: u32,
    time_wait: u32,
}

/// Mailboxes for so many workers.
pub(super) fn requests(workers: usize) -> Requests {
    (0..workers).map(|_| ArrayQueue::new(WAITING)).collect()
}

/// Asks all workers. `None` if one has too many requests already, or does not answer.
pub(super) async fn ask(workers: &Requests) -> Option<Vec<Listing>> {
    let most = MOST.div_ceil(workers.len().max(1));
    let mut replies = Vec::new();
    for mailbox in workers.iter() {
        let (reply, listing) = oneshot::channel();
        mailbox.push(Request { most, reply }).ok()?;
        replies.push(listing);
    }
    let mut listings = Vec::new();
    let all = async {
        for reply in replies {
            listings.push(reply.await.ok()?);
        }
        Some(())
    };
    tokio::time::timeout(PATIENCE, all).await.ok()??;
    Some(listings)
}

/// A listing being made.
#[derive(Debug)]
pub(super) struct Collection {
    request: Request,
    listing: Listing,
    next_place: u32,
}

impl Collection {
    /// Starts to answer a request to the worker of `queue`.
    pub(super) const fn new(request: Request, queue: u32) -> Self {
        let listing = Listing { queue, entries: Vec::new(), connections: 0, handshakes: 0, time_wait: 0 };
        Self { request, listing, next_place: 0 }
    }

    /// Looks at some places more. The collection, unless it was complete and is sent off.
    pub(super) fn go_on(mut self, tcp: Option<&Tcp>, now: Instant) -> Option<Self> {
        if let Some(tcp) = tcp {
            let end = tcp.places().min(self.next_place.saturating_add(PLACES));
            let room = self.request.most - self.listing.entries.len();
            let found = (self.next_place..end).filter_map(|place| tcp.connection(place, now));
            self.listing.entries.extend(found.take(room));
            self.next_place = end;
            if end < tcp.places() && self.listing.entries.len() < self.request.most {
                return Some(self);
            }
            let (connections, handshakes, time_wait) = tcp.population();
            self.listing = Listing { connections, handshakes, time_wait, ..self.listing };
        }
        // Whoever asked may have gone.
        let _ = self.request.reply.send(self.listing);
        None
    }
}

/// What stands in a column.
enum Cell {
    Word(String),
    Number(u64),
    /// Shown in milliseconds, and as a number of microseconds.
    Time(Duration),
    Words(Vec<&'static str>),
    /// There is no value yet.
    Nothing,
}

struct Column {
    /// In the table; empty for what only JSON has.
    title: &'static str,
    /// In JSON.
    name: &'static str,
    cell: fn(&ConnectionInfo) -> Cell,
}

const fn column(title: &'static str, name: &'static str, cell: fn(&ConnectionInfo) -> Cell) -> Column {
    Column { title, name, cell }
}

const COLUMNS: [Column; 23] = [
    column("state", "state", |info| Cell::Word(info.state.name().into())),
    column("recv-q", "receive_queue", |info| Cell::Number(info.receive_queue.into())),
    column("send-q", "send_queue", |info| Cell::Number(info.send_queue.into())),
    column("local", "local", |info| Cell::Word(format!("{}:{}", info.local.0, info.local.1))),
    column("peer", "peer", |info| Cell::Word(format!("{}:{}", info.remote.0, info.remote.1))),
    column("srtt", "srtt_us", |info| time(info.srtt)),
    column("rttvar", "rttvar_us", |info| time(info.rttvar)),
    column("", "min_rtt_us", |info| time(info.min_rtt)),
    column("rto", "rto_us", |info| Cell::Time(info.rto)),
    column("cwnd", "cwnd", |info| Cell::Number(info.cwnd.into())),
    column("ssthresh", "ssthresh", |info| match info.ssthresh {
        u32::MAX => Cell::Nothing,
        bytes => Cell::Number(bytes.into()),
    }),
    column("", "in_flight", |info| Cell::Number(info.in_flight.into())),
    column("retrans", "retransmits", |info| Cell::Number(info.retransmits.into())),
    column("", "out_of_order", |info| Cell::Number(info.out_of_order.into())),
    column("", "send_window", |info| Cell::Number(info.send_window.into())),
    column("", "receive_window", |info| Cell::Number(info.receive_window.into())),
    column("mss", "mss", |info| Cell::Number(info.mss.into())),
    column("idle", "idle_us", |info| Cell::Time(info.idle)),
    column("", "chunks", |info| Cell::Number(info.chunks.into())),
    column("flags", "flags", |info| Cell::Words(flags(info))),
    column("phase", "phase", |info| Cell::Word(info.congestion.name().into())),
    column("", "recovery", |info| Cell::Word(format!("{:?}", info.recovery).to_lowercase())),
    column("", "trouble", |info| info.trouble.map_or(Cell::Nothing, |trouble| Cell::Word(format!("{trouble:?}")))),
];

fn time(time: Option<Duration>) -> Cell {
    time.map_or(Cell::Nothing, Cell::Time)
}

/// What was agreed on in the handshake, in the words of `ss`.
fn flags(info: &ConnectionInfo) -> Vec<&'static str> {
    let all = [(info.timestamps, "ts"), (info.sack, "sack"), (info.window_scaling, "wscale"), (info.ecn, "ecn")];
    all.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => format!("{:.3}", time.as_secs_f64() * 1e3),
            Self::Words(words) if words.is_empty() => "-".into(),
            Self::Words(words) => words.join(","),
            Self::Nothing => "-".into(),
        }
    }

    /// Words here have no character that JSON would want escaped.
    fn json(&self) -> String {
        match self {
            Self::Word(word) => format!("\"{word}\""),
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time.as_micros().to_string(),
            Self::Words(words) if words.is_empty() => "[]".into(),
            Self::Words(words) => format!("[\"{}\"]", words.join("\",\"")),
            Self::Nothing => "null".into(),
        }
    }
}

/// How many connections there are in all: those told of, all, handshakes, and those in TIME-WAIT.
fn totals(listings: &[Listing]) -> (usize, u64, u64, u64) {
    let sum = |count: fn(&Listing) -> u32| listings.iter().map(|listing| u64::from(count(listing))).sum();
    let told = listings.iter().map(|listing| listing.entries.len()).sum();
    (told, sum(|listing| listing.connections), sum(|listing| listing.handshakes), sum(|listing| listing.time_wait))
}

fn rows(listings: &[Listing]) -> impl Iterator<Item = (u32, &ConnectionInfo)> {
    listings.iter().flat_map(|listing| listing.entries.iter().map(move |entry| (listing.queue, entry)))
}

/// A line for each connection, and one that counts them. Times are in milliseconds, amounts in bytes.
pub(super) fn table(listings: &[Listing]) -> String {
    let columns = || COLUMNS.iter().filter(|column| !column.title.is_empty());
    let mut lines: Vec<Vec<String>> =
        vec![["queue"].into_iter().chain(columns().map(|column| column.title)).map(str::to_owned).collect()];
    for (queue, info) in rows(listings) {
        let cells = columns().map(|column| (column.cell)(info).text());
        lines.push(std::iter::once(queue.to_string()).chain(cells).collect());
    }
    let mut widths = vec![0; lines[0].len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let (told, connections, handshakes, time_wait) = totals(listings);
    let _ = writeln!(text, "{told} of {connections} connections; {handshakes} handshakes, {time_wait} in TIME-WAIT");
    text
}

/// The same with more about each, as JSON.
pub(super) fn json(listings: &[Listing]) -> String {
    let (told, connections, handshakes, time_wait) = totals(listings);
    let mut text = format!(
        "{{\"told\":{told},\"connections\":{connections},\"handshakes\":{handshakes},\"time_wait\":{time_wait},\"list\":["
    );
    for (number, (queue, info)) in rows(listings).enumerate() {
        let _ = write!(text, "{}\n{{\"queue\":{queue}", if number == 0 { "" } else { "," });
        for column in &COLUMNS {
            let _ = write!(text, ",\"{}\":{}", column.name, (column.cell)(info).json());
        }
        text.push('}');
    }
    text + "]}\n"
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::base::{ChunkSize, Umem, UmemConfig};
    use crate::transport::tcp::TcpConfig;

    /// A TCP that is opening so many connections.
    fn opening(connections: u32) -> Tcp {
        let config = UmemConfig { chunks: connections.max(1), chunk_size: ChunkSize::Bytes2048, huge_pages: false };
        let mut umem = Umem::new(config).unwrap();
        let config = TcpConfig { connections, ..TcpConfig::default() };
        let mut tcp = Tcp::new(config, [[1; 2]; 5], Instant::ZERO);
        for number in 0..connections {
            let remote = (Ipv4Addr::from(0x0a00_0100 + number).into(), 7);
            tcp.connect(Ipv4Addr::new(10, 0, 0, 2).into(), remote, |_| true, Instant::ZERO, &mut umem).unwrap();
        }
        tcp
    }

    /// What a worker says, and in how many parts of its housekeeping.
    fn collect(tcp: Option<&Tcp>, most: usize) -> (Listing, usize) {
        let (reply, mut listing) = oneshot::channel();
        let mut collection = Some(Collection::new(Request { most, reply }, 3));
        let parts = std::iter::from_fn(|| {
            collection = collection.take()?.go_on(tcp, Instant::ZERO);
            Some(())
        });
        let parts = parts.count();
        (listing.try_recv().unwrap(), parts)
    }

    #[test]
    fn a_table_larger_than_a_worker_looks_at_in_one_go_is_told_in_parts() {
        let tcp = opening(PLACES + 1);
        let (listing, parts) = collect(Some(&tcp), usize::MAX);
        assert_eq!((listing.entries.len() as u32, listing.connections, parts), (PLACES + 1, PLACES + 1, 2));
        let (listing, parts) = collect(Some(&tcp), 10);
        assert_eq!((listing.entries.len(), listing.connections, parts), (10, PLACES + 1, 1));
    }

    #[test]
    fn a_stack_without_tcp_or_connections_tells_of_none() {
        for tcp in [None, Some(&opening(0))] {
            let (listing, parts) = collect(tcp, 10);
            assert_eq!((listing.entries.len(), listing.connections, parts), (0, 0, 1));
        }
        assert_eq!(table(&[]).lines().last(), Some("0 of 0 connections; 0 handshakes, 0 in TIME-WAIT"));
        assert_eq!(json(&[]), "{\"told\":0,\"connections\":0,\"handshakes\":0,\"time_wait\":0,\"list\":[]}\n");
    }

    #[test]
    fn a_table_has_a_title_and_a_cell_for_each_column_and_json_a_name() {
        let (listing, _) = collect(Some(&opening(2)), 1);
        let text = table(std::slice::from_ref(&listing));
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0].len(), words[1].len(), "{text}");
        assert_eq!(words[0][..4], ["queue", "state", "recv-q", "send-q"]);
        assert_eq!((words[1][0], words[1][1], words[1][5]), ("3", "SYN-SENT", "10.0.1.0:7"));
        assert!(text.ends_with("1 of 2 connections; 0 handshakes, 0 in TIME-WAIT\n"), "{text}");
        let json = json(&[listing]);
        for column in &COLUMNS {
            assert!(json.contains(&format!("\"{}\":", column.name)), "{json}");
        }
        assert!(json.contains("\"peer\":\"10.0.1.0:7\",\"srtt_us\":null,"), "{json}");
    }
}
