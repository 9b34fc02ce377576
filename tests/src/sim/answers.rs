//! What a host owes: the answers that the reference gave, until the host gives the same; and what it was told about
//! its neighbors, for it has to send them there.
//!
//! An answer to a neighbor that is known leaves in the turn in which its question was digested, before anything else
//! that this turn brings. One to a neighbor that is not waits, until somebody says where the neighbor is: it leaves
//! then without the tags of its question, behind what waited for the same neighbor before. It may be that a host has
//! forgotten a neighbor that the model knows; never that it knows one that it was not told of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use barewire::stack::StackConfig;
use barewire::wire::ethernet::Mac;

use super::frames;
use super::reference::{Answer, Originates, Reaction, Timing, Told, Way};

/// Searches for neighbors that a stack runs at once at most.
pub(super) const SEARCHES: usize = 64;

/// What a host may believe of a neighbor from some moment on.
#[derive(Clone, Debug)]
struct Belief {
    /// Frames digested until then, with the one that said it.
    digested: u64,
    /// The turn.
    turn: u64,
    /// The MAC addresses that it may have: more than one where it is not known what was known before.
    macs: Vec<Mac>,
}

/// An answer that is still to come.
#[derive(Debug)]
struct Expected {
    answer: Answer,
    damaged: bool,
    obligatory: bool,
    digested: u64,
    turn: u64,
    /// Whether it did not leave in its turn.
    waits: bool,
}

/// What a host owes, and what it was told.
#[derive(Debug)]
pub struct Answers {
    mac: Mac,
    fixed: BTreeMap<IpAddr, Mac>,
    beliefs: BTreeMap<IpAddr, Vec<Belief>>,
    /// Neighbors that it has reason to know: it has something for them, or they wanted something.
    interesting: BTreeSet<IpAddr>,
    expected: VecDeque<Expected>,
    /// Identifications of datagrams in fragments, by the number of the frame that they answer.
    identifications: BTreeMap<u64, Vec<u8>>,
    digested: u64,
    turn: u64,
    missing: u64,
    missing_at_once: u64,
    /// Datagrams and echo replies that were to be counted.
    originated: [u64; 2],
}

impl Answers {
    /// Nothing yet.
    #[must_use]
    pub fn new(config: &StackConfig) -> Self {
        Self {
            mac: config.mac,
            fixed: config.neighbors.fixed.iter().map(|&(address, mac)| (address.into(), mac)).collect(),
            beliefs: BTreeMap::new(),
            interesting: BTreeSet::new(),
            expected: VecDeque::new(),
            identifications: BTreeMap::new(),
            digested: 0,
            turn: 0,
            missing: 0,
            missing_at_once: 0,
            originated: [0; 2],
        }
    }

    /// The host makes a turn.
    pub const fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// The host has something of its own for a neighbor.
    pub fn take_interest(&mut self, neighbor: IpAddr) {
        self.interesting.insert(neighbor);
    }

    /// The host has digested a frame.
    pub fn digest(&mut self, reaction: &Reaction, damaged: bool) {
        self.digested += 1;
        if let Some(told) = reaction.told {
            self.hear(told);
        }
        match reaction.originates {
            Some(Originates::Datagram) => self.originated[0] += 1,
            Some(Originates::EchoReply) => self.originated[1] += 1,
            None => {}
        }
        let (obligatory, digested, turn) = (reaction.obligatory, self.digested, self.turn);
        for answer in &reaction.answers {
            if let Way::Via(neighbor) = answer.way {
                self.interesting.insert(neighbor);
            }
            let answer = answer.clone();
            self.expected.push_back(Expected { answer, damaged, obligatory, digested, turn, waits: false });
        }
    }

    fn hear(&mut self, told: Told) {
        let Told { address, mac, overrides, introduces } = told;
        if introduces {
            self.interesting.insert(address);
        }
        // RFC 826, RFC 4861, section 7.2.5: nobody is entered whom nobody asked for.
        if self.fixed.contains_key(&address) || !self.interesting.contains(&address) {
            return;
        }
        let beliefs = self.beliefs.entry(address).or_default();
        let mut macs = match beliefs.last() {
            Some(before) if !overrides => before.macs.clone(),
            _ => Vec::new(),
        };
        macs.retain(|before| *before != mac);
        macs.push(mac);
        beliefs.push(Belief { digested: self.digested, turn: self.turn, macs });
    }

    /// What a frame that was put out in `turn` answers: whether it answers a damaged one, or `None` if it is no answer.
    /// Each answer is recognised once.
    pub fn recognise(&mut self, bytes: &[u8], turn: u64) -> Option<bool> {
        let at_once = self.expected.iter().position(|expected| self.is_at_once(expected, bytes, turn));
        let found =
            at_once.or_else(|| self.expected.iter().position(|expected| self.is_late(expected, bytes, turn)))?;
        let is_late = at_once.is_none();
        let answer = self.expected.remove(found).expect("it was found there");
        if answer.answer.timing == Timing::Piece
            && let Some((identification, _)) = frames::take_identification(bytes[14..].to_vec())
        {
            self.identifications.insert(answer.digested, identification);
        }
        let mut rest = VecDeque::with_capacity(self.expected.len());
        for (place, mut before) in std::mem::take(&mut self.expected).into_iter().enumerate() {
            if place >= found {
                rest.push_back(before);
                continue;
            }
            // What has not left in its turn, before this, waits or is lost; and neighbors' queues have an order.
            before.waits = true;
            // What does not leave at once has queues of its own.
            let is_of_queue = before.answer.timing == answer.answer.timing && before.answer.way == answer.answer.way;
            let is_ordered = answer.answer.timing != Timing::Sometime;
            if self.must_be_at_once(&before) || (is_late && is_of_queue && is_ordered) {
                self.give_up(&before);
            } else {
                rest.push_back(before);
            }
        }
        self.expected = rest;
        Some(answer.damaged)
    }

    /// Whether a frame is an answer as it leaves in the turn of its question.
    fn is_at_once(&self, expected: &Expected, bytes: &[u8], turn: u64) -> bool {
        let Expected { answer, digested, .. } = expected;
        if expected.waits || answer.timing != Timing::Now || expected.turn != turn || !bytes.ends_with(&answer.packet) {
            return false;
        }
        let to = frames::mac(bytes);
        let may_be = match answer.way {
            Way::Straight(mac) => to == mac,
            Way::Via(neighbor) => {
                self.believed(neighbor, |belief| belief.digested <= *digested).contains(&to)
                    || (to == answer.from && self.may_search_no_more(neighbor))
            }
        };
        may_be && bytes == frames::ethernet(to, self.mac, &answer.tags, answer.ethertype, &answer.packet)
    }

    /// Whether it is one that has waited for its neighbor.
    fn is_late(&self, expected: &Expected, bytes: &[u8], turn: u64) -> bool {
        let Expected { answer, digested, .. } = expected;
        let Way::Via(neighbor) = answer.way else { return false };
        if expected.turn > turn {
            return false;
        }
        let to = frames::mac(bytes);
        let in_frame = |tags: &[[u8; 4]]| frames::ethernet(to, self.mac, tags, answer.ethertype, &answer.packet);
        match answer.timing {
            Timing::Now => {}
            Timing::Piece => return self.is_piece(expected, bytes) && self.may_go(neighbor, to, turn),
            Timing::Sometime => {
                let is_same = bytes == in_frame(&answer.tags) || bytes == in_frame(&[]);
                return is_same && self.may_go(neighbor, to, turn);
            }
        }
        if self.fixed.contains_key(&neighbor) || !bytes.ends_with(&answer.packet) {
            return false;
        }
        let is_told = |belief: &Belief| belief.digested > *digested && belief.turn <= turn;
        self.beliefs.get(&neighbor).is_some_and(|beliefs| beliefs.iter().any(is_told))
            && self.believed(neighbor, |belief| belief.turn <= turn).contains(&to)
            && bytes == in_frame(&[])
    }

    /// Whether it is a fragment with whatever identification, but the same in all fragments of a datagram.
    fn is_piece(&self, expected: &Expected, bytes: &[u8]) -> bool {
        let Expected { answer, digested, .. } = expected;
        let in_frame = frames::ethernet(frames::mac(bytes), self.mac, &[], answer.ethertype, &[]);
        let Some(packet) = bytes.strip_prefix(in_frame.as_slice()) else { return false };
        let Some((identification, packet)) = frames::take_identification(packet.to_vec()) else { return false };
        packet == answer.packet && self.identifications.get(digested).is_none_or(|known| *known == identification)
    }

    /// The MAC addresses that the host may have for a neighbor, at the last moment that `until` says yes to.
    fn believed(&self, neighbor: IpAddr, until: impl Fn(&Belief) -> bool) -> &[Mac] {
        if let Some(mac) = self.fixed.get(&neighbor) {
            return std::slice::from_ref(mac);
        }
        let beliefs = self.beliefs.get(&neighbor).map_or(&[][..], Vec::as_slice);
        beliefs.iter().rfind(|belief| until(belief)).map_or(&[], |belief| &belief.macs)
    }

    /// Whether a frame of the host's own, put out in `turn`, may go to this MAC address.
    #[must_use]
    pub fn may_go(&self, neighbor: IpAddr, to: Mac, turn: u64) -> bool {
        self.believed(neighbor, |belief| belief.turn <= turn).contains(&to)
    }

    /// Whether the host has reason to ask for an address.
    #[must_use]
    pub fn may_ask(&self, neighbor: IpAddr) -> bool {
        self.interesting.contains(&neighbor) && !self.fixed.contains_key(&neighbor)
    }

    fn must_be_at_once(&self, expected: &Expected) -> bool {
        match expected.answer.way {
            _ if expected.answer.timing != Timing::Now => false,
            Way::Straight(_) => true,
            Way::Via(neighbor) => self.fixed.contains_key(&neighbor),
        }
    }

    /// Whether so many neighbors may be searched for that none more is.
    fn may_search_no_more(&self, neighbor: IpAddr) -> bool {
        let waiting = self.expected.iter().filter_map(|expected| match expected.answer.way {
            Way::Via(other) if other != neighbor && !self.fixed.contains_key(&other) => Some(other),
            _ => None,
        });
        // One may be for something of the host's own.
        waiting.collect::<BTreeSet<_>>().len() + 1 >= SEARCHES
    }

    fn give_up(&mut self, expected: &Expected) {
        let at_once = self.must_be_at_once(expected);
        self.missing += u64::from(expected.obligatory);
        self.missing_at_once += u64::from(expected.obligatory && at_once);
    }

    /// Nothing waits in the host: what has not come will not come.
    pub fn settle(&mut self) {
        for expected in std::mem::take(&mut self.expected) {
            self.give_up(&expected);
        }
    }

    /// Answers that were owed and will not come; and those of them that no neighbor could have kept back.
    #[must_use]
    pub const fn missing(&self) -> (u64, u64) {
        (self.missing, self.missing_at_once)
    }

    /// Datagrams and echo replies that the host has to have counted as sent, whatever became of them.
    #[must_use]
    pub const fn originated(&self) -> [u64; 2] {
        self.originated
    }
}
