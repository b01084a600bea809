//! Devices that are not offered, or not as one would expect, with their texts for the log.

use crate::health::NvmlError;
use crate::layout::list_size::{KUBELET_LIMIT, ListTooLarge};
use crate::names::{ResourceName, Uuid};

/// A device that is not offered, or not as one would expect. Where NVIDIA's plugin exits because of
/// it, the rest of the node is served here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutFinding {
    /// MIG mode is on, and the GPU has no MIG devices.
    #[error(
        "GPU {index} ({gpu}) has MIG mode on and no MIG devices, so nothing of it is offered; \
         create some (nvidia-smi mig -cgi ... -C) or turn MIG mode off"
    )]
    NoMigDevices {
        /// NVML's index of the GPU.
        index: u32,
        /// The GPU.
        gpu: Uuid,
    },
    /// MIG mode is on, and the strategy `none` ignores it.
    #[error(
        "GPU {index} ({gpu}) has MIG mode on and is offered whole, since the MIG strategy is none; \
         CUDA programs see none of it but one MIG device: set the strategy single or mixed, or \
         turn MIG mode off"
    )]
    MigNotLookedAt {
        /// NVML's index of the GPU.
        index: u32,
        /// The GPU.
        gpu: Uuid,
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
        "MIG device {index} ({device}) is not offered: NVML states neither its attributes nor a \
         name with its profile; a newer driver may, and the strategy single needs no profile"
    )]
    Undescribed {
        /// Its index: "0:1".
        index: String,
        /// The MIG device.
        device: Uuid,
    },
    /// A MIG device, or the list of them, for which NVML answers with an error.
    #[error("{}", broken_mig_device(*.gpu, *.mig, .error))]
    BrokenMigDevice {
        /// The index of its GPU.
        gpu: u32,
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
        "no capability nodes of MIG device {index} ({device}) are passed: the driver's mig-minors \
         does not list them; is /proc/driver/nvidia-caps visible here?"
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
    pub const KINDS: [&str; 10] = [
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

    /// Its kind, one of a fixed set, as in `/status` and in the label of a metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoMigDevices { .. } => "no_mig_devices",
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

fn broken_mig_device(gpu: u32, mig: Option<u32>, error: &NvmlError) -> String {
    match mig {
        Some(mig) => format!(
            "MIG device {gpu}:{mig} is not offered, the others are: {error}; nvidia-smi -L on the \
             node shows more"
        ),
        None => {
            format!("no MIG device of GPU {gpu} is offered, they cannot be counted: {error}")
        }
    }
}
