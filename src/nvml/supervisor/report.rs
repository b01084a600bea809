//! Observations and log lines about calls to one GPU.

use device::health::{self, Moment, NodeObservation};
use device::inventory::InventoryEvent;
use device::names::Uuid;
use tracing::{info, warn};

use crate::nvml::channels::TimedObservation;
use crate::nvml::worker_pool::StuckCall;

/// An observation about one GPU.
pub(super) fn about_gpu(
    at: Moment,
    uuid: Uuid,
    observation: health::Observation,
) -> TimedObservation {
    let observation = InventoryEvent::Health(NodeObservation::Gpu(uuid, observation));
    TimedObservation { at, observation }
}

/// That a call has missed a deadline; nothing, if it is not known to which GPU it was.
pub(super) fn missed_deadline(at: Moment, stuck: &StuckCall) -> Option<TimedObservation> {
    let missed = health::Observation::TimedOut { call: stuck.call };
    Some(about_gpu(at, stuck.gpu()?.clone(), missed))
}

/// Logs that a call has missed its first deadline.
pub(super) fn log_stuck(stuck: &StuckCall) {
    warn!(
        gpu.uuid = stuck.gpu().map_or("unknown", Uuid::as_str),
        call = stuck.call,
        "NVML does not answer about a GPU; the others are not affected"
    );
}

/// Logs that a stuck call has returned.
pub(super) fn log_returned(stuck: &StuckCall) {
    info!(
        gpu.uuid = stuck.gpu().map_or("unknown", Uuid::as_str),
        call = stuck.call,
        seconds = stuck.elapsed().as_secs(),
        "NVML answers about the GPU again"
    );
}
