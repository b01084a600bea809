//! The states that a node can be in, and how each reads: as a table, and as JSON, which
//! `tests/docs/check_status_schema.py` compares with the published schema.

use device::allocation::AllocationPolicy;
use device::gpu::{self, MigMode, Placement};
use device::health::{
    NodeFault, NodeHealth, NodeObservation, Observation, Reading, RecoveryAction, RemappedRows,
    Scope, Xid,
};
use device::injection::Injector;
use device::inventory::{Inventory, InventoryEvent};
use device::layout::sharing::{DeviceRef, Replication, Selection, SharedResource, Sharing};
use device::layout::{Layout, MigStrategy};
use device::mps::MpsDaemon;
use device::names::ResourceName;
use device::testing::{answers, gpu, listing, node};
use expect_test::expect_file;
use status::{Finding, GpuStageCounts, Holder, NvmlState, Registration, Status, TableStyle, table};

use super::{at, status_of, xid};
use crate::observe::event_log::EventLog;

/// Every state, with its name.
pub(crate) fn all() -> Vec<(&'static str, Status)> {
    vec![
        ("healthy", held(of(&node(8)), &[0, 3, 4])),
        ("xid", held(failed(), &[1])),
        ("lost", lost()),
        ("mig", mig()),
        ("shared", shared()),
        ("renamed", renamed()),
        ("mps", mps()),
        ("degraded", held(of(&degraded()), &[2])),
        ("quarantined", held(of(&quarantined()), &[])),
        ("driverless", driverless()),
        ("driver-gone", driver_gone()),
        ("no-gpus", no_gpus()),
        ("released", released()),
        ("kubelet-less", kubelet_less()),
        ("two-plugins", two_plugins()),
        ("newer", newer()),
    ]
}

fn of(inventory: &Inventory) -> Status {
    status_of(inventory, &EventLog::default())
}

fn observe(inventory: &mut Inventory, observation: NodeObservation) {
    inventory.apply(at(40), InventoryEvent::Health(observation));
}

fn on(index: u32, observation: Observation) -> NodeObservation {
    NodeObservation::Gpu(gpu(index).uuid, observation)
}

/// The same, with a pod on the first device of each of these GPUs.
fn held(mut status: Status, gpus: &[u32]) -> Status {
    status.holders_known = true;
    for resource in &mut status.resources {
        for index in gpus {
            let uuid = format!("GPU-{index}");
            if let Some(device) = resource.devices.iter_mut().find(|device| device.gpu == uuid) {
                device.holders = vec![holder(&format!("train-{index}"))];
            }
        }
        let held = resource.devices.iter().filter(|device| !device.holders.is_empty());
        resource.allocated = Some(held.count());
    }
    finished(status)
}

fn holder(pod: &str) -> Holder {
    Holder { namespace: "ml".into(), pod: pod.into(), container: "main".into() }
}

/// With what follows from all else.
fn finished(mut status: Status) -> Status {
    status.problems = status.find_problems();
    status.summary = status.sentence(&status.problems);
    status
}

fn failed() -> Status {
    let (mut inventory, event_log) = (node(3), EventLog::default());
    xid(&mut inventory, &event_log, 1, 79, 40);
    status_of(&inventory, &event_log)
}

/// The GPU is lost since before a restart of the plugin, hours ago.
fn lost() -> Status {
    let mut status = failed();
    let reason = &mut status.gpus[1].reasons[0];
    reason.kind = "lost".to_owned();
    reason.xid = None;
    reason.message = "the GPU does not answer on the bus".to_owned();
    reason.remembered = true;
    reason.since = reason.since.before(std::time::Duration::from_secs(4 * 3600));
    status.resources[0].devices[1].reasons = vec!["lost".to_owned()];
    held(status, &[0, 1])
}

fn mig() -> Status {
    let slice = |index| gpu::MigDevice {
        uuid: format!("MIG-{index}").parse().unwrap(),
        index,
        placement: Placement { gpu_instance: index + 1, compute_instance: 0 },
        gpu_slices: 1,
        compute_slices: 1,
        memory_mib: 9_984,
        profile: Some("1g.10gb".to_owned()),
        engines: None,
    };
    let cut =
        gpu::Gpu { mig_mode: MigMode::On, mig_devices: (0..3).map(slice).collect(), ..gpu(0) };
    let layout = Layout { mig_strategy: MigStrategy::Mixed, ..Layout::default() };
    let mut inventory = laid_out(layout, [cut, gpu(1)]);
    let of_slice = Scope::from_event(2, 0);
    let xid = Observation::Xid { xid: Xid(94), scope: of_slice };
    observe(&mut inventory, on(0, xid));
    held(of(&inventory), &[0])
}

fn time_sliced(offered_as: &str) -> Layout {
    let resource = SharedResource {
        name: ResourceName::gpu(),
        offered_as: offered_as.parse().unwrap(),
        replicas: 4,
        devices: Selection::List([DeviceRef::Gpu(0), DeviceRef::Gpu(1)].into()),
    };
    let sharing = Sharing::TimeSlicing(Replication {
        memory_limits: None,
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        resources: vec![resource],
    });
    Layout { sharing, ..Layout::default() }
}

/// A node with this layout from the start.
fn laid_out(layout: Layout, gpus: [gpu::Gpu; 2]) -> Inventory {
    let (injector, health) = (Injector::default(), NodeHealth::default());
    let mut inventory = Inventory::new(layout, injector, health, AllocationPolicy::default());
    inventory.apply(at(1), listing(gpus));
    inventory.apply(at(2), answers());
    inventory
}

fn shared() -> Status {
    held(of(&laid_out(time_sliced("nvidia.com/gpu"), [gpu(0), gpu(1)])), &[1])
}

/// Two GPUs that MPS shares, with the control daemon on one of them.
fn mps() -> Status {
    let Sharing::TimeSlicing(replication) = time_sliced("nvidia.com/gpu").sharing else {
        panic!("another kind of sharing");
    };
    let root = "/run/nvidia/mps";
    let sharing = Sharing::Mps { replication, root: root.into() };
    let memory_bytes = Some(80 << 30);
    let gpus = [gpu(0), gpu(1)].map(|gpu| gpu::Gpu { memory_bytes, ..gpu });
    let mut inventory = laid_out(Layout { sharing, ..Layout::default() }, gpus);
    let injector = Injector { mps_root: Some(root.to_owned()), ..Injector::default() };
    inventory.set_injector(injector);
    let daemon = MpsDaemon::Up(Some([gpu(0).uuid].into()));
    inventory.apply(at(3), InventoryEvent::Mps(ResourceName::gpu(), daemon));
    held(of(&inventory), &[0])
}

/// The configuration gave the resource another name under a running pod.
fn renamed() -> Status {
    let mut inventory = node(2);
    inventory.set_layout(time_sliced("nvidia.com/gpu.shared"));
    held(of(&inventory), &[0])
}

fn degraded() -> Inventory {
    let mut inventory = node(3);
    let rows = RemappedRows { pending: true, failure: false };
    let reading = Reading {
        recovery_action: Some(Ok(RecoveryAction::from(0))),
        remapped_rows: Some(Ok(rows)),
        probe: Some(Ok(())),
        ..Reading::default()
    };
    observe(&mut inventory, on(2, Observation::Poll(reading)));
    inventory
}

fn quarantined() -> Inventory {
    let mut inventory = node(3);
    let text = || "dcgm: memory test failed".into();
    let entries = [(gpu(0).uuid, text()), (gpu(2).uuid, text())];
    observe(&mut inventory, NodeObservation::Quarantine(entries.into()));
    inventory
}

/// A node whose driver was never there.
fn driverless() -> Status {
    let mut inventory = node(0);
    observe(&mut inventory, NodeObservation::Fault(Some(NodeFault::DriverNotLoaded)));
    let mut status = of(&inventory);
    status.gpu_counts = GpuStageCounts { bus: Some(8), ..GpuStageCounts::default() };
    (status.nvml.driver_version, status.nvml.cuda_version) = (None, None);
    status.nvml.nvml_version = None;
    let reason = "NVML is down, and the node has 8 GPUs for it: the NVIDIA driver is not loaded";
    (status.plugin.ready, status.plugin.not_ready) = (false, vec![reason.to_owned()]);
    finished(status)
}

/// A node whose driver was unloaded under the plugin: one cause for all GPUs.
fn driver_gone() -> Status {
    let mut inventory = node(8);
    observe(&mut inventory, NodeObservation::Fault(Some(NodeFault::DriverNotLoaded)));
    held(of(&inventory), &[0])
}

fn no_gpus() -> Status {
    let mut status = of(&node(0));
    status.gpu_counts =
        GpuStageCounts { bus: Some(0), enumerated: Some(0), ..GpuStageCounts::default() };
    finished(status)
}

fn released() -> Status {
    let mut status = of(&node(2));
    status.nvml.state = NvmlState::Released;
    let now = status.generated_at;
    // In the test's clock there is no later: the plugin was asked for a time that ends now.
    status.nvml.released_until = Some(now);
    finished(status)
}

fn kubelet_less() -> Status {
    let mut status = of(&node(2));
    let since = status.resources[0].kubelet.since;
    let problem = "the kubelet's socket is not there: \
                   /var/lib/kubelet/device-plugins/kubelet.sock; is the kubelet running, and is \
                   its directory mounted at this path?";
    let endpoint = Some("nvidia-gpu-abcd1234.sock".to_owned());
    let registration = Registration { since, endpoint, ..Registration::default() };
    status.resources[0].kubelet =
        Registration { problem: Some(problem.to_owned()), ..registration };
    let reason = format!("nvidia.com/gpu: {problem}");
    (status.plugin.ready, status.plugin.not_ready) = (false, vec![reason]);
    finished(status)
}

fn two_plugins() -> Status {
    let mut status = of(&node(2));
    let message = "another device plugin serves nvidia.com/gpu on this node, at nvidia-gpu.sock";
    status.findings = vec![Finding { kind: status::OTHER_PLUGIN.into(), message: message.into() }];
    held(status, &[])
}

/// What a newer plugin has and this program does not know, as far as it reads it.
fn newer() -> Status {
    let mut value = serde_json::to_value(held(failed(), &[])).unwrap();
    value["schemaVersion"] = 2.into();
    value["nvml"]["state"] = "suspended".into();
    value["nvml"]["new"] = true.into();
    value["events"][0]["kind"] = "gpuMelted".into();
    value["gpus"][1]["reasons"][0]["kind"] = "melted".into();
    value["gpus"][1]["reasons"][0]["xid"] = serde_json::Value::Null;
    value["resources"][0]["devices"][1]["reasons"][0] = "melted".into();
    value["problems"][0]["severity"] = "fatal".into();
    value["resources"][0]["sharing"] =
        serde_json::json!({"strategy": "timeTravel", "replicas": 2, "of": "nvidia.com/gpu"});
    status::read(&value.to_string()).unwrap()
}

#[test]
fn each_state_reads_like_this() {
    for (name, status) in all() {
        let style = TableStyle::default();
        expect_file![format!("states/{name}.txt")].assert_eq(&table(&status, style));
    }
}

#[test]
fn each_state_reads_like_this_with_everything() {
    let mut text = String::new();
    for (name, status) in all() {
        let style = TableStyle { wide: true, ..TableStyle::default() };
        text += &format!("=== {name}\n{}\n", table(&status, style));
    }
    expect_file!["states/wide.txt"].assert_eq(&format!("{}\n", text.trim_end()));
}

#[test]
fn each_state_is_like_this_as_json() {
    for (name, status) in all().into_iter().filter(|(name, _)| *name != "newer") {
        let text = serde_json::to_string_pretty(&status).unwrap() + "\n";
        assert_eq!(status::read(&text).unwrap(), status, "it is read as it was written");
        expect_file![format!("states/{name}.json")].assert_eq(&text);
    }
}

#[test]
fn a_newer_status_is_read_and_said_to_be_newer() {
    let newer = newer();
    assert_eq!(newer.nvml.state, NvmlState::Unknown);
    let sharing = newer.resources[0].sharing.as_ref().unwrap();
    assert_eq!(sharing.strategy, status::SharingStrategy::Other);
    let text = table(&newer, TableStyle { wide: true, ..TableStyle::default() });
    for part in ["newer than this program", "GPU 1 melted since", "Unhealthy: melted"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // What cannot be read says the same.
    let error = status::read("{\"schemaVersion\": 3, \"generatedAt\": 5}").unwrap_err();
    assert!(error.contains("version 3, newer than this program"), "{error}");
    assert!(status::read("{\"a\": 1}").unwrap_err().contains("no gpu-device-plugin"));
}

#[test]
fn problems_come_first_and_one_cause_is_one_problem() {
    let of = |name: &str| {
        let (_, status) = all().into_iter().find(|(of, _)| *of == name).unwrap();
        status.problems
    };
    assert_eq!(of("healthy"), []);
    let down = of("driver-gone");
    assert_eq!((down.len(), &*down[0].subject), (1, "NVML"), "{down:#?}");
    let quarantined = of("quarantined");
    assert_eq!((quarantined.len(), &*quarantined[0].subject), (1, "GPUs 0 and 2"));
    assert_eq!(of("driverless").iter().filter(|of| of.kind == "driver_not_loaded").count(), 1);
    assert_eq!(of("kubelet-less").len(), 1);
}

#[test]
fn colours_help_and_lines_end_at_the_width_of_the_terminal() {
    let (_, status) = all().into_iter().find(|(name, _)| *name == "xid").unwrap();
    let style = TableStyle { colour: true, width: Some(60), wide: false };
    let text = table(&status, style);
    expect_file!["states/xid-60-colours.txt"].assert_eq(&text);
    let plain = table(&status, TableStyle { colour: false, ..style });
    assert!(plain.lines().all(|line| line.chars().count() <= 60), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let stripped = ["\u{1b}[31;1m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"]
        .iter()
        .fold(text, |text, code| text.replace(code, ""));
    assert_eq!(stripped, plain, "colours change nothing else");
}
