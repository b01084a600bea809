//! The last events, in bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::health::{HealthChange, HealthNotice, Moment};
use device::inventory::{Inventory, InventoryChanges};
use device::names::Uuid;
use status::{Event, EventKind, Timestamp};

use super::wall::Wall;

/// Events that are kept.
const KEPT: usize = 256;
/// GPUs of which the time of the last event is kept: more than any node has.
const GPUS: usize = 1024;
/// How far back an equal event is looked for, to count one more of it.
const NEAR: usize = 16;

/// The last events. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct EventLog(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    events: VecDeque<Happened>,
    last: BTreeMap<Uuid, Moment>,
}

/// An event as it is kept: by the process's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When.
    pub at: Moment,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The physical GPU that it is about, and NVML's index of it.
    pub gpu: Option<(Uuid, Option<u32>)>,
    /// The Xid, where it is one.
    pub xid: Option<u32>,
    /// The resource that it is about.
    pub resource: Option<String>,
    /// What happened.
    pub message: String,
    /// How many equal ones were taken together.
    pub times: u64,
}

impl Happened {
    /// An event about no GPU in particular.
    #[must_use]
    pub fn new(at: Moment, kind: EventKind, message: impl Into<String>) -> Self {
        Self { at, kind, gpu: None, xid: None, resource: None, message: message.into(), times: 1 }
    }

    /// As it is told.
    #[must_use]
    pub fn told(&self, wall: Wall) -> Event {
        Event {
            at: wall.at(self.at),
            kind: self.kind,
            gpu: self.gpu.as_ref().map(|(uuid, _)| uuid.to_string()),
            gpu_index: self.gpu.as_ref().and_then(|(_, index)| *index),
            xid: self.xid,
            resource: self.resource.clone(),
            message: self.message.clone(),
            times: self.times,
        }
    }

    fn is_another(&self, other: &Self) -> bool {
        (self.kind, &self.gpu, self.xid, &self.resource, &self.message)
            == (other.kind, &other.gpu, other.xid, &other.resource, &other.message)
    }
}

impl EventLog {
    /// Takes in what an observation changed.
    pub fn take(&self, at: Moment, changes: &InventoryChanges, inventory: &Inventory) {
        let mut kept = self.lock();
        for event in events(at, changes, inventory) {
            kept.add(event);
        }
    }

    /// Adds an event.
    pub fn add(&self, event: Happened) {
        self.lock().add(event);
    }

    /// The events with others merged into them, the newest first.
    #[must_use]
    pub fn told(&self, wall: Wall, others: impl IntoIterator<Item = Happened>) -> Vec<Event> {
        let mut all: Vec<Happened> = self.lock().events.iter().cloned().chain(others).collect();
        // Stable: of what was at one moment, the order of happening is kept.
        all.sort_by_key(|event| event.at);
        all.iter().rev().take(KEPT).map(|event| event.told(wall)).collect()
    }

    /// When the last event was about each GPU.
    #[must_use]
    pub fn last_events(&self, wall: Wall) -> BTreeMap<Uuid, Timestamp> {
        self.lock().last.iter().map(|(uuid, at)| (uuid.clone(), wall.at(*at))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn add(&mut self, event: Happened) {
        if let Some((uuid, _)) = &event.gpu
            && event.kind != EventKind::GpuFound
            && (self.last.len() < GPUS || self.last.contains_key(uuid))
        {
            self.last.insert(uuid.clone(), event.at);
        }
        let equal = self.events.iter().rev().take(NEAR).position(|other| other.is_another(&event));
        let times = match equal {
            // A storm must not push everything else out.
            Some(back) => {
                self.events.remove(self.events.len() - 1 - back).map_or(0, |equal| equal.times)
            }
            None => 0,
        };
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Happened { times: event.times.saturating_add(times), ..event });
    }
}

fn events(at: Moment, changes: &InventoryChanges, inventory: &Inventory) -> Vec<Happened> {
    let mut events = Vec::new();
    let of = |uuid: &Uuid, kind, message: String| Happened {
        gpu: Some((uuid.clone(), inventory.gpus().get(uuid).map(|gpu| gpu.index))),
        ..Happened::new(at, kind, message)
    };
    for uuid in &changes.new_gpus {
        let model = inventory.gpus().get(uuid).and_then(|gpu| gpu.facts.as_ref()?.name.clone());
        events.push(of(
            uuid,
            EventKind::GpuFound,
            model.unwrap_or_else(|| "a GPU of unknown model".to_owned()),
        ));
    }
    for (uuid, change) in &changes.health {
        let of = |kind, message| of(uuid, kind, message);
        events.extend(health(change, of));
        let health = inventory.node_health().health_of(uuid, device::health::GpuPart::Whole);
        if !change.cleared.is_empty() && health.is_healthy() {
            events.push(of(EventKind::GpuHealthy, "the GPU is Healthy again".to_owned()));
        }
    }
    let finding = |kind, message| Happened::new(at, kind, message);
    events.extend(
        changes.new_findings.iter().map(|found| finding(EventKind::Finding, found.to_string())),
    );
    events.extend(
        changes
            .topology_findings
            .iter()
            .map(|misfit| finding(EventKind::Finding, misfit.to_string())),
    );
    events.extend(
        changes
            .resolved_findings
            .iter()
            .map(|settled| finding(EventKind::FindingOver, settled.to_string())),
    );
    events
}

fn health(change: &HealthChange, of: impl Fn(EventKind, String) -> Happened) -> Vec<Happened> {
    let mut events = Vec::new();
    for notice in &change.notices {
        events.push(match notice {
            HealthNotice::Xid { xid, scope, .. } => Happened {
                xid: Some(xid.0),
                ..of(EventKind::Xid, format!("{xid} ({}) on {scope}", xid.meaning()))
            },
            HealthNotice::Degraded(which) => of(EventKind::GpuDegraded, which.to_string()),
            HealthNotice::Restored(which) => of(EventKind::GpuRestored, which.to_string()),
        });
    }
    events.extend(change.raised.iter().map(|cause| of(EventKind::GpuUnhealthy, cause.to_string())));
    events.extend(
        change.cleared.iter().map(|cause| of(EventKind::CauseOver, cause.summary().to_string())),
    );
    events
}
