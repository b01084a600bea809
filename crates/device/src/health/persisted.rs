//! Causes that outlive the process because no source would state them again, and the age of those
//! that are stated again, with the boot and the load of the driver that they belong to: plain
//! values, written and read by the state file.

use std::collections::BTreeMap;

use super::cause::{Cause, CauseKind};
use super::clear_rule::ClearRule;
use super::observation::RepairEvidence;
use super::reading::RecoveryAction;
use super::scope::Scope;
use super::xid::Xid;
use crate::gpu::Placement;
use crate::names::Uuid;

/// A boot of the node and a load of the driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epoch {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Any text that changes when the driver is loaded again; `None` if it is unknown or no driver
    /// is loaded.
    pub driver: Option<String>,
}

/// The causes to persist, by GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedHealth {
    /// The boot and the driver under which they were active.
    pub epoch: Epoch,
    /// The causes of each GPU that has any.
    pub gpus: BTreeMap<Uuid, Vec<PersistedCause>>,
    /// Since when what lasts and is stated again by its source does.
    pub ages: PersistedAges,
}

/// Since when what lasts does, in seconds since the boot: the quarantine, what readings state and
/// degradations of GPUs, and a fault of the node. Their sources state them again after a restart,
/// without their age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedAges {
    /// A fault of the node.
    pub fault: Option<u64>,
    /// By GPU, and by the word of a cause or a degradation.
    pub gpus: BTreeMap<Uuid, BTreeMap<String, u64>>,
}

/// One persisted cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedCause {
    /// `CauseKind::as_str`.
    pub kind: String,
    /// The number of the Xid, the value of the recovery action, or the number of relapses.
    pub number: Option<u32>,
    /// The GPU instance; `None`: the whole GPU.
    pub gpu_instance: Option<u32>,
    /// The compute instance; `None`: the whole GPU instance.
    pub compute_instance: Option<u32>,
    /// Whether it is an Xid that is fatal by configuration.
    pub configured: bool,
    /// Whether there was evidence of repair that clean polls had yet to confirm.
    pub repaired: bool,
    /// When it began, in seconds since the boot; `None`: not known.
    pub since_boot: Option<u64>,
}

impl Epoch {
    /// The evidence of repair in going from an earlier epoch to this one.
    pub(super) fn evidence_since(&self, earlier: &Self) -> Option<RepairEvidence> {
        if self.boot != earlier.boot {
            return Some(RepairEvidence::NewBoot);
        }
        match (&earlier.driver, &self.driver) {
            (Some(then), Some(now)) if then != now => Some(RepairEvidence::DriverReload),
            _ => None,
        }
    }
}

impl PersistedCause {
    pub(super) fn of(cause: &Cause, repaired: bool) -> Self {
        let number = match cause {
            Cause::Xid { xid, .. } => Some(xid.0),
            Cause::RecoveryAction(action) => Some(action.value()),
            Cause::Relapses(times) => Some(*times),
            _ => None,
        };
        let (gpu_instance, compute_instance) = match cause.scope() {
            Scope::Gpu => (None, None),
            Scope::GpuInstance(id) => (Some(id), None),
            Scope::ComputeInstance(placement) => {
                (Some(placement.gpu_instance), Some(placement.compute_instance))
            }
        };
        Self {
            kind: cause.kind().as_str().to_owned(),
            number,
            gpu_instance,
            compute_instance,
            configured: matches!(cause, Cause::Xid { configured: true, .. }),
            repaired,
            since_boot: None,
        }
    }

    /// Whether this version knows it and would persist it: another may be of a newer version.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.cause().is_some()
    }

    /// The cause, if this version knows it and would persist it.
    pub(super) fn cause(&self) -> Option<Cause> {
        let scope = match (self.gpu_instance, self.compute_instance) {
            (None, _) => Scope::Gpu,
            (Some(id), None) => Scope::GpuInstance(id),
            (Some(gpu_instance), Some(compute_instance)) => {
                Scope::ComputeInstance(Placement { gpu_instance, compute_instance })
            }
        };
        match CauseKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind)? {
            CauseKind::Xid => {
                self.number.map(|number| Cause::xid(Xid(number), scope, self.configured))
            }
            CauseKind::ResetRequired => Some(Cause::ResetRequired),
            CauseKind::RecoveryAction => {
                self.number.map(|value| Cause::RecoveryAction(RecoveryAction::from(value)))
            }
            CauseKind::Relapses => self.number.map(Cause::Relapses),
            CauseKind::InfoRomCorrupted => Some(Cause::InfoRomCorrupted),
            CauseKind::RowRemapFailure => Some(Cause::RowRemapFailure),
            CauseKind::NotEnumerated => Some(Cause::NotEnumerated),
            CauseKind::Lost => Some(Cause::Lost),
            CauseKind::Quarantined
            | CauseKind::NotAnswered
            | CauseKind::Fabric
            | CauseKind::RowRemapPending
            | CauseKind::NvmlError
            | CauseKind::NvmlUnresponsive
            | CauseKind::Node => None,
        }
    }
}

/// Whether a persisted cause is restored. After a new boot none is: the first readings find what is
/// still wrong. After a new load of the driver those are that it does not repair.
pub(super) fn outlives(cause: &Cause, evidence: Option<RepairEvidence>) -> bool {
    match evidence {
        None => true,
        Some(RepairEvidence::NewBoot) => false,
        Some(evidence) => !ClearRule::of(cause).accepts(evidence),
    }
}
