//! Enumerations that are written as words.

use device::allocation::{SharedPolicy, WholeGpuPolicy};
use device::health::{EventType, Severity, XidAction};
use device::injection::{DeviceIdStrategy, DeviceListStrategy};
use device::layout::MigStrategy;

use crate::cdi::HookMode;
use crate::observe::log::LogFormat;

/// A set of words, each with its meaning.
pub trait Choice: Copy + Eq + 'static {
    /// Every word that may be written, in the order in which messages list them.
    const WORDS: &'static [(&'static str, Self)];

    /// The meaning of `word`, written exactly so.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|&(_, choice)| choice)
    }

    /// How this choice is written.
    fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|&&(_, choice)| choice == self).map_or("", |&(word, _)| word)
    }
}

/// Every word of `C`, as a message lists them.
pub(super) fn words<C: Choice>() -> Vec<&'static str> {
    C::WORDS.iter().map(|&(word, _)| word).collect()
}

/// How the variants of an enumeration are written.
macro_rules! choice {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];
        }
    };
}

/// How the node's devices are found. They are always found through NVML.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiscoveryStrategy {
    /// By what the node has.
    #[default]
    Auto,
    /// By NVML.
    Nvml,
    /// As a Tegra system on chip.
    Tegra,
}

choice!(DiscoveryStrategy { Auto = "auto", Nvml = "nvml", Tegra = "tegra", });
choice!(LogFormat { Text = "text", Json = "json", });
choice!(MigStrategy { None = "none", Single = "single", Mixed = "mixed", });
choice!(DeviceListStrategy {
    Envvar = "envvar",
    VolumeMounts = "volume-mounts",
    CdiAnnotations = "cdi-annotations",
    CdiCri = "cdi-cri",
});
choice!(DeviceIdStrategy { Uuid = "uuid", Index = "index", });
choice!(WholeGpuPolicy { Optimal = "optimal", Numa = "numa", Index = "index", });
choice!(SharedPolicy { Distributed = "distributed", Packed = "packed", Spread = "spread", });
choice!(HookMode { Host = "host", Own = "self", Auto = "auto", });
choice!(Severity { Degraded = "event", Unhealthy = "unhealthy", });
choice!(XidAction {
    Ignore = "ignore",
    Event = "event",
    RecoveryAction = "recovery-action",
    Unhealthy = "unhealthy",
});

impl Choice for EventType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("XidCriticalError", Self::XidCriticalError),
        ("DoubleBitEccError", Self::DoubleBitEccError),
        ("SingleBitEccError", Self::SingleBitEccError),
        ("MigConfigChange", Self::MigConfigChange),
        ("SingleBitEccErrorStorm", Self::SingleBitEccErrorStorm),
        ("DramRetirementEvent", Self::DramRetirementEvent),
        ("DramRetirementFailure", Self::DramRetirementFailure),
        ("NonFatalPoisonError", Self::NonFatalPoisonError),
        ("FatalPoisonError", Self::FatalPoisonError),
        ("GpuUnavailableError", Self::GpuUnavailableError),
        ("GpuRecoveryAction", Self::GpuRecoveryAction),
    ];

    /// With or without the prefix `EventType` that NVIDIA's draft writes.
    fn from_word(word: &str) -> Option<Self> {
        word.parse().ok()
    }
}
