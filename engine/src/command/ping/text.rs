//! Pings in words and in JSON.

use std::net::IpAddr;
use std::time::Duration;

use barewire::app::IcmpError;
use barewire::apps::ping::{Damage, Event, PingConfig, Reply, Statistics};
use barewire::base::UnsentReason;

use crate::command::host::ms;

/// Replies and errors that `--json` tells of at most, of each: a day of a request every tenth of a second. More are
/// counted.
const MOST: usize = 1 << 20;

/// What an event is printed as.
pub(super) fn line(config: &PingConfig, event: &Event) -> String {
    match *event {
        Event::Started { source } => {
            format!("PING {} from {source}: {} data bytes", config.destination, config.size)
        }
        Event::Reply(ref reply) => reply_line(reply),
        Event::Error { source, sequence, error } => {
            format!("From {source} icmp_seq={sequence} {}", describe(error, config.destination))
        }
        Event::Unsent { sequence, reason, mtu } => format!("icmp_seq={sequence} {}", unsent(reason, mtu)),
    }
}

fn unsent(reason: UnsentReason, mtu: u16) -> String {
    match reason {
        UnsentReason::TooLong => format!("not sent: message too long, mtu = {mtu}"),
        reason => format!("not sent: {}", reason.name()),
    }
}

fn reply_line(reply: &Reply) -> String {
    let Reply { source, sequence, len_bytes, hop_limit, round_trip, duplicate, damage } = reply;
    let time = time(*round_trip);
    let mut line = format!("{len_bytes} bytes from {source}: icmp_seq={sequence} ttl={hop_limit} time={time} ms");
    if *duplicate {
        line += " (DUP!)";
    }
    match damage {
        None => {}
        Some(Damage::Length(len)) => line += &format!(" (DAMAGED: {len} data bytes)"),
        Some(Damage::Byte { at, wanted, found }) => {
            line += &format!(" (DAMAGED: data byte #{at} should be 0x{wanted:02x} but is 0x{found:02x})");
        }
    }
    line
}

/// Milliseconds, with as many decimals as mean something to a person: three digits at least.
fn time(time: Duration) -> String {
    let ms = ms(time);
    match ms {
        ..1.0 => format!("{ms:.3}"),
        ..10.0 => format!("{ms:.2}"),
        ..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// An error in the words of `ping`; the destination's version of IP says which codes they are.
fn describe(error: IcmpError, destination: IpAddr) -> String {
    let is_v4 = destination.is_ipv4();
    match error {
        IcmpError::Unreachable { code } => match (unreachable(code, is_v4), is_v4) {
            (Some(what), true) => format!("Destination {what}"),
            (Some(what), false) => format!("Destination unreachable: {what}"),
            (None, _) => format!("Destination unreachable: code {code}"),
        },
        IcmpError::TooLong { mtu } if is_v4 => format!("frag needed, mtu = {mtu}"),
        IcmpError::TooLong { mtu } => format!("packet too big, mtu = {mtu}"),
        IcmpError::TimeExceeded { code: 0 } if is_v4 => "Time to live exceeded".into(),
        IcmpError::TimeExceeded { code: 0 } => "Time exceeded: hop limit".into(),
        IcmpError::TimeExceeded { .. } => "Time exceeded: fragments missing".into(),
        IcmpError::ParameterProblem { code, pointer } => format!("Parameter problem: code {code}, pointer = {pointer}"),
    }
}

/// RFC 1122, section 3.2.2.1 and RFC 1812, section 5.2.7.1; RFC 4443, section 3.1.
const fn unreachable(code: u8, is_v4: bool) -> Option<&'static str> {
    Some(match (is_v4, code) {
        (true, 0) => "Net Unreachable",
        (true, 1) => "Host Unreachable",
        (true, 2) => "Protocol Unreachable",
        (true, 3) => "Port Unreachable",
        (true, 5) => "Source Route Failed",
        (true, 6) => "Net Unknown",
        (true, 7) => "Host Unknown",
        (true, 9) => "Net Prohibited",
        (true, 10) => "Host Prohibited",
        (true, 11) => "Net Unreachable for this Type of Service",
        (true, 12) => "Host Unreachable for this Type of Service",
        (true, 13) => "Communication Prohibited",
        (false, 0) => "No route",
        (false, 1) => "Administratively prohibited",
        (false, 2) => "Beyond scope of source address",
        (false, 3) => "Address unreachable",
        (false, 4) => "Port unreachable",
        (false, 5) => "Source address failed policy",
        (false, 6) => "Reject route",
        _ => return None,
    })
}

/// The block at the end.
pub(super) fn summary(config: &PingConfig, statistics: &Statistics) -> String {
    let Statistics { transmitted, received, duplicates, errors, damaged, .. } = *statistics;
    let mut text = format!(
        "\n--- {} ping statistics ---\n{transmitted} packets transmitted, {received} received",
        config.destination
    );
    for (count, what) in [(duplicates, "duplicates"), (errors, "errors"), (damaged, "damaged")] {
        if count > 0 {
            text += &format!(", +{count} {what}");
        }
    }
    let loss = percent(statistics.loss_percent());
    text += &format!(", {loss}% packet loss, time {:.0}ms", ms(statistics.span()));
    if let Some(times) = statistics.round_trips() {
        let [min, avg, max, mdev] = [times.min, times.avg, times.max, times.mdev].map(ms);
        text += &format!("\nrtt min/avg/max/mdev = {min:.3}/{avg:.3}/{max:.3}/{mdev:.3} ms");
    }
    text
}

/// With four decimals at most.
fn percent(percent: f64) -> String {
    let text = format!("{percent:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What `--json` tells of.
#[derive(Default)]
pub(super) struct Record {
    source: Option<IpAddr>,
    replies: Vec<Reply>,
    /// Errors and what was not sent.
    errors: Vec<Event>,
    left_out: u64,
}

impl Record {
    /// Keeps an event, if it will be told of.
    pub(super) fn note(&mut self, event: &Event, keep: bool) {
        match event {
            Event::Started { source } => self.source = Some(*source),
            _ if !keep => {}
            Event::Reply(reply) if self.replies.len() < MOST => self.replies.push(reply.clone()),
            Event::Error { .. } | Event::Unsent { .. } if self.errors.len() < MOST => self.errors.push(event.clone()),
            _ => self.left_out += 1,
        }
    }

    /// The object. No text in it has a character that JSON would want escaped.
    pub(super) fn json(&self, config: &PingConfig, statistics: &Statistics) -> String {
        let source = self.source.map_or("null".into(), |source| format!("\"{source}\""));
        let replies: Vec<String> = self.replies.iter().map(reply_json).collect();
        let errors: Vec<String> = self.errors.iter().map(|event| error_json(config, event)).collect();
        format!(
            "{{\"destination\":\"{}\",\"source\":{source},\"size_bytes\":{},\"replies\":[{}],\"errors\":[{}],\
             \"left_out\":{},\"statistics\":{}}}",
            config.destination,
            config.size,
            replies.join(","),
            errors.join(","),
            self.left_out,
            statistics_json(statistics),
        )
    }
}

fn reply_json(reply: &Reply) -> String {
    let Reply { source, sequence, len_bytes, hop_limit, round_trip, duplicate, damage } = reply;
    let damage = match damage {
        None => "null".to_owned(),
        Some(Damage::Length(len)) => format!("{{\"data_bytes\":{len}}}"),
        Some(Damage::Byte { at, wanted, found }) => {
            format!("{{\"at_byte\":{at},\"wanted\":{wanted},\"found\":{found}}}")
        }
    };
    format!(
        "{{\"icmp_seq\":{sequence},\"source\":\"{source}\",\"bytes\":{len_bytes},\"ttl\":{hop_limit},\
         \"time_ms\":{:.6},\"duplicate\":{duplicate},\"damage\":{damage}}}",
        ms(*round_trip)
    )
}

fn error_json(config: &PingConfig, event: &Event) -> String {
    let (sequence, source, what, mtu) = match *event {
        Event::Error { source, sequence, error } => {
            let mtu = if let IcmpError::TooLong { mtu } = error { Some(mtu) } else { None };
            (sequence, format!("\"{source}\""), describe(error, config.destination), mtu)
        }
        Event::Unsent { sequence, reason, mtu } => {
            let told = (reason == UnsentReason::TooLong).then_some(u32::from(mtu));
            (sequence, "null".into(), unsent(reason, mtu), told)
        }
        Event::Started { .. } | Event::Reply(_) => return "null".into(),
    };
    let mtu = mtu.map_or("null".into(), |mtu| mtu.to_string());
    format!("{{\"icmp_seq\":{sequence},\"source\":{source},\"error\":\"{what}\",\"mtu_bytes\":{mtu}}}")
}

fn statistics_json(statistics: &Statistics) -> String {
    let Statistics { transmitted, received, duplicates, errors, damaged, .. } = *statistics;
    let times = statistics.round_trips().map_or("null".into(), |times| {
        let [min, avg, max, mdev] = [times.min, times.avg, times.max, times.mdev].map(ms);
        format!("{{\"min\":{min:.6},\"avg\":{avg:.6},\"max\":{max:.6},\"mdev\":{mdev:.6}}}")
    });
    format!(
        "{{\"transmitted\":{transmitted},\"received\":{received},\"duplicates\":{duplicates},\"errors\":{errors},\
         \"damaged\":{damaged},\"loss_percent\":{:.4},\"time_ms\":{:.3},\"rtt_ms\":{times}}}",
        statistics.loss_percent(),
        ms(statistics.span())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(micros: u64) -> Reply {
        Reply {
            source: [10, 0, 0, 1].into(),
            sequence: 1,
            len_bytes: 64,
            hop_limit: 64,
            round_trip: Duration::from_micros(micros),
            duplicate: false,
            damage: None,
        }
    }

    #[test]
    fn a_reply_reads_as_that_of_ping() {
        assert_eq!(reply_line(&reply(123)), "64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.123 ms");
        assert_eq!([1234, 12_345, 123_456].map(|us| time(Duration::from_micros(us))), ["1.23", "12.3", "123"]);
        let damage = Some(Damage::Byte { at: 17, wanted: 0x11, found: 0x12 });
        let line = reply_line(&Reply { duplicate: true, damage, ..reply(1) });
        assert!(line.ends_with("(DUP!) (DAMAGED: data byte #17 should be 0x11 but is 0x12)"), "{line}");
    }

    #[test]
    fn errors_read_by_the_version_of_ip() {
        let unreachable = IcmpError::Unreachable { code: 1 };
        assert_eq!(describe(unreachable, [10, 0, 0, 1].into()), "Destination Host Unreachable");
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(describe(unreachable, v6), "Destination unreachable: Administratively prohibited");
        let too_long = IcmpError::TooLong { mtu: 1400 };
        assert_eq!(describe(too_long, v6), "packet too big, mtu = 1400");
        assert_eq!(describe(too_long, [10, 0, 0, 1].into()), "frag needed, mtu = 1400");
    }

    #[test]
    fn loss_has_no_zeros_behind_it() {
        assert_eq!([0.0, 100.0, 100.0 / 3.0, 12.5].map(percent), ["0", "100", "33.3333", "12.5"]);
    }
}
