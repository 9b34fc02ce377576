//! SYN cookies: connections are accepted without remembering the SYN (RFC 4987, section 3.6).
//!
//! ```text
//!   cookie = F(tuple) + | period 8 bits | F(tuple, peer's ISN, period, options) + index of the MSS * 2^21, 24 bits |
//!   TSval  =            | clock, upper 26 bits                | ECN 1 | SACK 1 | window scale 4    |
//! ```
//!
//! The layout is nearly that of Linux. A SYN is answered with a cookie as our initial sequence number, and forgotten.
//! Whoever acknowledges it has received it, so his address is his; from the cookie comes the MSS, and from the
//! timestamp that he echoes the other options. As the period moves the upper bits by one every 64 seconds, the
//! numbers of a port that comes back grow by 2^24 in that time: once every 3.8 us, about as fast as other
//! initial sequence numbers do.
//!
//! The cookie vouches for the options, which on Linux it does not: a later timestamp of a connection that is over here,
//! and alive at the peer, has other low bits. Options read out of them would be none that the two ever agreed on.
//!
//! Of 2^32 acknowledgments 16 pass: of two periods and eight sizes. Whoever guesses is right once in 2^28 times.

use super::tuple::Tuple;
use crate::base::Instant;
use crate::wire::seq::SeqNum;

/// How long a period is; in 256 of them, 4.5 hours, the numbers are once around.
const PERIOD_NS: u64 = 64_000_000_000;
/// Periods in which a cookie is good: its own and the next. It lives 64 to 128 seconds, longer than a SYN-ACK
/// is retried.
const PERIODS: u8 = 2;
/// Bits of a cookie below the period.
const MAC_BITS: u32 = 24;
const MAC_MASK: u32 = (1 << MAC_BITS) - 1;
/// How far the index of the MSS is shifted. On Linux it is not, so the cookies of all sizes lie side by side: when a
/// connection is over on our side, and a few bytes were sent on it, the peer's next segment acknowledges the cookie of
/// another size, and makes a new connection whose bytes the peer takes for more of the old one's. With the index in the
/// upper bits that takes two megabytes or a multiple of them, exactly.
const SIZE_SHIFT: u32 = MAC_BITS - 3;

/// Sizes that three bits tell apart. A peer gets the largest that is not above what it offered, or the smallest.
///
/// - 1460 is Ethernet, and 30 to 46 % of all offers (Alcock and Nelson, "An Analysis of TCP Maximum Segment
///   Sizes", 2011, which Linux takes its four sizes from: 536, 1300, 1440 and 1460). Jumbo frames are cut to it.
/// - 1440 stands for PPPoE (1452) too, as in Linux; that costs twelve bytes.
/// - 1400, 1360 and 1300 are tunnels; 15 to 20 % of all offers lie between 1300 and 1349.
/// - 1220 is a tunnel whose MTU is the least that IPv6 allows, 1,280 bytes (1240 over IPv4).
/// - 536 is the default (RFC 9293, section 3.7.1), and 216 the smallest that FreeBSD's cookies know.
const SIZES: [u16; 8] = [216, 536, 1220, 1300, 1360, 1400, 1440, 1460];

/// Bits of a timestamp that carry options.
const OPTION_BITS: u32 = 6;
const OPTION_MASK: u32 = (1 << OPTION_BITS) - 1;
const WINDOW_SCALE_MASK: u32 = 0x0f;
/// No window scale: as a shift it is not allowed (RFC 7323, section 2.3).
const NO_WINDOW_SCALE: u32 = 0x0f;
const SACK_PERMITTED: u32 = 0x10;
const ECN: u32 = 0x20;

/// No timestamp, so no options: none of the words that six bits make.
const NO_TIMESTAMP: u32 = OPTION_MASK + 1;

/// What a peer offered in its SYN beside the MSS and timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieOptions {
    /// Bits by which its windows are shifted, 14 at most.
    pub window_scale: Option<u8>,
    /// Whether it understands SACK.
    pub sack_permitted: bool,
    /// Whether it speaks ECN.
    pub ecn: bool,
}

impl CookieOptions {
    /// As they stand in a timestamp.
    fn bits(self) -> u32 {
        let scale = self.window_scale.map_or(NO_WINDOW_SCALE, |scale| u32::from(scale).min(NO_WINDOW_SCALE - 1));
        let sack = if self.sack_permitted { SACK_PERMITTED } else { 0 };
        let ecn = if self.ecn { ECN } else { 0 };
        scale | sack | ecn
    }
}

/// The secret that all cookies are made with.
#[derive(Clone, Debug)]
pub struct SynCookies {
    key: [u64; 2],
}

impl SynCookies {
    /// `key` should be unpredictable, and used for nothing else.
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// Our initial sequence number for the answer to a SYN with number `peer_isn` that offered `mss`, and `options` if
    /// it had a timestamp to keep them in.
    #[must_use]
    pub fn make(
        &self,
        now: Instant,
        tuple: &Tuple,
        peer_isn: SeqNum,
        mss: u16,
        options: Option<CookieOptions>,
    ) -> SeqNum {
        let period = now.as_ns() / PERIOD_NS;
        let index = SIZES.iter().rposition(|&size| size <= mss).unwrap_or(0) as u32;
        let low = self.mac(tuple, peer_isn, period, options).wrapping_add(index << SIZE_SHIFT) & MAC_MASK;
        self.base(tuple) + ((period as u32) << MAC_BITS | low)
    }

    /// The MSS, if `cookie` was made for this connection and these options within the last two periods. `cookie` is the
    /// acknowledgment number less one, `peer_isn` the sequence number less one, `options` are those of the timestamp
    /// that the peer echoes.
    #[must_use]
    pub fn check(
        &self,
        now: Instant,
        tuple: &Tuple,
        peer_isn: SeqNum,
        cookie: SeqNum,
        options: Option<CookieOptions>,
    ) -> Option<u16> {
        let period = now.as_ns() / PERIOD_NS;
        let word = cookie.since(self.base(tuple));
        // Of guesses 127 in 128 are found out here, after one of the two hashes.
        let age = (period as u8).wrapping_sub((word >> MAC_BITS) as u8);
        if age >= PERIODS {
            return None;
        }
        let mac = self.mac(tuple, peer_isn, period.wrapping_sub(u64::from(age)), options);
        let index = (word.wrapping_sub(mac) & MAC_MASK).rotate_right(SIZE_SHIFT);
        SIZES.get(index as usize).copied()
    }

    /// Where the numbers of a tuple begin.
    fn base(&self, tuple: &Tuple) -> SeqNum {
        SeqNum::new(tuple.hash(self.key) as u32)
    }

    fn mac(&self, tuple: &Tuple, peer_isn: SeqNum, period: u64, options: Option<CookieOptions>) -> u32 {
        let options = options.map_or(NO_TIMESTAMP, CookieOptions::bits);
        tuple.hash_with(self.key, peer_isn.value(), period << u32::BITS | u64::from(options)) as u32
    }
}

/// The timestamp of the answer to a SYN that had one: `now_ts` with the options in its low six bits.
///
/// It lies up to 63 ticks back, and never ahead: later timestamps of the connection must not be smaller
/// (RFC 7323, section 5.3). A round-trip time measured by its echo is too long by as much.
#[must_use]
pub fn encode_timestamp(now_ts: u32, options: CookieOptions) -> u32 {
    let back = now_ts.wrapping_sub(options.bits()) & OPTION_MASK;
    now_ts.wrapping_sub(back)
}

/// The options in a timestamp that the peer echoes. It may echo anything: the cookie tells whether they are those
/// that it offered.
#[must_use]
pub const fn decode_timestamp(ts_ecr: u32) -> CookieOptions {
    let scale = ts_ecr & WINDOW_SCALE_MASK;
    CookieOptions {
        window_scale: if scale == NO_WINDOW_SCALE { None } else { Some(scale as u8) },
        sack_permitted: ts_ecr & SACK_PERMITTED != 0,
        ecn: ts_ecr & ECN != 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const COOKIES: SynCookies = SynCookies::new([0x0123_4567_89ab_cdef, 42]);

    const OFFER: Option<CookieOptions> =
        Some(CookieOptions { window_scale: Some(7), sack_permitted: true, ecn: false });

    fn tuple(n: u32) -> Tuple {
        let remote = (Ipv4Addr::from_bits(0x0a00_0100 | n >> 16).into(), n as u16);
        Tuple { local: (Ipv4Addr::new(10, 0, 0, 1).into(), 80), remote }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Numbers that wrap at all the places there are.
    fn isn(n: u32) -> SeqNum {
        SeqNum::new(n.wrapping_mul(0x9e37_79b9))
    }

    #[test]
    fn a_cookie_brings_back_the_largest_size_that_is_not_above_the_offer() {
        assert!(SIZES.is_sorted());
        for mss in 0..=u16::MAX {
            let (n, now) = (u32::from(mss), at(u64::from(mss) * 7));
            let size =
                COOKIES.check(now, &tuple(n), isn(n), COOKIES.make(now, &tuple(n), isn(n), mss, OFFER), OFFER).unwrap();
            assert!(SIZES.contains(&size) && (size <= mss || size == SIZES[0]), "{size} for {mss}");
            assert!(SIZES.iter().all(|&other| other <= size || other > mss), "{size} for {mss}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_own_period_and_the_next() {
        for n in 0..2000 {
            let start = u64::from(n) * 64;
            let cookie = COOKIES.make(at(start + u64::from(n % 64)), &tuple(n), isn(n), 1460, OFFER);
            let check = |seconds| COOKIES.check(at(seconds), &tuple(n), isn(n), cookie, OFFER);
            assert_eq!((check(start), check(start + 63), check(start + 127)), (Some(1460), Some(1460), Some(1460)));
            // 256 periods later the eight bits are the same again.
            assert_eq!((check(start + 128), check(start + 256 * 64), check(start + 257 * 64)), (None, None, None));
            assert!(n == 0 || check(start - 1).is_none(), "made in the future");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_connection_alone() {
        let now = at(1000);
        for n in 0..2000 {
            let (tuple, peer_isn) = (tuple(n), isn(n));
            let cookie = COOKIES.make(now, &tuple, peer_isn, 1460, OFFER);
            let elsewhere = [
                Tuple { local: (tuple.local.0, 81), ..tuple },
                Tuple { local: (Ipv4Addr::new(10, 0, 0, 3).into(), 80), ..tuple },
                Tuple { remote: (tuple.remote.0, tuple.remote.1 ^ 1), ..tuple },
                Tuple { remote: (Ipv4Addr::new(10, 0, 0, 3).into(), tuple.remote.1), ..tuple },
                Tuple { local: tuple.remote, remote: tuple.local },
            ];
            assert!(elsewhere.iter().all(|other| COOKIES.check(now, other, peer_isn, cookie, OFFER).is_none()));
            assert_eq!(COOKIES.check(now, &tuple, peer_isn + 1, cookie, OFFER), None);
            assert_eq!(COOKIES.check(now, &tuple, peer_isn - 1, cookie, OFFER), None);
            assert_eq!(SynCookies::new([1, 42]).check(now, &tuple, peer_isn, cookie, OFFER), None);
            for bit in 0..32 {
                let altered = SeqNum::new(cookie.value() ^ 1 << bit);
                let size = COOKIES.check(now, &tuple, peer_isn, altered, OFFER);
                // The upper bits of the lower 24 may make another size of it, which the peer could have offered as well.
                assert!(size.is_none() || (SIZE_SHIFT..MAC_BITS).contains(&bit), "bit {bit}");
            }
            // What is acknowledged beside it is not taken for it.
            let sent = (1..5000).map(|sent| cookie + sent);
            assert!(sent.into_iter().all(|ack| COOKIES.check(now, &tuple, peer_isn, ack, OFFER).is_none()));
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_options_alone() {
        let (now, tuple, peer_isn) = (at(1000), tuple(7), isn(7));
        let offers = || (0..64).map(|bits| Some(decode_timestamp(bits))).chain([None]);
        for (made, given) in offers().flat_map(|made| offers().map(move |given| (made, given))) {
            let cookie = COOKIES.make(now, &tuple, peer_isn, 1460, made);
            let size = COOKIES.check(now, &tuple, peer_isn, cookie, given);
            assert_eq!(size, (made == given).then_some(1460), "{made:?} {given:?}");
        }
    }

    /// Of all acknowledgments with the right upper bits exactly one for each size passes; of the others none.
    #[test]
    #[cfg_attr(miri, ignore = "64 million checks")]
    fn of_all_acknowledgments_sixteen_pass() {
        let (now, tuple, peer_isn) = (at(64 * 300), tuple(7), isn(7));
        let base = COOKIES.base(&tuple);
        for (age, expected) in [(0, 8), (1, 8), (2, 0), (255, 0)] {
            let upper = (300_u32.wrapping_sub(age)) << MAC_BITS;
            let all = (0..=MAC_MASK).map(|low| base + (upper | low));
            let valid = all.filter(|&cookie| COOKIES.check(now, &tuple, peer_isn, cookie, OFFER).is_some()).count();
            assert_eq!(valid, expected, "age {age}");
        }
    }

    /// 2^22 guesses at 2^-28 each: one of them is right once in 64 seeds, two once in 8,000.
    #[test]
    fn guesses_fail() {
        let guesses = if cfg!(miri) { 1 << 10 } else { 1 << 22 };
        let mut seed = 1_u64;
        let right = (0..guesses).filter(|&n| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            COOKIES.check(at(5000), &tuple(n), isn(n), SeqNum::new((seed >> 32) as u32), OFFER).is_some()
        });
        assert!(right.count() <= 1);
    }

    /// There is no state: answers come in any order, twice, or not at all.
    #[test]
    fn syn_cookies_survive_reordering() {
        let connections = 10_007_u32;
        let made = |n: u32| COOKIES.make(at(u64::from(n) / 200), &tuple(n), isn(n), SIZES[n as usize % 8], OFFER);
        let cookies: Vec<SeqNum> = (0..connections).map(made).collect();
        for step in 0..connections * 2 {
            let n = (u64::from(step) * 7919 % u64::from(connections)) as u32;
            let size = COOKIES.check(at(63), &tuple(n), isn(n), cookies[n as usize], OFFER);
            assert_eq!(size, Some(SIZES[n as usize % 8]));
        }
    }

    #[test]
    fn numbers_of_a_port_that_comes_back_grow() {
        for n in 0..1000 {
            let make = |seconds| COOKIES.make(at(seconds), &tuple(n), isn(seconds as u32), 1460, OFFER);
            let grown = make(128 + 640).since(make(128));
            assert!(grown.abs_diff(10 << MAC_BITS) < 1 << MAC_BITS, "{grown}");
        }
    }

    #[test]
    fn options_survive_in_a_timestamp_that_is_never_ahead() {
        let places = (0..200).chain(u32::MAX - 200..=u32::MAX).chain([0x7fff_ffff, 0x8000_0000, 123_456_789]);
        for now_ts in places {
            for bits in 0..64_u8 {
                let window_scale = (bits & 15 != 15).then_some(bits & 15);
                let options = CookieOptions { window_scale, sack_permitted: bits & 16 != 0, ecn: bits & 32 != 0 };
                let sent = encode_timestamp(now_ts, options);
                assert!(now_ts.wrapping_sub(sent) < 64, "{now_ts} {sent}");
                assert_eq!(decode_timestamp(sent), options);
            }
        }
        let steep = CookieOptions { window_scale: Some(255), ..CookieOptions::default() };
        assert_eq!(decode_timestamp(encode_timestamp(1000, steep)).window_scale, Some(14));
    }
}
