//! The health verdict: what NVML and people say about each physical GPU goes in as observations
//! with a moment, and out comes whether its devices are Healthy, and if not, every cause, since
//! when, and what makes it go away.
//!
//! ```text
//!  Xid events, readings, return codes,            causes held, each with its own
//!  enumerations, quarantine, repairs              rule for going away
//!            │                                               │
//!            ▼                                               ▼
//!   HealthPolicy ─▶ GpuHealth (one per physical GPU) ──▶ Health of each device on it
//!            ▲                                               ▲
//!            └──────── NodeHealth: all GPUs, and the faults that hit every one of them
//! ```
//!
//! Three rules hold throughout. The verdict is the worst of its causes, and one cause never hides
//! or lifts another. What hardware did is over only when the driver says so several polls in a row,
//! or when there is evidence of a repair: a query that happens to work is neither. And memory is
//! bounded, whatever NVML sends.

mod active_cause;
mod cause;
mod clear_rule;
mod counters;
mod node;
mod nvml_error;
mod observation;
mod persisted;
mod policy;
mod read_schedule;
mod reading;
mod reason;
mod rules;
mod scope;
mod verdict;
mod xid;

#[cfg(test)]
mod tests;

pub use cause::{Cause, CauseKind, CauseSummary};
pub use counters::Transitions;
pub use node::{NodeHealth, NodeObservation};
pub use nvml_error::{NodeFault, NvmlError, ReturnCode};
pub use observation::{
    EventType, HealthChange, HealthNotice, Observation, RepairEvidence, UnknownEventType,
};
pub use persisted::{Epoch, PersistedCause, PersistedHealth};
pub use policy::HealthPolicy;
pub use reading::{Fabric, FabricFault, FabricState, Reading, RecoveryAction, RemappedRows};
pub use reason::{Degradation, Health, Moment, Reason, Reasons};
pub use rules::{
    CriticalXids, HealthRules, Overrides, PolicyFinding, RelapseLimit, Severity, Thresholds,
    UnknownXidAction, XidAction, XidList,
};
pub use scope::{GpuPart, Scope};
pub use verdict::GpuHealth;
pub use xid::{Xid, XidClass};
