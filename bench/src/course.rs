//! The course of a trial: what was completed, and how fast, slice by slice.

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::histogram::Latency;
use crate::progress;
use crate::result::Slice;

/// Slices of a trial, if they are not shorter than [`SHORTEST_NS`].
const SLICES: u64 = 50;
/// Shorter ones show the moment rather than the course.
const SHORTEST_NS: u64 = 100_000_000;
/// Trials that are shorter are over before anybody has read a line.
const SHOWN_FROM_NS: u64 = 1_000_000_000;
/// Slices that the live view shows as a curve: with what stands before it, a terminal of 80 columns.
const SHOWN: usize = 14;

/// Length and number of slices of a trial that lasts so long; the last may be longer.
pub(crate) fn slicing(duration_ns: u64) -> (u64, usize) {
    let slice_ns = (duration_ns / SLICES).max(SHORTEST_NS);
    (slice_ns, (duration_ns / slice_ns).clamp(1, SLICES) as usize)
}

/// Records a trial while it goes on, and shows it on a terminal.
#[derive(Debug)]
pub(crate) struct Course {
    from_ns: u64,
    duration_ns: u64,
    slice_ns: u64,
    /// Beginning of the slice that is open.
    open_ns: u64,
    open: Latency,
    completed: u64,
    bytes: u64,
    slices: Vec<Slice>,
    view: Option<ProgressBar>,
}

impl Course {
    /// Of what counts from `from_ns` to `until_ns`.
    pub(crate) fn new(from_ns: u64, until_ns: u64) -> Self {
        let duration_ns = until_ns.saturating_sub(from_ns);
        let (slice_ns, _) = slicing(duration_ns);
        let slices = Vec::with_capacity((duration_ns / slice_ns) as usize + 1);
        let view = (duration_ns >= SHOWN_FROM_NS).then(|| view(duration_ns)).flatten();
        Self {
            from_ns,
            duration_ns,
            slice_ns,
            open_ns: from_ns,
            open: Latency::coarse(),
            completed: 0,
            bytes: 0,
            slices,
            view,
        }
    }

    /// Something was completed.
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.completed += 1;
        self.open.record(latency_ns);
    }

    /// So many bytes of a stream were moved.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Closes the slice if it is over.
    pub(crate) fn tick(&mut self, now_ns: u64) {
        if now_ns >= self.open_ns + self.slice_ns {
            self.close(now_ns);
        }
    }

    /// All slices; the last may be shorter.
    pub(crate) fn finish(mut self, now_ns: u64) -> Vec<Slice> {
        if self.completed + self.bytes > 0 {
            self.close(now_ns);
        }
        if let Some(view) = &self.view {
            view.finish_and_clear();
        }
        self.slices
    }

    fn close(&mut self, now_ns: u64) {
        let summary = self.open.summary();
        let seconds = now_ns.saturating_sub(self.open_ns).max(1) as f64 / 1e9;
        self.slices.push(Slice {
            at_seconds: (self.open_ns - self.from_ns) as f64 / 1e9,
            seconds,
            completed: self.completed,
            bytes: self.bytes,
            p50_ns: summary.p50_ns,
            p99_ns: summary.p99_ns,
            max_ns: summary.max_ns,
        });
        if let Some(view) = &self.view {
            view.set_message(self.line());
            view.set_position((now_ns - self.from_ns) / 1_000_000);
        }
        (self.open_ns, self.completed, self.bytes) = (now_ns, 0, 0);
        self.open.clear();
    }

    /// `1.2 of 3.0 s  104,000/s  p50 9.1, p99 22.0 us  ▁▁▂▁█▁`, the curve that of p50
    fn line(&self) -> String {
        let Some(last) = self.slices.last() else { return String::new() };
        let shown = &self.slices[self.slices.len().saturating_sub(SHOWN)..];
        let time = format!("{:.1} of {:.1} s", last.at_seconds + last.seconds, self.duration_ns as f64 / 1e9);
        if last.completed == 0 {
            let moved: Vec<u64> = shown.iter().map(|slice| (slice.bytes as f64 / slice.seconds) as u64).collect();
            return format!("{time}  {:.3} Gb/s  {}", last.bytes as f64 * 8e-9 / last.seconds, sparkline(&moved));
        }
        let medians: Vec<u64> = shown.iter().map(|slice| slice.p50_ns).collect();
        format!(
            "{time}  {}/s  p50 {:.1}, p99 {:.1} us  {}",
            HumanCount((last.completed as f64 / last.seconds) as u64),
            last.p50_ns as f64 / 1e3,
            last.p99_ns as f64 / 1e3,
            sparkline(&medians)
        )
    }
}

/// A line on the terminal, if there is one: how much of the trial is over, then what [`Course::line`] says.
fn view(duration_ns: u64) -> Option<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:10} {wide_msg}").ok()?.progress_chars("=> ");
    let bar = progress::screen()?.add(ProgressBar::new(duration_ns / 1_000_000));
    bar.set_style(style);
    Some(bar)
}

/// One character for each value, from the lowest to the highest of them.
fn sparkline(values: &[u64]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (lowest, highest) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    let level = |value: &u64| ((value - lowest) * 7 / (highest - lowest).max(1)) as usize;
    values.iter().map(|value| LEVELS[level(value)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_each_other_and_add_up() {
        let mut course = Course::new(1_000, 1_000 + 1_000_000_000);
        for i in 0..10u64 {
            for _ in 0..=i {
                course.record(1000 * (i + 1));
            }
            course.tick(1_000 + (i + 1) * 100_000_000);
        }
        let slices = course.finish(1_000_001_000);
        assert_eq!(slices.len(), 10);
        assert_eq!(slices.iter().map(|slice| slice.completed).sum::<u64>(), 55);
        assert!((slices[9].at_seconds - 0.9).abs() < 1e-9 && slices[9].max_ns == 10_000, "{:?}", slices[9]);
        assert!(slices.iter().all(|slice| (slice.seconds - 0.1).abs() < 1e-9));
    }

    #[test]
    fn a_trial_is_cut_into_fifty_slices_unless_they_would_be_too_short() {
        let told = [0, 50_000_000, 250_000_000, 1_000_000_000, 5_000_000_000, 3_600_000_000_049].map(slicing);
        assert_eq!(told.map(|(_, count)| count), [1, 1, 2, 10, 50, 50]);
        assert_eq!(told.map(|(slice_ns, _)| slice_ns / 1_000_000), [100, 100, 100, 100, 100, 72_000]);
    }

    #[test]
    fn a_long_trial_has_fifty_slices_and_an_unfinished_one_is_kept() {
        let mut course = Course::new(0, 50_000_000_000);
        course.record(5);
        course.tick(900_000_000);
        course.moved(3);
        let slices = course.finish(400_000_000);
        assert_eq!((slices.len(), slices[0].completed, slices[0].bytes), (1, 1, 3));
    }

    #[test]
    fn the_live_line_tells_rate_percentiles_and_course_of_requests_and_the_rate_of_a_stream() {
        let mut requests = Course::new(0, 900_000_000);
        for slice in 1..=3u64 {
            (0..10_000).for_each(|_| requests.record(slice * 10_000));
            requests.tick(slice * 100_000_000);
        }
        let line = requests.line();
        assert!(line.starts_with("0.3 of 0.9 s  100,000/s  p50 30.") && line.ends_with("us  ▁▄█"), "{line}");
        let mut stream = Course::new(0, 900_000_000);
        for slice in 1..=2u64 {
            stream.moved(12_500_000 * slice);
            stream.tick(slice * 100_000_000);
        }
        assert_eq!(stream.line(), "0.2 of 0.9 s  2.000 Gb/s  ▁█");
    }

    #[test]
    fn a_sparkline_spans_lowest_to_highest_and_is_flat_without_a_difference() {
        assert_eq!(sparkline(&[10, 80, 45]), "▁█▄");
        assert_eq!(sparkline(&[7, 7]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }
}
