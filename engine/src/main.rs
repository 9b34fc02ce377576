//! The `barewire` command.

mod command;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use barewire::config::Options;
use clap::{Parser, Subcommand};
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
    /// Open a TCP connection and join it with standard input and output, as `nc` does
    #[command(after_help = "\
Examples:
  echo hello | barewire connect 192.0.2.1:7 --interface eth1 --address 192.0.2.10/24
  barewire connect 198.51.100.1:80 --interface eth1 --address 192.0.2.10/24 --gateway 192.0.2.1 <request >answer

At the end of input our side of the connection is finished; the command ends when the other side is, too. Exit
code 1 says that the connection did not come about, or that it did not end so.")]
    Connect(Box<command::connect::Arguments>),
    /// Show the TCP connections of a running engine, as `ss -ti` does those of the kernel
    #[command(after_help = "\
Example:
  barewire connections --metrics 127.0.0.1:9100

Asks the engine that serves metrics at that address. Times are in milliseconds, amounts in bytes; cwnd, ssthresh
and phase are those of congestion control. At most 10,000 connections are told of; those in SYN-RECEIVED and in
TIME-WAIT are only counted, in the last line.")]
    Connections(command::connections::Arguments),
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).init();
    exit_when_a_worker_panics();
    match Arguments::parse().command {
        Command::Echo(options) => command::serve::run(*options),
        Command::Connect(arguments) => command::connect::run(*arguments),
        Command::Connections(arguments) => command::connections::run(&arguments),
    }
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
