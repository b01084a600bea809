//! The devices that MPS shares: what each is a share of, and whether their control daemon is there.
//!
//! ```text
//!   shared ──▶ awaits the daemon ◀──────▶ Healthy, if nothing else is wrong
//!                         its daemon is there for its GPU, or is not
//! ```

use std::collections::BTreeMap;

use super::Inventory;
use super::observation::InventoryChanges;
use crate::Device;
use crate::layout::{LayoutFinding, LayoutResult};
use crate::mps::{MpsDaemon, most_clients};
use crate::names::{DeviceId, ResourceName, Uuid};

impl Inventory {
    /// The resources that MPS shares now.
    pub fn shared_by_mps(&self) -> impl Iterator<Item = &ResourceName> {
        let is_shared = |devices: &BTreeMap<DeviceId, Device>| {
            devices.values().any(|device| device.mps.is_some())
        };
        self.resources.iter().filter(move |(_, devices)| is_shared(devices)).map(|(name, _)| name)
    }

    /// What is known of the control daemon of a resource; `None`: nothing yet.
    #[must_use]
    pub fn mps_daemon(&self, resource: &ResourceName) -> Option<&MpsDaemon> {
        self.mps.get(resource)
    }

    pub(super) fn set_mps(
        &mut self,
        resource: ResourceName,
        daemon: MpsDaemon,
    ) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        if self.mps.get(&resource) != Some(&daemon) {
            self.mps.insert(resource, daemon);
            self.update_devices(&mut changes);
            // Why it is down is shown, also where no device changes by it.
            changes.layout = true;
        }
        changes
    }

    /// Gives the replicas their shares, and marks those whose control daemon is not there. What is
    /// known of the daemon of a resource that MPS shares no longer is dropped.
    pub(super) fn mark_mps(&mut self, result: &mut LayoutResult) {
        if self.injector.mps_root.is_none() {
            self.mps.clear();
            return;
        }
        for (name, devices) in &mut result.resources {
            let replicas = replicas(devices);
            for (uuid, replicas) in &replicas {
                let most = most_clients(self.gpu_of(devices, uuid).1);
                if *replicas > most {
                    devices.retain(|id, _| id.uuid() != uuid);
                    let (resource, device) = (name.clone(), uuid.clone());
                    let replicas = *replicas;
                    let finding =
                        LayoutFinding::TooManyMpsClients { resource, device, replicas, most };
                    result.findings.push(finding);
                    continue;
                }
                let share = self.injector.mps.share(self.gpu_of(devices, uuid).0, *replicas);
                let daemon = self.mps.get(name);
                for (_, device) in devices.iter_mut().filter(|(id, _)| id.uuid() == uuid) {
                    device.mps = Some(share);
                    device.awaits_mps = !daemon.is_some_and(|daemon| daemon.serves(&device.gpu));
                }
            }
        }
        let resources = &result.resources;
        let is_shared = |devices: &BTreeMap<DeviceId, Device>| !replicas(devices).is_empty();
        self.mps.retain(|name, _| resources.get(name).is_some_and(is_shared));
    }

    /// The memory in bytes and the compute capability of the GPU of a device.
    fn gpu_of(
        &self,
        devices: &BTreeMap<DeviceId, Device>,
        uuid: &Uuid,
    ) -> (Option<u64>, Option<(u32, u32)>) {
        let device = devices.values().find(|device| device.id.uuid() == uuid);
        let record = device.and_then(|device| self.gpus.get(&device.gpu));
        let facts = record.and_then(|record| record.facts.as_ref());
        facts.map_or((None, None), |gpu| (gpu.memory_bytes, gpu.compute_capability))
    }
}

/// How many replicas each shared device has.
fn replicas(devices: &BTreeMap<DeviceId, Device>) -> BTreeMap<Uuid, u32> {
    let mut replicas = BTreeMap::new();
    for id in devices.keys().filter(|id| id.replica_number().is_some()) {
        *replicas.entry(id.uuid().clone()).or_default() += 1;
    }
    replicas
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::allocation::AllocationPolicy;
    use crate::health::{Moment, NodeHealth};
    use crate::injection::Injector;
    use crate::inventory::InventoryEvent;
    use crate::layout::Layout;
    use crate::layout::sharing::{Replication, Selection, SharedResource, Sharing};
    use crate::testing::{answers, gpu, listing};

    const MIB: u64 = 1 << 20;

    /// GPUs of 8,000 and 4,000 MiB, the second older than Volta, with so many replicas.
    fn shared(replicas: u32, one_replica_only: bool) -> Inventory {
        let name = ResourceName::gpu();
        let resource =
            SharedResource { offered_as: name.clone(), name, replicas, devices: Selection::All };
        let replication = Replication {
            rename_by_default: false,
            fail_requests_greater_than_one: one_replica_only,
            memory_limits: None,
            resources: vec![resource],
        };
        let sharing = Sharing::Mps { replication, root: PathBuf::from("/m") };
        let layout = Layout { sharing, ..Layout::default() };
        let injector =
            Injector { mps_root: Some("/m".to_owned()), one_replica_only, ..Injector::default() };
        let health = NodeHealth::default();
        let mut node = Inventory::new(layout, injector, health, AllocationPolicy::default());
        let gpus = [(0, 8000, (9, 0)), (1, 4000, (6, 1))];
        let gpus = gpus.map(|(index, mib, capability)| crate::gpu::Gpu {
            memory_bytes: Some(mib * MIB),
            compute_capability: Some(capability),
            ..gpu(index)
        });
        node.apply(Moment::default(), listing(gpus));
        node.apply(Moment::default(), answers());
        node
    }

    fn healthy(node: &Inventory) -> Vec<String> {
        let devices = node.devices(&ResourceName::gpu()).unwrap().values();
        let devices = devices.filter(|device| node.is_healthy(device));
        devices.map(|device| device.id.to_string()).collect()
    }

    fn tell(node: &mut Inventory, daemon: MpsDaemon) {
        node.apply(Moment::default(), InventoryEvent::Mps(ResourceName::gpu(), daemon));
    }

    #[test]
    fn replicas_are_healthy_while_their_daemon_is_there_for_their_gpu() {
        let mut node = shared(2, true);
        assert!(healthy(&node).is_empty());
        tell(&mut node, MpsDaemon::Up(None));
        assert_eq!(healthy(&node).len(), 4);
        let one = ["GPU-1".parse().unwrap()].into();
        tell(&mut node, MpsDaemon::Up(Some(one)));
        assert_eq!(healthy(&node), ["GPU-1::0", "GPU-1::1"]);
        tell(&mut node, MpsDaemon::Down("gone".to_owned()));
        assert!(healthy(&node).is_empty());
    }

    #[test]
    fn replicas_that_are_withdrawn_are_no_longer_shared_by_mps() {
        let mut node = shared(2, true);
        let gpu = ResourceName::gpu();
        tell(&mut node, MpsDaemon::Down("gone".to_owned()));
        assert_eq!(node.mps_daemon(&gpu), Some(&MpsDaemon::Down("gone".to_owned())));
        assert_eq!(node.shared_by_mps().collect::<Vec<_>>(), [&gpu]);
        node.set_layout(Layout::default());
        assert!(node.mps_daemon(&gpu).is_none() && node.shared_by_mps().next().is_none());
        let devices = node.devices(&ResourceName::gpu()).unwrap().values();
        let withdrawn: Vec<_> = devices.filter(|device| device.withdrawn).collect();
        assert_eq!(withdrawn.len(), 4);
        assert!(withdrawn.iter().all(|device| device.mps.is_none() && !device.awaits_mps));
    }

    #[test]
    fn a_gpu_with_more_replicas_than_it_can_have_clients_is_not_offered() {
        let node = shared(48, true);
        let devices = node.devices(&ResourceName::gpu()).unwrap();
        assert!(devices.len() == 48 && devices.keys().all(|id| id.uuid().as_str() == "GPU-0"));
        let findings: Vec<_> = node.findings().iter().map(LayoutFinding::as_str).collect();
        assert!(findings.contains(&"too_many_mps_clients"), "{findings:?}");
    }

    #[test]
    fn several_replicas_of_one_gpu_add_up_and_those_of_two_are_refused() {
        let mut node = shared(4, false);
        tell(&mut node, MpsDaemon::Up(None));
        let envs = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let resource = ResourceName::gpu();
            let devices = node.allocate(&resource, &ids)?;
            Ok::<_, crate::inventory::allocate::AllocateError>(
                node.inject(&resource, &devices, || [0; 16]).envs,
            )
        };
        let limits = |ids: &[&str]| {
            let envs = envs(ids).unwrap();
            let of = |name: &str| envs[name].clone();
            let threads = of("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE");
            (of("NVIDIA_VISIBLE_DEVICES"), threads, of("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"))
        };
        let expected = |threads: &str, memory: &str| {
            ("GPU-0".to_owned(), threads.to_owned(), format!("0={memory}M"))
        };
        assert_eq!(limits(&["GPU-0::3"]), expected("25", "2000"));
        assert_eq!(limits(&["GPU-1::3"]).2, "0=1000M");
        assert_eq!(limits(&["GPU-0::3", "GPU-0::0"]), expected("50", "4000"));
        let all = ["GPU-0::0", "GPU-0::1", "GPU-0::2", "GPU-0::3"];
        assert_eq!(limits(&all), expected("100", "8000"));
        // The same id twice is one replica.
        assert_eq!(limits(&["GPU-0::0", "GPU-0::0"]), expected("25", "2000"));
        let error = envs(&["GPU-0::0", "GPU-1::0"]).unwrap_err().to_string();
        assert!(error.contains("they are of 2 GPUs"), "{error}");
        // Where one replica is the most, the daemon's own limits hold, as with NVIDIA's plugin.
        let mut node = shared(4, true);
        tell(&mut node, MpsDaemon::Up(None));
        let resource = ResourceName::gpu();
        let devices = node.allocate(&resource, &["GPU-0::0".to_owned()]).unwrap();
        let envs = node.inject(&resource, &devices, || [0; 16]).envs;
        assert!(!envs.contains_key("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"));
    }
}
