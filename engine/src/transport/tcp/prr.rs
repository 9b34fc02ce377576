//! Proportional Rate Reduction (RFC 9937): from the flight at a loss down to ssthresh, in step with what arrives.

/// The variables of RFC 9937, section 6, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prr {
    /// `prr_delivered`: what arrived during recovery.
    delivered: u32,
    /// `prr_out`: what was sent during recovery.
    out: u32,
    /// `RecoverFS`: what was to arrive when it began.
    recover_flight: u32,
}

impl Prr {
    /// Recovery begins.
    pub(super) const fn new(recover_flight: u32) -> Self {
        Self { delivered: 0, out: 0, recover_flight }
    }

    /// > On any data transmission or retransmission: prr_out += (data sent)
    pub(super) fn on_sent(&mut self, bytes: u32) {
        self.out = self.out.saturating_add(bytes);
    }

    /// The window after an acknowledgment, on every one that starts recovery or arrives in it. `delivered` is what
    /// it newly acknowledges or SACKs; `is_safe`, whether una advanced and no further loss was found.
    pub(super) fn on_ack(&mut self, delivered: u32, in_flight: u32, is_safe: bool, ssthresh: u32, mss: u32) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        let mut send = if in_flight > ssthresh {
            // "Proportional Rate Reduction. This uses integer division, rounding up:
            //  out = DIV_ROUND_UP(prr_delivered * ssthresh, RecoverFS); SndCnt = out - prr_out"
            let share = u64::from(self.delivered) * u64::from(ssthresh);
            let out = share.div_ceil(u64::from(self.recover_flight.max(1)));
            u32::try_from(out).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            // "PRR-CRB by default: SndCnt = MAX(prr_delivered - prr_out, DeliveredData)"
            let conservative = self.delivered.saturating_sub(self.out).max(delivered);
            // "PRR-SSRB when recovery is in good progress: SndCnt += SMSS"
            let bound = if is_safe { conservative.saturating_add(mss) } else { conservative };
            // "Attempt to catch up, as permitted: SndCnt = MIN(ssthresh - inflight, SndCnt)"
            bound.min(ssthresh - in_flight)
        };
        // "if (prr_out is 0 AND SndCnt is 0): Force a fast retransmit upon entering recovery: SndCnt = SMSS". In bytes
        // the share of one acknowledgment is less than a segment, and must not hold the retransmission up either.
        if self.out == 0 {
            send = send.max(mss);
        }
        // "cwnd = inflight + SndCnt". A window below one segment could send nothing for good.
        in_flight.saturating_add(send).max(mss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// A recovery from 20 segments down to `ssthresh`, of which `lost` never arrive, in segments: what was sent
    /// upon each acknowledgment after, and the flight at the end. One SACK arrives for each of the others in turn.
    fn recovery(ssthresh: u32, lost: u32) -> (Vec<u32>, u32) {
        let mut prr = Prr::new(20 * MSS);
        let mut in_flight = (20 - lost) * MSS;
        let mut sent = Vec::new();
        for _ in lost..20 {
            in_flight -= MSS;
            let window = prr.on_ack(MSS, in_flight, false, ssthresh * MSS, MSS);
            // Whole segments only.
            let segments = window.saturating_sub(in_flight) / MSS;
            prr.on_sent(segments * MSS);
            in_flight += segments * MSS;
            sent.push(segments);
        }
        (sent, in_flight / MSS)
    }

    /// RFC 6937's first example: one loss out of 20, and ssthresh is half. The retransmission at once, a segment for
    /// every other acknowledgment from then on, and once the flight is down at ssthresh one for each.
    #[test]
    fn one_loss_spreads_the_reduction_over_the_round_trip_and_ends_at_ssthresh() {
        let (sent, in_flight) = recovery(10, 1);
        assert_eq!(sent, [1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1, 1]);
        assert_eq!(in_flight, 10);
    }

    #[test]
    fn with_cubic_seven_of_ten_acknowledgments_send() {
        let (sent, in_flight) = recovery(14, 1);
        assert_eq!(sent.iter().sum::<u32>(), 14, "{sent:?}");
        assert_eq!(sent[..10].iter().sum::<u32>(), 7);
        assert_eq!(in_flight, 14);
    }

    /// RFC 6937's second example: 15 lost of 20. What is in flight is below ssthresh at once, and packets are
    /// conserved: one for one, whatever the reduction would allow.
    #[test]
    fn a_heavy_loss_is_answered_one_for_one() {
        let (sent, in_flight) = recovery(10, 15);
        assert_eq!(sent, [1, 1, 1, 1, 1]);
        assert_eq!(in_flight, 5);
    }

    #[test]
    fn after_a_heavy_loss_safe_acknowledgments_grow_the_flight_as_slow_start_does_up_to_ssthresh() {
        let mut prr = Prr::new(20 * MSS);
        prr.on_sent(MSS);
        let mut in_flight = 2 * MSS;
        for expected in [3, 4, 5, 6, 7, 8, 9, 10, 10, 10] {
            in_flight -= MSS;
            let window = prr.on_ack(MSS, in_flight, true, 10 * MSS, MSS);
            prr.on_sent(window - in_flight);
            in_flight = window;
            assert_eq!(in_flight, expected * MSS);
        }
    }

    #[test]
    fn an_acknowledgment_that_reports_a_further_loss_is_answered_one_for_one() {
        let mut prr = Prr::new(20 * MSS);
        prr.on_sent(5 * MSS);
        assert_eq!(prr.on_ack(MSS, 4 * MSS, false, 10 * MSS, MSS), 5 * MSS);
        assert_eq!(prr.on_ack(MSS, 4 * MSS, true, 10 * MSS, MSS), 6 * MSS);
    }

    #[test]
    fn the_fast_retransmit_is_sent_even_if_nothing_may_be() {
        let mut prr = Prr::new(20 * MSS);
        assert_eq!(prr.on_ack(0, 19 * MSS, false, 10 * MSS, MSS), 20 * MSS);
        prr.on_sent(MSS);
        assert_eq!(prr.on_ack(0, 19 * MSS, false, 10 * MSS, MSS), 19 * MSS);
    }

    #[test]
    fn the_share_is_rounded_up_to_the_byte() {
        let mut prr = Prr::new(3 * MSS);
        prr.on_sent(1);
        assert_eq!(prr.on_ack(MSS, 9 * MSS, false, 2 * MSS, MSS), 9 * MSS + 667 - 1);
    }

    #[test]
    fn what_was_not_sent_in_time_may_be_sent_later() {
        // The application had nothing to send for five acknowledgments: the sixth may send for all.
        let mut prr = Prr::new(20 * MSS);
        let windows: Vec<u32> = (1..=6).map(|n| prr.on_ack(MSS, (19 - n) * MSS, false, 10 * MSS, MSS)).collect();
        assert_eq!(windows[5], (13 + 3) * MSS);
    }
}
