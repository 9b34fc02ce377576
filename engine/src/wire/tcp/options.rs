//! Options of TCP: what the two ends tell each other beside the header (RFC 9293 section 3.1, RFC 7323, RFC 2018).
//!
//! ```text
//!  end of list 0 | no operation 1 | kind 1, length 1, value (length - 2)
//! ```
//!
//! What is written is laid out as Linux does it: every option fills whole 32-bit words, padded in front with
//! no-operations, so that values are aligned and a data segment's timestamps begin with one well-known word.

use super::super::checksum::Sum;
use super::super::seq::SeqNum;

/// Bytes that the header's length field leaves for options.
pub(super) const MAX_LEN: usize = 40;
/// Blocks that one SACK option has room for (RFC 2018, section 3).
pub const MAX_SACK_BLOCKS: usize = 4;
/// The largest shift of a window (RFC 7323, section 2.3).
pub const MAX_WINDOW_SCALE: u8 = 14;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Bytes of a block of a SACK option: its first sequence number, and the one behind its last.
const SACK_BLOCK_LEN: usize = 8;
/// Bytes of [`TIMESTAMPS_WORD`] and the two values behind it.
pub(super) const TIMESTAMPS_LEN: usize = 12;
/// No operation, no operation, timestamps of ten bytes: how RFC 7323, appendix A recommends it.
const TIMESTAMPS_WORD: u32 = word(NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10);

const fn word(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

/// Blocks of data that arrived behind a gap: each from its first sequence number to the one behind its last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(SeqNum, SeqNum); MAX_SACK_BLOCKS],
    len: u8,
}

impl SackBlocks {
    /// Adds a block behind the others; `false` if there are four already.
    #[inline]
    pub fn push(&mut self, start: SeqNum, end: SeqNum) -> bool {
        let Some(free) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *free = (start, end);
        self.len += 1;
        true
    }

    /// The blocks, in the order of the option.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[(SeqNum, SeqNum)] {
        self.blocks.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How many there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The options of a segment, received or to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size, in bytes of payload. Means something in a SYN only.
    pub mss: Option<u16>,
    /// Bits by which windows in later segments are shifted, 14 at most. Means something in a SYN only.
    pub window_scale: Option<u8>,
    /// Whether the sender understands SACK. Means something in a SYN only.
    pub sack_permitted: bool,
    /// The sender's clock, and the one that it received last: TSval and TSecr (RFC 7323, section 3.2).
    pub timestamps: Option<(u32, u32)>,
    /// What arrived behind a gap.
    pub sack: SackBlocks,
}

impl Options {
    /// No options.
    pub const EMPTY: Self = Self {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: SackBlocks { blocks: [(SeqNum::new(0), SeqNum::new(0)); MAX_SACK_BLOCKS], len: 0 },
    };

    /// Reads the options of a segment, of which no content is an error.
    ///
    /// Options of unknown kind are skipped. One whose length is below 2, beyond the end, or wrong for its kind
    /// ends the list: those before it stand. (Linux ends the list for the first two, and skips an option whose
    /// length is wrong for its kind.) Of two of a kind the later stands.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        options.read(bytes);
        options
    }

    /// The same, into options that are [`default`](Self::default): where they are to stay, so that they need not be
    /// moved there (reading whole what was just written in parts stalls on the stores).
    #[inline(always)]
    pub fn read(&mut self, bytes: &[u8]) {
        if let ([first, value, echo], []) = bytes.as_chunks()
            && u32::from_be_bytes(*first) == TIMESTAMPS_WORD
        {
            self.timestamps = Some((u32::from_be_bytes(*value), u32::from_be_bytes(*echo)));
        } else if !bytes.is_empty() {
            self.read_each(bytes);
        }
    }

    /// Reads one option after the other.
    #[inline(never)]
    fn read_each(&mut self, bytes: &[u8]) {
        // RFC 9293, section 3.2 (MUST-64): receivers MUST be prepared to process options even if they do not begin
        // on a word boundary.
        let mut rest = bytes;
        loop {
            rest = match rest {
                // RFC 9293, section 3.1 (MUST-4, MUST-68): all options except End of Option List and No-Operation
                // MUST have length fields.
                [] | [END, ..] => return,
                [NO_OPERATION, behind @ ..] => behind,
                [kind, len, behind @ ..] => {
                    // RFC 9293, section 3.1 (MUST-7): TCP implementations MUST be prepared to handle an illegal
                    // option length (e.g., zero).
                    let split = usize::from(*len).checked_sub(2).and_then(|len| behind.split_at_checked(len));
                    let Some((value, behind)) = split else { return };
                    if self.take(*kind, value).is_none() {
                        return;
                    }
                    behind
                }
                [_] => return,
            };
        }
    }

    /// Takes one option; `None` if its length is wrong for its kind.
    fn take(&mut self, kind: u8, value: &[u8]) -> Option<()> {
        match kind {
            MSS => match u16::from_be_bytes(value.try_into().ok()?) {
                // Segments of no payload are none to send data in: as on Linux, as if the option were absent.
                0 => {}
                mss => self.mss = Some(mss),
            },
            // RFC 7323, section 2.3: if a shift.cnt value larger than 14 is received, the TCP SHOULD log the
            // error but MUST use 14 instead.
            WINDOW_SCALE => match value {
                [scale] => self.window_scale = Some((*scale).min(MAX_WINDOW_SCALE)),
                _ => return None,
            },
            SACK_PERMITTED if value.is_empty() => self.sack_permitted = true,
            SACK_PERMITTED => return None,
            TIMESTAMPS => match pair(value)? {
                (timestamps, []) => self.timestamps = Some(timestamps),
                _ => return None,
            },
            SACK => self.sack = sack_blocks(value)?,
            // RFC 9293, section 3.1 (MUST-6): a TCP implementation MUST ignore without error any TCP Option it
            // does not implement, assuming that the option has a length field.
            _ => {}
        }
        Some(())
    }

    /// Bytes that the options take in a header; a multiple of four.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        match self.blocks_that_fit() {
            0 => self.len_without_sack(),
            blocks => self.len_without_sack() + 4 + blocks * SACK_BLOCK_LEN,
        }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len_without_sack(&self) -> usize {
        let permitted = match (self.timestamps, self.sack_permitted) {
            (Some(_), _) => TIMESTAMPS_LEN,
            (None, true) => 4,
            (None, false) => 0,
        };
        4 * usize::from(self.mss.is_some()) + 4 * usize::from(self.window_scale.is_some()) + permitted
    }

    /// How many blocks of the SACK option there is room for: all four, or three beside timestamps.
    #[inline]
    fn blocks_that_fit(&self) -> usize {
        if self.sack.is_empty() {
            return 0;
        }
        let room = MAX_LEN - self.len_without_sack() - 4;
        self.sack.len().min(room / SACK_BLOCK_LEN)
    }

    /// Writes the options to `out`, of exactly [`len`](Self::len) bytes, and adds them to `sum`.
    #[inline]
    pub(super) fn write(&self, out: &mut [u8], sum: Sum) -> Sum {
        // RFC 9293, section 3.1 (MUST-69): beyond an End of Option List there MUST be zeros. None is ever written,
        // as the options fill whole words.
        debug_assert_eq!(out.len(), self.len());
        if out.is_empty() {
            return sum;
        }
        // What every data segment carries: with so many bytes there is room for nothing else.
        if let Some(values) = self.timestamps
            && !self.sack_permitted
            && let Ok(out) = <&mut [u8; TIMESTAMPS_LEN]>::try_from(&mut *out)
        {
            return write_timestamps(out, values, sum);
        }
        self.write_each(out, sum)
    }

    /// Writes one option after the other.
    #[inline(never)]
    fn write_each(&self, out: &mut [u8], sum: Sum) -> Sum {
        let mut words = Words { free: out.as_chunks_mut().0.iter_mut(), sum };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            words.put(word(MSS, 4, high, low));
        }
        match (self.timestamps, self.sack_permitted) {
            (Some(values), permitted) => {
                words.put(if permitted { word(SACK_PERMITTED, 2, TIMESTAMPS, 10) } else { TIMESTAMPS_WORD });
                words.put(values.0);
                words.put(values.1);
            }
            (None, true) => words.put(word(NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2)),
            (None, false) => {}
        }
        if let Some(scale) = self.window_scale {
            words.put(word(NO_OPERATION, WINDOW_SCALE, 3, scale.min(MAX_WINDOW_SCALE)));
        }
        let blocks = self.blocks_that_fit();
        if blocks > 0 {
            words.put(word(NO_OPERATION, NO_OPERATION, SACK, (2 + blocks * SACK_BLOCK_LEN) as u8));
        }
        for (start, end) in self.sack.as_slice().iter().take(blocks) {
            words.put(start.value());
            words.put(end.value());
        }
        words.sum
    }
}

/// Writes timestamps alone, and adds them to `sum`.
#[inline(always)]
pub(super) fn write_timestamps(out: &mut [u8; TIMESTAMPS_LEN], (value, echo): (u32, u32), sum: Sum) -> Sum {
    out[..4].copy_from_slice(&TIMESTAMPS_WORD.to_be_bytes());
    out[4..8].copy_from_slice(&value.to_be_bytes());
    out[8..].copy_from_slice(&echo.to_be_bytes());
    sum.add_words([TIMESTAMPS_WORD, value, echo])
}

/// Words that are written one behind the other, and summed up on the way.
struct Words<'a> {
    free: core::slice::IterMut<'a, [u8; 4]>,
    sum: Sum,
}

impl Words<'_> {
    fn put(&mut self, word: u32) {
        if let Some(free) = self.free.next() {
            *free = word.to_be_bytes();
            self.sum = self.sum.add_words([word]);
        }
    }
}

/// The first two 32-bit numbers of `bytes`, and what is behind them.
#[inline]
fn pair(bytes: &[u8]) -> Option<((u32, u32), &[u8])> {
    let (first, behind) = bytes.split_first_chunk()?;
    let (second, behind) = behind.split_first_chunk()?;
    Some(((u32::from_be_bytes(*first), u32::from_be_bytes(*second)), behind))
}

/// The blocks of a SACK option: one to four, and nothing besides.
fn sack_blocks(value: &[u8]) -> Option<SackBlocks> {
    if value.is_empty() || value.len() > MAX_SACK_BLOCKS * SACK_BLOCK_LEN {
        return None;
    }
    let (mut blocks, mut rest) = (SackBlocks::default(), value);
    while !rest.is_empty() {
        let ((start, end), behind) = pair(rest)?;
        blocks.push(SeqNum::new(start), SeqNum::new(end));
        rest = behind;
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sack(blocks: u32) -> SackBlocks {
        let mut sack = SackBlocks::default();
        for n in 0..blocks {
            assert!(sack.push(SeqNum::new(n * 1000), SeqNum::new(n * 1000 + 500)));
        }
        sack
    }

    fn written(options: &Options) -> Vec<u8> {
        let mut out = vec![0xee; options.len()];
        let sum = options.write(&mut out, Sum::default());
        assert_eq!(sum.fold(), Sum::default().add_bytes(&out).fold(), "{options:?}");
        out
    }

    /// All that can be combined, with `blocks` blocks of SACK.
    fn combinations(blocks: u32) -> impl Iterator<Item = Options> {
        (0..16_u32).map(move |bits| Options {
            mss: (bits & 1 != 0).then_some(1460),
            window_scale: (bits & 2 != 0).then_some(7),
            sack_permitted: bits & 4 != 0,
            timestamps: (bits & 8 != 0).then_some((0x0102_0304, 0xa0b0_c0d0)),
            sack: sack(blocks),
        })
    }

    #[test]
    fn what_is_written_is_what_is_parsed() {
        for options in (0..=4).flat_map(combinations) {
            let bytes = written(&options);
            assert!(bytes.len() <= MAX_LEN && bytes.len().is_multiple_of(4), "{options:?}");
            let parsed = Options::parse(&bytes);
            assert_eq!(Options { sack: options.sack, ..parsed }, options);
            // RFC 9293, section 3.1 (MUST-69): the list has no end, for what is put behind it is read too.
            let longer = [&bytes[..], &[WINDOW_SCALE, 3, 5]].concat();
            assert_eq!(Options { window_scale: options.window_scale, ..Options::parse(&longer) }, parsed);
            assert_eq!(Options::parse(&longer).window_scale, Some(5));
            let fit = options.sack.len().min((MAX_LEN - 4 - options.len_without_sack()) / 8);
            assert_eq!(parsed.sack.as_slice(), &options.sack.as_slice()[..fit], "{options:?}");
            assert_eq!(options.is_empty(), options == Options::default());
        }
    }

    /// RFC 2018, section 3: at most four blocks, and three if the timestamp option is used.
    #[test]
    fn four_blocks_fit_alone_and_three_beside_timestamps() {
        let alone = Options { sack: sack(4), ..Options::default() };
        assert_eq!((alone.len(), Options::parse(&written(&alone)).sack.len()), (36, 4));
        let beside = Options { timestamps: Some((1, 2)), ..alone };
        assert_eq!((beside.len(), Options::parse(&written(&beside)).sack.len()), (40, 3));
        let mut full = sack(4);
        assert!(!full.push(SeqNum::new(1), SeqNum::new(2)));
        assert_eq!(full, sack(4));
    }

    /// The options of a SYN and of a data segment of Linux 6.18, as captured.
    #[test]
    fn layout_is_that_of_linux() {
        let syn = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0x07, 0xef, 0x38, 0x01, 0, 0, 0, 0, 1, 3, 3, 10];
        let timestamps = Some((0x07ef_3801, 0));
        let expected =
            Options { mss: Some(1460), window_scale: Some(10), sack_permitted: true, timestamps, sack: sack(0) };
        assert_eq!((Options::parse(&syn), written(&expected)), (expected, syn.to_vec()));
        let data = [1, 1, 8, 10, 0x07, 0xef, 0x38, 0x02, 0x2e, 0x30, 0xfb, 0xdd];
        let expected = Options { timestamps: Some((0x07ef_3802, 0x2e30_fbdd)), ..Options::default() };
        assert_eq!((Options::parse(&data), written(&expected)), (expected, data.to_vec()));
    }

    #[test]
    fn unknown_options_are_skipped_and_the_end_of_the_list_is_the_end() {
        // RFC 9293, section 3.1 (MUST-4, MUST-6, MUST-68): fast open (34), an experiment (253), one of no value (99)
        // are skipped by their length; then come no operation, maximum segment size and end of list.
        let parsed = Options::parse(&[34, 2, 253, 6, 2, 4, 9, 9, 99, 2, 1, 2, 4, 0x05, 0xb4, 0, 3, 3, 7]);
        assert_eq!(parsed, Options { mss: Some(1460), ..Options::default() });
        // RFC 9293, section 3.2 (MUST-64): none of these begins on a word boundary, except the first.
        let parsed = Options::parse(&[3, 3, 7, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 4, 2]);
        let timestamps = Some((1, 2));
        assert_eq!(parsed, Options { window_scale: Some(7), sack_permitted: true, timestamps, ..Options::default() });
    }

    #[test]
    fn illegal_lengths_end_the_list_and_what_stood_before_them_stands() {
        // RFC 9293, section 3.1 (MUST-7): illegal option lengths, the connection goes on.
        let before = [2, 4, 0x05, 0xb4];
        let expected = Options { mss: Some(1460), ..Options::default() };
        let illegal: [&[u8]; 12] = [
            &[99, 0],
            &[99, 1],
            &[99, 20, 1],
            &[99],
            &[8, 9, 0, 0, 0, 1, 0, 0, 0],
            &[8, 11, 0, 0, 0, 1, 0, 0, 0, 2, 0],
            &[3, 2],
            &[3, 4, 1, 1],
            &[4, 3, 0],
            &[2, 3, 1],
            &[5, 2],
            &[5, 9, 0, 0, 0, 1, 0, 0, 0],
        ];
        for bytes in illegal {
            let bytes = [&before, bytes, &[3, 3, 7]].concat();
            assert_eq!(Options::parse(&bytes), expected, "{bytes:?}");
        }
        // Five blocks, which no header has room for.
        let five = [&before[..], &[5, 42], &[0; 40]].concat();
        assert_eq!(Options::parse(&five), expected);
    }

    #[test]
    fn values_that_cannot_be_meant_are_not_taken_at_their_word() {
        assert_eq!(Options::parse(&[3, 3, 255]).window_scale, Some(14));
        assert_eq!(Options::parse(&[2, 4, 0, 0]).mss, None);
        let steep = Options { window_scale: Some(15), ..Options::default() };
        assert_eq!(written(&steep), [1, 3, 3, 14]);
    }

    #[test]
    fn no_bytes_are_too_odd() {
        let mut seed = 1_u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as u32
        };
        let rounds = if cfg!(miri) { 1000 } else { 200_000 };
        let mut sack_seen = 0;
        for _ in 0..rounds {
            let all = combinations(random() % 5).nth(random() as usize % 16).unwrap();
            let mut bytes = written(&all);
            for _ in 0..random() % 4 {
                let at = random() as usize % (bytes.len() + 1);
                // Small numbers are kinds and lengths; others are mostly values.
                let byte = if random() % 2 == 0 { random() % 12 } else { random() } as u8;
                match (random() % 3, bytes.get_mut(at)) {
                    (0, Some(place)) => *place = byte,
                    (1, Some(_)) => drop(bytes.remove(at)),
                    _ => bytes.insert(at, byte),
                }
            }
            let parsed = Options::parse(&bytes);
            assert!(parsed.sack.len() <= MAX_SACK_BLOCKS && parsed.window_scale.is_none_or(|scale| scale <= 14));
            assert_ne!(parsed.mss, Some(0));
            // Whatever was read can be said again.
            assert_eq!(Options { sack: parsed.sack, ..Options::parse(&written(&parsed)) }, parsed);
            sack_seen += usize::from(!parsed.sack.is_empty());
        }
        assert!(sack_seen > rounds / 10);
    }
}
