//! Repairs: what a person's word would take back, and whether a GPU was reset while NVML was
//! released.

use super::cause::{Cause, CauseKind};
use super::node::NodeHealth;
use super::observation::RepairEvidence;
use super::reading::RecoveryAction;
use super::reason::Degradation;
use super::scope::GpuPart;
use super::verdict::GpuHealth;
use crate::names::Uuid;

/// What [`NodeObservation::Clear`](super::NodeObservation::Clear) takes back of one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clearable {
    /// The causes that are over once clean polls confirm it, or of which nothing is known any more
    /// if the GPU is forgotten.
    pub causes: Vec<Cause>,
    /// What ends at once.
    pub degradations: Vec<Degradation>,
    /// Whether the GPU is forgotten, since NVML does not list it.
    pub forgets: bool,
}

impl Clearable {
    /// Whether nothing is taken back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.degradations.is_empty() && !self.forgets
    }
}

impl NodeHealth {
    /// What a person's word about a GPU would take back: of all its causes, or of those of one
    /// kind.
    #[must_use]
    pub fn clearable(&self, gpu: &Uuid, kind: Option<CauseKind>) -> Clearable {
        let Some(health) = self.gpus().get(gpu) else { return Clearable::default() };
        if health.is_forgotten_by(kind) {
            let causes = health.reasons(GpuPart::Whole).map(|reason| reason.cause).collect();
            return Clearable { causes, degradations: Vec::new(), forgets: true };
        }
        Clearable {
            causes: health.repairable(RepairEvidence::Manual, kind).cloned().collect(),
            degradations: health.contained_degradation(kind).into_iter().collect(),
            forgets: false,
        }
    }
}

impl GpuHealth {
    /// Whether a person's word has the GPU forgotten.
    pub(super) fn is_forgotten_by(&self, kind: Option<CauseKind>) -> bool {
        !self.is_listed() && matches!(kind, None | Some(CauseKind::NotEnumerated))
    }

    /// Whether a reset of the GPU would be evidence for anything that is wrong with it.
    #[must_use]
    pub fn awaits_reset(&self) -> bool {
        self.needs_reset() || self.repairable(RepairEvidence::Reset, None).next().is_some()
    }
}

/// What a reset of a GPU changes, as it is read before NVML is released and once it is taken up
/// again. What was not read, or is not supported, is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResetSigns {
    /// The recovery action.
    pub recovery_action: Option<RecoveryAction>,
    /// `nvmlDeviceGetTotalEnergyConsumption`, in mJ. NVML counts it "since the driver was last
    /// reloaded". Without persistence mode the driver may also restart it when the last process
    /// closes the GPU, which our release is: the caller then leaves it `None`.
    pub energy: Option<u64>,
}

/// Whether a GPU that awaited a reset ([`GpuHealth::awaits_reset`]) has had one while NVML was
/// released: the driver asked for it and asks no more, or the energy counter has restarted.
#[must_use]
pub fn reset_evidence(before: ResetSigns, after: ResetSigns) -> Option<RepairEvidence> {
    let asks = |action: Option<RecoveryAction>| action.map(RecoveryAction::requires_reset);
    let was_reset = match (asks(before.recovery_action), asks(after.recovery_action)) {
        (_, Some(true)) => false,
        (Some(true), Some(false)) => true,
        _ => before.energy.zip(after.energy).is_some_and(|(before, after)| after < before),
    };
    was_reset.then_some(RepairEvidence::Reset)
}
