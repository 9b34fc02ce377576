use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(ms: u64) -> Instant {
    Instant::from_ns(ms * 1_000_000)
}

fn estimator() -> RttEstimator {
    RttEstimator::new(RtoLimits::default())
}

#[test]
fn a_connection_spends_40_bytes_on_it() {
    assert!(size_of::<RttEstimator>() <= 40, "{}", size_of::<RttEstimator>());
}

/// RFC 6298, sections 2.2 and 2.3, by hand.
#[test]
fn two_samples_give_the_numbers_of_the_rfc() {
    let mut rtt = estimator();
    assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.min_rtt(), rtt.rto()), (None, None, None, ms(1000)));
    rtt.sample(ms(100), at(0));
    assert_eq!((rtt.srtt(), rtt.rttvar(), rtt.rto()), (Some(ms(100)), Some(ms(50)), ms(300)));
    rtt.sample(ms(200), at(1));
    // RTTVAR = 3/4 * 50 + 1/4 * 100 = 62.5; SRTT = 7/8 * 100 + 1/8 * 200 = 112.5; RTO = 112.5 + 4 * 62.5
    assert_eq!(rtt.rttvar(), Some(Duration::from_micros(62_500)));
    assert_eq!(rtt.srtt(), Some(Duration::from_micros(112_500)));
    assert_eq!(rtt.rto(), Duration::from_micros(362_500));
    assert_eq!(rtt.min_rtt(), Some(ms(100)));
}

#[test]
fn on_a_steady_path_the_timeout_is_the_round_trip_and_200_ms_as_in_linux() {
    for rtt_us in [50, 10_000, 80_000, 700_000] {
        let mut rtt = estimator();
        (0..60).for_each(|n| rtt.sample(Duration::from_micros(rtt_us), at(n)));
        assert_eq!(rtt.rto(), Duration::from_micros(rtt_us) + ms(200));
    }
    let mut first = estimator();
    first.sample(ms(10), at(0));
    assert_eq!(first.rto(), ms(210));
}

#[test]
fn acknowledgments_delayed_by_40_ms_never_reach_the_timeout() {
    let mut rtt = estimator();
    for n in 0..1000 {
        let sample = if n % 7 == 0 { ms(41) } else { ms(1) };
        assert!(sample + ms(100) < rtt.rto(), "sample {n}");
        rtt.sample(sample, at(n));
    }
}

#[test]
fn without_a_minimum_the_granularity_is_left() {
    let mut rtt = RttEstimator::new(RtoLimits { min: Duration::ZERO, ..RtoLimits::default() });
    (0..60).for_each(|n| rtt.sample(ms(5), at(n)));
    assert_eq!(rtt.rto(), ms(6));
}

#[test]
fn the_timeout_doubles_with_every_expiry_up_to_the_maximum_and_a_sample_ends_that() {
    let mut rtt = estimator();
    let timeouts: Vec<u64> = (0..9)
        .map(|_| {
            let rto = rtt.rto().as_secs();
            rtt.back_off();
            rto
        })
        .collect();
    assert_eq!(timeouts, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    (0..500).for_each(|_| rtt.back_off());
    assert_eq!((rtt.backoff_count(), rtt.rto()), (32, ms(120_000)));
    rtt.sample(ms(100), at(0));
    assert_eq!((rtt.backoff_count(), rtt.rto()), (0, ms(300)));
    rtt.back_off();
    assert_eq!((rtt.backoff_count(), rtt.rto()), (1, ms(600)));
    rtt.reset_backoff();
    assert_eq!((rtt.backoff_count(), rtt.rto()), (0, ms(300)));
}

/// RFC 6298, section 5.7.
#[test]
fn after_a_lost_syn_data_waits_three_seconds_until_there_is_a_sample() {
    let mut rtt = estimator();
    rtt.back_off();
    rtt.after_lost_syn();
    assert_eq!(rtt.rto(), ms(3000));
    rtt.sample(ms(100), at(0));
    assert_eq!(rtt.rto(), ms(300));
    let mut longer = RttEstimator::new(RtoLimits { initial: ms(5000), ..RtoLimits::default() });
    longer.after_lost_syn();
    assert_eq!(longer.rto(), ms(5000), "only an RTO less than 3 s is raised");
}

#[test]
fn the_estimate_follows_a_path_that_changes() {
    let mut rtt = estimator();
    (0..100).for_each(|n| rtt.sample(ms(10), at(n)));
    (0..100).for_each(|n| rtt.sample(ms(100), at(100 + n)));
    let srtt = rtt.srtt().unwrap();
    assert!(srtt > ms(99) && srtt <= ms(100), "{srtt:?}");
    assert_eq!(rtt.min_rtt(), Some(ms(10)));
    (0..=300).for_each(|s| rtt.sample(ms(100), at(200 + s * 1000)));
    assert_eq!(rtt.min_rtt(), Some(ms(100)), "10 ms are five minutes ago");
}

#[test]
fn absurd_samples_and_limits_saturate() {
    let mut rtt = RttEstimator::new(RtoLimits { min: Duration::MAX, max: Duration::MAX, initial: Duration::MAX });
    assert_eq!(rtt.rto(), ms(65_535));
    for sample in [Duration::ZERO, Duration::MAX, Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        (0..100).for_each(|n| rtt.sample(sample, at(n)));
        assert!(rtt.srtt().unwrap() >= Duration::from_micros(1) && rtt.srtt().unwrap() <= Duration::from_secs(269));
        assert!(rtt.rto() >= ms(65_535) && rtt.rto() <= Duration::from_secs(1500));
    }
}
