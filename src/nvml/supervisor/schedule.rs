//! When something is due: a reading that health requests, a new initialisation, a deadline.

use std::time::Instant;

use device::health::Moment;
use device::names::Uuid;

use super::Supervisor;
use crate::nvml::worker_pool::Subject;

impl Supervisor {
    pub(super) fn is_read_due(&self, uuid: &Uuid) -> bool {
        let now = self.clock.now();
        self.next_reading(uuid).is_some_and(|due| due <= now)
    }

    /// Whether NVML is to be initialised again for a missing GPU; if so, that counts as done.
    pub(super) fn take_reinit_due(&mut self) -> bool {
        let now = self.clock.now();
        let due = self.next_reinit(now).is_some_and(|due| due <= now);
        if due {
            self.reinit_schedule.tried(now);
        }
        due
    }

    /// When something is due next.
    pub(super) fn next_due(&mut self, next_poll: Instant) -> Instant {
        let now = self.clock.now();
        let gpus = self.enumeration.gpus();
        let readable = gpus
            .values()
            .filter(|uuid| self.worker_pool.stuck_call(&Subject::Gpu((*uuid).clone())).is_none());
        let reading = readable.filter_map(|uuid| self.next_reading(uuid)).min();
        let moments = reading.into_iter().chain(self.next_reinit(now));
        let enumeration = self.enumeration_due.then(Instant::now);
        moments
            .map(|moment| self.clock.instant(moment))
            .chain(self.worker_pool.next_deadline())
            .chain(enumeration)
            .fold(next_poll, Instant::min)
    }

    /// When a GPU is to be read beside the polls, unless that has been done and health has not yet
    /// seen it.
    fn next_reading(&self, uuid: &Uuid) -> Option<Moment> {
        let due = *self.requests_rx.borrow().readings.get(uuid)?;
        self.last_readings.get(uuid).is_none_or(|read| *read < due).then_some(due)
    }

    /// When NVML is to be initialised again for a missing GPU.
    fn next_reinit(&mut self, now: Moment) -> Option<Moment> {
        // With a stuck call NVML cannot be shut down.
        let wanted =
            self.requests_rx.borrow().enumeration && self.worker_pool.stuck_calls().is_empty();
        self.reinit_schedule.due(now, wanted)
    }
}
