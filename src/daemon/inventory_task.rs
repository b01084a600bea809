//! The task that owns the inventory: whatever changes it comes here.

use device::inventory::InventoryEvent;
use tokio::sync::{mpsc, watch};

use super::clear::ClearRequest;
use super::control_daemons::ControlDaemons;
use super::inventory_writer::InventoryWriter;
use super::liveness::Ping;
use super::reclaim_controller::ReclaimController;
use super::reload::{ReloadEvent, Reloader};
use crate::nvml::TimedObservation;

/// How many observations are applied before the lists are sent: a storm becomes few lists. Those
/// that came together are never divided.
const BATCH: usize = 64;

/// The only task that changes the inventory.
pub(super) struct InventoryTask {
    pub(super) observations: mpsc::Receiver<Vec<TimedObservation>>,
    pub(super) pings: mpsc::Receiver<Ping>,
    pub(super) clears: mpsc::Receiver<ClearRequest>,
    pub(super) writer: InventoryWriter,
    pub(super) reloader: Reloader,
    pub(super) reclaim: ReclaimController,
    pub(super) control_daemons: ControlDaemons,
    /// Whether what pods hold is in the inventory, as far as the kubelet says it.
    pub(super) knows_holders: watch::Sender<bool>,
}

impl InventoryTask {
    /// Runs until an error.
    pub(super) async fn run(mut self) -> anyhow::Error {
        loop {
            self.control_daemons.update(&self.writer.inventory.borrow());
            let result = tokio::select! {
                Some(first) = self.observations.recv() => {
                    let batch = next_batch(first, &mut self.observations);
                    self.observed(batch.into_iter());
                    if !self.observations.is_empty() {
                        // In a storm the others on this thread, such as HTTP, have their turn.
                        tokio::task::yield_now().await;
                    }
                    Ok(())
                }
                Some(ping) = self.pings.recv() => {
                    let _ = ping.send(());
                    Ok(())
                }
                Some(request) = self.clears.recv() => {
                    self.clear(request);
                    Ok(())
                }
                is_review_due = self.reclaim.due() => {
                    self.writer.set_in_use(self.reclaim.in_use());
                    if is_review_due {
                        self.reclaim.review(&self.writer.inventory);
                        self.reclaim.release_for_reset(&self.writer.inventory.borrow());
                        self.knows_holders.send_replace(true);
                    }
                    Ok(())
                }
                report = self.control_daemons.changed() => report.map(|(resource, daemon)| {
                    self.apply(InventoryEvent::Mps(resource, daemon));
                }),
                event = self.reloader.next() => {
                    self.reloaded(event);
                    Ok(())
                }
            };
            if let Err(error) = result {
                return error;
            }
        }
    }

    fn observed(&mut self, batch: impl Iterator<Item = TimedObservation>) {
        let applied = self.writer.apply(batch);
        if applied.layout || applied.health {
            // With a driver, its device nodes come and go.
            self.reloader.check_host();
        }
        if applied.layout {
            self.reclaim.review(&self.writer.inventory);
        }
        if applied.health {
            self.reclaim.release_for_reset(&self.writer.inventory.borrow());
        }
    }

    /// Clears a GPU of what was observed up to now.
    fn clear(&mut self, request: ClearRequest) {
        for _ in 0..self.observations.len() {
            let Ok(before) = self.observations.try_recv() else { break };
            self.observed(before.into_iter());
        }
        let resolved = request.resolve(&self.writer.inventory.borrow());
        if let Ok((clear, _)) = &resolved {
            let (at, clear) = (self.writer.clock.now(), clear.clone());
            let observation = InventoryEvent::Health(clear);
            self.observed([TimedObservation { at, observation }].into_iter());
        }
        request.answer(resolved);
    }

    fn apply(&mut self, observation: InventoryEvent) {
        let at = self.writer.clock.now();
        self.writer.apply([TimedObservation { at, observation }].into_iter());
    }

    fn reloaded(&mut self, event: ReloadEvent) {
        match event {
            ReloadEvent::Load(loaded, host, cause) => {
                let now = self.writer.clock.now();
                self.reloader.apply(*loaded, host, cause, now, &self.writer.inventory);
                let config = self.reloader.running();
                self.writer.configured(config);
                self.reclaim.set_release_for(config.release_for_reset());
            }
            ReloadEvent::CheckHost(host) => {
                self.reloader.set_host(host, &self.writer.inventory);
            }
        }
        self.reclaim.review(&self.writer.inventory);
    }
}

/// What is applied together: the first, and of those that wait as many as make up a batch.
fn next_batch(
    first: Vec<TimedObservation>,
    waiting: &mut mpsc::Receiver<Vec<TimedObservation>>,
) -> Vec<TimedObservation> {
    let mut batch = first;
    while batch.len() < BATCH
        && let Ok(more) = waiting.try_recv()
    {
        batch.extend(more);
    }
    batch
}

#[cfg(test)]
mod tests {
    use device::health::{Moment, NodeObservation};

    use super::*;

    fn observations(count: usize) -> Vec<TimedObservation> {
        let one = || TimedObservation {
            at: Moment::default(),
            observation: InventoryEvent::Health(NodeObservation::Fault(None)),
        };
        (0..count).map(|_| one()).collect()
    }

    #[test]
    fn a_batch_is_as_many_observations_as_it_may_be_and_what_came_together() {
        for (lengths, batches) in [
            (vec![1; 130], vec![64, 64, 2]),
            (vec![1000, 1000], vec![1000, 1000]),
            (vec![1, 1000, 1], vec![1001, 1]),
            (vec![8], vec![8]),
        ] {
            let (sender, mut waiting) = mpsc::channel(lengths.len());
            for length in lengths {
                sender.try_send(observations(length)).unwrap();
            }
            let mut sizes = Vec::new();
            while let Ok(first) = waiting.try_recv() {
                sizes.push(next_batch(first, &mut waiting).len());
            }
            assert_eq!(sizes, batches);
        }
    }
}
