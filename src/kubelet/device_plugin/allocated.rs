//! What follows from an Allocate call: its log line, and word to the listener of allocations.
//!
//! The kubelet, and with it every pod that starts, waits for neither: what comes of a call is put
//! into a queue, and a task looks at it when the answer has long been written, at that of several
//! calls together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use device::Device;
use device::inventory::allocate::AllocateError;
use device::names::{DeviceId, ResourceName};
use tokio::sync::{mpsc, watch};
use tracing::{error_span, info, warn};

/// How long the first call of several is waited with.
const PAUSE: Duration = Duration::from_millis(10);
/// The most calls that wait, and the most allocations that wait for the listener.
const WAITING: usize = 1024;
/// After so many lines other tasks of the thread have their turn.
const BUNDLE: usize = 32;
/// The most ids of a call that its line has.
const MOST_IDS: usize = 64;

/// Devices that containers were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocated {
    /// Their resource.
    pub resource: ResourceName,
    /// Their ids.
    pub ids: Vec<DeviceId>,
}

/// Takes what came of calls. Clones share the queue.
#[derive(Debug, Clone)]
pub struct OutcomeSender {
    outcomes: mpsc::Sender<AllocateOutcome>,
    lost: Arc<AtomicU64>,
}

/// Logs what came of calls, and sends grants to the listener.
#[derive(Debug)]
pub struct OutcomePublisher {
    outcomes: mpsc::Receiver<AllocateOutcome>,
    lost: Arc<AtomicU64>,
    listener: mpsc::Sender<Allocated>,
}

/// A queue of outcomes: its two ends, and the grants for the listener.
#[must_use]
pub fn channel() -> (OutcomeSender, OutcomePublisher, mpsc::Receiver<Allocated>) {
    let (outcomes_tx, outcomes) = mpsc::channel(WAITING);
    let (listener, granted) = mpsc::channel(WAITING);
    let lost = Arc::new(AtomicU64::new(0));
    let sender = OutcomeSender { outcomes: outcomes_tx, lost: lost.clone() };
    (sender, OutcomePublisher { outcomes, lost, listener }, granted)
}

impl OutcomeSender {
    /// Never waits. Where calls come faster than lines can be made, the number of those without a
    /// line is logged.
    pub(super) fn send(&self, outcome: AllocateOutcome) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.outcomes.try_send(outcome) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl OutcomePublisher {
    /// Publishes until all senders are gone. Once `stopping` is true, nothing is waited with.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        while let Some(first) = self.outcomes.recv().await {
            let _ = tokio::time::timeout(PAUSE, stopping.wait_for(|stopping| *stopping)).await;
            self.publish(first);
            for count in 1.. {
                let Ok(next) = self.outcomes.try_recv() else { break };
                self.publish(next);
                if count % BUNDLE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let calls = self.lost.swap(0, Relaxed);
            if calls > 0 {
                warn!(calls, "Allocate was called faster than its lines can be logged");
            }
        }
    }

    fn publish(&self, outcome: AllocateOutcome) {
        outcome.log();
        if let AllocateOutcome { resource, result: Ok(Grant { granted: ids, .. }), .. } = outcome {
            // The listener is gone while the daemon stops. If it does not keep up it learns of the
            // devices from the kubelet.
            let _ = self.listener.try_send(Allocated { resource, ids });
        }
    }
}

/// What came of one call.
#[derive(Debug)]
pub struct AllocateOutcome {
    pub(super) resource: ResourceName,
    /// The number of the call.
    pub(super) call: u64,
    /// How many ids it requested, for all its containers.
    pub(super) requested: usize,
    pub(super) result: Result<Grant, AllocateError>,
}

/// The devices of a call.
#[derive(Debug, Default)]
pub(super) struct Grant {
    /// The first ids of the request.
    ids: Vec<String>,
    /// A device among them that is Unhealthy.
    unhealthy: Option<DeviceId>,
    /// The devices that were given.
    granted: Vec<DeviceId>,
}

impl Grant {
    /// Adds the devices that a container is given for these ids.
    pub(super) fn add(
        &mut self,
        ids: Vec<String>,
        devices: &[&Device],
        is_healthy: impl Fn(&Device) -> bool,
    ) {
        self.ids.extend(ids.into_iter().take(MOST_IDS - self.ids.len()));
        if self.unhealthy.is_none() {
            let unhealthy = devices.iter().find(|device| !is_healthy(device));
            self.unhealthy = unhealthy.map(|device| device.id.clone());
        }
        self.granted.extend(devices.iter().map(|device| device.id.clone()));
    }
}

impl AllocateOutcome {
    /// The span is made here and not around the call, which it would make longer. Its level is that
    /// of errors, so that every line has its fields.
    fn log(&self) {
        let Self { resource, call, requested, result } = self;
        let _span = error_span!("allocate", %resource, ids = requested, call).entered();
        match result {
            Ok(Grant { ids, unhealthy, .. }) => {
                if let Some(device) = unhealthy {
                    warn!(%device, "allocating a device that is Unhealthy");
                }
                let mut devices = ids.join(",");
                if *requested > ids.len() {
                    devices += &format!(" and {} more", requested - ids.len());
                }
                info!(devices, "allocated");
            }
            Err(refused) => warn!(error = %refused, "refused to allocate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(call: u64, ids: &[&str]) -> AllocateOutcome {
        let id = |id: &&str| id.parse::<DeviceId>().unwrap();
        let granted = ids.iter().map(id).collect();
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let (requested, grant) = (ids.len(), Grant { ids, unhealthy: None, granted });
        AllocateOutcome { resource: ResourceName::gpu(), call, requested, result: Ok(grant) }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_a_moment_are_published_together_and_in_their_order() {
        let (sender, publisher, mut granted) = channel();
        let (_stop, stopping) = watch::channel(false);
        tokio::spawn(publisher.run(stopping));
        let began = tokio::time::Instant::now();
        sender.send(outcome(1, &["GPU-0"]));
        sender.send(outcome(2, &["GPU-1", "GPU-2"]));
        let mut ids = Vec::new();
        for _ in 0..2 {
            ids.extend(granted.recv().await.unwrap().ids.iter().map(ToString::to_string));
        }
        assert_eq!(ids, ["GPU-0", "GPU-1", "GPU-2"]);
        assert_eq!(began.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_not_waited_with() {
        let (sender, publisher, mut granted) = channel();
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(publisher.run(stopping));
        let began = tokio::time::Instant::now();
        sender.send(outcome(1, &["GPU-0"]));
        stop.send_replace(true);
        granted.recv().await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_what_it_does_not_take_is_counted() {
        let (sender, publisher, _granted) = channel();
        (0..WAITING as u64 + 3).for_each(|call| sender.send(outcome(call, &["GPU-0"])));
        assert_eq!(publisher.lost.load(Relaxed), 3);
    }

    #[test]
    fn a_line_has_a_bounded_number_of_ids() {
        let mut grant = Grant::default();
        for _ in 0..3 {
            grant.add(vec!["GPU-0".to_owned(); 40], &[], |_| true);
        }
        assert_eq!(grant.ids.len(), MOST_IDS);
    }
}
