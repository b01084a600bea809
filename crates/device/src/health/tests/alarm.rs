//! Alarms, reads that follow them, storms, and calls that fail or do not return.

use super::*;

#[test]
fn xid_154_alone_does_nothing() {
    let mut bench = Bench::after(well());
    bench.observe(xid(154));
    bench.observe(Observation::Reading(well()));
    bench.poll(&well(), 5);
    assert!(bench.is_healthy());
    assert_eq!(bench.gpu.next_reading(), None);
}

#[test]
fn a_call_that_does_not_return_counts_after_three_deadlines() {
    let missed = Observation::TimedOut { call: "nvmlDeviceGetMemoryInfo" };
    let mut bench = Bench::after(well());
    bench.observe(missed.clone());
    bench.observe(missed.clone());
    assert!(bench.is_healthy());
    bench.poll(&well(), 1);
    bench.observe(missed.clone());
    bench.observe(missed.clone());
    assert!(bench.is_healthy(), "an answer ends the row");
    bench.observe(missed);
    assert_eq!(bench.cause_names(), ["nvml_unresponsive"]);
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn a_call_that_does_not_return_counts_at_once_for_a_new_or_suspect_gpu() {
    let missed = Observation::TimedOut { call: "nvmlDeviceGetMemoryInfo" };
    let mut new = Bench { gpu: GpuHealth::default(), policy: HealthPolicy::default(), now: ms(0) };
    new.observe(missed.clone());
    assert_eq!(new.cause_names(), ["nvml_unresponsive", "not_answered"]);
    let mut suspect = Bench::after(well());
    suspect.observe(Observation::Event(EventType::GpuRecoveryAction));
    suspect.observe(missed);
    assert_eq!(suspect.cause_names(), ["nvml_unresponsive"]);
}

#[test]
fn failed_calls_count_after_three_readings_and_end_with_answers() {
    let refused =
        Reading { recovery_action: Some(Err(error(999))), probe: Some(Err(error(999))), ..well() };
    let mut bench = Bench::after(well());
    bench.poll(&refused, 2);
    assert!(bench.is_healthy());
    bench.poll(&refused, 1);
    assert_eq!(bench.cause_names(), ["nvml_error"]);
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn what_a_gpu_does_not_support_is_no_failure() {
    let bare = Reading {
        recovery_action: Some(Err(error(2))),
        remapped_rows: None,
        fabric: None,
        probe: Some(Err(error(3))),
    };
    let mut bench = Bench::after(bare.clone());
    bench.observe(Observation::Failed(error(3)));
    bench.poll(&bare, 5);
    assert!(bench.is_healthy());
    assert_eq!(bench.gpu.recovery_action(), None);
    bench.observe(xid(48));
    bench.observe(Observation::Repaired(RepairEvidence::Manual));
    bench.poll(&bare, 2);
    assert!(bench.is_healthy());
}

#[test]
fn after_an_alarm_the_gpu_is_read_at_once_and_three_times_more() {
    let mut bench = Bench::after(well());
    bench.now = ms(99_999);
    bench.observe(xid(154));
    let mut reads = Vec::new();
    while let Some(due) = bench.gpu.next_reading() {
        reads.push(due);
        bench.gpu.apply(due, Observation::Reading(well()), &bench.policy);
    }
    assert_eq!(reads, [ms(100_000), ms(101_000), ms(102_000), ms(105_000)]);
}

#[test]
fn a_storm_is_counted_and_read_rarely_and_its_memory_is_bounded() {
    let every = HealthRules { critical: CriticalXids::All, ..HealthRules::default() };
    let mut bench = Bench::with(policy(every), well());
    let (mut raised, mut reads) = (0, 0);
    for n in 0..10_000_u32 {
        let now = ms(50_000 + u64::from(n / 10));
        let scope = Scope::from_event(n % 7, n % 5);
        let change =
            bench.gpu.apply(now, Observation::Xid { xid: Xid(n % 3000), scope }, &bench.policy);
        raised += change.raised.len();
        if bench.gpu.next_reading().is_some_and(|due| due <= now) {
            reads += 1;
            bench.gpu.apply(now, Observation::Reading(well()), &bench.policy);
        }
    }
    let health = bench.gpu.health_of(GpuPart::Whole);
    assert_eq!(health.reasons().len(), 64);
    assert!(raised <= 65 && reads <= 6, "{raised} raised, {reads} reads");
    let counted: u64 = bench.gpu.xids().values().sum::<u64>() + bench.gpu.other_xids();
    assert_eq!(counted, 10_000);
    assert_eq!(bench.gpu.xids().len(), 512);
    // Every affected device is Unhealthy all the same.
    let slice = GpuPart::MigDevice(Placement { gpu_instance: 6, compute_instance: 4 });
    assert!(!bench.gpu.health_of(slice).is_healthy());
}

#[test]
fn after_a_driver_reload_the_recovery_action_is_unknown_until_it_is_read() {
    let mut bench = Bench::after(well());
    bench.observe(xid(74));
    assert!(bench.is_healthy());
    bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
    bench.observe(xid(74));
    assert_eq!(bench.cause_names(), ["xid"]);
}

#[test]
fn failed_calls_that_are_not_in_a_row_are_tolerated() {
    let refused = Reading { probe: Some(Err(error(999))), ..well() };
    let mut bench = Bench::after(well());
    for _ in 0..10 {
        bench.poll(&refused, 2);
        bench.poll(&well(), 1);
        assert!(bench.is_healthy());
    }
}
