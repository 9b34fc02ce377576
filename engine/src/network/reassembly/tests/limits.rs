//! Whoever floods displaces himself, and nothing grows beyond its limit.

use super::*;

fn config() -> ReassemblyConfig {
    ReassemblyConfig { datagrams: 8, per_source: 3, chunks: 24, fragments: 10, ..ReassemblyConfig::default() }
}

/// Begins a datagram with a fragment that takes a chunk of its own.
fn begin(bench: &mut Bench, family: Family, source: u32, identification: u32) -> Became {
    bench.insert(family, family.fragment(source, identification, 0, true), &[1; 1000])
}

fn finish(bench: &mut Bench, family: Family, source: u32, identification: u32) -> bool {
    let became = bench.insert(family, family.fragment(source, identification, 1000, false), &[2; 1000]);
    became == Became::Whole([[1; 1000], [2; 1000]].concat())
}

#[test]
fn a_flood_from_one_source_displaces_only_its_own() {
    for family in FAMILIES {
        let mut bench = Bench::new(config());
        for source in [1, 2] {
            assert_eq!(begin(&mut bench, family, source, 0), Became::Held);
        }
        for n in 0..1000 {
            assert_eq!(begin(&mut bench, family, 666, n), Became::Held);
        }
        assert_eq!((bench.reassembly.len(), bench.evicted), (5, 997));
        assert!(finish(&mut bench, family, 1, 0) && finish(&mut bench, family, 2, 0));
        assert!(finish(&mut bench, family, 666, 997), "its newest are there");
        assert!(!finish(&mut bench, family, 666, 996));
    }
}

#[test]
fn in_a_flood_from_everywhere_the_oldest_give_way() {
    for family in FAMILIES {
        let mut bench = Bench::new(config());
        for source in 0..1000 {
            assert_eq!(begin(&mut bench, family, source, 0), Became::Held);
        }
        assert_eq!((bench.reassembly.len(), bench.evicted), (8, 992));
        assert!((992..1000).all(|source| finish(&mut bench, family, source, 0)));
        assert_eq!(bench.run_out(), 0);
    }
}

#[test]
fn a_source_that_holds_too_many_chunks_loses_its_oldest_datagram() {
    for family in FAMILIES {
        let mut bench = Bench::new(config());
        assert_eq!(begin(&mut bench, family, 1, 0), Became::Held);
        // Three eighths of 24 chunks are its share.
        for n in 0..9 {
            let fragment = family.fragment(666, n / 5, (n % 5) as usize * 1000, true);
            assert_eq!(bench.insert(family, fragment, &[1; 1000]), Became::Held);
        }
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (10, 0));
        assert_eq!(begin(&mut bench, family, 666, 2), Became::Held);
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (6, 5));
        assert!(finish(&mut bench, family, 1, 0));
    }
}

#[test]
fn a_datagram_that_alone_takes_more_than_its_source_may_is_given_up() {
    for family in FAMILIES {
        let mut bench = Bench::new(ReassemblyConfig { fragments: 20, ..config() });
        for n in 0..9 {
            assert_eq!(bench.insert(family, family.fragment(1, 0, n * 1000, true), &[1; 1000]), Became::Held);
        }
        let became = bench.insert(family, family.fragment(1, 0, 9000, true), &[1; 1000]);
        assert_eq!(became, Became::Dropped(DropReason::FragmentNoMemory, 10));
        assert_eq!(bench.reassembly.held_chunks(), 0);
    }
}

#[test]
fn when_all_chunks_are_held_the_oldest_datagram_of_all_gives_way() {
    for family in FAMILIES {
        let mut bench = Bench::new(config());
        for source in 0..3 {
            for n in 0..8 {
                assert_eq!(bench.insert(family, family.fragment(source, 0, n * 1000, true), &[1; 1000]), Became::Held);
            }
        }
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (24, 0));
        assert_eq!(begin(&mut bench, family, 9, 0), Became::Held);
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (17, 8));
        // But not the one that a chunk is wanted for, old as it is.
        for n in 0..7 {
            assert_eq!(bench.insert(family, family.fragment(3, 0, n * 1000, true), &[1; 1000]), Became::Held);
        }
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (24, 8));
        assert_eq!(bench.insert(family, family.fragment(1, 0, 8000, true), &[1; 1000]), Became::Held);
        assert_eq!((bench.reassembly.held_chunks(), bench.evicted), (17, 16));
        assert_eq!(bench.run_out(), 17);
    }
}

#[test]
fn a_datagram_in_too_many_fragments_is_given_up() {
    for family in FAMILIES {
        let mut bench = Bench::new(config());
        for n in 0..10 {
            assert_eq!(bench.insert(family, family.fragment(1, 0, n * 8, true), &[1; 8]), Became::Held);
        }
        let became = bench.insert(family, family.fragment(1, 0, 80, true), &[1; 8]);
        assert_eq!(became, Became::Dropped(DropReason::FragmentsTooMany, 11));
        // As many as there may be are enough for it to be whole.
        let bytes = pattern(80);
        let fragments: Vec<_> = cuts(80, 8);
        for (start, end) in fragments {
            let became = bench.insert(family, family.fragment(2, 0, start, end < 80), &bytes[start..end]);
            assert_eq!(became, if end < 80 { Became::Held } else { Became::Whole(bytes.clone()) });
        }
    }
}

#[test]
fn a_table_for_nothing_still_holds_one_datagram() {
    let none = ReassemblyConfig { datagrams: 0, per_source: 0, ..ReassemblyConfig::default() };
    let mut bench = Bench::new(none);
    for n in 0..10 {
        let became = begin(&mut bench, Family::V4, n, n);
        assert_eq!(became, Became::Dropped(DropReason::FragmentNoMemory, 1), "a source's share is nothing");
    }
    assert_eq!(bench.run_out(), 0);
}
