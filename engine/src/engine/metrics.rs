//! Every counter, as Prometheus text (OpenMetrics 1.0).

use std::fmt;

use super::Ready;
use super::housekeeping::{Report, SharedReport};
use super::watch::Counts;
use crate::base::{DropReason, UnsentReason};
use crate::counters::StackCounters;
use crate::device::DeviceCounters;
use crate::steer::{Steer, Verdict};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// The page as of now.
pub(super) fn page(ready: &Ready, steer: &Steer, reports: &[SharedReport], link: Counts) -> String {
    let snapshot = Snapshot {
        ready: ready.clone(),
        link,
        verdicts: steer.verdicts().unwrap_or_default(),
        reports: reports.iter().filter_map(|report| report.lock().ok()?.clone()).collect(),
    };
    let mut registry = Registry::with_prefix("barewire");
    registry.register_collector(Box::new(snapshot));
    let mut page = String::new();
    if let Err(error) = text::encode(&mut page, &registry) {
        tracing::error!("the metrics page cannot be written: {error}");
    }
    page
}

#[derive(Debug)]
struct Snapshot {
    ready: Ready,
    link: Counts,
    verdicts: [u64; Verdict::COUNT],
    reports: Vec<Report>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("interface", &self.ready.interface),
            ("mode", self.ready.mode()),
            ("driver", self.ready.driver.name()),
            ("memory", self.ready.backing.name()),
            ("frames", if self.ready.multi_buffer { "multi-buffer" } else { "single-buffer" }),
        ];
        family(&mut encoder, "info", "What runs, and how", ConstGauge::new(1), [(labels, 1)].into_iter())?;
        self.encode_link(&mut encoder)?;
        let verdicts =
            Verdict::ALL.iter().zip(self.verdicts).map(|(verdict, frames)| ([("verdict", verdict.name())], frames));
        counter(&mut encoder, "xdp_verdicts", "Frames by verdict of the XDP program", verdicts)?;
        self.encode_reasons(&mut encoder)?;
        self.encode_fields(&mut encoder, stack_fields)?;
        self.encode_tcp(&mut encoder)?;
        self.encode_fields(&mut encoder, device_fields)?;
        self.encode_gauges(&mut encoder)
    }
}

impl Snapshot {
    fn encode_link(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Counts { carrier, carrier_changes, kernel_conflicts, overruns } = self.link;
        let of_link = |value| std::iter::once(([("interface", self.ready.interface.as_str())], value));
        let gauge = ConstGauge::new(0);
        family(encoder, "carrier", "Whether the link has a carrier", gauge, of_link(carrier.into()))?;
        counter(encoder, "carrier_changes", "Times that the carrier went or came", of_link(carrier_changes))?;
        let help = "Times that the kernel got an address of the engine's";
        counter(encoder, "kernel_address_conflicts", help, of_link(kernel_conflicts))?;
        let help = "Times that the kernel told more of its network than could be listened to";
        counter(encoder, "netlink_overruns", help, of_link(overruns))
    }

    fn encode_reasons(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let queues: Vec<String> = self.queues();
        let by_queue = || queues.iter().zip(&self.reports);
        let drops = by_queue().flat_map(|(queue, report)| {
            let reasons = DropReason::ALL.iter().zip(report.stack.drops);
            reasons.map(move |(reason, frames)| ([("queue", queue.as_str()), ("reason", reason.name())], frames))
        });
        counter(encoder, "drops", "Received frames dropped by the stack, by reason", drops)?;
        let unsent = by_queue().flat_map(|(queue, report)| {
            let reasons = UnsentReason::ALL.iter().zip(report.stack.unsent);
            reasons.map(move |(reason, frames)| ([("queue", queue.as_str()), ("reason", reason.name())], frames))
        });
        counter(encoder, "unsent", "Frames that the stack built and that were not sent, by reason", unsent)
    }

    /// Encodes the counters that `fields` lists, one family each.
    fn encode_fields<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        fields: fn(&Report) -> [(&'static str, &'static str, u64); N],
    ) -> fmt::Result {
        let queues = self.queues();
        let rows: Vec<_> = self.reports.iter().map(fields).collect();
        for at in 0..N {
            let Some((name, help, _)) = rows.first().map(|row| row[at]) else { return Ok(()) };
            let values = queues.iter().zip(&rows).map(|(queue, row)| ([("queue", queue.as_str())], row[at].2));
            counter(encoder, name, help, values)?;
        }
        Ok(())
    }

    fn encode_tcp(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let queues = self.queues();
        let mut rows: Vec<_> = self.reports.iter().map(|report| report.tcp.counters.each()).collect();
        loop {
            let counters: Vec<_> = rows.iter_mut().filter_map(Iterator::next).collect();
            let Some(&(name, help, _)) = counters.first() else { return Ok(()) };
            // Helps are the counters' comments; those of this page have no full stop.
            let help = help.trim().trim_end_matches('.');
            let values = queues.iter().zip(&counters);
            let values = values.map(|(queue, (_, _, value))| ([("queue", queue.as_str())], *value));
            counter(encoder, &format!("tcp_{name}"), help, values)?;
        }
    }

    fn encode_gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let queues = self.queues();
        type Gauge = (&'static str, &'static str, fn(&Report) -> u64);
        let gauges: [Gauge; 10] = [
            ("core", "Core that the worker is pinned to", |report| report.placement.core as u64),
            ("chunks", "Chunks of packet memory", |report| report.chunks.into()),
            ("free_chunks", "Chunks that nobody uses", |report| report.free_chunks.into()),
            ("waiting_frames", "Frames that wait for a neighbor", |report| report.waiting.into()),
            ("held_fragments", "Received fragments of datagrams that are not whole yet", |report| {
                report.fragments.into()
            }),
            ("fragment_chunks", "Chunks that fragments wait in for the rest of their datagrams", |report| {
                report.fragment_chunks.into()
            }),
            ("tcp_connections", "TCP connections from SYN-SENT or ESTABLISHED to the last acknowledgment", |report| {
                report.tcp.connections.into()
            }),
            ("tcp_handshakes", "TCP connections in SYN-RECEIVED", |report| report.tcp.handshakes.into()),
            ("tcp_time_wait", "TCP connections in TIME-WAIT", |report| report.tcp.time_wait.into()),
            ("tcp_held_chunks", "Chunks that TCP connections hold", |report| report.tcp.held_chunks.into()),
        ];
        for (name, help, value) in gauges {
            let values = queues.iter().zip(&self.reports);
            let values = values.map(|(queue, report)| ([("queue", queue.as_str())], value(report)));
            family(encoder, name, help, ConstGauge::new(0), values)?;
        }
        Ok(())
    }

    fn queues(&self) -> Vec<String> {
        self.reports.iter().map(|report| report.placement.queue.to_string()).collect()
    }
}

fn counter<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: ConstGauge<i64>,
    values: impl Iterator<Item = (L, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, kind.metric_type())?;
    for (labels, value) in values {
        ConstGauge::new(value.cast_signed()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The stack's counters but for the reasons, with names. Taking the struct apart makes a new field that is not
/// listed an error.
fn stack_fields(report: &Report) -> [(&'static str, &'static str, u64); 20] {
    let StackCounters {
        received,
        delivered,
        drops: _,
        originated,
        unsent: _,
        udp_delivered,
        udp_originated,
        icmp_echoes_originated,
        icmp_delivered,
        datagrams_reassembled,
        fragments_overlapping,
        datagrams_fragmented,
        icmp_echoes_answered,
        icmp_errors_originated,
        icmp_errors_suppressed,
        arp_requests_originated,
        arp_requests_answered,
        ndp_messages_originated,
        ndp_solicitations_answered,
        group_reports_originated,
        group_queries_heard,
        address_conflicts,
    } = report.stack.clone();
    [
        ("received", "Frames that the stack took from the device", received),
        ("delivered", "Frames that served their purpose", delivered),
        ("originated", "Frames that the stack built, answers included", originated),
        ("udp_delivered", "Datagrams given to the application", udp_delivered),
        ("udp_originated", "Datagrams sent for the application", udp_originated),
        ("icmp_echoes_originated", "Echo requests sent for the application", icmp_echoes_originated),
        ("icmp_delivered", "Echo replies and errors that the application waited for", icmp_delivered),
        ("datagrams_reassembled", "Datagrams put together of fragments", datagrams_reassembled),
        ("fragments_overlapping", "Fragments of IPv4 that overlapped others of their datagram", fragments_overlapping),
        ("datagrams_fragmented", "Datagrams sent in fragments", datagrams_fragmented),
        ("icmp_echoes_answered", "Echo requests answered", icmp_echoes_answered),
        ("icmp_errors_originated", "ICMP errors sent", icmp_errors_originated),
        ("icmp_errors_suppressed", "ICMP errors that the rate limit held back", icmp_errors_suppressed),
        ("arp_requests_originated", "ARP requests sent, probes and announcements included", arp_requests_originated),
        ("arp_requests_answered", "ARP requests answered", arp_requests_answered),
        ("ndp_messages_originated", "Messages of neighbor discovery sent that answer nothing", ndp_messages_originated),
        ("ndp_solicitations_answered", "Neighbor solicitations answered", ndp_solicitations_answered),
        ("group_reports_originated", "Reports of multicast groups sent to routers", group_reports_originated),
        ("group_queries_heard", "Queries of routers for members of groups", group_queries_heard),
        ("address_conflicts", "Claims of our addresses by other hosts", address_conflicts),
    ]
}

/// The device's counters with names, as [`stack_fields`].
fn device_fields(report: &Report) -> [(&'static str, &'static str, u64); 20] {
    let DeviceCounters {
        received,
        transmitted,
        completed,
        invalid_descriptors,
        overlong,
        kicks,
        kick_errors,
        fill_kicks,
        gso_calls,
        gso_frames,
        gso_errors,
        unsendable,
        moved,
        fill_starved,
        kernel_rx_dropped,
        kernel_rx_invalid_descs,
        kernel_tx_invalid_descs,
        kernel_rx_ring_full,
        kernel_rx_fill_ring_empty,
        kernel_tx_ring_empty,
    } = report.device;
    [
        ("ring_received", "Frames taken out of the receive ring", received),
        ("ring_transmitted", "Frames put into the transmit ring", transmitted),
        ("ring_completed", "Frames that the kernel completed", completed),
        ("ring_invalid_descriptors", "Descriptors of memory that was not the kernel's to return", invalid_descriptors),
        ("ring_overlong", "Frames received in more chunks than any can be in", overlong),
        ("ring_kicks", "System calls to start transmission", kicks),
        ("ring_kick_errors", "Such calls refused, other than by \"again\"", kick_errors),
        ("ring_fill_kicks", "System calls to make the kernel look at the fill ring", fill_kicks),
        ("gso_calls", "System calls that gave the kernel segments to cut up", gso_calls),
        ("gso_frames", "Frames that those were made of, beside the transmit ring", gso_frames),
        ("gso_errors", "Such calls refused, other than for lack of room", gso_errors),
        ("ring_unsendable", "Frames that no descriptors can describe", unsendable),
        ("ring_moved", "Frames moved within their chunk for the sake of the driver", moved),
        ("ring_fill_starved", "Times that there was no chunk to receive into", fill_starved),
        ("xdp_rx_dropped", "xdp_statistics.rx_dropped", kernel_rx_dropped),
        ("xdp_rx_invalid_descs", "xdp_statistics.rx_invalid_descs", kernel_rx_invalid_descs),
        ("xdp_tx_invalid_descs", "xdp_statistics.tx_invalid_descs", kernel_tx_invalid_descs),
        ("xdp_rx_ring_full", "xdp_statistics.rx_ring_full", kernel_rx_ring_full),
        ("xdp_rx_fill_ring_empty_descs", "xdp_statistics.rx_fill_ring_empty_descs", kernel_rx_fill_ring_empty),
        ("xdp_tx_ring_empty_descs", "xdp_statistics.tx_ring_empty_descs", kernel_tx_ring_empty),
    ]
}
