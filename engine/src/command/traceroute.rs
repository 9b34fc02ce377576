//! `barewire traceroute`: the routers on the way to a host.
//!
//! ```text
//!   worker: stack with a Traceroute on it  -> hops, in order  -> a line each, or the list for --json
//! ```

use std::cell::Cell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use barewire::apps::traceroute::{
    Ends, Failure, Finding, Hop, MAX_PROBES, Outcome, Probe, Summary, Traceroute, TracerouteConfig,
};
use barewire::config::{ConfigError, IdleMode, Options, Settings};
use barewire::engine::Engine;

use super::fail;
use super::host::{
    Error, HostOptions, check_destination, destination, exit_code, follow, identifier, ms, other_queue, seconds,
    told_to_stop, unless_closed,
};

/// Bytes of a packet of either family, as traceroute(8) has it: both carry as much.
const PACKET_LEN: u16 = 60;
const PACKET_LEN_V6: u16 = 80;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the way leads
    #[arg(value_name = "ADDR", value_parser = destination)]
    destination: IpAddr,
    #[command(flatten)]
    host: HostOptions,
    /// Send ICMP echo requests instead of UDP datagrams, which go to ports from 33434 on
    #[arg(long)]
    icmp: bool,
    /// Hops to look at, at most
    #[arg(short = 'm', long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..))]
    max_hops: u8,
    /// Probes for each hop
    #[arg(short = 'q', long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=MAX_PROBES as i64))]
    probes: u8,
    /// How long the answer to a probe is waited for, in seconds
    #[arg(short = 'w', long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    wait: Duration,
    /// The hop to begin with
    #[arg(short = 'f', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    first_hop: u8,
    /// Find out what the links take: probes begin as long as the interface's MTU, and get shorter where routers say so
    #[arg(long)]
    mtu: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { destination, host, icmp, max_hops, probes, wait, first_hop, mtu, json } = arguments;
    let more = Options { idle: Some(IdleMode::Spin), ..Options::default() };
    let settings = host.resolve(more).and_then(|settings| {
        check_destination(destination, &settings)?;
        if first_hop > max_hops {
            let why = format!("it lies beyond the last one: give 1 to {max_hops}, or more by --max-hops");
            return Err(ConfigError::Invalid { flag: "--first-hop", value: first_hop.to_string(), why });
        }
        Ok(settings)
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    let config = |identifier: u16| TracerouteConfig {
        destination,
        probe: if icmp { Probe::Icmp } else { Probe::Udp },
        first_hop,
        max_hops,
        probes,
        wait,
        packet_len: if destination.is_ipv4() { PACKET_LEN } else { PACKET_LEN_V6 },
        find_mtu: mtu,
        // As a port it is one that no service has.
        identifier: identifier | 0x8000,
    };
    let identifier = identifier().map_err(Error::System);
    exit_code(identifier.and_then(|identifier| traceroute(&config(identifier), json, &settings)))
}

/// Whether the destination answered.
fn traceroute(config: &TracerouteConfig, json: bool, settings: &Settings) -> Result<bool, Error<Failure>> {
    let (app, ends) = Traceroute::new(config.clone());
    let Ends { hops, outcome, stop } = ends;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (told_to_stop, mut known, mut ended) = (told_to_stop()?, Vec::new(), Ok(None));
        let end = async {
            let show = |hop: Hop| {
                let mtu_before = known.iter().rev().find_map(|hop: &Hop| hop.mtu);
                let written = if json { Ok(()) } else { print(&line(&hop, mtu_before)) };
                known.push(hop);
                written
            };
            ended = follow(hops, outcome, (&stop, told_to_stop), show).await;
        };
        let (app, only_queue) = (Cell::new(Some(app)), Cell::new(true));
        let make_app = |_| app.take().unwrap_or_else(|| Traceroute::new(config.clone()).0);
        if !json {
            unless_closed(print(&header(config))).map_err(Error::Output)?;
        }
        Engine::run(settings, make_app, |ready| only_queue.set(ready.only_queue), end).await?;
        match ended.map_err(Error::Output)? {
            // Told to stop before it began.
            None => Ok(false),
            Some(Err(failure)) => Err(Error::Failed(config.destination, failure)),
            Some(Ok(Summary { reached })) => {
                if json {
                    unless_closed(print(&to_json(config, &known, reached))).map_err(Error::Output)?;
                }
                let silence = known.iter().flat_map(|hop| &hop.findings).all(|finding| *finding == Finding::Silence);
                if silence && !only_queue.get() {
                    eprintln!("barewire: {}", other_queue(&settings.interface));
                }
                Ok(reached)
            }
        }
    })
}

fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

fn header(config: &TracerouteConfig) -> String {
    let TracerouteConfig { destination, max_hops, packet_len, find_mtu, .. } = config;
    let packets = if *find_mtu { "packets of the path's MTU".into() } else { format!("{packet_len} byte packets") };
    format!("traceroute to {destination}, {max_hops} hops max, {packets}")
}

/// What stands behind a time.
fn mark(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unreachable(code) => format!("!<{code}>"),
        outcome => outcome.mark().into(),
    }
}

/// A hop as it is printed: an address before the times that it is the same for, and the MTU where that changes.
fn line(hop: &Hop, mtu_before: Option<u16>) -> String {
    let mut text = format!("{:>2} ", hop.number);
    let mut told = None;
    for finding in &hop.findings {
        let Finding::Answer { source, round_trip, outcome } = *finding else {
            text += " *";
            continue;
        };
        if told != Some(source) {
            text += &format!(" {source}");
            told = Some(source);
        }
        text += &format!("  {:.3} ms", ms(round_trip));
        let mark = mark(outcome);
        if !mark.is_empty() {
            text += &format!(" {mark}");
        }
    }
    if let Some(mtu) = hop.mtu.filter(|_| hop.mtu != mtu_before) {
        text += &format!("  pmtu {mtu}");
    }
    text
}

/// The object. No text in it has a character that JSON would want escaped.
fn to_json(config: &TracerouteConfig, hops: &[Hop], reached: bool) -> String {
    let probe = |finding: &Finding| match *finding {
        Finding::Silence => "null".to_owned(),
        Finding::Answer { source, round_trip, outcome } => {
            let (time, mark) = (ms(round_trip), mark(outcome));
            format!("{{\"source\":\"{source}\",\"time_ms\":{time:.6},\"mark\":\"{mark}\"}}")
        }
    };
    let hop = |hop: &Hop| {
        let probes: Vec<String> = hop.findings.iter().map(probe).collect();
        let mtu = hop.mtu.map_or("null".into(), |mtu| mtu.to_string());
        format!("{{\"hop\":{},\"mtu_bytes\":{mtu},\"probes\":[{}]}}", hop.number, probes.join(","))
    };
    let hops: Vec<String> = hops.iter().map(hop).collect();
    let method = match config.probe {
        Probe::Udp => "udp",
        Probe::Icmp => "icmp",
    };
    format!(
        "{{\"destination\":\"{}\",\"method\":\"{method}\",\"hops\":[{}],\"reached\":{reached}}}",
        config.destination,
        hops.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: u8, outcome: Outcome) -> Finding {
        Finding::Answer { source: [10, 0, 0, last].into(), round_trip: Duration::from_micros(123), outcome }
    }

    #[test]
    fn an_address_stands_once_before_its_times() {
        let findings = [
            answer(1, Outcome::OnTheWay),
            answer(1, Outcome::OnTheWay),
            Finding::Silence,
            answer(2, Outcome::HostUnreachable),
            answer(2, Outcome::Unreachable(8)),
        ];
        let hop = Hop { number: 7, findings: findings.into_iter().collect(), mtu: Some(1400) };
        let times = " 7  10.0.0.1  0.123 ms  0.123 ms * 10.0.0.2  0.123 ms !H  0.123 ms !<8>";
        assert_eq!(line(&hop, Some(1400)), times);
        assert_eq!(line(&hop, Some(1500)), format!("{times}  pmtu 1400"));
    }
}
