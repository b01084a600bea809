//! What the kubelet asks of one resource, answered from a snapshot of the inventory. It has no
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
use tracing::{info, warn};

use super::allocations::Allocated;
use super::count::Count;
use super::telemetry::{Calls, Telemetry};
use crate::util::random;

/// One device as the kubelet is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Its id.
    pub id: DeviceId,
    /// Whether it can be handed out.
    pub healthy: bool,
    /// Its NUMA node, where known.
    pub numa_node: Option<NumaNode>,
}

/// The device plugin service of one resource.
#[derive(Debug, Clone)]
pub struct Service {
    resource: ResourceName,
    inventory: watch::Receiver<Arc<Inventory>>,
    /// Its sender is dropped when the streams are to end.
    alive: watch::Receiver<()>,
    streams: Count,
    telemetry: Telemetry,
}

impl Service {
    /// A service that answers from `inventory`, and whose streams end when the sender of `alive` is
    /// dropped.
    #[must_use]
    pub fn new(
        resource: ResourceName,
        inventory: watch::Receiver<Arc<Inventory>>,
        alive: watch::Receiver<()>,
        streams: Count,
        telemetry: Telemetry,
    ) -> Self {
        Self { resource, inventory, alive, streams, telemetry }
    }

    /// Every device of the resource, sorted by id.
    #[must_use]
    pub fn list(resource: &ResourceName, inventory: &Inventory) -> Vec<Advertised> {
        let devices = inventory.devices(resource).into_iter().flat_map(|devices| devices.values());
        let mut advertised =
            Vec::with_capacity(inventory.devices(resource).map_or(0, BTreeMap::len));
        let mut before: Option<(&Device, bool)> = None;
        for device in devices {
            // The replicas of a device follow each other, and what is true of one is true of all.
            let healthy = match before {
                Some((other, healthy)) if other.is_replica_of(device) => healthy,
                _ => inventory.is_healthy(device),
            };
            before = Some((device, healthy));
            advertised.push(Advertised {
                id: device.id.clone(),
                healthy,
                numa_node: device.numa_node,
            });
        }
        advertised
    }

    /// The list now, and again after each change of it, until the server ends its streams.
    pub fn watch(&self) -> impl Stream<Item = Arc<Vec<Advertised>>> + Send + use<> {
        let open = self.streams.one_more();
        let resource = self.resource.clone();
        let telemetry = self.telemetry.clone();
        let mut last = None;
        let snapshots = WatchStream::new(self.inventory.clone()).map(Some);
        // It never yields; what ends it is the sender being dropped, and then the one `None` behind
        // it.
        let end = WatchStream::from_changes(self.alive.clone())
            .filter_map(|()| None)
            .chain(tokio_stream::once(None));
        snapshots.merge(end).map_while(|snapshot: Option<Arc<Inventory>>| snapshot).filter_map(
            move |snapshot| {
                // Held by the stream: when the kubelet goes and the stream is dropped, so is this.
                let _held = &open;
                let list = Arc::new(Self::list(&resource, &snapshot));
                (last.as_ref() != Some(&list)).then(|| {
                    telemetry.updated();
                    last.insert(list).clone()
                })
            },
        )
    }

    /// What one container gets for these ids, or why it gets nothing: an id that is not a device of
    /// this resource. With it what is to be said of that, when the kubelet has its answer.
    pub fn allocate(&self, ids: &[String]) -> (Result<Injection, AllocateError>, Report) {
        let inventory = self.inventory.borrow().clone();
        let allocated = inventory.allocate(&self.resource, ids);
        self.telemetry.allocated(allocated.is_ok());
        let (result, said) = match allocated {
            Ok(devices) => {
                let unhealthy = devices.iter().find(|device| !inventory.is_healthy(device));
                let given = Given {
                    asked: ids.join(","),
                    unhealthy: unhealthy.map(|device| device.id.clone()),
                    ids: devices.iter().map(|device| device.id.clone()).collect(),
                };
                (
                    Ok(inventory.injector().inject(&self.resource, &devices, random::unique)),
                    Ok(given),
                )
            }
            Err(refused) => (Err(refused.clone()), Err(refused)),
        };
        (
            result,
            Report { resource: self.resource.clone(), telemetry: self.telemetry.clone(), said },
        )
    }

    /// How long its calls take.
    pub(super) fn calls(&self) -> &Calls {
        self.telemetry.calls()
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
}

/// What is to be said of an allocation: to the log, and to whoever hears of it on another thread.
#[derive(Debug)]
#[must_use = "it is said only by `make`"]
pub struct Report {
    resource: ResourceName,
    telemetry: Telemetry,
    said: Result<Given, AllocateError>,
}

/// What was given.
#[derive(Debug)]
struct Given {
    asked: String,
    unhealthy: Option<DeviceId>,
    ids: Vec<DeviceId>,
}

impl Report {
    /// Says it.
    pub fn make(self) {
        let Self { resource, telemetry, said } = self;
        match said {
            Ok(Given { asked, unhealthy, ids }) => {
                if let Some(device) = unhealthy {
                    warn!(%resource, %device, "allocating a device that is Unhealthy");
                }
                info!(%resource, devices = asked, "allocated");
                telemetry.listener().tell(|| Allocated { resource, ids });
            }
            Err(refused) => warn!(%resource, error = %refused, "refused to allocate"),
        }
    }
}
