//! Probes and answers in virtual time.

use super::super::fake::{FakeOutbox, MTU, Sent};
use super::*;

const MS: Duration = Duration::from_millis(1);
const WAIT: Duration = Duration::from_secs(5);
const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9));

fn router(number: u8) -> IpAddr {
    [10, 0, number, 254].into()
}

fn config(probe: Probe) -> TracerouteConfig {
    TracerouteConfig {
        destination: PEER,
        probe,
        first_hop: 1,
        max_hops: 30,
        probes: 3,
        wait: WAIT,
        packet_len: 60,
        find_mtu: false,
        identifier: 40_000,
    }
}

/// A traceroute with a network behind it that is a function.
struct Bench {
    traceroute: Traceroute,
    ends: Ends,
    outbox: FakeOutbox,
    now: Instant,
    /// Probes that were answered, or will not be.
    seen: usize,
    /// Most that were under way at once.
    most: usize,
}

/// Who answers a probe with a hop limit and a length (bytes), and what.
type Network = fn(u8, usize) -> Option<(IpAddr, Option<IcmpError>)>;

/// Three routers, and the peer behind them.
fn three_routers(hop: u8, _len: usize) -> Option<(IpAddr, Option<IcmpError>)> {
    match hop {
        1..=3 => Some((router(hop), Some(IcmpError::TimeExceeded { code: 0 }))),
        _ => Some((PEER, None)),
    }
}

impl Bench {
    fn new(config: TracerouteConfig) -> Self {
        let (traceroute, ends) = Traceroute::new(config);
        Self { traceroute, ends, outbox: FakeOutbox::default(), now: Instant::from_ns(7), seen: 0, most: 0 }
    }

    fn poll(&mut self) {
        self.traceroute.poll(self.now, &mut self.outbox);
        self.most = self.most.max(self.traceroute.outstanding());
    }

    /// Sends the first probe, and what follows when that was answered.
    fn begin(&mut self) {
        self.poll();
        assert_eq!(self.outbox.sent.len(), 1, "alone");
        let first = self.outbox.sent[0].clone();
        assert!(self.answer(&first, router(1), Some(IcmpError::TimeExceeded { code: 0 })));
        self.poll();
        assert_eq!(self.outbox.sent.len(), 1 + AT_ONCE);
    }

    /// The answer that a probe gets from `source`: `None` for what the destination itself says to one that arrives.
    fn answer(&mut self, sent: &Sent, source: IpAddr, error: Option<IcmpError>) -> bool {
        let (error, protocol, transport) = match sent.what {
            Ok((from, to)) => {
                let ([a, b], [c, d]) = (from.to_be_bytes(), to.to_be_bytes());
                (error.or(Some(IcmpError::Unreachable { code: 3 })), ipv4::UDP, [a, b, c, d, 0, 40, 0, 0])
            }
            Err(Echo { identifier, sequence }) => {
                let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
                (error, ipv4::ICMP, [8, 0, 0, 0, a, b, c, d])
            }
        };
        let message = match (error, sent.what) {
            (Some(error), _) => IcmpMessage::Error { source, error, destination: PEER, protocol, transport },
            (None, Err(echo)) => IcmpMessage::EchoReply { source, echo, hop_limit: 60, payload: (&[][..]).into() },
            (None, Ok(_)) => unreachable!("datagrams are answered with errors"),
        };
        self.traceroute.icmp(self.now, &message)
    }

    /// Lets the network answer until it is over, each probe after two milliseconds.
    fn run(&mut self, network: Network) -> Result<Summary, Failure> {
        self.poll();
        loop {
            if let Ok(outcome) = self.ends.outcome.try_recv() {
                return outcome;
            }
            let probes: Vec<Sent> = self.outbox.sent.drain(..).collect();
            self.seen += probes.len();
            self.now += 2 * MS;
            let mut heard = false;
            for sent in probes {
                if let Some((source, error)) = network(sent.options.hop_limit.unwrap(), sent.payload.len() + 28) {
                    heard |= self.answer(&sent, source, error);
                }
            }
            if !heard {
                self.now = self.traceroute.next_deadline().unwrap();
            }
            self.poll();
        }
    }

    fn hops(&mut self) -> Vec<Hop> {
        std::iter::from_fn(|| self.ends.hops.try_recv().ok()).collect()
    }
}

/// Who answered the probes of a hop, and how it is marked; `None` for silence.
fn sources(hop: &Hop) -> Vec<Option<(IpAddr, &'static str)>> {
    let source = |finding: &Finding| match *finding {
        Finding::Silence => None,
        Finding::Answer { source, outcome, .. } => Some((source, outcome.mark())),
    };
    hop.findings.iter().map(source).collect()
}

#[test]
fn each_router_is_told_in_order_and_the_destination_last() {
    for probe in [Probe::Udp, Probe::Icmp] {
        let mut bench = Bench::new(config(probe));
        assert_eq!(bench.run(three_routers), Ok(Summary { reached: true }));
        let hops = bench.hops();
        assert_eq!(hops.iter().map(|hop| hop.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for (hop, source) in hops.iter().zip([router(1), router(2), router(3), PEER]) {
            assert_eq!(sources(hop), [Some((source, "")); 3], "{probe:?}");
            let round_trip =
                |finding: &Finding| matches!(finding, Finding::Answer { round_trip, .. } if *round_trip == 2 * MS);
            assert!(hop.findings.iter().all(round_trip) && hop.mtu.is_none());
        }
        assert_eq!((bench.most, bench.seen), (AT_ONCE, 17), "no probe beyond what was under way");
    }
}

#[test]
fn probes_are_what_traceroute_sends() {
    let mut bench = Bench::new(config(Probe::Udp));
    bench.begin();
    for (sent, number) in bench.outbox.sent.iter().zip(0..) {
        assert_eq!((sent.to, sent.what, sent.payload.len()), (PEER, Ok((40_000, FIRST_PORT + number)), 32));
        let hop_limit = Some(1 + number as u8 / 3);
        assert_eq!(sent.options, SendOptions { hop_limit, dont_fragment: false, ..SendOptions::default() });
    }
    let mut bench = Bench::new(TracerouteConfig { first_hop: 4, ..config(Probe::Icmp) });
    bench.begin();
    assert_eq!(bench.outbox.sent[3].what, Err(Echo { identifier: 40_000, sequence: 3 }));
    assert_eq!(bench.outbox.sent[3].options.hop_limit, Some(5));
}

#[test]
fn silence_costs_one_wait_for_the_first_probe_and_one_for_sixteen_others() {
    let mut bench = Bench::new(config(Probe::Udp));
    let start = bench.now;
    assert_eq!(bench.run(|_, _| None), Ok(Summary { reached: false }));
    let hops = bench.hops();
    assert_eq!(hops.len(), 30);
    assert!(hops.iter().all(|hop| sources(hop) == [None; 3]));
    assert_eq!(bench.now.since(start), WAIT * 7, "90 probes");
    // One router that is silent does not hide those behind it.
    let mut bench = Bench::new(config(Probe::Icmp));
    let network: Network = |hop, len| three_routers(hop, len).filter(|_| hop != 2);
    assert_eq!(bench.run(network), Ok(Summary { reached: true }));
    let hops = bench.hops();
    assert_eq!((sources(&hops[1]), sources(&hops[2])[0]), (vec![None; 3], Some((router(3), ""))));
}

#[test]
fn the_way_ends_where_it_is_closed_and_says_how() {
    let network: Network = |hop, len| match hop {
        3 => Some((router(2), Some(IcmpError::Unreachable { code: 1 }))),
        4.. => None,
        _ => three_routers(hop, len),
    };
    let mut bench = Bench::new(config(Probe::Udp));
    assert_eq!(bench.run(network), Ok(Summary { reached: false }));
    let hops = bench.hops();
    assert_eq!((hops.len(), sources(&hops[2])), (3, vec![Some((router(2), "!H")); 3]));
    // A port that is closed on the way is not the destination's.
    let network: Network = |_, _| Some((router(1), Some(IcmpError::Unreachable { code: 3 })));
    assert_eq!(Bench::new(config(Probe::Udp)).run(network), Ok(Summary { reached: false }));
}

#[test]
fn answers_to_nothing_and_second_answers_change_nothing() {
    let mut bench = Bench::new(config(Probe::Icmp));
    bench.poll();
    let sent = bench.outbox.sent[0].clone();
    let exceeded = Some(IcmpError::TimeExceeded { code: 0 });
    let of_others = [
        Sent { what: Err(Echo { identifier: 1, sequence: 0 }), ..sent.clone() },
        Sent { what: Err(Echo { identifier: 40_000, sequence: 16 }), ..sent.clone() },
        Sent { what: Err(Echo { identifier: 40_000, sequence: 9999 }), ..sent.clone() },
        Sent { what: Ok((40_000, FIRST_PORT)), ..sent.clone() },
    ];
    for other in of_others {
        assert!(!bench.answer(&other, router(1), exceeded), "{other:?}");
    }
    assert!(!bench.answer(&sent, router(1), None), "only the destination replies");
    assert!(bench.answer(&sent, router(1), exceeded) && !bench.answer(&sent, router(2), exceeded));
    bench.poll();
    bench.now += WAIT;
    bench.poll();
    let late = bench.outbox.sent[1].clone();
    assert!(!bench.answer(&late, router(1), exceeded), "after it was given up");
    assert_eq!(sources(&bench.hops()[0]), [Some((router(1), "")), None, None]);
}

#[test]
fn each_hop_finds_out_what_the_links_up_to_it_carry() {
    // The second link carries 1,400 bytes and says so, the fourth 1,000 and does not.
    let network: Network = |hop, len| match (hop, len) {
        (2.., 1401..) => Some((router(1), Some(IcmpError::TooLong { mtu: 1400 }))),
        (4.., 1001..) => Some((router(3), Some(IcmpError::TooLong { mtu: 0 }))),
        _ => three_routers(hop, len),
    };
    let mut bench = Bench::new(TracerouteConfig { find_mtu: true, ..config(Probe::Udp) });
    bench.poll();
    let dont_fragment = |sent: &Sent| sent.options.dont_fragment && sent.payload.len() == usize::from(MTU) - 28;
    assert!(bench.outbox.sent.iter().all(dont_fragment));
    assert_eq!(bench.run(network), Ok(Summary { reached: true }));
    let hops = bench.hops();
    let mtus: Vec<Option<u16>> = hops.iter().map(|hop| hop.mtu).collect();
    assert_eq!(mtus, [Some(1500), Some(1400), Some(1400), Some(508)]);
    assert!(hops.iter().all(|hop| sources(hop).iter().all(Option::is_some)), "each probe is sent again: {hops:?}");
}

#[test]
fn a_router_that_says_nothing_new_about_the_mtu_is_not_asked_for_ever() {
    let network: Network = |_, _| Some((router(1), Some(IcmpError::TooLong { mtu: 9000 })));
    let config = TracerouteConfig { find_mtu: true, max_hops: 2, ..config(Probe::Udp) };
    let mut bench = Bench::new(config.clone());
    assert_eq!(bench.run(network), Ok(Summary { reached: false }));
    assert_eq!((bench.seen, sources(&bench.hops()[0])), (6, vec![None; 3]));
    // Where the MTU is not looked for, it is how the way ends.
    let mut bench = Bench::new(TracerouteConfig { find_mtu: false, ..config });
    assert_eq!(bench.run(network), Ok(Summary { reached: false }));
    assert_eq!(sources(&bench.hops()[0]), [Some((router(1), "!F")); 3]);
}

#[test]
fn what_cannot_be_sent_now_is_sent_later_and_what_never_can_is_told() {
    let mut bench = Bench::new(config(Probe::Udp));
    bench.outbox.refuse_to_send = Some(SendError::Later);
    bench.poll();
    assert_eq!(bench.traceroute.next_deadline(), Some(bench.now + PAUSE));
    bench.outbox.refuse_to_send = Some(SendError::Unsent(UnsentReason::NoRoute));
    assert_eq!(bench.run(three_routers), Err(Failure::NoRoute));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let mut bench = Bench::new(config(Probe::Udp));
    bench.poll();
    bench.ends.stop.store(true, Ordering::Relaxed);
    bench.poll();
    assert_eq!(bench.ends.outcome.try_recv().unwrap(), Ok(Summary { reached: false }));
    assert_eq!(bench.traceroute.next_deadline(), None);
}
