//! Counters of a GPU since the plugin started: its Xids, and its changes of health.

use std::collections::BTreeMap;

use super::xid::Xid;
use crate::names::Uuid;

/// Different numbers counted one by one. NVIDIA's catalogue has fewer; a storm of random ones stays
/// within it.
const MAX_NUMBERS: usize = 512;

/// Counters of Xids.
#[derive(Debug, Clone, Default)]
pub(super) struct XidCounts {
    by_number: BTreeMap<Xid, u64>,
    others: u64,
}

impl XidCounts {
    /// Counts one; says how many of its number there were.
    pub(super) fn count(&mut self, xid: Xid) -> u64 {
        let known = self.by_number.len() < MAX_NUMBERS || self.by_number.contains_key(&xid);
        let counter = if known { self.by_number.entry(xid).or_default() } else { &mut self.others };
        *counter = counter.saturating_add(1);
        *counter
    }

    pub(super) fn by_number(&self) -> &BTreeMap<Xid, u64> {
        &self.by_number
    }

    pub(super) fn others(&self) -> u64 {
        self.others
    }
}

/// How often one GPU changed its health since the plugin started. A GPU begins as Healthy, unless
/// it is remembered otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transitions {
    unhealthy: bool,
    /// How often it became Unhealthy.
    pub to_unhealthy: u64,
    /// How often it became Healthy again.
    pub to_healthy: u64,
}

impl Transitions {
    fn is(&mut self, unhealthy: bool) {
        match (self.unhealthy, unhealthy) {
            (false, true) => self.to_unhealthy = self.to_unhealthy.saturating_add(1),
            (true, false) => self.to_healthy = self.to_healthy.saturating_add(1),
            _ => {}
        }
        self.unhealthy = unhealthy;
    }
}

/// The transitions of every GPU.
#[derive(Debug, Clone, Default)]
pub(super) struct AllTransitions(BTreeMap<Uuid, Transitions>);

impl AllTransitions {
    /// The health that a GPU begins with, which is no transition.
    pub(super) fn begins(&mut self, gpu: &Uuid, unhealthy: bool) {
        self.0.entry(gpu.clone()).or_default().unhealthy = unhealthy;
    }

    /// The health of a GPU as it is now.
    pub(super) fn is(&mut self, gpu: &Uuid, unhealthy: bool) {
        if let Some(known) = self.0.get_mut(gpu) {
            known.is(unhealthy);
        } else if unhealthy {
            self.0.entry(gpu.clone()).or_default().is(unhealthy);
        }
    }

    pub(super) fn of(&self, gpu: &Uuid) -> Transitions {
        self.0.get(gpu).copied().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, gpu: &Uuid) {
        self.0.remove(gpu);
    }
}
