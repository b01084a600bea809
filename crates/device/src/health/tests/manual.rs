//! What a person says: a GPU is repaired, and an Xid is fatal.

use super::*;
use crate::names::Uuid;

fn fatal(number: u32) -> HealthPolicy {
    policy(HealthRules {
        actions: [(Xid(number), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    })
}

/// Every way in which an operator makes Xid 94 fatal.
fn made_fatal() -> [HealthPolicy; 4] {
    let critical = |critical| policy(HealthRules { critical, ..HealthRules::default() });
    let enabled = Overrides::parse("", "94").0;
    [
        fatal(94),
        critical(CriticalXids::All),
        critical(CriticalXids::Only([Xid(94)].into())),
        HealthPolicy::new(HealthRules::default(), enabled).0,
    ]
}

fn uuid() -> Uuid {
    "GPU-a".parse().unwrap()
}

fn on(observation: Observation) -> NodeObservation {
    NodeObservation::Gpu(uuid(), observation)
}

fn enumeration(session: u64, gpus: &[&str]) -> NodeObservation {
    let gpus = gpus.iter().map(|gpu| gpu.parse().unwrap()).collect();
    NodeObservation::Enumeration { session, gpus, complete: true }
}

fn clear(cause: Option<CauseKind>) -> NodeObservation {
    NodeObservation::Clear { gpu: uuid(), cause }
}

/// A node with one GPU that was well at first.
fn node(policy: HealthPolicy, first: Reading) -> NodeHealth {
    let mut node = NodeHealth::new(policy, Epoch::default());
    node.apply(ms(0), enumeration(1, &["GPU-a"]));
    node.apply(ms(1), on(Observation::Poll(first)));
    node
}

fn polls(node: &mut NodeHealth, from: u64, reading: &Reading, times: u64) -> u64 {
    for n in 1..=times {
        node.apply(ms(from + n * 10_000), on(Observation::Poll(reading.clone())));
    }
    from + times * 10_000
}

fn cause_names(node: &NodeHealth) -> Vec<&'static str> {
    let health = node.health_of(&uuid(), GpuPart::Whole);
    health.reasons().iter().map(|reason| reason.cause.as_str()).collect()
}

#[test]
fn what_an_operator_made_fatal_stands_until_evidence_of_repair() {
    for policy in made_fatal() {
        for first in [well(), well_without_field()] {
            for (evidence, ends) in EVIDENCE.into_iter().zip([true, true, false, true, true]) {
                let mut bench = Bench::with(policy.clone(), first.clone());
                bench.observe(xid(94));
                bench.poll(&first, 1000);
                assert_eq!(bench.cause_names(), ["xid"], "the driver is not asked");
                bench.observe(Observation::Repaired(evidence));
                bench.poll(&first, 2);
                assert_eq!(bench.is_healthy(), ends, "{evidence:?}");
            }
        }
    }
}

#[test]
fn a_quiet_period_does_not_end_what_an_operator_made_fatal() {
    let mut rules = HealthRules {
        actions: [(Xid(94), XidAction::Unhealthy), (Xid(48), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    };
    rules.thresholds.quiet_period = Some(Duration::from_secs(60));
    for (number, ends) in [(94, false), (48, true)] {
        let mut bench = Bench::with(policy(rules.clone()), well_without_field());
        bench.observe(xid(number));
        bench.poll(&well_without_field(), 100);
        assert_eq!(bench.is_healthy(), ends, "Xid {number}");
    }
}

#[test]
fn what_an_operator_made_fatal_is_kept_over_a_restart_of_the_same_boot() {
    let mut first = node(fatal(94), well());
    first.apply(ms(2), on(xid(94)));
    for (boot, policy, stays) in
        [("", fatal(94), true), ("next", fatal(94), false), ("", fatal(95), false)]
    {
        let epoch = Epoch { boot: boot.to_owned(), driver: None };
        let mut next = NodeHealth::new(policy, epoch);
        assert_eq!(next.restore(ms(0), &first.persist()), []);
        next.apply(ms(1), enumeration(1, &["GPU-a"]));
        polls(&mut next, 1, &well(), 100);
        assert_eq!(cause_names(&next).contains(&"xid"), stays, "{boot:?}");
    }
}

#[test]
fn another_policy_ends_what_the_last_one_made_fatal() {
    let mut bench = Bench::with(fatal(94), well());
    bench.observe(xid(94));
    bench.gpu.set_health_policy(bench.now, &HealthPolicy::default());
    assert!(bench.is_healthy());
}

#[test]
fn a_person_clears_every_latched_cause_and_clean_polls_confirm_it() {
    let old = well_without_field();
    for raised in [
        xid(48),
        xid(54),
        xid(79),
        xid(13),
        Observation::Failed(error(14)),
        Observation::Failed(error(15)),
        Observation::Failed(error(16)),
        Observation::Poll(Reading {
            remapped_rows: Some(Ok(RemappedRows { pending: false, failure: true })),
            ..old.clone()
        }),
    ] {
        let mut node = node(fatal(13), old.clone());
        node.apply(ms(2), on(raised.clone()));
        let now = polls(&mut node, 2, &old, 20);
        assert_eq!(cause_names(&node).len(), 1, "{raised:?}");
        node.apply(ms(now), clear(None));
        let now = polls(&mut node, now, &old, 1);
        assert_eq!(cause_names(&node).len(), 1, "{raised:?}");
        polls(&mut node, now, &old, 1);
        assert_eq!(cause_names(&node), [""; 0], "{raised:?}");
    }
}

#[test]
fn a_person_clears_the_causes_of_one_kind() {
    let old = well_without_field();
    let mut node = node(HealthPolicy::default(), old.clone());
    node.apply(ms(2), on(xid(48)));
    node.apply(ms(3), on(Observation::Failed(error(14))));
    node.apply(ms(4), clear(Some(CauseKind::Xid)));
    let now = polls(&mut node, 4, &old, 5);
    assert_eq!(cause_names(&node), ["inforom"]);
    node.apply(ms(now), clear(Some(CauseKind::InfoRomCorrupted)));
    polls(&mut node, now, &old, 5);
    assert_eq!(cause_names(&node), [""; 0]);
}

#[test]
fn a_person_clears_the_relapses_with_their_history() {
    for (kind, is_cleared) in
        [(None, true), (Some(CauseKind::Relapses), true), (Some(CauseKind::Lost), false)]
    {
        let mut node = node(HealthPolicy::default(), well());
        let mut now = 2;
        for _ in 0..4 {
            node.apply(ms(now), on(xid(48)));
            now = polls(&mut node, now, &well(), 2) + 1;
        }
        assert_eq!(cause_names(&node), ["relapses"]);
        node.apply(ms(now), clear(kind));
        now = polls(&mut node, now, &well(), 2);
        assert_eq!(cause_names(&node).is_empty(), is_cleared);
        node.apply(ms(now + 1), on(xid(48)));
        assert_eq!(cause_names(&node).contains(&"relapses"), !is_cleared);
    }
}

#[test]
fn a_person_does_not_clear_what_readings_state_nor_a_quarantine() {
    let asking = asks_for(RecoveryAction::GpuReset);
    let mut node = node(HealthPolicy::default(), asking.clone());
    let quarantine = [(uuid(), "fan".into())].into();
    node.apply(ms(2), NodeObservation::Quarantine(quarantine));
    assert!(node.apply(ms(3), clear(None)).is_empty());
    polls(&mut node, 3, &asking, 5);
    assert_eq!(cause_names(&node), ["recovery_action", "external"]);
}

#[test]
fn a_gpu_that_is_not_listed_is_forgotten() {
    for kind in [None, Some(CauseKind::NotEnumerated)] {
        let mut node = node(HealthPolicy::default(), well());
        node.apply(ms(2), on(xid(95)));
        node.apply(ms(3), enumeration(2, &[]));
        assert_eq!(node.missing(), [uuid()].into());
        let changes = node.apply(ms(4), clear(kind));
        assert_eq!(changes[&uuid()].cleared.len(), 2);
        assert!(node.gpus().is_empty() && node.missing().is_empty());
        assert!(node.persist().gpus.is_empty());
    }
    let mut node = node(HealthPolicy::default(), well());
    node.apply(ms(2), enumeration(2, &[]));
    node.apply(ms(3), clear(Some(CauseKind::Xid)));
    assert_eq!(cause_names(&node), ["not_enumerated"]);
}
