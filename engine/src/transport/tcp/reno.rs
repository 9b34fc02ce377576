//! Reno: half as much after a loss, one segment more in every round trip (RFC 5681).

/// What Reno remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reno {
    /// Bytes that were acknowledged since the window last grew.
    bytes_acked: u32,
}

impl Reno {
    /// The window after an acknowledgment of `acked` bytes in congestion avoidance.
    ///
    /// > The RECOMMENDED way to increase cwnd during congestion avoidance is to count the number of bytes that
    /// > have been acknowledged by ACKs for new data. [...] When the number of bytes acknowledged reaches cwnd,
    /// > then cwnd can be incremented by up to SMSS bytes. (RFC 5681, section 3.1)
    pub(super) fn on_ack(&mut self, window: u32, acked: u32, mss: u32) -> u32 {
        // No acknowledgment counts for more than a round trip.
        self.bytes_acked = self.bytes_acked.saturating_add(acked.min(window));
        if self.bytes_acked < window {
            return window;
        }
        self.bytes_acked -= window;
        window.saturating_add(mss)
    }

    /// The slow start threshold after a loss, before its floor.
    ///
    /// > ssthresh = max (FlightSize / 2, 2*SMSS) (RFC 5681, section 3.1, equation 4)
    pub(super) fn reduce(&mut self, flight_size: u32) -> u32 {
        self.bytes_acked = 0;
        flight_size / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_acknowledged_bytes_is_worth_one_segment_however_it_is_cut() {
        for pieces in [1, 4, 1460] {
            let (mut reno, mut window) = (Reno::default(), 14_600);
            (0..10 * pieces).for_each(|_| window = reno.on_ack(window, 1460 / pieces, 1460));
            assert_eq!(window, 16_060);
        }
    }

    #[test]
    fn what_is_left_over_counts_for_the_next_round() {
        let mut reno = Reno::default();
        assert_eq!(reno.on_ack(10_000, 9_999, 1000), 10_000);
        assert_eq!(reno.on_ack(10_000, 2, 1000), 11_000);
        assert_eq!(reno.on_ack(11_000, 10_998, 1000), 11_000);
        assert_eq!(reno.on_ack(11_000, 1, 1000), 12_000);
    }
}
