//! Calls that have not returned within their deadline.

use std::time::{Duration, Instant};

use device::names::Uuid;

/// What a job is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::nvml) enum Subject {
    /// An index of the enumeration whose GPU is not known yet.
    Index(u32),
    /// A GPU.
    Gpu(Uuid),
}

/// A call about one GPU that is past its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nvml) struct StuckCall {
    pub(in crate::nvml) subject: Subject,
    pub(in crate::nvml) call: &'static str,
    since: Instant,
    missed_deadlines: u32,
}

impl StuckCall {
    /// A call that has missed its first deadline.
    pub(super) fn new(subject: Subject, call: &'static str, since: Instant) -> Self {
        Self { subject, call, since, missed_deadlines: 1 }
    }

    /// The GPU, if it is known.
    pub(in crate::nvml) fn gpu(&self) -> Option<&Uuid> {
        match &self.subject {
            Subject::Gpu(uuid) => Some(uuid),
            Subject::Index(_) => None,
        }
    }

    /// The time since the call was made.
    pub(in crate::nvml) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// When it misses its next deadline.
    pub(super) fn next_deadline(&self, deadline: Duration) -> Option<Instant> {
        self.since.checked_add(deadline.saturating_mul(self.missed_deadlines.saturating_add(1)))
    }

    /// Counts a deadline if it has passed, and says whether it has.
    pub(super) fn count_missed(&mut self, deadline: Duration, now: Instant) -> bool {
        let missed = self.next_deadline(deadline).is_some_and(|next| next <= now);
        self.missed_deadlines = self.missed_deadlines.saturating_add(u32::from(missed));
        missed
    }
}
