//! What is due while NVML is open: polls, readings, enumerations, events, links and looks.

use std::collections::BTreeSet;

use device::health::{self, Moment};
use device::inventory::InventoryEvent;
use device::names::{PciBusId, Uuid};
use tracing::{info, warn};

use super::{AfterClosing, Phase, Supervisor};
use crate::nvml::job::{Subject, Task};
use crate::nvml::session::NoUuid;

/// The node is enumerated without a reason at every one of so many polls: events and polls miss
/// little.
const ENUMERATE_EVERY: u32 = 3;

impl Supervisor {
    pub(super) fn serve(&mut self, now: Moment) {
        if self.poll_at <= now {
            self.start_poll(now);
        }
        for gpu in self.readings_due(now) {
            self.read(now, gpu, false);
        }
        if std::mem::take(&mut self.scan_due) {
            self.submit(now, Task::Count);
        }
        self.finish_scan(now);
        self.listen(now);
        self.report_deaf(now);
        if self.links.first_at().is_some_and(|due| due <= now) {
            self.read_links(now);
        }
        if self.next_look(now).is_some_and(|due| due <= now) {
            self.renewal.looks(now, self.bus.as_ref());
            self.look_due = true;
        }
    }

    /// When [`Supervisor::serve`] has something to do.
    pub(super) fn next_due(&self, now: Moment) -> Moment {
        let readings = self.gpus.keys().filter_map(|gpu| self.next_reading(gpu));
        let listen = self.wants_to_listen().then_some(self.events.listen_at);
        let others = [listen, self.links.first_at(), self.next_look(now)];
        readings.chain(others.into_iter().flatten()).fold(self.poll_at, Moment::min)
    }

    fn start_poll(&mut self, now: Moment) {
        self.polls = self.polls.wrapping_add(1);
        self.poll_at = now.after(self.pause());
        let gpus: BTreeSet<Uuid> = self.gpus.keys().cloned().collect();
        self.poll = Some((now, gpus.clone()));
        self.submit(now, Task::Bus);
        for gpu in gpus {
            if self.in_flight.contains_key(&Subject::Gpu(gpu.clone())) {
                self.answered_poll(now, &gpu);
            } else {
                self.read(now, gpu, true);
            }
        }
        if self.polls.is_multiple_of(ENUMERATE_EVERY) {
            self.scan_due = true;
            self.read_links(now);
        }
    }

    pub(super) fn read(&mut self, now: Moment, gpu: Uuid, poll: bool) {
        let with_fabric = self.gpus.get(&gpu).is_none_or(|known| !known.without_fabric);
        let with_energy =
            self.requests.awaiting_reset.contains(&gpu) || self.before_release.contains_key(&gpu);
        self.submit(now, Task::Read { gpu, with_fabric, with_energy, poll });
    }

    fn readings_due(&self, now: Moment) -> Vec<Uuid> {
        let due = |gpu: &&Uuid| self.next_reading(gpu).is_some_and(|due| due <= now);
        self.gpus.keys().filter(due).cloned().collect()
    }

    /// When a GPU is to be read beside the polls, unless that has been done and health has not yet
    /// seen it.
    fn next_reading(&self, gpu: &Uuid) -> Option<Moment> {
        let due = *self.requests.readings.get(gpu)?;
        let read = self.gpus.get(gpu)?.last_reading.is_some_and(|read| read >= due);
        let busy = self.in_flight.contains_key(&Subject::Gpu(gpu.clone()));
        (!read && !busy).then_some(due)
    }

    /// Nothing more is to be expected of a GPU in the present poll.
    pub(super) fn answered_poll(&mut self, now: Moment, gpu: &Uuid) {
        if let Some((began, waiting)) = &mut self.poll {
            waiting.remove(gpu);
            if waiting.is_empty() {
                self.telemetry.poll_took(now.since(*began));
                self.poll = None;
            }
        }
    }

    pub(super) fn begin_scan(&mut self, now: Moment, count: u32) {
        for task in self.enumeration.begin(now, count) {
            self.submit_scan(now, task);
        }
    }

    /// A GPU that is busy, or hangs, keeps what was found of it before.
    fn submit_scan(&mut self, now: Moment, task: Task) {
        let busy = self.in_flight.contains_key(&task.subject());
        match task {
            Task::Describe { index, ref gpu } if busy => {
                let call = "a call that does not return";
                self.enumeration.hangs(index, gpu, call);
            }
            Task::Identify { index } if busy => self.enumeration.give_up(index),
            task => self.submit(now, task),
        }
    }

    /// A GPU was identified at an index, or not.
    pub(super) fn identified(&mut self, now: Moment, index: u32, gpu: Result<Uuid, NoUuid>) {
        match gpu {
            Ok(gpu) => self.submit_scan(now, Task::Describe { index, gpu }),
            Err(why) => self.enumeration.described(why.entry(index)),
        }
        self.finish_scan(now);
    }

    /// Takes over an enumeration that is finished, and reports one that differs.
    pub(super) fn finish_scan(&mut self, now: Moment) {
        let Some((began, differs)) = self.enumeration.finish() else { return };
        let gpus: Vec<Uuid> = self.enumeration.gpus().into_values().collect();
        for gpu in &gpus {
            self.gpus.entry(gpu.clone()).or_default().without_fabric = false;
        }
        let found = self.enumeration.identified();
        self.addresses.extend(found.filter_map(|gpu| Some((gpu.uuid.clone(), gpu.pci_bus_id?))));
        let missing = &self.requests.missing;
        self.addresses.retain(|gpu, _| self.gpus.contains_key(gpu) || missing.contains(gpu));
        if differs {
            let (count, entries) = (self.enumeration.count(), self.enumeration.entries());
            let session = self.session;
            self.observe(began, InventoryEvent::Enumeration { session, count, entries });
        }
        // Before the readings: what happens after them is an event.
        self.register(now);
        for gpu in gpus {
            if self.gpus.get(&gpu).is_some_and(|known| known.last_reading.is_none()) {
                self.read(now, gpu, true);
            }
        }
    }

    /// Registers GPUs for events that are not. A GPU that is lost would break the set of events.
    pub(super) fn register(&mut self, now: Moment) {
        let types = self.settings.events.clone();
        let present = self.gpus.iter().filter(|(_, known)| !known.lost);
        let gpus = self.events.unregistered(present.map(|(gpu, _)| gpu.clone()));
        if !types.is_empty() && !gpus.is_empty() {
            let renew = self.events.renew;
            self.submit(now, Task::Register { types, gpus, renew });
        }
    }

    fn report_deaf(&mut self, now: Moment) {
        let hangs = self.overdue.contains(&Subject::Node("listen"));
        for (gpu, received) in self.events.take_changes(hangs) {
            self.observe_gpu(now, gpu, health::Observation::EventsReceived(received));
        }
    }

    fn wants_to_listen(&self) -> bool {
        self.events.has_registered() && !self.in_flight.contains_key(&Subject::Node("listen"))
    }

    pub(super) fn listen(&mut self, now: Moment) {
        if self.wants_to_listen() && self.events.listen_at <= now {
            self.submit(now, Task::Listen { poll: self.settings.poll });
        }
    }

    pub(super) fn read_links(&mut self, now: Moment) {
        let gpus = self.enumeration.identified().map(|gpu| gpu.uuid.clone()).collect();
        for task in self.links.due(now, gpus) {
            self.submit(now, task);
        }
    }

    pub(super) fn links_read(&mut self, now: Moment, gpu: &Uuid) {
        if let Some(links) = self.links.done(gpu) {
            self.observe(now, InventoryEvent::Links(links));
        }
    }

    /// A GPU that NVML lists, and that is not lost.
    fn answers(&self, gpu: &Uuid) -> bool {
        let listed = self.enumeration.identified().any(|listed| listed.uuid == *gpu);
        listed && self.gpus.get(gpu).is_some_and(|known| !known.lost)
    }

    /// A GPU that does not answer, or that answers and needs another session to be believed.
    fn is_awaited_gpu(&self, gpu: &Uuid) -> bool {
        !self.answers(gpu) || self.requests.missing.contains(gpu)
    }

    /// Whether a GPU that is on the bus, as far as that can be seen, is not served.
    fn is_any_missing(&self) -> bool {
        let identified: Vec<_> = self.enumeration.identified().collect();
        let on_bus = |id: &PciBusId| self.bus.as_ref().is_none_or(|bus| bus.contains(id));
        let awaited = |gpu: &Uuid| match self.addresses.get(gpu) {
            Some(address) => on_bus(address),
            None => self.bus.as_ref().is_none_or(|bus| bus.len() > identified.len()),
        };
        let listed = |id: &PciBusId| identified.iter().any(|gpu| gpu.pci_bus_id == Some(*id));
        let unlisted = self.bus.iter().flatten().any(|id| !listed(id));
        unlisted || self.requests.missing.iter().any(awaited)
    }

    fn next_look(&self, now: Moment) -> Option<Moment> {
        self.renewal.due(now, self.is_any_missing(), self.bus.as_ref())
    }

    /// A child process has initialised an NVML of its own, and these GPUs answered it.
    pub(in crate::nvml) fn looked(&mut self, now: Moment, seen: Result<BTreeSet<Uuid>, String>) {
        self.renewal.looked();
        let more: BTreeSet<Uuid> = match seen {
            Ok(seen) => seen.into_iter().filter(|gpu| self.is_awaited_gpu(gpu)).collect(),
            Err(error) => {
                warn!(%error, "cannot look for missing GPUs with another process");
                return;
            }
        };
        if more.is_empty() || self.phase != Phase::Serving {
            return;
        }
        let gpus: Vec<_> = more.iter().map(Uuid::as_str).collect();
        let gpus = gpus.join(", ");
        if self.overdue.is_empty() {
            info!(
                gpus,
                "the driver has GPUs that this process does not see, initialising NVML \
                again to list them"
            );
            self.renewal.renews(more);
            self.close(now, AfterClosing::Reopen);
        } else {
            warn!(
                gpus,
                "the driver has GPUs that this process does not see, and cannot see while \
                a call about another GPU does not return: restart this pod to serve them"
            );
        }
    }

    pub(super) fn renewal_round_done(&mut self, now: Moment) {
        let answering: BTreeSet<Uuid> =
            self.gpus.keys().filter(|gpu| self.answers(gpu)).cloned().collect();
        self.renewal.round_done(now, |gpu| answering.contains(gpu));
    }
}
