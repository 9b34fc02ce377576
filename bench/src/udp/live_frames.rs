//! The sender that runs inside the kernel: `BPF_PROG_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES`.
//!
//! ```text
//!  this thread        kernel, on this core                                    server's core
//!  BPF_PROG_RUN ----> generate.bpf.c: wait for the due time, stamp, XDP_TX
//!                       -> peer's receive path (softirq) -> ring or socket -> server
//!                                     receive.bpf.c: count, time, drop  <------ its transmit path
//! ```
//!
//! One system call sends for the length of a whole trial, because each call builds a page pool. The
//! program paces itself; a timer's signal ends the call.

use std::net::IpAddr;
use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, Object};

use super::frame::{self, Path};
use super::receiver::{Hook, Receiver, words};
use super::trial::{Attack, AttackKind, Offer, Outcome};
use crate::arrivals::Adherence;
use crate::bpf;
use crate::error::{Context, Error, Result};
use crate::histogram::{BUCKETS, Latency};
use crate::interface::Interface;
use crate::netns::Family;
use crate::signals::{self, Alarm, monotonic_ns};

/// Time for the first system call before the first frame is due.
const LEAD: Duration = Duration::from_millis(1);
/// Sender and receiver on one interface.
#[derive(Debug)]
pub(crate) struct LiveFrames {
    generate: Object,
    receiver: Receiver,
    ifindex: u32,
    path: Path,
    flows: u16,
    trial: u32,
}

/// What the BPF program is told, then what it counted: `struct plan` in bpf/generate.bpf.c.
#[derive(Debug, Default)]
struct Plan {
    start_ns: u64,
    interval_q10: u64,
    limit: u64,
    end_ns: u64,
    flows: u16,
    attack: Option<Attack>,
}

/// Words of the longest headers in `struct plan`, of the whole, and where its counters begin.
const HEADER_WORDS: usize = 9;
const PLAN_WORDS: usize = 26;
const COUNTERS: usize = 23;

impl LiveFrames {
    /// Loads sender and receiver, and attaches the receiver to the interface.
    ///
    /// # Errors
    /// What [`Receiver::attach`] says.
    pub(crate) fn open(interface: &Interface, path: Path, hook: Hook) -> Result<Self> {
        let generate = bpf::load(bpf::GENERATE)?;
        let receiver = Receiver::attach(interface.index, hook)?;
        // Trials of another process, whose replies may still be on their way, should have other numbers.
        let trial = (monotonic_ns() >> 10) as u32;
        Ok(Self { generate, receiver, ifindex: interface.index, path, flows: 1, trial })
    }

    /// The same, with requests from so many ports in turn, the path's first.
    pub(crate) fn with_flows(self, flows: u16) -> Self {
        Self { flows, ..self }
    }

    /// Makes the source known where no kernel answers for it: on a VLAN.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn introduce(&self) -> Result<()> {
        if self.path.vlan.is_none() {
            return Ok(());
        }
        let (frame, request) =
            (frame::introduction(&self.path), frame::request(&self.path, frame::default_len(Family::Ipv4)));
        plan_attack(&self.generate, &self.path, Attack { kind: AttackKind::AsIs, rate_pps: None }, &request)?;
        let program = bpf::program(&self.generate, "generate")?;
        bpf::run_live(bpf::descriptor(&program), &frame, self.ifindex, 1, 1)
            .context(|| "BPF_PROG_RUN of a live frame failed".into())
    }

    /// Sends what is offered and waits for the last replies.
    ///
    /// # Errors
    /// The kernel refused; not an interruption, which gives the partial result.
    pub(crate) fn run(&mut self, offer: &Offer) -> Result<Outcome> {
        self.trial = self.trial.wrapping_add(1);
        // The receiver works on the server's core. Timing each reply costs a clock reading there, so a
        // throughput trial times one in 16.
        let sample_mask = if offer.batch == 1 { 0 } else { 15 };
        self.receiver.expect(self.trial, self.path.target.port(), sample_mask, false)?;

        let request = frame::request(&self.path, offer.frame_len);
        let start_ns = monotonic_ns() + LEAD.as_nanos() as u64;
        let duration_ns = offer.duration.as_nanos() as u64;
        let plan = Plan {
            start_ns,
            interval_q10: offer.rate_pps.map_or(0, interval_q10),
            limit: offer
                .rate_pps
                .map_or(u64::MAX, |rate| (rate * offer.duration.as_secs_f64()).round() as u64)
                .min(offer.limit.unwrap_or(u64::MAX)),
            end_ns: start_ns + duration_ns,
            flows: self.flows,
            attack: offer.attack,
        };
        self.set_plan(&request, &plan)?;
        self.send_all(&request, offer, &plan)?;

        let ended_ns = monotonic_ns();
        let [sent, _deferred, attacked] = counters(&self.generate)?;
        let lag = self.lag()?;
        let tally = self.receiver.drain(sent)?;
        let whole = !signals::stopping() && (plan.interval_q10 > 0 || sent < plan.limit);
        let send_ns = if whole { duration_ns } else { ended_ns.min(plan.end_ns).saturating_sub(start_ns) };
        let window_ns = send_ns.max(tally.last_ns.saturating_sub(start_ns)).max(1);
        Ok(Outcome {
            asked_pps: offer.rate_pps,
            sent,
            received: tally.received,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            stale: tally.stale,
            attacked,
            seconds: send_ns as f64 / 1e9,
            goodput_pps: tally.received as f64 * 1e9 / window_ns as f64,
            latency: tally.latency,
            from_sending: None,
            adherence: (plan.interval_q10 > 0).then(|| Adherence::of(sent as f64 / plan.due_after(send_ns), &lag)),
            slices: Vec::new(),
        })
    }

    /// Runs the program until the plan's end, or until a signal asks to stop.
    fn send_all(&self, request: &[u8], offer: &Offer, plan: &Plan) -> Result<()> {
        let program = bpf::program(&self.generate, "generate")?;
        let _alarm = Alarm::after(LEAD + offer.duration)?;
        while !signals::stopping() && monotonic_ns() < plan.end_ns {
            // Without due times every run sends one: so many runs are enough, but for those before the start.
            let left = match plan.interval_q10 {
                0 => plan.limit - counters(&self.generate)?[0],
                _ => u64::MAX,
            };
            if left == 0 {
                break;
            }
            let runs = i32::try_from(left).unwrap_or(i32::MAX);
            bpf::run_live(bpf::descriptor(&program), request, self.ifindex, offer.batch, runs).map_err(|error| {
                Error::run(format!(
                    "BPF_PROG_RUN of live frames failed ({error}): it needs root and Linux 5.18 or newer; \
                     `--sender kernel` sends through a socket instead"
                ))
            })?;
        }
        Ok(())
    }

    /// How late requests left in this trial.
    fn lag(&self) -> Result<Latency> {
        let value = bpf::map(&self.generate, "lag")?
            .lookup(&[0; 4], MapFlags::ANY)
            .context(|| "cannot read how late requests left".into())?
            .unwrap_or_default();
        let words: Vec<u64> = words(&value).collect();
        let [max_ns, buckets @ ..] = words.as_slice() else { return Ok(Latency::new()) };
        Ok(Latency::from_buckets(buckets, *max_ns))
    }

    fn set_plan(&self, request: &[u8], plan: &Plan) -> Result<()> {
        bpf::map(&self.generate, "lag")?
            .update(&[0; 4], &[0; (1 + BUCKETS) * 8], MapFlags::ANY)
            .context(|| "cannot clear the sender's counters".into())?;
        plan.hand_over(&self.generate, &self.path, request, self.trial)
    }
}

impl Plan {
    /// Requests that were due after so long.
    fn due_after(&self, ns: u64) -> f64 {
        (ns as f64 * 1024.0 / self.interval_q10 as f64).min(self.limit as f64).max(1.0)
    }

    /// Writes it where the sender of `object` reads it, with all counters zero.
    fn hand_over(&self, object: &Object, path: &Path, request: &[u8], trial: u32) -> Result<()> {
        let headers_len = path.headers_len();
        let mut value = request[..headers_len].to_vec();
        value.resize(HEADER_WORDS * 8, 0);
        let port = path.source.port();
        // The sender adds the port of each request.
        let sum = path.constant_sum(request, trial) - u64::from(port.to_be());
        let constants = [headers_len as u64, u64::from(trial), sum, port.into(), self.flows.into()];
        let words = constants.into_iter().chain([self.start_ns, self.interval_q10, self.limit, self.end_ns]);
        value.extend(words.flat_map(u64::to_ne_bytes));
        if let Some(attack) = &self.attack {
            value.extend(attack_words(attack, path));
        }
        value.resize(PLAN_WORDS * 8, 0);
        bpf::map(object, "plan")?
            .update(&[0; 4], &value, MapFlags::ANY)
            .context(|| "cannot hand the sender its plan".into())
    }
}

/// Has the sender of `object` send nothing but an attacker's frames from now on.
///
/// # Errors
/// The kernel refused.
pub(crate) fn plan_attack(object: &Object, path: &Path, attack: Attack, request: &[u8]) -> Result<()> {
    let attack = Some(attack);
    let start_ns = monotonic_ns();
    Plan { start_ns, end_ns: u64::MAX, attack, ..Plan::default() }.hand_over(object, path, request, 0)
}

/// Requests sent, frames given back while waiting, attacker's frames sent.
pub(crate) fn counters(object: &Object) -> Result<[u64; PLAN_WORDS - COUNTERS]> {
    let value = bpf::map(object, "plan")?
        .lookup(&[0; 4], MapFlags::ANY)
        .context(|| "cannot read the sender's counters".into())?
        .unwrap_or_default();
    let mut counters = [0; PLAN_WORDS - COUNTERS];
    counters.iter_mut().zip(words(&value).skip(COUNTERS)).for_each(|(counter, word)| *counter = word);
    Ok(counters)
}

/// `struct attack` in bpf/attack.h. Attackers speak IPv4.
fn attack_words(attack: &Attack, path: &Path) -> Vec<u8> {
    let mut value = (attack.kind as u64).to_ne_bytes().to_vec();
    value.extend(attack.rate_pps.map_or(0, interval_q10).to_ne_bytes());
    value.extend(path.target_mac);
    value.extend(path.source_mac);
    value.extend([0; 4]);
    value.extend(match path.target.ip() {
        IpAddr::V4(target) => target.octets(),
        IpAddr::V6(_) => [0; 4],
    });
    value.extend(path.target.port().to_be_bytes());
    value.extend([0; 2]);
    value
}

/// Time between two frames in 1/1024 ns, so that a rate is kept to 0.01 % up to 10 Mpps.
fn interval_q10(rate_pps: f64) -> u64 {
    (1e9 * 1024.0 / rate_pps).round().max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::interval_q10;

    #[test]
    fn intervals_keep_the_rate_to_a_ten_thousandth() {
        for rate in [1.0, 1e3, 1e5, 769_231.0, 1.3e6, 6.3e6, 1e7] {
            let kept = 1e9 * 1024.0 / interval_q10(rate) as f64;
            assert!((kept / rate - 1.0).abs() < 1e-4, "{kept} for {rate}");
        }
    }
}
