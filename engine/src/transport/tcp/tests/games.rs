//! A peer that sends whatever comes to its mind, and an application that does the same. Whatever happens, the books of
//! the connections balance after every step ([`Tcp::audit`](crate::transport::tcp::Tcp::audit)), no more is sent than
//! the peer ever had room for, and in the end nothing is left.

use std::time::Duration;

use super::*;
use crate::transport::tcp::congestion::Algorithm;
use crate::transport::tcp::path::PathError;
use crate::transport::tcp::tuple::Tuple;
use crate::wire::tcp::Flags;

/// Numbers that look like chance, and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32).checked_rem(limit).unwrap_or(0)
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// A number near one that means something.
    fn near(&mut self, number: u32) -> u32 {
        match self.below(8) {
            0 => number.wrapping_add(self.below(3000)),
            1 => number.wrapping_sub(self.below(3000)),
            2 => number.wrapping_add(1),
            3 if self.one_in(10) => self.below(u32::MAX),
            _ => number,
        }
    }
}

/// What the peer might send now.
fn segment(s: &Script, chance: &mut Chance) -> Seg {
    let (una, nxt, rcv_nxt, timestamps) = match s.tcp.tables.connections.get(s.index) {
        Some(tcb) => {
            let relative = |seq: SeqNum| seq.since(s.iss());
            let peers = SeqNum::new(0_u32.wrapping_sub(s.beginning()));
            (relative(tcb.snd.una), relative(tcb.snd.nxt), tcb.rcv.nxt.since(peers), tcb.ts.on)
        }
        None => (1, 1, 1, false),
    };
    let seq = chance.near(rcv_nxt);
    let between = una + chance.below(nxt.wrapping_sub(una).min(1 << 20) + 1);
    let ack = if chance.one_in(4) { chance.near(una) } else { between };
    let window = [0, chance.below(3000) as u16, u16::MAX, u16::MAX, u16::MAX, u16::MAX][chance.below(6) as usize];
    let mut seg = seg(seq, ack).window(window);
    if chance.one_in(2) {
        seg = seg.len(chance.below(1200));
    }
    for (flag, odds) in [(Flags::FIN, 200), (Flags::SYN, 100), (Flags::RST, 200), (Flags::ECE, 10), (Flags::CWR, 10)] {
        if chance.one_in(odds) {
            seg = seg.with(flag);
        }
    }
    if chance.one_in(40) {
        seg = seg.without(Flags::ACK);
    }
    if chance.one_in(20) {
        seg = seg.urgent(chance.below(2000) as u16);
    }
    if chance.one_in(3) {
        let edge = |chance: &mut Chance| {
            una.wrapping_add(1000 * chance.below(12)).wrapping_add(if chance.one_in(9) { 7 } else { 0 })
        };
        let count = 1 + chance.below(3);
        let blocks: Vec<_> = (0..count).map(|_| (edge(chance), edge(chance))).collect();
        seg = seg.sack(&blocks);
    }
    if timestamps && chance.one_in(4) {
        seg = seg.ts(s.time().0 as u32, chance.near(s.time().0 as u32));
    }
    seg.class(chance.below(4) as u8)
}

/// What the application might do now.
fn application(s: &mut Script, chance: &mut Chance) {
    match chance.below(12) {
        0..=4 => _ = s.app_offers(chance.below(5000)),
        5 | 6 => {
            let len = chance.below(s.tcp.received_len(s.index) + 1);
            s.app_takes(len);
        }
        7 => _ = s.app_returns(s.tcp.received_len(s.index)),
        8 => {
            let on = chance.one_in(2);
            s.app_sets(|tcp, index, _| tcp.set_nagle(index, on));
        }
        9 if chance.one_in(20) => _ = s.app_finishes(),
        10 if chance.one_in(100) => _ = s.app_aborts(),
        11 => {
            let tuple = Tuple { local: OUR, remote: PEER };
            let una = s.tcp.tables.connections.get(s.index).map_or(s.iss(), |tcb| tcb.snd.una);
            let error =
                [PathError::TooLong(600 + chance.below(900) as u16), PathError::Unreachable][chance.below(2) as usize];
            s.tcp.path_error(error, &tuple, una, s.now, &mut s.umem);
        }
        _ => {}
    }
    s.tcp.settle(s.index);
    s.flush();
}

/// What is sent again is what was sent before, and what is new follows it.
fn read(stream: &mut Vec<u8>, seg: &Seg) {
    for (at, &byte) in (seg.seq.wrapping_sub(1) as usize..).zip(&seg.text) {
        match stream.get(at) {
            Some(&before) => assert_eq!(byte, before, "byte {at} of {seg}"),
            None if at == stream.len() => stream.push(byte),
            None => panic!("byte {at} after {}: {seg}", stream.len()),
        }
    }
}

fn game(seed: u64, steps: u32) {
    let mut chance = Chance(seed);
    let offers = [syn().mss(MSS), syn().mss(MSS).sack_ok(), syn().mss(1012).sack_ok().first_ts(0).scale(7)];
    let mut offer = offers[chance.below(3) as usize].clone();
    if chance.one_in(2) {
        offer = offer.with(Flags::ECE | Flags::CWR);
    }
    let algorithm = if chance.one_in(2) { Algorithm::Reno } else { Algorithm::Cubic };
    let chunks = [24, 512][chance.below(2) as usize];
    let change = |config: &mut TcpConfig| {
        (config.algorithm, config.chunks) = (algorithm, chunks);
        (config.fin_wait_2, config.time_wait_for) = (Duration::from_secs(10), Duration::from_secs(1));
    };
    for mut s in scripts_with(change) {
        s.accept(offer.clone());
        let mut stream = Vec::new();
        for _ in 0..steps {
            match chance.below(8) {
                0..=3 => _ = s.peer_sends(segment(&s, &mut chance)),
                4 | 5 => application(&mut s, &mut chance),
                6 => s.device_keeps = chance.one_in(3),
                _ => {
                    s.device_is_done();
                    let longest = if chance.one_in(10) { 2000 } else { 20 };
                    let later = s.time().0 + 1 + u64::from(chance.below(longest));
                    s.run_until(later).iter().for_each(|sent| read(&mut stream, &sent.seg));
                }
            }
            s.take_all().iter().for_each(|sent| read(&mut stream, &sent.seg));
            if s.told().iter().any(|told| matches!(told, Told::Closed(_))) {
                break;
            }
        }
        s.device_keeps = false;
        s.device_is_done();
        if s.tcp.tables.connections.get(s.index).is_some() {
            s.app_aborts();
        }
        let end = s.time().0 + 200_000;
        s.run_until(end);
        assert_eq!((s.tcp.population(), s.tcp.held(), s.umem.free_chunks()), ((0, 0, 0), 0, CHUNKS), "seed {seed}");
    }
}

#[test]
fn whatever_peer_and_application_do_the_books_balance() {
    for seed in 0..200 {
        game(seed, 300);
    }
}
