//! Tests of owners: a GPU has one, also after a change of its ids.

use super::*;
use crate::inventory::tests::unhealthy;
use crate::layout::Layout;
use crate::layout::filter::{DeviceFilter, Term};
use crate::layout::sharing::{Replication, Selection, SharedResource, Sharing};
use crate::testing::node;

fn renamed(offered_as: &str) -> Layout {
    let resource = SharedResource {
        name: ResourceName::gpu(),
        offered_as: offered_as.parse().unwrap(),
        replicas: 2,
        devices: Selection::All,
    };
    let sharing = Sharing::TimeSlicing(Replication {
        memory_limits: None,
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        resources: vec![resource],
    });
    Layout { sharing, ..Layout::default() }
}

/// Sharing is switched on, or renamed, while a pod has GPU 0.
#[test]
fn the_new_ids_of_a_gpu_that_a_pod_has_are_unhealthy_until_it_is_gone() {
    for name in ["nvidia.com/gpu", "nvidia.com/gpu.shared"] {
        let mut node = node(2);
        let holder =
            Holder { namespace: "default".into(), pod: "train".into(), container: "main".into() };
        let held = (ResourceName::gpu(), "GPU-0".parse().unwrap());
        let devices = [(held, Some(holder))].into();
        assert_eq!(node.set_in_use(InUse { known: true, devices }), InventoryChanges::default());
        let changes = node.set_layout(renamed(name));
        let healthy = |node: &Inventory| -> Vec<String> {
            let devices = node.devices(&name.parse().unwrap()).unwrap().values();
            devices.filter(|of| node.is_healthy(of)).map(|of| of.id.to_string()).collect()
        };
        assert_eq!(healthy(&node), ["GPU-1::0", "GPU-1::1"]);
        let [finding] = &changes.new_findings[..] else { panic!("{:?}", changes.new_findings) };
        assert_eq!(
            finding.to_string(),
            "the ids of GPU 0 (GPU-0) are Unhealthy: the pod default/train/main uses it as GPU-0 \
             of nvidia.com/gpu, which is no longer offered; they are Healthy when the pod is gone"
        );
        let changes = node.set_in_use(InUse { known: true, ..InUse::default() });
        assert!(changes.layout && changes.resolved_findings.len() == 1);
        assert_eq!(healthy(&node), ["GPU-0::0", "GPU-0::1", "GPU-1::0", "GPU-1::1"]);
    }
}

#[test]
fn fewer_replicas_of_a_gpu_that_stays_shared_are_no_other_owner() {
    let mut node = node(1);
    node.set_layout(renamed("nvidia.com/gpu"));
    let held = (ResourceName::gpu(), "GPU-0::7".parse().unwrap());
    node.set_in_use(InUse { known: true, devices: [(held, None)].into() });
    assert!(unhealthy(&node).iter().all(|id| id == "GPU-0"), "{:?}", unhealthy(&node));
}

#[test]
fn without_podresources_two_owners_are_warned_of() {
    let mut node = node(2);
    let changes = node.set_layout(renamed("nvidia.com/gpu"));
    let [finding @ LayoutFinding::OwnersUnknown { gpus }] = &changes.new_findings[..] else {
        panic!("{:?}", changes.new_findings)
    };
    assert_eq!(gpus.len(), 2);
    assert!(finding.to_string().contains("--pod-resources-socket"));
    assert_eq!(unhealthy(&node), ["GPU-0", "GPU-1"], "the old ids, which are offered no more");
    let changes = node.set_in_use(InUse { known: true, ..InUse::default() });
    assert_eq!(changes.resolved_findings.len(), 1);
}

#[test]
fn a_pod_that_is_known_only_after_the_change_owns_its_gpu_too() {
    let mut node = node(1);
    node.set_in_use(InUse { known: true, ..InUse::default() });
    node.set_layout(renamed("nvidia.com/gpu"));
    assert_eq!(unhealthy(&node), ["GPU-0"]);
    let held = (ResourceName::gpu(), "GPU-0".parse().unwrap());
    assert!(node.set_in_use(InUse { known: true, devices: [(held, None)].into() }).layout);
    assert_eq!(unhealthy(&node), ["GPU-0", "GPU-0::0", "GPU-0::1"]);
}

#[test]
fn without_podresources_only_other_ids_of_an_offered_gpu_are_warned_of() {
    let shared = |replicas| {
        let mut layout = renamed("nvidia.com/gpu");
        if let Sharing::TimeSlicing(replication) = &mut layout.sharing {
            replication.resources[0].replicas = replicas;
        }
        layout
    };
    let devices = DeviceFilter { include: Vec::new(), exclude: vec![Term::Index(0, 0)] };
    let reserved = Layout { devices, ..Layout::default() };
    for (before, after, is_told) in [
        (Layout::default(), shared(2), true),
        (shared(2), Layout::default(), true),
        (shared(3), shared(2), false),
        (Layout::default(), reserved, false),
    ] {
        let mut node = node(1);
        node.set_layout(before.clone());
        let withdrawn = (ResourceName::gpu(), "GPU-0".parse().unwrap());
        node.forget(&[withdrawn]);
        node.set_layout(after.clone());
        let findings = node.findings();
        let told = findings.iter().any(|of| matches!(of, LayoutFinding::OwnersUnknown { .. }));
        assert_eq!(told, is_told, "from {before:?} to {after:?}");
    }
}
