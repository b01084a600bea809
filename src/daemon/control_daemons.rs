//! Looks at the MPS control daemons: a task for each resource that MPS shares, as long as it does.

use std::collections::BTreeMap;

use anyhow::Context;
use device::inventory::Inventory;
use device::mps::MpsDaemon;
use device::names::ResourceName;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::mps::MpsWatcher;

/// How many reports can wait. A task that finds no room waits too.
const WAITING: usize = 16;

/// The tasks, one for each resource that MPS shares.
pub(super) struct ControlDaemons {
    watcher: MpsWatcher,
    tasks: JoinSet<()>,
    by_resource: BTreeMap<ResourceName, AbortHandle>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
}

type Report = (ResourceName, MpsDaemon);

impl ControlDaemons {
    /// None yet.
    pub(super) fn new(watcher: MpsWatcher) -> Self {
        let reports = mpsc::channel(WAITING);
        Self { watcher, tasks: JoinSet::new(), by_resource: BTreeMap::new(), reports }
    }

    /// Starts a task for every resource that MPS shares, and ends the others.
    pub(super) fn update(&mut self, inventory: &Inventory) {
        if inventory.injector().mps_root.is_none() && self.by_resource.is_empty() {
            return;
        }
        let shared: Vec<&ResourceName> = inventory.shared_by_mps().collect();
        self.by_resource.retain(|resource, task| {
            let wanted = shared.contains(&resource);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for resource in shared {
            if !self.by_resource.contains_key(resource) {
                let follow = self.watcher.clone().follow(resource.clone(), self.reports.0.clone());
                self.by_resource.insert(resource.clone(), self.tasks.spawn(follow));
            }
        }
    }

    /// Waits until something is known of one. Nothing is lost when it is dropped before.
    ///
    /// # Errors
    /// A task has panicked.
    pub(super) async fn changed(&mut self) -> anyhow::Result<Report> {
        loop {
            tokio::select! {
                Some((resource, daemon)) = self.reports.1.recv() => {
                    // What a task that has been ended told is not asked for any more.
                    if self.by_resource.contains_key(&resource) {
                        return Ok((resource, daemon));
                    }
                }
                Some(ended) = self.tasks.join_next() => match ended {
                    Err(error) if !error.is_cancelled() => {
                        return Err(error).context("looking at an MPS control daemon");
                    }
                    _ => {}
                },
                else => return std::future::pending().await,
            }
        }
    }
}
