//! Who is tested: the engine, or the kernel in its place. A test of TCP that fails against both is wrong itself.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use crate::lab::{Engine, Lab, PATIENCE};
use crate::netns::{Namespace, Veth};
use crate::services::{Service, Services};

/// Set to `kernel` to run the tests of TCP without the engine.
pub const PEER: &str = "BAREWIRE_TEST_PEER";

/// What counts the engine's connections of any state but TIME-WAIT, and must be 0 when nobody is connected.
///
/// Names of metrics without `barewire_`.
pub const EMPTY_WITHOUT_CONNECTIONS: &[&str] = &["tcp_connections", "tcp_handshakes", "tcp_held_chunks"];

/// Whether the kernel takes the engine's place.
///
/// # Panics
/// If [`PEER`] is set to anything else than `kernel` or `engine`.
#[must_use]
pub fn is_kernel() -> bool {
    match std::env::var(PEER).as_deref() {
        Err(_) | Ok("engine") => false,
        Ok("kernel") => true,
        Ok(other) => panic!("{PEER}={other}: neither kernel nor engine"),
    }
}

/// The four services at [`Lab::ENGINE`]. They end on drop.
#[derive(Debug)]
pub enum Server<'lab> {
    /// Of the engine.
    Engine(Engine<'lab>),
    /// Of the kernel that otherwise shares the engine's interface.
    Kernel(Services),
}

impl<'lab> Server<'lab> {
    /// Starts them, with these options of `barewire echo` more. Off-link peers are answered through [`Lab::PEER`].
    ///
    /// # Panics
    /// If they do not become ready.
    #[must_use]
    pub fn start(lab: &'lab Lab, options: &[&str]) -> Self {
        if is_kernel() {
            Self::Kernel(Services::start(own_engine(lab), Lab::ENGINE))
        } else {
            Self::engine(lab, options)
        }
    }

    /// Starts them for so many connections at a time.
    ///
    /// # Panics
    /// If they do not become ready.
    #[must_use]
    pub fn start_for(lab: &'lab Lab, connections: usize) -> Self {
        if is_kernel() {
            return Self::Kernel(Services::start_for(own_engine(lab), Lab::ENGINE, connections));
        }
        Self::engine(lab, &[])
    }

    fn engine(lab: &'lab Lab, options: &[&str]) -> Self {
        let [echo, discard, daytime, chargen] = Service::ALL.map(|service| service.port().to_string());
        let gateway = Lab::PEER.to_string();
        let always = [
            ["--tcp-port", &echo],
            ["--discard-port", &discard],
            ["--daytime-port", &daytime],
            ["--chargen-port", &chargen],
            ["--gateway", &gateway],
        ];
        Self::Engine(lab.start(&[always.as_flattened(), options].concat()))
    }

    /// Fails unless it echoes a line, says the time of day, and answers pings.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_alive(&self, lab: &Lab) {
        lab.ping(Lab::ENGINE, 3);
        let mut echo = connect(lab, Service::Echo.port()).expect("echo accepts");
        echo.write_all(b"still there?").unwrap();
        let mut said = [0; 12];
        echo.read_exact(&mut said).unwrap_or_else(|error| panic!("no echo: {error}"));
        assert_eq!(&said, b"still there?");
        let mut line = String::new();
        connect(lab, Service::Daytime.port()).expect("daytime accepts").read_to_string(&mut line).unwrap();
        assert!(line.ends_with('\n') && line.lines().count() == 1, "not a line with the time of day: {line:?}");
    }

    /// Waits until the engine holds no connections any more, by its metrics.
    ///
    /// # Panics
    /// If it goes on holding some.
    pub fn assert_empty(&self) {
        let Self::Engine(engine) = self else { return };
        engine.metrics_when("without connections", |metrics| {
            EMPTY_WITHOUT_CONNECTIONS.iter().all(|name| metrics.sum(name, &[]) == 0)
        });
    }
}

/// The ports that [`Server`] listens at.
#[must_use]
pub fn ports() -> BTreeSet<u16> {
    Service::ALL.map(Service::port).into()
}

/// Connects the peer's kernel to the engine, or who is in its place. Reading and writing give up after
/// [`PATIENCE`] without progress.
///
/// # Errors
/// As the kernel's.
pub fn connect(lab: &Lab, port: u16) -> io::Result<TcpStream> {
    let stream = lab.veth.far.enter(|| TcpStream::connect_timeout(&(Lab::ENGINE, port).into(), PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The command that connects the engine, or who is in its place, to a port of the peer's kernel, for the engine's
/// namespace: its standard input goes to the connection, and what comes goes to its standard output.
#[must_use]
pub fn connect_command(lab: &Lab, port: u16) -> Command {
    let (address, port) = (Lab::PEER.to_string(), port.to_string());
    if is_kernel() {
        own_engine(lab);
        let mut command = Command::new("nc");
        command.args(["-N", "-s", &Lab::ENGINE.to_string(), &address, &port]);
        return command;
    }
    let target = format!("{address}:{port}");
    Lab::command(&["connect", &target, "--interface", Veth::NEAR, "--address", Lab::ADDRESS])
}

/// Gives what is the engine's, its address and its gateway, to the kernel on its interface.
fn own_engine(lab: &Lab) -> &Namespace {
    lab.veth.near.ip(&["address", "replace", Lab::ADDRESS, "dev", Veth::NEAR]);
    lab.veth.near.ip(&["route", "replace", "default", "via", &Lab::PEER.to_string()]);
    &lab.veth.near
}

/// Gives the peer more addresses, beside [`Lab::PEER`].
///
/// # Panics
/// If there are more than fit into the lab's network.
#[must_use]
pub fn more_addresses(lab: &Lab, count: u8) -> Vec<Ipv4Addr> {
    assert!(count < 200, "{count} addresses from 10.0.0.10 on");
    let addresses = (10..10 + count).map(|last| Ipv4Addr::new(10, 0, 0, last));
    addresses
        .inspect(|address| drop(lab.veth.far.ip(&["address", "add", &format!("{address}/24"), "dev", Veth::FAR])))
        .collect()
}
