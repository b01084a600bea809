//! Builds the status from a snapshot of the inventory and what the edges report. Pure.

mod gpu;
mod resource;
mod state;

use std::collections::BTreeMap;

use device::health::{Cause, Moment};
use device::in_use::holders::Holders;
use device::inventory::Inventory;
use device::layout::{LayoutFinding, MigStrategy};
use device::names::{ResourceName, Uuid};
use status::{
    Configuration, Event, Finding, Gpu, GpuStageCounts, Nvml, NvmlState, Plugin, Registration,
    SCHEMA_VERSION, Status, Timestamp,
};

pub(super) use self::gpu::xid_of;
pub(super) use self::resource::offered;
pub(super) use self::state::digest;
use super::wall_clock::WallClock;

/// What a status is built from.
#[derive(Debug)]
pub(crate) struct StatusInputs<'a> {
    /// The time.
    pub(crate) wall: WallClock,
    /// The plugin's version and git commit.
    pub(crate) version: (&'a str, &'a str),
    /// The name of the Kubernetes node.
    pub(crate) node: Option<&'a str>,
    /// The name of the host, or of the pod, that it runs in.
    pub(crate) hostname: Option<&'a str>,
    /// The type of the machine.
    pub(crate) machine_type: Option<&'a str>,
    /// Why the plugin is not ready.
    pub(crate) not_ready: Vec<String>,
    /// The devices.
    pub(crate) inventory: &'a Inventory,
    /// The state of NVML; its fault is taken from the inventory.
    pub(crate) nvml: Nvml,
    /// Whether each resource is registered with the kubelet.
    pub(crate) registrations: BTreeMap<ResourceName, Registration>,
    /// The containers that hold devices; `None`: not known.
    pub(crate) holders: Option<&'a Holders>,
    /// What was found beside the inventory.
    pub(crate) findings: Vec<Finding>,
    /// The config file and the outcome of reloads.
    pub(crate) configuration: Configuration,
    /// The last events, newest first.
    pub(crate) events: Vec<Event>,
    /// The time of the last event of each GPU.
    pub(crate) last_events: BTreeMap<Uuid, Timestamp>,
}

/// The status.
#[must_use]
pub(crate) fn build(mut inputs: StatusInputs<'_>) -> Status {
    let finding = |finding: &LayoutFinding| Finding {
        kind: finding.as_str().to_owned(),
        message: finding.to_string(),
    };
    let findings = inputs.inventory.findings().iter().map(finding);
    let findings = findings.chain(std::mem::take(&mut inputs.findings)).collect();
    let mut status = Status {
        schema_version: SCHEMA_VERSION,
        generated_at: inputs.wall.now(),
        node: inputs.node.map(str::to_owned),
        summary: String::new(),
        problems: Vec::new(),
        plugin: plugin(&inputs),
        resources: resources(&mut inputs),
        gpus: gpus(&inputs),
        gpu_counts: gpu_counts(inputs.inventory),
        nvml: nvml(inputs.nvml, inputs.inventory, inputs.wall),
        configuration: Configuration {
            mig_strategy: mig_strategy(inputs.inventory.layout().mig_strategy),
            ..inputs.configuration
        },
        findings,
        events: inputs.events,
        holders_known: inputs.holders.is_some(),
    };
    status.problems = status.find_problems();
    status.summary = status.sentence(&status.problems);
    status
}

fn mig_strategy(strategy: MigStrategy) -> Option<String> {
    match strategy {
        MigStrategy::None => None,
        MigStrategy::Single => Some("single".to_owned()),
        MigStrategy::Mixed => Some("mixed".to_owned()),
    }
}

fn plugin(inputs: &StatusInputs<'_>) -> Plugin {
    Plugin {
        version: inputs.version.0.to_owned(),
        commit: inputs.version.1.to_owned(),
        hostname: inputs.hostname.map(str::to_owned),
        machine_type: inputs.machine_type.map(str::to_owned),
        started_at: inputs.wall.at(Moment::default()),
        uptime_seconds: inputs.wall.uptime().as_secs_f64(),
        ready: inputs.not_ready.is_empty(),
        not_ready: inputs.not_ready.clone(),
    }
}

fn resources(inputs: &mut StatusInputs<'_>) -> Vec<status::Resource> {
    let (inventory, holders) = (inputs.inventory, inputs.holders);
    let resource = |name| {
        let registration = inputs.registrations.remove(name).unwrap_or_default();
        resource::resource(name, registration, inventory, holders)
    };
    inventory.resources().map(resource).collect()
}

fn gpus(inputs: &StatusInputs<'_>) -> Vec<Gpu> {
    let islands = gpu::islands(inputs.inventory.topology());
    let offered = offered(inputs.inventory);
    let gpu = |(uuid, tracked)| Gpu {
        nvlink_island: islands.get(uuid).copied(),
        resources: offered.get(uuid).cloned().unwrap_or_default(),
        last_event: inputs.last_events.get(uuid).copied(),
        ..gpu::gpu(uuid, tracked, inputs.inventory, inputs.wall)
    };
    let mut gpus: Vec<Gpu> = inputs.inventory.gpus().iter().map(gpu).collect();
    gpus.sort_by(|a, b| (a.index, &a.uuid).cmp(&(b.index, &b.uuid)));
    gpus
}

fn gpu_counts(inventory: &Inventory) -> GpuStageCounts {
    let counts = inventory.gpu_counts();
    GpuStageCounts {
        bus: counts.bus,
        enumerated: counts.enumerated,
        identified: counts.identified,
        offered: counts.offered,
        reserved: counts.reserved,
        expected: counts.expected,
    }
}

fn nvml(nvml: Nvml, inventory: &Inventory, wall: WallClock) -> Nvml {
    let Some((fault, since)) = inventory.node_health().fault() else { return nvml };
    let cause = Cause::Node(fault.clone());
    let fault = Some(gpu::of_cause(&cause, gpu::at(*since, wall), false));
    let state = match nvml.state {
        NvmlState::Released => NvmlState::Released,
        _ => NvmlState::Down,
    };
    Nvml { state, fault, ..nvml }
}
