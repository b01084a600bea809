//! The outcome of an allocation, to be logged and passed on once the kubelet has its answer.

use device::inventory::allocate::Refused;
use device::names::{DeviceId, ResourceName};
use tracing::{info, warn};

use super::allocation_events::Allocated;
use super::telemetry::PluginTelemetry;

/// What came of the allocation for one container.
#[derive(Debug)]
#[must_use = "it is logged by `publish` alone"]
pub struct AllocationOutcome {
    pub(super) resource: ResourceName,
    pub(super) telemetry: PluginTelemetry,
    pub(super) result: Result<Grant, Refused>,
}

/// The devices of a container.
#[derive(Debug)]
pub(super) struct Grant {
    /// The ids of the request, separated by commas.
    pub(super) requested: String,
    /// A device among them that is Unhealthy.
    pub(super) unhealthy: Option<DeviceId>,
    /// The devices that were given.
    pub(super) ids: Vec<DeviceId>,
}

impl AllocationOutcome {
    /// Logs it, and sends a grant to the listener of allocations.
    pub fn publish(self) {
        let Self { resource, telemetry, result } = self;
        match result {
            Ok(Grant { requested, unhealthy, ids }) => {
                if let Some(device) = unhealthy {
                    warn!(%resource, %device, "allocating a device that is Unhealthy");
                }
                info!(%resource, devices = requested, "allocated");
                telemetry.allocation_events().send(|| Allocated { resource, ids });
            }
            Err(refused) => warn!(%resource, error = %refused, "refused to allocate"),
        }
    }
}
