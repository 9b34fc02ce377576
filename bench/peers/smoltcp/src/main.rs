//! `barewire-peer-smoltcp`: smoltcp's TCP on its raw socket, spinning on one core.
//!
//! Its address must be nobody else's: the kernel would answer, and reset all connections.

mod system;

use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

use barewire_peer_smoltcp::{Server, ServerConfig, Service};
use clap::Parser;
use smoltcp::phy::{Medium, RawSocket};
use smoltcp::time::Instant;
use smoltcp::wire::Ipv4Cidr;

/// Receive buffer of the raw socket: as many small frames as the rings of the AF_XDP servers (8192), and far
/// more than a window of full ones.
const BUFFER_BYTES: u32 = 20 << 20;

/// Milliseconds, for TCP timestamps; set once a turn, so that a segment does not cost a reading of the clock.
static MILLISECONDS: AtomicU32 = AtomicU32::new(0);

/// A TCP server (echo, discard, chargen) on smoltcp's stack and raw socket, for comparison.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    /// Interface to serve on
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Address, which the kernel must not have, and length of its prefix
    #[arg(long, value_name = "ADDR/LEN")]
    address: String,
    /// Port of echo
    #[arg(long, value_name = "PORT", default_value_t = 7)]
    echo_port: u16,
    /// Port of discard
    #[arg(long, value_name = "PORT", default_value_t = 9)]
    discard_port: u16,
    /// Port of chargen
    #[arg(long, value_name = "PORT", default_value_t = 19)]
    chargen_port: u16,
    /// Core to run on
    #[arg(long, value_name = "N", default_value_t = 1)]
    core: usize,
}

fn main() -> ExitCode {
    match serve(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("barewire-peer-smoltcp: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGINT or SIGTERM.
fn serve(cli: &Cli) -> io::Result<()> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let address: Ipv4Cidr = cli.address.parse().map_err(|()| invalid("--address: such as 10.77.0.2/24"))?;
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cli.core }) {
        return Err(invalid("--core: this process may not run there"));
    }
    system::stop_on_signals()?;
    let mut device = RawSocket::new(&cli.interface, Medium::Ethernet)?;
    system::set_receive_buffer(device.as_raw_fd(), BUFFER_BYTES)?;
    let config = ServerConfig {
        mac: mac_of(&cli.interface)?,
        address,
        services: &[
            (Service::Echo, cli.echo_port),
            (Service::Discard, cli.discard_port),
            (Service::Chargen, cli.chargen_port),
        ],
        // Without them, a Linux client may not use a port again before a minute has passed.
        timestamps: Some(|| MILLISECONDS.load(Ordering::Relaxed)),
    };
    let mut server = Server::new(&config, &mut device, Instant::now());
    println!("ready interface={} address={address} receive_buffer_bytes={BUFFER_BYTES}", cli.interface);
    while !system::stopping() {
        let now = Instant::now();
        MILLISECONDS.store(now.total_millis() as u32, Ordering::Relaxed);
        server.turn(&mut device, now);
    }
    Ok(())
}

/// Hardware address of an interface of this network namespace.
fn mac_of(interface: &str) -> io::Result<[u8; 6]> {
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let bytes: Vec<u8> = text.trim().split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("{interface} has no MAC address")))
}
