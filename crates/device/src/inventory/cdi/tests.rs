//! Tests of the CDI names: which devices have one that a runtime can resolve, and when other rules
//! take effect.

use super::*;
use crate::allocation::AllocationPolicy;
use crate::health::{Moment, NodeHealth};
use crate::in_use::usage::InUse;
use crate::injection::{DeviceIdStrategy, DeviceListStrategy};
use crate::inventory::InventoryEvent;
use crate::layout::Layout;
use crate::layout::filter::{DeviceFilter, Term};
use crate::layout::sharing::{Replication, Sharing};
use crate::memory_share::MemoryLimits;
use crate::testing::{answers, enumeration};

const GPU_0_AND_1: [&str; 2] = ["GPU-0", "GPU-1"];

fn by_uuid() -> Injector {
    Injector { strategies: [DeviceListStrategy::CdiCri].into(), ..Injector::default() }
}

fn by_index() -> Injector {
    let strategies = [DeviceListStrategy::CdiCri, DeviceListStrategy::Envvar].into();
    Injector { strategies, ids: DeviceIdStrategy::Index, ..Injector::default() }
}

/// Two GPUs that answer, and no names yet.
fn node() -> Inventory {
    let (health, policy) = (NodeHealth::default(), AllocationPolicy::default());
    let mut node = Inventory::new(Layout::default(), by_uuid(), health, policy);
    node.await_cdi();
    node.apply(Moment::default(), enumeration([0, 1]));
    node.apply(Moment::default(), answers());
    node
}

fn without_gpu_1() -> Layout {
    let devices = DeviceFilter { include: Vec::new(), exclude: vec![Term::Index(1, 1)] };
    Layout { devices, ..Layout::default() }
}

fn names(devices: &[&str]) -> CdiNames {
    let keys = devices.iter().map(|device| key(GPU_CLASS, device));
    CdiNames { in_files: Arc::new(keys.collect()), ..CdiNames::default() }
}

fn tell(node: &mut Inventory, names: CdiNames) -> InventoryChanges {
    node.apply(Moment::default(), InventoryEvent::Cdi(Arc::new(names)))
}

fn states(node: &Inventory) -> Vec<CdiState> {
    node.devices(&ResourceName::gpu()).unwrap().values().map(|device| device.cdi).collect()
}

fn healthy(node: &Inventory) -> Vec<String> {
    let devices = node.devices(&ResourceName::gpu()).unwrap().values();
    let healthy = devices.filter(|device| node.is_healthy(device));
    healthy.map(|device| device.id.to_string()).collect()
}

/// The CDI names that a container with this device gets, or why it is refused.
fn given(node: &Inventory, id: &str) -> Result<Vec<String>, String> {
    let resource = ResourceName::gpu();
    let devices = node.allocate(&resource, &[id.to_owned()]).map_err(|why| why.to_string())?;
    Ok(node.inject(&resource, &devices, || [0; 16]).cdi_devices)
}

#[test]
fn a_device_is_listed_when_its_name_is_in_the_files_and_unhealthy_when_it_is_there_no_more() {
    use CdiState::{Awaited, Resolvable, Unresolvable};
    let problem = |devices: &[&str]| CdiNames { problem: Some("full".into()), ..names(devices) };
    let left_out = CdiNames { left_out: [key(GPU_CLASS, "GPU-1")].into(), ..names(&["GPU-0"]) };
    let mut node = node();
    assert_eq!(states(&node), [Awaited, Awaited]);
    assert!(!node.lists(&ResourceName::gpu()));
    let table: [(CdiNames, [CdiState; 2], &[&str]); 6] = [
        (names(&["GPU-0"]), [Resolvable, Awaited], &["GPU-0"]),
        (names(&[]), [Unresolvable, Awaited], &[]),
        (left_out, [Resolvable, Unresolvable], &["GPU-0"]),
        (names(&GPU_0_AND_1), [Resolvable, Resolvable], &GPU_0_AND_1),
        (names(&["GPU-1"]), [Unresolvable, Resolvable], &["GPU-1"]),
        (problem(&[]), [Unresolvable, Unresolvable], &[]),
    ];
    for (files, expected, can_be_had) in table {
        assert!(tell(&mut node, files.clone()).layout, "{files:?}");
        assert_eq!(states(&node), expected, "{files:?}");
        assert!(node.lists(&ResourceName::gpu()));
        assert_eq!(healthy(&node), can_be_had, "{files:?}");
        for id in GPU_0_AND_1 {
            assert_eq!(given(&node, id).is_ok(), can_be_had.contains(&id), "{id}: {files:?}");
        }
        assert_eq!(tell(&mut node, files), InventoryChanges::default(), "nothing is new");
    }
    let refused = given(&node, "GPU-0").unwrap_err();
    assert!(refused.ends_with("in no CDI specification of this node: full"), "{refused}");
    let mut new = self::node();
    tell(&mut new, problem(&[]));
    assert_eq!(states(&new), [Unresolvable, Unresolvable], "it is told, and not awaited");
    new.set_layout(without_gpu_1());
    assert_eq!(states(&new), [Unresolvable, Resolvable], "one that is withdrawn needs no name");
}

#[test]
fn other_names_are_in_force_when_every_offered_device_has_one_in_the_files() {
    let mut node = node();
    tell(&mut node, names(&GPU_0_AND_1));
    node.set_layout(without_gpu_1());
    let next = Injector { pass_device_specs: true, ..by_index() };
    assert!(node.set_injector(next.clone()).layout);
    assert_eq!(
        *node.injector(),
        Injector { pass_device_specs: true, ..by_uuid() },
        "all but the names"
    );
    assert_eq!(*node.wanted_injector(), next);
    assert_eq!(node.cdi_injectors().count(), 2);
    assert_eq!(node.set_injector(next.clone()), InventoryChanges::default());
    assert_eq!(given(&node, "GPU-0").unwrap(), ["k8s.device-plugin.nvidia.com/gpu=GPU-0"]);
    tell(&mut node, names(&["GPU-0", "GPU-1", "1"]));
    assert_eq!(node.injector().ids, DeviceIdStrategy::Uuid, "of the one that is offered");
    tell(&mut node, names(&["GPU-0", "0"]));
    assert_eq!((node.injector(), node.cdi_injectors().count()), (&next, 1));
    assert_eq!(given(&node, "GPU-0").unwrap(), ["k8s.device-plugin.nvidia.com/gpu=0"]);
    node.set_injector(by_uuid());
    assert_eq!(*node.injector(), by_uuid(), "they are there, so at once");
}

#[test]
fn without_names_nothing_is_looked_up_in_the_files() {
    let mut node = node();
    let by_variable = Injector::default();
    node.set_injector(by_variable.clone());
    assert_eq!((node.injector(), node.cdi_injectors().count()), (&by_variable, 0));
    assert_eq!(healthy(&node), GPU_0_AND_1);
    assert_eq!(given(&node, "GPU-0"), Ok(Vec::new()));
    node.set_injector(by_uuid());
    assert_eq!(*node.injector(), by_variable, "until the names are in the files");
    tell(&mut node, names(&GPU_0_AND_1));
    assert_eq!(*node.injector(), by_uuid());
    let mut unasked = Inventory::new(
        Layout::default(),
        by_uuid(),
        NodeHealth::default(),
        AllocationPolicy::default(),
    );
    unasked.apply(Moment::default(), enumeration([0]));
    assert_eq!(states(&unasked), [CdiState::Resolvable], "who does not know takes all");
    assert!(given(&unasked, "GPU-0").is_ok());
}

#[test]
fn the_files_are_written_again_for_other_devices_rules_or_pods_and_not_for_health() {
    let mut node = node();
    tell(&mut node, names(&GPU_0_AND_1));
    let before = node.clone();
    assert!(before.has_same_cdi_devices(&node));
    node.apply(Moment::default(), answers());
    assert!(before.has_same_cdi_devices(&node));
    let changed = |change: &dyn Fn(&mut Inventory)| {
        let mut node = before.clone();
        change(&mut node);
        assert!(node.has_same_cdi_devices(&node.clone()));
        !before.has_same_cdi_devices(&node) && !node.has_same_cdi_devices(&before)
    };
    assert!(changed(&|node| drop(node.apply(Moment::default(), enumeration([0, 1, 2])))));
    assert!(changed(&|node| drop(node.set_injector(by_index()))));
    let id = || "GPU-0".parse().unwrap();
    let devices = || [((ResourceName::gpu(), id()), None)].into();
    assert!(changed(&|node| drop(node.set_in_use(InUse { known: true, devices: devices() }))));
    let name = || "nvidia.com/h100".parse().unwrap();
    let pattern = || crate::layout::filter::Pattern::new("*");
    let named = || crate::layout::NamePattern { pattern: pattern(), name: name() };
    assert!(changed(&|node| {
        drop(node.set_layout(Layout { gpu_names: vec![named()], ..Layout::default() }));
    }));
}

#[test]
fn what_is_wrong_with_the_files_is_told_while_they_are_used() {
    let mut node = node();
    let files = CdiNames {
        problem: Some("full".into()),
        incomplete: vec!["no libraries".into()],
        not_limited: vec!["no hook".into()],
        ..names(&GPU_0_AND_1)
    };
    let told = |node: &Inventory| -> Vec<String> {
        node.cdi_findings().iter().map(|finding| format!("{finding:?}")).collect()
    };
    tell(&mut node, files);
    assert_eq!(
        told(&node),
        [
            r#"CdiNotWritten { why: "full" }"#,
            r#"CdiIncomplete { what: "no libraries" }"#,
            r#"MemoryNotLimited { why: "no hook" }"#,
        ]
    );
    assert!(told(&node).iter().all(|it| node.findings().iter().any(|of| format!("{of:?}") == *it)));
    node.set_injector(Injector::default());
    assert!(told(&node).is_empty());
    let sharing = Sharing::TimeSlicing(Replication {
        rename_by_default: false,
        fail_requests_greater_than_one: false,
        memory_limits: Some(MemoryLimits::default()),
        resources: Vec::new(),
    });
    node.set_layout(Layout { sharing, ..Layout::default() });
    let told = told(&node);
    assert!(told.len() == 1 && told[0].contains("neither cdi-cri nor"), "{told:?}");
}
