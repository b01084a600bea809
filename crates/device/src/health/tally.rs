//! How many Xids of each number a GPU has had, in bounded memory.

use std::collections::BTreeMap;

use super::xid::Xid;

/// Different numbers counted one by one. NVIDIA's catalogue has fewer; a storm of random ones stays
/// within it.
const MOST: usize = 512;

/// Counters of Xids.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    each: BTreeMap<Xid, u64>,
    others: u64,
}

impl Tally {
    /// Counts one; says how many of its number there were.
    pub(super) fn count(&mut self, xid: Xid) -> u64 {
        let known = self.each.len() < MOST || self.each.contains_key(&xid);
        let counter = if known { self.each.entry(xid).or_default() } else { &mut self.others };
        *counter = counter.saturating_add(1);
        *counter
    }

    pub(super) fn each(&self) -> &BTreeMap<Xid, u64> {
        &self.each
    }

    pub(super) fn others(&self) -> u64 {
        self.others
    }
}
