//! Tells new answers from repeated ones, and those in order from late ones, by the sequence that each carries.

/// Sequences that are remembered: a repeated answer is known as such if fewer than this came since.
const REMEMBERED: usize = 65_536;

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    InOrder,
    /// New, but a later request was answered before.
    Late,
    /// The same request was answered before.
    Again,
}

/// The sequences of one trial.
pub(crate) struct Sequences {
    /// One more than the highest.
    next: u64,
    /// One more than the sequence that was seen last of those with the same low bits.
    seen: Box<[u64]>,
    pub duplicated: u64,
    pub reordered: u64,
}

impl Sequences {
    pub(crate) fn new() -> Self {
        Self { next: 0, seen: vec![0; REMEMBERED].into(), duplicated: 0, reordered: 0 }
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, sequence: u64) -> Seen {
        let slot = &mut self.seen[sequence as usize % REMEMBERED];
        if *slot == sequence + 1 {
            self.duplicated += 1;
            return Seen::Again;
        }
        *slot = sequence + 1;
        if sequence < self.next {
            self.reordered += 1;
            return Seen::Late;
        }
        self.next = sequence + 1;
        Seen::InOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_repetition_and_lateness_are_told_apart() {
        let mut sequences = Sequences::new();
        let seen: Vec<Seen> = [0, 1, 3, 3, 2, 1, 5].into_iter().map(|sequence| sequences.note(sequence)).collect();
        assert_eq!(
            seen,
            [Seen::InOrder, Seen::InOrder, Seen::InOrder, Seen::Again, Seen::Late, Seen::Again, Seen::InOrder]
        );
        assert_eq!((sequences.duplicated, sequences.reordered), (2, 1));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_fell_out_counts_as_late() {
        let mut sequences = Sequences::new();
        let last = REMEMBERED as u64;
        (0..=last).for_each(|sequence| assert_eq!(sequences.note(sequence), Seen::InOrder));
        assert_eq!((sequences.note(last), sequences.note(0)), (Seen::Again, Seen::Late));
    }
}
