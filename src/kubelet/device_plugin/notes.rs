//! What was odd about the preferred allocations of a resource: counted, and said at most once a
//! minute for each reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use device::allocation::Note;
use device::names::ResourceName;
use tracing::{info, warn};

/// Pause between two lines of the same reason.
const QUIET: Duration = Duration::from_secs(60);

/// The notes of one resource. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<&'static str, Count>>>);

#[derive(Debug, Default)]
struct Count {
    total: u64,
    /// Since the last line.
    unsaid: u64,
    said: Option<Instant>,
}

impl Notes {
    /// How often each reason came up.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().iter().map(|(reason, count)| (*reason, count.total)).collect()
    }

    /// Counts a note and says it, unless its reason was said a short while ago.
    pub(super) fn take(&self, resource: &ResourceName, note: &Note) {
        let reason = note.reason();
        let Some(unsaid) = self.count(reason, Instant::now()) else { return };
        if matches!(note, Note::SpreadDoubled { .. }) {
            warn!(%resource, reason, unsaid, "a request could not be spread: {note}");
        } else {
            info!(%resource, reason, unsaid, "the kubelet was answered as well as could be: \
                {note}");
        }
    }

    /// Counts; if a line is due, the number of those without one since the last.
    fn count(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut counts = self.lock();
        let count = counts.entry(reason).or_default();
        count.total = count.total.saturating_add(1);
        if count.said.is_some_and(|said| now.saturating_duration_since(said) < QUIET) {
            count.unsaid = count.unsaid.saturating_add(1);
            return None;
        }
        count.said = Some(now);
        Some(std::mem::take(&mut count.unsaid))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once_a_minute_and_always_counted() {
        let (notes, start) = (Notes::default(), Instant::now());
        assert_eq!(notes.count("too_few", start), Some(0));
        assert_eq!(notes.count("too_few", start + Duration::from_secs(30)), None);
        assert_eq!(notes.count("unknown_ids", start + Duration::from_secs(30)), Some(0));
        assert_eq!(notes.count("too_few", start + Duration::from_secs(59)), None);
        assert_eq!(notes.count("too_few", start + QUIET), Some(2));
        assert_eq!(notes.counts(), BTreeMap::from([("too_few", 4), ("unknown_ids", 1)]));
    }
}
