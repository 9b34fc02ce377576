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
Exit codes: 0 when it has done its work, and of `echo` after SIGINT or SIGTERM; 1 when something failed, 2 on bad
arguments or configuration. Those of other commands are told by their --help.
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
  barewire connect '[2001:db8:1::1]:80' --interface eth1 --address 2001:db8::10/64 --gateway fe80::1 <request >answer

The peer is an address, of the same version of IP as one of ours: names are not looked up.
At the end of input our side of the connection is finished; the command ends when the other side is, too, and all that
was received is written, or nobody reads it any more. SIGINT and SIGTERM reset the connection.

Exit codes: 0 if the connection ended so, 1 if it did not come about or ended otherwise, 2 on bad arguments, 130 after
SIGINT and 143 after SIGTERM, as what was sent or received may then be half of it.")]
    Connect(Box<command::connect::Arguments>),
    /// Send ICMP echo requests from an address of its own, as `ping` does from that of the kernel
    #[command(after_help = "\
Examples:
  barewire ping 192.0.2.1 --interface eth1 --address 192.0.2.10/24 -c 3
  barewire ping 2001:db8:1::1 --interface eth1 --address 2001:db8::10/64 --gateway fe80::1 -c 1000 -i 0.01 -q
  barewire ping 198.51.100.1 --interface eth1 --address 192.0.2.10/24 --gateway 192.0.2.1 --dont-fragment -s 1472

Prints a line for each reply, which is compared with the request byte by byte, and for each error that the network
tells of; the statistics come at the end, or on SIGINT. The clock is read once a turn of the engine, so a time may be
too long by the turn in which the request was sent and too short by the one in which the reply came: less than a
microsecond each on an idle line. The engine keeps a core busy meanwhile.

Exit codes: 0 if there was any reply, 1 if there was none, 2 on bad arguments.")]
    Ping(Box<command::ping::Arguments>),
    /// Show the routers on the way to a host, as `traceroute` does
    #[command(after_help = "\
Examples:
  barewire traceroute 198.51.100.1 --interface eth1 --address 192.0.2.10/24 --gateway 192.0.2.1
  barewire traceroute 2001:db8:1::1 --interface eth1 --address 2001:db8::10/64 --gateway fe80::1 --icmp -q 1
  barewire traceroute 198.51.100.1 --interface eth1 --address 192.0.2.10/24 --gateway 192.0.2.1 --mtu

Prints a line for each hop: who answers, and how long each probe took; * where no answer came. Up to 16 probes are on
their way at once. What the way ends with is marked: !N no way to the network, !H none to the host, !P the host does
not speak the protocol, !X prohibited, !F too long, !S source route failed, !B header not understood, !<code> another
reason. With --mtu, `pmtu` says what the links up to that hop can carry, in bytes with the IP header.

Exit codes: 0 if the destination answered, 1 if it did not, 2 on bad arguments.")]
    Traceroute(Box<command::traceroute::Arguments>),
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
        Command::Ping(arguments) => command::ping::run(*arguments),
        Command::Traceroute(arguments) => command::traceroute::run(*arguments),
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
