//! Lookup of devices by the text of their ids. A request names every free device, thousands of them
//! where GPUs are shared, so a lookup neither parses a [`DeviceId`] nor allocates.
//!
//! [`DeviceId`]: crate::names::DeviceId

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::names::Uuid;

/// Positions by UUID.
pub(super) type ByUuid = HashMap<Uuid, usize, BuildHasherDefault<WordHasher>>;

/// A hash of eight bytes at a time. Only the kubelet makes requests, so ids that collide on purpose
/// are no concern.
#[derive(Default)]
pub(super) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            // The fractional part of the golden ratio: an odd number whose multiples lie far apart.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes the slot from the low bits and a tag from the high ones; a product has
        // its best bits in the upper half.
        self.0 ^ self.0 >> 32
    }
}
