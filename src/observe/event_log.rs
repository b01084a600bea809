//! The last events, in bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use device::health::{Cause, GpuPart, HealthChange, HealthNotice, Moment};
use device::identity::GpuRecord;
use device::inventory::{Inventory, InventoryChanges};
use device::names::Uuid;
use status::{EventKind, Timestamp};

use super::wall_clock::WallClock;

/// The most events that are kept.
const MAX_EVENTS: usize = 256;
/// The most GPUs whose last event is remembered: more than any node has.
const MAX_GPUS: usize = 1024;
/// An event that equals one of the last few is counted with it. A storm of Xids must not push
/// everything else out.
const MERGE_WINDOW: usize = 16;

/// The last events. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    events: VecDeque<Event>,
    last_of_gpu: BTreeMap<Uuid, Moment>,
}

/// An event, dated by the process's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When it happened; of several equal ones, the last.
    pub(crate) at: Moment,
    /// When the first of several equal ones happened; else as `at`.
    pub(crate) first_at: Moment,
    /// What kind of event it is.
    pub(crate) kind: EventKind,
    /// The physical GPU that it is about, and NVML's index of it.
    pub(crate) gpu: Option<(Uuid, Option<u32>)>,
    /// The number of the Xid, if it is one.
    pub(crate) xid: Option<u32>,
    /// The resource that it is about.
    pub(crate) resource: Option<String>,
    /// What happened.
    pub(crate) message: String,
    /// How many equal ones this stands for.
    pub(crate) times: u64,
}

impl Event {
    /// An event about no GPU in particular.
    #[must_use]
    pub(crate) fn new(at: Moment, kind: EventKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { at, first_at: at, kind, gpu: None, xid: None, resource: None, message, times: 1 }
    }

    /// The event for the status.
    fn to_status(&self, wall: WallClock) -> status::Event {
        status::Event {
            at: wall.at(self.at),
            first_at: (self.times > 1).then(|| wall.at(self.first_at)),
            kind: self.kind,
            gpu: self.gpu.as_ref().map(|(uuid, _)| uuid.to_string()),
            gpu_index: self.gpu.as_ref().and_then(|(_, index)| *index),
            xid: self.xid,
            resource: self.resource.clone(),
            message: self.message.clone(),
            times: self.times,
        }
    }

    fn is_repeat_of(&self, other: &Self) -> bool {
        (self.kind, &self.gpu, self.xid, &self.resource, &self.message)
            == (other.kind, &other.gpu, other.xid, &other.resource, &other.message)
    }
}

impl EventLog {
    /// Adds the events of a change of the inventory.
    pub(crate) fn record(&self, at: Moment, changes: &InventoryChanges, inventory: &Inventory) {
        let mut state = self.lock();
        for event in events(at, changes, inventory) {
            state.add(event);
        }
    }

    /// Adds an event.
    pub(crate) fn add(&self, event: Event) {
        self.lock().add(event);
    }

    /// The events with `others` merged in by time, newest first.
    #[must_use]
    pub(crate) fn events(
        &self,
        wall: WallClock,
        others: impl IntoIterator<Item = Event>,
    ) -> Vec<status::Event> {
        let mut all: Vec<Event> = self.lock().events.iter().cloned().chain(others).collect();
        // Stable: events of one moment keep their order.
        all.sort_by_key(|event| event.at);
        all.iter().rev().take(MAX_EVENTS).map(|event| event.to_status(wall)).collect()
    }

    /// The time of the last event of each GPU.
    #[must_use]
    pub(crate) fn last_events(&self, wall: WallClock) -> BTreeMap<Uuid, Timestamp> {
        self.lock().last_of_gpu.iter().map(|(uuid, at)| (uuid.clone(), wall.at(*at))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, mut event: Event) {
        if let Some((uuid, _)) = &event.gpu
            && event.kind != EventKind::GpuFound
            && (self.last_of_gpu.len() < MAX_GPUS || self.last_of_gpu.contains_key(uuid))
        {
            self.last_of_gpu.insert(uuid.clone(), event.at);
        }
        let mut recent = self.events.iter().rev().take(MERGE_WINDOW);
        if let Some(back) = recent.position(|other| event.is_repeat_of(other))
            && let Some(earlier) = self.events.remove(self.events.len() - 1 - back)
        {
            event.times = event.times.saturating_add(earlier.times);
            event.first_at = earlier.first_at;
        }
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn events(at: Moment, changes: &InventoryChanges, inventory: &Inventory) -> Vec<Event> {
    let mut events = Vec::new();
    for uuid in &changes.new_gpus {
        let model = inventory.gpus().get(uuid).and_then(|gpu| gpu.facts.as_ref()?.name.clone());
        let model = model.unwrap_or_else(|| "a GPU of unknown model".to_owned());
        events.push(of_gpu(at, uuid, inventory, EventKind::GpuFound, model));
    }
    for (uuid, change) in &changes.health {
        events.extend(health(at, uuid, change, inventory));
    }
    let found = changes.new_findings.iter().map(ToString::to_string);
    let misfits = changes.topology_findings.iter().map(ToString::to_string);
    let over = changes.resolved_findings.iter().map(ToString::to_string);
    events.extend(found.chain(misfits).map(|found| Event::new(at, EventKind::Finding, found)));
    events.extend(over.map(|over| Event::new(at, EventKind::FindingOver, over)));
    events
}

fn health(at: Moment, uuid: &Uuid, change: &HealthChange, inventory: &Inventory) -> Vec<Event> {
    let event = |kind, message| of_gpu(at, uuid, inventory, kind, message);
    let notice = |notice: &HealthNotice| match notice {
        HealthNotice::Xid { xid, scope, .. } => Some(Event {
            xid: Some(xid.0),
            ..event(EventKind::Xid, format!("{xid} ({}) on {scope}", xid.meaning()))
        }),
        HealthNotice::Answered => None,
        HealthNotice::Degraded(which) => Some(event(EventKind::GpuDegraded, which.to_string())),
        HealthNotice::Restored(which) => Some(event(EventKind::GpuRestored, which.to_string())),
    };
    let raised = |cause: &Cause| event(EventKind::GpuUnhealthy, cause.to_string());
    let cleared = |cause: &Cause| event(EventKind::CauseOver, cause.summary().to_string());
    let notices = change.notices.iter().filter_map(notice);
    let causes = change.raised.iter().map(raised).chain(change.cleared.iter().map(cleared));
    let healthy = inventory.node_health().health_of(uuid, GpuPart::Whole).is_healthy();
    let recovered = (healthy && !change.cleared.is_empty())
        .then(|| event(EventKind::GpuHealthy, "the GPU is Healthy again".to_owned()));
    notices.chain(causes).chain(recovered).collect()
}

fn of_gpu(
    at: Moment,
    uuid: &Uuid,
    inventory: &Inventory,
    kind: EventKind,
    message: String,
) -> Event {
    let index = inventory.gpus().get(uuid).and_then(GpuRecord::valid_index);
    Event { gpu: Some((uuid.clone(), index)), ..Event::new(at, kind, message) }
}
