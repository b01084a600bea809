//! Health of GPUs: observations with their time go in, and out comes whether each device is
//! Healthy, and if not, every cause, since when, and what to do about it.
//!
//! ```text
//!  Xid events, readings, return codes,            active causes, each cleared
//!  enumerations, quarantine, repairs              by a rule of its own
//!            │                                               │
//!            ▼                                               ▼
//!   HealthPolicy ─▶ GpuHealth (one per physical GPU) ──▶ Health of each device on it
//!            ▲                                               ▲
//!            └──────── NodeHealth: all GPUs, and the faults that affect all of them
//! ```
//!
//! Invariants: a device is Unhealthy as long as one cause is active, and no cause hides or clears
//! another; a failure of the hardware clears only by several clean polls in a row or by evidence of
//! repair, never because a single query succeeds; memory is bounded, whatever NVML sends.

mod active_cause;
mod cause;
mod causes;
mod clear_rule;
mod counters;
mod fields;
mod former_ages;
mod node;
mod nvml_error;
mod observation;
mod persisted;
mod policy;
mod presence;
mod read_schedule;
mod reading;
mod reason;
mod repair;
mod rules;
mod scope;
mod verdict;
mod xid;
mod xid_effect;

#[cfg(test)]
mod tests;

pub use cause::{Cause, CauseKind, CauseSummary};
pub use counters::Transitions;
pub use node::{NodeHealth, NodeObservation};
pub use nvml_error::{NodeFault, NvmlError, ReturnCode};
pub use observation::{
    EventType, HealthChange, HealthNotice, Observation, RepairEvidence, UnknownEventType,
};
pub use persisted::{Epoch, PersistedAges, PersistedCause, PersistedHealth};
pub use policy::HealthPolicy;
pub use reading::{Fabric, FabricFault, FabricState, Reading, RecoveryAction, RemappedRows};
pub use reason::{Degradation, Health, Moment, Reason, Reasons, Since};
pub use repair::{Clearable, ResetSigns, reset_evidence};
pub use rules::{
    CriticalXids, HealthRules, Overrides, PolicyFinding, RelapseLimit, Severity, Thresholds,
    UnknownXidAction, XidAction, XidList,
};
pub use scope::{GpuPart, Scope};
pub use verdict::GpuHealth;
pub use xid::{NvidiaAction, Xid, XidClass};
pub use xid_effect::XidEffect;
