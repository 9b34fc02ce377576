//! What the operator asks for: the same options on the command line and in a TOML file.
//!
//! Flags win over the file. Everything is checked here for what can be checked without looking at the
//! machine; [`plan`](crate::engine::plan) does the rest.

mod routing;
mod tcp;
mod values;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use crate::apps::services::ServicePorts;
use crate::network::autoconf::Slaac;
use crate::network::route::Route;
use crate::stack::Marking;
use crate::transport::tcp::TcpConfig;
use crate::transport::udp::ChecksumPolicy;
use crate::wire::ethernet::{self, Mac};
use crate::wire::ip::IpAddress;
pub use routing::{RouteSource, StaticRoute};
pub use tcp::TcpLimits;
pub use values::{Cidr, CoreList, Driver, IdleMode, Mode, QueueSet, Size, SlaacMode, StaticNeighbor, Vlan};

/// Port of the echo service (RFC 862).
const ECHO_PORT: u16 = 7;
/// Entries of each ring. At 1 Mpps they bridge 8 ms; virtual machines stall for 3 to 6, in which rings of
/// 2,048 lose packets.
const RING_SIZE: u32 = 8192;
/// Largest ring: a million frames are 2 GiB of packet memory.
const MAX_RING_SIZE: u32 = 1 << 20;
/// Smallest ring: one burst.
const MIN_RING_SIZE: u32 = 64;

/// Options of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Network interface to serve on
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
    /// Address of the engine, with the prefix length of its link; one that no host on the link has, this
    /// one's kernel included. May be given several times
    #[arg(long, value_name = "CIDR")]
    pub address: Vec<Cidr>,
    /// Router for everything that is not on the link: one for IPv4, one for IPv6, which may be a link-local address
    #[arg(long, value_name = "ADDR")]
    #[serde(deserialize_with = "routing::one_or_many")]
    pub gateway: Vec<IpAddr>,
    /// Another router, for what has a prefix. May be given several times
    #[arg(long, value_name = "PREFIX via ADDR")]
    pub route: Vec<StaticRoute>,
    /// Where routes come from [default: configured]
    #[arg(long, value_enum)]
    pub routes: Option<RouteSource>,
    /// Multicast group to be in from the start on. May be given several times
    #[arg(long, value_name = "GROUP")]
    pub join: Vec<IpAddr>,
    /// Deliver UDP that is sent to broadcast addresses
    #[arg(long)]
    #[serde(default)]
    pub broadcast: bool,
    /// Take default routers, prefixes on the link and its MTU from IPv6 routers' advertisements
    #[arg(long)]
    #[serde(default)]
    pub accept_ra: bool,
    /// Make addresses of the prefixes that IPv6 routers advertise; `temporary`: and others that change every day, to
    /// connect from [default: off]
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "stable")]
    pub slaac: Option<SlaacMode>,
    /// 802.1Q VLAN id of the endpoint, or OUTER.INNER for QinQ. The first tag has the type 8100, or 88a8 where there are
    /// two; another one stands in front, as in 8100:5.7 [default: untagged]
    #[arg(long, value_name = "[TYPE:]ID[.INNER]")]
    pub vlan: Option<Vlan>,
    /// UDP port of the echo service [default: 7]
    #[arg(long, value_name = "PORT")]
    pub udp_port: Option<u16>,
    /// TCP port of the echo service [default: 7]
    #[arg(long, value_name = "PORT")]
    pub tcp_port: Option<u16>,
    /// UDP and TCP port of the discard service (RFC 863), such as 9 [default: not served]
    #[arg(long, value_name = "PORT")]
    pub discard_port: Option<u16>,
    /// UDP and TCP port of the daytime service (RFC 867), such as 13 [default: not served]
    #[arg(long, value_name = "PORT")]
    pub daytime_port: Option<u16>,
    /// UDP and TCP port of the character generator (RFC 864), such as 19. Over UDP its answers are longer than
    /// what it is sent, so keep it to links whose hosts are trusted [default: not served]
    #[arg(long, value_name = "PORT")]
    pub chargen_port: Option<u16>,
    /// Receive queues to serve: all, or numbers separated by commas [default: all]
    #[arg(long, value_name = "all|0,1")]
    pub queues: Option<QueueSet>,
    /// Cores to pin the workers to, one for each queue, separated by commas [default: the last ones]
    #[arg(long, value_name = "1,2")]
    pub cores: Option<CoreList>,
    /// How frames get from the NIC to the engine [default: auto]
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Who works the rings [default: rings]
    #[arg(long, value_enum)]
    pub driver: Option<Driver>,
    /// What a worker does when there is nothing to do [default: adaptive]
    #[arg(long, value_enum)]
    pub idle: Option<IdleMode>,
    /// Serve Prometheus metrics over HTTP at this address
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Entries of each ring: a power of two, and more than the NIC's own (`ethtool -g`) [default: 8192]
    #[arg(long, value_name = "N")]
    pub ring_size: Option<u32>,
    /// TCP connections at most, those in handshake included, for each worker [default: 65536]
    #[arg(long, value_name = "N")]
    pub connections: Option<u32>,
    /// TCP handshakes under way at most, for each worker; beyond that SYN cookies are used [default: 4096, or half of
    /// the connections if that is less]
    #[arg(long, value_name = "N")]
    pub backlog: Option<u32>,
    /// Bytes that a connection may have received and not read, and the same again for those sent and not
    /// acknowledged [default: 1M]
    #[arg(long, value_name = "SIZE")]
    pub tcp_buffer: Option<Size>,
    /// Packet memory for all connections of a worker together, on top of what its rings take. It is taken at
    /// start, and a segment takes a chunk of it: 2,048 bytes, or 4,096 in zero-copy mode [default: 64M]
    #[arg(long, value_name = "SIZE")]
    pub tcp_memory: Option<Size>,
    /// Ask a peer that has been silent for so long whether it still lives, and give the connection up if it does not
    /// answer nine times, as far apart but 75 s at most, or for as long as --user-timeout says. Without, nobody notices
    /// that an idle peer is gone, and its connection keeps its place [default: off]
    #[arg(long, value_name = "SECONDS")]
    pub keep_alive: Option<u32>,
    /// Give a connection up if what was sent is not acknowledged for so long; unless it is 300, also if keep-alives are
    /// not answered for so long, however many they are [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub user_timeout: Option<u32>,
    /// Ask for ECN (RFC 3168) on connections that are opened; where the peer asks it is agreed to anyway
    #[arg(long)]
    #[serde(default)]
    pub ecn: bool,
    /// How received UDP and TCP checksums are judged [default: accept-partial on virtual interfaces, else verify]
    #[arg(long, value_enum)]
    pub udp_checksum: Option<ChecksumPolicy>,
    /// Neighbor whose MAC address is not asked for, and that nobody on the link can change. May be given several times
    #[arg(long, value_name = "ADDR=MAC")]
    pub neighbor: Vec<StaticNeighbor>,
    /// Hops that packets may take [default: 64, and of IPv6 what routers say, where --accept-ra listens to them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub hop_limit: Option<u8>,
    /// Differentiated Services code point of packets, 0 to 63 [default: 0, and in answers that of the request]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..64))]
    pub dscp: Option<u8>,
    /// Spread TCP segments over the round trip, instead of sending them as soon as the windows allow
    #[arg(long)]
    #[serde(default)]
    pub pacing: bool,
    /// Send every TCP segment by itself. Otherwise, in copy and generic mode, the kernel is given those that lie behind each
    /// other as one that it, or the NIC, cuts up (generic segmentation offload, by a packet socket)
    #[arg(long)]
    #[serde(default)]
    pub no_gso: bool,
    /// Take packet memory from huge pages when there are any
    #[arg(long)]
    #[serde(default)]
    pub huge_pages: bool,
    /// File with any of these options, as TOML: `udp-port = 7`
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Options that are complete and make sense together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Network interface.
    pub interface: String,
    /// Addresses of the engine; at least one.
    pub addresses: Vec<IpNet>,
    /// Routers for everything that is not on the link; one a family at most.
    pub gateways: Vec<IpAddress>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// Whether the kernel's routes are followed too.
    pub route_source: RouteSource,
    /// Multicast groups that the endpoint is in from the start on.
    pub groups: Vec<IpAddress>,
    /// Whether UDP to broadcast addresses is delivered.
    pub broadcasts: bool,
    /// Whether routers' advertisements become routes.
    pub accept_ra: bool,
    /// Which addresses are made of the prefixes in them.
    pub slaac: Slaac,
    /// VLAN of the endpoint; `None`: untagged.
    pub vlan: Option<ethernet::Vlan>,
    /// Ports that are served.
    pub ports: ServicePorts,
    /// Bounds of TCP.
    pub tcp: TcpLimits,
    /// Ports that connections are opened from. No option changes them: a host that is nothing but a client may take more.
    pub source_ports: RangeInclusive<u16>,
    /// Receive queues.
    pub queues: QueueSet,
    /// Cores to pin workers to.
    pub cores: Option<Vec<usize>>,
    /// How frames get from the NIC to the engine.
    pub mode: Mode,
    /// Who works the rings.
    pub driver: Driver,
    /// What a worker does when there is nothing to do.
    pub idle: IdleMode,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Entries of each ring.
    pub ring_size: u32,
    /// Neighbors whose MAC addresses are given.
    pub neighbors: Vec<(IpAddress, Mac)>,
    /// How packets are marked.
    pub marking: Marking,
    /// How received UDP and TCP checksums are judged; `None`: as the interface's kind suggests.
    pub udp_checksum: Option<ChecksumPolicy>,
    /// Whether connections that are opened ask for ECN.
    pub ask_for_ecn: bool,
    /// Whether TCP segments are paced.
    pub pacing: bool,
    /// Whether the kernel, where it copies, is given TCP segments to cut up.
    pub gso: bool,
    /// Whether to try huge pages.
    pub huge_pages: bool,
}

/// Options that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path} ({source}): give --config the path of a TOML file")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Something that must be given is not.
    #[error("no {what}: give {flag}")]
    Missing {
        /// What.
        what: &'static str,
        /// By which flag.
        flag: &'static str,
    },
    /// An option's value cannot be.
    #[error("{flag} {value}: {why}")]
    Invalid {
        /// Which option.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        why: String,
    },
}

impl Options {
    /// Adds what the file named by `--config` says, checks everything, and fills in the defaults.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn resolve(mut self) -> Result<Settings, ConfigError> {
        if let Some(path) = self.config.take() {
            self = self.or(Self::read(&path)?);
        }
        self.settings()
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = path.to_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error| ConfigError::Parse { path, source: Box::new(error) }),
            Err(source) => Err(ConfigError::Read { path, source }),
        }
    }

    /// These options where they are given, the others elsewhere.
    fn or(self, other: Self) -> Self {
        Self {
            interface: self.interface.or(other.interface),
            address: if self.address.is_empty() { other.address } else { self.address },
            gateway: if self.gateway.is_empty() { other.gateway } else { self.gateway },
            route: if self.route.is_empty() { other.route } else { self.route },
            routes: self.routes.or(other.routes),
            join: if self.join.is_empty() { other.join } else { self.join },
            broadcast: self.broadcast || other.broadcast,
            accept_ra: self.accept_ra || other.accept_ra,
            slaac: self.slaac.or(other.slaac),
            vlan: self.vlan.or(other.vlan),
            udp_port: self.udp_port.or(other.udp_port),
            tcp_port: self.tcp_port.or(other.tcp_port),
            discard_port: self.discard_port.or(other.discard_port),
            daytime_port: self.daytime_port.or(other.daytime_port),
            chargen_port: self.chargen_port.or(other.chargen_port),
            queues: self.queues.or(other.queues),
            cores: self.cores.or(other.cores),
            mode: self.mode.or(other.mode),
            driver: self.driver.or(other.driver),
            idle: self.idle.or(other.idle),
            metrics: self.metrics.or(other.metrics),
            ring_size: self.ring_size.or(other.ring_size),
            connections: self.connections.or(other.connections),
            backlog: self.backlog.or(other.backlog),
            tcp_buffer: self.tcp_buffer.or(other.tcp_buffer),
            tcp_memory: self.tcp_memory.or(other.tcp_memory),
            keep_alive: self.keep_alive.or(other.keep_alive),
            user_timeout: self.user_timeout.or(other.user_timeout),
            ecn: self.ecn || other.ecn,
            neighbor: if self.neighbor.is_empty() { other.neighbor } else { self.neighbor },
            hop_limit: self.hop_limit.or(other.hop_limit),
            dscp: self.dscp.or(other.dscp),
            udp_checksum: self.udp_checksum.or(other.udp_checksum),
            pacing: self.pacing || other.pacing,
            no_gso: self.no_gso || other.no_gso,
            huge_pages: self.huge_pages || other.huge_pages,
            config: None,
        }
    }

    fn settings(self) -> Result<Settings, ConfigError> {
        let (ports, tcp, marking) = (self.ports()?, self.tcp_limits()?, self.marking()?);
        let interface = self.interface.ok_or(ConfigError::Missing { what: "interface", flag: "--interface IF" })?;
        let addresses: Vec<IpNet> = self.address.iter().map(|cidr| cidr.0).collect();
        if addresses.is_empty() {
            return Err(ConfigError::Missing { what: "address", flag: "--address CIDR, such as 10.0.0.2/24" });
        }
        for (at, address) in addresses.iter().enumerate() {
            if addresses[..at].iter().any(|earlier| earlier.addr() == address.addr()) {
                return Err(invalid("--address", address, "it is given twice"));
            }
        }
        routing::check_gateways(&addresses, &self.gateway)?;
        let routes = routing::routes(&addresses, &self.route)?;
        let groups = values::groups(&self.join)?;
        let ring_size = self.ring_size.unwrap_or(RING_SIZE);
        if !ring_size.is_power_of_two() || !(MIN_RING_SIZE..=MAX_RING_SIZE).contains(&ring_size) {
            let why = format!("a ring has a power of two from {MIN_RING_SIZE} to {MAX_RING_SIZE} entries");
            return Err(invalid("--ring-size", ring_size, why));
        }
        Ok(Settings {
            interface,
            addresses,
            gateways: self.gateway.into_iter().map(Into::into).collect(),
            routes,
            route_source: self.routes.unwrap_or_default(),
            groups,
            broadcasts: self.broadcast,
            accept_ra: self.accept_ra,
            slaac: self.slaac.unwrap_or_default().into(),
            vlan: self.vlan.map(|vlan| vlan.0),
            ports,
            tcp,
            source_ports: TcpConfig::default().source_ports,
            queues: self.queues.unwrap_or_default(),
            cores: self.cores.map(|cores| cores.0),
            mode: self.mode.unwrap_or_default(),
            driver: self.driver.unwrap_or_default(),
            idle: self.idle.unwrap_or_default(),
            metrics: self.metrics.map(|metrics| endpoint("--metrics", &metrics)).transpose()?,
            ring_size,
            neighbors: self.neighbor.iter().map(|neighbor| (neighbor.address.into(), neighbor.mac)).collect(),
            marking,
            udp_checksum: self.udp_checksum,
            ask_for_ecn: self.ecn,
            pacing: self.pacing,
            gso: !self.no_gso,
            huge_pages: self.huge_pages,
        })
    }

    fn marking(&self) -> Result<Marking, ConfigError> {
        if self.hop_limit == Some(0) {
            return Err(invalid("--hop-limit", 0, "no packet would leave; give 1 to 255"));
        }
        match self.dscp {
            Some(dscp) if dscp > 63 => Err(invalid("--dscp", dscp, "a code point has six bits; give 0 to 63")),
            dscp => Ok(Marking { hop_limit: self.hop_limit, dscp }),
        }
    }

    fn ports(&self) -> Result<ServicePorts, ConfigError> {
        let udp_echo = ("--udp-port", Some(self.udp_port.unwrap_or(ECHO_PORT)));
        let tcp_echo = ("--tcp-port", Some(self.tcp_port.unwrap_or(ECHO_PORT)));
        let discard = ("--discard-port", self.discard_port);
        let daytime = ("--daytime-port", self.daytime_port);
        let chargen = ("--chargen-port", self.chargen_port);
        for echo in [udp_echo, tcp_echo] {
            let all = [echo, discard, daytime, chargen];
            for (at, (flag, port)) in all.iter().enumerate() {
                let Some(port) = *port else { continue };
                if port == 0 {
                    return Err(invalid(flag, 0, "nobody can send to port 0; give 1 to 65535"));
                }
                if let Some((other, _)) = all[..at].iter().find(|(_, other)| *other == Some(port)) {
                    return Err(invalid(flag, port, format!("it is that of {other}; give each service its own")));
                }
            }
        }
        Ok(ServicePorts {
            udp_echo: udp_echo.1,
            tcp_echo: tcp_echo.1,
            discard: discard.1,
            daytime: daytime.1,
            chargen: chargen.1,
        })
    }
}

fn invalid(flag: &'static str, value: impl ToString, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { flag, value: value.to_string(), why: why.into() }
}

/// Resolves HOST:PORT.
///
/// # Errors
/// [`ConfigError::Invalid`] about `flag`.
pub fn endpoint(flag: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let why = "give HOST:PORT, such as 127.0.0.1:9100";
    let mut found = text.to_socket_addrs().map_err(|error| invalid(flag, text, format!("{error}; {why}")))?;
    found.next().ok_or_else(|| invalid(flag, text, why))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(toml: &str) -> Options {
        toml::from_str(toml).unwrap()
    }

    fn minimal() -> Options {
        parse("interface = 'bw0'\naddress = ['10.0.0.2/24']")
    }

    fn message(options: Options) -> String {
        options.settings().unwrap_err().to_string()
    }

    #[test]
    fn two_options_are_enough() {
        let settings = minimal().settings().unwrap();
        assert_eq!((settings.ports.udp_echo, settings.ports.tcp_echo, settings.ring_size), (Some(7), Some(7), 8192));
        assert_eq!((settings.ports.discard, settings.ports.daytime, settings.ports.chargen), (None, None, None));
        let TcpLimits { connections, backlog, buffer, memory, keep_alive, user_timeout } = settings.tcp;
        assert_eq!((connections, backlog, buffer, memory), (65_536, 4096, 1 << 20, 64 << 20));
        assert_eq!((keep_alive, user_timeout, settings.ask_for_ecn), (None, Duration::from_secs(300), false));
        for (connections, expected) in [(1, 1), (100, 50), (4096, 2048), (8192, 4096), (100_000, 4096)] {
            let few = minimal().or(parse(&format!("connections = {connections}")));
            assert_eq!(few.settings().unwrap().tcp.backlog, expected);
        }
        assert_eq!((settings.queues, settings.mode, settings.idle), (QueueSet::All, Mode::Auto, IdleMode::Adaptive));
        assert_eq!((settings.vlan, settings.source_ports), (None, TcpConfig::default().source_ports));
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = parse("udp-port = 1\naddress = ['10.0.0.3/24']");
        let file = parse("interface = 'bw0'\nudp-port = 2\nring-size = 64\naddress = ['10.0.0.2/24']");
        let settings = flags.or(file).settings().unwrap();
        assert_eq!((settings.ports.udp_echo, settings.ring_size, &settings.interface[..]), (Some(1), 64, "bw0"));
        assert_eq!(settings.addresses, ["10.0.0.3/24".parse().unwrap()]);
    }

    #[test]
    fn every_option_can_stand_in_a_file() {
        let options = parse(
            "interface = 'bw0'\naddress = ['10.0.0.2/24', '10.0.1.2/24']\ngateway = ['10.0.0.1']\nudp-port = 9\n\
             tcp-port = 9\nqueues = '0,2'\ncores = '1,3'\nmode = 'zero-copy'\ndriver = 'rings'\nidle = 'poll'\n\
             metrics = '127.0.0.1:9100'\nring-size = 4096\nudp-checksum = 'trust'\nhuge-pages = true\nno-gso = true\npacing = true\n\
             discard-port = 10\ndaytime-port = 13\nchargen-port = 19\nconnections = 100\nbacklog = 10\n\
             tcp-buffer = '64K'\ntcp-memory = '8M'\nkeep-alive = 60\nuser-timeout = 30\necn = true\nroute = ['192.0.2.0/24 via 10.0.1.1']\nroutes = 'kernel'\n\
             vlan = '5.7'\nneighbor = ['10.0.0.9=02:00:00:00:00:09']\nhop-limit = 32\ndscp = 46",
        );
        let settings = options.settings().unwrap();
        assert_eq!(settings.gateways, [IpAddress::v4([10, 0, 0, 1].into())]);
        let route = Route::via("192.0.2.0/24".parse().unwrap(), IpAddress::v4([10, 0, 1, 1].into()));
        assert_eq!((settings.routes, settings.route_source), (vec![route], RouteSource::Kernel));
        assert_eq!(settings.queues, QueueSet::Some(vec![0, 2]));
        assert_eq!(settings.cores, Some(vec![1, 3]));
        assert_eq!(settings.vlan, Some(ethernet::Vlan::new(5, Some(7))));
        let neighbor = (IpAddress::v4([10, 0, 0, 9].into()), Mac([2, 0, 0, 0, 0, 9]));
        assert_eq!(
            (&settings.neighbors[..], settings.marking),
            (&[neighbor][..], Marking { hop_limit: Some(32), dscp: Some(46) })
        );
        assert_eq!((settings.mode, settings.idle), (Mode::ZeroCopy, IdleMode::Poll));
        assert!(settings.huge_pages && settings.pacing && settings.ask_for_ecn && !settings.gso);
        let ServicePorts { udp_echo, tcp_echo, discard, daytime, chargen } = settings.ports;
        assert_eq!([udp_echo, tcp_echo, discard, daytime, chargen].map(Option::unwrap), [9, 9, 10, 13, 19]);
        let limits = TcpLimits {
            connections: 100,
            backlog: 10,
            buffer: 65_536,
            memory: 8 << 20,
            keep_alive: Some(Duration::from_secs(60)),
            user_timeout: Duration::from_secs(30),
        };
        assert_eq!(settings.tcp, limits);
    }

    #[test]
    fn a_misspelt_option_is_named() {
        let error = toml::from_str::<Options>("udp_port = 7").unwrap_err().to_string();
        assert!(error.contains("udp_port") && error.contains("udp-port"), "{error}");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named_with_its_flag() {
        assert!(message(Options::default()).contains("--interface"));
        assert!(message(parse("interface = 'bw0'")).contains("--address"));
        let with = |more: &str| message(minimal().or(parse(more)));
        assert!(with("udp-port = 0").contains("65535"));
        assert!(with("tcp-port = 0").contains("--tcp-port 0"));
        assert!(with("discard-port = 7").contains("--udp-port"));
        assert!(with("udp-port = 1\nchargen-port = 7").contains("--tcp-port"));
        assert!(with("discard-port = 9\ndaytime-port = 9").contains("--discard-port"));
        assert!(with("connections = 0").contains("give 1 to 4194304"));
        assert!(with("connections = 10\nbacklog = 11").contains("give 1 to 10"));
        assert!(with("tcp-buffer = '1K'").contains("--tcp-buffer 1K: give 4K to 1G"));
        assert!(with("tcp-memory = '2048G'").contains("give 256K to 1024G"));
        assert!(with("keep-alive = 0").contains("--keep-alive 0: give 1 to 32767 seconds, or leave"));
        assert!(with("keep-alive = 32768").contains("give 1 to 32767 seconds"));
        assert!(with("user-timeout = 0").contains("--user-timeout 0: give 1 to 2147483 seconds"));
        assert!(with("user-timeout = 2147484").contains("give 1 to 2147483 seconds"));
        assert!(with("ring-size = 1000").contains("power of two"));
        assert!(with("gateway = '10.1.0.1'").contains("on the link"));
        assert!(with("gateway = '10.0.0.2'").contains("on the link"), "ourselves");
        assert!(with("gateway = 'fe80::1'").contains("one more --address"));
        assert!(with("gateway = ['10.0.0.1', '10.0.0.3']").contains("second one for IPv4"));
        assert!(with("route = ['192.0.2.0/24 via 10.1.0.1']").contains("--route 192.0.2.0/24 via 10.1.0.1: a router"));
        let twice = "route = ['192.0.2.0/24 via 10.0.0.1', '192.0.2.0/24 via 10.0.0.3']";
        assert!(with(twice).contains("to that prefix already"));
        assert!(with("metrics = 'nowhere'").contains("HOST:PORT"));
        let twice = parse("interface = 'bw0'\naddress = ['10.0.0.2/24', '10.0.0.2/16']");
        assert!(message(twice).contains("twice"));
    }
}
