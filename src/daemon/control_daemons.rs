//! Waits for the MPS control daemons: one task asks each of them until it answers, as long as a
//! resource needs it.

use std::collections::BTreeMap;

use anyhow::Context;
use device::inventory::Inventory;
use device::names::ResourceName;
use tokio::task::{AbortHandle, JoinSet};

use crate::mps;

/// The tasks, one for each resource that waits.
#[derive(Default)]
pub(super) struct ControlDaemons {
    tasks: JoinSet<ResourceName>,
    by_resource: BTreeMap<ResourceName, AbortHandle>,
}

impl ControlDaemons {
    /// Starts a task for every resource that waits, and ends the others.
    pub(super) fn update(&mut self, inventory: &Inventory) {
        if inventory.injector().mps_root.is_none() && self.by_resource.is_empty() {
            return;
        }
        let waiting: Vec<&ResourceName> = inventory.awaiting_mps().collect();
        self.by_resource.retain(|resource, task| {
            let wanted = waiting.contains(&resource);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for resource in waiting {
            if !self.by_resource.contains_key(resource) {
                let waiting = resource.clone();
                let task = self.tasks.spawn(async move {
                    mps::ready(&waiting).await;
                    waiting
                });
                self.by_resource.insert(resource.clone(), task);
            }
        }
    }

    /// Waits until one answers. Nothing is lost when it is dropped before.
    ///
    /// # Errors
    /// A task has panicked.
    pub(super) async fn ready(&mut self) -> anyhow::Result<ResourceName> {
        loop {
            match self.tasks.join_next().await {
                None => return std::future::pending().await,
                Some(Ok(resource)) => {
                    self.by_resource.remove(&resource);
                    return Ok(resource);
                }
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => return Err(error).context("asking an MPS control daemon"),
            }
        }
    }
}
