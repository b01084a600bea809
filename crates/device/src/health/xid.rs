//! Xids: the numbers under which the driver reports errors, and the class of each, which says what
//! it means for the GPU.

use std::fmt;

use super::catalogue;

/// The number of an error report of the driver, as `eventData` of an NVML event of type
/// `XidCriticalError` gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

/// What an Xid means for the GPU that it names. NVIDIA's Xid catalogue gives each number an
/// immediate action (RESTART_APP, RESET_GPU, IGNORE, …); the class is this project's reading of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// An error of the application: it ends, the GPU is fine (catalogue: RESTART_APP).
    App,
    /// For the record (catalogue: IGNORE).
    Info,
    /// A mistake in how the node is set up, not in the GPU.
    Config,
    /// Follows another Xid, which decides.
    Companion,
    /// Details to another Xid, which decides.
    Detail,
    /// Says that the driver's recovery action changed, to whatever value, NONE included: a reason
    /// to read it.
    Trigger,
    /// The GPU repaired or will repair itself, and goes on working: a row is to be remapped.
    Pending,
    /// An error of memory that the driver kept to the application that met it.
    Contained,
    /// May or may not be serious: the driver's recovery action decides, and a driver without one is
    /// believed.
    Suspect,
    /// As `Suspect`, but fatal on a driver without the recovery action.
    Presumed,
    /// Fatal by the catalogue, ignored by NVIDIA's own device plugin: the recovery action decides,
    /// and on a driver without one the GPU stays as it is, as with NVIDIA's.
    Disputed,
    /// The GPU is of no use until it is reset.
    Fatal,
    /// Not over by a reset: a person or a reboot of the node ends it.
    Sticky,
    /// The GPU is not on the PCIe bus any more.
    Lost,
}

impl Xid {
    /// What the number means for the GPU. A number that is not in the catalogue is a `Suspect`.
    #[must_use]
    pub fn class(self) -> Class {
        catalogue::entry(self.0).0
    }

    /// What happened, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        catalogue::entry(self.0).1
    }
}

impl Class {
    /// What a person should do about a GPU that is Unhealthy for such an Xid.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Lost => "reboot the node; if it comes again, reseat or replace the GPU",
            Self::Sticky => "repair it and reboot the node, or clear it by hand",
            Self::Fatal | Self::Presumed | Self::Disputed => "drain the GPU and reset it",
            Self::Suspect => "look at the kernel log, and reset the GPU if work on it fails",
            Self::Pending | Self::Contained => "reset the GPU when convenient",
            Self::App
            | Self::Info
            | Self::Config
            | Self::Companion
            | Self::Detail
            | Self::Trigger => {
                "the configured policy makes this Xid count; reset the GPU or change the policy"
            }
        }
    }
}

impl TryFrom<u64> for Xid {
    type Error = std::num::TryFromIntError;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        u32::try_from(number).map(Self)
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xid {}", self.0)
    }
}
