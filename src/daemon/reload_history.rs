//! What became of changed configurations.

use std::sync::{Arc, Mutex, PoisonError};

use device::health::Moment;
use status::{Configuration, EventKind, LastReload};

use crate::nvml::Clock;
use crate::observe::event_log::{EventLog, Happened};
use crate::observe::wall::Wall;

/// What became of changed configurations. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct ReloadHistory {
    clock: Clock,
    journal: EventLog,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    applied: u64,
    refused: u64,
    last: Option<(Moment, Option<String>)>,
}

impl ReloadHistory {
    /// None yet; each goes to the journal too.
    pub(super) fn new(clock: Clock, journal: EventLog) -> Self {
        Self { clock, journal, kept: Arc::default() }
    }

    /// A changed configuration is in force.
    pub(super) fn applied(&self) {
        self.record(EventKind::ConfigurationApplied, "the changed configuration is in force", None);
    }

    /// A changed configuration was refused.
    pub(super) fn refused(&self, why: &str) {
        // The first line says it; the log has all.
        let why = why.lines().next().unwrap_or_default();
        let message = format!("the changed configuration was refused: {why}");
        self.record(EventKind::ConfigurationRefused, &message, Some(why.to_owned()));
    }

    /// As it is told.
    pub(super) fn told(&self, file: Option<String>, wall: Wall) -> Configuration {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let last = kept.last.as_ref();
        Configuration {
            file,
            reloads_applied: kept.applied,
            reloads_refused: kept.refused,
            last_reload: last
                .map(|(at, refused)| LastReload { at: wall.at(*at), refused: refused.clone() }),
        }
    }

    /// Where else what a changed configuration does is told.
    pub(super) fn journal(&self) -> &EventLog {
        &self.journal
    }

    /// The time.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    fn record(&self, kind: EventKind, message: &str, refused: Option<String>) {
        let now = self.clock.now();
        self.journal.add(Happened::new(now, kind, message));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = if refused.is_some() { &mut kept.refused } else { &mut kept.applied };
        *counter = counter.saturating_add(1);
        kept.last = Some((now, refused));
    }
}
