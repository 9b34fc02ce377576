use super::*;

const MSS: u32 = 1460;

/// Time in milliseconds.
fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

/// CUBIC after a loss at `w_max` segments, at 0.7 of that.
fn after_loss(w_max: u32) -> (Cubic, u32) {
    let mut cubic = Cubic::default();
    let window = cubic.reduce(w_max * MSS, w_max * MSS);
    (cubic, window)
}

/// A round trip in which all of the window is acknowledged, a segment at a time.
fn round(cubic: &mut Cubic, mut window: u32, start_ms: u64, rtt_ms: u64, mss: u32) -> u32 {
    let segments = u64::from(window / mss);
    for n in 0..segments {
        let now = at(start_ms + n * rtt_ms / segments);
        window = cubic.on_ack(window, &Growth { now, acked: mss, srtt: Duration::from_millis(rtt_ms), mss });
    }
    window
}

#[test]
fn the_cube_root_is_exact() {
    for root in [0_u64, 1, 2, 9, 10, 999, 4_217, 1_000_000, 2_097_151, 2_642_245] {
        let cube = root.pow(3);
        assert_eq!(u64::from(cube_root(cube)), root);
        assert_eq!(u64::from(cube_root(cube + 1)), root.max(1));
        assert_eq!(u64::from(cube_root(cube.saturating_sub(1))), root.saturating_sub(1));
    }
    assert_eq!(cube_root(u64::MAX), 2_642_245);
}

/// RFC 9438, section 4.2, figure 2, in floating point: K = cbrt((W_max - cwnd_epoch) / C).
#[test]
fn the_window_is_back_at_w_max_after_k_seconds() {
    for w_max in [200, 1_000, 10_000, 50_000] {
        let (mut cubic, start) = after_loss(w_max);
        let k = (f64::from(w_max * MSS - start) / f64::from(MSS) / 0.4).cbrt();
        let (mut window, mut now_ms) = (start, 1000);
        let mut before = None;
        while now_ms < 1000 + (k * 1000.0) as u64 {
            before = Some(window);
            window = round(&mut cubic, window, now_ms, 100, MSS);
            now_ms += 100;
        }
        assert!((f64::from(cubic.k_ms) - k * 1000.0).abs() <= 1.0);
        let reached = f64::from(window) / f64::from(w_max * MSS);
        assert!((0.98..1.02).contains(&reached), "{reached} of {w_max} segments after {k} s");
        // The plateau: the last round trip before it adds next to nothing.
        assert!(window - before.unwrap() < w_max * MSS / 100);
    }
}

/// The curve itself against the formula.
#[test]
fn the_curve_is_that_of_the_rfc() {
    let (mut cubic, window) = after_loss(1000);
    cubic.start_epoch(window, MSS);
    let k = (300.0_f64 / 0.4).cbrt();
    for t_ms in [0, 1, 500, 5_000, 9_085, 9_086, 9_087, 12_345, 60_000] {
        let expected = (0.4 * (f64::from(t_ms) / 1000.0 - k).powi(3) + 1000.0) * f64::from(MSS);
        let difference = f64::from(cubic.w_cubic(t_ms, MSS)) - expected;
        // K is cut to milliseconds: 0.4 * 3 * (t - K)^2 * 0.001 s.
        let slope = 1.2 * (f64::from(t_ms) / 1000.0 - k).powi(2) * 0.001 * f64::from(MSS);
        assert!(difference.abs() <= slope + 2.0, "{difference} at {t_ms} ms");
    }
}

#[test]
fn growth_is_concave_before_k_and_convex_after_it() {
    let (mut cubic, mut window) = after_loss(5_000);
    let mut growth = Vec::new();
    for n in 0..300 {
        let next = round(&mut cubic, window, n * 100, 100, MSS);
        growth.push(next - window);
        window = next;
    }
    let k = (cubic.k_ms / 100) as usize;
    assert!(growth[1..k - 5].windows(20).all(|w| w[19] < w[0]), "ever slower towards W_max");
    assert!(growth[k + 5..].windows(20).all(|w| w[19] > w[0]), "ever faster beyond it");
}

/// RFC 9438, section 4.3: 9/17 of a segment in a round trip until the window of the loss is reached, then one.
#[test]
fn on_a_short_path_the_window_grows_as_renos_does() {
    let (mut cubic, start) = after_loss(20);
    let mut window = start;
    let mut rounds = 0;
    while window < 20 * MSS {
        window = round(&mut cubic, window, rounds * 2, 2, MSS);
        rounds += 1;
    }
    // 6 segments at 9/17 each; a round's acknowledgments are whole segments only.
    assert!((11..=13).contains(&rounds), "{rounds}");
    let before = window;
    (0..10).for_each(|n| window = round(&mut cubic, window, (rounds + n) * 2, 2, MSS));
    let growth = f64::from(window - before) / f64::from(MSS);
    assert!((9.0..=10.0).contains(&growth), "{growth}");
}

#[test]
fn the_window_never_grows_by_more_than_half_in_a_round_trip() {
    let (mut cubic, mut window) = after_loss(10);
    // Ten minutes after the last loss the curve is at 10^8 segments.
    window = round(&mut cubic, window, 0, 100, MSS);
    let next = round(&mut cubic, window, 600_000, 100, MSS);
    assert!(next > window + window / 4 && next <= window + window / 2 + MSS * 4, "{window} to {next}");
}

#[test]
fn acknowledgments_cut_into_pieces_gain_nothing() {
    for (w_max, rtt_ms) in [(20, 2), (2_000, 100)] {
        let (mut whole, mut pieces) = (after_loss(w_max), after_loss(w_max));
        for n in 0..200 {
            let now = at(n * rtt_ms);
            let growth = |acked| Growth { now, acked, srtt: Duration::from_millis(rtt_ms), mss: MSS };
            whole.1 = whole.0.on_ack(whole.1, &growth(MSS));
            (0..MSS / 10).for_each(|_| pieces.1 = pieces.0.on_ack(pieces.1, &growth(10)));
        }
        assert!(pieces.1 <= whole.1 + 4 && whole.1 - pieces.1.min(whole.1) < MSS, "{} {}", whole.1, pieces.1);
    }
}

/// RFC 9438, sections 4.6 and 4.7.
#[test]
fn a_loss_leaves_seven_tenths_and_a_second_below_w_max_lowers_the_plateau() {
    let (mut cubic, window) = after_loss(1000);
    assert_eq!((window, cubic.w_max), (700 * MSS, 1000 * MSS));
    assert_eq!(cubic.reduce(900 * MSS, 900 * MSS), 630 * MSS);
    assert_eq!((cubic.w_max, cubic.cwnd_prior), (765 * MSS, 900 * MSS));
    assert_eq!(cubic.reduce(800 * MSS, 400 * MSS), 280 * MSS);
    assert_eq!(cubic.w_max, 800 * MSS, "above W_max again");
}

/// RFC 9438, section 4.8.
#[test]
fn after_a_timeout_the_curve_starts_at_its_plateau() {
    let mut cubic = Cubic::default();
    assert_eq!(cubic.reduce_by_timeout(1000 * MSS, 1000 * MSS), 700 * MSS);
    cubic.on_ack(700 * MSS, &Growth { now: at(5), acked: MSS, srtt: Duration::ZERO, mss: MSS });
    assert_eq!((cubic.k_ms, cubic.w_max, cubic.epoch_ms), (0, 700 * MSS, 5));
}

/// RFC 9438, section 5.8.
#[test]
fn time_in_which_the_window_could_not_grow_does_not_count() {
    let run = |pause_ms: u64| {
        let (mut cubic, mut window) = after_loss(1000);
        (0..20).for_each(|n| window = round(&mut cubic, window, n * 100, 100, MSS));
        // Half of the pause is limited by the application, half is idle.
        (1..=pause_ms / 200).for_each(|n| cubic.hold(at(1900 + n * 100)));
        cubic.on_idle(Duration::from_millis(pause_ms / 2));
        (20..40).for_each(|n| window = round(&mut cubic, window, n * 100 + pause_ms, 100, MSS));
        window
    };
    let (without, with) = (run(0), run(60_000));
    assert!(with.abs_diff(without) < without / 100, "{without} {with}");
}

#[test]
fn a_clock_that_wraps_changes_nothing() {
    let run = |start_ms: u64| {
        let (mut cubic, mut window) = after_loss(1000);
        (0..150).for_each(|n| window = round(&mut cubic, window, start_ms + n * 100, 100, MSS));
        window
    };
    assert_eq!(run(0), run((1 << 32) - 5000));
}

#[test]
fn extremes_do_not_overflow() {
    for mss in [1, 536, 65_535] {
        let mut cubic = Cubic { w_max: u32::MAX, cwnd_prior: u32::MAX, ..Cubic::default() };
        let mut window = mss;
        for n in 0..2000_u64 {
            let acked = if n % 2 == 0 { u32::MAX } else { 1 };
            let srtt = Duration::from_secs(n * n);
            window = cubic.on_ack(window, &Growth { now: at(n.pow(4)), acked, srtt, mss }).min(1 << 30);
            assert!(window >= mss);
        }
        cubic.on_idle(Duration::MAX);
        cubic.hold(at(u64::MAX / 1_000_000));
        cubic.scale(1, 1);
    }
}
