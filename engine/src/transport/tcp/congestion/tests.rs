use super::*;

const MSS: u32 = 1460;
const RTT: Duration = Duration::from_millis(100);

/// A connection on a path that loses nothing: what is sent is acknowledged a round trip later.
struct Sender {
    congestion: Congestion,
    now: Instant,
    una: SeqNum,
    rtt: Duration,
}

impl Sender {
    fn new(algorithm: Algorithm) -> Self {
        // Sequence numbers wrap early on.
        let una = SeqNum::new(u32::MAX - 20_000);
        Self { congestion: Congestion::new(algorithm, MSS), now: Instant::from_ns(1 << 40), una, rtt: RTT }
    }

    /// A sender in congestion avoidance after a loss at so many segments.
    fn after_loss(algorithm: Algorithm, segments: u32) -> Self {
        let mut sender = Self::new(algorithm);
        sender.congestion.window = segments * MSS;
        sender.lose();
        sender.recover();
        sender
    }

    fn window(&self) -> u32 {
        self.congestion.window()
    }

    fn nxt(&self) -> SeqNum {
        self.una + self.window()
    }

    fn acknowledge(&mut self, acked: u32, nxt: SeqNum, window_limited: bool) {
        self.una += acked;
        self.congestion.on_ack(&Ack {
            now: self.now,
            acked,
            una: self.una,
            nxt,
            rtt: Some(self.rtt),
            srtt: Some(self.rtt),
            window_limited,
            mss: MSS,
        });
    }

    /// A round trip, with acknowledgments of `cut` bytes.
    fn round_cut(&mut self, cut: u32, window_limited: bool) {
        let end = self.nxt();
        let (start, acks) = (self.now, u64::from(self.window().div_ceil(cut)));
        for n in 0..acks {
            self.now = start + self.rtt.mul_f64(n as f64 / acks as f64);
            let nxt = self.nxt();
            self.acknowledge(cut.min(end.since(self.una)), nxt, window_limited);
        }
        self.now = start + self.rtt;
    }

    fn round(&mut self) {
        self.round_cut(MSS, true);
    }

    fn lose(&mut self) -> bool {
        self.reduce().is_some()
    }

    fn reduce(&mut self) -> Option<Before> {
        self.congestion.enter_recovery(self.window(), 0, self.nxt(), MSS)
    }

    fn recover(&mut self) {
        self.una = self.congestion.recovery_point;
        assert!(self.congestion.exit_recovery(self.una));
    }
}

fn segments(bytes: u32) -> u32 {
    bytes / MSS
}

#[test]
fn a_connection_spends_80_bytes_on_it() {
    assert!(size_of::<Congestion>() <= 80, "{}", size_of::<Congestion>());
    assert_eq!(size_of::<super::super::pacing::Pacing>(), 8);
}

/// RFC 6928, section 2: IW = min (10*MSS, max (2*MSS, 14600)).
#[test]
fn the_initial_window_is_ten_segments_or_14600_bytes_or_two_segments() {
    let initial = |mss| Congestion::new(Algorithm::Cubic, mss).window();
    assert_eq!([536, 1460, 4000, 9000].map(initial), [5_360, 14_600, 14_600, 18_000]);
    let mut lost = Congestion::new(Algorithm::Cubic, MSS);
    lost.after_lost_syn(MSS);
    assert_eq!((lost.window(), lost.ssthresh()), (MSS, u32::MAX));
}

#[test]
fn slow_start_doubles_the_window_in_every_round_trip() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut sender = Sender::new(algorithm);
        for expected in [20, 40, 80, 160] {
            sender.round();
            assert_eq!(segments(sender.window()), expected);
            assert_eq!(sender.congestion.phase(), Phase::SlowStart);
        }
    }
}

#[test]
fn slow_start_ends_when_the_queue_grows_and_without_a_loss() {
    let mut sender = Sender::new(Algorithm::Cubic);
    (0..3).for_each(|_| sender.round());
    sender.rtt = RTT + Duration::from_millis(20);
    sender.round();
    assert_eq!(sender.congestion.phase(), Phase::ConservativeSlowStart);
    (0..5).for_each(|_| sender.round());
    assert_eq!(sender.congestion.phase(), Phase::CongestionAvoidance);
    let window = sender.window();
    // The first stage starts at its plateau: no jump.
    sender.round();
    assert!(sender.window() - window <= 2 * MSS);
}

#[test]
fn a_stretched_acknowledgment_counts_for_eight_segments_and_after_a_timeout_for_one() {
    let mut sender = Sender::new(Algorithm::Cubic);
    let (window, nxt) = (sender.window(), sender.nxt());
    sender.acknowledge(10 * MSS, nxt, true);
    assert_eq!(sender.window(), window + 8 * MSS);
    sender.congestion.on_timeout(sender.window(), sender.nxt() + 20 * MSS, MSS, true);
    sender.acknowledge(10 * MSS, nxt, true);
    assert_eq!(sender.window(), 2 * MSS);
}

#[test]
fn acknowledgments_cut_into_pieces_gain_nothing() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let senders = [Sender::new(algorithm), Sender::after_loss(algorithm, 100)];
        for start in senders {
            let Sender { congestion, now, una, rtt } = start;
            let [honest, cheater] = [MSS, 20].map(|cut| {
                let mut sender = Sender { congestion, now, una, rtt };
                (0..4).for_each(|_| sender.round_cut(cut, true));
                sender.window()
            });
            assert!(cheater <= honest + MSS, "{algorithm:?}: {cheater}, honestly {honest}");
        }
    }
}

/// RFC 5681, section 3.1; RFC 9438, section 4.6.
#[test]
fn a_loss_leaves_seven_tenths_with_cubic_and_half_with_reno() {
    for (algorithm, left) in [(Algorithm::Cubic, 70), (Algorithm::Reno, 50)] {
        let mut sender = Sender::new(algorithm);
        sender.congestion.window = 100 * MSS;
        assert!(sender.lose());
        assert_eq!(sender.congestion.phase(), Phase::Recovery);
        assert!(!sender.lose(), "once for all that was in flight");
        let window = sender.window();
        sender.acknowledge(MSS, sender.nxt(), true);
        assert_eq!(sender.window(), window, "acknowledgments of recovery are PRR's");
        assert!(!sender.congestion.exit_recovery(sender.una));
        sender.recover();
        assert_eq!((segments(sender.window()), segments(sender.congestion.ssthresh())), (left, left));
        assert_eq!(sender.congestion.phase(), Phase::CongestionAvoidance);
    }
}

#[test]
fn reno_grows_by_a_segment_in_every_round_trip() {
    let mut sender = Sender::after_loss(Algorithm::Reno, 100);
    (0..10).for_each(|_| sender.round());
    assert!((59..=60).contains(&segments(sender.window())), "{}", segments(sender.window()));
}

/// RFC 9438, section 4.2: 1,000 segments after K = cbrt(300 / 0.4) = 9.09 s.
#[test]
fn cubic_is_back_at_the_window_of_the_loss_after_k_seconds() {
    let mut sender = Sender::after_loss(Algorithm::Cubic, 1000);
    assert_eq!(segments(sender.window()), 700);
    (0..91).for_each(|_| sender.round());
    assert!((980..=1020).contains(&segments(sender.window())), "{}", segments(sender.window()));
}

#[test]
fn a_window_that_is_not_used_up_does_not_grow() {
    for mut sender in [Sender::new(Algorithm::Cubic), Sender::after_loss(Algorithm::Cubic, 50)] {
        let window = sender.window();
        (0..50).for_each(|_| sender.round_cut(MSS, false));
        assert_eq!(sender.window(), window);
    }
}

/// RFC 9937, section 6: one of 20 segments is lost, and of the others each sends its share.
#[test]
fn recovery_lands_at_ssthresh() {
    for (algorithm, target) in [(Algorithm::Cubic, 14), (Algorithm::Reno, 10)] {
        let mut congestion = Congestion::new(algorithm, MSS);
        congestion.window = 20 * MSS;
        let start = SeqNum::new(5);
        // Two duplicates came before, each of which sent a segment of its own (limited transmit).
        assert!(congestion.enter_recovery(22 * MSS, 2 * MSS, start + 22 * MSS, MSS).is_some());
        assert_eq!(segments(congestion.ssthresh()), target, "limited transmit does not count");
        let mut in_flight = 19 * MSS;
        for _ in 0..19 {
            in_flight -= MSS;
            congestion.on_recovery_ack(MSS, in_flight, false, true, MSS);
            while in_flight + MSS <= congestion.window() {
                congestion.on_sent(MSS);
                in_flight += MSS;
            }
        }
        assert_eq!(segments(in_flight), target);
        assert!(congestion.exit_recovery(start + 22 * MSS));
        assert_eq!(segments(congestion.window()), target);
    }
}

/// RFC 3168, section 6.1.2.
#[test]
fn an_ecn_echo_reduces_the_window_once_for_a_window_of_data() {
    let mut sender = Sender::new(Algorithm::Cubic);
    sender.congestion.window = 143 * MSS;
    sender.lose();
    sender.recover();
    assert_eq!(segments(sender.window()), 100);
    let end = sender.nxt();
    assert!(sender.congestion.on_ecn_echo(100 * MSS, end, MSS));
    assert_eq!((segments(sender.window()), sender.congestion.phase()), (70, Phase::Cwr));
    assert!(!sender.congestion.on_ecn_echo(100 * MSS, end, MSS));
    sender.acknowledge(50 * MSS, end, true);
    assert_eq!(segments(sender.window()), 70, "nor does it grow");
    // A loss in the same window is repaired, but not reduced for again, and nothing is undone: this congestion is real.
    let before = sender.congestion.enter_recovery(50 * MSS, 0, end, MSS).unwrap();
    assert_eq!(segments(sender.congestion.ssthresh()), 70);
    assert!(!sender.congestion.undo(&before, 0, MSS, MSS));
    assert!(sender.congestion.exit_recovery(end));
    assert!(sender.congestion.on_ecn_echo(70 * MSS, end + 70 * MSS, MSS));
}

/// RFC 9438, section 4.6: down to one segment by ECN, to two by losses.
#[test]
fn the_window_has_its_floors() {
    let mut congestion = Congestion::new(Algorithm::Cubic, MSS);
    let mut point = SeqNum::new(0);
    for _ in 0..20 {
        point += 1;
        assert!(congestion.on_ecn_echo(congestion.window(), point, MSS) && congestion.exit_recovery(point));
    }
    assert_eq!((congestion.window(), congestion.ssthresh()), (MSS, 2 * MSS));
    for _ in 0..20 {
        point += 1;
        assert!(congestion.enter_recovery(congestion.window(), 0, point, MSS).is_some());
        assert!(congestion.exit_recovery(point));
    }
    assert_eq!((congestion.window(), congestion.ssthresh()), (2 * MSS, 2 * MSS));
}

/// RFC 5681, section 3.1.
#[test]
fn a_timeout_starts_over_with_one_segment_and_a_repeated_one_holds_ssthresh() {
    for (algorithm, left) in [(Algorithm::Cubic, 70), (Algorithm::Reno, 50)] {
        let mut sender = Sender::new(algorithm);
        sender.congestion.window = 100 * MSS;
        let end = sender.nxt();
        sender.congestion.on_timeout(100 * MSS, end, MSS, true);
        sender.congestion.on_timeout(100 * MSS, end, MSS, false);
        assert_eq!((sender.window(), segments(sender.congestion.ssthresh())), (MSS, left));
        assert_eq!(sender.congestion.phase(), Phase::Loss);
        assert!(!sender.lose(), "what was sent before the timeout is not lost again");
        (0..6).for_each(|_| sender.round());
        assert!((62..=64).contains(&segments(sender.window())) || left == 50, "{}", segments(sender.window()));
        sender.una = end;
        assert!(sender.congestion.exit_recovery(end));
        sender.round();
        assert_eq!(sender.congestion.phase(), Phase::CongestionAvoidance);
        assert!((left..left + 3).contains(&segments(sender.window())), "{}", segments(sender.window()));
    }
}

#[test]
fn a_timeout_in_recovery_leaves_no_more_than_the_recovery_was_to() {
    let mut sender = Sender::new(Algorithm::Reno);
    sender.congestion.window = 100 * MSS;
    sender.lose();
    sender.congestion.on_timeout(100 * MSS, sender.nxt(), MSS, true);
    assert_eq!((sender.window(), segments(sender.congestion.ssthresh())), (MSS, 25));
}

/// RFC 9438, section 4.9.2.
#[test]
fn a_spurious_recovery_is_undone_to_the_byte() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut sender = Sender::after_loss(algorithm, 100);
        (0..7).for_each(|_| sender.round());
        let mut other = Sender { congestion: sender.congestion, ..sender };
        let before = other.reduce().unwrap();
        other.congestion.on_recovery_ack(MSS, 50 * MSS, false, true, MSS);
        assert!(other.congestion.undo(&before, 50 * MSS, MSS, MSS));
        assert_eq!(other.congestion.ssthresh(), sender.congestion.ssthresh());
        for _ in 0..20 {
            assert_eq!((other.window(), other.congestion.phase()), (sender.window(), sender.congestion.phase()));
            sender.round();
            other.round();
        }
    }
}

/// RFC 4015, section 3.
#[test]
fn a_spurious_timeout_is_undone_without_a_burst() {
    let mut sender = Sender::after_loss(Algorithm::Cubic, 100);
    let window = sender.window();
    let before = sender.congestion.on_timeout(window, sender.nxt(), MSS, true).unwrap();
    assert!(sender.congestion.on_timeout(window, sender.nxt(), MSS, false).is_none());
    assert!(sender.congestion.undo(&before, 60 * MSS, 2 * MSS, MSS));
    assert_eq!((segments(sender.window()), sender.congestion.ssthresh()), (62, window));
    sender.round();
    assert!((segments(window)..=segments(window) + 1).contains(&segments(sender.window())));
}

#[test]
fn an_undo_that_comes_too_late_changes_nothing() {
    let mut sender = Sender::new(Algorithm::Reno);
    sender.congestion.window = 20 * MSS;
    let before = sender.reduce().unwrap();
    sender.recover();
    (0..12).for_each(|_| sender.round());
    let now = (sender.window(), sender.congestion.ssthresh());
    assert!(!sender.congestion.undo(&before, 0, MSS, MSS));
    assert_eq!((sender.window(), sender.congestion.ssthresh()), now);
}

#[test]
fn an_idle_window_halves_with_every_timeout_down_to_the_initial_one() {
    let rto = Duration::from_millis(300);
    let after = |window: u32, idle: Duration| {
        let mut congestion = Sender::after_loss(Algorithm::Cubic, 10).congestion;
        congestion.window = window * MSS;
        congestion.on_idle(idle, rto, MSS);
        (segments(congestion.window()), segments(congestion.ssthresh()))
    };
    assert_eq!(after(100, rto), (100, 7));
    assert_eq!(after(100, rto + Duration::from_nanos(1)), (50, 75));
    assert_eq!(after(100, rto * 3), (25, 75));
    assert_eq!(after(100, rto * 5), (10, 75), "not below the initial window");
    assert_eq!(after(100, Duration::MAX), (10, 75));
    assert_eq!(after(4, Duration::MAX), (4, 7), "nor up to it");
}

/// RFC 5681, section 3.1.
#[test]
fn smaller_segments_make_the_window_smaller_in_bytes_and_larger_ones_do_not() {
    let mut congestion = Congestion::new(Algorithm::Cubic, MSS);
    congestion.on_mss_change(1460, 730);
    assert_eq!(congestion.window(), 7_300);
    congestion.on_mss_change(730, 1460);
    assert_eq!(congestion.window(), 7_300);
    congestion.on_mss_change(1460, 8960);
    assert_eq!(congestion.window(), 8_960, "one segment fits");
}

#[test]
fn a_window_that_nothing_holds_back_stops_at_the_largest_that_can_be_advertised() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut sender = Sender::new(algorithm);
        for _ in 0..200_000 {
            let nxt = sender.nxt();
            sender.acknowledge(8 * MSS, nxt, true);
        }
        assert_eq!(sender.window(), 1 << 30);
    }
}

/// Splitmix, for the random drive.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 7
}

/// A number of any magnitude.
fn any(state: &mut u64) -> u32 {
    (random(state) as u32) >> (random(state) % 32)
}

/// A connection that random events happen to.
struct Driven {
    congestion: Congestion,
    before: Option<Before>,
    mss: u32,
    now: Instant,
    una: SeqNum,
}

/// One event with random arguments. The first of a connection are acknowledgments, with a round trip that grows.
fn step(n: u32, driven: &mut Driven, state: &mut u64) {
    let Driven { congestion, before, mss, now, una } = driven;
    *now += Duration::from_nanos(random(state) % (1 << (random(state) % 40)));
    let (acked, flight, nxt) = (any(state), any(state), *una + any(state) / 4);
    let calm = n < 200;
    match if calm { 39 } else { random(state) % 40 } {
        0 => *before = congestion.enter_recovery(flight, any(state), nxt, *mss).or(*before),
        1 => *before = before.filter(|_| !congestion.on_ecn_echo(flight, nxt, *mss)),
        2 => {
            let first = random(state).is_multiple_of(2);
            *before = congestion.on_timeout(flight, nxt, *mss, first).or(*before);
        }
        3 => {
            before.take().map(|before| congestion.undo(&before, flight, acked, *mss));
        }
        4 => {
            let [idle, rto] = [random(state) >> 20, any(state).into()].map(Duration::from_micros);
            *before = before.filter(|_| !congestion.on_idle(idle, rto, *mss));
        }
        5 => {
            let new = 88 + (random(state) % 65_448) as u32;
            congestion.on_mss_change(*mss, new);
            *mss = new;
        }
        6..12 => congestion.on_recovery_ack(acked, flight, acked % 2 == 0, acked % 3 == 0, *mss),
        12..18 => congestion.on_sent(any(state)),
        18 => {
            congestion.exit_recovery(nxt);
        }
        _ => {
            *una += acked % 1_000_000;
            let rtt = Some(Duration::from_micros(if calm { u64::from(n) * 1000 } else { any(state).into() }));
            let window_limited = !random(state).is_multiple_of(4);
            congestion.on_ack(&Ack { now: *now, acked, una: *una, nxt, rtt, srtt: rtt, window_limited, mss: *mss });
        }
    }
}

/// Overflow checks are on in tests, so an overflow would panic.
#[test]
fn a_million_random_steps_keep_the_window_within_its_limits() {
    for algorithm in [Algorithm::Cubic, Algorithm::Reno] {
        let mut state = 7;
        let mut driven = Driven {
            congestion: Congestion::new(algorithm, MSS),
            before: None,
            mss: MSS,
            now: Instant::ZERO,
            una: SeqNum::new(u32::MAX),
        };
        let mut phases = [0_u32; 6];
        for n in 0..500_000_u32 {
            if n.is_multiple_of(5_000) {
                (driven.congestion, driven.before) = (Congestion::new(algorithm, driven.mss), None);
            }
            step(n % 5_000, &mut driven, &mut state);
            let Driven { congestion, mss, .. } = &driven;
            phases[congestion.phase() as usize] += 1;
            let window = congestion.window();
            assert!((*mss..=LARGEST_WINDOW).contains(&window), "step {n}: window {window}, mss {mss}");
            assert!(congestion.ssthresh() >= 2 * mss, "step {n}: ssthresh {}", congestion.ssthresh());
        }
        assert!(phases.iter().all(|&steps| steps > 50), "every phase was there: {phases:?}");
    }
}
