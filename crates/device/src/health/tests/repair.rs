//! What a person's word would take back is what it does take back; and what shows a reset.

use super::*;
use crate::names::Uuid;

fn uuid() -> Uuid {
    "GPU-a".parse().unwrap()
}

fn enumeration(session: u64, gpus: &[&str]) -> NodeObservation {
    let gpus = gpus.iter().map(|gpu| gpu.parse().unwrap()).collect();
    NodeObservation::Enumeration { session, gpus, complete: true }
}

/// A GPU that went through these, after it was well.
fn after(observations: &[Observation]) -> NodeHealth {
    let mut node = NodeHealth::default();
    node.apply(ms(0), enumeration(1, &["GPU-a"]));
    let first = Observation::Poll(well_without_field());
    for (n, observation) in (1..).zip([&first].into_iter().chain(observations)) {
        node.apply(ms(n), NodeObservation::Gpu(uuid(), observation.clone()));
    }
    node
}

fn clearable(node: &NodeHealth, kind: Option<CauseKind>) -> Vec<&'static str> {
    node.clearable(&uuid(), kind).causes.iter().map(Cause::as_str).collect()
}

#[test]
fn what_can_be_cleared_is_what_is_latched() {
    let node = after(&[xid(48), Observation::Failed(error(14)), xid(94)]);
    assert_eq!(clearable(&node, None), ["xid", "inforom"]);
    assert_eq!(clearable(&node, Some(CauseKind::Xid)), ["xid"]);
    assert!(node.clearable(&uuid(), Some(CauseKind::Lost)).is_empty());
    let all = node.clearable(&uuid(), None);
    assert!(!all.is_empty());
    assert_eq!((all.degradations, all.forgets), (vec![Degradation::ContainedError], false));
    assert!(node.clearable(&"GPU-b".parse().unwrap(), None).is_empty());
}

#[test]
fn what_a_reading_states_cannot_be_cleared() {
    let asking = Observation::Poll(asks_for(RecoveryAction::GpuReset));
    let quarantine = Observation::Quarantine(Some("fan".into()));
    let node = after(&[asking, quarantine]);
    assert!(!node.gpus()[&uuid()].health_of(GpuPart::Whole).is_healthy());
    assert!(node.clearable(&uuid(), None).is_empty());
}

#[test]
fn of_a_gpu_that_is_not_listed_everything_is_forgotten() {
    let mut node = after(&[xid(48)]);
    node.apply(ms(9), enumeration(2, &[]));
    let all = node.clearable(&uuid(), None);
    assert_eq!((all.causes.len(), all.forgets), (2, true));
    assert!(!node.clearable(&uuid(), Some(CauseKind::Xid)).forgets);
}

#[test]
fn a_gpu_awaits_a_reset_as_long_as_one_would_be_evidence() {
    for (observation, awaits) in [
        (xid(48), true),
        (Observation::Failed(error(16)), true),
        (Observation::Poll(asks_for(RecoveryAction::GpuReset)), true),
        (Observation::Poll(asks_for(RecoveryAction::DrainP2p)), false),
        (xid(54), false),
        (xid(94), false),
    ] {
        let node = after(std::slice::from_ref(&observation));
        assert_eq!(node.gpus()[&uuid()].awaits_reset(), awaits, "{observation:?}");
    }
}

#[test]
fn a_reset_shows_by_the_recovery_action_or_by_the_energy_counter() {
    use RecoveryAction::{GpuReset, NodeReboot, None as Nothing};
    let (asks, reboot, nothing, unread) = (Some(GpuReset), Some(NodeReboot), Some(Nothing), None);
    for (actions, energies, shows) in [
        // The driver asked for a reset, and asks no more.
        ((asks, nothing), (None, None), true),
        ((asks, nothing), (Some(1), Some(9)), true),
        ((asks, reboot), (None, None), true),
        // It still asks, whatever the counter says.
        ((asks, asks), (Some(9), Some(1)), false),
        ((nothing, asks), (Some(9), Some(1)), false),
        // It never asked: only the counter can tell.
        ((nothing, nothing), (Some(1), Some(9)), false),
        ((nothing, nothing), (Some(9), Some(1)), true),
        ((unread, unread), (Some(9), Some(1)), true),
        ((unread, unread), (Some(9), Some(9)), false),
        ((unread, unread), (Some(9), None), false),
        ((unread, unread), (None, Some(9)), false),
        ((unread, unread), (None, None), false),
        ((asks, unread), (None, None), false),
        ((asks, unread), (Some(9), Some(1)), true),
    ] {
        let before = ResetSigns { recovery_action: actions.0, energy: energies.0 };
        let after = ResetSigns { recovery_action: actions.1, energy: energies.1 };
        let evidence = reset_evidence(before, after);
        assert_eq!(evidence.is_some(), shows, "{before:?} {after:?}");
    }
}
