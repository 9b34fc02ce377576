//! `barewire connections`: asks a running engine what its TCP connections are doing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use barewire::config;

use super::fail;

/// The engine gives up after 5 s; so it was heard of by then.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the engine serves its metrics
    #[arg(long, value_name = "HOST:PORT")]
    metrics: String,
    /// Print JSON, with more about each connection
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer from {0} ({1}): give --metrics the address that the engine was started with")]
    Unreachable(SocketAddr, io::Error),
    #[error("what answers at {0} is not a barewire engine that tells of its connections: {1:?}")]
    Stranger(SocketAddr, String),
    #[error("the engine at {0} is too busy to tell of its connections: try again")]
    Busy(SocketAddr),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let address = match config::endpoint("--metrics", &arguments.metrics) {
        Ok(address) => address,
        Err(error) => return fail(&error, 2),
    };
    match ask(address, arguments.json).and_then(|text| show(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn ask(address: SocketAddr, json: bool) -> Result<String, Error> {
    let path = if json { "/connections?json" } else { "/connections" };
    let answer = fetch(address, path).map_err(|error| Error::Unreachable(address, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("503") => Err(Error::Busy(address)),
        _ => Err(Error::Stranger(address, status.to_owned())),
    }
}

/// The answer to a GET, as it comes over the connection. HTTP/1.0, so that it comes in one piece.
fn fetch(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn show(text: &str) -> Result<(), Error> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    match written {
        // `barewire connections | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Error::Output),
    }
}
