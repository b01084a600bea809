//! Each cause appears with its reason and goes away by its own rule.

use super::*;

#[test]
fn a_fatal_xid_is_unhealthy_at_once_and_over_after_two_clean_polls() {
    let mut bench = Bench::after(well());
    let change = bench.observe(xid(48));
    assert_eq!(change.raised, [xid_cause(48)]);
    bench.poll(&well(), 1);
    assert!(!bench.is_healthy());
    bench.poll(&well(), 1);
    assert!(bench.is_healthy());
}

#[test]
fn without_the_recovery_action_only_evidence_of_repair_ends_a_fatal_xid() {
    for evidence in EVIDENCE {
        let mut bench = Bench::after(well_without_field());
        bench.observe(xid(48));
        bench.poll(&well_without_field(), 1000);
        assert!(!bench.is_healthy(), "a query that works proves nothing");
        bench.observe(Observation::Repaired(evidence));
        assert!(!bench.is_healthy());
        bench.poll(&well_without_field(), 2);
        assert!(bench.is_healthy(), "{evidence:?}");
    }
}

#[test]
fn without_the_recovery_action_a_configured_quiet_time_ends_an_xid() {
    let policy = thresholds(|t| t.quiet_period = Some(Duration::from_secs(60)));
    let mut bench = Bench::with(policy, well_without_field());
    bench.observe(xid(48));
    bench.poll(&well_without_field(), 6);
    assert!(!bench.is_healthy());
    bench.poll(&well_without_field(), 1);
    assert!(bench.is_healthy());
}

#[test]
fn a_sticky_xid_ends_by_a_boot_or_a_manual_repair_and_by_nothing_else() {
    for number in [54, 151] {
        for (evidence, ends) in EVIDENCE.into_iter().zip([true, false, false, false, true]) {
            let mut bench = Bench::after(well());
            bench.observe(xid(number));
            bench.poll(&well(), 100);
            assert!(!bench.is_healthy());
            bench.observe(Observation::Repaired(evidence));
            bench.poll(&well(), 2);
            assert_eq!(bench.is_healthy(), ends, "Xid {number}, {evidence:?}");
        }
    }
}

#[test]
fn a_gpu_off_the_bus_is_back_when_a_new_nvml_lists_it_and_the_probe_passes() {
    for lost in [xid(79), Observation::Failed(error(15))] {
        for first in [well(), well_without_field()] {
            let mut bench = Bench::after(first.clone());
            assert!(!bench.gpu.is_missing());
            bench.observe(lost.clone());
            assert!(bench.gpu.is_missing());
            bench.poll(&first, 10);
            bench.observe(Observation::Enumerated { session: 1 });
            bench.poll(&first, 10);
            assert!(!bench.is_healthy(), "the NVML that lost it knows nothing new");
            for evidence in EVIDENCE.into_iter().filter(|by| *by != RepairEvidence::Manual) {
                bench.observe(Observation::Repaired(evidence));
            }
            bench.poll(&first, 10);
            assert!(!bench.is_healthy(), "no repair brings a missing GPU back");
            bench.observe(Observation::Enumerated { session: 2 });
            assert!(!bench.gpu.is_missing());
            bench.poll(&Reading { probe: Some(Err(error(15))), ..first.clone() }, 1);
            assert!(bench.gpu.is_missing(), "it is lost again");
            bench.observe(Observation::Enumerated { session: 3 });
            bench.poll(&first, 2);
            assert_eq!(bench.cause_names(), Vec::<&str>::new());
        }
    }
}

#[test]
fn a_gpu_off_the_bus_that_does_not_return_stays_unhealthy() {
    let mut bench = Bench::after(well());
    bench.observe(xid(79));
    for _ in 0..50 {
        bench.now = bench.now.after(Duration::from_secs(10));
        bench.observe(Observation::NotEnumerated { session: 1, complete: true });
    }
    assert_eq!(bench.cause_names(), ["not_enumerated", "xid"]);
}

#[test]
fn a_gpu_that_is_listed_no_more_is_back_when_it_is_listed() {
    let mut bench = Bench::after(well());
    bench.observe(Observation::NotEnumerated { session: 1, complete: true });
    assert_eq!(bench.cause_names(), ["not_enumerated"]);
    bench.observe(Observation::Enumerated { session: 1 });
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn gone_and_back_repairs_a_fatal_xid_on_an_old_driver() {
    let mut bench = Bench::after(well_without_field());
    bench.observe(xid(48));
    bench.observe(Observation::NotEnumerated { session: 1, complete: true });
    bench.observe(Observation::Enumerated { session: 2 });
    bench.poll(&well_without_field(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn a_recovery_action_holds_until_the_driver_asks_for_nothing() {
    for value in [1, 2, 3, 4, 6, 7, 8, 1000] {
        let mut bench = Bench::after(well());
        bench.poll(&asks_for(RecoveryAction::from(value)), 3);
        assert_eq!(bench.cause_names(), ["recovery_action"], "{value}");
        assert_eq!(bench.gpu.recovery_action(), Some(RecoveryAction::from(value)));
        bench.poll(&well(), 1);
        assert!(!bench.is_healthy(), "{value}");
        bench.poll(&well(), 1);
        assert!(bench.is_healthy(), "{value}");
    }
}

#[test]
fn a_recovery_of_the_imex_domain_leaves_the_gpu_as_it_is() {
    let mut bench = Bench::after(well());
    bench.observe(Observation::Poll(asks_for(RecoveryAction::RecoverImexDomain)));
    assert!(bench.is_healthy());
    assert!(bench.gpu.degradations().contains_key(&Degradation::ImexDomain));
    let change = bench.observe(Observation::Poll(well()));
    assert_eq!(change.notices, [HealthNotice::Restored(Degradation::ImexDomain)]);
}

#[test]
fn a_drain_of_peer_to_peer_work_may_be_tolerated() {
    let policy = thresholds(|t| t.drain_p2p = Severity::Degraded);
    let mut bench = Bench::with(policy, asks_for(RecoveryAction::DrainP2p));
    assert!(bench.is_healthy());
    assert!(bench.gpu.degradations().contains_key(&Degradation::DrainP2p));
    bench.observe(xid(48));
    bench.poll(&asks_for(RecoveryAction::DrainP2p), 2);
    assert!(bench.is_healthy(), "and does not keep a GPU from recovering");
}

#[test]
fn contained_and_pending_memory_errors_keep_the_gpu() {
    let pending = Reading {
        remapped_rows: Some(Ok(RemappedRows { pending: true, failure: false })),
        ..well()
    };
    let mut bench = Bench::after(well());
    bench.observe(xid(94));
    bench.observe(xid(63));
    bench.observe(Observation::Reading(pending.clone()));
    bench.poll(&pending, 3);
    assert!(bench.is_healthy());
    let degradations: Vec<_> = bench.gpu.degradations().keys().copied().collect();
    assert_eq!(degradations, [Degradation::RowRemapPending, Degradation::ContainedError]);
    bench.observe(Observation::Repaired(RepairEvidence::DriverReload));
    bench.poll(&well(), 1);
    assert!(bench.gpu.degradations().is_empty());
}

#[test]
fn a_pending_row_remap_makes_unhealthy_where_it_is_configured() {
    let pending = Reading {
        remapped_rows: Some(Ok(RemappedRows { pending: true, failure: false })),
        ..well()
    };
    let policy = thresholds(|t| t.row_remap_pending = Severity::Unhealthy);
    let mut bench = Bench::with(policy, pending);
    assert_eq!(bench.cause_names(), ["row_remap_pending"]);
    bench.poll(&Reading { remapped_rows: None, ..well() }, 5);
    assert!(!bench.is_healthy(), "rows that were not read prove nothing");
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
}

#[test]
fn a_row_remap_failure_and_a_corrupt_inforom_end_by_evidence_of_repair() {
    let failure = Reading {
        remapped_rows: Some(Ok(RemappedRows { pending: false, failure: true })),
        ..well()
    };
    for broken in [Observation::Poll(failure), Observation::Failed(error(14))] {
        let mut bench = Bench::after(well());
        bench.observe(broken.clone());
        bench.poll(&well(), 100);
        assert!(!bench.is_healthy());
        bench.observe(Observation::Repaired(RepairEvidence::Manual));
        bench.observe(broken);
        bench.poll(&well(), 10);
        assert!(!bench.is_healthy(), "the GPU contradicts the person");
        bench.observe(Observation::Repaired(RepairEvidence::NewBoot));
        bench.poll(&well(), 2);
        assert!(bench.is_healthy());
    }
}

#[test]
fn reset_required_holds_until_the_driver_asks_for_nothing() {
    let mut bench = Bench::after(well());
    bench.observe(Observation::Failed(error(16)));
    assert_eq!(bench.cause_names(), ["reset_required"]);
    bench.poll(&well(), 2);
    assert!(bench.is_healthy());
    let mut bench = Bench::after(well_without_field());
    bench.observe(Observation::Failed(error(16)));
    bench.poll(&well_without_field(), 100);
    assert!(!bench.is_healthy());
}

#[test]
fn the_fabric_recovers_by_itself() {
    let joining = Reading {
        fabric: Some(Ok(Fabric {
            state: FabricState::InProgress,
            status: ReturnCode(0),
            health_mask: 0,
        })),
        ..well_without_field()
    };
    let mut bench = Bench::after(joining.clone());
    assert_eq!(bench.cause_names(), ["fabric"]);
    bench.poll(&Reading { fabric: None, ..well() }, 5);
    assert!(!bench.is_healthy());
    bench.poll(&well_without_field(), 2);
    assert!(bench.is_healthy());
    let bearable = thresholds(|t| t.fabric = Severity::Degraded);
    let bench = Bench::with(bearable, joining);
    assert!(bench.is_healthy());
    assert!(bench.gpu.degradations().contains_key(&Degradation::Fabric));
}

#[test]
fn ending_a_quarantine_clears_that_and_nothing_else() {
    let mut bench = Bench::after(well_without_field());
    bench.observe(Observation::Quarantine(Some("fan".into())));
    bench.observe(xid(48));
    for evidence in [RepairEvidence::Reenumerated, RepairEvidence::NewBoot] {
        bench.observe(Observation::Repaired(evidence));
    }
    bench.poll(&well_without_field(), 2);
    assert_eq!(bench.cause_names(), ["external"]);
    bench.observe(xid(48));
    let change = bench.observe(Observation::Quarantine(None));
    assert_eq!(change.cleared, [Cause::Quarantined("fan".into())]);
    assert_eq!(bench.cause_names(), ["xid"]);
    assert!(bench.observe(Observation::Quarantine(None)).is_empty());
}

#[test]
fn a_new_text_of_a_quarantine_is_a_change() {
    let mut bench = Bench::after(well());
    bench.observe(Observation::Quarantine(Some("fan".into())));
    assert!(bench.observe(Observation::Quarantine(Some("fan".into()))).is_empty());
    let change = bench.observe(Observation::Quarantine(Some("fan and dust".into())));
    assert_eq!(change.raised, [Cause::Quarantined("fan and dust".into())]);
}
