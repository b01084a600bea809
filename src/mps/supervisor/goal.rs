//! What the control daemons are to be, from the plugin's status. Pure.

use std::collections::BTreeMap;

use device::names::{ResourceName, Uuid};
use status::{Gpu, MpsShare, MpsSharing, Resource, SharingStrategy, Status};

/// What the control daemon of one resource is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Goal {
    /// The GPUs that it shares, by index.
    pub gpus: Vec<GoalGpu>,
    /// The default share of threads of a client in percent; `None`: all.
    pub threads: Option<u32>,
    /// Whether one server works for the processes of all users.
    pub multi_user: bool,
}

/// A GPU that a control daemon shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoalGpu {
    /// Its identity.
    pub uuid: Uuid,
    /// The default limit of a client's memory in MiB; `None`: no limit.
    pub memory: Option<u64>,
    /// Whether a daemon can be started on it: CUDA ends the list of visible GPUs at the first that
    /// does not answer.
    pub usable: bool,
}

impl Goal {
    /// The GPUs that a daemon would be started on now.
    pub(super) fn usable(&self) -> impl Iterator<Item = &GoalGpu> {
        self.gpus.iter().filter(|gpu| gpu.usable)
    }

    /// Whether it shares this GPU.
    #[must_use]
    pub(super) fn has(&self, uuid: &Uuid) -> bool {
        self.gpus.iter().any(|gpu| gpu.uuid == *uuid)
    }
}

/// The goals of the resources that MPS shares.
#[must_use]
pub(super) fn goals(status: &Status) -> BTreeMap<ResourceName, Goal> {
    let gpus: BTreeMap<&str, &Gpu> = status.gpus.iter().map(|gpu| (&*gpu.uuid, gpu)).collect();
    let goal = |resource: &Resource| {
        let sharing = resource.sharing.as_ref()?;
        let mps = sharing.mps.as_ref().filter(|_| sharing.strategy == SharingStrategy::Mps)?;
        // A name that is none is of no plugin of ours, and would be a path.
        Some((resource.name.parse().ok()?, of_resource(mps, &gpus)?))
    };
    status.resources.iter().filter_map(goal).collect()
}

/// `None`: it shares no GPU now.
fn of_resource(mps: &MpsSharing, gpus: &BTreeMap<&str, &Gpu>) -> Option<Goal> {
    let gpu = |share: &MpsShare| {
        Some(GoalGpu {
            uuid: share.gpu.parse().ok()?,
            // A limit of the daemon's can be lowered by a container, and not raised.
            memory: if mps.limits_by_container { share.most_memory_mib } else { share.memory_mib },
            usable: gpus.get(&*share.gpu).is_some_and(|gpu| gpu.healthy),
        })
    };
    let shared: Vec<GoalGpu> = mps.shares.iter().filter_map(gpu).collect();
    if shared.is_empty() {
        return None;
    }
    // A daemon has one share for all its GPUs.
    let threads = mps.shares.iter().map(|share| share.thread_percentage).min();
    Some(Goal {
        gpus: shared,
        threads: threads.filter(|_| !mps.limits_by_container),
        multi_user: mps.multi_user,
    })
}
