//! Lengths of frames: one for all, or a mix in which several take turns.
//!
//! A mix is a short pattern of lengths that is gone through again and again. It is the same in every run and for every
//! sender, and in it each length comes as evenly as it can: `64:7,594:4,1514:1` is
//! `64 594 64 64 594 64 1514 64 594 64 594 64`.

use serde::{Deserialize, Serialize};

use super::frame;
use crate::error::{Error, Result};
use crate::netns::Family;

/// Longest pattern: as many lengths as the live-frame sender has room for (bpf/generate.bpf.c).
pub(crate) const MOST: usize = 64;
/// The simple Internet mix: frames with their frame check sequence, as it is usually given.
const IMIX: [Share; 3] =
    [Share { size_bytes: 64, weight: 7 }, Share { size_bytes: 594, weight: 4 }, Share { size_bytes: 1518, weight: 1 }];
/// Ethernet's shortest frame, with its frame check sequence.
const SHORTEST: u32 = 64;
/// The frame check sequence, which no program sees.
pub(crate) const FCS: usize = 4;

/// A length in a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub size_bytes: u32,
    /// Frames of this length, of as many as all weights are together.
    pub weight: u32,
}

/// What the command line says of lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    One(usize),
    Imix,
    Mix(Vec<Share>),
}

/// Reads `1514`, `imix` or `64:7,594:4,1514:1`.
pub(crate) fn parse(text: &str) -> std::result::Result<Asked, String> {
    const EXPECTED: &str = "a length in bytes, `imix`, or lengths with their weights as in `64:7,594:4,1514:1`";
    if text == "imix" {
        return Ok(Asked::Imix);
    }
    if let Ok(len) = text.parse() {
        return Ok(Asked::One(len));
    }
    let share = |part: &str| {
        let (len, weight) = part.split_once(':')?;
        let share = Share { size_bytes: len.parse().ok()?, weight: weight.parse().ok()? };
        (share.weight > 0).then_some(share)
    };
    let shares: Option<Vec<Share>> = text.split(',').map(share).collect();
    let shares = shares.ok_or(EXPECTED)?;
    match pattern_len(&shares) {
        Some(_) => Ok(Asked::Mix(shares)),
        None => Err(format!("the weights, without what divides all of them, are {MOST} together at most")),
    }
}

impl Asked {
    /// The lengths as programs see them: without `fcs` bytes that those asked for have. Those of the Internet mix always
    /// have the frame check sequence. In a mix with it, Ethernet's shortest frame is raised to what holds headers and a
    /// stamp.
    ///
    /// # Errors
    /// A length that cannot be sent.
    pub(crate) fn sizes(&self, family: Family, fcs: usize) -> Result<Sizes> {
        let least = frame::headers_len(family) + frame::STAMP_LEN;
        let shares = match self {
            Self::One(len) => {
                frame::check_len(family, *len)?;
                return Ok(Sizes::one(*len));
            }
            Self::Imix => IMIX.map(|share| share.without_fcs(least)).to_vec(),
            Self::Mix(shares) if fcs == 0 => shares.clone(),
            Self::Mix(shares) => shares.iter().map(|share| share.without_fcs(least)).collect(),
        };
        shares.iter().try_for_each(|share| frame::check_len(family, share.size_bytes as usize))?;
        Sizes::mix(&shares).ok_or_else(|| Error::usage("--size: a mix needs a weight for each length"))
    }
}

impl Share {
    /// Without the frame check sequence; Ethernet's shortest frame has `least` bytes then.
    fn without_fcs(self, least: usize) -> Self {
        let len = self.size_bytes.saturating_sub(FCS as u32);
        let size_bytes = if self.size_bytes >= SHORTEST { len.max(least as u32) } else { len };
        Self { size_bytes, ..self }
    }
}

/// Lengths that frames have in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    lens: [u16; MOST],
    /// Of `lens`, those that are used: one or more.
    count: usize,
}

impl Sizes {
    /// The same length for all.
    pub(crate) const fn one(len: usize) -> Self {
        let mut lens = [0; MOST];
        lens[0] = len as u16;
        Self { lens, count: 1 }
    }

    /// A mix; `None` if its pattern is too long, or there is none.
    fn mix(shares: &[Share]) -> Option<Self> {
        let (count, divisor) = (pattern_len(shares)?, divisor(shares));
        let mut credits = vec![0; shares.len()];
        let mut lens = [0; MOST];
        for len in &mut lens[..count] {
            // Everyone earns its weight each time, and who has most pays for all.
            let earned = credits.iter_mut().zip(shares).map(|(credit, share)| {
                *credit += i64::from(share.weight / divisor);
                *credit
            });
            let (first, _) = earned.enumerate().max_by_key(|(index, credit)| (*credit, std::cmp::Reverse(*index)))?;
            credits[first] -= count as i64;
            *len = shares[first].size_bytes as u16;
        }
        Some(Self { lens, count })
    }

    /// The length of a request.
    pub(crate) fn len_of(&self, sequence: u64) -> usize {
        usize::from(self.lens[(sequence % self.count as u64) as usize])
    }

    pub(crate) fn longest(&self) -> usize {
        self.pattern().iter().copied().max().map_or(0, usize::from)
    }

    /// Whether there are several.
    pub(crate) const fn is_mix(&self) -> bool {
        self.count > 1
    }

    /// In turn, over and over.
    pub(crate) fn pattern(&self) -> &[u16] {
        &self.lens[..self.count]
    }

    /// On average.
    pub(crate) fn mean(&self) -> f64 {
        self.pattern().iter().map(|len| f64::from(*len)).sum::<f64>() / self.count as f64
    }

    /// The lengths of a mix from the shortest, each with how many of a pattern have it. None where there is one length.
    pub(crate) fn shares(&self) -> Vec<Share> {
        let mut sorted = self.pattern().to_vec();
        sorted.sort_unstable();
        let runs = sorted.chunk_by(|a, b| a == b);
        let shares = runs.map(|run| Share { size_bytes: run[0].into(), weight: run.len() as u32 });
        if self.is_mix() { shares.collect() } else { Vec::new() }
    }

    /// In words: `64 B`, or `a mix of 62 B x7, 590 B x4, 1514 B x1`.
    pub(crate) fn describe(&self) -> String {
        if !self.is_mix() {
            return format!("{} B", self.longest());
        }
        let shares: Vec<String> =
            self.shares().iter().map(|share| format!("{} B x{}", share.size_bytes, share.weight)).collect();
        format!("a mix of {}", shares.join(", "))
    }
}

/// How long the pattern of a mix is; `None` if that is too long, or there are no lengths.
fn pattern_len(shares: &[Share]) -> Option<usize> {
    let all: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    let len = all.checked_div(divisor(shares).into())? as usize;
    (1..=MOST).contains(&len).then_some(len)
}

/// The greatest that divides all weights; 0 without any.
fn divisor(shares: &[Share]) -> u32 {
    let greatest = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    shares.iter().fold(0, |so_far, share| greatest(so_far, share.weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(text: &str) -> Sizes {
        parse(text).unwrap().sizes(Family::Ipv4, 0).unwrap()
    }

    #[test]
    fn each_length_has_its_weight_in_a_pattern_and_comes_evenly() {
        let sizes = mix("64:7,594:4,1514:1");
        assert_eq!(sizes.pattern(), [64, 594, 64, 64, 594, 64, 1514, 64, 594, 64, 594, 64]);
        let weights: Vec<(u32, u32)> = sizes.shares().iter().map(|share| (share.size_bytes, share.weight)).collect();
        assert_eq!(weights, [(64, 7), (594, 4), (1514, 1)]);
        let two: Vec<u16> = sizes.pattern().repeat(2);
        assert!((0..24).all(|sequence| sizes.len_of(sequence) == usize::from(two[sequence as usize])));
        assert!((sizes.mean() - (7.0 * 64.0 + 4.0 * 594.0 + 1514.0) / 12.0).abs() < 1e-9);
    }

    #[test]
    fn what_divides_all_weights_makes_no_longer_pattern() {
        assert_eq!(mix("64:700,1514:100"), mix("64:7,1514:1"));
        assert!(parse("64:64,1514:1").unwrap_err().contains("64 together"));
        assert_eq!(mix("64:63,1514:1").pattern().len(), MOST);
    }

    #[test]
    fn the_internet_mix_holds_a_stamp_in_both_families_and_has_no_frame_check_sequence() {
        for (family, least) in [(Family::Ipv4, 62), (Family::Ipv6, 82)] {
            let shares = Asked::Imix.sizes(family, 0).unwrap().shares();
            assert_eq!(shares.iter().map(|share| share.size_bytes).collect::<Vec<_>>(), [least, 590, 1514]);
        }
        assert_eq!(parse("68:1,594:1").unwrap().sizes(Family::Ipv4, FCS).unwrap().shares()[0].size_bytes, 64);
        assert_eq!(parse("64:1,594:1").unwrap().sizes(Family::Ipv4, FCS).unwrap().shares()[0].size_bytes, 62);
        assert!(parse("63:1,594:1").unwrap().sizes(Family::Ipv4, FCS).is_err(), "no frame of Ethernet");
    }

    #[test]
    fn one_length_is_no_mix_and_what_is_neither_is_refused() {
        let one = mix("64");
        assert!(!one.is_mix() && one.shares().is_empty() && one.describe() == "64 B");
        assert_eq!(mix("64:1,128:1").describe(), "a mix of 64 B x1, 128 B x1");
        for wrong in ["", "64:", "64:0", ":1", "64:1,", "64,128", "-1", "iMIX", "64:1;128:1", "64:4294967296"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("61:1,128:1").unwrap().sizes(Family::Ipv4, 0).is_err());
        assert!(parse("64:1,65600:1").unwrap().sizes(Family::Ipv4, 0).is_err());
    }
}
