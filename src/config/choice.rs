//! Enumerations that are written as words: what a word means, and which words are allowed.

pub use device::allocation::{SharedPolicy, WholeGpuPolicy};
use device::health::{EventType, Severity, XidAction};
use device::injection::{DeviceIdStrategy, DeviceListStrategy};
use device::layout::MigStrategy;

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

/// A text that is none of the words allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not one of {}", allowed.join(", "))]
pub struct UnknownWord {
    /// The text.
    pub text: String,
    /// What would be understood.
    pub allowed: Vec<&'static str>,
}

/// How the variants of an enumeration are written.
macro_rules! written {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl Choice for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];
        }
    };
}

/// Declares an enumeration whose variants are written as words.
macro_rules! choices {
    ($($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ })+) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        written!($name { $($variant = $word,)+ });
    )+};
}

written!(MigStrategy { None = "none", Single = "single", Mixed = "mixed", });
written!(DeviceListStrategy {
    Envvar = "envvar",
    VolumeMounts = "volume-mounts",
    CdiAnnotations = "cdi-annotations",
    CdiCri = "cdi-cri",
});
written!(DeviceIdStrategy { Uuid = "uuid", Index = "index", });

choices! {
    /// How the node's devices are found.
    DiscoveryStrategy {
        /// By what the node has.
        Auto = "auto",
        /// By NVML.
        Nvml = "nvml",
        /// As a Tegra system on chip.
        Tegra = "tegra",
    }

    /// How log lines are written.
    LogFormat {
        /// For a terminal.
        Text = "text",
        /// For a collector: one JSON object a line.
        Json = "json",
    }

    /// An optional behaviour of CDI specification files.
    CdiFeature {
        /// Name each driver library that is asked for.
        ExplicitDriverLibraries = "enable-explicit-driver-libraries",
        /// Do not ask the sandbox utils library.
        NoSandboxUtils = "disable-nvsandboxutils",
        /// Annotate devices of coherent memory systems.
        CoherentAnnotations = "enable-coherent-annotations",
        /// Offer one device from CSV files.
        NoMultipleCsvDevices = "disable-multiple-csv-devices",
        /// Leave out the additional group ids of device nodes.
        NoAdditionalGids = "no-additional-gids-for-device-nodes",
        /// Leave out the sockets of the driver's daemons.
        NoIpcDiscoverer = "disable-ipc-discoverer",
    }
}

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

impl Choice for XidAction {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("ignore", Self::Ignore),
        ("event", Self::Event),
        ("recovery-action", Self::RecoveryAction),
        ("unhealthy", Self::Unhealthy),
    ];
}

impl Choice for Severity {
    const WORDS: &'static [(&'static str, Self)] =
        &[("event", Self::Degraded), ("unhealthy", Self::Unhealthy)];
}

impl Choice for WholeGpuPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("optimal", Self::Optimal), ("numa", Self::Numa), ("index", Self::Index)];
}

impl Choice for SharedPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("distributed", Self::Distributed), ("packed", Self::Packed), ("spread", Self::Spread)];
}
