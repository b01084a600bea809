//! The event types of NVML that bear on health.

use std::fmt;
use std::str::FromStr;

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
    /// All of them.
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

    /// Its bit in the mask that NVML takes.
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

    /// The type with this bit.
    #[must_use]
    pub fn from_bit(bit: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.bit() == bit)
    }

    /// Whether it is a reason to ask the GPU how it is. Corrected errors and a new MIG layout are
    /// not.
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
