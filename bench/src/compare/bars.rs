//! The bars that the project sets the engine.

use super::stats::{self, Spread};
use crate::result::Contender;
use crate::result::figures::Better;

/// A figure that the engine is to reach.
#[derive(Debug)]
pub(crate) struct Bar {
    pub what: &'static str,
    /// "at least" or "at most".
    pub sense: &'static str,
    pub limit: f64,
    pub value: Option<Spread>,
    pub met: Option<bool>,
}

impl Bar {
    fn at_least(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at least", limit, value, met: value.map(|value| value.median >= limit) }
    }

    fn at_most(what: &'static str, limit: f64, value: Option<Spread>) -> Self {
        Self { what, sense: "at most", limit, value, met: value.map(|value| value.median <= limit) }
    }
}

/// Figures by round.
type Values = Vec<Option<f64>>;

/// The figures that bars are about.
struct Figures<'a>(&'a [Contender]);

impl Figures<'_> {
    fn of(&self, server: &str, figure: &str) -> Values {
        self.0.iter().find(|contender| contender.name == server).map_or(Vec::new(), |found| found.values(figure))
    }

    /// What the engine showed. A rate at which the generator was the limit is less than its own: good enough to say that a
    /// bar is met.
    fn engine(&self, figure: &str) -> Values {
        let engine = self.0.iter().find(|contender| contender.name == "barewire");
        let value = |round: &crate::result::Round| {
            let figure = round.figures.get(figure)?;
            let at_least = figure.better == Better::Higher && !figure.cores_apart;
            if at_least { figure.value } else { figure.comparable() }
        };
        engine.map_or(Vec::new(), |engine| engine.rounds.iter().map(value).collect())
    }

    /// The better of both kernel echoes in each round.
    fn kernel(&self, figure: &str, pick: fn(f64, f64) -> f64) -> Values {
        stats::better(&self.of("kernel-epoll", figure), &self.of("kernel-spin", figure), pick)
    }
}

/// Of an echo of datagrams.
pub(crate) fn udp(contenders: &[Contender]) -> Vec<Bar> {
    let figures = Figures(contenders);
    let over = |figure, under: &Values| stats::ratio(&figures.engine(figure), under);
    vec![
        Bar::at_least("peak, of the better kernel echo", 2.0, over("peak", &figures.kernel("peak", f64::max))),
        Bar::at_least("peak, of the bare AF_XDP loop", 0.95, over("peak", &figures.of("bare-af-xdp", "peak"))),
        Bar::at_least("loss-free rate, of the kernel", 1.5, over("loss-free", &figures.kernel("loss-free", f64::max))),
        Bar::at_least("goodput at 2x overload, of own peak", 0.8, over("overload", &figures.of("barewire", "peak"))),
        Bar::at_most("p50, of the epoll echo", 0.25, over("p50", &figures.of("kernel-epoll", "p50"))),
        Bar::at_most("p50, of the spinning kernel echo", 0.6, over("p50", &figures.of("kernel-spin", "p50"))),
        Bar::at_most("p50, of the bare AF_XDP loop", 1.1, over("p50", &figures.of("bare-af-xdp", "p50"))),
    ]
}

/// Of servers of TCP.
pub(crate) fn tcp(contenders: &[Contender]) -> Vec<Bar> {
    let figures = Figures(contenders);
    let over = |server, figure| stats::ratio(&figures.engine(figure), &figures.of(server, figure));
    vec![
        Bar::at_least("requests over 1 connection, of the kernel's epoll echo", 1.5, over("kernel-epoll", "rr-1")),
        Bar::at_least("requests over 1 connection, of smoltcp's echo", 1.05, over("smoltcp", "rr-1")),
        Bar::at_least("connections one at a time, of the kernel's", 1.4, over("kernel-epoll", "crr-1")),
        Bar::at_least("connections 16 at a time, of the kernel's", 1.4, over("kernel-epoll", "crr-16")),
        Bar::at_least("bulk into discard, of the kernel's", 1.0, over("kernel-epoll", "send")),
        Bar::at_least("bulk from chargen, of the kernel's", 1.0, over("kernel-epoll", "receive")),
    ]
}

/// None if the engine was not measured.
pub(crate) fn of_engine(contenders: &[Contender], bars: fn(&[Contender]) -> Vec<Bar>) -> Vec<Bar> {
    let measured = contenders.iter().any(|contender| contender.name == "barewire" && !contender.rounds.is_empty());
    if measured { bars(contenders) } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_by_its_median_and_unknown_without_one() {
        let spread = |median| Some(Spread { median, min: median, max: median, rounds: 5 });
        assert_eq!(Bar::at_least("x", 2.0, spread(2.0)).met, Some(true));
        assert_eq!(Bar::at_least("x", 2.0, spread(1.99)).met, Some(false));
        assert_eq!(Bar::at_most("x", 0.6, spread(0.61)).met, Some(false));
        assert_eq!(Bar::at_most("x", 0.6, None).met, None);
    }
}
