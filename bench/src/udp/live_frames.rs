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

use std::time::Duration;

use libbpf_rs::{MapCore, MapFlags, Object};

use super::frame::{self, Path};
use super::plan::{self, MOST_DUE, Plan, interval_q10};
use super::receiver::{Expected, Hook, Receiver, words};
use super::trial::{Attack, AttackKind, Offer, Outcome};
use crate::arrivals::{Adherence, Arrivals, due_times};
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
    trial: u32,
    /// Pages that the sender has room for in its list of due times.
    due_pages: u32,
}

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
        Ok(Self { generate, receiver, ifindex: interface.index, path, trial, due_pages: 1 })
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
        plan::attack(&self.generate, &self.path, Attack { kind: AttackKind::AsIs, rate_pps: None }, &request)?;
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
        let request = frame::request(&self.path, offer.sizes.longest());
        let mut plan = plan(offer);
        if plan.due_pages() > self.due_pages {
            self.due_pages = plan.due_pages();
            self.generate = bpf::load_sized(bpf::GENERATE, Some(("due", self.due_pages)))?;
        }
        plan.list_due(&self.generate)?;
        self.receiver.clear(plan.end_ns)?;
        let (start_ns, duration_ns) = (monotonic_ns() + LEAD.as_nanos() as u64, plan.end_ns);
        (plan.start_ns, plan.end_ns) = (start_ns, start_ns + duration_ns);
        // The receiver works on the server's core. Timing each reply costs a clock reading there, so a
        // throughput trial times one in 16; but not of a pattern, which could be that of the sixteen.
        let sample_mask = if offer.batch == 1 || plan.due.is_some() { 0 } else { 15 };
        let (trial, server_port) = (self.trial, self.path.target.port());
        let expected = Expected { trial, server_port, sample_mask, copies: false, start_ns };
        self.receiver.expect(&expected)?;
        self.set_plan(&request, &plan)?;
        self.send_all(&request, offer, &plan)?;

        let ended_ns = monotonic_ns();
        let [sent, _deferred, attacked] = plan::counters(&self.generate)?;
        let lag = self.lag()?;
        let tally = self.receiver.drain(sent)?;
        let whole = !signals::stopping() && (plan.interval_q10 > 0 || sent < plan.limit);
        let send_ns = if whole { duration_ns } else { ended_ns.min(plan.end_ns).saturating_sub(start_ns) };
        let window_ns = send_ns.max(tally.last_ns.saturating_sub(start_ns)).max(1);
        Ok(Outcome {
            asked_pps: offer.rate_pps,
            sent,
            received: tally.received,
            received_bytes: tally.received_bytes,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            stale: tally.stale,
            attacked,
            seconds: send_ns as f64 / 1e9,
            window_seconds: window_ns as f64 / 1e9,
            slices: tally.course(send_ns),
            latency: tally.latency,
            from_sending: None,
            adherence: (plan.interval_q10 > 0).then(|| Adherence::of(sent as f64 / plan.due_after(send_ns), &lag)),
        })
    }

    /// Runs the program until the plan's end, or until a signal asks to stop.
    fn send_all(&self, request: &[u8], offer: &Offer, plan: &Plan) -> Result<()> {
        let program = bpf::program(&self.generate, "generate")?;
        let _alarm = Alarm::after(Duration::from_nanos(plan.end_ns.saturating_sub(monotonic_ns()).max(1)))?;
        while !signals::stopping() && monotonic_ns() < plan.end_ns {
            // Without due times every run sends one: so many runs are enough, but for those before the start.
            let left = match plan.interval_q10 {
                0 => plan.limit - plan::counters(&self.generate)?[0],
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

/// What the sender has to know of an offer that begins at 0.
fn plan(offer: &Offer) -> Plan {
    let duration_ns = offer.duration.as_nanos() as u64;
    let most = offer.limit.unwrap_or(u64::MAX);
    let due = match (offer.rate_pps, offer.arrivals) {
        (Some(rate), Arrivals::Poisson { .. } | Arrivals::Ramp | Arrivals::Burst { .. }) => {
            Some(due_times(offer.arrivals, rate, duration_ns).take(most.min(MOST_DUE) as usize).collect::<Vec<u64>>())
        }
        _ => None,
    };
    let limit = match (&due, offer.rate_pps) {
        (Some(due), _) => due.len() as u64,
        (None, Some(rate)) => most.min((rate * offer.duration.as_secs_f64()).round() as u64),
        (None, None) => most,
    };
    // What is cut short by a count is over when its last request was due, and another would be.
    let last = due.as_ref().filter(|due| due.len() as u64 == most).and_then(|due| due.last());
    let end_ns = match (last, offer.rate_pps) {
        (Some(last), Some(rate)) => duration_ns.min(last + (1e9 / rate) as u64 + 1),
        _ => duration_ns,
    };
    Plan {
        start_ns: 0,
        interval_q10: offer.rate_pps.map_or(0, interval_q10),
        due,
        limit,
        end_ns,
        flows: offer.flows,
        sizes: offer.sizes,
        attack: offer.attack,
    }
}
