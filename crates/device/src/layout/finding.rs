//! Devices that are not offered, or not as one would expect, with their texts for the log.

use crate::health::{NvmlError, ReturnCode};
use crate::identity::{GpuName, IdentityFinding, KnownGpu};
use crate::layout::list_size::{KUBELET_LIMIT, ListTooLarge};
use crate::names::{ResourceName, Uuid};

/// The call that reads the MIG mode.
pub(super) const MIG_MODE: &str = "nvmlDeviceGetMigMode";
/// `NVML_ERROR_NO_PERMISSION`.
const NO_PERMISSION: ReturnCode = ReturnCode(4);

/// A device that is not offered, or not as one would expect. Where NVIDIA's plugin exits because of
/// it, the rest of the node is served here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFinding {
    /// Something about the identity or the number of GPUs.
    #[error("{0}")]
    Identity(IdentityFinding),
    /// MIG mode is on, and the GPU has no MIG devices.
    #[error(
        "{gpu} has MIG mode on and no MIG devices, so nothing of it is offered; \
         create some (nvidia-smi mig -cgi ... -C) or turn MIG mode off"
    )]
    NoMigDevices {
        /// The GPU.
        gpu: GpuName,
    },
    /// The MIG mode cannot be read, so that the GPU cannot be offered whole.
    #[error("{}", mig_mode_unknown(.gpu, .error.as_ref()))]
    MigModeUnknown {
        /// The GPU.
        gpu: GpuName,
        /// The failed call and its return code; `None`: NVML does not answer about the GPU.
        error: Option<NvmlError>,
    },
    /// Facts that are missing because a call was refused or failed.
    #[error("{}", facts_missing(.gpu, .gaps))]
    FactsMissing {
        /// The GPU.
        gpu: GpuName,
        /// The calls and their return codes.
        gaps: Vec<NvmlError>,
    },
    /// MIG mode is on, and the strategy `none` ignores it.
    #[error(
        "{gpu} has MIG mode on and is offered whole, since the MIG strategy is none; \
         CUDA programs see none of it but one MIG device: set the strategy single or mixed, or \
         turn MIG mode off"
    )]
    MigNotLookedAt {
        /// The GPU.
        gpu: GpuName,
    },
    /// Devices of another kind than the one that the strategy `single` offers.
    #[error(
        "the MIG strategy single has one kind of device in {resource}: {offered} is offered, and \
         {kind} ({}) is not; make the GPUs alike, or set the strategy mixed",
        .devices.join(", ")
    )]
    LeftOut {
        /// The resource of both kinds.
        resource: ResourceName,
        /// The kind that is offered.
        offered: String,
        /// The kind that is not.
        kind: String,
        /// Indices of its devices: "3", "0:1".
        devices: Vec<String>,
    },
    /// A MIG device whose profile NVML does not state, so that its resource has no name.
    #[error(
        "MIG device {} is not offered: NVML states neither its attributes nor a name with its \
         profile; a newer driver may, and the strategy single needs no profile",
        labelled(.index, .device)
    )]
    Undescribed {
        /// Its index: "0:1".
        index: String,
        /// The MIG device.
        device: Uuid,
    },
    /// A MIG device, or the list of them, for which NVML answers with an error.
    #[error("{}", broken_mig_device(.gpu, *.mig, .error))]
    BrokenMigDevice {
        /// Its GPU.
        gpu: GpuName,
        /// Its MIG index; `None`: they cannot even be counted.
        mig: Option<u32>,
        /// The failed call and its return code.
        error: NvmlError,
    },
    /// MIG devices of a resource that is shared by MPS, which does not support them.
    #[error(
        "{devices} MIG devices of {resource} are not offered: sharing using MPS is not supported \
         for MIG devices; use sharing.timeSlicing, or turn MIG mode off"
    )]
    MigUnderMps {
        /// The resource.
        resource: ResourceName,
        /// How many.
        devices: usize,
    },
    /// A device that the configuration shares and that the resource does not have.
    #[error(
        "the sharing of {resource} names device {named}, and no device of that resource is it; the \
         node's devices are in the log and in nvidia-smi -L"
    )]
    NoSuchDevice {
        /// The resource.
        resource: ResourceName,
        /// How the configuration names it.
        named: String,
    },
    /// A resource whose list is longer than the kubelet accepts.
    #[error("{resource} is not offered: it {why}")]
    ListTooLarge {
        /// The resource.
        resource: ResourceName,
        /// Its size, and how it comes about.
        why: ListTooLarge,
    },
    /// Withdrawn ids that the list would be too long with.
    #[error(
        "{ids} ids of {resource} that are offered no more are forgotten: with them its list would \
         be longer than the {KUBELET_LIMIT} bytes that the kubelet receives; a pod that still uses \
         one has to be recreated"
    )]
    Forgotten {
        /// The resource.
        resource: ResourceName,
        /// How many.
        ids: usize,
    },
    /// A MIG device whose capability nodes are to be passed and that the driver does not list.
    #[error(
        "no capability nodes of MIG device {} are passed: the driver's mig-minors does not list \
         them; is /proc/driver/nvidia-caps visible here?",
        labelled(.index, .device)
    )]
    NoCapability {
        /// Its index: "0:1".
        index: String,
        /// The MIG device.
        device: Uuid,
    },
}

impl LayoutFinding {
    /// Every value of [`LayoutFinding::as_str`].
    pub const KINDS: [&str; 17] = [
        "mig_mode_unknown",
        "facts_missing",
        "numbering_changed",
        "bus_differs",
        "unidentified",
        "offered_differs",
        "expected_differs",
        "no_mig_devices",
        "mig_not_looked_at",
        "left_out",
        "undescribed",
        "broken_mig_device",
        "mig_under_mps",
        "no_such_device",
        "list_too_large",
        "forgotten",
        "no_capability",
    ];

    pub(super) fn mig_mode_unknown(gpu: KnownGpu<'_>) -> Self {
        let gaps = gpu.facts().map_or(&[][..], |facts| &facts.gaps);
        let error = gaps.iter().find(|gap| gap.call == MIG_MODE).cloned();
        Self::MigModeUnknown { gpu: gpu.name(), error }
    }

    /// Its kind, one of a fixed set, as in `/status` and in the label of a metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Identity(finding) => finding.as_str(),
            Self::NoMigDevices { .. } => "no_mig_devices",
            Self::MigModeUnknown { .. } => "mig_mode_unknown",
            Self::FactsMissing { .. } => "facts_missing",
            Self::MigNotLookedAt { .. } => "mig_not_looked_at",
            Self::LeftOut { .. } => "left_out",
            Self::Undescribed { .. } => "undescribed",
            Self::BrokenMigDevice { .. } => "broken_mig_device",
            Self::MigUnderMps { .. } => "mig_under_mps",
            Self::NoSuchDevice { .. } => "no_such_device",
            Self::ListTooLarge { .. } => "list_too_large",
            Self::Forgotten { .. } => "forgotten",
            Self::NoCapability { .. } => "no_capability",
        }
    }
}

/// What to do about a call for a fact that was refused or failed.
fn cure(error: &NvmlError) -> &'static str {
    match error.code {
        NO_PERMISSION => {
            "run the plugin privileged, or set NVIDIA_MIG_MONITOR_DEVICES=all in its container"
        }
        _ => "see nvidia-smi -q and the kernel log of the node (dmesg, NVRM)",
    }
}

/// A device by its label, and its UUID if that is not its label.
fn labelled(label: &str, device: &Uuid) -> String {
    if label == device.as_str() { label.to_owned() } else { format!("{label} ({device})") }
}

fn mig_mode_unknown(gpu: &GpuName, error: Option<&NvmlError>) -> String {
    match error {
        Some(error) => format!(
            "the MIG mode of {gpu} cannot be read, so nothing of it is offered: {error}; {}",
            cure(error)
        ),
        None => format!(
            "NVML does not answer about {gpu}, and it may be partitioned, so nothing of it is \
             offered until it answers; see the kernel log of the node (dmesg, NVRM)"
        ),
    }
}

fn facts_missing(gpu: &GpuName, gaps: &[NvmlError]) -> String {
    let texts: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    let cure = gaps.first().map_or("", cure);
    format!("facts of {gpu} are missing: {}; {cure}", texts.join(", "))
}

fn broken_mig_device(gpu: &GpuName, mig: Option<u32>, error: &NvmlError) -> String {
    match mig {
        Some(mig) => format!(
            "MIG device {} is not offered, the others are: {error}; nvidia-smi -L on the node \
             shows more",
            gpu.mig_label(mig)
        ),
        None => {
            format!("no MIG device of {gpu} is offered, they cannot be counted: {error}")
        }
    }
}
