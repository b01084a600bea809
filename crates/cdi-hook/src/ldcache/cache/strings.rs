//! The strings of a cache, in which one that is the end of another takes no space of its own.

/// Strings and where they are.
pub(super) struct StringTable {
    bytes: Vec<u8>,
    /// Where each string begins, in the bytes of the file, in the order in which they were given.
    offsets: Vec<u32>,
}

impl StringTable {
    /// Lays strings out in a table that begins at `start` of the file, as ldconfig does: in the
    /// order of their ends, a longer one before those that are its end.
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a [u8]>, start: usize) -> Self {
        let mut texts: Vec<(&[u8], usize)> = texts.zip(0..).collect();
        texts.sort_unstable_by(|(a, _), (b, _)| {
            let differ = a.iter().rev().zip(b.iter().rev()).find(|(x, y)| x != y);
            differ.map_or_else(|| b.len().cmp(&a.len()), |(x, y)| y.cmp(x))
        });
        let mut bytes: Vec<u8> = Vec::new();
        let mut offsets = vec![0; texts.len()];
        let mut previous: &[u8] = b"";
        for (text, at) in texts {
            // One that is there twice is its own end.
            if bytes.is_empty() || !previous.ends_with(text) {
                bytes.extend(text);
                bytes.push(0);
            }
            offsets[at] = (start + bytes.len() - 1 - text.len()) as u32;
            previous = text;
        }
        Self { bytes, offsets }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the string that was given as this one begins, in the bytes of the file.
    pub(super) fn offset(&self, at: usize) -> [u8; 4] {
        self.offsets[at].to_le_bytes()
    }
}
