//! Observations of a GPU, and the changes of health that they cause.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::cause::{Cause, CauseKind};
use super::nvml_error::NvmlError;
use super::reading::Reading;
use super::reason::Degradation;
use super::scope::Scope;
use super::xid::Xid;

/// Something observed about one physical GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// An NVML event of type XidCriticalError.
    Xid {
        /// The number (`eventData`).
        xid: Xid,
        /// The part of the GPU that it affects.
        scope: Scope,
    },
    /// Another NVML event.
    Event(EventType),
    /// Whether events of the GPU are received.
    EventsReceived(bool),
    /// The answers to a poll. Only polls count towards recovery.
    Poll(Reading),
    /// The answers to a read between polls, due by `GpuHealth::next_reading`.
    Reading(Reading),
    /// A call about the GPU, outside of a reading, failed.
    Failed(NvmlError),
    /// A call about the GPU passed its deadline. Observed again for every further deadline that it
    /// passes.
    TimedOut {
        /// Name of the call.
        call: &'static str,
    },
    /// NVML lists the GPU and gave a handle for its UUID.
    Enumerated {
        /// The initialisation of NVML: any number that differs from the one before.
        session: u64,
    },
    /// NVML was initialised and does not list the GPU.
    NotEnumerated {
        /// The initialisation of NVML.
        session: u64,
        /// Whether every GPU that NVML counts was identified, so that this one is not among them.
        complete: bool,
    },
    /// There is evidence of a repair.
    Repaired(RepairEvidence),
    /// A person says that it is repaired: all of it, or the causes of one kind.
    Cleared(Option<CauseKind>),
    /// The GPU is quarantined, with the text of whoever did it; `None`: it is not.
    Quarantine(Option<Arc<str>>),
}

/// Why a failure may be over although no reading shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepairEvidence {
    /// The node booted.
    NewBoot,
    /// The driver was loaded again.
    DriverReload,
    /// A complete enumeration lacked the UUID, and one of another session lists it.
    Reenumerated,
    /// A reset of the GPU was seen.
    Reset,
    /// A person says that it is repaired.
    Manual,
}

/// What one observation changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthChange {
    /// Causes that are new, or new in their details.
    pub raised: Vec<Cause>,
    /// Causes that are no longer active.
    pub cleared: Vec<Cause>,
    /// What else to report.
    pub notices: Vec<HealthNotice>,
}

/// Something to report beside causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthNotice {
    /// An Xid that the policy does not ignore.
    Xid {
        /// The number (`eventData`).
        xid: Xid,
        /// The part of the GPU that it affects.
        scope: Scope,
        /// Xids of this number on the GPU since the plugin started, for a limit on reports in a
        /// storm.
        times: u64,
    },
    /// The GPU has answered for the first time, and is no longer Unhealthy for want of it.
    Answered,
    /// A degradation began.
    Degraded(Degradation),
    /// A degradation ended.
    Restored(Degradation),
}

impl HealthChange {
    /// Appends the next change of the same GPU.
    pub fn merge(&mut self, next: Self) {
        self.raised.extend(next.raised);
        self.cleared.extend(next.cleared);
        self.notices.extend(next.notices);
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raised.is_empty() && self.cleared.is_empty() && self.notices.is_empty()
    }
}

/// A type of NVML event (nvml.h, `nvmlEventType…`). Register only those that
/// `nvmlDeviceGetSupportedEventTypes` lists: with one that the GPU does not have, NVML registers
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// A single-bit ECC error.
    SingleBitEccError,
    /// A double-bit ECC error.
    DoubleBitEccError,
    /// An Xid.
    XidCriticalError,
    /// The MIG configuration changed.
    MigConfigChange,
    /// Many single-bit ECC errors.
    SingleBitEccErrorStorm,
    /// A part of DRAM was retired.
    DramRetirementEvent,
    /// A part of DRAM could not be retired.
    DramRetirementFailure,
    /// Poisoned data, not fatal.
    NonFatalPoisonError,
    /// Poisoned data, fatal.
    FatalPoisonError,
    /// The GPU is not available.
    GpuUnavailableError,
    /// The recovery action changed.
    GpuRecoveryAction,
}

impl EventType {
    /// Every event type.
    pub const ALL: [Self; 11] = [
        Self::SingleBitEccError,
        Self::DoubleBitEccError,
        Self::XidCriticalError,
        Self::MigConfigChange,
        Self::SingleBitEccErrorStorm,
        Self::DramRetirementEvent,
        Self::DramRetirementFailure,
        Self::NonFatalPoisonError,
        Self::FatalPoisonError,
        Self::GpuUnavailableError,
        Self::GpuRecoveryAction,
    ];

    /// The bit in the mask of `nvmlDeviceRegisterEvents`.
    #[must_use]
    pub fn bit(self) -> u64 {
        match self {
            Self::SingleBitEccError => 0x1,
            Self::DoubleBitEccError => 0x2,
            Self::XidCriticalError => 0x8,
            Self::MigConfigChange => 0x100,
            Self::SingleBitEccErrorStorm => 0x200,
            Self::DramRetirementEvent => 0x400,
            Self::DramRetirementFailure => 0x800,
            Self::NonFatalPoisonError => 0x1000,
            Self::FatalPoisonError => 0x2000,
            Self::GpuUnavailableError => 0x4000,
            Self::GpuRecoveryAction => 0x8000,
        }
    }

    /// The type with this bit, if it is known here.
    #[must_use]
    pub fn from_bit(bit: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.bit() == bit)
    }

    /// Whether the GPU is to be read at once. Corrected errors and a new MIG layout are no reason.
    #[must_use]
    pub(super) fn is_alarm(self) -> bool {
        !matches!(
            self,
            Self::SingleBitEccError | Self::SingleBitEccErrorStorm | Self::MigConfigChange
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::SingleBitEccError => "SingleBitEccError",
            Self::DoubleBitEccError => "DoubleBitEccError",
            Self::XidCriticalError => "XidCriticalError",
            Self::MigConfigChange => "MigConfigChange",
            Self::SingleBitEccErrorStorm => "SingleBitEccErrorStorm",
            Self::DramRetirementEvent => "DramRetirementEvent",
            Self::DramRetirementFailure => "DramRetirementFailure",
            Self::NonFatalPoisonError => "NonFatalPoisonError",
            Self::FatalPoisonError => "FatalPoisonError",
            Self::GpuUnavailableError => "GpuUnavailableError",
            Self::GpuRecoveryAction => "GpuRecoveryAction",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not the name of an NVML event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an NVML event type (such as XidCriticalError)")]
pub struct UnknownEventType(String);

impl FromStr for EventType {
    type Err = UnknownEventType;

    /// Reads NVML's name, with or without the prefix `EventType` that NVIDIA's configuration draft
    /// writes.
    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let name = text.strip_prefix("EventType").unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|event| event.name() == name)
            .ok_or_else(|| UnknownEventType(text.to_owned()))
    }
}
