//! Thousands of datagrams cut, shuffled, doubled and overlapped at random, against a model that keeps single bytes.

use std::collections::HashMap;

use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A fragment to come.
#[derive(Clone, Debug)]
struct Coming {
    family: Family,
    source: u32,
    identification: u32,
    offset: usize,
    more: bool,
    payload: Vec<u8>,
}

impl Coming {
    fn fragment(&self) -> Fragment<u16> {
        self.family.fragment(self.source, self.identification, self.offset, self.more)
    }

    fn key(&self) -> (bool, u32, u32) {
        (self.family == Family::V4, self.source, self.identification)
    }

    fn end(&self) -> usize {
        self.offset + self.payload.len()
    }
}

/// The bytes of a datagram, by what tells it from others.
fn original(family: Family, source: u32, identification: u32) -> Vec<u8> {
    let mut random = Random(u64::from(source) << 33 | u64::from(identification) << 1 | u64::from(family == Family::V4));
    let longest = if random.one_in(20) { 12_000 } else { 2_500 };
    let len = 9 + random.below(longest);
    (0..len).map(|_| random.next() as u8).collect()
}

/// The fragments of a datagram, cut at random: never more than 40, nor longer than a chunk has room for.
fn cut(random: &mut Random, family: Family, source: u32, identification: u32) -> Vec<Coming> {
    let bytes = original(family, source, identification);
    let longest = if random.one_in(3) { 1480 } else { (bytes.len() / 20).max(64) };
    let mut pieces = Vec::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let len = ((longest / 2 + random.below(longest / 2)) & !7).max(8);
        let end = if pieces.is_empty() { len.min((bytes.len() - 1) & !7) } else { offset + len };
        let (end, more) = (end.min(bytes.len()), end < bytes.len());
        let payload = bytes[offset..end].to_vec();
        pieces.push(Coming { family, source, identification, offset, more, payload });
        offset = end;
    }
    pieces
}

/// Something about a datagram that should not be.
fn disturb(random: &mut Random, family: Family, source: u32, identification: u32, pieces: &mut Vec<Coming>) {
    let bytes = original(family, source, identification);
    let mut other = pieces[random.below(pieces.len())].clone();
    match random.below(8) {
        0 => other.more = !other.more,
        1 => other.offset = (other.offset + 8).min(65_528),
        2 => {
            other.payload.pop();
        }
        3 => {
            other.offset = 65_528;
            other.payload = vec![0; 8];
        }
        4 => other.payload = Vec::new(),
        _ => {
            // Another cut, with the same bytes or others.
            other.offset = random.below(bytes.len()) & !7;
            let len = (8 + random.below(1472)) & !7;
            let end = (other.offset + len).min(bytes.len());
            other.more = end < bytes.len();
            other.payload = bytes[other.offset..end].to_vec();
            if random.one_in(2) {
                other.payload.fill(0xee);
            }
        }
    }
    pieces.push(other);
}

/// What is known of a datagram, byte by byte.
#[derive(Default)]
struct Model {
    bytes: Vec<Option<u8>>,
    spans: Vec<(usize, usize)>,
    total: Option<usize>,
    frames: u32,
    spoiled: Option<DropReason>,
}

#[derive(Default)]
struct Models(HashMap<(bool, u32, u32), Model>);

impl Models {
    fn insert(&mut self, coming: &Coming) -> Became {
        let is_v4 = coming.family == Family::V4;
        let len = coming.payload.len();
        let refused = |reason, pointer| {
            if is_v4 { Became::Dropped(reason, 1) } else { Became::Problem(reason, 0, pointer) }
        };
        if coming.offset == 0 && !coming.more {
            return Became::Whole(coming.payload.clone());
        }
        if len == 0 {
            return Became::Dropped(DropReason::FragmentMalformed, 1);
        }
        if coming.more && !len.is_multiple_of(8) {
            return refused(DropReason::FragmentMalformed, 4);
        }
        if coming.end() + if is_v4 { 20 } else { 0 } > 65_535 {
            if is_v4 {
                let frames = self.0.remove(&coming.key()).map_or(0, |model| model.frames);
                return Became::Dropped(DropReason::FragmentTooLong, 1 + frames);
            }
            return refused(DropReason::FragmentTooLong, 42);
        }
        let model = self.0.entry(coming.key()).or_default();
        let became = model.insert(coming, is_v4);
        let is_over = match became {
            Became::Whole(_) => true,
            _ => model.spoiled.is_some() && is_v4,
        };
        if is_over {
            self.0.remove(&coming.key());
        }
        became
    }
}

impl Model {
    fn spoil(&mut self, reason: DropReason) -> Became {
        self.spoiled = Some(reason);
        Became::Dropped(reason, 1 + std::mem::take(&mut self.frames))
    }

    fn insert(&mut self, coming: &Coming, is_v4: bool) -> Became {
        if let Some(reason) = self.spoiled {
            return Became::Dropped(reason, 1);
        }
        let (start, end) = (coming.offset, coming.end());
        let reach = self.bytes.len();
        let known_end = if coming.more { None } else { Some(end) };
        let agrees = match (self.total, known_end) {
            (Some(total), Some(end)) => total == end,
            (Some(total), None) => end < total,
            (None, Some(end)) => end > reach,
            (None, None) => true,
        };
        if !agrees {
            return self.spoil(DropReason::FragmentEnd);
        }
        if !is_v4 && self.spans.contains(&(start, end)) {
            return Became::Dropped(DropReason::FragmentDuplicate, 1);
        }
        if !is_v4 && self.spans.iter().any(|&(from, to)| from < end && start < to) {
            return self.spoil(DropReason::FragmentOverlap);
        }
        self.bytes.resize(reach.max(end), None);
        let mut fresh = 0;
        for (place, byte) in self.bytes[start..end].iter_mut().zip(&coming.payload) {
            if place.is_none() {
                *place = Some(*byte);
                fresh += 1;
            }
        }
        if fresh == 0 {
            return Became::Dropped(DropReason::FragmentDuplicate, 1);
        }
        self.spans.push((start, end));
        self.frames += 1;
        self.total = self.total.or(known_end);
        match (self.total, self.bytes.iter().copied().collect()) {
            (Some(total), Some(bytes)) if total == self.bytes.len() => Became::Whole(bytes),
            _ => Became::Held,
        }
    }
}

#[test]
fn every_fragment_fares_as_in_a_model_that_keeps_single_bytes() {
    let mut random = Random(1);
    let config = ReassemblyConfig { per_source: 64, chunks: 1000, ..ReassemblyConfig::default() };
    let mut bench = Bench::new(config);
    let (mut whole, mut damaged, mut reasons) = (0, 0, HashMap::new());
    for round in 0..3000 {
        let mut models = Models::default();
        let mut coming = Vec::new();
        for n in 0..=random.below(6) as u32 {
            let family = FAMILIES[random.below(2)];
            let (source, identification) = (random.below(3) as u32, round * 8 + n);
            let mut pieces = cut(&mut random, family, source, identification);
            if random.one_in(2) {
                random.shuffle(&mut pieces);
            }
            if random.one_in(4) {
                pieces.push(pieces[random.below(pieces.len())].clone());
            }
            while random.one_in(3) {
                disturb(&mut random, family, source, identification, &mut pieces);
            }
            coming.push(pieces);
        }
        let mut coming: Vec<Coming> = coming.concat();
        if random.one_in(2) {
            random.shuffle(&mut coming);
        }
        for coming in coming {
            let expected = models.insert(&coming);
            let became = bench.insert(coming.family, coming.fragment(), &coming.payload);
            assert_eq!(became, expected, "round {round}: {coming:?}");
            match became {
                Became::Whole(bytes) if bytes == original(coming.family, coming.source, coming.identification) => {
                    whole += 1;
                }
                Became::Whole(_) => damaged += 1,
                Became::Dropped(reason, _) => *reasons.entry(reason).or_insert(0) += 1,
                _ => {}
            }
        }
        bench.run_out();
    }
    assert!(whole > 5000 && damaged > 100, "{whole} whole, {damaged} with the bytes of others");
    assert!(reasons.len() == 5 && reasons.values().all(|&count| count > 100), "{reasons:?}");
    assert!(bench.reassembly.overlaps() > 500 && bench.evicted == 0);
}

#[test]
fn in_floods_a_datagram_is_whole_or_nothing_and_limits_and_accounts_hold() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let config = ReassemblyConfig {
            datagrams: 1 + random.below(32),
            per_source: 1 + random.below(16),
            chunks: 8 + random.below(200) as u32,
            fragments: 1 + random.below(50),
            ..ReassemblyConfig::default()
        };
        let mut bench = Bench::new(config);
        let mut coming: Vec<Coming> = Vec::new();
        let (mut whole, mut expired) = (0, 0);
        for identification in 0..1000 {
            let (family, source) = (FAMILIES[random.below(2)], random.below(40) as u32);
            let mut pieces = cut(&mut random, family, source, identification);
            if random.one_in(4) {
                pieces.truncate(1);
            }
            coming.extend(pieces);
            // A window of fragments that are under way, in any order.
            if random.one_in(3) {
                random.shuffle(&mut coming);
            }
            while coming.len() > 60 {
                let Some(coming) = coming.pop() else { break };
                let became = bench.insert(coming.family, coming.fragment(), &coming.payload);
                if let Became::Whole(bytes) = became {
                    assert_eq!(bytes, original(coming.family, coming.source, coming.identification));
                    whole += 1;
                }
            }
            bench.now += Duration::from_millis(random.below(2000) as u64);
            while let Some(one) = bench.expire() {
                expired += 1;
                if let Some(frame) = one.frame {
                    bench.umem.free(frame);
                }
            }
        }
        bench.run_out();
        assert_eq!(bench.received, bench.ended);
        assert!(config.fragments < 10 || whole > 20, "{config:?}: {whole} whole");
        assert!(bench.evicted + expired > 50, "{config:?}: {} evicted, {expired} expired", bench.evicted);
    }
}
