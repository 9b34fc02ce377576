//! The urgent mechanism (RFC 9293, section 3.8.5), whose data stays in line (RFC 6093).

use super::*;
use crate::wire::tcp::Flags;

/// RFC 9293, section 3.8.5 (MUST-30, MUST-32): the application is told of a new urgent pointer, and whenever it
/// advances.
#[test]
fn an_urgent_pointer_is_told_of_when_it_is_news() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(10).urgent(5));
        assert_eq!(s.told(), [Told::Data, Told::Urgent]);
        s.peer_sends(seg(11, 1).len(10)).peer_sends(seg(21, 1).len(10).urgent(10));
        assert_eq!(s.told(), [Told::Data, Told::Data, Told::Urgent]);
        // The same again, and one that lies back, are no news.
        s.peer_sends(seg(31, 1).urgent(0)).peer_sends(seg(31, 1).len(10));
        assert_eq!(s.told(), [Told::Data]);
        s.app_takes(40).take_all();
        // Everything urgent was taken: another is news again.
        s.peer_sends(seg(41, 1).len(1).urgent(1));
        assert_eq!(s.told(), [Told::Data, Told::Urgent]);
        s.app_takes(1);
    }
}

/// RFC 9293, section 3.8.5 (MUST-33): how much urgent data remains to be read. (MUST-62): the pointer names the octet
/// behind the urgent data. (MUST-31): which may be of any length.
#[test]
fn it_can_be_asked_how_much_urgent_data_there_is_to_read() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(10).urgent(3));
        assert_eq!(s.tcp.urgent_len(s.index), 3);
        s.app_takes(2);
        assert_eq!(s.tcp.urgent_len(s.index), 1);
        s.app_takes(1);
        assert_eq!(s.tcp.urgent_len(s.index), 0);
        s.app_takes(7);
        // Of most of it only the pointer has arrived.
        s.peer_sends(seg(11, 1).urgent(60_000));
        assert_eq!((s.told().last(), s.tcp.urgent_len(s.index)), (Some(&Told::Urgent), 60_000));
        for n in 0..60 {
            s.peer_sends(seg(11 + 1000 * n, 1).len(1000).urgent(60_000)).app_takes(1000).take_all();
        }
        // And it advanced with every segment.
        assert_eq!(s.tcp.urgent_len(s.index), 59_000);
    }
}

/// RFC 9293, section 3.8.5 (MUST-30): what the application calls urgent is. (MUST-62): the pointer names the octet
/// behind it.
#[test]
fn what_the_application_calls_urgent_is_pointed_to_until_it_is_acknowledged() {
    for mut s in established() {
        s.app_sets(|tcp, index, _| tcp.set_nagle(index, false));
        s.app_sends(10).expect(seg(1, 1).len(10).psh());
        s.app_sends_urgently(5).expect(seg(11, 1).len(5).psh().urgent(5));
        // What follows it is not.
        s.app_sends(10).expect(seg(16, 1).len(10).psh());
        // What was before it, sent again, points to it, too.
        s.at(220).expect(seg(1, 1).len(10).urgent(15));
        s.peer_sends(seg(1, 11)).expect(seg(11, 1).len(5).urgent(5)).expect(seg(16, 1).len(10).psh());
        s.peer_sends(seg(1, 26)).app_sends(1).expect(seg(26, 1).len(1).psh());
    }
}

/// RFC 9293, section 3.8.5 (MUST-31): of any length: what the field cannot say is named by the segments behind.
#[test]
fn urgent_data_may_be_longer_than_the_pointer_can_say() {
    for mut s in established() {
        s.app_sends_urgently(70_000);
        let mut una = 1;
        while una < 70_001 {
            for sent in s.take_all() {
                let ahead = (70_001 - sent.seg.seq).min(65_535);
                assert_eq!((sent.seg.flags.contains(Flags::URG), u32::from(sent.seg.urgent)), (true, ahead));
                una = sent.seg.end();
            }
            s.peer_sends(seg(1, una));
        }
    }
}

#[test]
fn a_closed_window_does_not_keep_urgent_news_back() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).window(0)).app_sends_urgently(10).expect_nothing();
        s.at(220).expect(seg(0, 1).urgent(11));
    }
}

/// RFC 9293, section 3.8.5 (SHLD-13): new applications SHOULD NOT employ the urgent mechanism: nothing is urgent unless
/// an application calls it so.
#[test]
fn nothing_is_urgent_by_itself() {
    for mut s in established() {
        s.app_sends(1500).app_finishes();
        s.run_until(10_000).iter().for_each(|sent| assert!(!sent.seg.flags.contains(Flags::URG)));
    }
}

#[test]
fn urgent_text_stays_in_line() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(10).urgent(5)).peer_sends(seg(11, 1).len(10).urgent(1)).take();
        s.app_takes(20);
    }
}
