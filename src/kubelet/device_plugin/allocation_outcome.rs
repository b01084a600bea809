//! The outcome of an allocation, to be logged and passed on once the kubelet has its answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use device::inventory::allocate::AllocateError;
use device::names::{DeviceId, ResourceName};
use tracing::{error_span, info, warn};

use super::allocation_events::Allocated;
use super::telemetry::PluginTelemetry;

/// The number of the next Allocate call of this process, for the log.
pub(super) fn next_call() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    CALLS.fetch_add(1, Relaxed)
}

/// What came of the allocation for one container.
#[derive(Debug)]
#[must_use = "it is logged by `publish` alone"]
pub struct AllocationOutcome {
    pub(super) resource: ResourceName,
    /// How many ids the container requested.
    pub(super) requested: usize,
    pub(super) telemetry: PluginTelemetry,
    pub(super) result: Result<Grant, AllocateError>,
}

/// The devices of a container.
#[derive(Debug)]
pub(super) struct Grant {
    /// The ids of the request, separated by commas.
    pub(super) devices: String,
    /// A device among them that is Unhealthy.
    pub(super) unhealthy: Option<DeviceId>,
    /// The devices that were given.
    pub(super) ids: Vec<DeviceId>,
}

impl AllocationOutcome {
    /// Logs it, and sends a grant to the listener of allocations. `call` is the number of the call
    /// that the container came with.
    ///
    /// The span is made here and not around the call, which it would make longer. Its level is that
    /// of errors, so that every line has its fields.
    pub fn publish(self, call: u64) {
        let Self { resource, requested, telemetry, result } = self;
        let _span = error_span!("allocate", %resource, ids = requested, call).entered();
        match result {
            Ok(Grant { devices, unhealthy, ids }) => {
                if let Some(device) = unhealthy {
                    warn!(%device, "allocating a device that is Unhealthy");
                }
                info!(devices, "allocated");
                telemetry.allocation_events().send(|| Allocated { resource, ids });
            }
            Err(refused) => warn!(error = %refused, "refused to allocate"),
        }
    }
}
