//! All GPUs of a node, what they have in common, and what outlives the process.

use std::collections::BTreeMap;

use super::*;
use crate::names::Uuid;

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn epoch(boot: &str, driver: &str) -> Epoch {
    Epoch { boot: boot.to_owned(), driver: Some(driver.to_owned()) }
}

fn enumeration(session: u64, gpus: &[&str]) -> NodeObservation {
    let gpus = gpus.iter().map(|text| uuid(text)).collect();
    NodeObservation::Enumeration { session, gpus, complete: true }
}

fn on(gpu: &str, observation: Observation) -> NodeObservation {
    NodeObservation::Gpu(uuid(gpu), observation)
}

/// GPU-a and GPU-b, both well.
fn node(first: Reading) -> NodeHealth {
    let mut node = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    node.apply(ms(0), enumeration(1, &["GPU-a", "GPU-b"]));
    node.apply(ms(1), NodeObservation::EveryGpu(Observation::Poll(first)));
    node
}

fn polls(node: &mut NodeHealth, from: u64, reading: &Reading, times: u64) {
    for n in 1..=times {
        node.apply(
            ms(from + n * 10_000),
            NodeObservation::EveryGpu(Observation::Poll(reading.clone())),
        );
    }
}

fn cause_names(node: &NodeHealth, gpu: &str) -> Vec<&'static str> {
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
fn a_gpu_that_nobody_listed_is_not_healthy_and_not_added() {
    let mut node = node(well());
    assert_eq!(cause_names(&node, "GPU-z"), ["not_enumerated"]);
    assert!(node.apply(ms(2), on("GPU-z", xid(48))).is_empty());
    assert_eq!(node.gpus().len(), 2);
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
    let changes = node.apply(ms(6), NodeObservation::Fault(None));
    assert_eq!(changes[&uuid("GPU-b")].cleared, [Cause::Node(NodeFault::LibraryMismatch)]);
    assert_eq!(cause_names(&node, "GPU-a"), ["xid"]);
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

/// A node whose GPU-a has every lasting cause, and what its next process restores.
fn restarted(epoch: Epoch) -> NodeHealth {
    let mut node = node(well_without_field());
    let failure = Reading {
        remapped_rows: Some(Ok(RemappedRows { pending: true, failure: true })),
        ..asks_for(RecoveryAction::NodeReboot)
    };
    for observation in [
        xid(48),
        xid(54),
        xid(79),
        Observation::Xid { xid: Xid(95), scope: Scope::from_event(2, 1) },
        Observation::Xid { xid: Xid(95), scope: Scope::from_event(2, u32::MAX) },
        Observation::Failed(error(14)),
        Observation::Failed(error(15)),
        Observation::Failed(error(16)),
        Observation::Poll(failure),
        Observation::Quarantine(Some("fan".into())),
        Observation::Event(EventType::FatalPoisonError),
        Observation::TimedOut { call: "x" },
    ] {
        node.apply(ms(2), on("GPU-a", observation));
    }
    let mut next = NodeHealth::new(HealthPolicy::default(), epoch);
    assert_eq!(next.restore(ms(0), &node.persist()), []);
    next.apply(ms(1), enumeration(1, &["GPU-a", "GPU-b"]));
    next
}

#[test]
fn a_restart_keeps_what_no_source_would_state_again() {
    let mut node = restarted(epoch("boot-1", "load-1"));
    let expected = [
        "lost",
        "row_remap_failure",
        "inforom",
        "recovery_action",
        "reset_required",
        "xid",
        "xid",
        "xid",
        "xid",
        "not_answered",
    ];
    assert_eq!(cause_names(&node, "GPU-a"), expected);
    assert_eq!(cause_names(&node, "GPU-b"), ["not_answered"]);
    let health = node.health_of(&uuid("GPU-a"), GpuPart::Whole);
    let restored = health.reasons().iter().filter(|reason| reason.restored).count();
    assert_eq!(restored, expected.len() - 1);
    let again = node.persist();
    let mut third = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    third.restore(ms(0), &again);
    assert_eq!(third.persist().gpus[&uuid("GPU-a")].len(), restored);
    // The GPU was listed, so what was lost is back, and this driver has no recovery action; the
    // rest waits for repair.
    polls(&mut node, 2, &well_without_field(), 50);
    assert_eq!(cause_names(&node, "GPU-a").len(), 6);
}

#[test]
fn a_restart_keeps_the_part_of_a_gpu_that_an_xid_was_traced_to() {
    let rules = || HealthRules {
        actions: [(Xid(94), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    };
    let cause = |number| PersistedCause {
        kind: "xid".to_owned(),
        number: Some(number),
        gpu_instance: Some(2),
        compute_instance: Some(1),
        configured: number == 94,
        repaired: false,
    };
    let slice = |gpu_instance| GpuPart::MigDevice(Placement { gpu_instance, compute_instance: 1 });
    // A version that kept Xid 95 to an instance may have written the file.
    for (number, sibling_causes) in [(94, 0), (95, 1)] {
        let gpus = [(uuid("GPU-a"), vec![cause(number)])].into();
        let mut node = NodeHealth::new(policy(rules()), epoch("b", "l"));
        node.restore(ms(0), &PersistedHealth { epoch: epoch("b", "l"), gpus });
        let causes = |part| node.health_of(&uuid("GPU-a"), part).reasons().len();
        assert_eq!([causes(slice(2)), causes(slice(3))], [2, 1 + sibling_causes], "{number}");
    }
}

#[test]
fn a_restart_with_a_broken_gpu_keeps_it_unhealthy_until_it_is_clean() {
    for (first, recovers) in [(well(), true), (well_without_field(), false)] {
        let mut node = node(first.clone());
        node.apply(ms(2), on("GPU-a", xid(48)));
        let mut next = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
        next.restore(ms(0), &node.persist());
        next.apply(ms(1), enumeration(1, &["GPU-a", "GPU-b"]));
        polls(&mut next, 2, &first, 1);
        assert_eq!(cause_names(&next, "GPU-a"), ["xid"]);
        polls(&mut next, 10_002, &first, 10);
        assert_eq!(cause_names(&next, "GPU-a").is_empty(), recovers);
    }
}

#[test]
fn a_boot_forgets_all_and_a_new_load_of_the_driver_what_it_repairs() {
    let node = restarted(epoch("boot-2", "load-1"));
    assert_eq!(cause_names(&node, "GPU-a"), ["not_answered"]);
    let node = restarted(epoch("boot-1", "load-2"));
    assert_eq!(cause_names(&node, "GPU-a"), ["lost", "xid", "xid", "not_answered"]);
}

#[test]
fn a_driver_that_loads_after_the_restart_is_compared_with_the_persisted_one() {
    let mut node = restarted(Epoch { driver: None, ..epoch("boot-1", "") });
    assert_eq!(cause_names(&node, "GPU-a").len(), 10);
    node.apply(ms(2), NodeObservation::Epoch(epoch("boot-1", "load-2")));
    polls(&mut node, 2, &well_without_field(), 2);
    assert_eq!(cause_names(&node, "GPU-a"), ["xid"], "Xid 54 is not repaired by a driver");
}

#[test]
fn relapses_stay_over_a_restart() {
    let mut first = node(well());
    let mut now = 2;
    for _ in 0..4 {
        first.apply(ms(now), on("GPU-a", xid(48)));
        polls(&mut first, now, &well(), 2);
        now += 20_001;
    }
    assert_eq!(cause_names(&first, "GPU-a"), ["relapses"]);
    let mut next = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    next.restore(ms(0), &first.persist());
    next.apply(ms(1), enumeration(1, &["GPU-a"]));
    polls(&mut next, 2, &well(), 50);
    assert_eq!(cause_names(&next, "GPU-a"), ["relapses"]);
}

#[test]
fn what_the_policy_would_not_raise_today_is_not_restored() {
    let mut first = node(well());
    first.apply(ms(2), on("GPU-a", xid(48)));
    let (policy, _) = HealthPolicy::new(HealthRules::default(), Overrides::parse("48", "").0);
    let mut next = NodeHealth::new(policy, epoch("boot-1", "load-1"));
    next.restore(ms(0), &first.persist());
    assert!(next.persist().gpus.is_empty());
}

#[test]
fn what_is_known_of_a_gpu_that_is_not_listed_after_a_restart_stays() {
    let mut first = node(well_without_field());
    first.apply(ms(2), on("GPU-a", xid(48)));
    let mut next = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    next.restore(ms(0), &first.persist());
    assert_eq!(cause_names(&next, "GPU-a"), ["xid", "not_answered"], "before any enumeration");
    next.apply(ms(1), enumeration(1, &["GPU-b"]));
    assert_eq!(cause_names(&next, "GPU-a"), ["not_enumerated", "xid", "not_answered"]);
    assert_eq!(next.missing(), [uuid("GPU-a")].into());
    let mut third = NodeHealth::new(HealthPolicy::default(), epoch("boot-1", "load-1"));
    third.restore(ms(0), &next.persist());
    third.apply(ms(1), enumeration(1, &["GPU-a", "GPU-b"]));
    polls(&mut third, 1, &well_without_field(), 5);
    assert_eq!(cause_names(&third, "GPU-a"), ["xid"], "it is there, and not repaired");
}

#[test]
fn what_is_persisted_after_a_restart_is_of_the_present_driver_and_boot() {
    let mut first = node(well_without_field());
    first.apply(ms(2), on("GPU-a", xid(54)));
    let persisted = first.persist();
    for (present, expected) in [
        (epoch("boot-1", "load-1"), epoch("boot-1", "load-1")),
        (epoch("boot-1", "load-2"), epoch("boot-1", "load-2")),
        (epoch("boot-2", "load-1"), epoch("boot-2", "load-1")),
        (Epoch { driver: None, ..epoch("boot-1", "") }, epoch("boot-1", "load-1")),
    ] {
        let mut next = NodeHealth::new(HealthPolicy::default(), present);
        next.restore(ms(0), &persisted);
        assert_eq!(next.persist().epoch, expected);
    }
}

#[test]
fn a_persisted_cause_that_makes_no_sense_is_reported_and_left_out() {
    let cause = |kind: &str, number| PersistedCause {
        kind: kind.to_owned(),
        number,
        ..PersistedCause::default()
    };
    let causes = vec![
        cause("xid", None),
        cause("gremlins", Some(1)),
        cause("fabric", None),
        cause("lost", None),
    ];
    let remembered =
        PersistedHealth { epoch: epoch("b", "l"), gpus: [(uuid("GPU-a"), causes)].into() };
    let mut node = NodeHealth::new(HealthPolicy::default(), epoch("b", "l"));
    let findings = node.restore(ms(0), &remembered);
    assert_eq!(findings.len(), 3);
    assert_eq!(
        findings[1].to_string(),
        "persisted cause \"gremlins\" of GPU-a is not known; it is left out"
    );
    assert_eq!(cause_names(&node, "GPU-a"), ["lost", "not_answered"]);
}
