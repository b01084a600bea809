//! The policy changes while causes are active: what is known is evaluated again.

use super::*;

impl Bench {
    /// By another policy from the next moment on.
    fn set_health_policy(&mut self, policy: HealthPolicy) -> HealthChange {
        self.now = self.now.after(Duration::from_millis(1));
        self.policy = policy;
        self.gpu.set_health_policy(self.now, &self.policy)
    }
}

fn ignoring(xids: &[u32]) -> HealthPolicy {
    policy(HealthRules {
        ignored: Some(xids.iter().copied().map(Xid).collect()),
        ..HealthRules::default()
    })
}

#[test]
fn an_xid_that_no_longer_counts_is_cleared_and_the_others_stay() {
    let mut bench = Bench::after(well());
    bench.observe(xid(48));
    bench.observe(xid(95));
    let change = bench.set_health_policy(ignoring(&[48]));
    assert_eq!(change.cleared, [xid_cause(48)]);
    assert_eq!(bench.cause_names(), ["xid"]);
    bench.set_health_policy(ignoring(&[48, 95]));
    assert!(bench.is_healthy());
}

#[test]
fn an_xid_from_before_a_stricter_policy_does_not_count_and_the_next_one_does() {
    let mut bench = Bench::after(well());
    let critical = policy(HealthRules {
        actions: [(Xid(94), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    });
    bench.observe(xid(94));
    assert_eq!(bench.set_health_policy(critical).raised, []);
    assert!(bench.is_healthy());
    bench.observe(xid(94));
    assert!(!bench.is_healthy());
}

#[test]
fn a_tolerated_state_counts_at_once_under_a_stricter_policy_and_no_longer_under_the_old_one() {
    let fault = Fabric { state: FabricState::Completed, status: ReturnCode(999), health_mask: 0 };
    let broken = Reading { fabric: Some(Ok(fault)), ..well() };
    let pending = Reading {
        remapped_rows: Some(Ok(RemappedRows { pending: true, failure: false })),
        ..well()
    };
    let bearing = |row_remap_pending, drain_p2p, fabric| {
        thresholds(|t| {
            (t.row_remap_pending, t.drain_p2p, t.fabric) = (row_remap_pending, drain_p2p, fabric)
        })
    };
    for (reading, word) in [
        (broken, "fabric"),
        (pending, "row_remap_pending"),
        (asks_for(RecoveryAction::DrainP2p), "recovery_action"),
    ] {
        let lenient = bearing(Severity::Degraded, Severity::Degraded, Severity::Degraded);
        let strict = bearing(Severity::Unhealthy, Severity::Unhealthy, Severity::Unhealthy);
        let mut bench = Bench::with(lenient.clone(), reading.clone());
        assert!(bench.is_healthy() && !bench.gpu.degradations().is_empty(), "{word}");
        assert_eq!(bench.set_health_policy(strict.clone()).raised.len(), 1);
        assert_eq!(bench.cause_names(), [word]);
        bench.poll(&reading, 5);
        assert_eq!(bench.cause_names(), [word], "it persists");
        assert_eq!(bench.set_health_policy(lenient).cleared.len(), 1);
        assert!(
            bench.is_healthy() && !bench.gpu.degradations().is_empty(),
            "{word} is still shown"
        );
        bench.poll(&well(), 1);
        assert!(bench.gpu.degradations().is_empty());
        assert_eq!(bench.set_health_policy(strict), HealthChange::default(), "it is over");
    }
}

#[test]
fn turning_health_checking_off_clears_all_but_the_quarantine() {
    let off = || policy(HealthRules { disabled: true, ..HealthRules::default() });
    let mut bench = Bench::after(well());
    bench.observe(xid(79));
    bench.observe(Observation::Failed(error(15)));
    bench.observe(Observation::Quarantine(Some("being repaired".into())));
    bench.set_health_policy(off());
    assert_eq!(bench.cause_names(), ["external"]);
    // Turned on again, the GPU is read at once, and no cause is raised until then.
    assert_eq!(bench.set_health_policy(HealthPolicy::default()), HealthChange::default());
    assert!(bench.gpu.next_reading().is_some_and(|reading| reading <= bench.now));
    bench.observe(Observation::Quarantine(None));
    assert!(bench.is_healthy());
}

#[test]
fn relapses_are_cleared_by_a_policy_that_tolerates_more() {
    let twice = |count_of| {
        thresholds(move |t| {
            t.relapses =
                Some(RelapseLimit { count: count(count_of), window: Duration::from_secs(86_400) })
        })
    };
    let mut bench = Bench::with(twice(2), well());
    for _ in 0..3 {
        bench.observe(xid(48));
        bench.poll(&well(), 3);
    }
    assert_eq!(bench.cause_names(), ["relapses"]);
    bench.set_health_policy(twice(2));
    assert_eq!(bench.cause_names(), ["relapses"]);
    bench.set_health_policy(twice(3));
    assert!(bench.is_healthy());
    // Those that were counted count on.
    bench.observe(xid(48));
    assert!(bench.cause_names().contains(&"relapses"), "{:?}", bench.cause_names());
}

#[test]
fn clean_polls_from_before_count_under_the_new_policy() {
    let mut bench = Bench::after(well());
    bench.observe(xid(48));
    bench.poll(&well(), 1);
    bench.set_health_policy(thresholds(|t| t.recovery_polls = count(5)));
    bench.poll(&well(), 3);
    assert!(!bench.is_healthy());
    bench.poll(&well(), 1);
    assert!(bench.is_healthy());
}

#[test]
fn the_same_policy_again_changes_nothing_and_schedules_no_reading() {
    let uuid: crate::names::Uuid = "GPU-a".parse().unwrap();
    let mut node = NodeHealth::default();
    node.apply(
        ms(0),
        NodeObservation::Enumeration { session: 1, gpus: [uuid.clone()].into(), complete: true },
    );
    node.apply(ms(1), NodeObservation::Gpu(uuid.clone(), Observation::Poll(well())));
    node.apply(ms(2), NodeObservation::Gpu(uuid, xid(48)));
    let due = node.next_readings();
    assert_eq!(
        node.set_health_policy(ms(3), HealthPolicy::default()),
        std::collections::BTreeMap::new()
    );
    assert_eq!(node.next_readings(), due);
    assert_eq!(node.set_health_policy(ms(4), ignoring(&[48])).len(), 1);
}
