//! When what is due: a reading that the verdict wants, a new initialisation, a deadline.

use std::time::Instant;

use device::health::Moment;
use device::names::Uuid;

use super::Supervisor;
use crate::nvml::worker_pool::Subject;

impl Supervisor {
    pub(super) fn is_read_due(&self, uuid: &Uuid) -> bool {
        let now = self.clock.now();
        self.due_reading(uuid).is_some_and(|due| due <= now)
    }

    /// When a GPU is to be read beside the polls, unless that has been done and not been taken in
    /// yet.
    fn due_reading(&self, uuid: &Uuid) -> Option<Moment> {
        let due = *self.requests_rx.borrow().readings.get(uuid)?;
        self.read.get(uuid).is_none_or(|read| *read < due).then_some(due)
    }

    /// When NVML is to be initialised anew for a GPU that is awaited.
    pub(super) fn renewal_due(&mut self, now: Moment) -> Option<Moment> {
        // With a call that does not return NVML cannot be shut down.
        let wanted = self.requests_rx.borrow().enumeration && self.worker_pool.held_up().is_empty();
        self.renewal.due(now, wanted)
    }

    /// When there is something to do next.
    pub(super) fn next_due(&mut self, next_poll: Instant) -> Instant {
        let now = self.clock.now();
        let readable = self
            .roll
            .gpus()
            .into_values()
            .filter(|uuid| !self.worker_pool.is_held_up(&Subject::Gpu(uuid.clone())));
        let reading = readable.filter_map(|uuid| self.due_reading(&uuid)).min();
        let moments = reading
            .into_iter()
            .chain(self.renewal_due(now))
            .map(|moment| self.clock.instant(moment));
        let scan = self.wants_scan.then(Instant::now);
        moments.chain(self.worker_pool.next_deadline()).chain(scan).fold(next_poll, Instant::min)
    }
}
