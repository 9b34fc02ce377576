//! Progress of a long measurement, on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// What moves on the terminal, one below the other.
static SCREEN: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Where bars are shown; `None` where nobody looks.
pub(crate) fn screen() -> Option<&'static MultiProgress> {
    std::io::stderr().is_terminal().then(|| &*SCREEN)
}

/// Something that is waited for: told on a terminal until it is dropped, elsewhere once.
pub(crate) struct Waiting(Option<ProgressBar>);

/// Tells what is waited for.
pub(crate) fn waiting(what: &'static str) -> Waiting {
    let bar = screen().map(|screen| screen.add(ProgressBar::new_spinner()).with_message(what));
    if bar.is_none() {
        eprintln!("         {what}");
    }
    Waiting(bar)
}

impl Waiting {
    /// Shows that it is still waited for.
    pub(crate) fn tick(&self) {
        self.0.iter().for_each(ProgressBar::tick);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Steps done of those to do.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    now: String,
}

impl Progress {
    pub(crate) fn new(steps: u64) -> Self {
        let bar = screen().map(|screen| {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}  [{elapsed}, {eta} to go]");
            let bar = screen.add(ProgressBar::new(steps));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self { bar, begun: Instant::now(), now: String::new() }
    }

    /// There are so many steps more.
    pub(crate) fn more(&self, steps: u64) {
        self.bar.iter().for_each(|bar| bar.inc_length(steps));
    }

    /// What begins now.
    pub(crate) fn start(&mut self, what: &str) {
        what.clone_into(&mut self.now);
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
            bar.tick();
        }
    }

    /// What came of it.
    pub(crate) fn done(&mut self, result: &str) {
        let line = format!("{:>5.0} s  {:<28} {result}", self.begun.elapsed().as_secs_f64(), self.now);
        match &self.bar {
            Some(bar) => {
                bar.println(line);
                bar.inc(1);
            }
            None => eprintln!("{line}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
