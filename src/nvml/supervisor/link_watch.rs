//! The links between the GPUs as far as they were read, and when to read them again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::health::{Moment, NvmlError as CallError};
use device::names::Uuid;
use device::topology::NodeLinks;
use tracing::warn;

use crate::nvml::job::Task;
use crate::nvml::links::GpuLinks;

/// Pause between the first round and the first reading of the links, some 500 calls on a node of
/// eight: the registration and the first list come first. Until then placement does without.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two readings of the same GPUs: links go down and come back while a node is in use.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The links of one session.
#[derive(Debug, Default)]
pub(super) struct LinkWatch {
    links: NodeLinks,
    gpus: BTreeSet<Uuid>,
    /// When they are read for the first time.
    first_at: Option<Moment>,
    read_at: Option<Moment>,
    waiting: BTreeSet<Uuid>,
    /// The GPUs that have answered with an error since the links were last known.
    failed: BTreeMap<CallError, BTreeSet<Uuid>>,
    /// Errors that are logged already.
    logged: BTreeSet<CallError>,
}

impl LinkWatch {
    /// The first round is done.
    pub(super) fn round_done(&mut self, now: Moment) {
        self.first_at = Some(now.after(FIRST_PAUSE));
    }

    /// When the links are to be read for the first time, as long as they were not.
    pub(super) fn first_at(&self) -> Option<Moment> {
        self.first_at
    }

    /// What to read of these GPUs, unless that was done a short while ago.
    pub(super) fn due(&mut self, now: Moment, gpus: BTreeSet<Uuid>) -> Vec<Task> {
        self.first_at = None;
        let recent = self.read_at.is_some_and(|at| now.since(at) < INTERVAL);
        if gpus.is_empty() || recent && gpus == self.gpus {
            return Vec::new();
        }
        self.read_at = Some(now);
        self.waiting = gpus.clone();
        self.links.nvlinks.retain(|gpu, _| gpus.contains(gpu));
        self.links.ancestors.retain(|(a, b), _| gpus.contains(a) && gpus.contains(b));
        self.gpus = gpus;
        let after = |gpu: &Uuid| self.gpus.iter().filter(|other| *other > gpu).cloned().collect();
        self.gpus.iter().map(|gpu| Task::Links { gpu: gpu.clone(), others: after(gpu) }).collect()
    }

    /// Adds the links of a GPU.
    pub(super) fn add(&mut self, gpu: &Uuid, links: GpuLinks) {
        for error in &links.failures {
            self.failed.entry(error.clone()).or_default().insert(gpu.clone());
        }
        links.add_to(&mut self.links, gpu);
    }

    /// A GPU has answered, or nothing is to be expected of it. All links, once that is so of every
    /// GPU.
    pub(super) fn done(&mut self, gpu: &Uuid) -> Option<NodeLinks> {
        self.waiting.remove(gpu);
        if !self.waiting.is_empty() {
            return None;
        }
        self.log_failed();
        Some(self.links.clone())
    }

    /// Logs each error once, however many GPUs have it: a driver that lacks a call lacks it for
    /// all.
    fn log_failed(&mut self) {
        for (error, gpus) in std::mem::take(&mut self.failed) {
            if self.logged.insert(error.clone()) {
                let gpus: Vec<&str> = gpus.iter().map(Uuid::as_str).collect();
                warn!(gpus = gpus.join(","), %error, "cannot read all links of these GPUs: \
                    placement uses those that are known");
            }
        }
    }
}
