//! What the sender of live frames is told, and what it counted: `struct plan` in bpf/generate.bpf.c.

use std::net::IpAddr;

use libbpf_rs::{MapCore, MapFlags, Object};

use super::frame::Path;
use super::receiver::words;
use super::sizes::{MOST, Sizes};
use super::trial::{Attack, Flows};
use crate::bpf;
use crate::error::{Context, Result};
use crate::signals::monotonic_ns;

/// Words of the longest headers, of the whole plan, and where its counters begin.
const HEADER_WORDS: usize = 9;
const PLAN_WORDS: usize = 49;
const COUNTERS: usize = 46;

/// Due times that one page of the sender's list has.
const DUE_PAGE: usize = 512;
/// Due times that it is told at most: 64 MiB of them, 8 s at a million a second.
pub(super) const MOST_DUE: u64 = 1 << 23;

/// A trial, as the sender has to know it.
#[derive(Debug)]
pub(super) struct Plan {
    pub start_ns: u64,
    /// 1/1024 ns between two requests; 0 is as fast as possible.
    pub interval_q10: u64,
    /// When they are due, from the start, where the interval does not tell.
    pub due: Option<Vec<u64>>,
    /// Requests to send.
    pub limit: u64,
    pub end_ns: u64,
    pub flows: Flows,
    pub sizes: Sizes,
    pub attack: Option<Attack>,
}

impl Plan {
    /// Requests that were due after so long.
    pub(super) fn due_after(&self, ns: u64) -> f64 {
        let due = match &self.due {
            Some(due) => due.partition_point(|due_ns| *due_ns <= ns) as f64,
            None => ns as f64 * 1024.0 / self.interval_q10 as f64,
        };
        due.min(self.limit as f64).max(1.0)
    }

    /// Pages that `due` takes in the kernel, one at least.
    pub(super) fn due_pages(&self) -> u32 {
        self.due.as_ref().map_or(1, |due| due.len().div_ceil(DUE_PAGE).max(1) as u32)
    }

    /// Writes when requests are due where the sender of `object` reads it: what takes longest, before anything is due.
    pub(super) fn list_due(&self, object: &Object) -> Result<()> {
        let pages = bpf::map(object, "due")?;
        for (page, due) in self.due.iter().flat_map(|due| due.chunks(DUE_PAGE)).enumerate() {
            let mut times: Vec<u8> = due.iter().flat_map(|due_ns| due_ns.to_ne_bytes()).collect();
            times.resize(DUE_PAGE * 8, 0);
            pages
                .update(&(page as u32).to_ne_bytes(), &times, MapFlags::ANY)
                .context(|| "cannot tell the sender when requests are due".into())?;
        }
        Ok(())
    }

    /// Writes it where the sender of `object` reads it, with all counters zero. `request` is the longest.
    pub(super) fn hand_over(&self, object: &Object, path: &Path, request: &[u8], trial: u32) -> Result<()> {
        let headers_len = path.headers_len();
        let mut value = request[..headers_len].to_vec();
        value.resize(HEADER_WORDS * 8, 0);
        let varies = self.sizes.is_mix() || self.flows.addresses > 1;
        let sum = path.constant_sum(request, trial);
        let (sum, ip_sum) = if varies { path.without_what_varies(request, sum) } else { (sum, 0) };
        let port = path.source.port();
        // The sender adds the port of each request.
        let sum = sum - u64::from(port.to_be());
        let constants = [headers_len as u64, u64::from(trial), sum, port.into(), self.flows.ports.into()];
        let (lens, first) = (self.sizes.pattern(), low_word(path.source.ip()));
        let [addresses, longest, pattern] = [u64::from(self.flows.addresses), request.len() as u64, lens.len() as u64];
        let varying = [varies.into(), ip_sum, first, addresses, longest, pattern];
        value.extend(constants.into_iter().chain(varying).flat_map(u64::to_ne_bytes));
        let tag_len = path.tag_len() as u16;
        let unused = std::iter::repeat_n(&0, MOST - lens.len());
        value.extend(lens.iter().chain(unused).flat_map(|len| (len + tag_len).to_ne_bytes()));
        let listed = u64::from(self.due.is_some());
        let times = [self.start_ns, self.interval_q10, listed, self.limit, self.end_ns];
        value.extend(times.map(u64::to_ne_bytes).concat());
        if let Some(attack) = &self.attack {
            value.extend(attack_words(attack, path));
        }
        value.resize(PLAN_WORDS * 8, 0);
        bpf::map(object, "plan")?
            .update(&[0; 4], &value, MapFlags::ANY)
            .context(|| "cannot hand the sender its plan".into())
    }
}

/// The lowest 64 bits of an address.
fn low_word(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() as u64,
    }
}

/// Has the sender of `object` send nothing but an attacker's frames from now on.
///
/// # Errors
/// The kernel refused.
pub(crate) fn attack(object: &Object, path: &Path, attack: Attack, request: &[u8]) -> Result<()> {
    let plan = Plan {
        start_ns: monotonic_ns(),
        interval_q10: 0,
        due: None,
        limit: 0,
        end_ns: u64::MAX,
        flows: Flows::ONE,
        sizes: Sizes::one(request.len()),
        attack: Some(attack),
    };
    plan.hand_over(object, path, request, 0)
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
pub(super) fn interval_q10(rate_pps: f64) -> u64 {
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
