//! When to read a GPU between polls: at once after an alarm, and again while the driver may still
//! change the recovery action.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reason::Moment;

/// After an alarm the GPU is read at once, after these times, and when it is no longer suspect: the
/// driver sets the recovery action a second or two after the error (Xid 154 follows the Xid that
/// caused it).
const FOLLOW_UPS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// The shortest time between two reads after alarms, for a storm of them.
const SPACING: Duration = Duration::from_millis(200);

/// The reads that are due, and until when the GPU is suspect.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSchedule {
    /// The last read that was due.
    last_due: Option<Moment>,
    due: BTreeSet<Moment>,
    suspect_until: Option<Moment>,
}

impl ReadSchedule {
    /// Schedules reads after something that may have changed the state of the GPU.
    pub(super) fn schedule(&mut self, now: Moment, suspicion: Duration) {
        let spaced = self.last_due.map_or(now, |read| now.max(read.after(SPACING)));
        let soon = self.due.first().map_or(spaced, |due| spaced.min(*due));
        let later = FOLLOW_UPS.into_iter().chain([suspicion]).map(|time| now.after(time));
        self.due = later.chain([soon]).collect();
    }

    /// Schedules reads, and makes the GPU suspect: until that ends a failed read counts at once.
    pub(super) fn suspect(&mut self, now: Moment, suspicion: Duration) {
        self.schedule(now, suspicion);
        self.suspect_until = self.suspect_until.max(Some(now.after(suspicion)));
    }

    pub(super) fn is_suspect(&self, now: Moment) -> bool {
        self.suspect_until.is_some_and(|until| now <= until)
    }

    /// The GPU answered a reading that began at this time.
    pub(super) fn read(&mut self, now: Moment) {
        if self.due.first().is_some_and(|due| *due <= now) {
            self.last_due = self.last_due.max(Some(now));
        }
        self.due.retain(|due| *due > now);
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.due.first().copied()
    }
}
