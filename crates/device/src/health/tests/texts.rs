//! Names, values and texts.

use std::collections::BTreeSet;

use super::*;

#[test]
fn recovery_actions_read_back_and_an_unknown_one_shows_its_value() {
    for value in 0..20 {
        assert_eq!(RecoveryAction::from(value).value(), value);
    }
    let text = Cause::RecoveryAction(RecoveryAction::from(11)).to_string();
    assert!(text.contains("recovery action 11"), "{text}");
}

#[test]
fn event_types_have_one_bit_each_and_read_both_spellings() {
    let mut seen = 0;
    for event in EventType::ALL {
        assert_eq!(event.bit().count_ones(), 1);
        assert_eq!(seen & event.bit(), 0);
        seen |= event.bit();
        assert_eq!(EventType::from_bit(event.bit()), Some(event));
        assert_eq!(event.to_string().parse(), Ok(event));
        assert_eq!(format!("EventType{event}").parse(), Ok(event));
    }
    assert!("EventTypeEventTypeXidCriticalError".parse::<EventType>().is_err());
    assert!("xid".parse::<EventType>().is_err());
}

#[test]
fn actions_read_back() {
    for action in
        [XidAction::Ignore, XidAction::Event, XidAction::RecoveryAction, XidAction::Unhealthy]
    {
        assert_eq!(action.to_string().parse(), Ok(action));
    }
    assert!("fatal".parse::<XidAction>().unwrap_err().to_string().contains("\"fatal\""));
}

#[test]
fn kinds_are_ordered_and_have_different_words() {
    assert!(CauseKind::ALL.is_sorted());
    assert_eq!(
        CauseKind::ALL.map(CauseKind::as_str).into_iter().collect::<BTreeSet<_>>().len(),
        CauseKind::ALL.len()
    );
    assert_eq!(
        Degradation::ALL.map(Degradation::as_str).into_iter().collect::<BTreeSet<_>>().len(),
        7
    );
}

fn one_of_each_cause() -> Vec<Cause> {
    let placement = Placement { gpu_instance: 3, compute_instance: 1 };
    vec![
        Cause::Quarantined("fan broken, ticket 12\n".into()),
        Cause::NotAnswered,
        Cause::Fabric(FabricFault::NotJoined(FabricState::InProgress)),
        Cause::RowRemapPending,
        Cause::NvmlError(error(999)),
        Cause::NvmlUnresponsive { call: "nvmlDeviceGetMemoryInfo" },
        Cause::Node(NodeFault::DriverNotLoaded),
        Cause::Xid { xid: Xid(48), scope: Scope::ComputeInstance(placement), configured: true },
        Cause::ResetRequired,
        Cause::RecoveryAction(RecoveryAction::NodeReboot),
        Cause::Relapses(3),
        Cause::InfoRomCorrupted,
        Cause::RowRemapFailure,
        Cause::NotEnumerated,
        Cause::Lost,
    ]
}

#[test]
fn every_cause_is_one_line_for_people() {
    let causes = one_of_each_cause();
    assert_eq!(causes.iter().map(Cause::kind).collect::<Vec<_>>(), CauseKind::ALL);
    for cause in causes {
        let text = cause.to_string();
        assert!(text.len() > 15 && !text.contains('\n'), "{text:?}");
        let summary = cause.summary().to_string();
        assert!(summary.len() > 15 && text.starts_with(&summary), "{summary:?}");
    }
    let hangs = NodeFault::Unresponsive { call: "nvmlInit_v2" };
    for fault in [NodeFault::LibraryMismatch, NodeFault::LibraryNotFound, NodeFault::Unknown, hangs]
    {
        let remedy = fault.remedy().unwrap_or_default();
        assert!(remedy.len() > 15 && fault.to_string().ends_with(remedy), "{fault}");
    }
    let xid = xid_cause(79).to_string();
    assert!(xid.starts_with("Xid 79 (the GPU has fallen off the bus) on the whole GPU; "), "{xid}");
}

#[test]
fn a_quarantine_says_its_reason_or_how_it_ends() {
    let text = |reason: &str| Cause::Quarantined(reason.into()).to_string();
    let without = "quarantined from outside, without a reason given";
    assert_eq!(text(" \n"), format!("{without}; end the quarantine to use the GPU"));
    assert_eq!(text(" fan\n"), "quarantined from outside: fan");
}

#[test]
fn the_scope_of_an_event_is_as_far_as_nvml_could_trace_it() {
    const ANY: u32 = u32::MAX;
    let placement = Placement { gpu_instance: 3, compute_instance: 1 };
    assert_eq!(Scope::from_event(ANY, ANY), Scope::Gpu);
    assert_eq!(Scope::from_event(ANY, 1), Scope::Gpu);
    assert_eq!(Scope::from_event(3, ANY), Scope::GpuInstance(3));
    assert_eq!(Scope::from_event(3, 1), Scope::ComputeInstance(placement));
}

#[test]
fn a_scope_covers_the_devices_in_it_and_the_gpu_offered_whole() {
    let slice = |gpu_instance, compute_instance| {
        GpuPart::MigDevice(Placement { gpu_instance, compute_instance })
    };
    let compute = Scope::ComputeInstance(Placement { gpu_instance: 3, compute_instance: 1 });
    for (scope, device, covered) in [
        (Scope::Gpu, GpuPart::Whole, true),
        (Scope::Gpu, slice(3, 1), true),
        (Scope::GpuInstance(3), GpuPart::Whole, true),
        (Scope::GpuInstance(3), slice(3, 0), true),
        (Scope::GpuInstance(3), slice(4, 0), false),
        (compute, GpuPart::Whole, true),
        (compute, slice(3, 1), true),
        (compute, slice(3, 0), false),
        (compute, slice(4, 1), false),
    ] {
        assert_eq!(scope.covers(device), covered, "{scope:?} {device:?}");
    }
}

#[test]
fn the_fabric_is_faulty_only_where_there_is_one() {
    let fabric =
        |state, status, health_mask| Fabric { state, status: ReturnCode(status), health_mask };
    let completed = FabricState::Completed;
    // From the high bits to the low: the configuration, then conditions that are 1 (true) or 2
    // (false).
    let mask = |configuration: u32, conditions: [u32; 4]| {
        conditions.iter().fold(configuration, |mask, c| mask << 2 | c)
    };
    for (fabric, fault) in [
        (fabric(FabricState::NotSupported, 999, u32::MAX), None),
        (
            fabric(FabricState::NotStarted, 0, 0),
            Some(FabricFault::NotJoined(FabricState::NotStarted)),
        ),
        (
            fabric(FabricState::InProgress, 0, 0),
            Some(FabricFault::NotJoined(FabricState::InProgress)),
        ),
        (
            fabric(FabricState::Unknown(9), 0, 0),
            Some(FabricFault::NotJoined(FabricState::Unknown(9))),
        ),
        (fabric(completed, 0, 0), None),
        (fabric(completed, 999, 0), Some(FabricFault::Failed(ReturnCode(999)))),
        (fabric(completed, 0, mask(1, [2, 2, 2, 2])), None),
        (fabric(completed, 0, mask(1, [2, 2, 2, 1])), None),
        (fabric(completed, 0, mask(1, [2, 2, 1, 2])), Some(FabricFault::RouteRecovery)),
        (fabric(completed, 0, mask(1, [2, 1, 2, 2])), Some(FabricFault::RouteUnhealthy)),
        (fabric(completed, 0, mask(1, [1, 2, 2, 2])), Some(FabricFault::AccessTimeoutRecovery)),
        (fabric(completed, 0, mask(4, [2, 2, 2, 2])), Some(FabricFault::Misconfigured(4))),
    ] {
        assert_eq!(fabric.fault(), fault, "{fabric:?}");
    }
    assert!(fabric(completed, 0, 1).has_degraded_bandwidth());
    assert!(!fabric(completed, 0, 2).has_degraded_bandwidth());
}

#[test]
fn each_return_code_has_a_meaning_and_a_name_of_its_own() {
    let unknown = ReturnCode(5);
    let codes = (0..=4).chain([6]).chain(8..=20).chain([27, 28, 999]).map(ReturnCode);
    let meanings: BTreeSet<_> = codes.clone().chain([unknown]).map(ReturnCode::meaning).collect();
    let names: BTreeSet<_> = codes.clone().chain([unknown]).map(ReturnCode::name).collect();
    let number = codes.count() + 1;
    assert_eq!((meanings.len(), names.len()), (number, number), "{meanings:?} {names:?}");
    assert_eq!(ReturnCode(15).to_string(), "the GPU is lost (NVML return code 15)");
    assert_eq!((ReturnCode(15).name(), unknown.name()), ("GPU_IS_LOST".into(), "5".into()));
}

#[test]
fn node_faults_differ_by_return_code() {
    for (code, word) in [
        (9, "driver_not_loaded"),
        (18, "library_mismatch"),
        (12, "library_not_found"),
        (999, "nvml_unknown"),
        (4, "nvml_unusable"),
    ] {
        assert_eq!(NodeFault::from_error(error(code)).as_str(), word);
    }
}

#[test]
fn health_displays_every_reason_the_worst_first() {
    let mut bench = Bench::after(well());
    assert_eq!(bench.gpu.health_of(GpuPart::Whole).to_string(), "Healthy");
    bench.observe(Observation::Quarantine(Some("fan".into())));
    bench.observe(Observation::Failed(error(15)));
    let text = bench.gpu.health_of(GpuPart::Whole).to_string();
    assert!(text.starts_with("Unhealthy: the GPU is lost"), "{text}");
    assert!(text.ends_with(" | quarantined from outside: fan"), "{text}");
}
