//! Xids, the numbers under which the driver reports errors: NVIDIA's Xid catalogue, and the class
//! of each, which is its meaning for the GPU.

use std::fmt;

/// The number of an error that the driver reports: `eventData` of an NVML event of type
/// `nvmlEventTypeXidCriticalError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

/// What an Xid means for its GPU. NVIDIA's Xid catalogue (docs.nvidia.com/deploy/xid-errors) gives
/// each number an immediate action (RESTART_APP, RESET_GPU, IGNORE, …); the class is this project's
/// interpretation of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum XidClass {
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

impl Xid {
    /// The class of the number; `Suspect` if it is not in the catalogue.
    pub(super) fn class(self) -> XidClass {
        catalogue(self.0).0
    }

    /// What happened, in a few words.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        catalogue(self.0).1
    }
}

impl XidClass {
    /// The remedy for a GPU that is Unhealthy by an Xid of this class.
    pub(super) fn remedy(self) -> &'static str {
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
}

impl XidClass {
    /// Whether a failure of this class is repaired by a reset of the GPU or by more than that.
    pub(super) fn is_of_whole_gpu(self) -> bool {
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

/// Class and meaning of every Xid in use in NVIDIA's Xid catalogue
/// (docs.nvidia.com/deploy/xid-errors); the meanings are in words of our own.
#[rustfmt::skip]
fn catalogue(xid: u32) -> (XidClass, &'static str) {
    use XidClass::*;

    match xid {
        8 => (App, "a channel sat idle past its limit"),
        11 | 25 => (App, "malformed push buffer"),
        13 => (App, "exception in a graphics or compute engine"),
        14 => (Info, "a report without an error behind it"),
        31 => (App, "memory page fault of an application"),
        32 => (App, "corrupt push buffer seen by the host engine"),
        37 => (Info, "FECS was given a method that it does not know"),
        38 => (Info, "FECS watchdog"),
        39..=41 | 70..=72 | 75..=77 | 85 | 126..=135 => (App, "copy engine error"),
        43 => (Info, "a channel was reset and its application ended"),
        44 => (Info, "fault while switching contexts"),
        45 => (Companion, "channels removed after an earlier error"),
        46 => (Fatal, "the GPU stopped processing"),
        48 => (Fatal, "double-bit ECC error"),
        54 => (Sticky, "auxiliary power is not connected"),
        60 => (App, "exception in a video or security engine"),
        62 => (Fatal, "the power management unit halted"),
        63 => (Pending, "a memory row is to be remapped, or a page retired"),
        64 => (Fatal, "a memory row could not be remapped, or a page not retired"),
        66 | 67 => (Info, "illegal access by the driver"),
        68 => (App, "exception in video decoder 0"),
        69 => (App, "graphics class error"),
        74 => (Presumed, "NVLink error"),
        78 => (Config, "a vGPU could not start"),
        79 => (Lost, "the GPU has fallen off the bus"),
        80 => (App, "corrupt data was sent to the GPU"),
        82 | 99..=105 => (App, "JPEG engine error"),
        83 | 84 | 88 | 89 | 96..=98 => (App, "exception in a video decoder"),
        86 => (App, "exception in the optical flow engine"),
        92 => (Info, "many single-bit ECC errors"),
        93 => (Info, "the InfoROM nears its write limit"),
        94 => (Contained, "memory error, contained to one application"),
        95 => (Fatal, "memory error that was not contained"),
        106 | 107 => (Info, "test message"),
        109 => (Disputed, "switching contexts took too long"),
        110 => (Fatal, "security fault"),
        119 => (Fatal, "the GPU system processor did not answer in time"),
        120 => (Fatal, "error in the GPU system processor"),
        121 => (Info, "corrected error on the chip-to-chip link"),
        123 => (Suspect, "the power management unit could not write to its flash"),
        136 => (Fatal, "an NVLink could not be trained"),
        137 => (App, "an application reached over NVLink for what it may not touch"),
        139 => (App, "exception in optical flow engine 1"),
        140 => (Fatal, "ECC error that was not recovered"),
        141 => (App, "error on CUDA's fast path"),
        142 => (Suspect, "exception in video encoder 3"),
        143 => (Fatal, "the GPU could not be initialised"),
        144 => (Suspect, "NVLink 5 error, SAW unit"),
        145 => (Suspect, "NVLink 5 error, RLW unit"),
        146 => (Suspect, "NVLink 5 error, TLW unit"),
        147 => (Suspect, "NVLink 5 error, TREX unit"),
        148 => (Suspect, "NVLink 5 error, NVLPW unit"),
        149 => (Suspect, "NVLink 5 error, NETIR unit"),
        150 => (Suspect, "NVLink 5 error, MSE unit"),
        151 => (Sticky, "confidential computing keys could not be rotated"),
        152 => (Info, "memory management fault of a deep learning accelerator"),
        153 => (Info, "a deep learning accelerator took too long"),
        154 => (Trigger, "the recovery action of the GPU changed"),
        155 => (Fatal, "NVLink error defined by software"),
        156 => (Presumed, "a resource of the GPU was retired"),
        157 => (Suspect, "a resource of the GPU could not be retired"),
        158 => (Fatal, "a fatal time-out in the GPU"),
        159 => (Suspect, "error on the coherent interface, without data"),
        160 => (Info, "a channel was retired"),
        161 => (Info, "a channel could not be retired"),
        162 => (Info, "power smoothing is on again"),
        163 => (Info, "power smoothing went off"),
        164 => (Info, "power smoothing nears the end of its life"),
        165 => (Suspect, "power smoothing is at the end of its life"),
        166 => (Suspect, "confidential NVLink traffic before it was set up"),
        167 => (Fatal, "fatal time-out on PCIe"),
        168 => (Suspect, "errors in protected memory: less memory is left"),
        169 => (Fatal, "the security processor halted"),
        170 => (Suspect, "interrupt in confidential computing mode"),
        171 => (Detail, "Xid 48 was an uncorrectable error in DRAM"),
        172 => (Detail, "Xid 48 was an uncorrectable error in SRAM"),
        _ => (Suspect, "not in NVIDIA's catalogue"),
    }
}
