//! Our TCP against peers that misbehave: what they get is what they are owed, and no more memory than anybody.

use std::time::Duration;

use barewire::app::Closed;
use barewire::transport::tcp::TcpConfig;
use barewire::wire::ethernet::Mac;
use barewire_tests::sim::tcp::Side;
use barewire_tests::sim::tcp::peer::{Host, Peer, Sent, flag, frame, port, sack};
use barewire_tests::sim::{Rng, frames};

const ACK: u8 = flag::ACK;
/// MSS 1460, SACK permitted, window scale 0.
const USUAL: [u8; 12] = [2, 4, 0x05, 0xb4, 1, 3, 3, 0, 1, 1, 4, 2];
/// The same with timestamps.
const WITH_TIMESTAMPS: [u8; 20] = [2, 4, 0x05, 0xb4, 1, 3, 3, 0, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Bytes of text in segments.
fn text(sent: &[Sent]) -> usize {
    sent.iter().map(|sent| sent.text.len()).sum()
}

/// The number behind everything that was sent.
fn reached(from: u32, sent: &[Sent]) -> u32 {
    let ends = sent.iter().map(|sent| sent.seq.wrapping_add(sent.text.len() as u32).wrapping_sub(from));
    from.wrapping_add(ends.max().unwrap_or(0))
}

/// A connection from which the host sends as much as it may, and what it sent first.
fn source(host: &mut Host) -> (Peer, Vec<Sent>) {
    let peer = host.open(40_000, port::SOURCE, &USUAL);
    let sent = host.take();
    assert_eq!(sent.len(), 10, "the initial window (RFC 6928)");
    (peer, sent)
}

#[test]
fn an_acknowledgment_of_what_was_never_sent_changes_nothing() {
    let mut host = Host::small();
    let (mut peer, sent) = source(&mut host);
    let before = host.connection(peer.port).unwrap();
    let end = reached(peer.ack, &sent);
    for ahead in [1, 1000, 1 << 20, 1 << 30, (1 << 31) - 1] {
        let optimistic = Peer { ack: end.wrapping_add(ahead), ..peer };
        host.send(&optimistic, ACK, &[]);
        // RFC 9293, section 3.10.7.4: if the ACK acks something not yet sent, then send an ACK, drop the segment.
        let answer = host.take();
        assert!(answer.iter().all(|sent| sent.text.is_empty() && sent.ack == Some(peer.seq)), "{answer:?}");
        assert!(answer.len() <= 1);
    }
    let after = host.connection(peer.port).unwrap();
    assert_eq!((after.cwnd, after.in_flight, after.send_queue), (before.cwnd, before.in_flight, before.send_queue));
    peer.ack = end;
    host.send(&peer, ACK, &[]);
    assert!(text(&host.take()) > 0, "it goes on");
}

/// Bytes count, and not acknowledgments (RFC 3465): who acknowledges more than he received makes the host send what he
/// does not hear, but no faster than one who received it.
#[test]
fn a_window_grows_by_bytes_however_acknowledgments_are_divided() {
    let windows = [1448, 100, 10, 1].map(|step| {
        let mut host = Host::small();
        let (mut peer, sent) = source(&mut host);
        let mut left = 10 * 1460_u32;
        assert_eq!(text(&sent) as u32, left);
        while left > 0 {
            let part = left.min(step);
            peer.ack = peer.ack.wrapping_add(part);
            left -= part;
            host.send(&peer, ACK, &[]);
        }
        host.connection(peer.port).unwrap().cwnd
    });
    assert!(windows.iter().all(|&window| window <= 2 * 14_600), "{windows:?}");
    assert!(windows[3] <= windows[0], "ten thousand acknowledgments give no more than ten: {windows:?}");
}

#[test]
fn what_came_first_stays_where_retransmissions_say_something_else() {
    let mut host = Host::small();
    let mut peer = host.open(40_000, port::SINK, &USUAL);
    let at = |peer: &Peer, offset: u32| Peer { seq: peer.seq.wrapping_add(offset), ..*peer };
    // Behind a gap, then other bytes for the same places, then the gap, overlapping both.
    host.send(&at(&peer, 10), ACK, b"bbbbbbbbbb");
    host.send(&at(&peer, 5), ACK, b"ccccccccccccccc");
    host.send(&at(&peer, 12), ACK, b"dddddddddddd");
    host.send(&at(&peer, 0), ACK, b"aaaaaaaaaaaa");
    // As on Linux: text in order is taken as it is; behind a gap what was there stays, unless it is covered whole.
    assert_eq!(host.seen(peer.port).text, b"aaaaaaaaaaaaccccccccdddd");
    // What was taken is not taken again, with whatever content.
    host.send(&at(&peer, 0), ACK, &[b'Z'; 24]);
    host.send(&at(&peer, 20), ACK, b"ZZZZend");
    assert_eq!(host.seen(peer.port).text[20..], *b"ddddend");
    peer.seq = peer.seq.wrapping_add(27);
    host.send(&peer, ACK | flag::FIN, &[]);
    assert!(host.seen(peer.port).finished);
}

#[test]
fn a_window_that_shrinks_takes_nothing_back_and_lets_nothing_new_out() {
    let mut host = Host::small();
    let (mut peer, sent) = source(&mut host);
    let end = reached(peer.ack, &sent);
    // RFC 9293, section 3.8.6 (MUST-34): the usable window becomes negative.
    for window in [5000, 100, 1, 0] {
        peer.window = window;
        host.send(&peer, ACK, &[]);
        assert_eq!(text(&host.take()), 0, "window {window}");
    }
    // What was sent is sent again, for it may be that it was lost.
    host.wait(ms(10_000));
    let again = host.take();
    assert!(!again.is_empty() && reached(peer.ack, &again) == end, "nothing new is sent");
    (peer.window, peer.ack) = (u16::MAX, end);
    host.send(&peer, ACK, &[]);
    assert!(text(&host.take()) > 0, "it goes on");
}

#[test]
fn a_window_may_stay_closed_for_as_long_as_the_peer_answers_probes() {
    let mut host = Host::small();
    let (mut peer, sent) = source(&mut host);
    (peer.ack, peer.window) = (reached(peer.ack, &sent), 0);
    host.send(&peer, ACK, &[]);
    let mut probes = 0;
    let begin = host.now;
    while host.now.since(begin) < Duration::from_secs(24 * 3600) {
        host.wait(ms(1000));
        for sent in host.take() {
            assert!(sent.text.is_empty(), "nothing is sent into a closed window");
            probes += 1;
            host.send(&peer, ACK, &[]);
        }
    }
    // RFC 9293, section 3.8.6.1 (MUST-36, MUST-37): probed, further and further apart, for ever.
    assert!((700..1000).contains(&probes), "{probes} probes a day");
    assert!(host.tcp().held() <= 256);
    peer.window = u16::MAX;
    host.send(&peer, ACK, &[]);
    assert!(text(&host.take()) > 0, "it goes on");
    // One that does not answer is given up (R2).
    peer.ack = reached(peer.ack, &[]);
    host.wait(Duration::from_secs(3600));
    assert_eq!((host.seen(peer.port).closed, host.tcp().held()), (Some(Closed::TimedOut), 0));
}

#[test]
fn a_peer_that_goes_back_on_its_sack_gets_everything_again() {
    let mut host = Host::small();
    let (mut peer, sent) = source(&mut host);
    let (start, end) = (sent[1].seq, reached(peer.ack, &sent));
    host.send_with(&peer, ACK, &[], &sack(&[(start, end)]));
    let first = host.take();
    assert!(first.iter().any(|sent| sent.seq == peer.ack), "the lost one is sent again at once: {first:?}");
    // The first one arrives, but the peer has thrown away the others.
    peer.ack = start;
    host.send(&peer, ACK, &[]);
    let mut missing = start;
    for _ in 0..200 {
        host.wait(ms(500));
        for sent in host.take() {
            if sent.seq == missing && !sent.text.is_empty() {
                missing = missing.wrapping_add(sent.text.len() as u32);
            }
        }
        (peer.ack, peer.window) = (missing, 20_000);
        host.send(&peer, ACK, &[]);
    }
    assert!(missing.wrapping_sub(end).cast_signed() > 0, "everything was sent again");
}

#[test]
fn blocks_that_make_no_sense_are_ignored() {
    let mut rng = Rng::new(1);
    let mut host = Host::small();
    let (mut peer, sent) = source(&mut host);
    let (una, end) = (peer.ack, reached(peer.ack, &sent));
    let before = host.connection(peer.port).unwrap();
    let wild = [
        (end, end.wrapping_add(1)),
        (end.wrapping_add(1000), end.wrapping_add(2000)),
        (una.wrapping_sub(1), end.wrapping_add(1)),
        (end, una),
        (una.wrapping_add(10), una.wrapping_add(10)),
        (una.wrapping_add(1 << 31), una.wrapping_add((1 << 31) + 1460)),
        // Parts of segments.
        (una.wrapping_add(1), una.wrapping_add(1459)),
    ];
    for blocks in wild.windows(3) {
        host.send_with(&peer, ACK, &[], &sack(blocks));
    }
    let after = host.connection(peer.port).unwrap();
    assert_eq!((after.cwnd, after.in_flight), (before.cwnd, before.in_flight));
    // Duplicates of what was never sent twice, from everywhere, do not undo what did not happen.
    for _ in 0..1000 {
        let (start, len) = (una.wrapping_sub(rng.below(1 << 20) as u32), rng.below(5000) as u32);
        host.send_with(&peer, ACK, &[], &sack(&[(start, start.wrapping_add(len))]));
    }
    let after = host.connection(peer.port).unwrap();
    assert!(after.cwnd <= before.cwnd && after.in_flight <= before.in_flight, "{after:?}");
    // Anything at all, for a while: the audit in every turn finds what would be wrong.
    for _ in 0..5000 {
        let near = |rng: &mut Rng| una.wrapping_add(rng.below(40_000) as u32).wrapping_sub(5000);
        let blocks: Vec<_> = (0..rng.between(1, 4)).map(|_| (near(&mut rng), near(&mut rng))).collect();
        host.send_with(&peer, ACK, &[], &sack(&blocks));
        if rng.chance(50) {
            host.wait(Duration::from_micros(rng.below(300_000)));
        }
        let sent = host.take();
        if let Some(last) = sent.iter().filter(|sent| !sent.text.is_empty()).map(|sent| sent.seq).max()
            && rng.chance(300)
        {
            let forward = last.wrapping_sub(peer.ack);
            if forward < 1 << 20 {
                peer.ack = last;
            }
        }
    }
    assert!(host.tcp().held() <= 512);
}

/// RFC 5961, section 5, and RFC 9293, section 3.10.7.4: what lies outside of the window is answered, within a limit.
#[test]
fn numbers_outside_of_the_window_are_answered_and_not_taken() {
    let mut host = Host::small();
    let peer = host.open(40_000, port::SINK, &USUAL);
    for offset in [1 << 17, 1 << 20, 1 << 31, u32::MAX - (1 << 17)] {
        let far = Peer { seq: peer.seq.wrapping_add(offset), ..peer };
        host.send(&far, ACK, b"evil");
        host.send(&far, ACK | flag::FIN, &[]);
        host.send(&far, flag::RST, &[]);
        host.send(&far, flag::SYN, &[]);
    }
    assert!(host.take().iter().all(|sent| sent.ack == Some(peer.seq) && !sent.rst && sent.text.is_empty()));
    host.send(&peer, ACK, b"good");
    assert_eq!((host.seen(peer.port).text.as_slice(), host.seen(peer.port).closed), (&b"good"[..], None));
}

#[test]
fn a_reset_counts_at_exactly_the_next_number_alone() {
    let mut host = Host::small();
    let peer = host.open(40_000, port::SINK, &USUAL);
    // RFC 5961, section 3.2: elsewhere in the window it is challenged.
    for offset in [1, 2, 1000, 65_000] {
        host.send(&Peer { seq: peer.seq.wrapping_add(offset), ..peer }, flag::RST, &[]);
        let answer = host.take();
        assert!(answer.iter().all(|sent| sent.ack == Some(peer.seq) && !sent.rst), "{answer:?}");
    }
    for offset in [u32::MAX, 65_536, 1 << 20, 1 << 31] {
        host.send(&Peer { seq: peer.seq.wrapping_add(offset), ..peer }, flag::RST, &[]);
        assert_eq!(host.take().len(), 0, "outside of it there is no answer");
    }
    assert_eq!(host.seen(peer.port).closed, None);
    host.send(&peer, flag::RST, &[]);
    assert_eq!((host.seen(peer.port).closed, host.tcp().population().0), (Some(Closed::Reset), 0));
}

/// Two ends that disagree about numbers answer each other's answers: not for ever.
#[test]
fn two_ends_that_disagree_do_not_talk_for_ever() {
    let mut host = Host::small();
    let peer = host.open(40_000, port::SINK, &USUAL);
    let wrong = Peer { seq: peer.seq.wrapping_add(1 << 20), ack: peer.ack.wrapping_add(1 << 20), ..peer };
    let mut answers = 0;
    for _ in 0..10_000 {
        // As a peer would whose numbers are others: every acknowledgment is answered by one.
        host.send(&wrong, ACK, &[]);
        answers += host.take().len();
        host.wait(Duration::from_millis(1));
    }
    // In ten seconds, at most five in each.
    assert!(answers <= 55, "{answers} answers");
    host.send(&peer, ACK, b"good");
    assert_eq!(host.seen(peer.port).text, b"good");
}

#[test]
fn a_tiny_mss_does_not_make_a_million_segments_of_a_megabyte() {
    for mss in [1_u16, 8, 47] {
        let mut host = Host::small();
        let [high, low] = mss.to_be_bytes();
        let mut peer = host.open(40_000, port::SOURCE, &[2, 4, high, low]);
        let mut sent = host.take();
        let mut bytes = 0;
        for _ in 0..100 {
            bytes += text(&sent);
            peer.ack = reached(peer.ack, &sent);
            assert!(sent.iter().all(|sent| sent.text.len() <= 48 && sent.text.len() >= 40), "{mss}");
            host.send(&peer, ACK, &[]);
            sent = host.take();
        }
        assert!(bytes > 10_000, "{bytes} bytes with an MSS of {mss}");
    }
}

#[test]
fn text_and_fin_in_a_syn_are_not_taken_and_harm_nothing() {
    let mut host = Host::small();
    let syn = frames::Tcp { seq: 100, flags: flag::SYN, window: 1000, text: b"early", ..frames::Tcp::default() };
    host.segment((40_000, port::SINK), &syn);
    let answer = host.take();
    assert_eq!((answer[0].syn, answer[0].ack), (true, Some(101)), "the text is not acknowledged");
    let peer = Peer {
        port: 40_000,
        service: port::SINK,
        seq: 101,
        ack: answer[0].seq.wrapping_add(1),
        window: 1000,
        echo: None,
    };
    host.send(&peer, ACK, b"early");
    assert_eq!(host.seen(40_000).text, b"early");
    host.segment((40_001, port::SINK), &frames::Tcp { flags: flag::SYN | flag::FIN, ..syn });
    host.segment((40_002, port::SINK), &frames::Tcp { flags: flag::SYN | flag::RST, ..syn });
    assert!(host.take().iter().all(|sent| !sent.syn && sent.port != 40_002));
    assert_eq!(host.tcp().population().1, 0);
}

/// RFC 4987: a flood of SYNs fills the backlog and no more; who answers is let in.
#[test]
fn in_a_flood_of_syns_whoever_answers_gets_in() {
    const FLOOD: u32 = 100_000;
    let mut host = Host::small();
    let mut rng = Rng::new(1);
    let old = host.open(39_999, port::SINK, &USUAL);
    let mut frame = frame((1, port::SINK), &frames::Tcp { flags: flag::SYN, window: 100, ..frames::Tcp::default() });
    for n in 0..FLOOD {
        // From another address, port and number each time. No checksum needs to be mended: what one word has more
        // another has less.
        let (a, b) = (rng.bits() as u16, 1 + rng.below(60_000) as u16);
        frame[38..40].copy_from_slice(&a.to_be_bytes());
        frame[40..42].copy_from_slice(&(!a).to_be_bytes());
        frame[34..36].copy_from_slice(&b.to_be_bytes());
        frame[48..50].copy_from_slice(&(!b).to_be_bytes());
        mend(&mut frame);
        host.turn(Some(&frame));
        if n % 1000 == 0 {
            host.take();
            let options: &[u8] = if n % 2000 == 0 { &WITH_TIMESTAMPS } else { &USUAL };
            let peer = host.open((30_000 + n / 1000) as u16, port::SINK, options);
            host.send(&peer, ACK, b"let me in");
            assert_eq!(host.seen(peer.port).text, b"let me in");
            host.send(&Peer { seq: peer.seq.wrapping_add(9), ..peer }, flag::RST, &[]);
            host.wait(ms(10));
        }
        let (connections, handshakes, _) = host.tcp().population();
        assert!(connections <= 2 && handshakes <= 8 && host.tcp().held() <= 4);
    }
    assert!(host.tcp().counters().cookies_accepted > 50);
    host.send(&old, ACK, b"still here");
    assert_eq!(host.seen(old.port).text, b"still here");
}

/// Puts the right checksum into a TCP segment.
fn mend(frame: &mut [u8]) {
    frame[50..52].fill(0);
    let checksum = !frames::transport_sum(Side::Near.address(), Side::Far.address(), frames::TCP, &frame[34..]);
    frame[50..52].copy_from_slice(&checksum.to_be_bytes());
}

/// An application that does not read closes the window on its peer, whatever that sends, and in pieces of any size.
#[test]
fn what_nobody_reads_takes_no_more_than_the_buffer() {
    for len in [1, 7, 100, 255, 256, 700, 1460] {
        for buffer in [4_000, 65_535, 300_000] {
            let tcp = TcpConfig { receive_buffer: buffer, connections: 4, ..TcpConfig::default() };
            let mut host = Host::new(tcp, 2048);
            let mut peer = host.open(40_000, port::DEAF, &USUAL);
            let mut window = u32::MAX;
            for _ in 0..2 * buffer / len + 100 {
                host.send(&peer, ACK | flag::PSH, &vec![7; len as usize]);
                if let Some(answer) = host.take().last() {
                    (peer.seq, window) = (answer.ack.unwrap(), u32::from(answer.window));
                } else if window >= len {
                    // An acknowledgment that is held back.
                    peer.seq = peer.seq.wrapping_add(len);
                }
            }
            let info = host.connection(peer.port).unwrap();
            let most = buffer + 8;
            assert!(info.receive_queue <= most, "{len}: {} bytes of {buffer}", info.receive_queue);
            // Small pieces are put together: at least an eighth of each chunk holds text.
            assert!(info.chunks <= 8 * buffer / 2048 + 4, "{len}: {} chunks for {buffer}", info.chunks);
            assert!(window < len || info.chunks >= 250, "{len}: the window closes, {info:?}");
        }
    }
}

#[test]
fn bytes_behind_gaps_of_many_connections_leave_memory_for_others() {
    let mut host = Host::small();
    let mut peers = Vec::new();
    for port in 0..50 {
        let peer = host.open(40_000 + port, port::SINK, &USUAL);
        for n in 0..60 {
            host.send(&Peer { seq: peer.seq.wrapping_add(2 + 2 * n), ..peer }, ACK, b"x");
        }
        peers.push(peer);
    }
    assert!(host.tcp().held() <= 256, "{} chunks are held", host.tcp().held());
    host.take();
    let honest = host.open(50_000, port::ECHO, &USUAL);
    host.send(&honest, ACK, b"hello");
    assert_eq!(text(&host.take()), 5, "an honest one is served");
    // And so are those, when they fill their gaps.
    for peer in peers {
        host.send(&peer, ACK, b"abc");
        assert_eq!(host.seen(peer.port).text[..3], *b"abc");
    }
}

#[test]
fn a_peer_that_reads_slowly_holds_no_more_than_its_part() {
    let mut host = Host::small();
    let slow: Vec<Peer> = (0..60)
        .map(|n| {
            let peer = host.open(40_000 + n, port::SOURCE, &USUAL);
            host.take();
            let peer = Peer { window: 1, ..peer };
            host.send(&peer, ACK, &[]);
            peer
        })
        .collect();
    host.take();
    assert!(host.tcp().held() <= 3 * 512 / 2, "{}", host.tcp().held());
    // One that is served by them all but for memory waits until some of them are given up (RFC 6429).
    let echo = host.open(50_000, port::ECHO, &USUAL);
    host.send(&echo, ACK, b"hello");
    let mut echoed = 0;
    for _ in 0..300 {
        for sent in host.take() {
            match slow.iter().find(|peer| peer.port == sent.port) {
                // Those answer whatever they are asked.
                Some(peer) => host.send(peer, ACK, &[]),
                None => echoed = echoed.max(sent.text.len()),
            }
        }
        host.wait(ms(100));
    }
    assert_eq!((echoed, host.tcp().counters().given_up_for_others > 0), (5, true));
    assert!(host.tcp().population().0 > 50, "no more than had to be");
    for peer in slow {
        host.send(&peer, flag::RST, &[]);
    }
    host.take();
    assert!(host.tcp().held() <= 1, "all of it comes back");
}

#[test]
fn fin_at_strange_places_ends_a_stream_once() {
    let mut host = Host::small();
    let mut peer = host.open(40_000, port::SINK, &USUAL);
    let at = |peer: &Peer, offset: u32| Peer { seq: peer.seq.wrapping_add(offset), ..*peer };
    // FIN behind a gap; then text behind it, which is impossible; then the gap.
    host.send(&at(&peer, 5), ACK | flag::FIN, b"fin");
    host.send(&at(&peer, 9), ACK, b"beyond");
    assert!(!host.seen(peer.port).finished);
    host.send(&peer, ACK, b"gap..");
    let seen = host.seen(peer.port);
    assert_eq!((seen.text.as_slice(), seen.finished), (&b"gap..fin"[..], true));
    // More text, and another FIN elsewhere.
    host.take();
    peer.seq = peer.seq.wrapping_add(9);
    host.send(&peer, ACK, b"more");
    host.send(&peer, ACK | flag::FIN, b"more");
    assert_eq!(host.seen(peer.port).text, b"gap..fin");
    let answers = host.take();
    assert!(answers.iter().all(|sent| sent.ack == Some(peer.seq)), "{answers:?}");
    // Our FIN is under way since then.
    peer.ack = peer.ack.wrapping_add(1);
    host.send(&peer, ACK, &[]);
    assert_eq!((host.seen(peer.port).closed, host.tcp().population().0), (Some(Closed::Finished), 0));
}

#[test]
fn urgent_pointers_point_anywhere_and_text_stays_in_line() {
    let mut host = Host::small();
    let mut peer = host.open(40_000, port::SINK, &USUAL);
    for urgent in [0, 1, 5, 100, u16::MAX] {
        let segment = frames::Tcp {
            seq: peer.seq,
            ack: peer.ack,
            flags: ACK | flag::URG,
            window: 1000,
            urgent,
            options: &[],
            text: b"hello",
        };
        host.segment((peer.port, peer.service), &segment);
        peer.seq = peer.seq.wrapping_add(5);
    }
    assert_eq!(host.seen(peer.port).text, b"hellohellohellohellohello");
}

/// RFC 7323, section 5.3 (PAWS): old timestamps are not taken, and one from the future cannot lock the others out unless
/// it came with a number that was right.
#[test]
fn timestamps_from_the_past_are_dropped_and_from_nowhere_do_no_harm() {
    let mut host = Host::small();
    let peer = host.open(40_000, port::SINK, &WITH_TIMESTAMPS);
    let echo = peer.echo.unwrap();
    let mut give = |seq, text: &[u8], value: Option<u32>| {
        let option = |value: u32| [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat();
        let options = value.map(option).unwrap_or_default();
        let options = &options;
        let segment = frames::Tcp { seq, ack: peer.ack, flags: ACK, window: 100, urgent: 0, options, text };
        host.segment((peer.port, peer.service), &segment);
        host.seen(peer.port).text
    };
    // Far ahead, outside of the window.
    give(peer.seq.wrapping_add(1 << 20), b"x", Some(1 << 30));
    assert_eq!(give(peer.seq, b"one", Some(2000)), b"one");
    // Older than the last, and without: the text is dropped.
    let next = peer.seq.wrapping_add(3);
    assert_eq!(give(next, b"old", Some(1000)), b"one");
    assert_eq!(give(next, b"none", None), b"one");
    assert_eq!(give(next, b"two", Some(2001)), b"onetwo");
}

/// Whatever comes without being asked for is answered by a reset at most, and remembered by nobody.
#[test]
fn segments_of_no_connection_leave_nothing_behind() {
    let mut host = Host::small();
    let mut rng = Rng::new(3);
    for _ in 0..20_000 {
        let text = [0; 10];
        let flags = rng.bits() as u8 & !flag::SYN;
        let segment = frames::Tcp {
            seq: rng.bits() as u32,
            ack: rng.bits() as u32,
            flags,
            window: rng.bits() as u16,
            urgent: rng.bits() as u16,
            options: &[],
            text: &text[..rng.below(10) as usize],
        };
        let service = rng.pick(&[port::ECHO, port::SINK, 80, 1]);
        host.segment((1 + rng.below(60_000) as u16, service), &segment);
        let answers = host.take();
        assert!(answers.len() <= 1 && answers.iter().all(|sent| sent.rst && sent.text.is_empty()), "{answers:?}");
        assert!(answers.is_empty() || flags & flag::RST == 0, "a reset is not answered");
    }
    assert_eq!((host.tcp().population(), host.tcp().held()), ((0, 0, 0), 0));
    assert!(host.tcp().next_deadline().is_none());
}

/// The frame's source MAC address is where answers go: one from a group is not taken.
#[test]
fn a_group_is_no_peer() {
    let mut host = Host::small();
    let syn = frames::Tcp { flags: flag::SYN, window: 100, ..frames::Tcp::default() };
    let mut frame = frame((40_000, port::SINK), &syn);
    frame[6..12].copy_from_slice(&Mac::BROADCAST.0);
    host.turn(Some(&frame));
    assert_eq!((host.take().len(), host.segments, host.tcp().population()), (0, 0, (0, 0, 0)));
}
