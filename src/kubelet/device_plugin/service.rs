//! The calls of the kubelet for one resource, answered from a snapshot of the inventory. It has no
//! state of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use device::Device;
use device::allocation::Request;
use device::gpu::NumaNode;
use device::injection::Injection;
use device::inventory::Inventory;
use device::inventory::allocate::AllocateError;
use device::names::{DeviceId, ResourceName};
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

    /// What each container of a call gets for its ids, or the error that an id is not a device of
    /// this resource; and what came of the `call`, to be logged.
    pub fn allocate(
        &self,
        call: u64,
        containers: impl IntoIterator<Item = Vec<String>>,
    ) -> (Result<Vec<Injection>, AllocateError>, AllocateOutcome) {
        let inventory = self.inventory.borrow().clone();
        let (mut grant, mut requested) = (Grant::default(), 0);
        let each = containers.into_iter().map(|ids| {
            requested += ids.len();
            self.allocate_container(&inventory, ids, &mut grant)
        });
        let answer: Result<Vec<Injection>, AllocateError> = each.collect();
        let result = answer.as_ref().map(|_| grant).map_err(Clone::clone);
        let resource = self.resource.clone();
        (answer, AllocateOutcome { resource, call, requested, result })
    }

    fn allocate_container(
        &self,
        inventory: &Inventory,
        ids: Vec<String>,
        grant: &mut Grant,
    ) -> Result<Injection, AllocateError> {
        let allocated = inventory.allocate(&self.resource, &ids);
        self.telemetry.count_allocation(allocated.is_ok());
        let devices = allocated?;
        grant.add(ids, &devices, |device| inventory.is_healthy(device));
        Ok(inventory.injector().inject(&self.resource, &devices, random::unique))
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

/// Every device of the resource, sorted by id.
#[must_use]
pub fn advertised_devices(resource: &ResourceName, inventory: &Inventory) -> Vec<AdvertisedDevice> {
    let devices = inventory.devices(resource);
    let mut advertised = Vec::with_capacity(devices.map_or(0, BTreeMap::len));
    let mut before: Option<(&Device, bool)> = None;
    for device in devices.into_iter().flat_map(BTreeMap::values) {
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
