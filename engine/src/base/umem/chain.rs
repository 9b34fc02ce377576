//! What can be done with a packet that is spread over several chunks.

use super::{Frame, NONE, Umem};

impl Umem {
    /// Appends `part` to the chain of `frame`.
    pub fn append(&mut self, frame: &mut Frame, part: Frame) {
        let mut last = frame.chunk();
        while self.meta[last as usize].more != NONE {
            last = self.meta[last as usize].more;
        }
        let meta = &mut self.meta[part.chunk() as usize];
        (meta.offset, meta.len) = (part.offset(), part.len());
        self.meta[last as usize].more = part.chunk();
    }

    /// Whether the packet goes on in further chunks.
    #[inline]
    #[must_use]
    pub fn is_chain(&self, frame: &Frame) -> bool {
        self.meta.get(frame.chunk() as usize).is_some_and(|meta| meta.more != NONE)
    }

    /// Number of chunks that the packet is spread over.
    #[must_use]
    pub fn parts(&self, frame: &Frame) -> u32 {
        let mut parts = 1;
        let mut chunk = frame.chunk();
        while let Some(meta) = self.meta.get(chunk as usize)
            && meta.more != NONE
        {
            chunk = meta.more;
            parts += 1;
        }
        parts
    }
}
