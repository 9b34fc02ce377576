//! `barewire connect`: one TCP connection, joined with standard input and output.
//!
//! ```text
//!   stdin  -> thread, reads  -> queue -> worker: stack with a Pipe on it -> queue -> thread, writes -> stdout
//! ```

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use barewire::apps::pipe::{Ends, Failure, Piece, Pipe};
use barewire::config::{Options, Settings};
use barewire::engine::{Engine, EngineError};
use tokio::sync::oneshot;

use super::fail;
use super::host::{HostOptions, STOPPING, Signal, check_destination, told_to_stop};

/// How long a connection may take to come about, seconds: five requests of a TCP, and no longer than who waits for it
/// at a terminal does.
const PATIENCE_S: u64 = 30;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to connect to
    #[arg(value_name = "ADDR:PORT", value_parser = peer)]
    peer: SocketAddr,
    #[command(flatten)]
    host: HostOptions,
    /// Give up if the connection is not established after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_S, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Ask the peer whether it still lives when it has been silent for so long, and give up if it does not answer nine
    /// times, as far apart but 75 s at most, or for as long as --user-timeout says [default: it is not asked]
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<u32>,
    /// Give up if what was sent is not acknowledged for so long; unless it is 300, also if keep-alives are not answered for
    /// so long, however many they are [default: 300]
    #[arg(long, value_name = "SECONDS")]
    user_timeout: Option<u32>,
    /// Ask for ECN (RFC 3168): routers may mark packets instead of dropping them
    #[arg(long)]
    ecn: bool,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}: {1}")]
    Connection(SocketAddr, Failure),
    #[error("{0}: stopped by {1} before the end: the connection is reset, exit code {code}", code = .1.exit_code())]
    Stopped(SocketAddr, Signal),
    #[error(
        "{0}: no answer; if there was one, it came in on another queue than the first: {1} has several and does not \
         tell which one it gives a connection to. Try `ethtool -L {1} combined 1`"
    )]
    OtherQueue(SocketAddr, String),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the system refuses what it always grants: {0}")]
    System(#[from] io::Error),
}

impl Error {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(error) => error.exit_code(),
            Self::Stopped(_, signal) => signal.exit_code(),
            _ => 1,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let Arguments { peer, host, timeout, keep_alive, user_timeout, ecn } = arguments;
    let more = Options { keep_alive, user_timeout, ecn, ..Options::default() };
    let settings = host.resolve(more).and_then(|settings| {
        check_destination(peer.ip(), &settings)?;
        Ok(settings)
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return fail(&error, 2),
    };
    match connect(peer, Duration::from_secs(timeout), &settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

/// Reads an address with a port; an IPv4 address in the clothes of IPv6 as what it is.
fn peer(text: &str) -> Result<SocketAddr, String> {
    let peer = text.parse().ok().filter(|peer: &SocketAddr| peer.port() != 0);
    let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    peer.ok_or_else(|| {
        "not an address with a port; for example 192.0.2.1:7 or [2001:db8::1]:7. Names are not looked up".into()
    })
}

fn connect(peer: SocketAddr, patience: Duration, settings: &Settings) -> Result<(), Error> {
    let (pipe, ends) = Pipe::new(peer, patience);
    let Ends { input, input_spares, output, output_spares, mut outcome, stop } = ends;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // It ends with the process, at the latest: nothing interrupts a read.
    thread::Builder::new().name("stdin".into()).spawn(move || read(stdin, &input_spares, &input))?;
    let (tell, written) = oneshot::channel();
    let writer = move || tell.send(write(stdout, &output, &output_spares));
    thread::Builder::new().name("stdout".into()).spawn(writer)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut told_to_stop = pin!(told_to_stop()?);
        let (mut ended, mut stopped_by) = (None, None);
        let end = async {
            tokio::select! {
                outcome = &mut outcome => ended = outcome.ok(),
                signal = &mut told_to_stop => {
                    stopped_by = Some(signal);
                    stop.store(true, Ordering::Relaxed);
                    let _ = tokio::time::timeout(STOPPING, &mut outcome).await;
                }
            }
        };
        let (pipe, answers_come_back) = (Cell::new(Some(pipe)), Cell::new(true));
        let app = |_| pipe.take().unwrap_or_else(|| Pipe::new(peer, patience).0);
        Engine::run(settings, app, |ready| answers_come_back.set(ready.answers_come_back), end).await?;
        if let Some(signal) = stopped_by {
            return Err(Error::Stopped(peer, signal));
        }
        match ended {
            None => Err(Error::Connection(peer, Failure::Stopped)),
            Some(Ok(()) | Err(Failure::OutputClosed)) => tokio::select! {
                written = written => output_result(written.unwrap_or(Ok(()))),
                signal = &mut told_to_stop => Err(Error::Stopped(peer, signal)),
            },
            Some(Err(Failure::NoAnswer)) if !answers_come_back.get() => {
                Err(Error::OtherQueue(peer, settings.interface.clone()))
            }
            Some(Err(failure)) => Err(Error::Connection(peer, failure)),
        }
    })
}

/// Standard output may have been closed by somebody who has seen enough: `barewire connect ... | head`.
fn output_result(result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

/// Reads until the end, or until nobody wants it any more. What cannot be read is told, and the end too.
fn read(mut from: File, spares: &Receiver<Piece>, to: &SyncSender<io::Result<Piece>>) {
    while let Ok(mut piece) = spares.recv() {
        let result = loop {
            match piece.read(&mut from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => return,
            // If nobody takes it, there are no spares any more either.
            Ok(_) => drop(to.send(Ok(piece))),
            Err(error) => return drop(to.send(Err(error))),
        }
    }
}

/// Writes what comes until the end.
fn write(mut to: File, from: &Receiver<Piece>, spares: &SyncSender<Piece>) -> io::Result<()> {
    while let Ok(piece) = from.recv() {
        to.write_all(piece.bytes())?;
        // At the end nobody wants it back.
        let _ = spares.send(piece);
    }
    Ok(())
}
