//! The calls of the kubelet for one resource, answered from a snapshot of the inventory. It has no
//! state of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use device::allocation::Request;
use device::gpu::NumaNode;
use device::injection::Injection;
use device::inventory::Inventory;
use device::inventory::allocate::AllocateError;
use device::names::{DeviceId, ResourceName};
use device::{CdiState, Device};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use super::allocated::{AllocateOutcome, Grant};
use super::telemetry::PluginTelemetry;
use crate::util::random;

/// The device plugin service of one resource.
#[derive(Debug, Clone)]
pub struct Service {
    /// The resource.
    pub resource: ResourceName,
    /// What it answers from.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// Its sender is dropped to end the streams.
    pub alive: watch::Receiver<()>,
    /// How many streams are open.
    pub streams: watch::Sender<usize>,
    /// What counts its calls.
    pub telemetry: PluginTelemetry,
}

/// Counts as one open stream until it is dropped.
struct OpenStream(watch::Sender<usize>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Service {
    /// The list now, and again after each change of it, until the server ends its streams.
    pub fn watch(&self) -> impl Stream<Item = Arc<Vec<AdvertisedDevice>>> + Send + use<> {
        self.streams.send_modify(|count| *count += 1);
        let open = OpenStream(self.streams.clone());
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

    /// An Allocate call, to be answered container by container from the inventory as it is now.
    /// `call` is its number.
    #[must_use]
    pub fn allocation(&self, call: u64) -> Allocation<'_> {
        let (inventory, grant) = (self.inventory.borrow().clone(), Grant::default());
        Allocation { service: self, inventory, call, requested: 0, grant, refused: None }
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
            self.telemetry.note(&self.resource, note);
        }
        preferred.ids.into_iter().map(ToOwned::to_owned).collect()
    }
}

/// One Allocate call.
#[derive(Debug)]
pub struct Allocation<'s> {
    service: &'s Service,
    inventory: Arc<Inventory>,
    call: u64,
    requested: usize,
    grant: Grant,
    refused: Option<AllocateError>,
}

impl Allocation<'_> {
    /// What a container gets for its ids.
    ///
    /// # Errors
    /// An id is not a device of this resource.
    pub fn container(&mut self, ids: Vec<String>) -> Result<Injection, AllocateError> {
        let resource = &self.service.resource;
        self.requested += ids.len();
        let allocated = self.inventory.allocate(resource, &ids);
        self.service.telemetry.count_allocation(allocated.is_ok());
        let devices = allocated.inspect_err(|refused| self.refused = Some(refused.clone()))?;
        self.grant.add(ids, &devices, |device| self.inventory.is_healthy(device));
        Ok(self.inventory.inject(resource, &devices, random::unique))
    }

    /// What came of the call, to be logged; `None` if it failed for another reason than its ids.
    #[must_use]
    pub fn outcome(self, answered: bool) -> Option<AllocateOutcome> {
        let Self { service, call, requested, grant, refused, .. } = self;
        let result = match refused {
            Some(refused) => Err(refused),
            None if answered => Ok(grant),
            None => return None,
        };
        Some(AllocateOutcome { resource: service.resource.clone(), call, requested, result })
    }
}

/// One device as the kubelet sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedDevice {
    /// Its id.
    pub id: DeviceId,
    /// Whether it can be allocated.
    pub healthy: bool,
    /// Its NUMA node, where known.
    pub numa_node: Option<NumaNode>,
}

/// Every device of the resource that is in its list, sorted by id.
#[must_use]
pub fn advertised_devices(resource: &ResourceName, inventory: &Inventory) -> Vec<AdvertisedDevice> {
    let devices = inventory.devices(resource);
    let mut advertised = Vec::with_capacity(devices.map_or(0, BTreeMap::len));
    let mut before: Option<(&Device, bool)> = None;
    let devices = devices.into_iter().flat_map(BTreeMap::values);
    for device in devices.filter(|device| device.cdi != CdiState::Awaited) {
        // The replicas of a device follow each other and share its health.
        let healthy = match before {
            Some((other, healthy)) if other.is_replica_of(device) => healthy,
            _ => inventory.is_healthy(device),
        };
        before = Some((device, healthy));
        let (id, numa_node) = (device.id.clone(), device.numa_node);
        advertised.push(AdvertisedDevice { id, healthy, numa_node });
    }
    advertised
}
