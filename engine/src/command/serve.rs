//! `barewire echo`: serves until it is told to stop.

use std::io::{self, Write};
use std::process::ExitCode;

use barewire::apps::daytime::Daytime;
use barewire::apps::services::{ServicePorts, Services};
use barewire::config::{Options, Settings, Vlan};
use barewire::engine::{Engine, EngineError, Ready};
use tokio::signal::unix::{SignalKind, signal};

use super::fail;

/// Runs the command.
pub(crate) fn run(options: Options) -> ExitCode {
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
    Engine(EngineError),
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
    if ready.multi_buffer {
        line += " frames=multi-buffer";
    }
    if let Some(vlan) = settings.vlan {
        line += &format!(" vlan={}", Vlan(vlan));
    }
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
