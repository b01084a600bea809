//! The strings of a cache, in which one that is the end of another takes no space of its own.

use std::collections::HashMap;

/// Strings and where they are.
pub(super) struct StringTable<'a> {
    bytes: Vec<u8>,
    offsets: HashMap<&'a [u8], u32>,
}

impl<'a> StringTable<'a> {
    /// Lays strings out in a table that begins at `start` of the file, as ldconfig does: in the
    /// order of their ends, a longer one before those that are its end.
    pub(super) fn new(texts: impl Iterator<Item = &'a [u8]>, start: usize) -> Self {
        let mut texts: Vec<&[u8]> = texts.collect();
        texts.sort_unstable_by(|a, b| {
            let differ = a.iter().rev().zip(b.iter().rev()).find(|(x, y)| x != y);
            differ.map_or_else(|| b.len().cmp(&a.len()), |(x, y)| y.cmp(x))
        });
        texts.dedup();
        let mut bytes: Vec<u8> = Vec::new();
        let mut offsets = HashMap::with_capacity(texts.len());
        let mut previous: &[u8] = b"";
        for text in texts {
            let offset = if !bytes.is_empty() && previous.ends_with(text) {
                bytes.len() - 1 - text.len()
            } else {
                bytes.extend(text);
                bytes.push(0);
                bytes.len() - 1 - text.len()
            };
            offsets.insert(text, (start + offset) as u32);
            previous = text;
        }
        Self { bytes, offsets }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a string begins, in the bytes of the file.
    pub(super) fn offset(&self, text: &[u8]) -> [u8; 4] {
        self.offsets.get(text).copied().unwrap_or_default().to_le_bytes()
    }
}
