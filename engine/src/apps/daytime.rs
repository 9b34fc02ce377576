//! The daytime service (RFC 867): says what time it is, as a line of text.
//!
//! An application is not to read clocks: [`App`] is handed the time. That is a monotonic clock with a zero that
//! means nothing, so whoever makes a [`Daytime`] says what time of day it was then; steps of the wall clock after
//! that are not followed.
//!
//! Over TCP the server speaks first and finishes first; what the client sends is thrown away.

use std::io::Write;
use std::time::Duration;

use super::ANSWERING_PORTS;
use crate::app::{Answer, App, Connection, Datagram};
use crate::base::Instant;

const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Tells everybody the time, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Daytime {
    zero: Duration,
}

impl Daytime {
    /// `zero` is how long after the start of 1970 (UTC) the clock that callbacks are handed was zero.
    #[must_use]
    pub const fn new(zero: Duration) -> Self {
        Self { zero }
    }

    /// Writes the line to the start of `room`, and says how long it is: at most 44 bytes, or 0 if there is no room.
    ///
    /// RFC 867: "There is no specific syntax for the daytime. It is recommended that it be limited to the ASCII
    /// printing characters, space, carriage return, and line feed. The daytime should be just one line." This is the
    /// first of its examples: `Weekday, Month Day, Year Time-Zone`.
    fn write(&self, now: Instant, room: &mut [u8]) -> usize {
        let seconds = (self.zero + now.since(Instant::ZERO)).as_secs();
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (weekday, month) = (WEEKDAYS[(days % 7) as usize], MONTHS[month]);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut rest = &mut *room;
        let written =
            write!(rest, "{weekday}, {month} {day}, {year} {hour:02}:{minute:02}:{second:02}-UTC\r\n").is_ok();
        let left = rest.len();
        if written { room.len() - left } else { 0 }
    }

    fn say(&self, now: Instant, connection: &mut impl Connection) {
        if connection.reserve(|room| self.write(now, room)) > 0 {
            connection.finish();
        }
    }
}

impl App for Daytime {
    type Session = ();

    fn datagram(&mut self, now: Instant, datagram: &mut Datagram<'_>) -> Answer {
        // RFC 1122, section 4.1.3.6 leaves it to us, and all members of a group would answer one spoofed datagram.
        if datagram.to_group() || ANSWERING_PORTS.contains(&datagram.source().port()) {
            return Answer::None;
        }
        Answer::Reply(self.write(now, datagram.room_mut()))
    }

    fn opened(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.say(now, connection);
    }

    fn writable(&mut self, now: Instant, (): &mut (), connection: &mut impl Connection) {
        self.say(now, connection);
    }
}

/// Year, month from 0, and day from 1, of the Gregorian calendar, so many days after 1 January 1970.
///
/// Counts from 1 March of year 0, so that the leap day is a year's last (Hinnant: "chrono-compatible low-level date
/// algorithms"): 146,097 days are 400 years, and five months from March are always 153 days.
const fn date(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = ((from_march + 2) % 12) as usize;
    let year = era * 400 + year_of_era + (month < 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeConnection;
    use super::*;

    fn line(seconds: u64) -> String {
        // A clock that was zero a day after the start of 1970.
        let daytime = Daytime::new(Duration::from_secs(86_400));
        let mut room = [0; 44];
        let len = daytime.write(Instant::from_ns((seconds - 86_400) * 1_000_000_000), &mut room);
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    #[test]
    fn the_line_is_that_of_the_rfcs_example() {
        // RFC 867 has "Tuesday, February 22, 1982 17:37:43-PST", which was a Monday.
        assert_eq!(line(383_247_463), "Monday, February 22, 1982 17:37:43-UTC\r\n");
        assert_eq!(line(1_727_598_609), "Sunday, September 29, 2024 08:30:09-UTC\r\n");
        assert_eq!(line(4_102_444_799), "Thursday, December 31, 2099 23:59:59-UTC\r\n");
    }

    #[test]
    fn days_follow_each_other_through_four_centuries() {
        let mut expected = (1970, 0, 1);
        for days in 0..146_097 {
            assert_eq!(date(days), expected, "day {days}");
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month];
            expected = match (day == last, month) {
                (false, _) => (year, month, day + 1),
                (true, 11) => (year + 1, 0, 1),
                (true, _) => (year, month + 1, 1),
            };
        }
        assert_eq!(expected, (2370, 0, 1));
    }

    #[test]
    fn the_longest_line_has_44_bytes_and_a_shorter_room_gets_none() {
        let longest = "Wednesday, September 30, 2026 10:00:00-UTC\r\n";
        assert_eq!((line(1_790_762_400).as_str(), longest.len()), (longest, 44));
        assert_eq!(Daytime::new(Duration::from_secs(1_790_762_400)).write(Instant::ZERO, &mut [0; 43]), 0);
    }

    #[test]
    fn a_datagram_is_answered_with_the_line_whatever_it_holds() {
        let answer = |source_port| {
            let mut room = [0; 100];
            let mut datagram =
                Datagram::new(([10, 0, 0, 1], source_port).into(), ([10, 0, 0, 2], 13).into(), &mut room, 0);
            Daytime::new(Duration::ZERO).datagram(Instant::ZERO, &mut datagram)
        };
        assert_eq!(answer(40_000), Answer::Reply("Thursday, January 1, 1970 00:00:00-UTC\r\n".len()));
        assert_eq!(answer(13), Answer::None);
    }

    #[test]
    fn a_connection_is_told_the_time_as_soon_as_there_is_room_and_finished() {
        let mut connection = FakeConnection::default();
        let mut daytime = Daytime::new(Duration::ZERO);
        daytime.opened(Instant::ZERO, &mut (), &mut connection);
        assert_eq!((connection.sent.len(), connection.finished), (0, false));
        connection.room = 100;
        daytime.writable(Instant::ZERO, &mut (), &mut connection);
        assert_eq!(
            (&connection.sent[..], connection.finished),
            (&b"Thursday, January 1, 1970 00:00:00-UTC\r\n"[..], true)
        );
    }
}
