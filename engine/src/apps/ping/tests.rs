//! Requests and replies in virtual time.

use super::super::fake::{FakeOutbox, MTU};
use super::*;

const MS: Duration = Duration::from_millis(1);
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));
const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 254));

fn config(count: u64) -> PingConfig {
    PingConfig {
        destination: PEER,
        count: Some(count),
        interval: 100 * MS,
        size: 56,
        options: SendOptions::default(),
        timeout: None,
        identifier: 77,
    }
}

/// A ping whose requests go nowhere, and a clock.
struct Bench {
    ping: Ping,
    ends: Ends,
    outbox: FakeOutbox,
    now: Instant,
}

impl Bench {
    fn new(config: PingConfig) -> Self {
        let (ping, ends) = Ping::new(config);
        let mut bench = Self { ping, ends, outbox: FakeOutbox::default(), now: Instant::from_ns(5_000_000_000) };
        bench.ping.poll(bench.now, &mut bench.outbox);
        bench
    }

    /// Lets time pass, with a turn at each deadline.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.ping.next_deadline().filter(|next| *next <= end) {
            assert!(next > self.now, "a deadline that does not lie ahead");
            self.now = next;
            self.ping.poll(self.now, &mut self.outbox);
        }
        self.now = end;
        self.ping.poll(self.now, &mut self.outbox);
    }

    /// A reply to request `sequence`, which may be changed.
    fn reply(&mut self, sequence: u16, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let sent = self.outbox.sent.iter().find(|sent| sent.what.err().is_some_and(|echo| echo.sequence == sequence));
        let mut payload = sent.expect("such a request").payload.clone();
        change(&mut payload);
        let (front, back) = payload.split_at(payload.len() / 3);
        // As if it had come in two chunks.
        let config =
            crate::base::UmemConfig { chunks: 8, chunk_size: crate::base::ChunkSize::Bytes2048, huge_pages: false };
        let mut umem = crate::base::Umem::new(config).unwrap();
        let mut part = |bytes: &[u8]| {
            let mut frame = umem.alloc().unwrap();
            assert!(umem.set_len(&mut frame, bytes.len()));
            umem.bytes_mut(&mut frame).copy_from_slice(bytes);
            frame
        };
        let (mut frame, more) = (part(front), part(back));
        umem.append(&mut frame, more);
        let payload = Payload::of_chain(umem.bytes(&frame), &frame, &umem);
        let echo = Echo { identifier: 77, sequence };
        let message = IcmpMessage::EchoReply { source: PEER, echo, hop_limit: 61, payload };
        let taken = self.ping.icmp(self.now, &message);
        umem.free(frame);
        taken
    }

    fn error(&mut self, sequence: u16, identifier: u8, error: IcmpError) -> bool {
        let transport = [8, 0, 1, 2, 0, identifier, (sequence >> 8) as u8, sequence as u8];
        let message = IcmpMessage::Error { source: ROUTER, error, destination: PEER, protocol: ipv4::ICMP, transport };
        self.ping.icmp(self.now, &message)
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.ends.events.try_recv().ok()).collect()
    }

    fn replies(&mut self) -> Vec<Reply> {
        let reply = |event| if let Event::Reply(reply) = event { Some(reply) } else { None };
        self.events().into_iter().filter_map(reply).collect()
    }

    /// The end, if it has come.
    fn statistics(&mut self) -> Option<Statistics> {
        self.ends.outcome.try_recv().ok().map(Result::unwrap)
    }
}

#[test]
fn requests_go_out_at_intervals_and_replies_end_it_when_all_are_there() {
    let mut bench = Bench::new(config(3));
    for sequence in 1..=3 {
        assert_eq!(bench.outbox.sent.len(), usize::from(sequence), "one at a time");
        bench.pass(2 * MS);
        assert!(bench.reply(sequence, |_| ()));
        if sequence < 3 {
            bench.pass(98 * MS);
        }
    }
    assert_eq!(bench.statistics(), None);
    bench.pass(Duration::ZERO);
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.transmitted, statistics.received, statistics.errors), (3, 3, 0));
    assert_eq!((statistics.span(), statistics.round_trips().unwrap().max), (202 * MS, 2 * MS));
    let replies = bench.replies();
    let shown = |reply: &Reply| (reply.sequence, reply.len_bytes, reply.hop_limit, reply.round_trip, reply.duplicate);
    assert_eq!(shown(&replies[2]), (3, 64, 61, 2 * MS, false));
    assert!(replies.iter().all(|reply| reply.damage.is_none()));
    assert_eq!((bench.ping.next_deadline(), bench.reply(3, |_| ())), (None, false), "it is over");
}

#[test]
fn requests_differ_in_what_they_carry() {
    let mut bench = Bench::new(PingConfig {
        size: 3000,
        options: SendOptions { dont_fragment: false, ..SendOptions::default() },
        ..config(2)
    });
    bench.pass(100 * MS);
    let [one, two] = &bench.outbox.sent[..] else { panic!("two requests") };
    assert_eq!((one.payload.len(), two.payload.len()), (3000, 3000));
    assert!(one.payload.iter().zip(&two.payload).all(|(one, two)| one != two));
    assert!(one.payload[..1000] != one.payload[1000..2000], "pieces that change places are found out");
}

#[test]
fn silence_is_waited_for_and_given_up() {
    let mut bench = Bench::new(config(2));
    bench.pass(100 * MS + SILENCE - MS);
    assert_eq!(bench.statistics(), None);
    bench.pass(MS);
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.transmitted, statistics.received), (2, 0));
    // When others were answered, the last one is waited for less long.
    let mut bench = Bench::new(config(2));
    assert!(bench.reply(1, |_| ()));
    bench.pass(100 * MS + LEAST_LINGER);
    assert_eq!(bench.statistics().unwrap().received, 1);
    // As long as was asked for, if that is.
    let mut bench = Bench::new(PingConfig { timeout: Some(7 * MS), ..config(1) });
    bench.pass(6 * MS);
    assert_eq!(bench.statistics(), None);
    bench.pass(MS);
    assert!(bench.statistics().is_some());
}

#[test]
fn late_replies_out_of_order_and_duplicates_are_told_apart() {
    let mut bench = Bench::new(config(4));
    bench.pass(250 * MS);
    assert!(bench.reply(3, |_| ()) && bench.reply(1, |_| ()) && bench.reply(3, |_| ()));
    bench.pass(100 * MS);
    assert!(bench.reply(1, |_| ()));
    bench.pass(LEAST_LINGER);
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.transmitted, statistics.received, statistics.duplicates), (4, 2, 2));
    let shown: Vec<_> = bench.replies().iter().map(|r| (r.sequence, r.round_trip, r.duplicate)).collect();
    assert_eq!(shown, [(3, 50 * MS, false), (1, 250 * MS, false), (3, 50 * MS, true), (1, 350 * MS, true)]);
}

#[test]
fn errors_of_each_kind_are_shown_once_and_nothing_more_is_waited_for() {
    let kinds = [
        IcmpError::Unreachable { code: 1 },
        IcmpError::TimeExceeded { code: 0 },
        IcmpError::TooLong { mtu: 1400 },
        IcmpError::ParameterProblem { code: 0, pointer: 8 },
    ];
    let mut bench = Bench::new(config(4));
    for (sequence, error) in (1..).zip(kinds) {
        assert!(!bench.error(sequence, 78, error), "somebody else's");
        assert!(bench.error(sequence, 77, error) && !bench.error(sequence, 77, error));
        bench.pass(100 * MS);
    }
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.transmitted, statistics.received, statistics.errors), (4, 0, 4));
    let shown = bench.events().into_iter().skip(1).zip(1..).zip(kinds);
    for ((event, sequence), error) in shown {
        assert_eq!(event, Event::Error { source: ROUTER, sequence, error });
    }
}

#[test]
fn a_reply_after_an_error_counts_and_an_error_after_a_reply_does_not() {
    let mut bench = Bench::new(config(1));
    assert!(bench.error(1, 77, IcmpError::Unreachable { code: 1 }) && bench.reply(1, |_| ()));
    assert!(!bench.error(1, 77, IcmpError::Unreachable { code: 1 }));
    bench.pass(MS);
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.received, statistics.errors, statistics.duplicates), (1, 1, 0));
}

#[test]
fn replies_to_requests_that_were_never_sent_are_not_ours() {
    let mut bench = Bench::new(config(5));
    let mut hear = |source: IpAddr, identifier: u16, sequence: u16| {
        let (echo, payload) = (Echo { identifier, sequence }, Payload::from(&[][..]));
        bench.ping.icmp(bench.now, &IcmpMessage::EchoReply { source, echo, hop_limit: 64, payload })
    };
    assert!(!hear(PEER, 77, 2) && !hear(PEER, 76, 1) && !hear(ROUTER, 77, 1));
    assert!(hear(PEER, 77, 1));
}

#[test]
fn a_reply_is_compared_byte_for_byte() {
    let mut bench = Bench::new(config(9));
    for _ in 0..3 {
        bench.pass(100 * MS);
    }
    assert!(bench.reply(1, |payload| payload[55] ^= 1));
    assert!(bench.reply(2, |payload| payload.truncate(20)));
    assert!(bench.reply(3, |payload| payload.push(0)));
    let damages: Vec<Option<Damage>> = bench.replies().iter().map(|reply| reply.damage).collect();
    let byte = Damage::Byte { at: 55, wanted: 56, found: 57 };
    assert_eq!(damages, [byte, Damage::Length(20), Damage::Length(57)].map(Some));
    assert_eq!(bench.ping.statistics.damaged, 3);
}

#[test]
fn what_cannot_be_sent_now_is_sent_later_and_what_never_can_is_told() {
    let (mut ping, mut ends) = Ping::new(config(2));
    let at = |ms: u32| Instant::ZERO + MS * ms;
    let mut outbox = FakeOutbox { refuse_to_send: Some(SendError::Later), ..FakeOutbox::default() };
    ping.poll(at(0), &mut outbox);
    ping.poll(at(1), &mut outbox);
    assert_eq!((ping.statistics.transmitted, ping.next_deadline()), (0, Some(at(2))));
    outbox.refuse_to_send = None;
    ping.poll(at(2), &mut outbox);
    assert_eq!((ping.statistics.transmitted, ping.statistics.span()), (1, Duration::ZERO));
    outbox.refuse_to_send = Some(SendError::Unsent(UnsentReason::NoRoute));
    ping.poll(at(200), &mut outbox);
    assert_eq!(ends.outcome.try_recv().unwrap(), Err(Failure::NoRoute));
    assert_eq!(ends.events.try_recv().unwrap(), Event::Started { source: [10, 0, 0, 2].into() });
}

#[test]
fn a_request_that_is_too_long_for_the_interface_is_an_error() {
    let mut bench = Bench::new(PingConfig { size: MTU - 27, ..config(1) });
    let unsent = Event::Unsent { sequence: 1, reason: UnsentReason::TooLong, mtu: MTU };
    assert_eq!(bench.events()[1], unsent);
    let statistics = bench.statistics().unwrap();
    assert_eq!((statistics.transmitted, statistics.errors), (1, 1));
}

#[test]
fn it_stops_when_told_to_and_goes_on_for_ever_otherwise() {
    let mut bench = Bench::new(PingConfig { count: None, interval: MS, ..config(0) });
    for turn in 0..70_000_u32 {
        bench.pass(MS);
        assert_eq!(bench.outbox.sent.len(), 2 + turn as usize);
    }
    assert_eq!(bench.ping.outstanding, 1 << 16, "the oldest ones are given up");
    bench.outbox.sent.drain(..70_000 - 10);
    assert!(bench.reply(70_000_u32 as u16, |_| ()), "sequence numbers begin again");
    bench.ends.stop.store(true, Ordering::Relaxed);
    bench.pass(Duration::ZERO);
    assert_eq!(bench.statistics().unwrap().received, 1);
}
