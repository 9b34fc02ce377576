//! What tests send through a stream: bytes that say by themselves at which offset they belong.

use crate::sim::Rng;

/// Endless bytes that look random. Two with different seeds have nothing in common, and a byte that is lost,
/// twice there, moved or changed is noticed where it happens.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    start: u64,
}

impl Content {
    /// The content of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { start: Rng::new(seed).bits() }
    }

    /// Writes what stands at `offset`.
    pub fn fill(&self, offset: u64, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(head_len(offset, out.len()));
        self.copy_part(offset, head);
        let first = (offset + head.len() as u64) / 8;
        let (words, tail) = rest.as_chunks_mut::<8>();
        for (index, word) in (first..).zip(&mut *words) {
            *word = self.word(index);
        }
        self.copy_part((first + words.len() as u64) * 8, tail);
    }

    /// Where `bytes`, which should stand at `offset`, differ from what does: the first such offset.
    #[must_use]
    pub fn differs_at(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut right = [0; 4096];
        for (index, part) in bytes.chunks(right.len()).enumerate() {
            let at = offset + (index * right.len()) as u64;
            let right = &mut right[..part.len()];
            self.fill(at, right);
            if right != part {
                let same = right.iter().zip(part).take_while(|(right, byte)| right == byte).count();
                return Some(at + same as u64);
            }
        }
        None
    }

    /// Writes what stands at `offset`, within one word.
    fn copy_part(&self, offset: u64, out: &mut [u8]) {
        let start = (offset % 8) as usize;
        out.copy_from_slice(&self.word(offset / 8)[start..][..out.len()]);
    }

    const fn word(&self, index: u64) -> [u8; 8] {
        Rng::new(self.start.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15))).bits().to_le_bytes()
    }
}

/// Bytes from `offset` to the next word, of at most `len`.
const fn head_len(offset: u64, len: usize) -> usize {
    let to_word = (offset.wrapping_neg() % 8) as usize;
    if to_word < len { to_word } else { len }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_what_stands_there_in_the_whole() {
        let content = Content::new(5);
        let mut whole = [0; 9_000];
        content.fill(0, &mut whole);
        for (from, to) in [(0, 9_000), (1, 2), (3, 8), (7, 17), (8, 16), (5, 8_999), (9_000, 9_000)] {
            let mut part = vec![0; to - from];
            content.fill(from as u64, &mut part);
            assert!(part == whole[from..to], "{from}..{to}");
            assert_eq!(content.differs_at(from as u64, &part), None);
        }
    }

    #[test]
    fn what_differs_is_found_where_it_does() {
        let content = Content::new(5);
        let mut bytes = [0; 9_000];
        content.fill(3, &mut bytes);
        bytes[8_000] ^= 1;
        assert_eq!(content.differs_at(3, &bytes), Some(8_003));
        assert_eq!(content.differs_at(4, &bytes[..1]), Some(4));
        assert_eq!(Content::new(6).differs_at(3, &bytes[..8]), Some(3));
    }
}
