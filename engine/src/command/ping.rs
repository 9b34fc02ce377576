//! `barewire ping`: echo requests to one host, and what comes of them.
//!
//! ```text
//!   worker: stack with a Ping on it  -> events  -> lines of text, or a record for --json
//!                                    -> statistics
//! ```

mod text;

use std::cell::Cell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use barewire::app::SendOptions;
use barewire::apps::ping::{Ends, Event, Failure, MAX_SIZE, Ping, PingConfig, Statistics};
use barewire::config::{IdleMode, Options, Settings};
use barewire::engine::Engine;

use super::fail;
use super::host::{
    Error, HostOptions, check_destination, destination, exit_code, follow, identifier, other_queue, seconds,
    told_to_stop, unless_closed,
};
use text::{Record, line};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Whom to ping
    #[arg(value_name = "ADDR", value_parser = destination)]
    destination: IpAddr,
    #[command(flatten)]
    host: HostOptions,
    /// Send so many requests [default: until it is interrupted]
    #[arg(short = 'c', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time from one request to the next, in seconds
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Bytes that a request carries, up to 65507: what is longer than the path takes goes in fragments
    #[arg(short = 's', long, value_name = "BYTES", default_value_t = 56,
          value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_SIZE)))]
    size: u16,
    /// Hops that a request may take [default: 64]
    #[arg(short = 't', long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: Option<u8>,
    /// How long replies are waited for after the last request, in seconds [default: twice the longest round trip and
    /// at least 1, or 10 as long as nobody replies]
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Send no request in fragments, and tell routers not to: they say then what the next link takes
    #[arg(long)]
    dont_fragment: bool,
    /// Print nothing but the statistics
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Print one JSON object at the end, with every reply and the statistics
    #[arg(long)]
    json: bool,
}

/// How events are shown.
#[derive(Clone, Copy)]
struct Manner {
    quiet: bool,
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { destination, host, count, interval, size, ttl, timeout, dont_fragment, quiet, json } = arguments;
    let more = Options { idle: Some(IdleMode::Spin), ..Options::default() };
    let settings = host.resolve(more).and_then(|settings| {
        check_destination(destination, &settings)?;
        Ok(settings)
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    let options = SendOptions { hop_limit: ttl, dont_fragment, ..SendOptions::default() };
    let config = |identifier| PingConfig { destination, count, interval, size, options, timeout, identifier };
    let identifier = identifier().map_err(Error::System);
    exit_code(identifier.and_then(|identifier| ping(&config(identifier), Manner { quiet, json }, &settings)))
}

/// Whether there was any reply.
fn ping(config: &PingConfig, manner: Manner, settings: &Settings) -> Result<bool, Error<Failure>> {
    let (app, ends) = Ping::new(config.clone());
    let Ends { events, outcome, stop } = ends;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (told_to_stop, mut record, mut ended) = (told_to_stop()?, Record::default(), Ok(None));
        let end = async {
            let show = |event| show(config, &event, manner, &mut record);
            ended = follow(events, outcome, (&stop, told_to_stop), show).await;
        };
        let (app, only_queue) = (Cell::new(Some(app)), Cell::new(true));
        let make_app = |_| app.take().unwrap_or_else(|| Ping::new(config.clone()).0);
        Engine::run(settings, make_app, |ready| only_queue.set(ready.only_queue), end).await?;
        match ended.map_err(Error::Output)? {
            // Told to stop before it began.
            None => Ok(false),
            Some(Err(failure)) => Err(Error::Failed(config.destination, failure)),
            Some(Ok(statistics)) => {
                let written = conclude(config, &statistics, manner, &record);
                unless_closed(written).map_err(Error::Output)?;
                if statistics.received == 0 && statistics.errors == 0 && !only_queue.get() {
                    eprintln!("barewire: {}", other_queue(&settings.interface));
                }
                Ok(statistics.received > 0)
            }
        }
    })
}

fn show(config: &PingConfig, event: &Event, manner: Manner, record: &mut Record) -> io::Result<()> {
    record.note(event, manner.json);
    let is_header = matches!(event, Event::Started { .. });
    if manner.json || (manner.quiet && !is_header) {
        return Ok(());
    }
    writeln!(io::stdout().lock(), "{}", line(config, event))
}

fn conclude(config: &PingConfig, statistics: &Statistics, manner: Manner, record: &Record) -> io::Result<()> {
    let text = if manner.json { record.json(config, statistics) } else { text::summary(config, statistics) };
    writeln!(io::stdout().lock(), "{text}")
}
