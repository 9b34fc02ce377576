//! Where packets are lost outside the server's program and outside the receiver: counters of interfaces,
//! of the kernel's UDP and TCP, and of a server's metrics page, read before and after a run.
//!
//! All are looked up by name and compared as text, because every driver names its counters itself: what
//! grew and has "drop", "err", "full", "empty", "miss", "lost", "retrans", "timeout" or "overflow" in its name
//! is told.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Error, Result};

/// Names and values of counters.
pub(crate) type Counters = BTreeMap<String, u64>;

/// Which counters tell of losses.
const TELLTALES: [&str; 9] = ["drop", "err", "full", "empty", "miss", "lost", "retrans", "timeout", "overflow"];

/// Counters that grew between two readings and tell of losses, with their growth.
pub(crate) fn grown(before: &Counters, after: &Counters) -> Counters {
    // That the kernel found nothing to send is no loss.
    let harmless = |name: &str| name.contains("tx_ring_empty");
    let telltale =
        |name: &str| !harmless(name) && TELLTALES.iter().any(|part| name.to_ascii_lowercase().contains(part));
    after
        .iter()
        .map(|(name, value)| (name.clone(), value.saturating_sub(*before.get(name).unwrap_or(&0))))
        .filter(|(name, growth)| *growth > 0 && telltale(name))
        .collect()
}

/// The same, place by place; places where nothing grew are left out.
pub(crate) fn grown_by_place(
    before: &BTreeMap<String, Counters>,
    after: &BTreeMap<String, Counters>,
) -> BTreeMap<String, Counters> {
    let none = Counters::new();
    let places = after.iter().map(|(place, now)| (place.clone(), grown(before.get(place).unwrap_or(&none), now)));
    places.filter(|(_, counters)| !counters.is_empty()).collect()
}

/// Queue counters of an interface by `ethtool -S`, run with `prefix` (such as `ip netns exec NAME`). Empty
/// where there is no ethtool or the driver has none.
pub(crate) fn of_interface(prefix: &[&str], interface: &str) -> Counters {
    let mut words = prefix.iter().copied().chain(["ethtool", "-S", interface]);
    let Some(output) = words.next().and_then(|first| Command::new(first).args(words).output().ok()) else {
        return Counters::new();
    };
    parse_ethtool(&String::from_utf8_lossy(&output.stdout))
}

/// Counters of UDP in this thread's network namespace.
pub(crate) fn of_kernel_udp() -> Counters {
    of_kernel("snmp", "Udp")
}

/// Counters of TCP in this thread's network namespace.
pub(crate) fn of_kernel_tcp() -> Counters {
    let mut counters = of_kernel("snmp", "Tcp");
    counters.extend(of_kernel("netstat", "TcpExt"));
    counters
}

fn of_kernel(file: &str, protocol: &str) -> Counters {
    let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    parse_snmp(&text, protocol)
}

/// Counters of a Prometheus page, such as the one of `barewire echo --metrics`.
///
/// # Errors
/// The page cannot be read.
pub(crate) fn of_metrics(url: &str) -> Result<Counters> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let failed = || format!("cannot read the server's metrics at {url}");
    let address = host.to_socket_addrs().context(failed)?.next().ok_or_else(|| Error::run(failed()))?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).context(failed)?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).context(failed)?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").context(failed)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context(failed)?;
    Ok(of_page(page.split_once("\r\n\r\n").map_or("", |(_, body)| body)))
}

/// Lines such as `     rx_queue_0_drops: 12`.
fn parse_ethtool(text: &str) -> Counters {
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(':')?;
        Some((name.trim().to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Two lines, such as `Udp: NAME...` and `Udp: VALUE...`.
fn parse_snmp(text: &str, protocol: &str) -> Counters {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Counters::new() };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.filter_map(|(name, value)| Some((format!("{protocol}{name}"), value.parse().ok()?))).collect()
}

/// Counters of such a page: lines such as `name{label="x"} 12`.
pub(crate) fn of_page(text: &str) -> Counters {
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        let value: f64 = value.parse().ok()?;
        Some((name.to_owned(), value as u64))
    };
    text.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_that_grew_and_tell_of_losses_are_told() {
        let before = parse_ethtool("NIC statistics:\n     rx_queue_0_drops: 3\n     rx_queue_0_xdp_packets: 9\n");
        let after = parse_ethtool("     rx_queue_0_drops: 5\n     rx_queue_0_xdp_packets: 99\n     tx_errors: 0\n");
        assert_eq!(grown(&before, &after), Counters::from([("rx_queue_0_drops".to_owned(), 2)]));
    }

    #[test]
    fn a_protocols_line_is_read_by_its_names() {
        let text = "Ip: A\nIp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 10 4\nUdpLite: X\nUdpLite: 1\n";
        assert_eq!(parse_snmp(text, "Udp")["UdpRcvbufErrors"], 4);
    }

    #[test]
    fn a_metrics_page_is_read_with_its_labels() {
        let page = "# HELP x y\nxdp_rx_ring_full_total{queue=\"0\"} 7\nup 1\n# EOF\n";
        assert_eq!(of_page(page)["xdp_rx_ring_full_total{queue=\"0\"}"], 7);
    }
}
