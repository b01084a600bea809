//! What goes into a verdict, and what comes out of it as changes.

use std::sync::Arc;

use super::cause::Cause;
use super::code::NvmlError;
use super::degradation::Degradation;
use super::event::EventType;
use super::fabric::Fabric;
use super::recovery::RecoveryAction;
use super::scope::Scope;
use super::xid::Xid;

/// Something seen or heard about one physical GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// An NVML event of type XidCriticalError.
    Xid {
        /// Its number.
        xid: Xid,
        /// What part of the GPU it is in.
        scope: Scope,
    },
    /// Another NVML event.
    Event(EventType),
    /// The answers of a poll. Only polls count towards recovery.
    Poll(Reading),
    /// The answers of a read between polls, asked for by `GpuHealth::next_reading`.
    Reading(Reading),
    /// A call about the GPU, outside of a reading, failed.
    Failed(NvmlError),
    /// A call about the GPU is past its deadline. Said again for every further deadline that
    /// passes.
    Missed {
        /// The call.
        call: &'static str,
    },
    /// NVML lists the GPU and gave a handle for its UUID.
    Enumerated {
        /// Which initialisation of NVML this was: any number that differs from the one before.
        session: u64,
    },
    /// NVML was initialised and does not list the GPU.
    NotEnumerated,
    /// There is evidence of a repair.
    Repaired(Evidence),
    /// What is said from outside; `None`: nothing any more.
    Quarantine(Option<Arc<str>>),
}

/// The answers of a GPU to one round of questions. `None`: not asked. The moment that goes with it
/// is the one at which the asking began, so that an answer is never taken for newer than it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Field value 230 of `nvmlDeviceGetFieldValues`; each value has its own return code.
    pub recovery_action: Option<Result<RecoveryAction, NvmlError>>,
    /// `nvmlDeviceGetRemappedRows`, or field values 142 to 145; not asked also where the GPU has
    /// none.
    pub remapped_rows: Option<RemappedRows>,
    /// `nvmlDeviceGetGpuFabricInfoV`; not asked also where the GPU has none.
    pub fabric: Option<Fabric>,
    /// Whether the GPU can be used: a handle by its UUID, and `nvmlDeviceGetMemoryInfo`.
    pub probe: Option<Result<(), NvmlError>>,
}

/// Memory rows that the GPU replaced or wants to replace (`nvmlDeviceGetRemappedRows`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemappedRows {
    /// isPending: a row waits for a reset.
    pub pending: bool,
    /// failureOccurred: a row could not be replaced.
    pub failure: bool,
}

/// Why a fault may be believed to be over although no query can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// The node booted.
    NewBoot,
    /// The driver was loaded anew.
    DriverReload,
    /// NVML did not list the UUID, and now does.
    GoneAndBack,
    /// A person says so.
    Operator,
}

/// What one observation changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Causes that are new, or new in their details.
    pub raised: Vec<Cause>,
    /// Causes that are over.
    pub lifted: Vec<Cause>,
    /// What people should be told beside the causes.
    pub notices: Vec<Notice>,
}

/// Something that people should be told and that changes no health by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// An Xid that the policy does not ignore.
    Xid {
        /// Its number.
        xid: Xid,
        /// What part of the GPU it is in.
        scope: Scope,
        /// How many of this number the GPU has had since the plugin started: in a storm, tell a few
        /// of them.
        times: u64,
    },
    /// The GPU works, but not as it should.
    Degraded(Degradation),
    /// It does so no more.
    Restored(Degradation),
}

impl Change {
    /// Adds what came right after it.
    pub fn merge(&mut self, next: Self) {
        self.raised.extend(next.raised);
        self.lifted.extend(next.lifted);
        self.notices.extend(next.notices);
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.lifted.is_empty() && self.notices.is_empty()
    }
}
