//! Counters of a GPU since the plugin started: its Xids, and its changes of health.

use std::collections::BTreeMap;

use super::xid::Xid;
use crate::names::Uuid;

/// Numbers counted one by one, to bound memory. NVIDIA's Xid catalogue has fewer.
const MAX_NUMBERS: usize = 512;

/// Counters of Xids.
#[derive(Debug, Clone, Default)]
pub(super) struct XidCounts {
    by_number: BTreeMap<Xid, u64>,
    others: u64,
}

impl XidCounts {
    /// Counts an Xid; returns how many of its number there were.
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

/// How often the health of one GPU changed since the plugin started. A GPU starts as Healthy,
/// unless it was restored otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transitions {
    unhealthy: bool,
    /// Transitions from Healthy to Unhealthy.
    pub to_unhealthy: u64,
    /// Transitions from Unhealthy to Healthy.
    pub to_healthy: u64,
}

impl Transitions {
    fn update(&mut self, unhealthy: bool) {
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
    /// A GPU starts as Unhealthy, which is no transition.
    pub(super) fn start(&mut self, gpu: &Uuid) {
        self.0.entry(gpu.clone()).or_default().unhealthy = true;
    }

    /// Counts a transition if the health of a GPU changed.
    pub(super) fn update(&mut self, gpu: &Uuid, unhealthy: bool) {
        if let Some(known) = self.0.get_mut(gpu) {
            known.update(unhealthy);
        } else if unhealthy {
            self.0.entry(gpu.clone()).or_default().update(unhealthy);
        }
    }

    pub(super) fn of(&self, gpu: &Uuid) -> Transitions {
        self.0.get(gpu).copied().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, gpu: &Uuid) {
        self.0.remove(gpu);
    }
}
