//! The calls of the kubelet for one resource, answered from a snapshot of the inventory. It has no
//! state of its own.

use std::sync::Arc;

use device::allocation::Request;
use device::injection::Injection;
use device::inventory::Inventory;
use device::inventory::allocate::AllocateError;
use device::names::ResourceName;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use super::advertised_device::{AdvertisedDevice, advertised_devices};
use super::allocation_outcome::{AllocationOutcome, Grant};
use super::calls::CallDurations;
use super::open_count::OpenCount;
use super::telemetry::PluginTelemetry;
use crate::util::random;

/// The device plugin service of one resource.
#[derive(Debug, Clone)]
pub struct Service {
    resource: ResourceName,
    inventory: watch::Receiver<Arc<Inventory>>,
    /// Its sender is dropped to end the streams.
    alive: watch::Receiver<()>,
    streams: OpenCount,
    telemetry: PluginTelemetry,
}

impl Service {
    /// A service that answers from `inventory`, and whose streams end when the sender of `alive` is
    /// dropped.
    #[must_use]
    pub fn new(
        resource: ResourceName,
        inventory: watch::Receiver<Arc<Inventory>>,
        alive: watch::Receiver<()>,
        streams: OpenCount,
        telemetry: PluginTelemetry,
    ) -> Self {
        Self { resource, inventory, alive, streams, telemetry }
    }

    /// The list now, and again after each change of it, until the server ends its streams.
    pub fn watch(&self) -> impl Stream<Item = Arc<Vec<AdvertisedDevice>>> + Send + use<> {
        let open = self.streams.open();
        let (resource, telemetry) = (self.resource.clone(), self.telemetry.clone());
        let mut last = None;
        self.snapshots().filter_map(move |snapshot| {
            // Held by the stream, and so dropped with it when the kubelet closes it.
            let _open = &open;
            let list = Arc::new(advertised_devices(&resource, &snapshot));
            (last.as_ref() != Some(&list)).then(|| {
                telemetry.count_list();
                last.insert(list).clone()
            })
        })
    }

    fn snapshots(&self) -> impl Stream<Item = Arc<Inventory>> + Send + use<> {
        let snapshots = WatchStream::new(self.inventory.clone()).map(Some);
        // It never yields; when the sender is dropped, the `None` behind it ends the merged stream.
        let end = WatchStream::from_changes(self.alive.clone())
            .filter_map(|()| None)
            .chain(tokio_stream::once(None));
        snapshots.merge(end).map_while(|snapshot: Option<Arc<Inventory>>| snapshot)
    }

    /// What one container gets for these ids, or the error that an id is not a device of this
    /// resource; and the outcome, to be published when the kubelet has its answer.
    pub fn allocate(
        &self,
        ids: &[String],
    ) -> (Result<Injection, AllocateError>, AllocationOutcome) {
        let inventory = self.inventory.borrow().clone();
        let allocated = inventory.allocate(&self.resource, ids);
        self.telemetry.count_allocation(allocated.is_ok());
        let (answer, result) = match allocated {
            Ok(devices) => {
                let unhealthy = devices.iter().find(|device| !inventory.is_healthy(device));
                let grant = Grant {
                    devices: ids.join(","),
                    unhealthy: unhealthy.map(|device| device.id.clone()),
                    ids: devices.iter().map(|device| device.id.clone()).collect(),
                };
                let injector = inventory.injector();
                (Ok(injector.inject(&self.resource, &devices, random::unique)), Ok(grant))
            }
            Err(refused) => (Err(refused.clone()), Err(refused)),
        };
        let (resource, telemetry) = (self.resource.clone(), self.telemetry.clone());
        (answer, AllocationOutcome { resource, requested: ids.len(), telemetry, result })
    }

    /// The best of the available ids. It never fails, since an error here fails the pod.
    #[must_use]
    pub fn preferred(
        &self,
        available: &[String],
        must_include: &[String],
        size: i32,
    ) -> Vec<String> {
        let inventory = self.inventory.borrow().clone();
        let request = Request { available, must_include, size };
        let Some(preferred) = inventory.preferred(&self.resource, &request) else {
            return Vec::new();
        };
        for note in &preferred.notes {
            self.telemetry.notes().record(&self.resource, note);
        }
        preferred.ids.into_iter().map(ToOwned::to_owned).collect()
    }

    pub(super) fn calls(&self) -> &CallDurations {
        self.telemetry.calls()
    }
}
