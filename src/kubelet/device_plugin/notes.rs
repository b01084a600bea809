//! Unusual preferred allocations of a resource: counted, and logged at most once a minute for each
//! reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use device::allocation::Note;
use device::names::ResourceName;
use tracing::{info, warn};

use crate::util::counters::Counts;
use crate::util::log_rate_limit::LogRateLimit;

/// Reasons that are counted: more than there are.
const REASONS: usize = 64;

/// The notes of one resource. Clones share their counts.
#[derive(Debug, Clone)]
pub struct Notes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counts: Counts<&'static str>,
    limit: LogRateLimit<&'static str>,
}

impl Default for Notes {
    fn default() -> Self {
        Self(Arc::new(Inner { counts: Counts::new(REASONS), limit: LogRateLimit::new() }))
    }
}

impl Notes {
    /// How often each reason came up.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.counts.all()
    }

    /// Counts a note and logs it, unless its reason was logged within the last minute.
    pub(super) fn record(&self, resource: &ResourceName, note: &Note) {
        let reason = note.reason();
        self.0.counts.count(reason);
        let Some(suppressed) = self.0.limit.allow_key(reason) else { return };
        if matches!(note, Note::SpreadDoubled { .. }) {
            warn!(%resource, reason, suppressed, "a request could not be spread: {note}");
        } else {
            info!(%resource, reason, suppressed, "the kubelet was answered as well as could be: \
                {note}");
        }
    }
}
