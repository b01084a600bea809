//! The roll: what the last enumeration found, place by place. Pure but for what it says in the log.

use std::collections::BTreeMap;

use device::health::{NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tracing::warn;

use crate::nvml::worker_pool::Subject;

/// The places that NVML listed, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Enumeration(Vec<EnumerationEntry>);

impl Enumeration {
    /// The roll of so many places: what answered now, and for a place that did not, what it was
    /// before.
    pub(super) fn merge(&self, count: u32, mut answers: BTreeMap<u32, EnumerationEntry>) -> Self {
        let before = |index| {
            self.0.iter().find(|found| place(found) == index).filter(|_| self.is_of(count)).cloned()
        };
        Self(
            (0..count)
                .filter_map(|index| answers.remove(&index).or_else(|| before(index)))
                .collect(),
        )
    }

    pub(super) fn found(&self) -> &[EnumerationEntry] {
        &self.0
    }

    /// The GPUs by place, as far as they said who they are.
    pub(super) fn gpus(&self) -> BTreeMap<u32, Uuid> {
        let places = self.0.iter().filter_map(|found| match found {
            EnumerationEntry::Gpu(gpu) => Some((gpu.index, gpu.uuid.clone())),
            EnumerationEntry::Failed { index, uuid, .. } => Some((*index, uuid.clone()?)),
        });
        places.collect()
    }

    /// Whether it has so many places. With another number of them a place may be another GPU's.
    fn is_of(&self, count: u32) -> bool {
        self.0.len() == count as usize
    }

    /// What to ask in an enumeration of so many places: about each the GPU that was there, if it
    /// still is by all that is known.
    pub(super) fn subjects(&self, count: u32) -> Vec<(Subject, (u32, Option<Uuid>))> {
        let mut known = if self.is_of(count) { self.gpus() } else { BTreeMap::new() };
        let subjects = (0..count).map(|index| {
            let known = known.remove(&index);
            (known.clone().map_or(Subject::Index(index), Subject::Gpu), (index, known))
        });
        subjects.collect()
    }

    /// With what a GPU answered, if not with its facts.
    pub(super) fn failure(&self, uuid: &Uuid) -> Option<&CallError> {
        self.0.iter().find_map(|found| match found {
            EnumerationEntry::Failed { uuid: Some(failed), error, .. } if failed == uuid => {
                Some(error)
            }
            _ => None,
        })
    }

    /// Whether what a GPU answers speaks against the roll: it is gone, or back.
    pub(super) fn is_news(&self, uuid: &Uuid, probe: Option<&Result<(), CallError>>) -> bool {
        const NOT_FOUND: ReturnCode = ReturnCode(6);
        let listed = |found: &EnumerationEntry| matches!(found, EnumerationEntry::Gpu(gpu) if gpu.uuid == *uuid);
        let was_well = self.0.iter().any(listed);
        match probe {
            Some(Ok(())) => !was_well,
            Some(Err(error)) => {
                was_well && matches!(error.code, NOT_FOUND | ReturnCode::GPU_IS_LOST)
            }
            None => false,
        }
    }

    /// Says which GPUs answer with errors that did not before.
    pub(super) fn report_failed(&self, before: &Self) {
        for failed in self.0.iter().filter(|found| !before.0.contains(found)) {
            if let EnumerationEntry::Failed { index, uuid, error } = failed {
                let served = if uuid.is_some() {
                    "it is served Unhealthy"
                } else {
                    "without a UUID it cannot be served"
                };
                let uuid = uuid.as_ref().map_or("unknown", Uuid::as_str);
                warn!(
                    gpu.index = index,
                    gpu.uuid = uuid,
                    %error,
                    "a GPU answers with an error; {served}, the others are not concerned"
                );
            }
        }
    }
}

fn place(found: &EnumerationEntry) -> u32 {
    match found {
        EnumerationEntry::Gpu(gpu) => gpu.index,
        EnumerationEntry::Failed { index, .. } => *index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::testing::gpu;

    fn roll(indices: impl IntoIterator<Item = u32>) -> Enumeration {
        Enumeration(indices.into_iter().map(|index| EnumerationEntry::Gpu(gpu(index))).collect())
    }

    fn lost() -> CallError {
        CallError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode::GPU_IS_LOST }
    }

    #[test]
    fn a_place_that_does_not_answer_is_what_it_was_unless_there_are_more_or_fewer_places_now() {
        let answered = || BTreeMap::from([(0, EnumerationEntry::Gpu(gpu(0)))]);
        assert_eq!(roll([0, 1]).merge(2, answered()), roll([0, 1]));
        assert_eq!(roll([0, 1]).merge(3, answered()), roll([0]));
        assert_eq!(Enumeration::default().merge(2, answered()), roll([0]));
    }

    #[test]
    fn a_place_is_asked_about_by_its_gpu_only_while_the_number_of_places_is_the_same() {
        let of = |count| {
            roll([0, 1]).subjects(count).into_iter().map(|(subject, _)| subject).collect::<Vec<_>>()
        };
        assert_eq!(of(2), [Subject::Gpu(gpu(0).uuid), Subject::Gpu(gpu(1).uuid)]);
        assert_eq!(of(1), [Subject::Index(0)]);
    }

    #[test]
    fn news_is_a_gpu_that_is_gone_or_back() {
        let uuid = gpu(1).uuid;
        let failed = Enumeration(vec![EnumerationEntry::Failed {
            index: 1,
            uuid: Some(uuid.clone()),
            error: lost(),
        }]);
        let busy = CallError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode(999) };
        let table = [
            (roll([1]), Some(Ok(())), false),
            (roll([1]), Some(Err(lost())), true),
            (roll([1]), Some(Err(busy)), false),
            (roll([1]), None, false),
            (failed.clone(), Some(Ok(())), true),
            (failed.clone(), Some(Err(lost())), false),
            (roll([0]), Some(Ok(())), true),
        ];
        for (roll, probe, expected) in table {
            assert_eq!(roll.is_news(&uuid, probe.as_ref()), expected, "{roll:?} {probe:?}");
        }
        assert_eq!(failed.failure(&uuid), Some(&lost()));
        assert_eq!(failed.gpus(), BTreeMap::from([(1, uuid)]));
    }
}
