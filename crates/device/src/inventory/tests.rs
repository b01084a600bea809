//! Tests of the inventory.

use super::*;
use crate::gpu::{Gpu, MigDevice, MigMode, Placement};
use crate::health::{NodeObservation, NvmlError, Observation, Reading, ReturnCode, Scope, Xid};
use crate::in_use::holders::{DeviceAssignment, Holder, Holders};
use crate::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use crate::layout::{MigStrategy, list_size};
use crate::testing::{answers, enumeration, gpu, listing, node};

fn seconds(seconds: u64) -> Moment {
    Moment(std::time::Duration::from_secs(seconds))
}

pub(super) fn unhealthy(inventory: &Inventory) -> Vec<String> {
    let devices = inventory.devices(&ResourceName::gpu()).unwrap().values();
    devices
        .filter(|device| !inventory.is_healthy(device))
        .map(|device| device.id.to_string())
        .collect()
}

#[test]
fn a_node_without_gpus_is_enumerated_too_and_one_that_was_not_asked_is_not() {
    let (health, policy) = (NodeHealth::default(), AllocationPolicy::default());
    let new = Inventory::new(Layout::default(), Injector::default(), health, policy);
    assert!(!new.is_enumerated() && node(0).is_enumerated());
}

#[test]
fn an_id_once_advertised_stays_unhealthy_while_its_gpu_is_gone() {
    let mut node = node(3);
    let changes = node.apply(Moment::default(), enumeration([0, 2]));
    assert_eq!(changes.health.keys().collect::<Vec<_>>(), [&gpu(1).uuid]);
    assert_eq!(unhealthy(&node), ["GPU-1"]);
    assert_eq!(
        node.apply(Moment::default(), enumeration([0, 2])),
        InventoryChanges::default(),
        "the same enumeration again changes nothing"
    );
}

#[test]
fn a_gpu_that_is_gone_and_cleared_is_withdrawn() {
    let mut node = node(3);
    let clear = |index| {
        InventoryEvent::Health(NodeObservation::Clear { gpu: gpu(index).uuid, cause: None })
    };
    node.apply(Moment::default(), enumeration([0, 2]));
    node.apply(Moment::default(), clear(2));
    assert_eq!(node.gpus().len(), 3, "a GPU that is listed stays");
    let changes = node.apply(Moment::default(), clear(1));
    assert!(changes.layout && changes.health.contains_key(&gpu(1).uuid));
    assert!(!node.gpus().contains_key(&gpu(1).uuid));
    let devices = node.devices(&ResourceName::gpu()).unwrap().values();
    let withdrawn: Vec<_> = devices.filter(|device| device.withdrawn).collect();
    assert_eq!(withdrawn.iter().map(|device| &device.gpu).collect::<Vec<_>>(), [&gpu(1).uuid]);
    let changes = node.apply(Moment::default(), enumeration([0, 1, 2]));
    assert_eq!(changes.new_gpus, [gpu(1).uuid]);
    let forget = InventoryEvent::Health(NodeObservation::Forget(gpu(2).uuid));
    node.apply(Moment::default(), forget);
    assert!(node.gpus().contains_key(&gpu(2).uuid), "it is listed");
}

#[test]
fn a_failed_gpu_is_offered_unhealthy_if_its_uuid_is_known_and_never_harms_the_others() {
    let mut node = node(0);
    let failed = |index, uuid: Option<&str>| EnumerationEntry::Failed {
        index,
        uuid: uuid.map(|uuid| uuid.parse().unwrap()),
        error: NvmlError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode::GPU_IS_LOST },
    };
    let found = vec![
        EnumerationEntry::Gpu(gpu(0)),
        failed(1, None),
        failed(2, Some("GPU-2")),
        EnumerationEntry::Gpu(gpu(3)),
    ];
    let changes = node.apply(
        Moment::default(),
        InventoryEvent::Enumeration { session: 1, count: 4, entries: found },
    );
    assert_eq!(changes.new_gpus.len(), 3);
    assert_eq!(node.devices(&ResourceName::gpu()).unwrap().len(), 3);
    assert_eq!(unhealthy(&node), ["GPU-0", "GPU-2", "GPU-3"], "none has answered yet");
    node.apply(Moment::default(), answers());
    assert_eq!(unhealthy(&node), ["GPU-2"]);
}

#[test]
fn a_lost_gpu_is_not_present_and_one_that_fails_otherwise_is() {
    for (code, expected) in
        [(ReturnCode::GPU_IS_LOST, &["lost", "not_enumerated"][..]), (ReturnCode::UNKNOWN, &[])]
    {
        let mut node = node(2);
        let uuid = Some(gpu(1).uuid);
        let error = NvmlError { call: "nvmlDeviceGetPciInfo_v3", code };
        let failed = EnumerationEntry::Failed { index: 1, uuid, error };
        let entries = vec![EnumerationEntry::Gpu(gpu(0)), failed];
        let enumeration = InventoryEvent::Enumeration { session: 1, count: 2, entries };
        node.apply(Moment::default(), enumeration);
        let health = node.node_health().health_of(&gpu(1).uuid, GpuPart::Whole);
        let causes: Vec<_> = health.reasons().iter().map(|of| of.cause.as_str()).collect();
        assert_eq!(causes, expected, "{code}");
    }
}

#[test]
fn a_gpu_is_gone_and_back_only_where_every_gpu_was_identified() {
    let failed = |uuid: Option<&str>, code| EnumerationEntry::Failed {
        index: 1,
        uuid: uuid.map(|uuid| uuid.parse().unwrap()),
        error: NvmlError { call: "nvmlDeviceGetUUID", code },
    };
    for (entry, is_repaired) in [
        (None, true),
        (Some(failed(None, ReturnCode::UNKNOWN)), false),
        (Some(failed(Some("GPU-1"), ReturnCode::GPU_IS_LOST)), false),
        (Some(failed(Some("GPU-0"), ReturnCode::UNKNOWN)), false),
    ] {
        let mut node = node(2);
        let health = |node: &mut Inventory, at: u64, observation| {
            let observation = NodeObservation::Gpu(gpu(1).uuid, observation);
            node.apply(seconds(at), InventoryEvent::Health(observation));
        };
        health(&mut node, 1, Observation::Xid { xid: Xid(95), scope: Scope::Gpu });
        let entries = [EnumerationEntry::Gpu(gpu(0))].into_iter().chain(entry.clone()).collect();
        let count = if entry.is_some() { 2 } else { 1 };
        node.apply(seconds(2), InventoryEvent::Enumeration { session: 1, count, entries });
        let entries = [0, 1].map(|index| EnumerationEntry::Gpu(gpu(index))).to_vec();
        node.apply(seconds(3), InventoryEvent::Enumeration { session: 2, count: 2, entries });
        for poll in 1..=5 {
            let old_driver = NvmlError { call: "x", code: ReturnCode::NOT_SUPPORTED };
            let (recovery_action, probe) = (Some(Err(old_driver)), Some(Ok(())));
            let reading = Reading { recovery_action, probe, ..Reading::default() };
            health(&mut node, 10 * poll, Observation::Poll(reading));
        }
        let expected: &[&str] = if is_repaired { &[] } else { &["GPU-1"] };
        assert_eq!(unhealthy(&node), expected, "{entry:?}");
    }
}

/// A GPU cut into MIG devices with these UUIDs.
fn cut(uuids: std::ops::Range<u32>) -> InventoryEvent {
    let slice = |number: u32| MigDevice {
        uuid: format!("MIG-{number}").parse().unwrap(),
        index: number,
        placement: Placement { gpu_instance: number, compute_instance: 0 },
        gpu_slices: 1,
        compute_slices: 1,
        memory_mib: 9_984,
        profile: Some("1g.10gb".to_owned()),
        engines: None,
    };
    let gpu = Gpu { mig_mode: MigMode::On, mig_devices: uuids.map(slice).collect(), ..gpu(0) };
    listing([gpu])
}

#[test]
fn withdrawn_ids_never_make_the_list_longer_than_the_kubelet_receives() {
    const REPLICAS: u32 = 20_000;
    let resource = SharedResource {
        name: ResourceName::gpu(),
        offered_as: ResourceName::gpu(),
        replicas: REPLICAS,
        devices: Selection::All,
    };
    let (rename_by_default, fail_requests_greater_than_one) = (false, false);
    let sharing = Sharing::TimeSlicing(Replication {
        memory_limits: None,
        rename_by_default,
        fail_requests_greater_than_one,
        resources: vec![resource],
    });
    let layout = Layout { mig_strategy: MigStrategy::Single, sharing, ..Layout::default() };
    let mut node = Inventory::new(
        layout,
        Injector::default(),
        NodeHealth::default(),
        AllocationPolicy::default(),
    );
    // Four MIG devices, whose list the kubelet receives, and then four others in their places: not
    // both.
    assert_eq!(node.apply(Moment::default(), cut(0..4)).new_findings, []);
    let changes = node.apply(Moment::default(), cut(4..8));
    let [LayoutFinding::Forgotten { resource, ids: forgotten }] = &changes.new_findings[..] else {
        panic!("{:?}", changes.new_findings)
    };
    assert_eq!(*resource, ResourceName::gpu());
    let devices = node.devices(&ResourceName::gpu()).unwrap();
    assert_eq!(devices.values().filter(|device| !device.withdrawn).count(), 4 * REPLICAS as usize);
    assert_eq!(devices.len() + forgotten, 8 * REPLICAS as usize);
    let bytes: u64 = devices.keys().map(list_size::entry_bytes).sum();
    assert!(
        (list_size::KUBELET_LIMIT - 100..=list_size::KUBELET_LIMIT).contains(&bytes),
        "{bytes}"
    );
}

#[test]
fn a_device_that_a_pod_uses_and_the_node_lacks_is_added_as_withdrawn() {
    let mut node = node(1);
    let holder = Holder { namespace: "default".into(), pod: "a".into(), container: "b".into() };
    let uses = |(resource, id): (&str, &str)| DeviceAssignment {
        resource: resource.parse().unwrap(),
        id: id.to_owned(),
        holder: holder.clone(),
    };
    let known = [("nvidia.com/gpu", "GPU-0"), ("nvidia.com/gpu", "a b"), ("other.com/nic", "n0")];
    let used = known.into_iter().chain([("nvidia.com/gpu", "GPU-7")]).map(uses);
    let holders = Holders::new(Moment::default(), 1, BTreeSet::new(), used);
    for (resource, id, _) in holders.iter() {
        assert_eq!(node.has_or_cannot_have(resource, id), id != "GPU-7", "{id}");
    }
    let added = (ResourceName::gpu(), "GPU-7".parse().unwrap(), holder.clone());
    assert_eq!(node.adopt(&holders), [added]);
    assert_eq!(unhealthy(&node), ["GPU-7"]);
    assert_eq!(node.adopt(&holders), []);
}

#[test]
fn preferred_devices_are_chosen_among_those_of_the_resource() {
    let node = node(2);
    let available = ["GPU-1".to_owned()];
    let request = Request { available: &available, must_include: &[], size: 1 };
    assert_eq!(node.preferred(&ResourceName::gpu(), &request).unwrap().ids, ["GPU-1"]);
    assert!(node.preferred(&"nvidia.com/other".parse().unwrap(), &request).is_none());
}
