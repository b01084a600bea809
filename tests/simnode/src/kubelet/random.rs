//! A small seeded generator: the kubelet's orders are random, and a test must be able to repeat
//! them.

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The items in an order of chance, as iteration over a Go map gives them.
    pub(crate) fn shuffled(&mut self, items: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut items: Vec<String> = items.into_iter().collect();
        for last in (1..items.len()).rev() {
            let chosen = self.next() % (last as u64 + 1);
            items.swap(last, usize::try_from(chosen).expect("below the length of a Vec"));
        }
        items
    }
}
