//! What the last enumeration has found, by index. Pure but for its log lines.

use std::collections::BTreeMap;

use device::health::{NvmlError as CallError, ReturnCode};
use device::inventory::EnumerationEntry;
use device::names::Uuid;
use tracing::warn;

use crate::nvml::worker_pool::Subject;

/// What NVML listed, in the order of the indices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Enumeration(Vec<EnumerationEntry>);

impl Enumeration {
    /// An enumeration of `count` GPUs: the answers of now, and for an index without an answer what
    /// was there before.
    pub(super) fn merge(&self, count: u32, mut answers: BTreeMap<u32, EnumerationEntry>) -> Self {
        let before = |at| {
            self.0
                .iter()
                .find(|found| index(found) == at)
                .filter(|_| self.has_length(count))
                .cloned()
        };
        Self((0..count).filter_map(|at| answers.remove(&at).or_else(|| before(at))).collect())
    }

    pub(super) fn entries(&self) -> &[EnumerationEntry] {
        &self.0
    }

    /// The GPUs by index, as far as their UUIDs are known.
    pub(super) fn gpus(&self) -> BTreeMap<u32, Uuid> {
        let gpus = self.0.iter().filter_map(|found| match found {
            EnumerationEntry::Gpu(gpu) => Some((gpu.index, gpu.uuid.clone())),
            EnumerationEntry::Failed { index, uuid, .. } => Some((*index, uuid.clone()?)),
        });
        gpus.collect()
    }

    /// Whether it lists this many GPUs. If not, an index may be that of another GPU now.
    fn has_length(&self, count: u32) -> bool {
        self.0.len() == count as usize
    }

    /// The jobs of an enumeration of `count` GPUs, each with its index and the GPU that was there
    /// before, if the number of GPUs is the same.
    pub(super) fn jobs(&self, count: u32) -> Vec<(Subject, (u32, Option<Uuid>))> {
        let mut known = if self.has_length(count) { self.gpus() } else { BTreeMap::new() };
        let jobs = (0..count).map(|index| {
            let known = known.remove(&index);
            (known.clone().map_or(Subject::Index(index), Subject::Gpu), (index, known))
        });
        jobs.collect()
    }

    /// The error of a GPU that answered with one.
    pub(super) fn failure(&self, uuid: &Uuid) -> Option<&CallError> {
        self.0.iter().find_map(|found| match found {
            EnumerationEntry::Failed { uuid: Some(failed), error, .. } if failed == uuid => {
                Some(error)
            }
            _ => None,
        })
    }

    /// Whether the answer of a GPU contradicts the enumeration: the GPU is gone, or back.
    pub(super) fn is_outdated_by(
        &self,
        uuid: &Uuid,
        probe: Option<&Result<(), CallError>>,
    ) -> bool {
        const NOT_FOUND: ReturnCode = ReturnCode(6);
        let listed = |found: &EnumerationEntry| match found {
            EnumerationEntry::Gpu(gpu) => gpu.uuid == *uuid,
            _ => false,
        };
        let was_listed = self.0.iter().any(listed);
        match probe {
            Some(Ok(())) => !was_listed,
            Some(Err(error)) => {
                was_listed && matches!(error.code, NOT_FOUND | ReturnCode::GPU_IS_LOST)
            }
            None => false,
        }
    }

    /// Logs which GPUs answer with errors that did not before.
    pub(super) fn log_failed(&self, before: &Self) {
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
                    "a GPU answers with an error; {served}, the others are not affected"
                );
            }
        }
    }
}

fn index(found: &EnumerationEntry) -> u32 {
    match found {
        EnumerationEntry::Gpu(gpu) => gpu.index,
        EnumerationEntry::Failed { index, .. } => *index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::testing::gpu;

    fn listed(indices: impl IntoIterator<Item = u32>) -> Enumeration {
        Enumeration(indices.into_iter().map(|index| EnumerationEntry::Gpu(gpu(index))).collect())
    }

    fn lost() -> CallError {
        CallError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode::GPU_IS_LOST }
    }

    #[test]
    fn an_index_without_an_answer_is_what_it_was_unless_there_are_more_or_fewer_gpus_now() {
        let answered = || BTreeMap::from([(0, EnumerationEntry::Gpu(gpu(0)))]);
        assert_eq!(listed([0, 1]).merge(2, answered()), listed([0, 1]));
        assert_eq!(listed([0, 1]).merge(3, answered()), listed([0]));
        assert_eq!(Enumeration::default().merge(2, answered()), listed([0]));
    }

    #[test]
    fn an_index_is_asked_about_by_its_gpu_only_while_the_number_of_gpus_is_the_same() {
        let of = |count| {
            listed([0, 1]).jobs(count).into_iter().map(|(subject, _)| subject).collect::<Vec<_>>()
        };
        assert_eq!(of(2), [Subject::Gpu(gpu(0).uuid), Subject::Gpu(gpu(1).uuid)]);
        assert_eq!(of(1), [Subject::Index(0)]);
    }

    #[test]
    fn an_enumeration_is_outdated_by_a_gpu_that_is_gone_or_back() {
        let uuid = gpu(1).uuid;
        let failed = Enumeration(vec![EnumerationEntry::Failed {
            index: 1,
            uuid: Some(uuid.clone()),
            error: lost(),
        }]);
        let busy = CallError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode(999) };
        let table = [
            (listed([1]), Some(Ok(())), false),
            (listed([1]), Some(Err(lost())), true),
            (listed([1]), Some(Err(busy)), false),
            (listed([1]), None, false),
            (failed.clone(), Some(Ok(())), true),
            (failed.clone(), Some(Err(lost())), false),
            (listed([0]), Some(Ok(())), true),
        ];
        for (enumeration, probe, expected) in table {
            let outdated = enumeration.is_outdated_by(&uuid, probe.as_ref());
            assert_eq!(outdated, expected, "{enumeration:?} {probe:?}");
        }
        assert_eq!(failed.failure(&uuid), Some(&lost()));
        assert_eq!(failed.gpus(), BTreeMap::from([(1, uuid)]));
    }
}
