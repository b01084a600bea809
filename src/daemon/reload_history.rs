//! The results of reloads of the configuration.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use device::health::Moment;
use status::{Configuration, EventKind, LastReload};

use crate::nvml::Clock;
use crate::observe::event_log::{Event, EventLog};
use crate::observe::wall_clock::WallClock;
use crate::util::change_signal::ChangeSignal;

/// The results of reloads. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ReloadHistory {
    clock: Clock,
    event_log: EventLog,
    results: Arc<Mutex<Results>>,
    changes: ChangeSignal,
}

#[derive(Debug, Default)]
struct Results {
    /// The file in force.
    file: Option<String>,
    applied: u64,
    refused: u64,
    last: Option<(Moment, Option<String>)>,
}

impl ReloadHistory {
    /// None yet; each is an event too, and a change.
    pub(super) fn new(clock: Clock, event_log: EventLog, changes: ChangeSignal) -> Self {
        Self { clock, event_log, results: Arc::default(), changes }
    }

    /// The configuration in force is from this file.
    pub(super) fn set_file(&self, file: Option<&Path>) {
        let file = file.map(|file| file.display().to_string());
        self.results.lock().unwrap_or_else(PoisonError::into_inner).file = file;
    }

    /// A changed configuration is in force.
    pub(super) fn applied(&self) {
        self.record(EventKind::ConfigurationApplied, "the changed configuration is in force", None);
    }

    /// The configuration in force was read again, so that what was refused before is over.
    pub(super) fn unchanged(&self) {
        let refused = {
            let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
            results.last.as_ref().is_some_and(|(_, refused)| refused.is_some())
        };
        if refused {
            self.applied();
        }
    }

    /// A changed configuration was refused.
    pub(super) fn refused(&self, why: &str) {
        let message = format!("the changed configuration was refused: {why}");
        self.record(EventKind::ConfigurationRefused, &message, Some(why.to_owned()));
    }

    /// The part of the status about it.
    pub(super) fn status(&self, wall: WallClock) -> Configuration {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let last = results.last.as_ref();
        Configuration {
            file: results.file.clone(),
            // The inventory knows it.
            mig_strategy: None,
            reloads_applied: results.applied,
            reloads_refused: results.refused,
            last_reload: last
                .map(|(at, refused)| LastReload { at: wall.at(*at), refused: refused.clone() }),
        }
    }

    /// The log of events that reloads add to.
    pub(super) fn event_log(&self) -> &EventLog {
        &self.event_log
    }

    /// The time.
    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    fn record(&self, kind: EventKind, message: &str, refused: Option<String>) {
        let now = self.clock.now();
        self.event_log.add(Event::new(now, kind, message));
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = if refused.is_some() { &mut results.refused } else { &mut results.applied };
        *counter = counter.saturating_add(1);
        results.last = Some((now, refused));
        drop(results);
        self.changes.notify();
    }
}
