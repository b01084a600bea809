//! The links between the GPUs as far as they were read, and when to read them again.

use std::collections::BTreeSet;
use std::time::Duration;

use device::health::{Moment, NvmlError as CallError};
use device::names::Uuid;
use device::topology::NodeLinks;
use tracing::warn;

use crate::nvml::job::Task;
use crate::nvml::links::GpuLinks;

/// Pause between two readings of the same GPUs: links go down and come back while a node is in use.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The links of one session.
#[derive(Debug, Default)]
pub(super) struct LinkWatch {
    links: NodeLinks,
    gpus: BTreeSet<Uuid>,
    read_at: Option<Moment>,
    waiting: BTreeSet<Uuid>,
    /// Errors that are logged already.
    logged: BTreeSet<(Uuid, CallError)>,
}

impl LinkWatch {
    /// What to read of these GPUs, unless that was done a short while ago.
    pub(super) fn due(&mut self, now: Moment, gpus: BTreeSet<Uuid>) -> Vec<Task> {
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

    /// Adds the links of a GPU, and logs each error of it once.
    pub(super) fn add(&mut self, gpu: &Uuid, links: GpuLinks) {
        for error in &links.failures {
            if self.logged.insert((gpu.clone(), error.clone())) {
                warn!(gpu.uuid = %gpu, %error, "cannot read all links of this GPU: placement \
                    uses those that are known");
            }
        }
        links.add_to(&mut self.links, gpu);
    }

    /// A GPU has answered, or nothing is to be expected of it. All links, once that is so of every
    /// GPU.
    pub(super) fn done(&mut self, gpu: &Uuid) -> Option<NodeLinks> {
        self.waiting.remove(gpu);
        self.waiting.is_empty().then(|| self.links.clone())
    }
}
