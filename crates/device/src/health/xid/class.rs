//! The classes of Xids: what one means for its GPU.

/// What an Xid means for its GPU. NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors) gives
/// each number an immediate action (RESTART_APP, RESET_GPU, IGNORE, …); the class is this project's
/// interpretation of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum XidClass {
    /// An error of the application: it ends, the GPU is fine (catalogue: RESTART_APP).
    App,
    /// Information only (catalogue: IGNORE).
    Info,
    /// A mistake in the configuration of the node, no failure of the GPU.
    Config,
    /// Follows another Xid, whose class decides.
    Companion,
    /// Details of another Xid, whose class decides.
    Detail,
    /// The recovery action changed to any value, also to NONE: it is to be read.
    Trigger,
    /// A row is to be remapped at the next reset; until then the GPU keeps working.
    Pending,
    /// A memory error that was contained to the application that met it.
    Contained,
    /// May or may not be a failure: the recovery action decides; on a driver without one the GPU
    /// stays Healthy.
    Suspect,
    /// As `Suspect`, but fatal on a driver without the recovery action.
    Presumed,
    /// Fatal by the catalogue, ignored by NVIDIA's own device plugin: the recovery action decides;
    /// on a driver without one the GPU stays Healthy, as with NVIDIA's.
    Disputed,
    /// The GPU does not work until it is reset.
    Fatal,
    /// A reset does not end it: a person or a reboot of the node does.
    Sticky,
    /// The GPU is not on the PCIe bus any more.
    Lost,
}

impl XidClass {
    /// Every class, from the mildest to the worst.
    pub const ALL: [Self; 14] = [
        Self::App,
        Self::Info,
        Self::Config,
        Self::Companion,
        Self::Detail,
        Self::Trigger,
        Self::Pending,
        Self::Contained,
        Self::Suspect,
        Self::Presumed,
        Self::Disputed,
        Self::Fatal,
        Self::Sticky,
        Self::Lost,
    ];

    /// Its name in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "application",
            Self::Info => "information",
            Self::Config => "configuration",
            Self::Companion => "companion",
            Self::Detail => "detail",
            Self::Trigger => "trigger",
            Self::Pending => "pending",
            Self::Contained => "contained",
            Self::Suspect => "suspect",
            Self::Presumed => "presumed fatal",
            Self::Disputed => "disputed",
            Self::Fatal => "fatal",
            Self::Sticky => "fatal until a boot",
            Self::Lost => "lost",
        }
    }

    /// What it means, in a sentence without its full stop.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::App => "an error of the application, which ends; the GPU is fine",
            Self::Info => "information only",
            Self::Config => "a mistake in the configuration of the node",
            Self::Companion => "follows another Xid, which decides",
            Self::Detail => "details of another Xid, which decides",
            Self::Trigger => "the driver's recovery action changed: it is read",
            Self::Pending => "a row of memory is remapped at the next reset; the GPU works",
            Self::Contained => "a memory error that was contained to one application",
            Self::Suspect => "may be a failure: the recovery action decides",
            Self::Presumed => {
                "as suspect; fatal where the driver has no recovery action to decide it"
            }
            Self::Disputed => {
                "fatal by NVIDIA's catalogue and ignored by NVIDIA's device plugin: the recovery \
                 action decides"
            }
            Self::Fatal => "the GPU does not work until it is reset",
            Self::Sticky => "a reset does not end it: a repair and a reboot of the node do",
            Self::Lost => "the GPU is not on the PCIe bus any more, until NVML lists it again",
        }
    }

    /// Whether an Xid of the class that is left to the recovery action is fatal where there is
    /// none to read.
    pub(in crate::health) fn is_presumed_fatal(self) -> bool {
        matches!(self, Self::Presumed | Self::Fatal | Self::Sticky | Self::Lost)
    }

    /// The remedy for a GPU that is Unhealthy by an Xid of this class.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Lost => "reboot the node; if it comes again, reseat or replace the GPU",
            Self::Sticky => {
                "repair it and reboot the node, or run `gpu-device-plugin clear` for it"
            }
            Self::Fatal | Self::Presumed | Self::Disputed => "drain the GPU and reset it",
            Self::Suspect => "look at the kernel log, and reset the GPU if work on it fails",
            Self::Pending | Self::Contained => "reset the GPU when convenient",
            Self::App
            | Self::Info
            | Self::Config
            | Self::Companion
            | Self::Detail
            | Self::Trigger => {
                "the configured policy makes this Xid count; reset the GPU and run \
                 `gpu-device-plugin clear` for it, or change the policy"
            }
        }
    }

    /// Whether a failure of this class is repaired by a reset of the GPU or by more than that.
    pub(in crate::health) fn is_of_whole_gpu(self) -> bool {
        matches!(
            self,
            Self::Suspect
                | Self::Presumed
                | Self::Disputed
                | Self::Fatal
                | Self::Sticky
                | Self::Lost
        )
    }
}
