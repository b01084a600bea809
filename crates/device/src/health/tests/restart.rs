//! What outlives the process.

use super::node::{cause_names, enumeration, epoch, node, on, polls, uuid};
use super::*;

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
fn a_cause_keeps_its_age_over_restarts_on_one_boot() {
    let on_boot = |boot: &str, seconds| {
        NodeHealth::new(HealthPolicy::default(), epoch(boot, "load-1"))
            .with_origin(Duration::from_secs(seconds))
    };
    let age = |node: &NodeHealth, now: Moment| {
        let health = node.health_of(&uuid("GPU-a"), GpuPart::Whole);
        let lost = health.reasons().iter().find(|reason| reason.cause == Cause::Lost).unwrap();
        now.since(lost.since) + lost.before
    };
    let mut node = on_boot("boot-1", 1_000);
    node.apply(ms(1), enumeration(1, &["GPU-a"]));
    node.apply(ms(4_000), on("GPU-a", Observation::Failed(error(15))));
    let mut persisted = node.persist();
    for (origin, expected) in [(1_100, 98), (5_000, 3_998)] {
        let mut next = on_boot("boot-1", origin);
        next.restore(ms(500), &persisted);
        assert_eq!(age(&next, ms(2_000)), Duration::from_secs(expected));
        assert_eq!(next.persist(), persisted, "it stays as it is in the file");
        persisted = next.persist();
    }
    // A file of a plugin that kept no ages: it is as old as this process.
    persisted.gpus.values_mut().flatten().for_each(|cause| cause.since_boot = None);
    let mut next = on_boot("boot-1", 9_000);
    next.restore(ms(0), &persisted);
    assert_eq!(age(&next, ms(2_000)), Duration::from_secs(2));
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
        since_boot: None,
    };
    let slice = |gpu_instance| GpuPart::MigDevice(Placement { gpu_instance, compute_instance: 1 });
    // A version that kept Xid 95 to an instance may have written the file.
    for (number, sibling_causes) in [(94, 0), (95, 1)] {
        let gpus = [(uuid("GPU-a"), vec![cause(number)])].into();
        let mut node = NodeHealth::new(policy(rules()), epoch("b", "l"));
        let persisted =
            PersistedHealth { epoch: epoch("b", "l"), gpus, ..PersistedHealth::default() };
        node.restore(ms(0), &persisted);
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
    let remembered = PersistedHealth {
        epoch: epoch("b", "l"),
        gpus: [(uuid("GPU-a"), causes)].into(),
        ..PersistedHealth::default()
    };
    let mut node = NodeHealth::new(HealthPolicy::default(), epoch("b", "l"));
    let findings = node.restore(ms(0), &remembered);
    assert_eq!(findings.len(), 3);
    assert_eq!(
        findings[1].to_string(),
        "persisted cause \"gremlins\" of GPU-a is not known; it is left out"
    );
    assert_eq!(cause_names(&node, "GPU-a"), ["lost", "not_answered"]);
}

#[test]
fn what_was_persisted_and_is_read_late_counts_and_changes_nothing_that_is_known() {
    let mut first = node(well_without_field());
    first.apply(ms(2), on("GPU-a", xid(54)));
    first.apply(ms(2), on("GPU-b", xid(95)));
    let persisted = first.persist();
    let mut late = node(well_without_field());
    late.apply(ms(3), on("GPU-a", xid(54)));
    let before = late.health_of(&uuid("GPU-a"), GpuPart::Whole);
    let changes = late.apply(ms(9), NodeObservation::Persisted(persisted.clone()));
    assert_eq!(changes.keys().collect::<Vec<_>>(), [&uuid("GPU-b")]);
    assert_eq!(changes[&uuid("GPU-b")].raised.len(), 1);
    assert_eq!(late.health_of(&uuid("GPU-a"), GpuPart::Whole), before);
    assert_eq!(late.persist(), persisted);
    assert_eq!(late.transitions(&uuid("GPU-b")).to_unhealthy, 1);
    let again = late.apply(ms(10), NodeObservation::Persisted(persisted.clone()));
    assert!(again.is_empty());
    // Of another boot nothing counts.
    let mut other = NodeHealth::new(HealthPolicy::default(), epoch("boot-2", "load-1"));
    assert!(other.apply(ms(1), NodeObservation::Persisted(persisted)).is_empty());
    assert!(other.gpus().is_empty());
}
