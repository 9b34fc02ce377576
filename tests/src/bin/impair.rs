//! Joins two interfaces of its network namespace by a wire with faults, until its standard input ends:
//!
//! ```text
//!   impair IF IF [--there | --back | --both] [OPTION VALUE]... [--seed N] [--seconds N]
//! ```
//!
//! Options concern both directions, or those that were named last before them. Prints what became of the frames.

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barewire_tests::impair::{Faults, wire};
use barewire_tests::netns::PacketSocket;

/// What the command line asks for.
#[derive(Default)]
struct Asked {
    faults: [Faults; 2],
    seed: u64,
    /// Without it the wire lasts until standard input ends.
    lasts: Option<Duration>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [near, far, options @ ..] = &arguments[..] else { return usage("two interfaces are needed") };
    let asked = match read(options) {
        Ok(asked) => asked,
        Err(wrong) => return usage(&wrong),
    };
    let sockets = [near, far].map(|name| PacketSocket::new(name));
    println!("ready");
    static ENDED: AtomicBool = AtomicBool::new(false);
    if asked.lasts.is_none() {
        thread::spawn(|| {
            // An error is an end as well.
            let _ = std::io::stdin().lock().bytes().find(Result::is_err);
            ENDED.store(true, Ordering::Relaxed);
        });
    }
    let start = Instant::now();
    let ended = || ENDED.load(Ordering::Relaxed) || asked.lasts.is_some_and(|lasts| start.elapsed() >= lasts);
    let [there, back] = wire::carry(&sockets, asked.faults, asked.seed, ended);
    println!("there: {there:?}\nback:  {back:?}");
    ExitCode::SUCCESS
}

fn usage(wrong: &str) -> ExitCode {
    eprintln!("{wrong}\nusage: impair IF IF [--there | --back | --both] [OPTION VALUE]...\n{}", Faults::OPTIONS);
    eprintln!("  --seed N          what is drawn (1)\n  --seconds N       end after so long, not with standard input");
    ExitCode::from(2)
}

fn read(options: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { seed: 1, ..Asked::default() };
    let mut concerned = [true; 2];
    let mut options = options.iter();
    while let Some(option) = options.next() {
        concerned = match option.as_str() {
            "--there" => [true, false],
            "--back" => [false, true],
            "--both" => [true, true],
            _ => {
                let value = options.next().ok_or_else(|| format!("{option}: needs a value"))?;
                let number = || value.parse().map_err(|_| format!("{option} {value}: not a number"));
                match option.as_str() {
                    "--seed" => asked.seed = number()?,
                    "--seconds" => asked.lasts = Some(Duration::from_secs(number()?)),
                    _ => {
                        for (faults, _) in asked.faults.iter_mut().zip(concerned).filter(|(_, concerned)| *concerned) {
                            faults.set(option, value)?;
                        }
                    }
                }
                concerned
            }
        };
    }
    Ok(asked)
}
