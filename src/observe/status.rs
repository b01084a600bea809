//! From a snapshot and what the edges say, the status. Pure.

use std::collections::BTreeMap;

use device::gpu;
use device::health::{Cause, CauseKind, Degradation, GpuHealth, GpuPart, Scope};
use device::in_use::holders::{self, Holders};
use device::inventory::{GpuRecord, Inventory};
use device::names::{ResourceName, Uuid};
use device::topology::{NvLink, Topology};
use status::{
    Configuration, Device, Event, Finding, Gpu, Holder, MigDevice, Nvml, NvmlState, Plugin, Reason,
    RecoveryAction, Registration, Resource, SCHEMA_VERSION, Status, Timestamp, XidCount,
};

use super::wall::Wall;

/// What a status is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The time.
    pub wall: Wall,
    /// The plugin's version and git commit.
    pub version: (&'a str, &'a str),
    /// The name of the host, or of the pod, that it runs in.
    pub hostname: Option<&'a str>,
    /// Why the plugin is not ready.
    pub not_ready: Vec<String>,
    /// The devices.
    pub inventory: &'a Inventory,
    /// How NVML stands; its fault is the inventory's.
    pub nvml: Nvml,
    /// How the resources stand with the kubelet.
    pub registrations: BTreeMap<ResourceName, Registration>,
    /// Who holds a device; `None`: not known.
    pub holders: Option<&'a Holders>,
    /// Where the configuration is from, and what became of its changes.
    pub configuration: Configuration,
    /// What happened last, the newest first.
    pub events: Vec<Event>,
    /// When the last event was about a GPU.
    pub last_events: BTreeMap<Uuid, Timestamp>,
}

/// The status.
#[must_use]
pub fn build(mut facts: Facts<'_>) -> Status {
    let wall = facts.wall;
    let resources = facts.inventory.resources().cloned().collect::<Vec<_>>();
    let resources = resources.iter().map(|name| {
        let registration = facts.registrations.remove(name).unwrap_or_default();
        resource(name, registration, facts.inventory, facts.holders)
    });
    let resources = resources.collect();
    let islands = islands(facts.inventory.topology());
    let offered = offered(facts.inventory);
    let gpus = facts.inventory.gpus().iter().map(|(uuid, tracked)| {
        let mut gpu = gpu(uuid, tracked, facts.inventory, wall);
        gpu.nvlink_island = islands.get(uuid).copied();
        gpu.resources = offered.get(uuid).cloned().unwrap_or_default();
        gpu.last_event = facts.last_events.get(uuid).copied();
        gpu
    });
    let mut gpus: Vec<Gpu> = gpus.collect();
    gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
    Status {
        schema_version: SCHEMA_VERSION,
        generated_at: wall.now(),
        plugin: plugin(&facts),
        nvml: nvml(facts.nvml, facts.inventory, wall),
        configuration: facts.configuration,
        resources,
        gpus,
        findings: facts.inventory.findings().iter().map(finding).collect(),
        events: facts.events,
        holders_known: facts.holders.is_some(),
    }
}

fn plugin(facts: &Facts<'_>) -> Plugin {
    Plugin {
        version: facts.version.0.to_owned(),
        commit: facts.version.1.to_owned(),
        hostname: facts.hostname.map(str::to_owned),
        started_at: facts.wall.at(device::health::Moment::default()),
        uptime_seconds: facts.wall.uptime().as_secs_f64(),
        ready: facts.not_ready.is_empty(),
        not_ready: facts.not_ready.clone(),
    }
}

fn nvml(nvml: Nvml, inventory: &Inventory, wall: Wall) -> Nvml {
    let Some((fault, since)) = inventory.node_health().fault() else { return nvml };
    let cause = Cause::Node(fault.clone());
    let fault = Some(reason(&cause, wall.at(*since), false));
    let state =
        if nvml.state == NvmlState::Released { NvmlState::Released } else { NvmlState::Down };
    Nvml { state, fault, ..nvml }
}

fn finding(finding: &device::layout::LayoutFinding) -> Finding {
    Finding { kind: finding.as_str().to_owned(), message: finding.to_string() }
}

fn resource(
    name: &ResourceName,
    kubelet: Registration,
    inventory: &Inventory,
    holders: Option<&Holders>,
) -> Resource {
    let mut devices: Vec<&device::Device> =
        inventory.devices(name).into_iter().flat_map(BTreeMap::values).collect();
    devices.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    let mut before: Option<(&device::Device, bool, Vec<String>)> = None;
    let devices = devices.into_iter().map(|device| {
        // What is true of one replica of a device is true of all.
        let (healthy, reasons) = match &before {
            Some((other, healthy, reasons)) if other.is_replica_of(device) => {
                (*healthy, reasons.clone())
            }
            _ => (inventory.is_healthy(device), kinds(inventory, device)),
        };
        before = Some((device, healthy, reasons.clone()));
        Device {
            id: device.id.to_string(),
            uuid: device.id.uuid().to_string(),
            index: device.index_label(),
            replica: device.id.replica_number(),
            gpu: device.gpu.to_string(),
            healthy,
            withdrawn: device.withdrawn,
            reasons,
            holders: holders
                .into_iter()
                .flat_map(|holders| holders.of(name, &device.id))
                .map(holder)
                .collect(),
        }
    });
    let devices: Vec<Device> = devices.collect();
    Resource {
        name: name.to_string(),
        kubelet,
        healthy: devices.iter().filter(|device| device.healthy).count(),
        allocated: holders
            .map(|_| devices.iter().filter(|device| !device.holders.is_empty()).count()),
        devices,
    }
}

fn holder(holder: &holders::Holder) -> Holder {
    let holders::Holder { namespace, pod, container } = holder.clone();
    Holder { namespace, pod, container }
}

fn kinds(inventory: &Inventory, device: &device::Device) -> Vec<String> {
    let health = inventory.health(device);
    let mut kinds: Vec<String> =
        health.reasons().iter().map(|reason| reason.cause.as_str().to_owned()).collect();
    kinds.dedup();
    if device.awaits_mps {
        kinds.push("awaits_mps".to_owned());
    }
    kinds
}

/// In which resources each GPU is offered.
fn offered(inventory: &Inventory) -> BTreeMap<Uuid, Vec<String>> {
    let mut offered = BTreeMap::<Uuid, Vec<String>>::new();
    for name in inventory.resources() {
        let devices = inventory.devices(name).into_iter().flat_map(BTreeMap::values);
        for device in devices.filter(|device| !device.withdrawn) {
            let of = offered.entry(device.gpu.clone()).or_default();
            if of.last().map(String::as_str) != Some(name.as_str()) {
                of.push(name.to_string());
            }
        }
    }
    offered
}

fn gpu(uuid: &Uuid, tracked: &GpuRecord, inventory: &Inventory, wall: Wall) -> Gpu {
    let facts = tracked.facts.as_ref();
    let node_health = inventory.node_health();
    let health = node_health.health_of(uuid, GpuPart::Whole);
    let verdict = node_health.gpus().get(uuid);
    let transitions = node_health.transitions(uuid);
    let degradations = verdict.map(GpuHealth::degradations);
    let reasons =
        health.reasons().iter().map(|of| reason(&of.cause, wall.at(of.since), of.restored));
    Gpu {
        uuid: uuid.to_string(),
        index: tracked.index,
        minor: facts.and_then(|gpu| gpu.minor),
        pci_bus_id: facts.and_then(|gpu| gpu.pci_bus_id).map(|id| id.nvml_form()),
        model: facts.and_then(|gpu| gpu.name.clone()),
        memory_bytes: facts.and_then(|gpu| gpu.memory_bytes),
        compute_capability: facts
            .and_then(|gpu| gpu.compute_capability)
            .map(|(major, minor)| format!("{major}.{minor}")),
        numa_node: facts.and_then(|gpu| gpu.numa_node).map(gpu::NumaNode::number),
        nvlink_island: None,
        mig_enabled: facts.is_some_and(|gpu| gpu.mig_enabled),
        mig_devices: facts
            .map(|gpu| gpu.mig_devices.iter().map(mig_device).collect())
            .unwrap_or_default(),
        resources: Vec::new(),
        reserved: inventory.reserved().get(uuid).cloned(),
        healthy: health.is_healthy(),
        reasons: reasons.collect(),
        degradations: degradations
            .into_iter()
            .flatten()
            .map(|(which, since)| degradation(*which, wall.at(*since)))
            .collect(),
        recovery_action: verdict
            .and_then(GpuHealth::recovery_action)
            .map(|action| RecoveryAction { value: action.value(), meaning: action.to_string() }),
        row_remap_pending: degradations
            .is_some_and(|all| all.contains_key(&Degradation::RowRemapPending)),
        row_remap_failed: health
            .reasons()
            .iter()
            .any(|reason| reason.cause.kind() == CauseKind::RowRemapFailure),
        xids: verdict
            .into_iter()
            .flat_map(GpuHealth::xids)
            .map(|(xid, count)| xid_count(xid.0, *count))
            .collect(),
        other_xids: verdict.map_or(0, GpuHealth::other_xids),
        became_unhealthy: transitions.to_unhealthy,
        became_healthy: transitions.to_healthy,
        last_event: None,
    }
}

fn xid_count(xid: u32, count: u64) -> XidCount {
    XidCount { xid, count }
}

fn mig_device(device: &gpu::MigDevice) -> MigDevice {
    MigDevice {
        uuid: device.uuid.to_string(),
        index: device.index,
        profile: device.profile.clone(),
        gpu_instance: device.placement.gpu_instance,
        compute_instance: device.placement.compute_instance,
        memory_bytes: device.memory_mib.saturating_mul(1 << 20),
    }
}

fn reason(cause: &Cause, since: Timestamp, remembered: bool) -> Reason {
    let xid = match cause {
        Cause::Xid { xid, .. } => Some(xid.0),
        _ => None,
    };
    let part = match cause.scope() {
        Scope::Gpu => None,
        part => Some(part.to_string()),
    };
    Reason {
        kind: cause.as_str().to_owned(),
        xid,
        message: cause.summary().to_string(),
        remedy: cause.remedy().map(str::to_owned),
        since,
        part,
        remembered,
    }
}

fn degradation(which: Degradation, since: Timestamp) -> Reason {
    Reason {
        kind: which.as_str().to_owned(),
        xid: None,
        message: which.to_string(),
        remedy: None,
        since,
        part: None,
        remembered: false,
    }
}

/// The groups of GPUs that NVLink joins, directly or by way of others, numbered in the order of
/// their first GPUs.
fn islands(topology: &Topology) -> BTreeMap<Uuid, u32> {
    let count = topology.gpus().len();
    let mut island: Vec<Option<u32>> = vec![None; count];
    let mut islands = 0;
    for first in 0..count {
        if island[first].is_some() {
            continue;
        }
        let mut reached = vec![first];
        let mut next = 0;
        while let Some(&gpu) = reached.get(next) {
            next += 1;
            let joined = |other: &usize| topology.pair(gpu, *other).nvlink != NvLink::None;
            let news =
                (0..count).filter(|other| *other != gpu && !reached.contains(other)).filter(joined);
            let news: Vec<usize> = news.collect();
            reached.extend(news);
        }
        if reached.len() > 1 {
            reached.iter().for_each(|gpu| island[*gpu] = Some(islands));
            islands += 1;
        }
    }
    let members = topology.gpus().iter().zip(island);
    members.filter_map(|(gpu, island)| Some((gpu.uuid.clone(), island?))).collect()
}
