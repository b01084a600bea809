//! The age of what lasted when the process before this one ended, until its source states it again
//! or states that it is over.

use std::collections::BTreeMap;

use super::cause::CauseKind;
use super::observation::{Observation, RepairEvidence};
use super::persisted::PersistedAges;
use super::reason::Degradation;
use crate::names::Uuid;

/// Where a word is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In readings, and by calls that fail.
    Readings,
    /// By whether events are received.
    Events,
    /// In the quarantine directory.
    Quarantine,
    /// Nowhere again.
    None,
}

/// What an observation states again: what it leaves out is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Restates {
    /// Nothing.
    Nothing,
    /// The fault of the node.
    Fault,
    /// What this source says, of one GPU or of all.
    Gpus(Option<Uuid>, Source),
}

/// The ages that wait to be stated again. None is older than this boot.
#[derive(Debug, Clone, Default)]
pub(super) struct FormerAges(PersistedAges);

impl FormerAges {
    /// Takes over what was kept, as far as this version knows it. After another load of the driver
    /// the age of what its readings say starts again.
    pub(super) fn add(&mut self, ages: &PersistedAges, evidence: Option<RepairEvidence>) {
        if evidence == Some(RepairEvidence::NewBoot) {
            return;
        }
        self.0.fault = self.0.fault.or(ages.fault);
        for (uuid, words) in &ages.gpus {
            for (word, since) in words {
                let is_kept = match source(word) {
                    Some(Source::Quarantine) => true,
                    Some(_) => evidence.is_none(),
                    None => false,
                };
                if is_kept {
                    let known = self.0.gpus.entry(uuid.clone()).or_default();
                    known.entry(word.clone()).or_insert(*since);
                }
            }
        }
    }

    /// The driver was loaded again.
    pub(super) fn forget_readings(&mut self) {
        self.retain(|_, source| source == Source::Quarantine);
    }

    pub(super) fn forget(&mut self, uuid: &Uuid) {
        self.0.gpus.remove(uuid);
    }

    pub(super) fn take_fault(&mut self) -> Option<u64> {
        self.0.fault.take()
    }

    /// The GPUs with a contained memory error, which nothing states again.
    pub(super) fn take_contained(&mut self) -> Vec<(Uuid, u64)> {
        let word = Degradation::ContainedError.as_str();
        let take = |(uuid, words): (&Uuid, &mut BTreeMap<String, u64>)| {
            words.remove(word).map(|since| (uuid.clone(), since))
        };
        self.0.gpus.iter_mut().filter_map(take).collect()
    }

    /// The ages that still wait.
    pub(super) fn waiting(&self) -> &PersistedAges {
        &self.0
    }

    /// The age of what is stated again.
    pub(super) fn take(&mut self, uuid: &Uuid, word: &str) -> Option<u64> {
        self.0.gpus.get_mut(uuid)?.remove(word)
    }

    /// Keeps the ages of GPUs and sources for which that is to be.
    pub(super) fn retain(&mut self, stays: impl Fn(&Uuid, Source) -> bool) {
        self.0.gpus.retain(|uuid, words| {
            words.retain(|word, _| source(word).is_some_and(|source| stays(uuid, source)));
            !words.is_empty()
        });
    }
}

impl Restates {
    /// What an observation of one GPU, or of all, states again.
    pub(super) fn of_gpu(uuid: Option<Uuid>, observation: &Observation) -> Self {
        match observation {
            Observation::Poll(reading) if reading.is_complete() => {
                Self::Gpus(uuid, Source::Readings)
            }
            Observation::EventsReceived(_) => Self::Gpus(uuid, Source::Events),
            _ => Self::Nothing,
        }
    }
}

/// Where a word is stated; `None`: it is not known, or not of something that is stated again.
pub(super) fn source(word: &str) -> Option<Source> {
    let degradation = Degradation::ALL.into_iter().find(|which| which.as_str() == word);
    let degradation = degradation.map(|which| match which {
        Degradation::NoEvents => Source::Events,
        Degradation::ContainedError => Source::None,
        _ => Source::Readings,
    });
    let kind = CauseKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let of_cause = kind.and_then(|kind| match kind {
        CauseKind::Quarantined => Some(Source::Quarantine),
        CauseKind::Fabric
        | CauseKind::RowRemapPending
        | CauseKind::NvmlError
        | CauseKind::NvmlUnresponsive => Some(Source::Readings),
        _ => None,
    });
    degradation.or(of_cause)
}
