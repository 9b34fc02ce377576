//! The urgent mechanism (RFC 9293, section 3.8.5), whose data stays in line (RFC 6093).

use super::*;

/// RFC 9293, section 3.8.5 (MUST-30, MUST-32): the application is told of a new urgent pointer, and whenever it advances.
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

/// RFC 9293, section 3.8.5 (MUST-33): how much urgent data remains to be read. (MUST-62): the pointer names the octet behind
/// the urgent data. (MUST-31): which may be of any length.
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

#[test]
fn urgent_text_stays_in_line() {
    for mut s in established() {
        s.peer_sends(seg(1, 1).len(10).urgent(5)).peer_sends(seg(11, 1).len(10).urgent(1)).take();
        s.app_takes(20);
    }
}
