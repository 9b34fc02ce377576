//! The `barewire` command.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use barewire::apps::daytime::Daytime;
use barewire::apps::services::{ServicePorts, Services};
use barewire::config::{Options, Settings};
use barewire::engine::{Engine, Ready};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A kernel-bypass packet engine on AF_XDP.
#[derive(Parser)]
#[command(
    version,
    about,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 after SIGINT or SIGTERM, 1 when something failed, 2 on bad arguments or configuration.
Logs go to standard error; RUST_LOG=debug shows more."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve echo (RFC 862) over UDP and TCP on an address of its own; discard, daytime and chargen if asked to
    #[command(after_help = "\
Examples:
  barewire echo --interface eth1 --address 192.0.2.10/24 --gateway 192.0.2.1
  barewire echo --interface eth1 --address 192.0.2.10/24 --queues 0,1 --cores 2,3 --idle spin
  barewire echo --interface eth1 --address 192.0.2.10/24 --metrics 127.0.0.1:9100
  barewire echo --interface eth1 --address 192.0.2.10/24 --discard-port 9 --daytime-port 13 --chargen-port 19
  barewire echo --config echo.toml

The address must be one that no host has, this one's kernel included: the engine answers ARP, ping, UDP
and TCP for it, and leaves everything else on the interface to the kernel. Once packets can flow, one line that
starts with `ready` is printed.")]
    Echo(Box<Options>),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).init();
    exit_when_a_worker_panics();
    let Command::Echo(options) = Arguments::parse().command;
    let settings = match options.resolve() {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    match serve(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Engine(error)) => fail(&error, error.exit_code()),
        Err(Failure::System(error)) => fail(&error, 1),
    }
}

enum Failure {
    Engine(barewire::engine::EngineError),
    System(io::Error),
}

fn serve(settings: &Settings) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::System)?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::System)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::System)?;
        let shutdown = async move {
            tokio::select! { _ = interrupt.recv() => (), _ = terminate.recv() => () }
        };
        let services = Services::new(&settings.ports, Daytime::new(barewire::clock::zero()));
        let ready = |ready: &Ready| say_ready(settings, ready);
        Engine::run(settings, |_| services.clone(), ready, shutdown).await.map_err(Failure::Engine)
    })
}

/// The one line of standard output.
fn say_ready(settings: &Settings, ready: &Ready) {
    let join = |items: Vec<String>| items.join(",");
    let queues = join(ready.workers.iter().map(|worker| worker.queue.to_string()).collect());
    let cores = join(ready.workers.iter().map(|worker| worker.core.to_string()).collect());
    let addresses = join(settings.addresses.iter().map(ToString::to_string).collect());
    let mut line = format!(
        "ready interface={} queues={queues} cores={cores} mode={} driver={} addresses={addresses}",
        ready.interface,
        ready.mode(),
        ready.driver.name(),
    );
    let ServicePorts { udp_echo, tcp_echo, discard, daytime, chargen } = settings.ports;
    let ports =
        [("udp", udp_echo), ("tcp", tcp_echo), ("discard", discard), ("daytime", daytime), ("chargen", chargen)];
    for (name, port) in ports.iter().filter_map(|(name, port)| Some((name, (*port)?))) {
        line += &format!(" {name}-port={port}");
    }
    if let Some(metrics) = settings.metrics {
        line += &format!(" metrics=http://{metrics}/metrics");
    }
    // Whoever started us may have closed its end: that is no reason to stop serving.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    tracing::info!("packet memory is {}", ready.backing.name());
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("barewire: {error}");
    ExitCode::from(code)
}

/// A panic anywhere ends the process, after its message: the kernel then detaches the XDP program, and frames
/// go to whoever else wants them instead of into a ring that nobody reads.
fn exit_when_a_worker_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(1);
    }));
}
