//! The policy changes while causes are held: what is known is judged anew.

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
fn an_xid_that_counts_no_more_is_over_and_the_others_stay() {
    let mut bench = Bench::after(well());
    bench.see(xid(48));
    bench.see(xid(95));
    let change = bench.set_health_policy(ignoring(&[48]));
    assert_eq!(change.cleared, [Cause::Xid { xid: Xid(48), scope: Scope::Gpu }]);
    assert_eq!(bench.words(), ["xid"]);
    bench.set_health_policy(ignoring(&[48, 95]));
    assert!(bench.is_healthy());
}

#[test]
fn an_xid_that_was_let_pass_is_not_held_against_the_gpu_afterwards_and_the_next_one_is() {
    let mut bench = Bench::after(well());
    let critical = policy(HealthRules {
        actions: [(Xid(94), XidAction::Unhealthy)].into(),
        ..HealthRules::default()
    });
    bench.see(xid(94));
    assert_eq!(bench.set_health_policy(critical).raised, []);
    assert!(bench.is_healthy());
    bench.see(xid(94));
    assert!(!bench.is_healthy());
}

#[test]
fn a_state_that_is_borne_with_counts_at_once_when_it_is_to_and_no_longer_when_it_is_not() {
    let fault = Fabric { state: FabricState::Completed, status: ReturnCode(999), health_mask: 0 };
    let broken = Reading { fabric: Some(fault), ..well() };
    let pending =
        Reading { remapped_rows: Some(RemappedRows { pending: true, failure: false }), ..well() };
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
        assert_eq!(bench.words(), [word]);
        bench.poll(&reading, 5);
        assert_eq!(bench.words(), [word], "it still is so");
        assert_eq!(bench.set_health_policy(lenient).cleared.len(), 1);
        assert!(
            bench.is_healthy() && !bench.gpu.degradations().is_empty(),
            "{word} is shown still"
        );
        bench.poll(&well(), 1);
        assert!(bench.gpu.degradations().is_empty());
        assert_eq!(bench.set_health_policy(strict), HealthChange::default(), "it is over");
    }
}

#[test]
fn with_health_checking_turned_off_what_nobody_would_look_at_is_over_and_an_outside_word_stays() {
    let off = || policy(HealthRules { disabled: true, ..HealthRules::default() });
    let mut bench = Bench::after(well());
    bench.see(xid(79));
    bench.see(Observation::Failed(error(15)));
    bench.see(Observation::Quarantine(Some("being repaired".into())));
    bench.set_health_policy(off());
    assert_eq!(bench.words(), ["external"]);
    // Turned on again, the GPU is asked at once how it is, and nothing is made up until then.
    assert_eq!(bench.set_health_policy(HealthPolicy::default()), HealthChange::default());
    assert!(bench.gpu.next_reading().is_some_and(|reading| reading <= bench.now));
    bench.see(Observation::Quarantine(None));
    assert!(bench.is_healthy());
}

#[test]
fn a_latch_of_relapses_opens_where_more_are_borne() {
    let twice = |count_of| {
        thresholds(move |t| {
            t.relapses =
                Some(RelapseLimit { count: count(count_of), window: Duration::from_secs(86_400) })
        })
    };
    let mut bench = Bench::with(twice(2), well());
    for _ in 0..3 {
        bench.see(xid(48));
        bench.poll(&well(), 3);
    }
    assert_eq!(bench.words(), ["relapses"]);
    bench.set_health_policy(twice(2));
    assert_eq!(bench.words(), ["relapses"]);
    bench.set_health_policy(twice(3));
    assert!(bench.is_healthy());
    // Those that were counted count on.
    bench.see(xid(48));
    assert!(bench.words().contains(&"relapses"), "{:?}", bench.words());
}

#[test]
fn clean_polls_that_were_counted_count_by_the_new_number() {
    let mut bench = Bench::after(well());
    bench.see(xid(48));
    bench.poll(&well(), 1);
    bench.set_health_policy(thresholds(|t| t.recovery_polls = count(5)));
    bench.poll(&well(), 3);
    assert!(!bench.is_healthy());
    bench.poll(&well(), 1);
    assert!(bench.is_healthy());
}

#[test]
fn the_same_policy_again_changes_nothing_and_asks_for_nothing() {
    let uuid: crate::names::Uuid = "GPU-a".parse().unwrap();
    let mut node = NodeHealth::default();
    node.apply(ms(0), NodeObservation::Enumeration { session: 1, gpus: [uuid.clone()].into() });
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
