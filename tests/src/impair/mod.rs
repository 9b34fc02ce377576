//! A wire with faults, for kernels that have no netem: what comes in at one interface goes out at another, late,
//! twice, out of order, damaged or never.
//!
//! ```text
//!   a --> [ loss | too long | damage ] --> [ held back ] --> [ rate and queue ] --> [ delay, jitter ] --> b
//!   a <-- ............................ the same, with faults of its own ................................ <-- b
//! ```
//!
//! [`direction`] decides what becomes of a frame, and does no input or output; [`wire`] carries frames between
//! two interfaces as it says. What happens to the n-th frame of a direction depends on the seed and, where there
//! is jitter or a queue, on when it came.

use std::time::Duration;

pub mod direction;
pub mod wire;

/// What one direction of a wire does to frames. The default is to carry them all at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// Share of frames that are lost, each on its own.
    pub loss: f64,
    /// Share of frames with which a burst of losses begins.
    pub burst: f64,
    /// Frames that such a burst takes.
    pub burst_frames: u64,
    /// Share of frames with one bit flipped, somewhere behind the Ethernet header.
    pub corrupt: f64,
    /// Share of frames that arrive twice.
    pub duplicate: f64,
    /// Share of frames that are overtaken.
    pub reorder: f64,
    /// Frames that overtake such a frame, unless fewer come within [`direction::HELD_AT_MOST`].
    pub reorder_frames: u64,
    /// How long every frame takes.
    pub delay: Duration,
    /// How much longer it takes at most: drawn anew every millisecond. Frames do not overtake each other for it.
    pub jitter: Duration,
    /// Bits a second, counted as on Ethernet with preamble, check sequence and gap. 0 is without limit.
    pub rate_bits: u64,
    /// Bytes that may wait for their turn at that rate. What finds the queue full is lost.
    pub queue_bytes: u64,
    /// Longest frame that is carried, with its Ethernet header. Longer ones vanish, as in a black hole.
    pub longest_bytes: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 0.0,
            burst_frames: 10,
            corrupt: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            // Enough for three duplicate acknowledgements: the sender must tell reordering from loss.
            reorder_frames: 4,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bits: 0,
            queue_bytes: 256 << 10,
            longest_bytes: usize::MAX,
        }
    }
}

impl Faults {
    /// The options that [`set`](Self::set) takes, for a usage message.
    pub const OPTIONS: &str = "\
  --loss P          share of frames lost, 0 to 1
  --burst P         share of frames that begin a burst of losses
  --burst-frames N  frames that a burst takes (10)
  --corrupt P       share of frames with a flipped bit
  --duplicate P     share of frames that arrive twice
  --reorder P       share of frames that are overtaken
  --reorder-frames N  frames that overtake them (4)
  --delay MS        how long every frame takes
  --jitter MS       how much longer it takes at most
  --rate MBIT       megabits a second
  --queue BYTES     what may wait at that rate (262144)
  --longest BYTES   longest frame that is carried";

    /// Sets a fault by the name of its option and its value, as they are written on a command line.
    ///
    /// # Errors
    /// If there is no such option, or the value is none of its values: says which.
    pub fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let wrong = || format!("{option} {value}: not a value of this option");
        let count = || value.parse::<u64>().map_err(|_| wrong());
        let share = || number().filter(|share| *share <= 1.0).ok_or_else(wrong);
        let milliseconds = || number().map(|ms| Duration::from_secs_f64(ms / 1e3)).ok_or_else(wrong);
        match option {
            "--loss" => self.loss = share()?,
            "--burst" => self.burst = share()?,
            "--burst-frames" => self.burst_frames = count()?,
            "--corrupt" => self.corrupt = share()?,
            "--duplicate" => self.duplicate = share()?,
            "--reorder" => self.reorder = share()?,
            "--reorder-frames" => self.reorder_frames = count()?,
            "--delay" => self.delay = milliseconds()?,
            "--jitter" => self.jitter = milliseconds()?,
            "--rate" => self.rate_bits = number().map(|megabits| (megabits * 1e6) as u64).ok_or_else(wrong)?,
            "--queue" => self.queue_bytes = count()?,
            "--longest" => self.longest_bytes = count()? as usize,
            _ => return Err(format!("{option}: no such option")),
        }
        Ok(())
    }
}

/// What became of the frames of one direction: every one that came in is in exactly one of `lost`, `too_long`,
/// `queue_full`, `sent`, `unsent` and what is still under way; one that was duplicated, twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in.
    pub received: u64,
    /// Lost, alone or in a burst.
    pub lost: u64,
    /// Vanished for their length.
    pub too_long: u64,
    /// Lost at the full queue.
    pub queue_full: u64,
    /// Had a bit flipped.
    pub corrupted: u64,
    /// Had a second one made of them.
    pub duplicated: u64,
    /// Were held back.
    pub reordered: u64,
    /// Went out.
    pub sent: u64,
    /// Were refused by the kernel on their way out.
    pub unsent: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_are_named() {
        let mut faults = Faults::default();
        for (option, value) in [("--loss", "0.01"), ("--delay", "2.5"), ("--rate", "100"), ("--burst-frames", "7")] {
            faults.set(option, value).unwrap();
        }
        let delay = Duration::from_micros(2_500);
        let expected = Faults { loss: 0.01, delay, rate_bits: 100_000_000, burst_frames: 7, ..Faults::default() };
        assert_eq!(faults, expected);
        for (option, value) in
            [("--loss", "1.5"), ("--loss", "-1"), ("--delay", "NaN"), ("--queue", "many"), ("-x", "1")]
        {
            assert!(faults.set(option, value).unwrap_err().contains(option), "{option} {value}");
        }
        assert_eq!(faults, expected, "nothing is set in part");
    }
}
