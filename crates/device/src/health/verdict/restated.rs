//! States that their sources state again after a restart, with their age.

use std::time::Duration;

use super::GpuHealth;
use crate::health::reason::{Degradation, Moment, Since};

impl GpuHealth {
    /// What lasts and is stated again after a restart, by its word, and since when.
    pub(in crate::health) fn restated(&self) -> impl Iterator<Item = (&'static str, Since)> {
        let degradations = self.degradations.iter().map(|(which, since)| (which.as_str(), *since));
        self.causes.restated().chain(degradations)
    }

    /// What this word is of lasted for so long before this process knew it.
    pub(in crate::health) fn set_age(&mut self, word: &str, before: Duration) {
        self.causes.set_age(word, before);
        let degraded = self.degradations.iter_mut().find(|(which, _)| which.as_str() == word);
        if let Some((_, since)) = degraded {
            since.before = before;
        }
    }

    /// A memory error was contained before this process started, which no source states again.
    pub(in crate::health) fn restore_contained(&mut self, now: Moment, before: Duration) {
        self.presence.known(now);
        self.contained.get_or_insert(now);
        let known = self.degradations.entry(Degradation::ContainedError);
        known.or_insert(Since { known: now, before });
    }
}
