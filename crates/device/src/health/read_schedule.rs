//! When to read a GPU beside the polls: at once after an alarm, and again while the driver may
//! still change its mind.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reason::Moment;

/// After an alarm the GPU is read at once, after these, and at the end of the suspicion: the driver
/// makes up its mind a second or two after the error (Xid 154 follows the Xid that caused it).
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// In a storm of alarms the GPU is read no more often than this.
const SPACING: Duration = Duration::from_millis(200);

/// The reads that are due, and how long the GPU is under suspicion.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSchedule {
    read: Option<Moment>,
    /// The last read that was due.
    prompted: Option<Moment>,
    due: BTreeSet<Moment>,
    suspect_until: Option<Moment>,
}

impl ReadSchedule {
    /// Something happened: the GPU's own view of itself is worth a read.
    pub(super) fn schedule(&mut self, now: Moment, suspicion: Duration) {
        let spaced = self.prompted.map_or(now, |read| now.max(read.after(SPACING)));
        let soon = self.due.first().map_or(spaced, |due| spaced.min(*due));
        let later = AGAIN.into_iter().chain([suspicion]).map(|time| now.after(time));
        self.due = later.chain([soon]).collect();
    }

    /// Something serious happened: until the suspicion ends, a read that fails counts at once.
    pub(super) fn suspect(&mut self, now: Moment, suspicion: Duration) {
        self.schedule(now, suspicion);
        self.suspect_until = self.suspect_until.max(Some(now.after(suspicion)));
    }

    pub(super) fn is_suspect(&self, now: Moment) -> bool {
        self.suspect_until.is_some_and(|until| now <= until)
    }

    /// The GPU was read, beginning at this moment.
    pub(super) fn read(&mut self, now: Moment) {
        self.read = self.read.max(Some(now));
        if self.due.first().is_some_and(|due| *due <= now) {
            self.prompted = self.prompted.max(Some(now));
        }
        self.due.retain(|due| *due > now);
    }

    pub(super) fn has_answered(&self) -> bool {
        self.read.is_some()
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.due.first().copied()
    }
}
