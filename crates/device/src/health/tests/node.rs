//! All GPUs of a node, and what they have in common.

use std::collections::BTreeMap;

use super::*;
use crate::names::Uuid;

pub(super) fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}

pub(super) fn epoch(boot: &str, driver: &str) -> Epoch {
    Epoch { boot: boot.to_owned(), driver: Some(driver.to_owned()) }
}

pub(super) fn enumeration(session: u64, gpus: &[&str]) -> NodeObservation {
    let gpus = gpus.iter().map(|text| uuid(text)).collect();
    NodeObservation::Enumeration { session, gpus, complete: true }
}

pub(super) fn on(gpu: &str, observation: Observation) -> NodeObservation {
    NodeObservation::Gpu(uuid(gpu), observation)
}

/// GPU-a and GPU-b, both well.
pub(super) fn node(first: Reading) -> NodeHealth {
    let mut node = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    node.apply(ms(0), enumeration(1, &["GPU-a", "GPU-b"]));
    node.apply(ms(1), NodeObservation::EveryGpu(Observation::Poll(first)));
    node
}

pub(super) fn polls(node: &mut NodeHealth, from: u64, reading: &Reading, times: u64) {
    for n in 1..=times {
        node.apply(
            ms(from + n * 10_000),
            NodeObservation::EveryGpu(Observation::Poll(reading.clone())),
        );
    }
}

pub(super) fn cause_names(node: &NodeHealth, gpu: &str) -> Vec<&'static str> {
    node.health_of(&uuid(gpu), GpuPart::Whole)
        .reasons()
        .iter()
        .map(|reason| reason.cause.as_str())
        .collect()
}

#[test]
fn one_gpu_fails_and_the_other_does_not() {
    let mut node = node(well());
    let changes = node.apply(ms(2), on("GPU-a", xid(48)));
    assert_eq!(changes.keys().collect::<Vec<_>>(), [&uuid("GPU-a")]);
    assert_eq!(cause_names(&node, "GPU-a"), ["xid"]);
    assert_eq!(cause_names(&node, "GPU-b"), Vec::<&str>::new());
    assert_eq!(node.next_readings().keys().collect::<Vec<_>>(), [&uuid("GPU-a")]);
}

#[test]
fn an_xid_with_a_place_hits_the_slices_there_unless_it_takes_a_reset() {
    let slice = |gpu_instance| GpuPart::MigDevice(Placement { gpu_instance, compute_instance: 0 });
    let critical = policy(HealthRules {
        actions: [Xid(94), Xid(13), Xid(144)].map(|xid| (xid, XidAction::Unhealthy)).into(),
        ..HealthRules::default()
    });
    for (number, sibling_is_healthy) in
        [(94, true), (13, true), (48, false), (95, false), (74, false), (144, false), (54, false)]
    {
        let mut node = node(well_without_field());
        node.set_health_policy(ms(2), critical.clone());
        let traced = Observation::Xid { xid: Xid(number), scope: Scope::from_event(3, 0) };
        node.apply(ms(3), on("GPU-a", traced));
        assert!(!node.health_of(&uuid("GPU-a"), slice(3)).is_healthy(), "{number}");
        let sibling = node.health_of(&uuid("GPU-a"), slice(4));
        assert_eq!(sibling.is_healthy(), sibling_is_healthy, "Xid {number}");
    }
}

#[test]
fn of_a_gpu_that_nobody_listed_xids_alone_are_kept() {
    let mut node = node(well());
    assert_eq!(cause_names(&node, "GPU-z"), ["not_enumerated"]);
    assert!(node.apply(ms(2), on("GPU-z", Observation::Poll(well()))).is_empty());
    assert_eq!(node.gpus().len(), 2);
    node.apply(ms(3), on("GPU-z", xid(48)));
    node.apply(ms(4), enumeration(2, &["GPU-a", "GPU-b", "GPU-z"]));
    assert!(cause_names(&node, "GPU-z").contains(&"xid"));
    for number in 0..2_000 {
        node.apply(ms(5), on(&format!("GPU-{number}"), xid(48)));
    }
    assert!(node.gpus().len() <= 1_024, "whatever NVML invents");
}

#[test]
fn a_gpu_that_is_listed_no_more_is_unhealthy_until_it_returns_or_is_forgotten() {
    let mut node = node(well());
    node.apply(ms(2), enumeration(2, &["GPU-a", "GPU-c"]));
    assert_eq!(cause_names(&node, "GPU-b"), ["not_enumerated"]);
    assert_eq!(cause_names(&node, "GPU-c"), ["not_answered"]);
    assert_eq!(node.missing(), [uuid("GPU-b")].into());
    node.apply(ms(3), enumeration(3, &["GPU-a", "GPU-b"]));
    polls(&mut node, 3, &well(), 2);
    assert_eq!(cause_names(&node, "GPU-b"), Vec::<&str>::new());
    node.apply(ms(60_000), NodeObservation::Forget(uuid("GPU-c")));
    assert_eq!(node.gpus().len(), 2);
}

#[test]
fn a_fault_of_the_node_hits_all_and_goes_when_it_goes() {
    let mut node = node(well());
    let changes = node.apply(ms(2), NodeObservation::Fault(Some(NodeFault::DriverNotLoaded)));
    assert_eq!(changes.len(), 2);
    assert!(node.apply(ms(3), NodeObservation::Fault(Some(NodeFault::DriverNotLoaded))).is_empty());
    assert_eq!(cause_names(&node, "GPU-a"), ["driver_not_loaded"]);
    node.apply(ms(4), NodeObservation::Fault(Some(NodeFault::LibraryMismatch)));
    assert_eq!(cause_names(&node, "GPU-b"), ["library_mismatch"]);
    node.apply(ms(5), on("GPU-a", xid(48)));
    node.apply(ms(5), on("GPU-b", Observation::Poll(well())));
    let changes = node.apply(ms(6), NodeObservation::Fault(None));
    assert_eq!(changes[&uuid("GPU-b")].cleared, [Cause::Node(NodeFault::LibraryMismatch)]);
    assert_eq!(cause_names(&node, "GPU-a"), ["xid", "not_answered"]);
    assert_eq!(cause_names(&node, "GPU-b"), Vec::<&str>::new());
}

#[test]
fn a_quarantine_may_come_before_its_gpu() {
    let mut node = node(well());
    let both: BTreeMap<_, _> =
        [(uuid("GPU-b"), "fan".into()), (uuid("GPU-c"), "bent".into())].into();
    let changes = node.apply(ms(2), NodeObservation::Quarantine(both.clone()));
    assert_eq!(changes.keys().collect::<Vec<_>>(), [&uuid("GPU-b")]);
    let changes = node.apply(ms(3), enumeration(2, &["GPU-a", "GPU-b", "GPU-c"]));
    assert_eq!(changes[&uuid("GPU-c")].raised, [Cause::Quarantined("bent".into())]);
    node.apply(ms(4), NodeObservation::Quarantine(BTreeMap::new()));
    assert_eq!(cause_names(&node, "GPU-b"), Vec::<&str>::new());
    assert_eq!(cause_names(&node, "GPU-c"), ["not_answered"]);
}

#[test]
fn a_new_load_of_the_driver_is_evidence_of_repair() {
    let mut node = node(well_without_field());
    node.apply(ms(2), on("GPU-a", xid(48)));
    node.apply(ms(3), NodeObservation::Epoch(Epoch { driver: None, ..epoch("boot-1", "") }));
    node.apply(ms(4), NodeObservation::Epoch(epoch("boot-1", "load-1")));
    polls(&mut node, 4, &well_without_field(), 5);
    assert_eq!(cause_names(&node, "GPU-a"), ["xid"], "it is the same load");
    node.apply(ms(60_000), NodeObservation::Epoch(Epoch { driver: None, ..epoch("boot-1", "") }));
    node.apply(ms(60_001), NodeObservation::Epoch(epoch("boot-1", "load-2")));
    polls(&mut node, 60_001, &well_without_field(), 2);
    assert_eq!(cause_names(&node, "GPU-a"), Vec::<&str>::new());
}
